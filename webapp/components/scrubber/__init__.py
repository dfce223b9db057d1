"""A player for frames, with a slider and a play button. The browser has all frames in advance."""

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
    """One picture: the caption below it, its alternative text, and its URL."""

    label: str
    alt: str
    url: str


def scrubber(
    frames: Sequence[Frame],
    *,
    key: str,
    name: str,
    version: str,
    stage: int,
    interval: int,
    index: int | None = None,
    rows: Sequence[str] = (),
) -> int | None:
    """Draw a player, `stage` pixels wide. When `version` changes, it starts at `index` (None: the last frame).

    Playing takes `interval` milliseconds per frame and stops at the end. If a frame is added while the last one is
    shown, the player moves on to it. Returns the index that the visitor chose last (-1: the last frame, to be
    followed), or None before a choice.
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
            "rows": list(rows),
        },
        on_index_change=lambda: None,
    )
    chosen = state.index
    return chosen if isinstance(chosen, int) and -1 <= chosen < len(frames) else None
