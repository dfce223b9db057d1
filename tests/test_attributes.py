"""Attributes of pictures, measured on drawn shapes with known answers; and the table from values to scores and back."""

import functools
import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.attributes import ATTRIBUTES, AttributeTable, measure
from trainer import data

NAMES = tuple(ATTRIBUTES)
SHIFTS = [(0.0, 0.0), (0.25, 0.0), (0.5, 0.25), (-1.3, 0.8)]
FINE = 16
"""Points of a pixel's side that a drawing samples."""


def bar(
    lean: float, across: float, height: float, shift: tuple[float, float] = (0, 0), size: int = 28
) -> NDArray[np.uint8]:
    """Draw an upright bar, `across` pixels wide in each row, whose rows are sheared by `lean` degrees to the right."""
    y, x = (np.arange(size * FINE) + 0.5)[:, None] / FINE - size / 2, (np.arange(size * FINE) + 0.5) / FINE - size / 2
    x, y = x - shift[0], y - shift[1]
    inside = (np.abs(x + y * math.tan(math.radians(lean))) < across / 2) & (np.abs(y) < height / 2)
    return np.round(255 * inside.reshape(size, FINE, size, FINE).mean((1, 3))).astype(np.uint8)


def ring(radius: float, thick: float, shift: tuple[float, float], size: int = 28) -> NDArray[np.uint8]:
    y, x = (np.arange(size * FINE) + 0.5)[:, None] / FINE - size / 2, (np.arange(size * FINE) + 0.5) / FINE - size / 2
    inside = np.abs(np.hypot(x - shift[0], y - shift[1]) - radius) < thick / 2
    return np.round(255 * inside.reshape(size, FINE, size, FINE).mean((1, 3))).astype(np.uint8)


def value(name: str, picture: NDArray[np.uint8]) -> float:
    return float(measure(picture[None], [name])[0, 0])


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("lean", [-35, -10, 0, 6.5, 20, 40])
@pytest.mark.parametrize("size", [28, 32, 64])
def test_slant_is_the_angle_of_a_slanted_bar(lean: float, shift: tuple[float, float], size: int) -> None:
    assert value("slant", bar(lean, 3, size * 0.6, shift, size)) == pytest.approx(lean, abs=0.5)


def test_slant_is_positive_to_the_right_and_does_not_depend_on_brightness() -> None:
    right = np.zeros((28, 28), np.uint8)
    right[5:15, 16] = right[15:25, 12] = 250  # the upper half of the stroke is to the right of the lower
    assert value("slant", right) > 10
    assert value("slant", right[:, ::-1]) == pytest.approx(-value("slant", right))
    assert value("slant", right // 2) == pytest.approx(value("slant", right), abs=1e-6)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("thick", [2.5, 3, 4, 5])
def test_thickness_of_a_stroke_is_twice_its_area_by_its_boundary(thick: float, shift: tuple[float, float]) -> None:
    for picture in (bar(0, thick, 20, shift), bar(0, 20, thick, shift)):
        # A bar of t by h pixels has 2 (t + h) - 4 boundary pixels, so its ends make it a little thinner than t.
        assert value("thickness", picture) == pytest.approx(thick * 20 / (thick + 18), abs=0.25)


@pytest.mark.parametrize("lean", [0, 10, 20, 30])
@pytest.mark.parametrize("size", [28, 48])
def test_thickness_of_long_strokes_is_that_of_their_rows(lean: float, size: int) -> None:
    found = [value("thickness", bar(lean, thick, size - 2, size=size)) for thick in (2.5, 3, 4, 5)]
    assert found == pytest.approx([2.5, 3, 4, 5], rel=0.18)
    assert found == sorted(found)


@pytest.mark.parametrize("shift", SHIFTS)
def test_thickness_of_rings_grows_with_the_ring(shift: tuple[float, float]) -> None:
    found = [value("thickness", ring(8, thick, shift)) for thick in (2, 3, 4, 5)]
    # Diagonal parts count as thick as they are across a row or column: up to sqrt(2) times.
    assert all(thick < each < 1.25 * thick for each, thick in zip(found, (2, 3, 4, 5), strict=True))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("across", [4, 7.5, 15, 20])
@pytest.mark.parametrize("size", [28, 40])
def test_width_is_that_of_a_box(across: float, shift: tuple[float, float], size: int) -> None:
    assert value("width", bar(0, across, 12, shift, size)) == pytest.approx(across, abs=0.2)


def test_width_does_not_see_faint_pixels() -> None:
    box = bar(0, 10, 12)
    box[:, 2] = box[:, 25] = 60
    assert value("width", box) == pytest.approx(10, abs=0.01)


def test_width_of_ink_at_the_border_and_of_a_single_column() -> None:
    full = np.full((28, 28), 255, np.uint8)
    assert value("width", full) == pytest.approx(28)
    line = np.zeros((28, 28), np.uint8)
    line[4:20, 27] = 255
    assert value("width", line) == pytest.approx(1)


def test_an_empty_picture_has_the_value_0() -> None:
    assert measure(np.zeros((2, 28, 28), np.uint8), NAMES).tolist() == [[0, 0, 0]] * 2


def test_many_pictures_are_measured_like_each_alone_and_rgb_like_grey() -> None:
    pictures = data.load_dataset().images[:1201, 0]
    together = measure(pictures, NAMES)
    alone = np.concatenate([measure(picture[None], NAMES) for picture in pictures[::100]])
    np.testing.assert_allclose(together[::100], alone, rtol=1e-5, atol=1e-4)
    in_color = measure(np.stack([pictures[:5]] * 3, -1), NAMES)
    np.testing.assert_allclose(in_color, together[:5], rtol=1e-5, atol=1e-4)
    assert measure(pictures[:3], ["width", "slant"]).tolist() == together[:3, [2, 0]].tolist()


@functools.cache
def mnist() -> tuple[AttributeTable, NDArray[np.float64], NDArray[np.int64]]:
    dataset = data.load_dataset()
    measured = measure(dataset.images[:, 0], NAMES)
    return AttributeTable.fit(NAMES, measured, dataset.labels, 10), measured, dataset.labels


def test_mnist_has_its_known_percentiles_and_standard_scores() -> None:
    table, measured, labels = mnist()
    percentiles = np.percentile(measured, [5, 50, 95], axis=0).T
    np.testing.assert_allclose(percentiles[0], [-19, 6, 30], atol=1)
    np.testing.assert_allclose(percentiles[1], [2.1, 2.8, 4.3], atol=0.1)
    np.testing.assert_allclose(percentiles[2], [7, 15, 20], atol=0.6)
    scores = table.to_scores(measured, labels)
    for label in range(10):
        own = scores[labels == label]
        assert np.abs(own.mean(0)).max() < 0.1
        assert np.abs(own.std(0) - 1).max() < 0.15
    np.testing.assert_allclose(table.to_values(scores, labels), measured, atol=1e-3)
    # What is drawn varies as the images do, also where a relation is not a line: wide digits lean to either side.
    draws = np.random.RandomState(0).random_sample(20_000)
    for label in (1, 5):
        own = scores[labels == label]
        drawn = table.draw(draws, np.full(len(draws), label))
        assert np.abs(np.corrcoef(drawn.T) - np.corrcoef(own.T)).max() < 0.07
        lean = [np.corrcoef(np.abs(found[:, 0]), found[:, 2])[0, 1] for found in (drawn, own)]
        assert lean[0] == pytest.approx(lean[1], abs=0.07)
        assert label != 1 or lean[0] > 0.3
        np.testing.assert_allclose(
            np.percentile(drawn, [10, 50, 90], axis=0), np.percentile(own, [10, 50, 90], axis=0), atol=0.1
        )


def correlated() -> AttributeTable:
    random = np.random.RandomState(1)
    factors = np.array([[1, 0, 0], [0.8, 0.6, 0], [-0.5, 0.3, 0.8]])
    scores = random.standard_normal((6000, 3)) @ factors.T
    labels = np.arange(6000) % 2
    measured = np.stack([10 * scores[:, 0] + 5 * labels, np.exp(scores[:, 1] / 4), 15 + scores[:, 2]], 1)
    return AttributeTable.fit(NAMES, measured, labels, 3)


def test_a_table_survives_json_and_a_bad_one_is_refused() -> None:
    table = correlated()
    text = table.to_json()
    again = AttributeTable.from_json(text)
    assert again.to_json() == text
    draws, labels = np.arange(10) / 10, np.arange(10) % 3
    assert np.array_equal(again.draw(draws, labels), table.draw(draws, labels))
    fields = json.loads(text)
    for name, wrong in (
        ("names", ["slant", "thickness"]),
        ("names", ["slant", "thickness", "weight"]),
        ("values", [[[0, 0]] * 3]),
        ("examples", [[[1, 2]]] * 3),
        ("examples", [[]] * 3),
        ("examples", [[[1, 2, math.nan]]] * 3),
        ("knots", "0"),
    ):
        with pytest.raises(ValueError, match=r"not a table|do not fit|must|could not convert"):
            AttributeTable.from_json(json.dumps(fields | {name: wrong}))
    with pytest.raises(ValueError, match="not a table"):
        AttributeTable.from_json("[]")


def test_each_example_is_drawn_as_often_as_the_others() -> None:
    table = correlated()
    count = table.examples.shape[1]
    draws = (np.arange(4 * count) + 0.5) / (4 * count)
    drawn = table.draw(draws, np.ones(len(draws), np.int64))
    assert np.array_equal(drawn, np.repeat(table.examples[1], 4, axis=0))
    assert np.array_equal(table.draw(np.array([1 - 2.0**-53]), np.array([1])), table.examples[1, -1:])


def test_values_that_are_asked_for_are_kept_and_the_others_follow() -> None:
    table = correlated()
    draws, labels = np.random.RandomState(0).random_sample(5000), np.ones(5000, np.int64)
    free = table.draw(draws, labels)
    asked = np.full_like(free, np.nan)
    asked[:, 1] = table.to_values(np.full_like(free, 1.5), labels)[:, 1]
    drawn = table.draw(draws, labels, asked)
    np.testing.assert_allclose(drawn[:, 1], 1.5, atol=1e-3)
    correlation = np.corrcoef(table.examples[1].T)
    for other in (0, 2):  # these scores are normal, so the mean and the rest are known
        rho = correlation[1, other]
        assert drawn[:, other].mean() == pytest.approx(1.5 * rho, abs=0.15)
        assert drawn[:, other].std() == pytest.approx(math.sqrt(1 - rho**2), abs=0.05)
    asked[:, 2] = table.to_values(np.full_like(free, -1.0), labels)[:, 2]
    both = table.draw(draws, labels, asked)[:, 0]
    weights = np.linalg.solve(correlation[1:, 1:], correlation[1:, 0])
    assert both.mean() == pytest.approx(weights @ [1.5, -1], abs=0.2)
    assert both.var() == pytest.approx(1 - weights @ correlation[1:, 0], abs=0.1)
    # A value that would have been drawn anyway changes nothing, nor does a row that asks for nothing.
    asked = np.full_like(free, np.nan)
    asked[::2, 0] = table.to_values(free, labels)[::2, 0]
    np.testing.assert_allclose(table.draw(draws, labels, asked), free, atol=3 / 4096)
    assert np.array_equal(table.draw(draws, labels, asked)[1::2], free[1::2])


def test_others_follow_a_relation_that_is_not_a_line() -> None:
    random = np.random.RandomState(2)
    slant, rest = random.standard_normal((2, 4000))
    measured = np.stack([10 * slant, np.full(4000, 3.0) + rest / 10, 12 + 2 * np.abs(slant) + rest / 5], 1)
    labels = np.zeros(4000, np.int64)
    table = AttributeTable.fit(NAMES, measured, labels, 1)
    draws = random.random_sample(500)
    for lean in (-15, 0, 15):
        asked = np.tile([lean, np.nan, np.nan], (500, 1))
        width = table.to_values(table.draw(draws, labels[:500], asked), labels[:500])[:, 2]
        assert width.mean() == pytest.approx(12 + abs(lean) / 5, abs=0.4)
    # Values between change steadily: no step of a slider is a jump.
    sweep = np.stack([np.linspace(-25, 25, 201), np.full(201, np.nan), np.full(201, np.nan)], 1)
    scores = table.draw(np.full(201, 0.3), np.zeros(201, np.int64), sweep)
    assert np.abs(np.diff(scores, axis=0)).max() < 0.2


def test_truncation_scales_what_is_drawn_and_not_what_is_asked() -> None:
    table = correlated()
    draws, labels = np.random.RandomState(0).random_sample(50), np.zeros(50, np.int64)
    asked = np.full((50, 3), np.nan)
    asked[:, 0] = 12
    drawn = table.draw(draws, labels, asked, truncation=0)
    assert len(np.unique(drawn, axis=0)) == 1
    assert table.to_values(drawn, labels)[0, 0] == pytest.approx(12, abs=0.01)
    half = table.draw(draws, labels, truncation=0.5)
    np.testing.assert_allclose(half, table.draw(draws, labels) / 2, atol=1 / 4096)
    assert np.array_equal(half * 4096, np.round(half * 4096))


def test_few_and_equal_images_make_a_usable_table() -> None:
    measured = np.array([[3.0, 2, 7], [3, 2, 7], [5, 2, 9]])
    table = AttributeTable.fit(NAMES, measured, np.array([0, 0, 2]), 4)  # classes of 2, no, 1 and no images
    assert np.isfinite(table.values).all()
    labels = np.array([0, 0, 2])
    scores = table.to_scores(measured, labels)
    assert np.abs(scores).max() < 3
    np.testing.assert_allclose(table.to_values(scores, labels), measured, atol=1e-6)
    assert AttributeTable.from_json(table.to_json()).to_json() == table.to_json()
    assert np.isfinite(table.draw(np.full(4, 0.5), np.arange(4))).all()


def test_controls_reach_from_slim_to_wide() -> None:
    table, measured, labels = mnist()
    for label in range(10):
        for column, name in enumerate(NAMES):
            low, high = table.reach(name, label)
            own = measured[labels == label, column]
            assert ATTRIBUTES[name].least <= low < np.percentile(own, 1) < np.percentile(own, 99) < high
