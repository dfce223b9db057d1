"""The script that Streamlit runs for each visitor: it draws the page that the URL names."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `streamlit run webapp/app.py` puts only this folder on the path
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from webapp import address, frame, shell  # noqa: E402

st.set_page_config(page_icon=frame.ICON, layout="wide")
page = frame.navigation(address.HOME)
st.set_page_config(page_title=shell.title_of(page.title))
page.run()
