"""The script that Streamlit runs: the pages of the app and the frame around them."""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # under `streamlit run webapp/app.py` only this folder is on it
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from webapp import frame  # noqa: E402

TITLES = {
    "generate": ("Generate", ":material/edit:"),
    "interpolate": ("Interpolate", ":material/timeline:"),
    "gallery": ("Gallery", ":material/grid_on:"),
    "training": ("Training", ":material/show_chart:"),
    "architecture": ("Architecture", ":material/account_tree:"),
}

st.set_page_config(page_title="DigitForge", page_icon=frame.ICON, layout="wide")
pages: dict[str, st.Page] = {}
for kind, (title, icon) in TITLES.items():
    pages[kind] = st.Page(partial(frame.show, kind, pages), title=title, icon=icon, url_path=kind, default=not pages)
st.navigation(list(pages.values()), position="top").run()
