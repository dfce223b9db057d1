"""Views that draw pictures, and their permalinks.

A view names every value of its pictures, so that together with a generator it determines each pixel.
`models.pictures.frames` draws it.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from models.attributes import ATTRIBUTES
from models.config import MAX_WRITER
from models.quiz import ROUNDS
from models.sampling import MAX_SEED
from models.view_link import Corners, OwnSeeds, Stops, View, ViewError, check_range, from_pairs, pairs, quoted
from models.writing import COLOUR, COLOURS, DIGITS, SIGNS

MAX_CLASS = 999
MAX_COUNT = 20
"""Limit of the pictures of each digit."""
MAX_PICTURES = 2000
"""Limit of the pictures of a grid."""
MAX_STOPS = 8
"""Limit of the pictures that an interpolation visits, both ends included."""
MIN_FRAMES, MAX_FRAMES = 2, 64
"""Limits of the frames of one leg of an interpolation, both of its ends included."""
MAX_ALL_FRAMES = 192
"""Limit of the frames of an interpolation."""
MAX_FPS = 30
ANSWERS = re.compile(rf"[01]{{{ROUNDS}}}")
PATHS = ("slerp", "lerp")
"""Ways between two latents: along the arc, or along the straight line. Functions of `models.sampling`."""
PLAYS = ("", "loop", "once")
"""Ways to play an interpolation: there and back (an empty text), in a loop from its start, or once."""
MAX_TEXT = 24
"""Limit of the characters of a text."""
MAX_SPACING = 16
STYLES = ("same", "free")
"""Styles of a text: the same seed for all digits, or one for each."""


@dataclass(frozen=True, kw_only=True)
class DrawingView(View, ABC):
    """A view that a generator draws."""

    slant: float | None = None
    """Slant of all pictures in degrees, with at most two decimals; None: as the seeds have it."""
    thickness: float | None = None
    """Thickness of all strokes in pixels; None: as the seeds have it."""
    width: float | None = None
    """Width of all pictures in pixels; None: as the seeds have it."""
    writer: int | None = None
    """Number of the writer of all pictures; None: anyone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.writer is not None:
            check_range("writer", self.writer, 0, MAX_WRITER)
        for name, value in self.asked.items():
            if name == "writer":
                continue
            check_range(name, value, ATTRIBUTES[name].least, ATTRIBUTES[name].most)
            if round(value, 2) != value:
                raise ViewError(name, f"must have at most two decimals: got {value}")

    @property
    def asked(self) -> dict[str, float]:
        """Attributes and the writer that are asked for, by name."""
        values = {name: getattr(self, name) for name in (*ATTRIBUTES, "writer")}
        return {name: value for name, value in values.items() if value is not None}

    def explicit(self, num_classes: int, asks: Sequence[str] = (), writers: Collection[int] = ()) -> Self:
        """Return the view with each digit named, for a generator of `num_classes` classes (0: without classes).

        Raises `ViewError` for a digit that the generator cannot draw, for an attribute that is not in `asks`, and for a
        writer who is not in `writers`.
        """
        for name in self.asked:
            if name not in asks:
                raise ViewError(name, "cannot be chosen: this generator draws without it")
        if self.writer is not None and self.writer not in writers:
            raise ViewError("writer", f"cannot be chosen: this generator does not know writer {self.writer}")
        return self._explicit(num_classes)

    @abstractmethod
    def _explicit(self, num_classes: int) -> Self:
        """Return the view with each digit named; see `explicit`."""


@dataclass(frozen=True, kw_only=True)
class GenerateView(DrawingView):
    """A grid of pictures of chosen digits: picture k of each digit uses seed + k."""

    kind = "generate"

    digits: tuple[int, ...] | None = None
    """Classes to draw, ascending; None: all classes of the generator."""
    count: int = 10
    """Pictures of each digit."""
    seed: int = 0
    truncation: float = 1.0
    """Factor for the latents, with at most two decimals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_grid(self.digits, self.count, self.seed, MAX_COUNT)
        check_truncation(self.truncation)

    def _explicit(self, num_classes: int) -> Self:
        """See `DrawingView.explicit`. Raises `ViewError` for more than `MAX_PICTURES` pictures, too."""
        digits = tuple(range(num_classes)) if self.digits is None else self.digits
        for digit in digits:
            check_class("digits", digit, num_classes)
        if len(digits) * self.count > MAX_PICTURES:
            raise ViewError("digits", f"{len(digits)} digits x {self.count} are more than {MAX_PICTURES} pictures")
        return dataclasses.replace(self, digits=digits or None)


@dataclass(frozen=True, kw_only=True)
class ExploreView(GenerateView):
    """One large picture of the plane between four seeds, the hero, and a grid of pictures."""

    kind = "explore"

    digit: int | None = None
    """Class of the hero; None: the first class of the grid."""
    corners: Corners | None = None
    """Seeds at (x, y) = (0, 0), (1, 0), (0, 1) and (1, 1); None: seed, seed + 1, seed + 2 and seed + 3."""
    x: float = 0.0
    """Position of the hero, with at most three decimals."""
    y: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.digit is not None:
            check_range("digit", self.digit, 0, MAX_CLASS)
        for seed in self.corners or ():
            check_range("corners", seed, 0, MAX_SEED)
        for name in ("x", "y"):
            check_range(name, getattr(self, name), 0, 1)
            if round(getattr(self, name), 3) != getattr(self, name):
                raise ViewError(name, f"must have at most three decimals: got {getattr(self, name)}")

    def _explicit(self, num_classes: int) -> Self:
        """See `DrawingView.explicit`."""
        grid = super()._explicit(num_classes)
        digit = grid.digits[0] if self.digit is None and grid.digits else self.digit
        if digit is not None:
            check_class("digit", digit, num_classes)
        a, b, c, d = self.corners or ((self.seed + k) % (MAX_SEED + 1) for k in range(4))
        return dataclasses.replace(grid, digit=digit, corners=(a, b, c, d))


@dataclass(frozen=True, kw_only=True)
class InterpolateView(DrawingView):
    """The way from one picture to another, over further stops if there are any; a stop is a digit and a seed."""

    kind = "interpolate"

    from_digit: int | None = None
    """None: the generator has no classes, or the app chooses one."""
    from_seed: int = 1
    to_digit: int | None = None
    to_seed: int = 2
    path: str = "slerp"
    """One of `PATHS`."""
    frames: int = 24
    """Frames of one leg, from a stop to the next, both included. The legs share the frames of their stops."""
    via: Stops = ()
    """Stops between the two ends."""
    frame: int | None = None
    """The frame that is shown, counted from 0; None: the pictures are played."""
    play: str = ""
    """One of `PLAYS`."""
    fps: int | None = None
    """Frames per second; None: the app's own speed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for end in ("from", "to"):
            digit = getattr(self, f"{end}_digit")
            if digit is not None:
                check_range(f"{end}_digit", digit, 0, MAX_CLASS)
            check_range(f"{end}_seed", getattr(self, f"{end}_seed"), 0, MAX_SEED)
        if self.path not in PATHS:
            raise ViewError("path", f"must be {' or '.join(PATHS)}: got {quoted(self.path)}")
        check_range("frames", self.frames, MIN_FRAMES, MAX_FRAMES)
        if len(self.via) + 2 > MAX_STOPS:
            raise ViewError("via", f"must be at most {MAX_STOPS - 2} stops: got {len(self.via)}")
        for _, seed in self.via:
            check_range("via", seed, 0, MAX_SEED)
        if self.number > MAX_ALL_FRAMES:
            raise ViewError("frames", f"must make at most {MAX_ALL_FRAMES} frames over all legs: got {self.number}")
        if self.frame is not None:
            check_range("frame", self.frame, 0, self.number - 1)
        if self.play not in PLAYS:
            raise ViewError("play", f"must be loop or once: got {quoted(self.play)}")
        if self.fps is not None:
            check_range("fps", self.fps, 1, MAX_FPS)

    @property
    def stops(self) -> Stops:
        """All stops, with both ends."""
        return ((self.from_digit, self.from_seed), *self.via, (self.to_digit, self.to_seed))

    @property
    def number(self) -> int:
        """Number of all frames."""
        return (len(self.via) + 1) * (self.frames - 1) + 1

    def _explicit(self, num_classes: int) -> Self:
        """See `DrawingView.explicit`."""
        names = ("from_digit", *["via"] * len(self.via), "to_digit")
        for name, (digit, _) in zip(names, self.stops, strict=True):
            if digit is not None:
                check_class(name, digit, num_classes)
            elif name == "via" and num_classes:
                raise ViewError("via", "must name a digit for each stop")
        if not num_classes:
            return self
        first, last = (min(digit, num_classes - 1) for digit in (3, 8))
        return dataclasses.replace(
            self,
            from_digit=first if self.from_digit is None else self.from_digit,
            to_digit=last if self.to_digit is None else self.to_digit,
        )


@dataclass(frozen=True, kw_only=True)
class QuizView(DrawingView):
    """A game of Real or fake?, played or not: `models.quiz.rounds` says what its rounds show.

    A generator draws one picture of each round, in order. The real pictures are not part of the view.
    """

    kind = "quiz"

    seed: int = 0
    answers: str = ""
    """The picture that the visitor took for real in each round, 0 = left and 1 = right; empty: not played."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.asked:
            raise ViewError(name, "cannot be chosen in a quiz")
        check_range("seed", self.seed, 0, MAX_SEED)
        if self.answers and not ANSWERS.fullmatch(self.answers):
            raise ViewError("answers", f"must be {ROUNDS} times 0 (left) or 1 (right): got {quoted(self.answers)}")

    def _explicit(self, num_classes: int) -> Self:
        """See `DrawingView.explicit`; the digits follow from the seed."""
        return self


@dataclass(frozen=True, kw_only=True)
class WriteView(DrawingView):
    """A text of digits in handwriting, a picture for each digit; see `models.writing` for signs and colours."""

    kind = "write"

    text: str = "2026"
    """Digits, spaces and the signs of `models.writing.SIGNS`; at least one digit."""
    style: str = "same"
    """One of `STYLES`. If it is free, digit k of the text uses seed + k, where 0 follows the last seed."""
    seed: int = 0
    own: OwnSeeds = ()
    """Digits that have seeds of their own, ascending. The number of a digit is its place among those of the text."""
    truncation: float = 1.0
    """Factor for the latents, with at most two decimals."""
    spacing: int = 3
    """Pixels between two glyphs."""
    ink: str = "black"
    """One of `models.writing.COLOURS`, or a colour such as #1f3fa0."""
    paper: str = "white"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text(self.text)
        if self.style not in STYLES:
            raise ViewError("style", f"must be {' or '.join(STYLES)}: got {quoted(self.style)}")
        check_range("seed", self.seed, 0, MAX_SEED)
        numbers = [number for number, _ in self.own]
        if numbers != sorted(set(numbers)):
            raise ViewError("own", "must be different digits of the text in ascending order")
        for number, seed in self.own:
            check_range("own", number, 0, len(self.digits) - 1)
            check_range("own", seed, 0, MAX_SEED)
        check_truncation(self.truncation)
        check_range("spacing", self.spacing, 0, MAX_SPACING)
        for name in ("ink", "paper"):
            colour = getattr(self, name)
            if colour not in COLOURS and not COLOUR.fullmatch(colour):
                known = ", ".join(COLOURS)
                raise ViewError(name, f"must be one of {known}, or a colour such as #1f3fa0: got {quoted(colour)}")

    @property
    def digits(self) -> tuple[int, ...]:
        """The digits of the text."""
        return tuple(int(character) for character in self.text if character in DIGITS)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each digit."""
        own = dict(self.own)
        step = 1 if self.style == "free" else 0
        return tuple(own.get(k, (self.seed + k * step) % (MAX_SEED + 1)) for k in range(len(self.digits)))

    def _explicit(self, num_classes: int) -> Self:
        """See `DrawingView.explicit`."""
        for digit in self.digits:
            check_class("text", digit, num_classes)
        return self


def check_grid(digits: tuple[int, ...] | None, count: int, seed: int, most: int) -> None:
    """Raise `ViewError` unless these are a grid: digits, ascending, with `count` pictures of each, at most `most`."""
    if digits is not None:
        if not digits or list(digits) != sorted(set(digits)):
            raise ViewError("digits", "must be different digits in ascending order")
        for digit in digits:
            check_range("digits", digit, 0, MAX_CLASS)
    check_range("count", count, 1, most)
    check_range("seed", seed, 0, MAX_SEED + 1 - count)


def check_truncation(truncation: float) -> None:
    """Raise `ViewError` unless this is a factor for latents."""
    check_range("truncation", truncation, 0, 1)
    if round(truncation, 2) != truncation:
        raise ViewError("truncation", f"must have at most two decimals: got {truncation}")


def check_text(text: str) -> None:
    """Raise `ViewError` for a text that cannot be written."""
    if not 1 <= len(text) <= MAX_TEXT:
        raise ViewError("text", f"must have 1 to {MAX_TEXT} characters: got {len(text)}")
    for character in text:
        if character not in f"{DIGITS} " and character not in SIGNS:
            raise ViewError("text", f"must be of digits, spaces and {' '.join(SIGNS)}: got {quoted(character)}")
    if not any(character in DIGITS for character in text):
        raise ViewError("text", "must have at least one digit")


def check_class(name: str, digit: int, num_classes: int) -> None:
    """Raise `ViewError` unless a generator of `num_classes` classes can draw `digit`."""
    if not num_classes:
        raise ViewError(name, "cannot be chosen: this generator draws without classes")
    check_range(name, digit, 0, num_classes - 1)


DRAWING_VIEWS: dict[str, type[DrawingView]] = {
    view.kind: view for view in (GenerateView, ExploreView, InterpolateView, WriteView, QuizView)
}
"""Kind -> class of each view that draws pictures."""

# --- Permalinks

VERSION = "1"
"""Version of permalinks. It fixes how latents are drawn, and the default of each value that a link leaves out."""
PX_LENGTH = 16
"""Hex digits of the SHA-256 of the pixels in a permalink."""
PX = re.compile(rf"[0-9a-f]{{{PX_LENGTH}}}")
SHARE_PATH = "s"
MAX_LINK = 4000
"""Limit of the characters of a link."""


@dataclass(frozen=True)
class Permalink:
    """A view, and the digest of its pixels, which is empty in a link that does not state it."""

    view: DrawingView
    px: str = ""

    @property
    def query(self) -> str:
        """The query string: version, kind, all values of the view, and the digest."""
        items = [("v", VERSION), ("kind", self.view.kind), *pairs(self.view)]
        return urlencode([*items, *([("px", self.px)] if self.px else [])], safe="/")

    @property
    def text(self) -> str:
        """The permalink, relative to the app's URL."""
        return f"{SHARE_PATH}?{self.query}"


def from_query(items: Sequence[tuple[str, str]]) -> Permalink:
    """Read the query of a permalink. Raises `ViewError` for the first bad value."""
    own: dict[str, str] = {}
    rest: list[tuple[str, str]] = []
    for name, value in items:
        if name not in ("v", "kind", "px"):
            rest.append((name, value))
        elif name in own:
            raise ViewError(name, "is given twice")
        else:
            own[name] = value
    if own.get("v", VERSION) != VERSION:
        raise ViewError("v", f"must be {VERSION}; this link is of another version: {quoted(own['v'])}")
    if own.get("kind") not in DRAWING_VIEWS:
        raise ViewError("kind", f"must be one of {', '.join(DRAWING_VIEWS)}: got {quoted(own.get('kind', ''))}")
    if "px" in own and not PX.fullmatch(own["px"]):
        raise ViewError("px", f"must be the first {PX_LENGTH} hex digits of a SHA-256: got {quoted(own['px'])}")
    return Permalink(from_pairs(DRAWING_VIEWS[own["kind"]], rest), own.get("px", ""))


def read_link(text: str) -> Permalink:
    """Read a link in any form: a permalink, the URL of a page, or the canonical text of a view, such as in a PNG.

    Raises `ViewError`.
    """
    if len(text) > MAX_LINK:
        raise ViewError("link", f"must have at most {MAX_LINK} characters: got {len(text)}")
    try:
        parts = urlsplit(text.strip())
        items = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=50)
    except ValueError as error:
        raise ViewError("link", f"is not a link: {quoted(text)} ({error})") from error
    kind = parts.path.rstrip("/").rpartition("/")[2]
    if any(name == "kind" for name, _ in items):
        return from_query(items)
    if kind in DRAWING_VIEWS:
        return Permalink(from_pairs(DRAWING_VIEWS[kind], items))
    if not kind or parts.scheme:  # the URL of the app's first page
        return Permalink(from_pairs(ExploreView, items))
    raise ViewError("link", f"must be the link of a picture, such as generate?digits=7: got {quoted(text)}")
