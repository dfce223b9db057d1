"""`python -m models.generate --generator FILE --digit 6`: draw pictures with a generator file.

With `--prompt "a typical seven, seed 7"` words say what to draw (see `models.prompt`).
`python -m models.generate --write 2026-11-24` writes a text by hand.
`python -m models.generate --generator FILE --format idx --out FOLDER` draws a dataset like MNIST.
`python -m models.generate --link LINK` draws what a link of the app shows, and checks the pixels.
"""

import hashlib
import os
import re
import sys
import zipfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from models import pictures, sampling
from models.attributes import ATTRIBUTES
from models.command_line import Parser, run
from models.drawn_dataset import COUNT, DatasetPlan, write_dataset
from models.files import written_whole
from models.find_generator import NotFoundError, find
from models.generator_file import LoadedGenerator, load_generator
from models.prompt import Abilities, Prompt, read_prompt
from models.view_link import G_LENGTH, ViewError
from models.views import STYLES, DrawingView, Permalink, WriteView, read_link

MAX_IMAGES = 100_000
"""Pictures of one call."""
LINK_SUFFIXES = (".png", ".gif", ".webp")
"""Files that a link can be read from."""
T = TypeVar("T")
SHIPPED = Path(__file__).resolve().parent.parent / "pretrained"
"""Folder of the shipped runs."""
SHIPPED_RUN = "pretrained/forge"
"""The run that writes texts."""


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
    loaded: LoadedGenerator,
    classes: list[int],
    count: int,
    seed: int,
    truncation: float,
    asked: Sequence[Mapping[str, float]] = (),
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pictures (N, H, W[, 3]) and their classes (N,): `count` of each class, with seeds seed, seed + 1, ...

    `asked` has what is asked for in each class: attributes or a writer, by name; empty = nothing. For an unconditional
    generator `classes` is empty, `count` is the number of pictures, and their classes are -1.
    """
    seeds = list(range(seed, seed + count))
    labels = [label for label in classes for _ in seeds] or [-1] * count
    z = sampling.truncate(sampling.latents(seeds, loaded.config).double(), truncation).repeat(max(len(classes), 1), 1)
    each = asked or [{}] * max(len(classes), 1)
    rows = [[own.get(name, np.nan) for name in loaded.config.asks] for own in each]
    wanted = np.repeat(np.array(rows, np.float64), count, 0)
    c = loaded.class_rows(labels, seeds * max(len(classes), 1), truncation, wanted)
    return sampling.draw(loaded.generator, z, c), np.array(labels, np.int64)


def check_writer(loaded: LoadedGenerator, number: int) -> None:
    """Raise `ValueError` for a writer whom a generator does not know."""
    if not loaded.writers:
        raise ValueError("--writer: this generator knows no writers; omit the option")
    if number not in loaded.writers:
        known = f"{len(loaded.writers)} writers, with numbers from {min(loaded.writers)} to {max(loaded.writers)}"
        raise ValueError(f"--writer: this generator knows {known}, but not {number}")


def check_attributes(loaded: LoadedGenerator, classes: list[int], asked: Mapping[str, float]) -> None:
    """Raise `ValueError` for an attribute that a generator does not know, or that a class of it does not reach."""
    for name, value in asked.items():
        if loaded.table is None or name not in loaded.table.names:
            known = f"only {', '.join(loaded.table.names)}" if loaded.table else "no attributes"
            raise ValueError(f"--{name}: this generator knows {known}; omit the option")
        for label in classes:
            low, high = loaded.table.reach(name, label)
            if not low <= value <= high:
                class_name = loaded.class_names[label] if loaded.class_names else str(label)
                unit = ATTRIBUTES[name].unit
                raise ValueError(
                    f"--{name} must be between {low:.1f}{unit} and {high:.1f}{unit} for {class_name}: got {value:g}"
                )


def read_rows(path: Path, loaded: LoadedGenerator) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file with a picture a row: `labels` (N,), and any of `config.asks` (N,).

    NaN = not asked for. Raises `ValueError` for a file that cannot be used.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"--attributes: {path} cannot be read as .npz ({error})") from error
    names = loaded.config.asks
    if unknown := sorted(set(arrays) - {"labels", *names}):
        raise ValueError(
            f"--attributes: {path} has {unknown[0]!r}; this generator takes {', '.join(('labels', *names))}"
        )
    if "labels" not in arrays:
        raise ValueError(f"--attributes: {path} has no array 'labels'")
    labels = arrays["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not 0 < len(labels) <= MAX_IMAGES:
        raise ValueError(
            f"--attributes: labels must be 1 to {MAX_IMAGES} whole numbers: got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= loaded.config.num_classes:
        raise ValueError(f"--attributes: labels must be 0 to {loaded.config.num_classes - 1}: got {labels.max()}")
    for name, array in arrays.items():
        if (
            array.shape != labels.shape
            or array.dtype.kind not in "iuf"
            or (array.dtype.kind == "f" and np.isinf(array).any())
        ):
            raise ValueError(
                f"--attributes: {name} must be {len(labels)} finite numbers, or NaN: got {array.dtype} {array.shape}"
            )
    return arrays


def generate_rows(
    loaded: LoadedGenerator, rows: Mapping[str, NDArray[Any]], seed: int, truncation: float
) -> NDArray[np.uint8]:
    """Return a picture (N, H, W[, 3]) for each row of `read_rows`, with seeds seed, seed + 1, ..."""
    labels = rows["labels"].astype(np.int64)
    seeds = range(seed, seed + len(labels))
    missing = np.full(len(labels), np.nan)
    asked = np.array([rows.get(name, missing) for name in loaded.config.asks], np.float64)
    z = sampling.truncate(sampling.latents(seeds, loaded.config).double(), truncation)
    c = loaded.class_rows(labels.tolist(), seeds, truncation, asked.reshape(-1, len(labels)).T)
    return sampling.draw(loaded.generator, z, c)


def draw_link(text: str, generator: Path | None, places: list[str], out: Path) -> int:
    """Draw what a link shows, write it to `out`, and print the digest of its pixels.

    `text` is a link, the canonical text of a view, or the path of a picture that contains one. Returns 0 if the digest
    is the link's or the link has none, and 1 if it is another one. Raises `ValueError` for a link or a file that cannot
    be used, and `NotFoundError`, which is one, if the generator cannot be found.
    """
    if Path(text).suffix in LINK_SUFFIXES and "?" not in text:
        text = _note_of(Path(text))
    try:
        link = read_link(text)
    except ValueError as error:
        raise ValueError(f"--link: {error}") from error
    check_out(out, link.view)
    if generator:
        loaded, sha256 = _loaded(generator)
        if not sha256.startswith(link.view.g):
            raise NotFoundError(f"{generator} is not the generator {link.view.g} that the link names")
    else:
        loaded, sha256 = find(link.view, places)
    px = draw_view(loaded, sha256, link.view, out)
    if link.px and link.px != px:
        print(f"models.generate: these are not the link's pixels, px={link.px}", file=sys.stderr)
        return 1
    return 0


def draw_view(loaded: LoadedGenerator, sha256: str, view: DrawingView, out: Path) -> str:
    """Draw a view with a generator of this SHA-256, write it to `out`, and print and return the digest of its pixels.

    Raises `ViewError` for what the generator cannot draw.
    """
    view = replace(pictures.explicit(loaded, view), g=sha256[:G_LENGTH])
    pixels = pictures.frames(loaded, view)
    px = pictures.digest(pixels)
    content = pictures.file_of(view, pixels, out.suffix[1:], Permalink(view, px).text)
    with written_whole(out) as file:
        file.write(content)
    print(f"px={px}")
    return px


def check_out(out: Path, view: DrawingView) -> None:
    """Raise `ValueError` unless `out` is a file that can show a view."""
    suffixes = [f".{kind}" for kind in pictures.kinds(view)]
    if out.suffix not in suffixes:
        raise ValueError(f"--out must end in {' or '.join(suffixes)} for {view.kind}: got {str(out)!r}")


def write_text(options: Namespace) -> int:
    """Write the text of `--write` by hand, with the shipped forge unless `--generator` says another."""
    for name in ("digit", "count", "prompt", "attributes"):
        if getattr(options, name) is not None:
            raise ValueError(f"--write says what to draw; omit --{name}")
    names = ("seed", "truncation", "writer", "style", "spacing", "ink", "paper", *ATTRIBUTES)
    values = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    try:
        view = WriteView(run="" if options.generator else SHIPPED_RUN, text=options.write, **values)
        check_out(options.out, view)
        if options.generator:
            loaded, sha256 = _loaded(options.generator)
        else:
            loaded, sha256 = find(view, [str(SHIPPED)])
        draw_view(loaded, sha256, view, options.out)
    except ViewError as error:
        name = "write" if error.parameter == "text" else error.parameter
        raise ValueError(f"--{name}: {error.problem}") from error
    return 0


def draw_dataset(options: Namespace) -> int:
    """Draw the dataset of `--format idx`."""
    for name in ("digit", "prompt", "attributes"):
        if getattr(options, name) is not None:
            raise ValueError(f"--format idx draws a dataset of all classes; omit --{name}")
    if options.out.suffix in (".png", ".npz"):
        raise ValueError(f"--out must be a folder for --format idx: got {str(options.out)!r}")
    loaded, sha256 = _loaded(options.generator)
    classes = list(range(loaded.config.num_classes))
    wanted = {name: getattr(options, name) for name in ATTRIBUTES if getattr(options, name) is not None}
    check_attributes(loaded, classes, wanted)
    if options.writer is not None:
        check_writer(loaded, options.writer)
        wanted["writer"] = options.writer
    plan = DatasetPlan(
        count=_once("count", options.count, None, COUNT),
        seed=_once("seed", options.seed, None, 0),
        truncation=_once("truncation", options.truncation, None, 1.0),
        asked=wanted,
    )
    total = (plan.count + plan.test_count) * len(classes)
    if plan.count < 1 or total > MAX_IMAGES:
        raise ValueError(
            f"--count must be at least 1, and the number of all pictures at most {MAX_IMAGES}: got {plan.count}"
        )
    if not 0 <= plan.seed <= plan.last_seed <= sampling.MAX_SEED:
        raise ValueError(f"--seed and the seeds that follow it must be in 0..{sampling.MAX_SEED}: got {plan.seed}")
    write_dataset(options.out, loaded, sha256, plan)
    print(f"Wrote {total} pictures and their datasheet, README.md, to {options.out}")
    return 0


def _loaded(path: Path) -> tuple[LoadedGenerator, str]:
    """Return the generator in a file, and the SHA-256 of the file."""
    loaded = load_generator(path)
    return loaded, hashlib.sha256(path.read_bytes()).hexdigest()


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
        "--write",
        metavar="TEXT",
        help="a number, a date or a time, such as 2026-11-24: write it by hand, with --seed, --truncation, the "
        "attributes, and the options --style, --spacing, --ink and --paper (default of --generator: the shipped forge)",
    )
    parser.add_argument("--style", choices=STYLES, help="of a text: the same seed for all digits, or one for each")
    parser.add_argument("--spacing", type=int, metavar="PIXELS", help="between two glyphs of a text (default: 3)")
    parser.add_argument("--ink", metavar="COLOUR", help="of a text: a name such as blue, or #1f3fa0 (default: black)")
    parser.add_argument("--paper", metavar="COLOUR", help="of a text (default: white)")
    for name, attribute in ATTRIBUTES.items():
        parser.add_argument(
            f"--{name}",
            type=float,
            metavar="DEGREES" if attribute.unit == "°" else "PIXELS",
            help=f"{name} of all pictures, for a generator that knows it (default: as the seeds have it)",
        )
    parser.add_argument(
        "--writer",
        type=int,
        metavar="NUMBER",
        help="who writes all pictures, for a generator that knows writers (default: anyone)",
    )
    parser.add_argument(
        "--attributes",
        type=Path,
        metavar="FILE",
        help="a .npz with `labels`, and any of slant, thickness and width, or writer, NaN = not asked for: draw a "
        "picture for each row",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("digits.png"),
        help="a .png with a grid, or a .npz with `images`, `labels` and what --attributes says (default: digits.png); "
        "for a --link also a .gif, .webp or .mp4 that moves, for --write also a .svg or a .gif",
    )
    parser.add_argument(
        "--format",
        choices=("idx",),
        help="write a dataset into the folder --out: IDX files as MNIST has them, with --count training pictures of "
        f"each class (default: {COUNT}), a sixth as many for testing, and a datasheet, for --dataset of the trainer",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(4, os.cpu_count() or 1))
    try:
        if options.link is not None:
            places = [options.runs] if options.runs else ["runs", str(SHIPPED)]
            return draw_link(options.link, options.generator, places, options.out)
        if options.write is not None:
            return write_text(options)
        for name in ("style", "spacing", "ink", "paper"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} goes with --write")
        if options.generator is None:
            raise ValueError("--generator FILE, --link LINK or --write TEXT is needed")
        if options.format is not None:
            return draw_dataset(options)
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
        wanted = {name: getattr(options, name) for name in ATTRIBUTES if getattr(options, name) is not None}
        if options.attributes is None:
            check_attributes(loaded, classes, wanted)
            if options.writer is not None:
                check_writer(loaded, options.writer)
                wanted["writer"] = options.writer
            for name in [said.attribute for said in prompt.asked] + ["writer"] * (prompt.writer is not None):
                _once(name, wanted.get(name), 0.0, 0.0)
            asked = [wanted | prompt.values(loaded.table, label) for label in classes]
            images, labels = generate(loaded, classes, count, seed, truncation, asked)
            write_pictures(options.out, images, {"labels": labels}, count if len(classes) > 1 else 0)
        elif options.digit is not None or options.prompt is not None or options.writer is not None or wanted:
            raise ValueError(
                "--attributes says what to draw in each row; omit --digit, --prompt, --slant, --thickness, --width and "
                "--writer"
            )
        else:
            images = draw_rows(loaded, options.attributes, seed, truncation, options.out)
    except ValueError as error:
        return parser.fail(str(error))
    except OSError as error:
        return parser.fail(f"{options.out}: cannot be written ({error.strerror})")
    for move in prompt.moves:
        print(f"{move.words} -> {Abilities.of(loaded).called(move.control)} {move.setting}")
    print(f"Wrote {len(images)} picture{'s' if len(images) > 1 else ''} to {options.out}")
    return 0


def draw_rows(loaded: LoadedGenerator, path: Path, seed: int, truncation: float, out: Path) -> NDArray[np.uint8]:
    """Draw the pictures of `--attributes`, write them to `out`, and return them."""
    rows = read_rows(path, loaded)
    last = sampling.MAX_SEED - len(rows["labels"]) + 1
    if not 0 <= seed <= last:
        raise ValueError(f"--seed must be in 0..{last} for {len(rows['labels'])} rows: got {seed}")
    images = generate_rows(loaded, rows, seed, truncation)
    write_pictures(out, images, rows, 0)
    return images


def write_pictures(path: Path, images: NDArray[np.uint8], rows: Mapping[str, NDArray[Any]], columns: int) -> None:
    """Write pictures (N, H, W[, 3]) and further arrays (N,) to a .npz file, or the pictures as a grid to a .png file.

    `columns` is the width of the grid, at most 100; 0 = a square.
    """
    with written_whole(path) as file:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {"images": images} | dict(rows)
            np.savez_compressed(file, **arrays)
        else:
            columns = min(columns or int(np.ceil(np.sqrt(len(images)))), 100)
            file.write(sampling.to_png(sampling.image_grid(images, columns), scale=4 if len(images) <= 400 else 1))


if __name__ == "__main__":
    run(main)
