"""A sentence that screen readers announce when it changes."""

from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_announce",
    html='<p class="said" role="status"></p>\n',
    css=".said { margin: 0; font: inherit; min-height: 1.5em; }\n",
    js=(FOLDER / "announce.js").read_text(),
)


def announce(sentence: str, *, key: str) -> None:
    """Show a sentence, in an element that stays when the sentence changes: only then do screen readers notice."""
    _mount(key=key, data={"sentence": sentence})
