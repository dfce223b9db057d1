"""A button that copies the address of what is shown."""

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
    """A button that copies `path`, completed by the browser with the address under which it reached the app."""
    _mount(key=key, data={"path": path}, width="content")
