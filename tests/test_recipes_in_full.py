"""Every recipe at its full size on MNIST, with two workers: training, resuming, drawing, and the pages of the app.

Not part of `make test`: on two cores, most recipes take minutes each, and `gan` takes longest.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import streamlit as st

from tests.pages import KINDS, check, html, open_app
from trainer.recipes import RECIPES, Recipe
from trainer.run_store import open_store
from webapp.environment import RUNS_VARIABLE

pytestmark = [pytest.mark.recipes, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parent.parent
STEPS = 100
"""Steps of each of the two launches."""


def missing_data(recipe: Recipe) -> str:
    """Return which data a recipe needs that are not in the repository; empty if it has all."""
    config = recipe.config
    needed = [config.dataset, "data/writers" if config.model.writers else ""]
    missing = [folder for folder in filter(None, needed) if not (ROOT / folder).is_dir()]
    return f"needs {' and '.join(missing)}, which `python -m trainer fetch` makes" if missing else ""


def run_module(module: str, *arguments: str) -> str:
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "RAY_worker_niceness": "0"}
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(bool(missing_data(recipe)), reason=missing_data(recipe) or "nothing")
        )
        for name, recipe in RECIPES.items()
    ],
)
def test_a_recipe_trains_resumes_generates_and_is_shown(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RECIPES[recipe].config.model
    num_classes = model.num_classes
    command = [recipe, "--runs", str(tmp_path), "--workers", "2", "--steps-per-epoch", str(STEPS), "--epochs"]
    run_module("trainer", *command, "1")
    assert f"from step {STEPS} of {2 * STEPS}" in run_module("trainer", *command, "2", "--extend")
    run = open_store(tmp_path).run(recipe)
    assert run.epochs() == [0, 1, 2]
    assert run.read_losses(2)["step"] == list(range(STEPS + 1, 2 * STEPS + 1))
    scores = run.read_epoch_metrics(2).scores
    assert scores
    assert ("label_accuracy" in scores) == bool(num_classes)
    assert np.isfinite(scores["fid"])
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert (checkpoint.step, checkpoint.manifest.world_size) == (2 * STEPS, 2)

    generator = f"{run.path}/{checkpoint.name}/generator.safetensors"
    digit = ["--digit", "6"] if num_classes else []
    run_module("models.generate", "--generator", generator, *digit, "--count", "4", "--out", str(tmp_path / "6.npz"))
    with np.load(tmp_path / "6.npz") as drawn:
        colours = [3] if model.img_channels == 3 else []
        assert drawn["images"].shape == (4, model.img_size, model.img_size, *colours)

    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    for kind in KINDS:
        st.cache_data.clear()
        st.cache_resource.clear()
        app = check(open_app(kind, run=f"runs/{recipe}"))
        assert [*app.error, *app.warning] == [], kind
        assert kind != "generate" or html(app).count("<img ") == (100 if num_classes else 10)
