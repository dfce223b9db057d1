"""Prompts: sentences of the grammar in docs/words.md mean what that page says, and any other text is one error."""

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from models import prompt
from models.attributes import ATTRIBUTES, AttributeTable, measure
from models.prompt import Abilities, Asked, Move, Prompt, read_prompt
from models.sampling import MAX_SEED
from tests.imports import ROOT
from trainer import data

ALL = Abilities(attributes=("slant", "thickness", "width"), writers=range(3000))
FASHION = Abilities(
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
)
FIELDS = ("digit", "slant", "thickness", "width", "writer", "seed", "truncation")
DOCUMENT = (ROOT / "docs" / "words.md").read_text()


def table(first: str) -> list[list[str]]:
    """Return the rows of the table in docs/words.md whose first column has this title."""
    (rows,) = re.findall(rf"^\| {first} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def words(cell: str) -> list[str]:
    return [word.replace("(none)", "") for word in cell.split(", ")]


@dataclass(frozen=True)
class Phrase:
    """A part of a sentence, and what it sets."""

    text: str
    control: str
    value: int | float | Asked


def standard(attribute: str, value: float) -> Asked:
    return Asked(attribute, value, is_standard=True, is_exact=False)


def about(slant: float) -> Asked:
    return Asked("slant", slant, is_exact=False)


def phrases() -> Iterator[Phrase]:
    """Yield the parts of sentences: each word of the tables in each of its places, and some numbers."""
    nouns = next(words(row[1]) for row in table("kind") if row[0] == "nouns")
    digits = next(words(row[1]) for row in table("kind") if row[0] == "digits")
    for digit, word in enumerate(digits):
        plural = word + ("es" if word == "six" else "s")
        for text in (word, plural, str(digit), f"{digit}s", *[f"{noun} {word}" for noun in nouns]):
            yield Phrase(text, "digit", digit)
    yield Phrase("zeroes", "digit", 0)
    degrees = [(word, float(row[1]), float(row[2])) for row in table("degree") for word in words(row[0])]
    units = {row[0]: words(row[1]) for row in table("attribute")}
    for cell, attribute, sign in table("word"):
        for adjective in words(cell):
            for degree, far, _ in degrees:
                yield Phrase(f"{degree} {adjective}".strip(), attribute, standard(attribute, float(f"{sign}{far}")))
            if sign == "+":
                yield from (
                    Phrase(f"3.5 {unit} {adjective}", attribute, Asked(attribute, 3.5)) for unit in units["width"]
                )
    leaning, upright = (words(row[0]) for row in table("slant"))
    yield from (Phrase(word, "slant", about(0)) for word in upright)
    directions = [(word, int(f"{row[1]}1")) for row in table("direction") for word in words(row[0])]
    for lean in leaning:
        for direction, sign in directions:
            before, after = f"{direction}-{lean}".strip("-"), f"{lean} {direction}".strip()
            aside = f"{lean} to the {direction}" if direction else lean
            for degree, _, far in degrees:
                for text in (before, after, aside):
                    yield Phrase(f"{degree} {text}".strip(), "slant", about(sign * far))
            for unit in units["slant"]:
                value = f"12.5 {unit}"
                texts = (f"{value} {before}", f"{value} {aside}", f"{after} by {value}", f"{lean} {value} {direction}")
                yield from (Phrase(text.strip(), "slant", Asked("slant", sign * 12.5)) for text in texts)
        yield Phrase(f"{lean} -8\N{DEGREE SIGN}", "slant", Asked("slant", -8))
    for attribute, names in units.items():
        for link in (" ", " of ", "=", ": ", " = "):
            for unit in ("", *names):
                yield Phrase(f"{attribute}{link}14.25{unit}", attribute, Asked(attribute, 14.25))
        yield from (Phrase(f".5 {unit} {attribute}", attribute, Asked(attribute, 0.5)) for unit in names)
    yield from (Phrase(f"slant {sign}7", "slant", Asked("slant", -7)) for sign in ("-", "\N{MINUS SIGN}"))
    for hand in ("", "by ", "of ", "in the hand of "):
        yield from (Phrase(f"{hand}writer {number}", "writer", number) for number in (0, 7, 2154))
    yield from (Phrase(f"seed {seed}", "seed", seed) for seed in (0, 7, 1784, MAX_SEED))
    yield from (Phrase(f"truncation {value}", "truncation", value) for value in (0, 0.25, 1))
    yield from (Phrase(word, "truncation", float(row[1])) for row in table("variety") for word in words(row[0]))


PHRASES = list(phrases())


def sentences(seed: int, count: int) -> Iterator[tuple[str, list[Phrase]]]:
    """Yield sentences with their parts: a phrase for each of some controls, in any order, with any fillers between."""
    choose = random.Random(seed)
    by_control = {field: [phrase for phrase in PHRASES if phrase.control == field] for field in FIELDS}
    for _ in range(count):
        fields = choose.sample(FIELDS, choose.randint(1, len(FIELDS)))
        parts = [choose.choice(by_control[field]) for field in fields]
        text = choose.choice(("", "a ", "An ", "the handwritten "))
        text += "".join(
            part.text + choose.choice((" ", ", ", " and a ", "; ", " with ", ". ", "  \n")) for part in parts
        )
        yield choose.choice((str, str.upper, str.capitalize))(text), parts


def check(text: str, parts: list[Phrase]) -> None:
    """Check that a sentence says what its parts say and nothing else, and which control each part moves."""
    result = read_prompt(text, ALL)
    values = {part.control: part.value for part in parts}
    attributes = tuple(value for value in values.values() if isinstance(value, Asked))
    plain = {name: value for name, value in values.items() if not isinstance(value, Asked)}
    assert result == Prompt(asked=attributes, moves=result.moves, **plain), text
    assert [move.control for move in result.moves] == [part.control for part in parts], text
    assert all(move.words in " ".join(text.split()) for move in result.moves), text


@pytest.mark.parametrize("control", FIELDS)
def test_each_phrase_of_the_documented_grammar_means_what_the_page_says(control: str) -> None:
    own = [phrase for phrase in PHRASES if phrase.control == control]
    assert len(own) > 3
    for phrase in own:
        for text in (phrase.text, f"A {phrase.text}.", f" the  {phrase.text.upper()} "):
            check(text, [phrase])


def test_each_sentence_of_a_generated_corpus_means_what_it_says() -> None:
    short = [(text, parts) for text, parts in sentences(seed=1, count=4000) if len(text) <= prompt.MAX_PROMPT]
    assert len(short) > 3500
    for text, parts in short:
        check(text, parts)


def test_the_page_has_every_word_of_the_grammar() -> None:
    words = {
        *(*prompt.DEGREES, *prompt.ADJECTIVES, *prompt.LEANING, *prompt.UPRIGHT, *prompt.DIRECTIONS, *prompt.VARIETY),
        *(*prompt.DIGITS, *prompt.NOUNS, *prompt.FILLERS, *prompt.NUMBERED),
        *(unit for units in prompt.UNITS.values() for unit in units),
        *(word for hand in prompt.HANDS for word in hand),
    }
    assert {word for word in words if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", DOCUMENT)} == set()
    assert f"at most {prompt.MAX_PROMPT} characters" in DOCUMENT


def test_each_part_is_shown_with_the_control_that_it_moves() -> None:
    result = read_prompt("A thick, strongly slanted seven, 14 pixels wide, in the hand of writer 2154, seed 7", ALL)
    assert result.moves == (
        Move("thick", "thickness", "+1.5"),
        Move("strongly slanted", "slant", "+20 degrees"),
        Move("seven", "digit", "7"),
        Move("14 pixels wide", "width", "14 px"),
        Move("in the hand of writer 2154", "writer", "2154"),
        Move("seed 7", "seed", "7"),
    )


def test_words_become_values_of_the_class_and_reach_no_further_than_it() -> None:
    dataset, names = data.load_dataset(), tuple(ATTRIBUTES)
    labels = dataset.labels[:6000]
    measured = measure(dataset.images[:6000, 0], names)
    table = AttributeTable.fit(names, measured, labels, 10)
    for label in range(10):
        own = measured[labels == label]
        for text, share in (
            ("thin", 0.067),
            ("slightly wide", 0.691),
            ("very thick", 0.977),
            ("extremely narrow", 0.006),
        ):
            (asked,) = read_prompt(text, ALL).asked
            value = asked.of(table, label)
            assert round(value, 2) == value
            below = (own[:, names.index(asked.attribute)] < value).mean()
            assert below == pytest.approx(share, abs=0.05), (text, label)  # many widths are nearly equal
        for text, slant in (("slightly slanted", 5), ("upright", 0), ("extremely slanted left", -25)):
            low, high = table.reach("slant", label)
            value = read_prompt(text, ALL).asked[0].of(table, label)
            assert low <= value <= high
            assert value == slant or (slant < low and value == pytest.approx(low, abs=0.011))
        assert read_prompt("slant 12.25, 14 px wide", ALL).values(table, 0) == {"slant": 12.25, "width": 14}
        with pytest.raises(ValueError, match=f"slant must be between -.* degrees for class {label}: got -80"):
            read_prompt("slant -80", ALL).values(table, label)
    assert read_prompt("strongly slanted left", ALL).asked[0].of(table, 7) == -20


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *[("a bag", 8), ("Bags", 8), ("two ankle-boots", None), ("ankle boots", 9), ("dresses", 3), ('"Bag"', 8)],
        *[("a T-shirt", 0), ("t-shirt/top", 0), ("a shirt", 6), ("class 7", 7), ("seven", 7), ("trousers, seed 3", 1)],
    ],
)
def test_classes_have_names(text: str, label: int | None) -> None:
    if label is None:
        with pytest.raises(ValueError, match="'two' and 'ankle-boots' both set the class"):
            read_prompt(text, FASHION)
    else:
        assert read_prompt(text, FASHION).digit == label


def test_names_that_are_words_of_the_grammar_need_quotation_marks() -> None:
    letters = Abilities(class_names=("A", "a", "B", "very", "3", "heavy metal"), num_classes=6)
    assert read_prompt('"a"', letters).digit == 1
    assert read_prompt("\N{LEFT DOUBLE QUOTATION MARK}A\N{RIGHT DOUBLE QUOTATION MARK}", letters).digit == 0
    assert read_prompt("a b", letters).digit == 2
    assert read_prompt('a "very"', letters).digit == 3
    assert read_prompt("3", letters).digit == 4
    assert read_prompt("heavy metal", letters).digit == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thin thick seven", "'thin' and 'thick' both set the thickness"),
        ("seven 8", "'seven' and '8' both set the digit"),
        ("thikc seven", "'thikc' is not known; the nearest word is 'thick'"),
        ("a xylophone", "'xylophone' is not known; known are zero to nine, slanted, upright, thin,"),
        ("seven\u0301", r"'\\u0301' is not known; known are"),
        ("s\xe9ven", r"'s\\xe9ven' is not known; the nearest word is 'seven'"),
        ("", "asks for nothing"),
        ("a, and the", "asks for nothing"),
        ("very seven", "'very' needs an adjective after it, such as thick: got 'seven'"),
        ("very", "'very' needs an adjective after it, such as thick$"),
        ("very extremely thick", "'very' needs an adjective"),
        ("very upright", "'very' cannot stand before 'upright'"),
        ("left seven", "'left' goes with a slant, such as 'slanted left': got 'seven'"),
        ("slanted left right", "'right' goes with a slant"),
        ("slanted -5 degrees left", "a negative slant leans left"),
        ("very slanted 20 degrees", "'very slanted' is followed by another value"),
        ("20 degrees thick", "thickness is measured in px"),
        ("3 px slanted", "slant is measured in degrees"),
        ("3 px thin", "a value goes with thick, wide or slanted"),
        ("3 px seven", "'3 px' needs an adjective after it"),
        ("thickness 0", "thickness must be greater than 0"),
        ("seed", "'seed' needs a number after it$"),
        ("seed seven", "'seed' needs a number after it: got 'seven'"),
        ("seed 1,784", "'1,784' is not a number; write it as 1784"),
        ("seed 4294967296", "seed must be between 0 and 4294967295"),
        ("seed -1", "seed must be a whole number"),
        ("seed 1.5", "seed must be a whole number"),
        ("truncation 2", "truncation must be from 0 to 1"),
        ("truncation .755", "at most two decimals"),
        ("writer 3000", "'writer 3000': this generator does not know that writer"),
        ("hand", "'hand' cannot stand here; it belongs to a writer"),
        ("px", "'px' cannot stand here; it belongs to a number"),
        ("10", "'10': this generator draws the classes 0 to 9"),
        ("-3", "'-3' is not a class"),
        ("3.5", "'3.5' is not a class"),
        ("07", "'07' is not a class"),
        ("seven" * 41, "a prompt has at most 200 characters: got 205"),
    ],
)
def test_what_is_not_of_the_grammar_is_one_error_that_names_the_word(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompt(text, ALL)


@pytest.mark.parametrize(
    ("text", "abilities", "message"),
    [
        ("a seven", Abilities(num_classes=0), "'seven': this generator draws without classes"),
        ("a thick seven", Abilities(), "'thick': this generator does not take a thickness"),
        ("slant 20", Abilities(attributes=("width",)), "'slant 20': this generator does not take a slant"),
        ("by writer 7", Abilities(), "'by writer 7': this generator has no writers"),
    ],
)
def test_what_the_generator_cannot_do_is_one_error(text: str, abilities: Abilities, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompt(text, abilities)


def noise(seed: int, count: int) -> Iterator[str]:
    """Yield random texts: of any characters, of ASCII, of words of the grammar, and sentences with a mistake."""
    choose = random.Random(seed)
    grammar = sorted({word for phrase in PHRASES for word in re.findall(r"\w+|\W", phrase.text)})
    right = [text for text, _ in sentences(seed, 100)]
    for number in range(count):
        length = choose.randint(0, 30)
        if number % 4 == 0:
            yield "".join(chr(choose.randrange(0x110000 if choose.random() < 0.5 else 0x250)) for _ in range(length))
        elif number % 4 == 1:
            yield "".join(choose.choices(string.printable, k=length))
        elif number % 4 == 2:
            yield " ".join(choose.choices(grammar, k=length // 3 + 1))
        else:
            text = choose.choice(right)
            at = choose.randrange(len(text))
            yield text[:at] + choose.choice(("", "\0", "\u202e", "<", '"', "9", choose.choice(right))) + text[at + 1 :]


def answer(text: str, abilities: Abilities) -> str:
    """Return the error of a text; empty if it is a prompt."""
    try:
        result = read_prompt(text, abilities)
    except ValueError as error:
        return str(error)
    assert all(move.words in " ".join(text.split()) for move in result.moves)
    return ""


@pytest.mark.parametrize(("abilities", "count"), [(ALL, 10_000), (FASHION, 2000), (Abilities(num_classes=0), 2000)])
def test_any_text_is_a_prompt_or_one_error_of_one_line(abilities: Abilities, count: int) -> None:
    answers = [answer(text, abilities) for text in noise(seed=2, count=count)]
    assert all(text.isascii() and text.isprintable() and len(text) < 600 for text in answers)
    assert 0 < answers.count("") < count / 2
