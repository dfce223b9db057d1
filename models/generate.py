"""`python -m models.generate --generator FILE --digit 6`: draw pictures with a generator file.

With `--prompt "a typical seven, seed 7"` words say what to draw (see `models.prompt`).
`python -m models.generate --link LINK` draws what a link of the app shows, and checks the pixels.
"""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from models import pictures, sampling
from models.command_line import Parser, run
from models.files import written_whole
from models.find_generator import NotFoundError, find
from models.generator_file import LoadedGenerator, load_generator
from models.prompt import Abilities, Prompt, read_prompt
from models.view_link import G_LENGTH
from models.views import InterpolateView, Permalink, read_link

MAX_IMAGES = 100_000
"""Pictures of one call."""
LINK_SUFFIXES = (".png", ".gif", ".webp")
"""Files that can hold a link."""
T = TypeVar("T")
SHIPPED = Path(__file__).resolve().parent.parent / "pretrained"
"""Folder of the shipped runs."""


def parse_classes(text: str, num_classes: int, names: Sequence[str] = ()) -> list[int]:
    """Return the classes that a text such as '6', '0-9', '1,3,5-7', 'Bag' or 'Bag,Dress' names, in that order.

    A text that is the name of a class means that class, even if it looks like a number or a list. Raises `ValueError`
    for a class outside 0..num_classes - 1.
    """
    labels = {name: label for label, name in enumerate(names)}
    if text.strip() in labels:
        return [labels[text.strip()]]
    classes: list[int] = []
    for part in map(str.strip, text.split(",")):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if part in labels:
            first = last = labels[part]
        if not first <= last < num_classes:
            last = num_classes - 1
            known = f" of them or of the names {', '.join(names)}" if names else ""
            raise ValueError(
                f"--digit must be one of 0 to {last}, a range such as 0-{last}, or a list{known}: got {text!r}"
            )
        classes += range(first, last + 1)
    return classes


def generate(
    loaded: LoadedGenerator, classes: list[int], count: int, seed: int, truncation: float
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pictures (N, H, W[, 3]) and their classes (N,): `count` of each class, with seeds seed, seed + 1, ...

    For an unconditional generator `classes` is empty, `count` is the number of pictures, and their classes are -1.
    """
    seeds = list(range(seed, seed + count))
    labels = [label for label in classes for _ in seeds] or [-1] * count
    z = sampling.truncate(sampling.latents(seeds, loaded.config).double(), truncation).repeat(max(len(classes), 1), 1)
    c = loaded.class_rows(labels, seeds * max(len(classes), 1), truncation)
    return sampling.draw(loaded.generator, z, c), np.array(labels, np.int64)


def draw_link(text: str, generator: Path | None, places: list[str], out: Path) -> int:
    """Draw what a link shows, write it to `out`, and print the digest of its pixels.

    `text` is a link, the canonical text of a view, or the path of a picture that contains one. Returns 0 if the digest
    is the link's or the link has none, and 1 if it is another one. Raises `ValueError` for a link or a file that cannot
    be used, and `NotFoundError`, which is one, if the generator cannot be found.
    """
    if out.suffix not in (*LINK_SUFFIXES, ".mp4"):
        raise ValueError(f"--out must end in {', '.join(LINK_SUFFIXES)} or .mp4: got {str(out)!r}")
    if Path(text).suffix in LINK_SUFFIXES and "?" not in text:
        text = _note_of(Path(text))
    try:
        link = read_link(text)
    except ValueError as error:
        raise ValueError(f"--link: {error}") from error
    if out.suffix != ".png" and not isinstance(link.view, InterpolateView):
        raise ValueError(f"--out must end in .png for a picture that does not move: got {str(out)!r}")
    if generator:
        loaded, sha256 = load_generator(generator), hashlib.sha256(generator.read_bytes()).hexdigest()
        if not sha256.startswith(link.view.g):
            raise NotFoundError(f"{generator} is not the generator {link.view.g} that the link names")
    else:
        loaded, sha256 = find(link.view, places)
    view = replace(link.view.explicit(loaded.config.num_classes), g=sha256[:G_LENGTH])
    pixels = pictures.frames(loaded, view)
    px = pictures.digest(pixels)
    content = pictures.file_of(view, pixels, out.suffix[1:], Permalink(view, px).text)
    with written_whole(out) as file:
        file.write(content)
    print(f"px={px}")
    if link.px and link.px != px:
        print(f"models.generate: these are not the link's pixels, px={link.px}", file=sys.stderr)
        return 1
    return 0


def _note_of(path: Path) -> str:
    try:
        return pictures.read_note(path.read_bytes())
    except OSError as error:
        raise ValueError(f"--link: {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"--link: {path}: {error}") from error


def _read_prompt(text: str, loaded: LoadedGenerator) -> Prompt:
    try:
        return read_prompt(text, Abilities.of(loaded))
    except ValueError as error:
        raise ValueError(f"--prompt: {error}") from error


def _once(name: str, option: T | None, said: T | None, default: T) -> T:
    """Return what an option or the prompt says, or the default. Raises `ValueError` if both say something."""
    if option is not None and said is not None:
        raise ValueError(f"--{name} and --prompt both set the {name}; leave one of them out")
    return next(value for value in (option, said, default) if value is not None)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="python -m models.generate", description="Draw digits with a generator file.")
    parser.add_argument("--generator", type=Path, metavar="FILE", help="a generator.safetensors file")
    parser.add_argument(
        "--link",
        metavar="LINK",
        help="a link of the app, its text, or a PNG, GIF or WebP of the app: draw what it shows, print the digest of "
        "the pixels as px=..., and exit with 0 if it is the link's, 1 if not, 2 if there is no such generator",
    )
    parser.add_argument(
        "--runs",
        metavar="PATH_OR_URI",
        help="where to look for the generator of a --link (default: the folder runs, then the shipped runs)",
    )
    parser.add_argument("--digit", help="a class by number or name, a range (0-9) or a list (1,3,5); default: all")
    parser.add_argument("--count", type=int, help="pictures of each class (default: 16, with --prompt 1)")
    parser.add_argument("--seed", type=int, help="seed of the first picture; picture k has seed + k (default: 0)")
    parser.add_argument("--truncation", type=float, help="from 0 = typical to 1 = varied (default: 1)")
    parser.add_argument(
        "--prompt",
        metavar="WORDS",
        help="what to draw, in words such as 'a typical seven, seed 7'; docs/words.md has the grammar",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("digits.png"),
        help="a .png with a grid, or a .npz with `images` and `labels` (default: digits.png); for a --link also a "
        ".gif, .webp or .mp4 that moves",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(4, os.cpu_count() or 1))
    try:
        if options.link is not None:
            places = [options.runs] if options.runs else ["runs", str(SHIPPED)]
            return draw_link(options.link, options.generator, places, options.out)
        if options.generator is None:
            raise ValueError("--generator FILE or --link LINK is needed")
        loaded = load_generator(options.generator)
        num_classes = loaded.config.num_classes
        if options.digit is not None and not num_classes:
            raise ValueError("--digit: this generator draws without classes; omit the option")
        prompt = Prompt() if options.prompt is None else _read_prompt(options.prompt, loaded)
        digits = _once("digit", options.digit, prompt.digit, f"0-{num_classes - 1}")
        seed = _once("seed", options.seed, prompt.seed, 0)
        truncation = _once("truncation", options.truncation, prompt.truncation, 1.0)
        count = _once("count", options.count, None, 16 if options.prompt is None else 1)
        if isinstance(digits, str):
            classes = parse_classes(digits, num_classes, loaded.class_names) if num_classes else []
        else:
            classes = [digits]
        if count < 1 or count * max(len(classes), 1) > MAX_IMAGES:
            raise ValueError(
                f"--count must be at least 1, and the number of all pictures at most {MAX_IMAGES}: got {count}"
            )
        if not 0 <= seed <= sampling.MAX_SEED - count + 1:
            raise ValueError(f"--seed and the seeds that follow it must be in 0..{sampling.MAX_SEED}: got {seed}")
        if options.out.suffix not in (".png", ".npz"):
            raise ValueError(f"--out must end in .png or .npz: got {str(options.out)!r}")
        images, labels = generate(loaded, classes, count, seed, truncation)
        write_pictures(options.out, images, labels, count if len(classes) > 1 else 0)
    except ValueError as error:
        return parser.fail(str(error))
    except OSError as error:
        return parser.fail(f"{options.out}: cannot be written ({error.strerror})")
    for move in prompt.moves:
        print(f"{move.words} -> {move.control} {move.setting}")
    print(f"Wrote {len(images)} picture{'s' if len(images) > 1 else ''} to {options.out}")
    return 0


def write_pictures(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], columns: int) -> None:
    """Write pictures (N, H, W[, 3]) and classes (N,) to a .npz file, or the pictures as a grid to a .png file.

    `columns` is the width of the grid, at most 100; 0 = a square.
    """
    with written_whole(path) as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, images=images, labels=labels)
        else:
            columns = min(columns or int(np.ceil(np.sqrt(len(images)))), 100)
            file.write(sampling.to_png(sampling.image_grid(images, columns), scale=4 if len(images) <= 400 else 1))


if __name__ == "__main__":
    run(main)
