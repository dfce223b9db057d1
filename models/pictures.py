"""From a view and a generator to pixels, and from pixels to files that carry the link of the view."""

import hashlib
import io
from fractions import Fraction
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from models import writing
from models.generator_file import LoadedGenerator
from models.sampling import corner_weights, draw, image_grid, latent, latents, lerp, plane, slerp, truncate
from models.view_link import ViewError
from models.views import PX_LENGTH, DrawingView, ExploreView, GenerateView, InterpolateView, WriteView

V = TypeVar("V", bound=DrawingView)
Pixels = NDArray[np.uint8]
"""Pictures: (N, H, W), or (N, H, W, 3)."""

LINK_NOTE = "DigitForge"
"""Name of the PNG text that holds the link of the view."""
MILLISECONDS = 80
"""Time of one frame of an animation, unless its view says another."""
WRITTEN_SCALE = 8
"""Side of a pixel of a text in its files."""
WRITTEN_MILLISECONDS = 3000
"""Time for which the whole text stays in its animation."""
STROKES = 3
"""Steps in which a glyph appears in it."""

# --- Pixels


def frames(loaded: LoadedGenerator, view: DrawingView) -> Pixels:
    """Draw a view; return uint8 (N, H, W[, 3]).

    Of a grid, the pictures row by row; of an Explore view, the hero before them; of an interpolation, the frames from
    its start to its end; of a text, its digits alone, as the generator draws no signs. Raises `ViewError` for what the
    generator cannot draw.
    """
    view = explicit(loaded, view)
    if isinstance(view, ExploreView):
        return np.concatenate([_hero(loaded, view), _grid(loaded, view)])
    if isinstance(view, GenerateView):
        return _grid(loaded, view)
    if isinstance(view, InterpolateView):
        return _way(loaded, view)
    if isinstance(view, WriteView):
        return _digits(loaded, view)
    raise TypeError(f"views of kind {view.kind} cannot be drawn")


def explicit(loaded: LoadedGenerator, view: V) -> V:
    """Return the view with each digit named. Raises `ViewError` for what the generator cannot draw."""
    if isinstance(view, WriteView) and not loaded.writes_digits:
        raise ViewError("text", "cannot be written: this generator does not draw the ten digits")
    return view.explicit(loaded.config.num_classes, loaded.config.asks, loaded.writers)


def digest(pictures: Pixels) -> str:
    """Return the first `PX_LENGTH` hex digits of the SHA-256 of the pixels, in order."""
    return hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()[:PX_LENGTH]


def _grid(loaded: LoadedGenerator, view: GenerateView) -> Pixels:
    seeds, digits = range(view.seed, view.seed + view.count), view.digits or (0,)
    z = truncate(latents(seeds, loaded.config).double(), view.truncation)
    labels = [digit for digit in digits for _ in seeds]
    c = loaded.class_rows(labels, list(seeds) * len(digits), view.truncation, _asked(loaded, view, len(labels)))
    return draw(loaded.generator, z.repeat(len(digits), 1), c)


def _hero(loaded: LoadedGenerator, view: ExploreView) -> Pixels:
    """Class rows are mixed linearly, so attributes that are not asked for change steadily between the corners."""
    corners = view.corners or ()
    z = truncate(plane(latents(corners, loaded.config).double(), view.x, view.y), view.truncation)
    labels = [view.digit or 0] * len(corners)
    rows = loaded.class_rows(labels, corners, view.truncation, _asked(loaded, view, len(corners)))
    c = corner_weights(view.x, view.y) @ rows.double()
    return draw(loaded.generator, z[None], c[None])


def _asked(loaded: LoadedGenerator, view: DrawingView, number: int) -> NDArray[np.float64]:
    """Return the values (number, A) that a view asks for, as for `LoadedGenerator.class_rows`."""
    row = [view.asked.get(name, np.nan) for name in loaded.config.asks]
    return np.tile(np.array(row, np.float64), (number, 1))


def _way(loaded: LoadedGenerator, view: InterpolateView) -> Pixels:
    """Latents follow `view.path`; class rows are mixed linearly."""
    between = slerp if view.path == "slerp" else lerp
    ends = [latent(seed, loaded.config).double() for _, seed in view.stops]
    digits, seeds = zip(*view.stops, strict=True)
    asked = _asked(loaded, view, len(digits))
    rows = loaded.class_rows([digit or 0 for digit in digits], seeds, asked=asked).double()
    z: list[Tensor] = [ends[0]]
    c: list[Tensor] = [rows[0]]
    for leg in range(len(ends) - 1):
        for k in range(1, view.frames):
            t = k / (view.frames - 1)
            z.append(between(ends[leg], ends[leg + 1], t))
            c.append(lerp(rows[leg], rows[leg + 1], t))
    return draw(loaded.generator, torch.stack(z), torch.stack(c))


def _digits(loaded: LoadedGenerator, view: WriteView) -> Pixels:
    z = truncate(latents(view.seeds, loaded.config).double(), view.truncation)
    asked = _asked(loaded, view, len(view.digits))
    return draw(loaded.generator, z, loaded.class_rows(view.digits, view.seeds, view.truncation, asked))


# --- Files


def picture(view: DrawingView, pixels: Pixels, note: str) -> bytes:
    """Return the PNG of a view with the link `note` in it.

    It shows a grid, the hero beside its grid, the frames in rows, or a text in one line.
    """
    if isinstance(view, WriteView):
        grey = writing.written(view.text, pixels, view.spacing)
        return _png(_enlarged(writing.ramp(view.ink, view.paper)[grey], WRITTEN_SCALE), note)
    if isinstance(view, ExploreView):
        grid = _enlarged(_sheet(pixels[1:], _columns(view, len(pixels) - 1)), 4)
        hero = _enlarged(pixels[0], max(grid.height // pixels.shape[1], 8))
        image = Image.new(grid.mode, (hero.width + 24 + grid.width, max(hero.height, grid.height)))
        image.paste(hero, (0, (image.height - hero.height) // 2))
        image.paste(grid, (hero.width + 24, (image.height - grid.height) // 2))
        return _png(image, note)
    return sheet(pixels, _columns(view, len(pixels)), note)


def kinds(view: DrawingView) -> tuple[str, ...]:
    """Return the kinds of files that show a view. The first one is png."""
    if isinstance(view, InterpolateView):
        return ("png", "gif", "webp", "mp4")
    return ("png", "svg", "gif") if isinstance(view, WriteView) else ("png",)


def file_of(view: DrawingView, pixels: Pixels, kind: str, note: str) -> bytes:
    """Return the file of a drawn view with the link `note` in it; `kind` is one of its `kinds`.

    Raises `ValueError` for another kind, and for mp4 without PyAV.
    """
    if kind not in kinds(view):
        raise ValueError(f"a view of kind {view.kind} makes {', '.join(kinds(view))} and no {kind}")
    if kind == "svg" and isinstance(view, WriteView):
        grey = writing.written(view.text, pixels, view.spacing)
        return writing.svg(grey, view.ink, view.paper, f"{view.text} in handwriting", note, WRITTEN_SCALE)
    if kind == "gif" and isinstance(view, WriteView):
        return _appearing(view, pixels, note)
    if kind == "png" or not isinstance(view, InterpolateView):
        return picture(view, pixels, note)
    milliseconds = round(1000 / view.fps) if view.fps else MILLISECONDS
    if kind == "mp4":
        return video(pixels, note, milliseconds, view.play)
    return animation(pixels, kind, note, milliseconds, view.play)


def _appearing(view: WriteView, pixels: Pixels, note: str) -> bytes:
    """Return a GIF that shows a text, and then how it appears from left to right, each glyph in `STROKES` steps."""
    whole = writing.written(view.text, pixels, view.spacing)
    edges = [writing.MARGIN, *writing.ends(view.text, pixels, view.spacing)]
    steps = [round(a + (b - a) * part / STROKES) for a, b in pairwise(edges) for part in range(1, STROKES + 1)]
    palette = writing.ramp(view.ink, view.paper).tobytes()
    images = []
    for end in (whole.shape[1], 0, *steps[:-1]):
        image = _enlarged(np.where(np.arange(whole.shape[1]) < end, whole, 0).astype(np.uint8), WRITTEN_SCALE)
        image.putpalette(palette)
        images.append(image)
    durations = [WRITTEN_MILLISECONDS, *[MILLISECONDS] * len(steps)]
    options: dict[str, Any] = {"append_images": images[1:], "duration": durations, "comment": note.encode("ascii")}
    buffer = io.BytesIO()
    images[0].save(buffer, format="gif", save_all=True, optimize=False, loop=0, **options)
    return buffer.getvalue()


def _columns(view: DrawingView, number: int) -> int:
    """Return the columns of a grid of `number` pictures: one digit's pictures fill a row, frames a rectangle."""
    if isinstance(view, GenerateView):
        return view.count
    return min(number, 12)


def sheet(images: Pixels, columns: int, note: str, scale: int = 4, gap: int = 2) -> bytes:
    """Return pictures (N, H, W[, 3]) as one PNG, row by row, with `gap` black pixels between them and `note` as text.

    Each pixel becomes a square of `scale` pixels.
    """
    return _png(_enlarged(_sheet(images, columns, gap), scale), note)


def _sheet(images: Pixels, columns: int, gap: int = 2) -> Pixels:
    margins = [(0, 0), (0, gap), (0, gap)] + [(0, 0)] * (images.ndim - 3)
    grid = image_grid(np.pad(images, margins), columns)
    return np.ascontiguousarray(grid[: grid.shape[0] - gap, : grid.shape[1] - gap])


def order(number: int, play: str) -> list[int]:
    """Return the frames of one round of an animation of `number` frames, for one of `models.views.PLAYS`."""
    return [*range(number), *(range(number - 2, 0, -1) if play == "" else ())]


def animation(
    pictures: Pixels, kind: str, note: str = "", milliseconds: int = MILLISECONDS, play: str = "", scale: int = 8
) -> bytes:
    """Return frames (N, H, W[, 3]) as an animation with `note` in it; `kind` is gif or (lossless) webp.

    `play` is one of `models.views.PLAYS`. The first and the last frame stay four times as long as the others.
    """
    shown = order(len(pictures), play)
    images = [_enlarged(pictures[index], scale) for index in shown]
    ends = (0, len(pictures) - 1)
    durations = [milliseconds * (4 if index in ends else 1) for index in shown]
    options: dict[str, Any] = {"save_all": True, "append_images": images[1:], "duration": durations}
    if kind == "webp":
        exif = Image.Exif()
        exif[DESCRIPTION] = note
        options |= {"lossless": True, "quality": 0, "method": 0, "exif": exif, "loop": 1 if play == "once" else 0}
    else:
        options |= {"optimize": False, "comment": note.encode("ascii")} | ({} if play == "once" else {"loop": 0})
    buffer = io.BytesIO()
    images[0].save(buffer, format=kind, **options)
    return buffer.getvalue()


def video(pictures: Pixels, note: str = "", milliseconds: int = MILLISECONDS, play: str = "", scale: int = 16) -> bytes:
    """Return frames (N, H, W[, 3]) as an MP4 (H.264) with `note` as its comment; one round of `order`.

    The first and the last frame stay four times as long as the others. Raises `ValueError` without PyAV.
    """
    try:
        import av  # an optional extra
    except ImportError as error:
        raise ValueError("MP4 needs PyAV: pip install 'digitforge[video]'") from error
    shown = [index for index in order(len(pictures), play) for _ in range(4 if index in (0, len(pictures) - 1) else 1)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        container.metadata["comment"] = note
        stream = container.add_stream("h264", rate=Fraction(1000, milliseconds))
        stream.width, stream.height = pictures.shape[2] * scale, pictures.shape[1] * scale
        stream.pix_fmt = "yuv420p"
        for index in shown:
            image = _enlarged(pictures[index], scale).convert("RGB")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


DESCRIPTION = 0x010E
"""EXIF's tag for a description of the image, which holds the link in a WebP file."""


def read_note(content: bytes) -> str:
    """Return the link in a PNG, GIF or WebP file of ours. Raises `ValueError` if there is none."""
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG", "GIF", "WEBP"])
        comment = image.info.get("comment", b"")
        note = image.info.get(LINK_NOTE) or image.getexif().get(DESCRIPTION) or comment.decode("ascii")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a picture that can be read ({error})") from error
    if not isinstance(note, str) or not note:
        raise ValueError("this picture does not contain a link of DigitForge")
    return note


def _enlarged(pixels: Pixels, scale: int) -> Image.Image:
    image = Image.fromarray(pixels)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _png(image: Image.Image, note: str) -> bytes:
    text = PngInfo()
    text.add_itxt(LINK_NOTE, note)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()
