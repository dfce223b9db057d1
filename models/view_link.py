"""A view (what is shown, from which checkpoint) and its canonical text, such as `gallery?run=runs/quick-1&epoch=3`.

The text is what stands in the app's address: it names every value, so that it means the same on any day.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlencode

from models.sampling import MAX_SEED

MAX_LENGTH = 1000
"""Characters of a view's text."""
MAX_CLASS = 999
MAX_COUNT = 20
"""Pictures of each digit on one page."""
MIN_FRAMES, MAX_FRAMES = 2, 64
MAX_STEP = 10**12

RUN_KEY = re.compile(r"[a-z0-9]{1,32}/[a-z0-9][a-z0-9._-]{0,63}")
WHOLE = re.compile(r"0|[1-9][0-9]{0,12}")
SHARE = re.compile(r"0|1|0\.[0-9]{1,2}|1\.0{1,2}")
DIGITS = re.compile(r"[0-9]{1,3}(-[0-9]{1,3})?(\.[0-9]{1,3}(-[0-9]{1,3})?){0,99}")
PATHS = ("slerp", "lerp")


class ViewError(ValueError):
    """A view that cannot be; `parameter` is the name of the value at fault."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter, self.problem = parameter, problem


@dataclass(frozen=True, kw_only=True)
class View:
    """What every view has: a run, as `store/name`, and a checkpoint of it."""

    kind: ClassVar[str]

    run: str = ""
    """Key of the run in the app's listing; empty = the app's choice."""
    step: int | None = None
    """Step of the checkpoint; None = the newest."""

    def __post_init__(self) -> None:
        if self.run and not RUN_KEY.fullmatch(self.run):
            raise ViewError("run", f"{_shown(self.run)} is not the key of a run, such as pretrained/forge")
        if self.step is not None:
            _check_range("step", self.step, 0, MAX_STEP)


@dataclass(frozen=True, kw_only=True)
class GenerateView(View):
    """Pictures of chosen digits: picture k of each uses seed + k."""

    kind = "generate"

    digits: tuple[int, ...] | None = None
    """Classes to draw, ascending; None = all that the generator has."""
    count: int = 10
    """Pictures of each digit."""
    seed: int = 0
    truncation: float = 1.0
    """Factor of the latents, of at most two decimals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.digits is not None:
            if not self.digits or list(self.digits) != sorted(set(self.digits)):
                raise ViewError("digits", "must be different digits in ascending order")
            for digit in self.digits:
                _check_range("digits", digit, 0, MAX_CLASS)
        _check_range("count", self.count, 1, MAX_COUNT)
        _check_range("seed", self.seed, 0, MAX_SEED + 1 - self.count)
        _check_range("truncation", self.truncation, 0, 1)
        if round(self.truncation, 2) != self.truncation:
            raise ViewError("truncation", f"must have at most two decimals: got {self.truncation}")


@dataclass(frozen=True, kw_only=True)
class InterpolateView(View):
    """The way from one picture to another, each end a digit and a seed."""

    kind = "interpolate"

    from_digit: int | None = None
    """None for a generator without classes, or for the app's choice."""
    from_seed: int = 1
    to_digit: int | None = None
    to_seed: int = 2
    path: str = "slerp"
    """Along the arc between the latents (slerp), or along the straight line (lerp)."""
    frames: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        for end in ("from", "to"):
            digit = getattr(self, f"{end}_digit")
            if digit is not None:
                _check_range(f"{end}_digit", digit, 0, MAX_CLASS)
            _check_range(f"{end}_seed", getattr(self, f"{end}_seed"), 0, MAX_SEED)
        if self.path not in PATHS:
            raise ViewError("path", f"must be {' or '.join(PATHS)}: got {_shown(self.path)}")
        _check_range("frames", self.frames, MIN_FRAMES, MAX_FRAMES)


@dataclass(frozen=True, kw_only=True)
class GalleryView(View):
    """The fixed grid of one epoch."""

    kind = "gallery"

    epoch: int | None = None
    """None = the newest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epoch is not None:
            _check_range("epoch", self.epoch, 0, 10**6)


@dataclass(frozen=True, kw_only=True)
class TrainingView(View):
    """The curves of a run."""

    kind = "training"


@dataclass(frozen=True, kw_only=True)
class ArchitectureView(View):
    """The networks of a run."""

    kind = "architecture"


VIEWS: dict[str, type[View]] = {
    view.kind: view for view in (GenerateView, InterpolateView, GalleryView, TrainingView, ArchitectureView)
}


def pairs(view: View) -> list[tuple[str, str]]:
    """Name and text of each value of a view, in a fixed order; without those that are None or empty."""
    values = [(field.name, getattr(view, field.name)) for field in dataclasses.fields(view)]
    return [(name, _to_text(value)) for name, value in values if value is not None and value != ""]


def encode(view: View) -> str:
    """The canonical text of a view: its kind, `?`, and a query string that fits a URL."""
    return f"{view.kind}?{urlencode(pairs(view), safe='/')}"


def parse(text: str) -> View:
    """The view of a text; raises `ViewError` for anything that `encode` could not mean."""
    if len(text) > MAX_LENGTH:
        raise ViewError("view", f"must have at most {MAX_LENGTH} characters: got {len(text)}")
    kind, _, query = text.partition("?")
    try:
        items = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=50)
    except ValueError as error:
        raise ViewError("view", f"is not a query string ({error})") from error
    return from_pairs(kind, items)


def from_pairs(kind: str, items: Iterable[tuple[str, str]]) -> View:
    """The view of a kind with these values; those not given have the kind's defaults. Raises `ViewError`."""
    if kind not in VIEWS:
        raise ViewError("view", f"must be one of {', '.join(VIEWS)}: got {_shown(kind)}")
    known = {field.name for field in dataclasses.fields(VIEWS[kind])}
    values: dict[str, Any] = {}
    for name, text in items:
        if name not in known:
            raise ViewError(_shown(name), f"is not a parameter of this page, only {', '.join(sorted(known))} are")
        if name in values:
            raise ViewError(name, "is given twice")
        values[name] = _from_text(name, text)
    return VIEWS[kind](**values)


@dataclass(frozen=True)
class Lenient:
    """What could be understood of a link: the view, and one `ViewError` for each value that was left out."""

    view: View
    problems: tuple[ViewError, ...]

    @classmethod
    def of(cls, kind: str, items: Sequence[tuple[str, str]]) -> Self:
        """Read as much as possible of a link of a known kind."""
        rest = list(items)
        problems: list[ViewError] = []
        while True:
            try:
                return cls(from_pairs(kind, rest), tuple(problems))
            except ViewError as error:
                problems.append(error)
                fewer = [item for item in rest if _shown(item[0]) != error.parameter and item[0] != error.parameter]
                rest = fewer if len(fewer) < len(rest) else []


def _to_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ".".join(f"{low}-{high}" if high > low else f"{low}" for low, high in _ranges(value))
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)


def _from_text(name: str, text: str) -> Any:
    if name in ("run", "path"):
        return text
    if name == "truncation":
        if not SHARE.fullmatch(text):
            raise ViewError(name, f"must be a number from 0 to 1 with at most two decimals: got {_shown(text)}")
        return float(text)
    if name == "digits":
        if not DIGITS.fullmatch(text):
            raise ViewError(name, f"must be digits and ranges, such as 7 or 0-3.8: got {_shown(text)}")
        ends = [[int(end) for end in part.split("-")] for part in text.split(".")]
        return tuple(sorted({digit for low, *high in ends for digit in range(low, (high or [low])[0] + 1)}))
    if not WHOLE.fullmatch(text):
        raise ViewError(name, f"must be a whole number of at least 0: got {_shown(text)}")
    return int(text)


def _ranges(digits: Sequence[int]) -> list[tuple[int, int]]:
    """(first, last) of each run of three or more neighbours, and of each other digit."""
    runs: list[list[int]] = []
    for digit in digits:
        if runs and digit == runs[-1][-1] + 1:
            runs[-1].append(digit)
        else:
            runs.append([digit])
    return [
        pair for run in runs for pair in ([(run[0], run[-1])] if len(run) > 2 else [(digit, digit) for digit in run])
    ]


def _check_range(name: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:  # false for nan
        raise ViewError(name, f"must be between {low} and {high}: got {value}")


def _shown(text: str) -> str:
    """A stranger's text for a message: quoted, printable and short."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
