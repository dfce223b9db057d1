"""The Training page: one epoch of a run in its grid, its scores, its curves and a picture of the visitor's own."""

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent
STYLES = ("training/training.css", "charts.css", "keys.css", "player.css")
PLAYER = FOLDER.with_name("player.html").read_text().format(position="Epoch")
# Plotly puts its styles into the page, where a shadow root would not see them.
_mount = st.components.v2.component(
    "digitforge_training",
    html=(FOLDER / "training.html").read_text().replace("<!-- player -->", PLAYER),
    css="".join((FOLDER.parent / name).read_text() for name in STYLES),
    js=FOLDER.with_name("page.js").read_text(),
    isolate_styles=False,
)


def training(data: dict[str, Any], *, key: str) -> Any:
    """Draw an epoch of a run, see `webapp.views.training`; return what the browser last reported, or None."""
    return _mount(key=key, data=data | {"page": "training.js"}, on_view_change=lambda: None).view
