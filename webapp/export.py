"""PNG files in pages, and the animation of a training."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


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
