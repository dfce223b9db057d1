"""ATTRIBUTES: how a digit is written (slant, thickness, width), measured in pictures and used as conditions.

The networks see an attribute in standard units of the class: 0 is its median, and scores are N(0, 1) within a class. An
`AttributeTable` maps values to scores and holds the scores of real images as examples of each class, so attributes that
nobody asks for are drawn as they occur together.

The attributes are those of Morpho-MNIST (Castro et al. 2019, JMLR 20(178), arXiv 1809.10780), but measured directly on
the grey levels: there, pictures are enlarged and thresholded first, and thickness comes from a skeleton.
Shapes: N pictures, H and W of a picture, K classes, A attributes, Q knots and E examples of a table.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CHUNK = 500
"""Pictures that are measured at a time, so that they stay in the processor's cache."""


def slant(ink: Floats) -> Floats:
    """Return the slant (N,) of ink (N, H, W) in degrees: the angle of the horizontal shear; positive leans right.

    It is the slope of the regression of x on y by image moments, as in Morpho-MNIST. 0 for ink in a single row.
    """
    y, x = np.arange(ink.shape[1]), np.arange(ink.shape[2])
    area = np.maximum(ink.sum((1, 2)), 1e-12)
    rows, columns = ink.sum(2), ink.sum(1)
    mean_y, mean_x = rows @ y / area, columns @ x / area
    covariance = (ink @ x) @ y / area - mean_y * mean_x
    variance = rows @ y**2 / area - mean_y**2
    angle: Floats = np.degrees(np.arctan(-covariance / np.maximum(variance, 1e-6)))
    return np.where(variance > 1e-6, angle, 0)


def thickness(ink: Floats) -> Floats:
    """Return the mean thickness (N,) of the strokes of ink (N, H, W) in pixels: 2 * area / perimeter.

    The perimeter is a count of boundary pixels, but continuous: the sum of ink minus its erosion by the four nearest
    neighbours, where grey levels from 1/4 to 3/4 count in part. A stroke counts as thick as it is across its row or
    column, whichever is shorter. 0 without ink.
    """
    inside = np.pad(np.clip(2 * ink - 0.5, 0, 1), ((0, 0), (1, 1), (1, 1)))
    center = inside[:, 1:-1, 1:-1]
    vertical = np.minimum(inside[:, :-2, 1:-1], inside[:, 2:, 1:-1])
    horizontal = np.minimum(inside[:, 1:-1, :-2], inside[:, 1:-1, 2:])
    perimeter = (center - np.minimum(center, np.minimum(vertical, horizontal))).sum((1, 2))
    mean: Floats = 2 * ink.sum((1, 2)) / np.maximum(perimeter, 1)
    return mean


def width(ink: Floats) -> Floats:
    """Return the width (N,) of the box around ink (N, H, W) in pixels, between the outermost points of half intensity.

    Intensity is interpolated between the centers of pixels. 0 without ink.
    """
    columns = np.pad(ink.max(1), ((0, 0), (1, 1)))
    n, size = columns.shape
    is_inside = columns >= 0.5
    left, right = is_inside.argmax(1), size - 1 - is_inside[:, ::-1].argmax(1)
    all_n = np.arange(n)
    rise = columns[all_n, left] - columns[all_n, left - 1]
    fall = columns[all_n, right] - columns[all_n, np.minimum(right + 1, size - 1)]
    before = (columns[all_n, left] - 0.5) / np.maximum(rise, 1e-12)
    behind = (columns[all_n, right] - 0.5) / np.maximum(fall, 1e-12)
    return np.where(is_inside.any(1), right - left + before + behind, 0)


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """A real-valued property of a picture that can be measured."""

    title: str
    unit: str
    """Unit, as it follows a number."""
    least: int
    """Least value that has a meaning."""
    most: int
    """Greatest value that can be asked for."""
    step: float
    """Step of controls."""
    measure: Callable[[Floats], Floats]
    """Ink (N, H, W) in [0, 1] -> values (N,)."""


ATTRIBUTES = {
    "slant": Attribute(title="Slant", unit="°", least=-90, most=90, step=1, measure=slant),
    "thickness": Attribute(title="Thickness", unit=" px", least=0, most=256, step=0.1, measure=thickness),
    "width": Attribute(title="Width", unit=" px", least=0, most=256, step=0.5, measure=width),
}
"""Name -> attribute, in the order of all lists. `ModelConfig.attributes` names some of them."""


def measure(images: NDArray[np.uint8], names: Sequence[str]) -> Floats:
    """Return the values (N, A) of attributes in light ink on black pictures (N, H, W), or (N, H, W, 3).

    The brightest pixel of each picture counts as full ink, and RGB as its mean.
    """
    values = np.zeros((len(images), len(names)))
    for start in range(0, len(images), CHUNK):
        ink = images[start : start + CHUNK].astype(np.float32)
        ink = ink if ink.ndim == 3 else ink.mean(3)
        ink /= np.maximum(ink.max((1, 2), keepdims=True), 1)
        for column, name in enumerate(names):
            values[start : start + CHUNK, column] = ATTRIBUTES[name].measure(ink)
    return values


_PER_UNIT = 8
_INNER = np.arange(-3 * _PER_UNIT, 3 * _PER_UNIT + 1) / _PER_UNIT
KNOTS: Floats = np.concatenate([[-6.0], _INNER, [6.0]])
"""Scores (Q,) for which a new table knows the values. Beyond -6 and 6 nothing is known."""
SMOOTHING = 0.05
"""Share of a normal distribution in the values of a new table, which makes them rise where many images are equal."""
REACH = 3.0
"""Controls offer scores from -REACH to REACH."""
EXAMPLES = 1000
"""Examples of each class in a new table."""
EXAMPLE_UNIT = 1 / 64
"""Examples are multiples of this score."""
NEAR = 0.5
"""Distance in scores within which examples count as like a picture; the weight of those farther away falls quickly."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AttributeTable:
    """Attributes of the training images, by class: values <-> scores, and which scores occur together."""

    names: tuple[str, ...]
    knots: Floats
    """Scores (Q,), ascending."""
    values: Floats
    """The values (K, A, Q) of the attributes at these scores, ascending. Between them the map is linear."""
    examples: Floats
    """Scores of training images of each class, (K, E, A)."""

    @classmethod
    def fit(cls, names: Sequence[str], measured: Floats, labels: NDArray[np.int64], num_classes: int) -> Self:
        """Return the table of measured values (N, A) of images with labels (N,).

        Between scores -3 and 3, values are quantiles; beyond, they go on as between 2 and 3, or half as steep as those
        of a normal distribution. Examples are taken evenly from the images of a class, sorted by their first and
        their last attribute, and lie in [-3, 3]. Classes without images are like all classes together.
        """
        shares = np.array([NormalDist().cdf(score) for score in _INNER])
        values = np.zeros((num_classes, len(names), len(KNOTS)))
        for label in range(num_classes):
            own = measured[labels == label] if (labels == label).any() else measured
            spread = np.maximum(own.std(0), 0.01)[:, None]
            normal = own.mean(0)[:, None] + spread * _INNER
            inner = (1 - SMOOTHING) * np.quantile(own, shares, axis=0).T + SMOOTHING * normal
            low, high = inner[:, :1], inner[:, -1:]
            down = np.maximum(inner[:, _PER_UNIT, None] - low, spread / 2)
            up = np.maximum(high - inner[:, -1 - _PER_UNIT, None], spread / 2)
            values[label] = np.concatenate([low - 3 * down, inner, high + 3 * up], 1)
        table = cls(
            names=tuple(names),
            knots=KNOTS,
            values=np.round(values, 5),
            examples=np.zeros((num_classes, EXAMPLES, len(names))),
        )
        for label in range(num_classes):
            own = measured[labels == label] if (labels == label).any() else measured
            strata = own[:, 0].argsort(kind="stable").argsort() * 32 // len(own)
            own = own[np.lexsort((own[:, -1], strata))]
            taken = own[(2 * np.arange(EXAMPLES) + 1) * len(own) // (2 * EXAMPLES)]
            scores = np.clip(table.to_scores(taken, np.full(EXAMPLES, label)), -3, 3)
            table.examples[label] = np.round(scores / EXAMPLE_UNIT) * EXAMPLE_UNIT
        return table

    def to_scores(self, values: Floats, labels: NDArray[np.int64]) -> Floats:
        """Return the scores (N, A) of values (N, A) of pictures of classes (N,); NaN stays NaN."""
        return self._mapped(values, labels, lambda row: (row, self.knots))

    def to_values(self, scores: Floats, labels: NDArray[np.int64]) -> Floats:
        """Return the values (N, A) of scores (N, A) of pictures of classes (N,); NaN stays NaN."""
        return self._mapped(scores, labels, lambda row: (self.knots, row))

    def reach(self, name: str, label: int) -> tuple[float, float]:
        """Return the least and the greatest value of an attribute that controls offer in a class."""
        ends = np.array([[-REACH], [REACH]])
        column = self.names.index(name)
        scores = np.repeat(ends, len(self.names), 1)
        low, high = self.to_values(scores, np.array([label, label]))[:, column]
        return max(float(low), ATTRIBUTES[name].least), float(high)

    def draw(
        self, draws: Floats, labels: NDArray[np.int64], asked: Floats | None = None, truncation: float = 1.0
    ) -> Floats:
        """Return scores (N, A) of pictures of classes (N,): each picture has those of the example that `draws` names.

        `draws` (N,) lies in [0, 1). The scores are scaled by `truncation`, but not what is asked for. `asked` holds
        values (N, A) to keep, NaN where none is asked for; beyond the table they count as its last ones. The other
        attributes then change by as much as they differ, in the mean, between examples that are like what is asked for
        and those that are like what was drawn. So asking for what would have been drawn changes nothing. Results are
        multiples of 2^-12, so that other implementations agree to the last bit.
        """
        drawn = truncation * self.examples[labels, np.floor(draws * self.examples.shape[1]).astype(np.int64)]
        scores = drawn if asked is None else self._following(drawn, self.to_scores(asked, labels), labels)
        return np.round(scores * 4096) / 4096

    def _following(self, drawn: Floats, wanted: Floats, labels: NDArray[np.int64]) -> Floats:
        """Return scores (N, A) that are `wanted` where it is not NaN, and elsewhere `drawn` and moved to fit."""
        scores = drawn.copy()
        is_asked = ~np.isnan(wanted)
        for row in np.flatnonzero(is_asked.any(1)):
            known, examples = is_asked[row], self.examples[labels[row]]
            move = _typical(examples, known, wanted[row]) - _typical(examples, known, drawn[row])
            scores[row] = np.where(known, wanted[row], drawn[row] + move)
        return scores

    def to_json(self) -> str:
        """Return one line of JSON with every field."""
        units = np.round(self.examples / EXAMPLE_UNIT).astype(np.int64)
        fields = {"names": list(self.names), "knots": self.knots.tolist(), "values": self.values.tolist()}
        return json.dumps(fields | {"examples": units.tolist()}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises `ValueError` for anything else."""
        try:
            fields: dict[str, Any] = json.loads(text)
            names = tuple(fields["names"])
            knots, values, units = (np.array(fields[name], np.float64) for name in ("knots", "values", "examples"))
            classes, count = len(values), len(names)
            shapes = (values.shape, (*units.shape[:1], *units.shape[2:]))
            if shapes != ((classes, count, len(knots)), (classes, count)) or set(names) - set(ATTRIBUTES):
                raise ValueError(f"{count} attributes {', '.join(map(str, names))} do not fit shapes {shapes}")
            if not ((np.diff(knots) > 0).all() and (np.diff(values) > 0).all() and len(knots) > 1):
                raise ValueError("knots and values must rise")
            if not (units.shape[1] and np.isfinite(units).all()):
                raise ValueError("examples must be numbers")
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a table of attributes ({error!r})") from error
        return cls(names=names, knots=knots, values=values, examples=units * EXAMPLE_UNIT)

    def _mapped(
        self, numbers: Floats, labels: NDArray[np.int64], ends: Callable[[Floats], tuple[Floats, Floats]]
    ) -> Floats:
        """Return numbers (N, A) mapped by the lines between the knots of their class and attribute."""
        mapped = np.zeros(numbers.shape)
        for label in np.unique(labels):
            rows = labels == label
            for column in range(len(self.names)):
                xs, ys = ends(self.values[label, column])
                mapped[rows, column] = _piecewise(numbers[rows, column], xs, ys)
        return mapped


def _piecewise(x: Floats, xs: Floats, ys: Floats) -> Floats:
    """Return the piecewise linear function through points (xs, ys) at x; constant beyond the ends, NaN at NaN."""
    x = np.clip(x, xs[0], xs[-1])
    k = np.clip(np.searchsorted(xs, x, "right") - 1, 0, len(xs) - 2)
    t = (x - xs[k]) / (xs[k + 1] - xs[k])
    return ys[k] + t * (ys[k + 1] - ys[k])


def _typical(examples: Floats, known: NDArray[np.bool_], scores: Floats) -> Floats:
    """Return the mean (A,) of examples (E, A), weighted by how near they are to `scores` (A,) where it is `known`."""
    squares = ((examples - scores)[:, known] ** 2).sum(1)
    weights = 1 / (1 + squares / NEAR**2) ** 3
    mean: Floats = weights @ examples / weights.sum()
    return mean
