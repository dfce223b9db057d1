"""A picture that changes under a slider, drawn in the browser from frames that are all there already."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_scrubber",
    html=(FOLDER / "scrubber.html").read_text(),
    css=(FOLDER / "scrubber.css").read_text(),
    js=(FOLDER / "scrubber.js").read_text(),
)


@dataclass(frozen=True)
class Frame:
    """One picture: what is written below it, what it shows in words, and its address unless it is in a sprite."""

    label: str
    alt: str
    url: str = ""


def scrubber(
    frames: Sequence[Frame],
    *,
    key: str,
    name: str,
    version: str,
    stage: int,
    interval: int,
    index: int | None = None,
    sprite: str = "",
    width: int = 0,
    rows: Sequence[str] = (),
    strip: bool = False,
    bounce: bool = False,
    autoplay: bool = False,
    follow: bool = False,
    reports: bool = False,
) -> int | None:
    """Show the frames, `stage` pixels wide, beginning with `index` (None = the last) whenever `version` changes.

    Frames come from their own addresses, or side by side from one `sprite`, each `width` pixels wide. Playing takes
    `interval` milliseconds a frame and stops at the end, or turns there (`bounce`). `follow` goes on to frames that
    are added while the last one is shown. Returns the index that the visitor chose last (-1 = the last one, to be
    followed), None if it does not `report` or none was chosen.
    """
    state = _mount(
        key=key,
        data={
            "frames": [asdict(frame) for frame in frames],
            "name": name,
            "version": version,
            "stage": stage,
            "interval": interval,
            "index": index,
            "sprite": sprite,
            "width": width,
            "rows": list(rows),
            "strip": strip,
            "bounce": bounce,
            "autoplay": autoplay,
            "follow": follow,
            "reports": reports,
        },
        on_index_change=lambda: None,
    )
    chosen = state.index
    return chosen if isinstance(chosen, int) and -1 <= chosen < len(frames) else None
