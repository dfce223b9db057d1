"""The Interpolate page: stops, and a player of the frames between them. All of it is drawn in the browser."""

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent
STYLES = ("interpolate/interpolate.css", "keys.css", "player.css")
PLAYER = FOLDER.with_name("player.html").read_text().format(position="Frame")
_mount = st.components.v2.component(
    "digitforge_interpolate",
    html=(FOLDER / "interpolate.html").read_text().replace("<!-- player -->", PLAYER),
    css="".join((FOLDER.parent / name).read_text() for name in STYLES),
    js=FOLDER.with_name("page.js").read_text(),
)


def interpolate(data: dict[str, Any], *, key: str) -> Any:
    """Draw the page; return what the browser last reported of its view, or None."""
    return _mount(key=key, data=data | {"page": "interpolate.js"}, on_view_change=lambda: None).view
