"""Images and labels from IDX files, and the global order in which training sees them.

IDX is the format of MNIST, Fashion-MNIST, KMNIST, QMNIST and EMNIST: two zero bytes, a type code, the number of
dimensions, the size of each dimension as a big-endian uint32, then the values, also big-endian.

A folder without a test split gets one: 1 / TEST_PARTS of its training images, chosen by the SHA-256 of their pixels.
"""

import dataclasses
import gzip
import hashlib
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.attributes import AttributeTable

ROOT = Path(__file__).resolve().parent.parent
"""The repository, or its copy in a Ray job. Derived from this file, because Ray changes the working directory."""
MNIST = ROOT / "data" / "mnist"
"""The folder of the dataset that the repository contains."""

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of MNIST's raw (decompressed) files, as published by several independent projects."""

Split = Literal["train", "t10k"]
SPLIT_NAMES: dict[Split, str] = {"train": "train", "t10k": "t10k|test"}
"""Split -> the words for it in file names, as a regular expression. EMNIST and QMNIST say test."""
TEST_PARTS = 7
"""A test split that is cut has this fraction of the images, as MNIST's 10,000 of 70,000."""
CUT = "cut test split"
"""The entry of `Dataset.sha256` for a test split that is cut: which training images are in it."""

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4"}
"""The integer types of IDX: type code -> NumPy type."""
MAX_LABEL = 255
CLASSES = "classes.txt"
"""The optional file of a dataset's class names: UTF-8, one line for each label, from the first one on."""
MAX_NAME_LENGTH = 40
"""In characters, for the name of a class."""

WRITERS = ROOT / "data" / "writers"
"""Folder of the writers of MNIST's training digits."""
WRITER_INDICES, WRITER_NUMBERS = "train-writers-idx1-short", "writers.txt"
"""The files that `python -m trainer fetch writers` writes."""


class DatasetError(ValueError):
    """A dataset that cannot be used. The message names the file, and what to do."""


@dataclass(frozen=True)
class Dataset:
    """One split of a dataset: `images` uint8 (N, C, H, W), `labels` int64 (N,), and each raw file's SHA-256 by name."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sha256: dict[str, str]
    class_names: tuple[str, ...] = ()
    """The names of labels 0, 1, ...; empty if they have only numbers."""
    table: AttributeTable | None = None
    """The attributes of the images, if a training uses any; `trainer.draws.load_images` measures them."""
    scores: NDArray[np.float64] | None = None
    """Scores of the attributes of each image (N, A)."""
    writers: "Writers | None" = None
    """Who wrote the images, if a training uses it; `trainer.draws.load_images` adds them."""
    folder: Path | None = None
    """Where the files are."""

    @property
    def num_classes(self) -> int:
        """The number of classes: the largest label plus 1."""
        return int(self.labels.max()) + 1

    def head(self, count: int) -> "Dataset":
        """Return the first `count` images and their labels; 0 means all."""
        if not 0 <= count <= len(self.images):
            raise DatasetError(f"limit_images must be between 0 and the dataset's {len(self.images)}: got {count}")
        if not count:
            return self
        return dataclasses.replace(self, images=self.images[:count], labels=self.labels[:count])


def read_idx(path: Path | zipfile.Path) -> tuple[NDArray[np.integer], str]:
    """Read a raw or gzipped IDX file of integers; return the array and the SHA-256 of the raw file.

    Raise `DatasetError` for a file that is missing, truncated, not IDX, or of floating-point numbers.
    """
    fix = "fetch the file again"
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}); {fix}") from error
    except (EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: the compressed stream is damaged ({error}); {fix}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES or raw[3] == 0:
        raise DatasetError(f"{path}: not an IDX file of integers (it begins with {raw[:4].hex()!r}); {fix}")
    dtype = np.dtype(IDX_TYPES[raw[2]])
    offset = 4 + 4 * raw[3]
    shape = tuple(int(size) for size in np.frombuffer(raw[4 : min(offset, len(raw) // 4 * 4)], dtype=">u4"))
    expected = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(shape) < raw[3] or len(raw) != expected:
        raise DatasetError(f"{path}: {len(raw)} bytes, but its header announces {expected}; {fix}")
    return np.frombuffer(raw, dtype, offset=offset).reshape(shape), hashlib.sha256(raw).hexdigest()


def _read_lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeError) as error:
        raise DatasetError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def check_class_names(path: Path, lines: list[str], num_classes: int) -> tuple[str, ...]:
    """Return the names of `num_classes` classes in a `classes.txt`; `DatasetError` names the first invalid line."""
    for label, name in enumerate(lines):
        if problem := _name_problem(lines, label, num_classes):
            raise DatasetError(f"{path}, line {label + 1}: {name!r} {problem}")
    if len(lines) < num_classes:
        raise DatasetError(
            f"{path}, line {len(lines) + 1}: is missing; name the labels 0 to {num_classes - 1}, one per line"
        )
    return tuple(lines)


def _name_problem(lines: list[str], label: int, num_classes: int) -> str:
    name = lines[label]
    if label >= num_classes:
        return f"names label {label}, but the labels are 0 to {num_classes - 1}; remove the line"
    if not name:
        return f"is empty; name label {label}"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name)} characters; use at most {MAX_NAME_LENGTH}"
    if not name.isprintable():
        return "has unprintable characters; remove them"
    if (first := lines.index(name)) < label:
        return f"is also the name of label {first}; give label {label} another name"
    return ""


def load_dataset(folder: Path = MNIST, split: Split = "train") -> Dataset:
    """Load `<split>-images-idx3-ubyte` and `<split>-labels-idx1-ubyte`, each raw or `.gz`, from a folder.

    Names may have a prefix (`emnist-letters-`), and `test` in the place of `t10k`. Images may have a fourth dimension
    for channels (idx4: N, H, W, C). Labels may be of any integer type; if they have two dimensions, the first column is
    used (QMNIST's idx2-int). Labels that begin at 1 (EMNIST's letters) become 0, 1, ..., unless classes.txt names a
    label 0, too. Without a test split, `in_test_split` cuts one from the training images. MNIST's own files are checked
    against their published SHA-256. Raise `DatasetError` for data that cannot be used.
    """
    if _files(folder, "t10k", "images"):
        return _load_stored(folder, split)
    whole = _load_stored(folder, "train")
    is_test = in_test_split(whole.images)
    chosen = is_test if split == "t10k" else ~is_test
    if not chosen.any():
        raise DatasetError(f"{folder}: has no test split, and too few images to cut one; add t10k-images-idx3-ubyte")
    # A run records which images it has not seen: with another test split, its training images are others.
    sha256 = whole.sha256 | {CUT: hashlib.sha256(np.packbits(is_test).tobytes()).hexdigest()}
    return dataclasses.replace(whole, images=whole.images[chosen], labels=whole.labels[chosen], sha256=sha256)


def in_test_split(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which of the images (N, ...) are in the test split of a dataset that has none of its own: bool (N,).

    They are 1 / TEST_PARTS of all images, or a few less: those whose bytes have the smallest SHA-256. So equal images
    are in the same split, and their order does not matter.
    """
    digests = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    _, group, sizes = np.unique(digests, return_inverse=True, return_counts=True)  # groups are sorted by their digest
    limit = len(images) // TEST_PARTS
    fits = sizes <= limit  # larger groups of equal images stay among the training images
    fits &= np.cumsum(np.where(fits, sizes, 0)) <= limit
    return np.asarray(fits[group])


def _load_stored(folder: Path, split: Split) -> Dataset:
    images_path, labels_path = _find(folder, split, "images"), _find(folder, split, "labels")
    images, images_sha = read_idx(images_path)
    labels, labels_sha = _read_labels(labels_path)
    sha256 = {images_path.name.removesuffix(".gz"): images_sha, labels_path.name.removesuffix(".gz"): labels_sha}
    if folder == MNIST:
        for name, digest in sha256.items():
            if digest != MNIST_SHA256[name]:
                raise DatasetError(
                    f"{folder / name}: SHA-256 {digest} is not MNIST's {MNIST_SHA256[name]}; "
                    "restore the file with `git checkout -- data/mnist`"
                )
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DatasetError(
            f"{images_path}: images must be unsigned bytes (N, H, W) or (N, H, W, C): got {images.dtype} {images.shape}"
        )
    if len(images) != len(labels) or not len(images):
        raise DatasetError(
            f"{images_path} has {len(images)} images, but {labels_path} has {len(labels)} labels; fetch both again"
        )
    trained = labels if split == "train" else _read_labels(_find(folder, "train", "labels"))[0]
    if labels.max() > trained.max(initial=-1):
        raise DatasetError(f"{labels_path}: label {labels.max()} is not among the training labels; fetch both again")
    first, names = _first_label_and_names(folder, trained)
    if names:  # they are part of the data that a run records, because its generator files contain them
        sha256[CLASSES] = hashlib.sha256("\n".join(names).encode()).hexdigest()
    channels_first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    pixels = np.ascontiguousarray(channels_first, np.uint8)
    return Dataset(pixels, labels - first, sha256, names, folder=folder)


def _read_labels(path: Path) -> tuple[NDArray[np.int64], str]:
    """Return the labels (N,) in a file, and the SHA-256 of the raw file."""
    labels, sha256 = read_idx(path)
    if labels.ndim not in (1, 2) or 0 in labels.shape[1:]:
        raise DatasetError(f"{path}: labels must be (N,) or (N, M): got {labels.shape}")
    labels = labels if labels.ndim == 1 else labels[:, 0]
    for label in (labels.min(), labels.max()) if len(labels) else ():
        if not 0 <= label <= MAX_LABEL:
            raise DatasetError(
                f"{path}: labels must be 0 to {MAX_LABEL}: got {label}, for image {np.argmax(labels == label)}"
            )
    return labels.astype(np.int64), sha256


def _first_label_and_names(folder: Path, labels: NDArray[np.int64]) -> tuple[int, tuple[str, ...]]:
    """Return the label of the first class, 0 or 1, given the training labels (N,), and the names of the classes."""
    first, last = int(labels.min() == 1), int(labels.max())
    if not (folder / CLASSES).exists():
        return first, ()
    lines = _read_lines(folder / CLASSES)
    first = first if len(lines) <= last else 0
    return first, check_class_names(folder / CLASSES, lines, last + 1 - first)


def _files(folder: Path, split: Split, kind: str) -> list[Path]:
    pattern = re.compile(f"(.+-)?({SPLIT_NAMES[split]})-{kind}-idx[0-9]-(ubyte|byte|short|int)(\\.gz)?")
    return sorted(path for path in folder.glob(f"*-{kind}-*") if pattern.fullmatch(path.name))


def _find(folder: Path, split: Split, kind: str) -> Path:
    found = _files(folder, split, kind)
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: is missing; --dataset must be a folder of IDX files, as `python -m trainer fetch` makes it"
        )
    if not found:
        usual = f"{split}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        raise DatasetError(f"{folder}: no file {usual} or {usual}.gz; --dataset must be a folder of IDX files")
    if len({path.name.removesuffix(".gz") for path in found}) > 1:
        raise DatasetError(f"{folder}: holds several datasets ({found[0].name}, {found[1].name}); give each a folder")
    return found[0]


@dataclass(frozen=True)
class Writers:
    """Who wrote MNIST's training digits."""

    indices: NDArray[np.int64]
    """Writer (N,) of each training image: 0, 1, ..., in the order of their numbers."""
    numbers: tuple[int, ...]
    """The number that NIST gave to writer 0, 1, ..."""
    sha256: dict[str, str]
    """The SHA-256 of each raw file by name."""


def load_writers(folder: Path) -> Writers:
    """Load what `python -m trainer fetch writers` has written; raise `DatasetError`."""
    if not folder.is_dir():
        raise DatasetError(
            f"model.writers needs {folder}, which is missing: download qmnist-train-labels-idx2-int.gz from "
            "github.com/facebookresearch/qmnist, then run `python -m trainer fetch writers FILE`"
        )
    indices, sha256 = read_idx(folder / WRITER_INDICES)
    lines = _read_lines(folder / WRITER_NUMBERS)
    if indices.ndim != 1 or not all(line.isdecimal() for line in lines):
        raise DatasetError(f"{folder}: the files are not as written; fetch them again: python -m trainer fetch writers")
    if not len(indices) or not 0 <= indices.min() <= indices.max() < len(lines):
        raise DatasetError(f"{folder / WRITER_INDICES}: must name writers 0 to {len(lines) - 1}")
    hashes = {WRITER_INDICES: sha256, WRITER_NUMBERS: hashlib.sha256("\n".join(lines).encode()).hexdigest()}
    return Writers(indices.astype(np.int64), tuple(map(int, lines)), hashes)


def known_writers(dataset: Dataset, count: int) -> Writers:
    """Return who wrote the images of a dataset, for networks that know `count` writers.

    Raises `ValueError` with what to do if the files are missing or are not of this dataset.
    """
    writers = load_writers(WRITERS)
    if not dataset.sha256.items() <= MNIST_SHA256.items():
        raise ValueError("model.writers needs MNIST: only its writers are known; omit --dataset")
    if len(writers.numbers) != count:
        raise ValueError(f"{WRITERS} has {len(writers.numbers)} writers, but model.writers is {count}")
    if len(writers.indices) < len(dataset.images):
        raise ValueError(
            f"{WRITERS} says who wrote {len(writers.indices)} of {len(dataset.images)} images: fetch it again"
        )
    return writers
