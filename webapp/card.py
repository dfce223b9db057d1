"""The card of a link, for previews in chats: its pictures on a dark ground, with a line of text."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models import writing
from models.sampling import image_grid
from models.views import DrawingView, ExploreView, GenerateView, InterpolateView, WriteView

SIZE = WIDTH, HEIGHT = 1200, 630
GROUND = (18, 21, 27)
TEXT = (231, 234, 240)
QUIET = (150, 160, 178)
MARGIN, FOOT = 40, 92
FILM = 24
"""Limit of the frames of an interpolation on a card."""

LARGE, WRAPPED = 14, 6
"""Limits of the side of a pixel of a text on a card: in one line, and in several, where one line has smaller ones."""


def card(view: DrawingView, pixels: NDArray[np.uint8], title: str, subtitle: str) -> bytes:
    """Return a PNG of `WIDTH` x `HEIGHT` with the pictures of a view as large as they fit."""
    image = Image.new("RGB", SIZE, GROUND)
    room = (WIDTH - 2 * MARGIN, HEIGHT - MARGIN - FOOT)
    if isinstance(view, ExploreView):
        _paste(image, pixels[:1], 1, (MARGIN, MARGIN, room[1], room[1]))
        left = MARGIN + room[1] + 32
        _paste(image, pixels[1:], view.count, (left, MARGIN, WIDTH - MARGIN - left, room[1]))
    elif isinstance(view, InterpolateView):
        chosen = np.unique(np.linspace(0, len(pixels) - 1, min(FILM, len(pixels))).round().astype(int))
        _paste(image, pixels[chosen], _columns(len(chosen), room), (MARGIN, MARGIN, *room))
    elif isinstance(view, WriteView):
        _write(image, view, pixels)
    else:
        rows = len(view.digits or (0,)) if isinstance(view, GenerateView) else 1
        columns = len(pixels) // rows if rows > 1 else _columns(len(pixels), room)
        _paste(image, pixels, columns, (MARGIN, MARGIN, *room))
    draw = ImageDraw.Draw(image)
    for text, top, colour, size in ((title, 14, TEXT, 30), (subtitle, 54, QUIET, 20)):
        font = ImageFont.load_default(size)
        draw.text((MARGIN, HEIGHT - FOOT + top), _shortened(draw, text, font), colour, font)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _write(image: Image.Image, view: WriteView, pixels: NDArray[np.uint8]) -> None:
    """Write a text on paper that covers the card above its title."""
    size = WIDTH, HEIGHT - FOOT
    text = writing.written(view.text, pixels, view.spacing)
    scale = min(size[0] // text.shape[1], LARGE)
    for larger in range(scale + 1, WRAPPED + 1):  # a text that is long for one line
        wrapped = writing.written(view.text, pixels, view.spacing, size[0] // larger)
        if max(wrapped.shape[1] / size[0], wrapped.shape[0] / size[1]) * larger <= 1:
            scale, text = larger, wrapped
    scale = max(scale, 1)
    paper = Image.new("RGB", size, writing.rgb(view.paper))
    ink = Image.fromarray(writing.ramp(view.ink, view.paper)[text])
    ink = ink.resize((ink.width * scale, ink.height * scale), Image.Resampling.NEAREST)
    paper.paste(ink, ((size[0] - ink.width) // 2, (size[1] - ink.height) // 2))
    image.paste(paper, (0, 0))


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return as much of a text as fits into one line of the card, with `...` in place of the rest."""
    text = " ".join(text.split())[:300]
    if draw.textlength(text, font) <= WIDTH - 2 * MARGIN:
        return text
    while text and draw.textlength(f"{text}...", font) > WIDTH - 2 * MARGIN:
        text = text[:-1]
    return f"{text.rstrip(' ,')}..."


def _columns(number: int, room: tuple[int, int]) -> int:
    """Return the columns with which `number` square pictures fill the room best."""
    return max(range(1, number + 1), key=lambda columns: min(room[0] / columns, room[1] / -(-number // columns)))


def _paste(image: Image.Image, pixels: NDArray[np.uint8], columns: int, box: tuple[int, int, int, int]) -> None:
    """Paste pictures in rows into the middle of a box (left, top, width, height).

    Few pictures are enlarged by a whole number, so that their pixels are squares.
    """
    left, top, width, height = box
    grid = Image.fromarray(image_grid(pixels, columns)).convert("RGB")
    scale = min(width / grid.width, height / grid.height)
    scale = int(scale) if scale >= 4 else scale
    size = max(round(grid.width * scale), 1), max(round(grid.height * scale), 1)
    grid = grid.resize(size, Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.LANCZOS)
    image.paste(grid, (left + (width - size[0]) // 2, top + (height - size[1]) // 2))
