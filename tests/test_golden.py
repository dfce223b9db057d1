"""Results that must not change between versions: numbers of trainings, pictures of shipped generators, stored runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.sampling import image_grid
from tests import golden
from trainer.recipes import RECIPES

TOLERANCE = 1e-10
"""Relative tolerance in float64. It allows another order of summation, nothing else."""


def assert_same_curve(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == pytest.approx(expected[name], rel=TOLERANCE, abs=0), name


def assert_same_weights(
    found: dict[str, list[float]], expected: dict[str, list[float]], tolerance: float = TOLERANCE
) -> None:
    assert found.keys() == expected.keys()
    for name, numbers in expected.items():
        scale = max(map(abs, numbers))  # the sum alone may be near 0
        assert found[name] == pytest.approx(numbers, rel=0, abs=tolerance * scale), name


@pytest.mark.usefixtures("writers")
@pytest.mark.parametrize("recipe", [*RECIPES, *golden.EARLIER])
def test_a_recipe_trains_as_it_always_did(recipe: str) -> None:
    expected: dict[str, Any] = json.loads((golden.CURVES / f"{recipe}.json").read_text())
    found = golden.measure(golden.golden_config(recipe))
    assert_same_weights(found["initial"], expected["initial"], tolerance=1e-5)  # they are drawn in float32
    assert_same_curve(found["curve"], expected["curve"])
    assert_same_weights(found["weights"], expected["weights"])


@pytest.mark.parametrize("name", ["forge", "gan", "conv-cgan"])
def test_a_run_that_earlier_code_began_ends_as_it_would_have_ended_there(name: str, tmp_path: Path) -> None:
    expected: dict[str, Any] = json.loads((golden.RESUMED / f"{name}.json").read_text())
    run = golden.resume(name, tmp_path)
    assert_same_curve(golden.curve_of(run), expected["curve"])
    assert_same_weights(golden.weights_of(run), expected["weights"])


@pytest.mark.parametrize("name", golden.shipped_generators())
def test_a_shipped_generator_draws_the_same_pixels(name: str) -> None:
    digests = json.loads((golden.PICTURES / "digests.json").read_text())
    pictures = golden.draw_hundred(golden.shipped_generators()[name])
    with Image.open(golden.PICTURES / f"{name}.png") as image:
        assert (image_grid(pictures, 10) != np.asarray(image)).sum() == 0  # of 78,400
    assert golden.digest(pictures) == digests[name]
