"""The pages of the app, one module each: the page's view, and its layout in Streamlit calls."""
