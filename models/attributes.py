"""ATTRIBUTES: how a digit is written (slant, thickness, width), measured in pictures and used as conditions.

The networks see an attribute in standard units of the class: 0 is its median, and scores are N(0, 1) within a class. An
`AttributeTable` maps values to scores and holds how the scores of a class vary together (a Gaussian copula), so
attributes that nobody asks for are drawn as they vary in the training images.

The attributes are those of Morpho-MNIST (Castro et al. 2019, JMLR 20(178), arXiv 1809.10780), but measured directly on
the grey levels: there, pictures are enlarged and thresholded first, and thickness comes from a skeleton.
Shapes: N pictures, H and W of a picture, K classes, A attributes, Q knots of a table.
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
INDEPENDENT = 1e-3
"""Share of independent variation in each score, so that no attribute is a function of the others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AttributeTable:
    """Attributes of the training images, by class: values <-> scores, and how the scores vary together."""

    names: tuple[str, ...]
    knots: Floats
    """Scores (Q,), ascending."""
    values: Floats
    """The values (K, A, Q) of the attributes at these scores, ascending. Between them the map is linear."""
    correlation: Floats
    """Correlation of the scores, (K, A, A)."""

    @classmethod
    def fit(cls, names: Sequence[str], measured: Floats, labels: NDArray[np.int64], num_classes: int) -> Self:
        """Return the table of measured values (N, A) of images with labels (N,).

        Between scores -3 and 3, values are quantiles; beyond, they go on as between 2 and 3, or half as steep as those
        of a normal distribution. Classes without images are like all classes together.
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
        values = np.round(values, 5)
        table = cls(
            names=tuple(names), knots=KNOTS, values=values, correlation=np.tile(np.eye(len(names)), (num_classes, 1, 1))
        )
        scores = np.clip(table.to_scores(measured, labels), -3, 3)
        for label in range(num_classes):
            own = scores[labels == label]
            deviations = own - own.mean(0) if len(own) else own
            moments = deviations.T @ deviations
            lengths = np.sqrt(np.diagonal(moments))
            if len(own) > len(names) and lengths.all():
                found = (1 - INDEPENDENT) * moments / np.outer(lengths, lengths) + INDEPENDENT * np.eye(len(names))
                table.correlation[label] = np.round(found, 6)
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
        self, noise: Floats, labels: NDArray[np.int64], asked: Floats | None = None, truncation: float = 1.0
    ) -> Floats:
        """Return scores (N, A) of pictures of classes (N,) from standard normal noise (N, A).

        `asked` holds values (N, A) to keep, NaN where none is asked for; beyond the table they count as its last ones.
        The other attributes then have their distribution given those, and asking for what would have been drawn changes
        nothing (Matheron's rule). The noise is scaled by `truncation`, what is asked is not. Results are multiples of
        2^-12, so that other implementations agree to the last bit.
        """
        covariance = self.correlation[labels]  # (N, A, A)
        factors = np.linalg.cholesky(self.correlation)[labels]
        scores: Floats = (factors * (truncation * noise)[:, None, :]).sum(2)
        wanted = np.full_like(scores, np.nan) if asked is None else self.to_scores(asked, labels)
        for column in range(len(self.names)):
            rows = np.flatnonzero(~np.isnan(wanted[:, column]))
            # After each condition, scores and covariance are those given all conditions so far.
            own = covariance[rows, :, column]  # (n, A)
            gain = own / own[:, column, None]
            scores[rows] += gain * (wanted[rows, column] - scores[rows, column])[:, None]
            covariance[rows] -= gain[:, :, None] * own[:, None, :]
        return np.round(scores * 4096) / 4096

    def to_json(self) -> str:
        """Return one line of JSON with every field."""
        fields = {name: getattr(self, name) for name in ("knots", "values", "correlation")}
        return json.dumps({"names": list(self.names)} | {name: array.tolist() for name, array in fields.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises `ValueError` for anything else."""
        try:
            fields: dict[str, Any] = json.loads(text)
            names = tuple(fields["names"])
            knots, values, correlation = (
                np.array(fields[name], np.float64) for name in ("knots", "values", "correlation")
            )
            classes, count = len(values), len(names)
            shapes = (values.shape, correlation.shape)
            if shapes != ((classes, count, len(knots)), (classes, count, count)) or set(names) - set(ATTRIBUTES):
                raise ValueError(f"{count} attributes {', '.join(map(str, names))} do not fit shapes {shapes}")
            if not ((np.diff(knots) > 0).all() and (np.diff(values) > 0).all() and len(knots) > 1):
                raise ValueError("knots and values must rise")
            np.linalg.cholesky(correlation)
        except (KeyError, TypeError, np.linalg.LinAlgError) as error:
            raise ValueError(f"not a table of attributes ({error!r})") from error
        return cls(names=names, knots=knots, values=values, correlation=correlation)

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
