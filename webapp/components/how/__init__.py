"""The story of the page How it works, part by part. The browser changes parts; the server has their content."""

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_how",
    html=(FOLDER / "how.html").read_text(),
    css=(FOLDER / "how.css").read_text() + FOLDER.with_name("keys.css").read_text(),
    js=FOLDER.with_name("page.js").read_text(),
)


def how(data: dict[str, Any], *, key: str) -> Any:
    """Draw a part of the story; return what the browser last reported of its view, or None."""
    return _mount(key=key, data=data | {"page": "how.js"}, on_view_change=lambda: None).view
