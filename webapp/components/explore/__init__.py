"""The Explore page: a picture to drag through the latent plane, and a grid. All of it is drawn in the browser."""

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_explore",
    html=(FOLDER / "explore.html").read_text(),
    css=(FOLDER / "explore.css").read_text() + FOLDER.with_name("keys.css").read_text(),
    js=FOLDER.with_name("page.js").read_text(),
)


def explore(data: dict[str, Any], *, key: str) -> Any:
    """Draw the page from `webapp.drawing.scene_data`; return what the browser last reported of its view, or None."""
    return _mount(key=key, data=data | {"page": "explore.js"}, on_view_change=lambda: None).view
