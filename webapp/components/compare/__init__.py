"""The Compare page: two grids of the same latents, and the scores and curves of their runs."""

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent
STYLES = ("compare/compare.css", "charts.css", "keys.css")
# Plotly puts its styles into the page, where a shadow root would not see them.
_mount = st.components.v2.component(
    "digitforge_compare",
    html=(FOLDER / "compare.html").read_text(),
    css="".join((FOLDER.parent / name).read_text() for name in STYLES),
    js=FOLDER.with_name("page.js").read_text(),
    isolate_styles=False,
)


def compare(data: dict[str, Any], *, key: str) -> Any:
    """Draw two generators, see `webapp.views.compare`; return what the browser last reported, or None."""
    return _mount(key=key, data=data | {"page": "compare.js"}, on_view_change=lambda: None).view
