"""What the server and Streamlit's script agree on: names of environment variables, and of a route."""

RUNS_VARIABLE = "DIGITFORGE_RUNS"
"""Folder or URI of the runs; without it, `runs` in the current folder."""
ROUTES_VARIABLE = "DIGITFORGE_ROUTES"
"""Set where `webapp.asgi` serves, and with it the routes beside Streamlit's pages."""
SAMPLES_ROUTE = "/api/v1/samples.png"
"""Where a sample grid is served; its query names run, start of the run and epoch."""
