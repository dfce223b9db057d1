"""The keys of a page that is made of Streamlit's own widgets: each key presses a button."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from webapp import delivery

FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "digitforge_keys",
    html='<div class="df-keys"><div class="keys-place"></div></div>\n',
    css=":host { display: block; }\n" + FOLDER.with_name("keys.css").read_text(),
    js=FOLDER.with_name("page.js").read_text(),
)


def keys(rows: Sequence[tuple[str, str, Sequence[str]]], *, key: str) -> None:
    """Draw the button that lists the keys. `rows`: a key, what it does, and the keys of Streamlit's buttons.

    A key presses the first of its buttons that is on the page and can be pressed. Without buttons, it copies the link.
    """
    listed = [{"key": name, "words": words, "buttons": list(buttons)} for name, words, buttons in rows]
    _mount(key=key, data={"page": "button_keys.js", "scripts": delivery.scripts_url(), "rows": listed}, width="content")
