"""The game on the page Real or fake?: it is played in the browser."""

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_quiz",
    html=(FOLDER / "quiz.html").read_text(),
    css=(FOLDER / "quiz.css").read_text() + FOLDER.with_name("keys.css").read_text(),
    js=FOLDER.with_name("page.js").read_text(),
)


def quiz(data: dict[str, Any], *, key: str) -> Any:
    """Draw the game from `webapp.views.quiz`; return what the browser last reported of its view, or None."""
    return _mount(key=key, data=data | {"page": "quiz.js"}, on_view_change=lambda: None).view
