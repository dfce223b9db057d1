"""The tour in notebooks/: it runs from top to bottom, and is committed with its outputs."""

import os
import re
from pathlib import Path

import nbformat
import pytest

from models.generator_file import read_generator
from models.trace import sizes
from notebooks.execute import TOUR, execute
from trainer.recipes import RECIPES
from trainer.run_store import open_store

ROOT = TOUR.parent.parent
SHORT = {"STEPS": 12, "EPOCHS": 2, "COUNT": 60}
MACHINE = re.compile(r"(?<![\w.])/(work|home|root|tmp|Users|var)/")
"""The start of a path that exists on one machine only."""


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def check_outputs(notebook: nbformat.NotebookNode) -> None:
    """Check that all cells ran in order and without errors, and that all except tagged ones have outputs."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    silent = [cell.id for cell in cells if not cell.outputs and not cell.metadata.get("tags")]
    assert silent == []
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def pictures(notebook: nbformat.NotebookNode, cell_id: str) -> int:
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def test_the_tour_is_committed_with_all_that_it_shows() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    check_outputs(notebook)
    assert pictures(notebook, "training") == 1
    assert pictures(notebook, "curves") == 2  # GitHub shows only the PNG of a chart
    shown = "\n".join(str(cell.outputs) for cell in code_cells(notebook))
    assert not MACHINE.search(shown), MACHINE.search(shown)
    assert TOUR.stat().st_size < 2e6
    for numbers in sizes(RECIPES["forge"].config.model):  # executed after the last change of the networks
        assert all(f"{number:,}" in shown for number in numbers)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tour_runs_anywhere_inside_a_clone(tmp_path: Path, chromium_path: str) -> None:
    clone = tmp_path / "clone"
    folder = clone / "somewhere" / "deep"
    folder.mkdir(parents=True)
    for name in ("models", "trainer", "webapp", "data", "pretrained"):
        os.symlink(ROOT / name, clone / name)
    notebook = nbformat.read(TOUR, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    for cell in code_cells(notebook):
        cell.outputs = []

    execute(notebook, folder, SHORT, chromium_path)

    check_outputs(notebook)
    assert [cell.source for cell in notebook.cells] == sources
    shown = ("compare", "training", "generators", "handwriting", "truncated", "morphs", "paths", "map")
    assert {name: pictures(notebook, name) for name in shown} == dict.fromkeys(shown, 1)
    assert pictures(notebook, "curves") == 2
    run = open_store(clone / "runs").run("tour")
    assert run.epochs() == list(range(SHORT["EPOCHS"] + 1))
    assert run.read_progress().phase == "finished"
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert checkpoint.step == SHORT["STEPS"]
    assert read_generator(checkpoint.read("generator.safetensors"), "tour").provenance["run"] == "tour"
