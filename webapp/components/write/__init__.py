"""The Write page: a text in handwriting. All of it is drawn in the browser."""

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_write",
    html=(FOLDER / "write.html").read_text(),
    css=(FOLDER / "write.css").read_text() + FOLDER.with_name("keys.css").read_text(),
    js=FOLDER.with_name("page.js").read_text(),
)


def write(data: dict[str, Any], *, key: str) -> Any:
    """Draw the page; return what the browser last reported of its view, or None."""
    return _mount(key=key, data=data | {"page": "write.js"}, on_view_change=lambda: None).view
