"""Prompts: a small grammar for what a generator is to draw, such as `a thick, strongly slanted seven, seed 7`.

docs/words.md has the grammar and the meaning of each word.
"""

import difflib
import functools
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from models.attributes import AttributeTable
from models.generator_file import LoadedGenerator
from models.sampling import MAX_SEED
from models.view_link import quoted

MAX_PROMPT = 200
"""Limit of the characters of a prompt."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_WORDS = {
    **{word: digit for digit, word in enumerate(DIGITS)},
    **{word + ("es" if word == "six" else "s"): digit for digit, word in enumerate(DIGITS)},
    "zeroes": 0,
}
DEGREES = {
    "slightly": 0.5,
    "little": 0.5,
    "bit": 0.5,
    "somewhat": 1.0,
    "quite": 1.5,
    "very": 2.0,
    "strongly": 2.0,
    "extremely": 2.5,
}
"""Words before an adjective -> how far it goes, in standard units."""
PLAIN = 1.5
"""Strength of an adjective without such a word."""
ADJECTIVES = {
    "thin": ("thickness", -1),
    "fine": ("thickness", -1),
    "light": ("thickness", -1),
    "thick": ("thickness", 1),
    "bold": ("thickness", 1),
    "heavy": ("thickness", 1),
    "narrow": ("width", -1),
    "wide": ("width", 1),
    "broad": ("width", 1),
}
"""Adjective -> its attribute and its sign."""
LEANING = ("slanted", "slanting", "leaning", "tilted")
UPRIGHT = ("upright", "straight", "vertical")
DIRECTIONS = {"right": 1, "forward": 1, "forwards": 1, "left": -1, "backward": -1, "backwards": -1}
"""Direction of a slant -> its sign."""
SLANT = 10
"""Degrees of slant for each standard unit in `DEGREES`. Words of slant count from upright and not from the median:
that of MNIST's 0 leans 12 degrees to the right, so a 0 half a unit to the left of it would still lean right."""
_PIXELS = ("px", "pixels", "pixel")
UNITS = {
    "slant": ("degrees", "degree", "deg", "\N{DEGREE SIGN}"),
    "thickness": _PIXELS,
    "width": _PIXELS,
}
"""Attribute -> words for its unit; the first one is used in messages."""
VARIETY = {"average": 0.0, "typical": 0.5, "varied": 1.0}
"""Word -> its truncation."""
NUMBERED = ("seed", "writer", "truncation", *UNITS)
"""Words that a number follows."""
NOUNS = ("digit", "digits", "number", "numbers", "class", "classes", "picture", "pictures")
"""Words for what is drawn; alone, they leave the class open."""
FILLERS = ("a", "an", "the", "and", "with", "handwritten", ",", ";", ".")
"""Words and signs between the parts, without a meaning."""
HANDS = (("in", "the", "hand", "of"), ("by",), ("of",))
"""Words that may come before `writer`."""

_TOKEN = re.compile(
    r"""
      \s+
    | (?<=[^\W\d_])-(?=[^\W\d_])                        # a hyphen within a word counts as a space
    | (?P<name>"[^"]*")
    | (?P<number>((?<![^\s=:])[+-])?[.]?[0-9]+([.,][0-9]+)*)
    | (?P<word>[^\W\d_]+)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)")
_WHOLE = re.compile(r"[0-9]+")
_FIGURE = re.compile(r"0|[1-9][0-9]{0,5}")
_UNITS = frozenset(unit for units in UNITS.values() for unit in units)
_WITHIN = {
    **{word: "to a writer, such as 'in the hand of writer 7'" for hand in HANDS for word in hand},
    **{unit: "to a number, such as '14 px wide'" for unit in _UNITS},
    "to": "to a slant, such as 'slanted to the left'",
}
"""Words that begin no part -> where they belong."""


@dataclass(frozen=True)
class Abilities:
    """Abilities of a generator: the digits, attributes and writers that it can be asked for."""

    num_classes: int = 10
    """0: it draws without classes."""
    class_names: tuple[str, ...] = ()
    """Names of class 0, 1, ...; empty = classes have only numbers."""
    attributes: tuple[str, ...] = ()
    """Some of `models.attributes.ATTRIBUTES`."""
    writers: Collection[int] = ()
    """Numbers of the writers."""

    @classmethod
    def of(cls, loaded: LoadedGenerator) -> Self:
        """Return what a generator can be asked for."""
        return cls(loaded.config.num_classes, loaded.class_names, loaded.config.attributes, loaded.writers)

    def called(self, control: str) -> str:
        """Return the word for a control: `digit` is a class where classes have names, or more than ten numbers."""
        return "class" if control == "digit" and (self.class_names or self.num_classes > 10) else control


@dataclass(frozen=True)
class Asked:
    """A value of an attribute."""

    attribute: str
    value: float
    is_standard: bool = False
    """Unit of `value`: standard deviations from the median of the class; otherwise degrees or pixels."""
    is_exact: bool = True
    """Kind of the value: whether it was a number. For a word, a class that does not reach it goes as far as it does."""

    def of(self, table: AttributeTable, label: int) -> float:
        """Return the value in degrees or pixels for a class, with at most two decimals, as links have it.

        Raises `ValueError` for a number that the class does not reach.
        """
        column = table.names.index(self.attribute)
        value = self.value
        if self.is_standard:
            scores = np.full((1, len(table.names)), self.value)
            value = float(table.to_values(scores, np.array([label]))[0, column])
        low, high = table.reach(self.attribute, label)
        if not self.is_exact:
            return min(max(round(value, 2), math.ceil(100 * low) / 100), math.floor(100 * high) / 100)
        if not low <= value <= high:
            unit = UNITS[self.attribute][0]
            raise ValueError(
                f"{self.attribute} must be between {low:.1f} and {high:.1f} {unit} for class {label}: got {value:g}"
            )
        return value


@dataclass(frozen=True)
class Move:
    """A part of a prompt, and the control that it moves."""

    words: str
    """Words as they were typed, with one space between them."""
    control: str
    """`digit`, `slant`, `thickness`, `width`, `writer`, `seed` or `truncation`."""
    setting: str
    """What it is set to. For an attribute: `+1.5` in standard units, `+20 degrees` or `3.5 px`."""


@dataclass(frozen=True)
class Prompt:
    """What a prompt asks for. None: it does not say."""

    digit: int | None = None
    """The class."""
    asked: tuple[Asked, ...] = ()
    """Attributes, each at most once."""
    writer: int | None = None
    seed: int | None = None
    truncation: float | None = None
    moves: tuple[Move, ...] = ()
    """Each part of the prompt that sets something, in order."""

    def values(self, table: AttributeTable | None, label: int) -> dict[str, float]:
        """Return the attributes in degrees and pixels for a class, and the writer, by name.

        Raises `ValueError` for attributes that the class does not reach.
        """
        attributes = {asked.attribute: asked.of(table, label) for asked in self.asked} if table else {}
        return attributes if self.writer is None else attributes | {"writer": self.writer}


def read_prompt(text: str, abilities: Abilities) -> Prompt:
    """Return what a prompt asks of a generator.

    Raises `ValueError`, with the word in its message, for a text that is not of the grammar, that sets a control twice,
    or that asks for what the generator cannot do.
    """
    if len(text) > MAX_PROMPT:
        raise ValueError(f"a prompt has at most {MAX_PROMPT} characters: got {len(text)}")
    return _Reader(text, abilities).read()


@dataclass(frozen=True)
class _Token:
    text: str
    """As it was typed."""
    kind: str | None
    """`word`, `number`, `name` (in quotation marks) or `sign`."""
    start: int
    end: int

    @property
    def key(self) -> str:
        return self.text.casefold()


def _tokens(text: str) -> list[_Token]:
    text = re.sub("[\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}]", '"', text)
    text = text.replace("\N{MINUS SIGN}", "-")
    return [_Token(found[0], found.lastgroup, *found.span()) for found in _TOKEN.finditer(text) if found.lastgroup]


_END = _Token("", None, 0, 0)


class _Reader:
    """Reads a prompt from left to right.

    Methods that read a part of it get the number of its first token, for messages, and leave `at` behind its last one.
    """

    def __init__(self, text: str, abilities: Abilities) -> None:
        self.text, self.abilities = text, abilities
        self.tokens, self.at = _tokens(text), 0
        self.names = _names(abilities.class_names)
        self.longest = max((name.count(" ") + 1 for name in self.names), default=0)
        self.prompt = Prompt()

    def read(self) -> Prompt:
        if all(token.key in FILLERS for token in self.tokens):
            raise ValueError("the prompt asks for nothing; it may be such as 'a thick, strongly slanted seven'")
        for token in self.tokens:
            if token.kind == "number" and not _NUMBER.fullmatch(token.text):
                raise ValueError(f"{quoted(token.text)} is not a number; write it as 1784 or 3.5")
        while self.at < len(self.tokens):
            self._part(self.at)
        return self.prompt

    # --- Tokens

    def _next(self, ahead: int = 0) -> _Token:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else _END

    def _take(self, *words: str) -> str:
        """Return the next word and go on, if it is one of `words`; otherwise return an empty text."""
        key = self._next().key
        if key not in words:
            return ""
        self.at += 1
        return key

    def _follow(self, *words: str) -> bool:
        """Return whether these words come next."""
        return all(self._next(ahead).key == word for ahead, word in enumerate(words))

    def _has_value(self, units: Collection[str] = _UNITS, ahead: int = 0) -> bool:
        """Return whether a number with one of these units comes next."""
        return self._next(ahead).kind == "number" and self._next(ahead + 1).key in units

    def _said(self, start: int) -> str:
        """Return the text from a token up to here."""
        return self.text[self.tokens[start].start : self.tokens[self.at - 1].end]

    def _name(self, shortest: int) -> int | None:
        """Return the class whose name comes next and go on after it; None if there is none.

        The longest name counts, of at least `shortest` words or in quotation marks.
        """
        token = self._next()
        if token.kind == "name":
            typed = [(1, _joined(_tokens(token.text[1:-1])))]
        else:
            coming = self.tokens[self.at : self.at + self.longest]
            typed = [(count, _joined(coming[:count])) for count in range(len(coming), shortest - 1, -1)]
        for count, name in typed:
            label = self.names.get(name, self.names.get(name.casefold()))
            if label is not None:
                self.at += count
                return label
        return None

    # --- Parts

    def _part(self, start: int) -> None:
        """Read one part. Words of the grammar come before names of classes of one word, unless these are in quotes."""
        token = self._next()
        if (label := self._name(shortest=2)) is not None:
            self._set_digit(label, start)
        elif self._take(*FILLERS, *NOUNS):
            pass
        elif token.key in NUMBERED or any(self._follow(*words, "writer") for words in HANDS):
            self._numbered(start)
        elif token.key in (*DEGREES, *DIRECTIONS, *ADJECTIVES, *LEANING, *UPRIGHT) or self._has_value():
            self._attribute(start)
        elif word := self._take(*VARIETY):
            self._set("truncation", start, f"{VARIETY[word]:g}", truncation=VARIETY[word])
        elif (label := self._name(shortest=1)) is not None:
            self._set_digit(label, start)
        elif word := self._take(*DIGIT_WORDS):
            self._set_digit(DIGIT_WORDS[word], start)
        elif token.kind == "number":
            self._figure(start)
        else:
            raise ValueError(self._unexpected(token))

    def _figure(self, start: int) -> None:
        """Read a class in figures, also in the plural: `7`, `7s`."""
        token = self._next()
        self.at += 1
        if self._next().key == "s" and self._next().start == token.end:
            self.at += 1
        if not _FIGURE.fullmatch(token.text):
            raise ValueError(f"{quoted(token.text)} is not a class, and the number of a value needs its name or unit")
        self._set_digit(int(token.text), start)

    def _numbered(self, start: int) -> None:
        """Read a control with its number: `seed 7`, `in the hand of writer 2154`, `slant of -5 degrees`."""
        while not (control := self._take(*NUMBERED)):
            self.at += 1
        self._take("of", "=", ":")
        if self._next().kind != "number":
            raise ValueError(f"{quoted(self._said(start))} needs a number after it{self._instead()}")
        number = self._next().text
        if control in UNITS:
            self._set_value(control, *self._value(), start)
            return
        self.at += 1
        if control == "truncation":
            if not 0 <= float(number) <= 1 or round(float(number), 2) != float(number):
                raise ValueError(f"truncation must be from 0 to 1, with at most two decimals: got {quoted(number)}")
            self._set(control, start, f"{float(number):g}", truncation=float(number))
            return
        if not _WHOLE.fullmatch(number):
            raise ValueError(f"{control} must be a whole number of at least 0: got {quoted(number)}")
        if control == "seed":
            if int(number) > MAX_SEED:
                raise ValueError(f"seed must be between 0 and {MAX_SEED}: got {quoted(number)}")
            self._set(control, start, str(int(number)), seed=int(number))
        else:
            if not self.abilities.writers:
                raise ValueError(f"{quoted(self._said(start))}: this generator has no writers")
            if int(number) not in self.abilities.writers:
                raise ValueError(f"{quoted(self._said(start))}: this generator does not know that writer")
            self._set(control, start, str(int(number)), writer=int(number))

    def _attribute(self, start: int) -> None:
        """Read an adjective, with how far it goes before it: `very thin`, `14 px wide`, `slightly slanted to the left`.

        A slant has its direction before or after the adjective, and its value, too.
        """
        value = self._value() if self._has_value() else None
        degree = "" if value else self._take(*DEGREES)
        before = self._said(start) if value or degree else ""
        direction = self._take(*DIRECTIONS)
        if not direction and (upright := self._take(*UPRIGHT)):
            if before:
                raise ValueError(f"{quoted(before)} cannot stand before {quoted(upright)}, which is a slant of 0")
            self._set_value("slant", 0.0, "", start, is_exact=False)
        elif self._take(*LEANING):
            self._slant(value, degree, direction, start)
        elif direction:
            raise ValueError(f"{quoted(direction)} goes with a slant, such as 'slanted {direction}'{self._instead()}")
        elif value and (attribute := self._take(*UNITS)):
            self._set_value(attribute, *value, start)
        elif adjective := self._take(*ADJECTIVES):
            attribute, sign = ADJECTIVES[adjective]
            if value and sign < 0:
                raise ValueError(f"{quoted(self._said(start))}: a value goes with thick, wide or slanted")
            if value:
                self._set_value(attribute, *value, start)
            else:
                self._set_standard(attribute, sign * DEGREES.get(degree, PLAIN), start)
        else:
            raise ValueError(f"{quoted(before)} needs an adjective after it, such as thick{self._instead()}")

    def _slant(self, value: tuple[float, str] | None, degree: str, direction: str, start: int) -> None:
        """Read what follows `slanted`, and set the slant."""
        direction = direction or self._direction()
        if self._has_value(UNITS["slant"], ahead=1 if self._follow("by") else 0):
            self._take("by")
            if value or degree:
                raise ValueError(f"{quoted(self._said(start))} is followed by another value: say once how far")
            value = self._value()
            direction = direction or self._direction()
        number, unit = value or (SLANT * DEGREES.get(degree, PLAIN), "")
        is_exact = value is not None
        if direction and number < 0:
            raise ValueError(
                f"{quoted(self._said(start))}: a negative slant leans left; leave out the sign or the word"
            )
        self._set_value("slant", number * DIRECTIONS.get(direction, 1), unit, start, is_exact)

    def _direction(self) -> str:
        """Read a direction, such as `left` or `to the left`; return an empty text if none comes next."""
        if self._follow("to", "the") and self._next(2).key in DIRECTIONS:
            self.at += 2
        return self._take(*DIRECTIONS)

    def _value(self) -> tuple[float, str]:
        """Read a number, and its unit if it has one."""
        number = float(self._next().text)
        self.at += 1
        return number, self._take(*_UNITS)

    # --- Results

    def _set(self, control: str, start: int, setting: str, **changes: Any) -> None:
        words = " ".join(self._said(start).split())
        for move in self.prompt.moves:
            if move.control == control:
                raise ValueError(
                    f"{quoted(move.words)} and {quoted(words)} both set the {self.abilities.called(control)}"
                )
        moves = (*self.prompt.moves, Move(words, control, setting))
        self.prompt = replace(self.prompt, moves=moves, **changes)

    def _set_digit(self, label: int, start: int) -> None:
        number, names = self.abilities.num_classes, self.abilities.class_names
        if not number:
            raise ValueError(f"{quoted(self._said(start))}: this generator draws without classes")
        if label >= number:
            raise ValueError(f"{quoted(self._said(start))}: this generator draws the classes 0 to {number - 1}")
        self._set("digit", start, names[label] if names else str(label), digit=label)

    def _set_value(self, attribute: str, value: float, unit: str, start: int, is_exact: bool = True) -> None:
        units = UNITS[attribute]
        if unit and unit not in units:
            raise ValueError(f"{quoted(self._said(start))}: {attribute} is measured in {units[0]}")
        value += 0.0  # never -0
        if attribute != "slant" and value <= 0:
            raise ValueError(f"{quoted(self._said(start))}: {attribute} must be greater than 0")
        if round(value, 2) != value:
            raise ValueError(f"{quoted(self._said(start))}: {attribute} has at most two decimals")
        text = f"{value:+g}" if value and attribute == "slant" else f"{value:g}"
        self._ask(Asked(attribute, value, is_exact=is_exact), f"{text} {units[0]}", start)

    def _set_standard(self, attribute: str, value: float, start: int) -> None:
        self._ask(Asked(attribute, value, is_standard=True, is_exact=False), f"{value:+g}", start)

    def _ask(self, asked: Asked, setting: str, start: int) -> None:
        if asked.attribute not in self.abilities.attributes:
            raise ValueError(f"{quoted(self._said(start))}: this generator does not take a {asked.attribute}")
        self._set(asked.attribute, start, setting, asked=(*self.prompt.asked, asked))

    # --- Messages

    def _instead(self) -> str:
        return f": got {quoted(self._next().text)}" if self._next().text else ""

    def _unexpected(self, token: _Token) -> str:
        """Say why a token cannot begin a part."""
        known = [*NUMBERED, *DEGREES, *ADJECTIVES, *LEANING, *UPRIGHT, *DIRECTIONS, *VARIETY, *DIGIT_WORDS, *NOUNS]
        if token.key in _WITHIN:
            return f"{quoted(token.text)} cannot stand here; it belongs {_WITHIN[token.key]}"
        nearest = difflib.get_close_matches(token.key.strip('"'), [*known, *_UNITS, *self.names], n=1)
        if nearest:
            return f"{quoted(token.text)} is not known; the nearest word is {quoted(nearest[0])}"
        words = ", ".join([*LEANING[:1], *UPRIGHT[:1], *ADJECTIVES, *DEGREES, *VARIETY, *NUMBERED])
        names = ", ".join(quoted(name) for name in self.abilities.class_names[:10])
        return f"{quoted(token.text)} is not known; known are {names or 'zero to nine'}, {words}"


def _joined(tokens: list[_Token]) -> str:
    return " ".join(token.text for token in tokens)


@functools.lru_cache(maxsize=8)
def _names(class_names: tuple[str, ...]) -> dict[str, int]:
    """Return the class of each name, as its tokens with spaces between them, also in lower case and in the plural.

    A name such as T-shirt/top counts for each of its parts. Names that differ in nothing but capitals stay apart.
    """
    names: dict[str, int] = {}
    parts = [(part, label) for label, name in enumerate(class_names) for part in (name, *name.split("/"))]
    tokens = [(_joined(_tokens(part)), label) for part, label in parts if part]
    for ending in ("", "s", "es"):
        for fold in (str, str.casefold):
            for name, label in tokens:
                names.setdefault(fold(name + ending), label)
    return names
