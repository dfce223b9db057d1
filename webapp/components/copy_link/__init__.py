"""A button that copies a link to what the page shows."""

from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_copy_link",
    html=(FOLDER / "copy_link.html").read_text(),
    css=(FOLDER / "copy_link.css").read_text(),
    js=(FOLDER / "copy_link.js").read_text(),
)


def copy_link(path: str, *, key: str) -> None:
    """Draw a button that copies the full URL of `path`, a URL relative to the page."""
    _mount(key=key, data={"path": path}, width="content")
