"""`python -m notebooks.execute` (`make notebook`): run the tour from top to bottom and save its outputs."""

import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tools.programs import find_chromium

TOUR = Path(__file__).resolve().with_name("tour.ipynb")


def execute(notebook: nbformat.NotebookNode, folder: Path, parameters: dict[str, Any], chromium: str) -> None:
    """Run a notebook's cells in `folder`, with `parameters` set after the cell that is tagged "parameters".

    The sources of the cells do not change, and no times or kernel metadata are saved. Raises nbclient's error if a
    cell fails.
    """
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    source = cell.source
    cell.source = "\n".join([source, *(f"{name} = {value!r}" for name, value in parameters.items())])
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
    )
    try:
        client.execute(env={**os.environ, "BROWSER_PATH": chromium})  # read by Kaleido, which draws PNGs
    finally:
        cell.source = source
    notebook.metadata["language_info"] = {"name": "python"}


def main() -> None:
    """Replace the outputs of the tour. Its run is temporary, because each execution must train anew."""
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as runs:
        execute(notebook, TOUR.parent, {"RUNS": runs}, find_chromium())
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
