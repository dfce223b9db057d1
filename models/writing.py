"""A text in handwriting: its digits, the signs between them, their places and their colours.

A generator draws the digits. It knows no signs, so these are strokes that are drawn here, as thick as those of the
digits. webapp/browser/writing.js does the same in the same numbers, so whole numbers and operations that round alike
everywhere (+, -, *, / and the square root) are used for all that decides a pixel.

Digits are uint8 (N, H, W), and glyphs and texts (H, W), light ink on black. `ramp` gives the grey levels the colours of
ink and paper.
"""

import html
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Segment = tuple[float, float, float, float]
"""The ends (x, y) and (x, y) of a stroke."""

DIGITS = "0123456789"
SIGNS: dict[str, tuple[Segment, ...]] = {
    ".": ((14, 22.5, 14, 22.5),),
    ",": ((14.5, 22, 13, 26),),
    ":": ((14, 11, 14, 11), (14, 20, 14, 20)),
    "-": ((10.5, 14.5, 17.5, 14),),
    "/": ((9, 24.5, 19, 3.5),),
    "+": ((9.5, 14.5, 18.5, 14), (14, 10, 14, 19)),
}
"""Sign -> its strokes in a square of `SIDE`, in which a digit reaches from about 4 to 24."""
SIDE = 28
SPACE = 8
"""Width of a space, where a glyph is `SIDE` high."""
USUAL_THICKNESS = 3.0
"""Thickness of the strokes of signs, where the digits have no ink to measure."""
THICKNESS_FACTOR = 3
SOFT = 1.5
"""Pixels over which the edge of a stroke fades."""
VISIBLE = 24
"""Least grey level of the columns that belong to a glyph."""
MARGIN = 4
"""Empty pixels around a text."""

COLOURS = {
    "black": "#000000",
    "blue": "#1f3fa0",
    "red": "#b3261e",
    "green": "#1d6b3a",
    "violet": "#6a2c91",
    "gold": "#e0b13a",
    "white": "#ffffff",
    "cream": "#fbf3df",
    "pink": "#fde6ee",
    "sky": "#e2effc",
    "mint": "#e0f4e6",
    "board": "#22372f",
    "night": "#12151b",
}
"""Names of colours of ink and paper."""
COLOUR = re.compile(r"#[0-9a-f]{6}")


def thickness(digits: Grey) -> float:
    """Return the mean thickness of the strokes of digits in pixels.

    It is the ink divided by the sum of the differences between neighbouring pixels, times a factor with which it agrees
    with `models.attributes.thickness` on average.
    """
    padded = np.pad(digits.astype(np.int64), ((0, 0), (1, 1), (1, 1)))
    ink = int(padded.sum())
    outline = int(np.abs(np.diff(padded, axis=1)).sum() + np.abs(np.diff(padded, axis=2)).sum())
    return THICKNESS_FACTOR * ink / outline if outline else USUAL_THICKNESS


def sign(character: str, height: int, thick: float) -> Grey:
    """Return a sign of `SIGNS` (height, height) with strokes of this thickness in pixels."""
    unit = height / SIDE
    centers = np.arange(height) + 0.5
    x, y = centers[None, :], centers[:, None]
    ink = np.zeros((height, height))
    for segment in SIGNS[character]:
        x0, y0, x1, y1 = (unit * end for end in segment)
        dx, dy = x1 - x0, y1 - y0
        squares = dx * dx + dy * dy
        t = np.clip(((x - x0) * dx + (y - y0) * dy) / squares, 0, 1) if squares else np.zeros((1, 1))
        away_x, away_y = x - (x0 + t * dx), y - (y0 + t * dy)
        distance = np.sqrt(away_x * away_x + away_y * away_y)
        ink = np.maximum(ink, np.clip((thick / 2 - distance) / SOFT + 0.5, 0, 1))
    return np.round(255 * ink).astype(np.uint8)


def cropped(glyph: Grey) -> Grey:
    """Return a glyph (H, W) without the columns left and right of its ink; unchanged if it has none."""
    columns = np.flatnonzero(glyph.max(0) >= VISIBLE)
    return glyph[:, columns[0] : columns[-1] + 1] if len(columns) else glyph


def glyphs(text: str, digits: Grey) -> list[Grey]:
    """Return the picture (H, w) of each character of a text. `digits` are those of its digits, in order."""
    height, thick = digits.shape[1], thickness(digits)
    drawn = iter(digits)
    found: list[Grey] = []
    for character in text:
        if character in DIGITS:
            found.append(cropped(next(drawn)))
        elif character in SIGNS:
            found.append(cropped(sign(character, height, thick)))
        else:
            found.append(np.zeros((height, SPACE * height // SIDE), np.uint8))
    return found


def rows(text: str, pictures: Sequence[Grey], spacing: int, width: int) -> list[list[int]]:
    """Return the characters of each line of a text, by their numbers, in lines of at most `width` pixels.

    A line ends after a space or a sign where there is one, else before the character that does not fit. Spaces at the
    end of a line are left out.
    """
    lines: list[list[int]] = [[]]
    for k in range(len(text)):
        lines[-1].append(k)
        while _width(lines[-1], text, pictures, spacing) > width and len(lines[-1]) > 1:
            full = lines[-1]
            breaks = [at for at, each in enumerate(full[:-1], 1) if text[each] not in DIGITS]
            end = breaks[-1] if breaks else len(full) - 1
            lines[-1:] = [full[:end], full[end:]]
    return [_without_spaces(line, text) for line in lines]


def _width(line: list[int], text: str, pictures: Sequence[Grey], spacing: int) -> int:
    shown = _without_spaces(line, text)
    return sum(int(pictures[k].shape[1]) for k in shown) + spacing * max(len(shown) - 1, 0)


def _without_spaces(line: list[int], text: str) -> list[int]:
    while line and text[line[-1]] == " ":
        line = line[:-1]
    return line


def written(text: str, digits: Grey, spacing: int, width: int | None = None) -> Grey:
    """Return a text as one picture with a margin.

    `spacing` pixels lie between two glyphs. Lines are at most `width` pixels wide, and centered; None: one line.
    """
    pictures = glyphs(text, digits)
    height = digits.shape[1]
    lines = [list(range(len(text)))] if width is None else rows(text, pictures, spacing, width - 2 * MARGIN)
    gap = np.zeros((height, spacing), np.uint8)
    joined = [np.hstack([part for k in line for part in (pictures[k], gap)][:-1] or [gap]) for line in lines]
    widest = max(line.shape[1] for line in joined)
    lefts = [(widest - line.shape[1]) // 2 for line in joined]
    whole = [
        np.pad(line, ((0, 0), (left, widest - line.shape[1] - left))) for line, left in zip(joined, lefts, strict=True)
    ]
    return np.pad(np.vstack(whole), MARGIN)


def ends(text: str, digits: Grey, spacing: int) -> list[int]:
    """Return where each character of a text in one line ends in `written`: the column after it."""
    widths = [picture.shape[1] + spacing for picture in glyphs(text, digits)]
    return [MARGIN + int(end) - spacing for end in np.cumsum(widths)]


# --- Colours


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue of a colour: one of `COLOURS`, or six hex digits after `#`."""
    text = COLOURS.get(colour, colour)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def ramp(ink: str, paper: str) -> NDArray[np.uint8]:
    """Return the colour (256, 3) of each grey level, from the paper's at 0 to the ink's at 255."""
    level = np.arange(256)[:, None]
    mixed = np.array(rgb(paper)) * (255 - level) + np.array(rgb(ink)) * level
    return ((mixed + 127) // 255).astype(np.uint8)


def svg(picture: Grey, ink: str, paper: str, title: str, link: str, scale: int = 8) -> bytes:
    """Return a picture (H, W) as an SVG of whole pixels, with its title and its link.

    Each colour is one path, whose parts are the runs of equal pixels in a row. The paper is a rectangle behind them.
    """
    height, width = picture.shape
    runs: dict[int, list[str]] = {}
    for y, row in enumerate(picture):
        edges = np.flatnonzero(np.diff(row.astype(int), prepend=-1, append=-1))
        for start, end in pairwise(edges.tolist()):
            if level := int(row[start]):
                runs.setdefault(level, []).append(f"M{start} {y}h{end - start}v1h-{end - start}z")
    colours = ["#" + bytes(colour).hex() for colour in ramp(ink, paper)]
    paths = "".join(f'<path fill="{colours[level]}" d="{"".join(parts)}"/>\n' for level, parts in sorted(runs.items()))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * scale}" height="{height * scale}" '
        f'viewBox="0 0 {width} {height}" shape-rendering="crispEdges" role="img">\n'
        f"<title>{html.escape(title)}</title>\n<metadata>{html.escape(link)}</metadata>\n"
        f'<rect width="{width}" height="{height}" fill="{colours[0]}"/>\n{paths}</svg>\n'
    ).encode()
