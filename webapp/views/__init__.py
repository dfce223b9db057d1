"""The views of the app: one page each, only st.* calls and layout."""
