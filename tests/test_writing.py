"""Texts in handwriting: which are allowed, which digits are drawn, how they stand in a line, and their files."""

import dataclasses
import hashlib
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models import pictures, writing
from models.attributes import measure
from models.generate import main
from models.generator_file import load_generator
from models.sampling import MAX_SEED
from models.view_link import ViewError
from models.views import MAX_TEXT, GenerateView, WriteView
from tests.golden import shipped_generators
from tests.test_pictures import CONFIG, generator
from tests.test_view_link import texts, written_views

FORGE = load_generator(shipped_generators()["forge"])
TEXT = WriteView(text="24:12 - 3.5", seed=772, thickness=3.0, own=((1, 9),), ink="#1f3fa0", paper="cream")


@given(st.text(max_size=30) | texts)
def test_a_text_is_of_digits_and_signs(text: str) -> None:
    if 0 < len(text) <= MAX_TEXT and re.fullmatch(r"[0-9 .,:\-/+]*[0-9][0-9 .,:\-/+]*", text):
        assert WriteView(text=text).digits == tuple(map(int, re.sub(r"\D", "", text)))
        return
    with pytest.raises(ViewError) as caught:
        WriteView(text=text)
    assert caught.value.parameter == "text"
    assert str(caught.value).isascii()


@given(written_views)
def test_each_digit_has_a_seed(view: WriteView) -> None:
    own = dict(view.own)
    for k, seed in enumerate(view.seeds):
        assert seed == own.get(k, view.seed if view.style == "same" else (view.seed + k) % (MAX_SEED + 1))


@pytest.mark.parametrize("style", ["same", "free"])
def test_the_pictures_are_those_of_the_digits_in_order(style: str) -> None:
    view = dataclasses.replace(TEXT, style=style, truncation=0.8)
    drawn = pictures.frames(FORGE, view)
    assert drawn.shape == (6, 28, 28)
    for picture, digit, seed in zip(drawn, view.digits, view.seeds, strict=True):
        alone = GenerateView(digits=(digit,), count=1, seed=seed, truncation=0.8, thickness=3.0)
        assert np.array_equal(picture, pictures.frames(FORGE, alone)[0])


def test_the_digest_is_that_of_the_digits_alone() -> None:
    digest = pictures.digest(pictures.frames(FORGE, TEXT))
    for values in ({"text": "2412 35"}, {"ink": "red", "paper": "night"}, {"spacing": 0}):
        assert pictures.digest(pictures.frames(FORGE, dataclasses.replace(TEXT, **values))) == digest
    for values in ({"text": "42:12 - 3.5"}, {"own": ()}, {"seed": 773}, {"thickness": 4.0}):
        assert pictures.digest(pictures.frames(FORGE, dataclasses.replace(TEXT, **values))) != digest


def test_only_a_generator_of_the_ten_digits_can_write() -> None:
    for config in (dataclasses.replace(CONFIG, num_classes=n) for n in (0, 9, 11)):
        with pytest.raises(ViewError, match="text: cannot be written: this generator does not draw the ten digits"):
            pictures.frames(generator(config), WriteView())
    with pytest.raises(ViewError, match="ten digits"):
        pictures.frames(load_generator(shipped_generators()["fashion"]), WriteView())


def test_signs_are_as_thick_as_the_digits() -> None:
    for seed in (3, 772, 900):
        for asked in (2.5, 4.0):
            digits = pictures.frames(FORGE, GenerateView(count=1, seed=seed, thickness=asked))
            thick = writing.thickness(digits)
            assert thick == pytest.approx(float(measure(digits, ["thickness"]).mean()), abs=0.5)
            (slash,) = measure(writing.sign("/", 28, thick)[None], ["thickness"])[0]
            assert slash == pytest.approx(thick, abs=0.6)
    assert writing.thickness(np.zeros((2, 28, 28), np.uint8)) == writing.USUAL_THICKNESS


@given(texts, st.integers(0, 16), st.integers(20, 400))
def test_lines_hold_every_glyph_once_and_fit(text: str, spacing: int, width: int) -> None:
    digits = np.zeros((sum(map(str.isdigit, text)), 28, 28), np.uint8)
    digits[:, 4:24, 9:19] = 255
    glyphs = writing.glyphs(text, digits)
    lines = writing.rows(text, glyphs, spacing, width)
    placed = [k for line in lines for k in line]
    assert [k for k in range(len(text)) if text[k] != " "] == [k for k in placed if text[k] != " "]
    for line in lines:
        needed = sum(glyphs[k].shape[1] for k in line) + spacing * (len(line) - 1)
        assert needed <= width or len(line) == 1
    whole = writing.written(text, digits, spacing)
    assert whole.shape == (28 + 8, sum(glyph.shape[1] for glyph in glyphs) + spacing * (len(text) - 1) + 8)
    for glyph, end in zip(glyphs, writing.ends(text, digits, spacing), strict=True):
        assert np.array_equal(whole[4:-4, end - glyph.shape[1] : end], glyph)


def test_places_strokes_and_colours_stay_as_they_are() -> None:
    """Links hold the digest of the digits alone, and must show the same text around them for ever."""
    digits = np.zeros((10, 28, 28), np.uint8)
    for k in range(10):
        digits[k, 4:24, 5 + k : 9 + k // 2 + k] = 20 * k + 60
    text = "0.1,2:3-4/5+6 789"
    shown = [writing.ramp("blue", "cream")[writing.written(text, digits, 3, width)] for width in (None, 80)]
    assert [hashlib.sha256(picture.tobytes()).hexdigest()[:16] for picture in shown] == [
        "d868d45e67c4e1e2",
        "8d9811bb2b2cb8db",
    ]


def rasterized(svg: bytes) -> np.ndarray:
    """Return the pixels (H, W, 3) of an SVG of ours: a rectangle, and paths of runs."""
    root = ET.fromstring(svg)
    _, _, width, height = map(int, root.attrib["viewBox"].split())
    found = np.zeros((height, width, 3), np.uint8)
    for element in root:
        if "fill" in element.attrib:
            colour = list(bytes.fromhex(element.attrib["fill"][1:]))
            runs = re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", element.attrib.get("d", ""))
            for x, y, length in (map(int, run) for run in runs):
                found[y, x : x + length] = colour
            if element.tag.endswith("rect"):
                found[:] = colour
    return found


def test_png_svg_and_gif_have_the_same_pixels_and_the_link() -> None:
    view, note = TEXT, "s?v=1&kind=write&text=1"
    pixels = pictures.frames(FORGE, view)
    png = pictures.file_of(view, pixels, "png", note)
    shown = np.asarray(Image.open(io.BytesIO(png)))[::8, ::8]
    grey = writing.written(view.text, pixels, view.spacing)
    assert np.array_equal(shown, writing.ramp(view.ink, view.paper)[grey])
    assert shown[0, 0].tolist() == [0xFB, 0xF3, 0xDF]
    assert pictures.read_note(png) == note
    svg = pictures.file_of(view, pixels, "svg", note)
    assert np.array_equal(rasterized(svg), shown)
    root = ET.fromstring(svg)
    assert [root[0].text, root[1].text] == ["24:12 - 3.5 in handwriting", note]
    gif = pictures.file_of(view, pixels, "gif", note)
    moving = Image.open(io.BytesIO(gif))
    assert pictures.read_note(gif) == note
    assert np.array_equal(np.asarray(moving.convert("RGB"))[::8, ::8], shown)
    moving.seek(1)
    assert np.unique(np.asarray(moving.convert("RGB")).reshape(-1, 3), axis=0).tolist() == [[0xFB, 0xF3, 0xDF]]
    assert moving.n_frames > 20
    with pytest.raises(ValueError, match="makes png, svg, gif and no webp"):
        pictures.file_of(view, pixels, "webp", note)


def test_the_command_line_writes_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.png"
    arguments = ["--write", "24.12.", "--seed", "772", "--thickness", "3", "--ink", "#1f3fa0", "--style", "free"]
    assert main([*arguments, "--out", str(out)]) == 0
    view = WriteView(text="24.12.", seed=772, thickness=3.0, ink="#1f3fa0", style="free")
    px = pictures.digest(pictures.frames(FORGE, view))
    assert capsys.readouterr().out == f"px={px}\n"
    assert f"&px={px}" in pictures.read_note(out.read_bytes())
    assert main(["--link", str(out), "--out", str(tmp_path / "y.svg")]) == 0
    capsys.readouterr()
    for wrong, message in (
        (["--write", "x"], "--write: must be of digits"),
        (["--write", "7", "--ink", "bleu"], "--ink: must be one of black, blue"),
        (["--write", "7", "--out", "x.webp"], "--out must end in .png or .svg or .gif for write"),
        (["--write", "7", "--digit", "7"], "--write says what to draw; omit --digit"),
        (["--ink", "red"], "--ink goes with --write"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
