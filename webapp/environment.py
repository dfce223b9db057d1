"""Names that the server and the pages share. Imports nothing, so that `python -m webapp` starts quickly."""

RUNS_VARIABLE = "DIGITFORGE_RUNS"
"""Environment variable with the folder or URI of the runs; without it, `runs` in the current folder."""
ROUTES_VARIABLE = "DIGITFORGE_ROUTES"
"""Environment variable that `webapp.asgi` sets: its routes exist beside Streamlit's pages."""
SAMPLES_ROUTE = "/api/v1/samples.png"
"""Route of a sample grid; its query names the run, the run's start and the epoch."""
