"""Views, and their text in a URL: `training?run=runs/quick-1&epoch=3` is the view of one epoch of a training.

The text contains every value, so a link always shows the same. Views that draw pictures are in models/views.py, those
of the other pages in webapp/views/; this module reads and writes them. A permalink is the text of a drawing view with
a version and the digest of its pixels: `s?v=1&kind=generate&...&px=0123456789abcdef`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar
from urllib.parse import urlencode

MAX_CLASS = 999
MAX_STEP = 10**12

G_LENGTH = 12
"""Hex digits of a generator's SHA-256 that name it in a link."""

GENERATOR = re.compile(rf"[0-9a-f]{{{G_LENGTH}}}")
RUN_KEY = re.compile(r"[a-z0-9]{1,32}/[a-z0-9][a-z0-9._-]{0,63}")
WHOLE = re.compile(r"0|[1-9][0-9]{0,12}")
NUMBER = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,2})?")
SHARE = re.compile(r"0|1|0\.[0-9]{1,3}|1\.0{1,3}")
DIGITS = re.compile(r"[0-9]{1,3}(-[0-9]{1,3})?(\.[0-9]{1,3}(-[0-9]{1,3})?){0,99}")
SEEDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10}){3}")
STOPS = re.compile(r"([0-9]{1,3}\.)?[0-9]{1,10}(_([0-9]{1,3}\.)?[0-9]{1,10}){0,9}")
OWN_SEEDS = re.compile(r"[0-9]{1,2}\.[0-9]{1,10}(_[0-9]{1,2}\.[0-9]{1,10}){0,99}")

Corners: TypeAlias = tuple[int, int, int, int]
"""Four seeds."""
Stops: TypeAlias = tuple[tuple[int | None, int], ...]
"""Pictures on a way, each a digit (None: the generator has no classes) and a seed."""

OwnSeeds: TypeAlias = tuple[tuple[int, int], ...]
"""Pictures of a row that have seeds of their own: the number of the picture, counted from 0, and the seed."""


class ViewError(ValueError):
    """An invalid value of a view. `parameter` is its name, quoted if the view has no such parameter."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter, self.problem = parameter, problem


@dataclass(frozen=True, kw_only=True)
class View:
    """The state of a page: a checkpoint of a run, and further values that each page adds as fields.

    `READERS` lists the types that a field may have. `__post_init__` raises `ViewError` for a value out of range.
    """

    kind: ClassVar[str]
    """Path of the page in the URL."""
    names_epoch: ClassVar[bool] = False
    """True if `g` is the generator of the view's epoch, False if it is the one that the visitor chose for all pages."""

    run: str = ""
    """Key of the run, as `store/name`; empty: the app chooses one."""
    step: int | None = None
    """Step of the generator; None: the newest."""
    g: str = ""
    """The generator: the first `G_LENGTH` hex digits of the SHA-256 of its file. Empty in links of earlier versions."""

    def __post_init__(self) -> None:
        if self.run and not RUN_KEY.fullmatch(self.run):
            raise ViewError("run", f"{quoted(self.run)} is not the key of a run, such as pretrained/forge")
        if self.step is not None:
            check_range("step", self.step, 0, MAX_STEP)
        if self.g and not GENERATOR.fullmatch(self.g):
            raise ViewError("g", f"must be the first {G_LENGTH} hex digits of a SHA-256: got {quoted(self.g)}")


V = TypeVar("V", bound=View)


def check_range(name: str, value: float, low: int, high: int) -> None:
    """Raise `ViewError` unless `value` is from `low` to `high`."""
    if not low <= value <= high:  # false for nan
        raise ViewError(name, f"must be between {low} and {high}: got {value}")


def quoted(text: str) -> str:
    """Return an untrusted text for use in a message: quoted, in ASCII, and shortened."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")


# --- Writing


def pairs(view: View) -> list[tuple[str, str]]:
    """Return name and text of each value of a view, in a fixed order; values that are None or empty are left out."""
    values = [(field, getattr(view, field.name)) for field in dataclasses.fields(view)]
    return [(field.name, WRITERS.get(field.type, str)(value)) for field, value in values if value not in (None, "", ())]


def encode(view: View) -> str:
    """Return the canonical text of a view: its kind, `?`, and a query string that fits a URL."""
    return f"{view.kind}?{urlencode(pairs(view), safe='/')}"


def _write_share(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _write_number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _write_digits(digits: Sequence[int]) -> str:
    return ".".join(f"{low}-{high}" if high > low else f"{low}" for low, high in _ranges(digits))


def _write_corners(seeds: Corners) -> str:
    return ".".join(map(str, seeds))


def _write_stops(stops: Stops) -> str:
    return "_".join(f"{seed}" if digit is None else f"{digit}.{seed}" for digit, seed in stops)


def _write_own_seeds(own: OwnSeeds) -> str:
    return "_".join(f"{number}.{seed}" for number, seed in own)


def _ranges(digits: Sequence[int]) -> list[tuple[int, int]]:
    """Return (first, last) for each sequence of three or more consecutive digits and for each other digit."""
    runs: list[list[int]] = []
    for digit in digits:
        if runs and digit == runs[-1][-1] + 1:
            runs[-1].append(digit)
        else:
            runs.append([digit])
    return [
        pair for run in runs for pair in ([(run[0], run[-1])] if len(run) > 2 else [(digit, digit) for digit in run])
    ]


# --- Reading


def from_pairs(view: type[V], items: Iterable[tuple[str, str]]) -> V:
    """Return the view with these values, and defaults for all others. Raises `ViewError` for the first bad value."""
    types = {field.name: field.type for field in dataclasses.fields(view)}
    values: dict[str, Any] = {}
    for name, text in items:
        if name not in types:
            raise ViewError(quoted(name), f"is not a parameter of this page, only {', '.join(sorted(types))} are")
        if name in values:
            raise ViewError(name, "is given twice")
        values[name] = READERS[types[name]](name, text)
    return view(**values)


def from_link(view: type[V], items: Iterable[tuple[str, str]]) -> tuple[V, tuple[ViewError, ...]]:
    """Read as much of a link as possible: return the view, and one error for each value that was left out."""
    rest = list(items)
    problems: list[ViewError] = []
    while True:
        try:
            return from_pairs(view, rest), tuple(problems)
        except ViewError as error:
            problems.append(error)
            fewer = [(name, text) for name, text in rest if error.parameter not in (name, quoted(name))]
            rest = fewer if len(fewer) < len(rest) else []


def _read_text(name: str, text: str) -> str:
    return text


def _read_whole(name: str, text: str) -> int:
    if not WHOLE.fullmatch(text):
        raise ViewError(name, f"must be a whole number of at least 0: got {quoted(text)}")
    return int(text)


def _read_share(name: str, text: str) -> float:
    if not SHARE.fullmatch(text):
        raise ViewError(name, f"must be a number from 0 to 1 with at most three decimals: got {quoted(text)}")
    return float(text)


def _read_number(name: str, text: str) -> float:
    if not NUMBER.fullmatch(text):
        raise ViewError(name, f"must be a number with at most two decimals: got {quoted(text)}")
    return float(text) + 0.0  # never -0


def _read_digits(name: str, text: str) -> tuple[int, ...]:
    if not DIGITS.fullmatch(text):
        raise ViewError(name, f"must be digits and ranges, such as 7 or 0-3.8: got {quoted(text)}")
    ends = [[int(end) for end in part.split("-")] for part in text.split(".")]
    return tuple(sorted({digit for low, *high in ends for digit in range(low, (high or [low])[0] + 1)}))


def _read_corners(name: str, text: str) -> Corners:
    if not SEEDS.fullmatch(text):
        raise ViewError(name, f"must be four seeds, such as 1.2.3.4: got {quoted(text)}")
    a, b, c, d = map(int, text.split("."))
    return a, b, c, d


def _read_stops(name: str, text: str) -> Stops:
    if not STOPS.fullmatch(text):
        raise ViewError(name, f"must be pictures as digit.seed, such as 3.1_8.2: got {quoted(text)}")
    stops: list[tuple[int | None, int]] = []
    for stop in text.split("_"):
        digit, _, seed = stop.rpartition(".")
        stops.append((int(digit) if digit else None, int(seed)))
    return tuple(stops)


def _read_own_seeds(name: str, text: str) -> OwnSeeds:
    if not OWN_SEEDS.fullmatch(text):
        raise ViewError(name, f"must be pictures as number.seed, such as 0.17_3.99: got {quoted(text)}")
    number_and_seed = (pair.split(".") for pair in text.split("_"))
    return tuple((int(number), int(seed)) for number, seed in number_and_seed)


READERS: dict[Any, Callable[[str, str], Any]] = {
    str: _read_text,
    int: _read_whole,
    int | None: _read_whole,
    float: _read_share,
    float | None: _read_number,
    tuple[int, ...] | None: _read_digits,
    Corners | None: _read_corners,
    Stops: _read_stops,
    OwnSeeds: _read_own_seeds,
}
"""Type of a view's field -> the function that reads its text and raises `ViewError` for any other text."""

WRITERS: dict[Any, Callable[[Any], str]] = {
    float: _write_share,
    float | None: _write_number,
    tuple[int, ...] | None: _write_digits,
    Corners | None: _write_corners,
    Stops: _write_stops,
    OwnSeeds: _write_own_seeds,
}
"""Type of a view's field -> the function that writes it; a type that is not listed is written by `str`."""
