"""The classes of a generator in words: digits, or classes with names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


def plain(text: str) -> str:
    """Escape a text from outside, so that Markdown shows it unchanged and makes no link of a URL in it."""
    # Markdown finds URLs and mail addresses in spite of escapes, but not with an invisible character in them.
    text = re.sub(r"://|www(?=\.)|@", "\\g<0>\u2060", text, flags=re.IGNORECASE)
    return re.sub(r"([\\`*_{}\[\]<>#$:~|!&])", r"\\\1", text)


def slug(text: str) -> str:
    """Turn a text into a part of a file name: `T-shirt/top` becomes `t-shirt-top`. May be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True)
class Classes:
    """The classes of a generator: digits, or classes with names."""

    number: int
    """Number of classes; 0: the generator has none."""
    names: tuple[str, ...] = ()
    """Names of classes 0, 1, ...; empty if the classes are shown by number."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels of all classes."""
        return tuple(range(self.number))

    @property
    def noun(self) -> str:
        """Word for one class."""
        return "class" if self.names or self.number > 10 else "digit"

    @property
    def nouns(self) -> str:
        """Word for several classes."""
        return {"class": "classes", "digit": "digits"}[self.noun]

    @property
    def things(self) -> str:
        """Word for what the generator draws."""
        return "digits" if self.noun == "digit" else "pictures"

    def name(self, label: int) -> str:
        """Return the name of a class, such as `7` or `Ankle boot`."""
        return self.names[label] if label < len(self.names) else str(label)

    def one(self, label: int) -> str:
        """Return a class for use in a sentence, such as `a 7`, `Ankle boot` or `class 17`."""
        if self.noun == "digit":
            return f"{'an' if label == 8 else 'a'} {label}"
        return self.names[label] if label < len(self.names) else f"class {label}"

    def picture(self, label: int | None) -> str:
        """Describe a picture, such as `A handwritten 7`, `Ankle boot` or `Class 17`; None: it has no class."""
        if self.noun == "digit":
            return "A handwritten digit" if label is None else f"A handwritten {label}"
        words = "a generated picture" if label is None else self.one(label)
        return words[:1].upper() + words[1:]

    @property
    def range(self) -> str:
        """All classes by their numbers: `digits 0 to 9`, `class 0`."""
        return f"{self.nouns} 0 to {self.number - 1}" if self.number > 1 else f"{self.noun} 0"

    def listed(self, labels: Sequence[int]) -> str:
        """List classes, such as `digits 0 to 9`, `digits 1, 4 and 7`, `Bag and Dress` or `all 26 classes`.

        An empty list means any class. A label without a name is shown by its number.
        """
        if not labels:
            return "digits" if self.noun == "digit" else "any class"
        if self.noun == "class" and len(labels) > 2 and tuple(labels) == self.labels:
            return f"all {self.number} classes"
        if self.names and all(label < len(self.names) for label in labels):
            return _joined([self.names[label] for label in labels])
        noun = self.noun if len(labels) == 1 else self.nouns
        if len(labels) > 2 and list(labels) == list(range(labels[0], labels[-1] + 1)):
            return f"{noun} {labels[0]} to {labels[-1]}"
        return f"{noun} {_joined([str(label) for label in labels])}"


def _joined(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
