"""Pictures as files: PNG sheets that contain the text of their view, and GIF and WebP animations."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.sampling import image_grid, to_png

LINK_NOTE = "DigitForge"
"""Name of the PNG text that holds the canonical text of the view."""


def data_url(png: bytes) -> str:
    """Return a URL that contains the PNG itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def is_whole_png(png: bytes) -> bool:
    """Return whether these bytes are a PNG without damage: each part has its checksum, and the pixels can be read."""
    try:
        Image.open(io.BytesIO(png), formats=["PNG"]).verify()
        Image.open(io.BytesIO(png), formats=["PNG"]).load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def sheet(images: NDArray[np.uint8], columns: int, note: str, scale: int = 4, gap: int = 2) -> bytes:
    """Return pictures (N, H, W[, 3]) as one PNG, row by row, with `gap` black pixels between them and `note` as text.

    Each pixel becomes a square of `scale` pixels.
    """
    margins = [(0, 0), (0, gap), (0, gap)] + [(0, 0)] * (images.ndim - 3)
    grid = image_grid(np.pad(images, margins), columns)
    grid = grid[: grid.shape[0] - gap, : grid.shape[1] - gap]
    picture = Image.open(io.BytesIO(to_png(np.ascontiguousarray(grid), scale)))
    text = PngInfo()
    text.add_itxt(LINK_NOTE, note)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()


def sprite(frames: NDArray[np.uint8]) -> bytes:
    """Return frames (N, H, W[, 3]) side by side in one PNG of width N * W."""
    return to_png(image_grid(frames, len(frames)))


def animation(frames: NDArray[np.uint8], kind: str, milliseconds: int, scale: int = 8) -> bytes:
    """Return frames (N, H, W[, 3]) as an endless animation there and back; `kind` is gif or (lossless) webp.

    The first and the last frame stay four times as long as the others.
    """
    there_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    pictures = [_enlarged(frames[index], scale) for index in there_and_back]
    ends = (0, len(frames) - 1)
    durations = [milliseconds * (4 if index in ends else 1) for index in there_and_back]
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": 0, "method": 0} if kind == "webp" else {"optimize": False}
    pictures[0].save(
        buffer, format=kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options
    )
    return buffer.getvalue()


def _enlarged(frame: NDArray[np.uint8], scale: int) -> Image.Image:
    picture = Image.fromarray(frame)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def timelapse(sheets: list[bytes], milliseconds: int) -> bytes:
    """Return PNG sheets of one size as an endless GIF at twice the size; the last sheet stays eight times as long."""
    pictures = [_enlarged(np.asarray(Image.open(io.BytesIO(png))), 2) for png in sheets]
    durations = [milliseconds] * (len(pictures) - 1) + [8 * milliseconds]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, format="gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
    )
    return buffer.getvalue()
