"""A dataset like MNIST that a generator draws: IDX files of training and test pictures, and a datasheet.

`python -m models.generate --generator FILE --format idx --out FOLDER` writes one; `--dataset FOLDER` trains with it.
Shapes: N pictures, K classes, A attributes.
"""

import gzip
import hashlib
import os
import shlex
import shutil
import struct
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models import digit_reader
from models.attributes import ATTRIBUTES, measure
from models.digit_reader import load_digit_reader, read_digits
from models.generator_file import LoadedGenerator
from models.sampling import draw, latents, truncate

CHUNK = 500
"""Pictures that are in memory at a time, beside those of the test split."""
TRAIN_PARTS = 6
"""Training pictures for each test picture, as MNIST has 60,000 and 10,000."""
COUNT = 6000
"""Usual number of training pictures of each class."""
SHARES = (5, 50, 95)
"""Percentiles of attributes in the datasheet."""


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """The contents of a dataset that is to be drawn."""

    count: int
    """Training pictures of each class."""
    seed: int
    """Seed of the first picture of each class. Picture k has seed + k, and those for testing follow the others."""
    truncation: float
    asked: Mapping[str, float]
    """Attributes and the writer that are asked for, by name."""

    @property
    def test_count(self) -> int:
        """Test pictures of each class."""
        return max(self.count // TRAIN_PARTS, 1)

    @property
    def last_seed(self) -> int:
        """The seed of the last test picture of each class."""
        return self.seed + self.count + self.test_count - 1


def write_dataset(folder: Path, loaded: LoadedGenerator, sha256: str, plan: DatasetPlan) -> None:
    """Write a dataset into a folder that does not exist or is empty: all of it, or nothing when this is interrupted.

    `sha256` is that of the generator file. Pictures of the classes take turns, so that a part of them is balanced, too.
    Raises `ValueError` if the folder has files, and for a generator without classes.
    """
    if not loaded.config.num_classes:
        raise ValueError("this generator draws without classes, so a dataset of its pictures would have no labels")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; name another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    stage = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    stage.mkdir()
    try:
        total = (plan.count + plan.test_count) * loaded.config.num_classes
        with tqdm(total=total, unit="picture", desc="Drawing", leave=False, disable=not sys.stderr.isatty()) as bar:
            parts = _pictures(loaded, plan, plan.seed, plan.count, bar.update)
            hashes = _write_split(stage, "train", loaded, plan.count, parts)
            parts = _pictures(loaded, plan, plan.seed + plan.count, plan.test_count, bar.update)
            images = np.concatenate(list(parts))
            hashes |= _write_split(stage, "t10k", loaded, plan.test_count, [images])
        if loaded.class_names:
            (stage / "classes.txt").write_text("".join(f"{name}\n" for name in loaded.class_names), "utf-8")
        sheet = datasheet(folder.name, loaded, sha256, plan, hashes, images)
        (stage / "README.md").write_text(sheet, "utf-8")
        os.replace(stage, folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _pictures(
    loaded: LoadedGenerator, plan: DatasetPlan, seed: int, count: int, advance: Callable[[float], object]
) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` pictures of each class, whose seeds begin with `seed`, in parts (N, H, W[, 3])."""
    classes = loaded.config.num_classes
    row = [plan.asked.get(name, np.nan) for name in loaded.config.asks]
    for start in range(0, count * classes, CHUNK):
        numbers = range(start, min(start + CHUNK, count * classes))
        labels, seeds = [n % classes for n in numbers], [seed + n // classes for n in numbers]
        asked = np.tile(np.array(row, np.float64), (len(numbers), 1))
        z = truncate(latents(seeds, loaded.config).double(), plan.truncation)
        yield draw(loaded.generator, z, loaded.class_rows(labels, seeds, plan.truncation, asked))
        advance(len(numbers))


def _write_split(
    folder: Path, split: str, loaded: LoadedGenerator, count: int, parts: Iterable[NDArray[np.uint8]]
) -> dict[str, str]:
    """Write the images and labels of a split, and return the SHA-256 of the raw files by name."""
    classes, size, channels = loaded.config.num_classes, loaded.config.img_size, loaded.config.img_channels
    shape = (count * classes, size, size) + ((channels,) if channels > 1 else ())
    labels = (np.arange(count * classes) % classes).astype(np.uint8)
    contents = {f"images-idx{len(shape)}": (shape, parts), "labels-idx1": (labels.shape, [labels])}
    names = {f"{split}-{name}-ubyte": content for name, content in contents.items()}
    return {name: _write_idx(folder / f"{name}.gz", *content) for name, content in names.items()}


def _write_idx(path: Path, shape: tuple[int, ...], parts: Iterable[NDArray[np.uint8]]) -> str:
    """Write unsigned bytes of a shape as a gzipped IDX file, and return the SHA-256 of the raw file."""
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    digest = hashlib.sha256(header)
    # Without a name and a time in it, the same pictures make the same file.
    with open(path, "xb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        file.write(header)
        for part in parts:
            digest.update(part.tobytes())
            file.write(part.tobytes())
    return digest.hexdigest()


# --- The datasheet


def datasheet(
    name: str,
    loaded: LoadedGenerator,
    sha256: str,
    plan: DatasetPlan,
    hashes: Mapping[str, str],
    images: NDArray[np.uint8],
) -> str:
    """Return the datasheet of a dataset in Markdown. `images` (N, H, W[, 3]) are its test pictures."""
    config, source = loaded.config, loaded.provenance
    origin = ", ".join(f"{key} {source[key]}" for key in ("run", "recipe", "step") if key in source)
    asked = ", ".join(f"{key} {value:g}" for key, value in plan.asked.items()) or "nothing; as the seeds have it"
    last_train = plan.seed + plan.count - 1
    colours = "grey" if config.img_channels == 1 else "RGB"
    options = ["--seed", str(plan.seed), "--truncation", f"{plan.truncation:g}"]
    options += [word for key, value in plan.asked.items() for word in (f"--{key}", f"{value:g}")]
    command = shlex.join(["--format", "idx", "--count", str(plan.count), *options, "--out", name])
    trained_on = "\n".join(f"- `{file}`: `{digest}`" for file, digest in source.get("data", {}).items())
    raw = "\n".join(f"| `{file}` | `{digest}` |" for file, digest in hashes.items())
    return f"""# {name}: pictures that a network has drawn

A dataset in the format of MNIST. No picture in it was written by a person: a generator of DigitForge has drawn all.

| | |
|---|---|
| pictures | {plan.count * config.num_classes:,} for training, {plan.test_count * config.num_classes:,} for testing |
| size | {config.img_size} x {config.img_size} pixels, {colours}, unsigned bytes |
| classes | {config.num_classes}, with equally many pictures of each |
| generator | {origin} |
| generator file | SHA-256 `{sha256}` |
| seeds of each class | for training {plan.seed} to {last_train}, for testing {last_train + 1} to {plan.last_seed} |
| truncation | {plan.truncation:g} (1 = as varied as the generator draws) |
| asked for | {asked} |

Of each split, picture n (from 0) has class n mod {config.num_classes}, and the first seed + n div {config.num_classes}.
This command draws the same pixels again, on any machine:

```
python -m models.generate --generator FILE {command}
```

| raw file | SHA-256 |
|---|---|
{raw}

## Scores

Measured on the pictures for testing.

{_scores(loaded, images)}

`python -m trainer evaluate` of the project compares the generator with real images: FID, precision, recall and others.

## Limits

- A label is what the generator was asked for. Nobody has read the pictures.
- They may vary less than real ones, and rare ways to write may be missing. A classifier that is trained on them alone
  may read real digits worse than one that is trained on real ones. Test with real data before you rely on it.
- Classes are equally frequent, which they are not in MNIST.
- What is wrong or missing in the training data of the generator is so here, too.

## Licence

The code of the generator is under the Apache License 2.0. Its training data have a licence of their own (MNIST: by Yann
LeCun and Corinna Cortes, CC BY-SA 3.0). Name them when you pass this dataset on. They were, by the SHA-256 of their raw
files:

{trained_on}
"""


def _scores(loaded: LoadedGenerator, images: NDArray[np.uint8]) -> str:
    """Return tables of what is measured in test pictures, whose classes take turns."""
    labels = np.arange(len(images)) % loaded.config.num_classes
    tables = []
    if loaded.writes_digits and loaded.config.img_size == digit_reader.IMG_SIZE:
        _, logits = read_digits(load_digit_reader(), images)
        is_right = logits.argmax(1).numpy() == labels
        rows = [f"| {label} | {is_right[labels == label].mean():.2%} |" for label in range(loaded.config.num_classes)]
        tables += [
            f"| digit | read as it by the digit reader (SHA-256 `{digit_reader.SHA256[:12]}...`) |\n|---|---|\n"
            + "\n".join([*rows, f"| all | {is_right.mean():.2%} |"])
        ]
    values = np.percentile(measure(images, list(ATTRIBUTES)), SHARES, axis=0).T
    names = [f"{name} ({attribute.unit.strip()})" for name, attribute in ATTRIBUTES.items()]
    heads = " | ".join(f"{share} %" for share in SHARES)
    rows = [f"| {name} | {' | '.join(f'{v:.1f}' for v in own)} |" for name, own in zip(names, values, strict=True)]
    tables += [f"| percentiles of | {heads} |\n|---|{'---|' * len(SHARES)}\n" + "\n".join(rows)]
    return "\n\n".join(tables)
