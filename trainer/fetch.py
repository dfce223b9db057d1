"""`python -m trainer fetch DATASET`: write data other than MNIST as IDX files, such as Fashion-MNIST."""

import bz2
import hashlib
import math
import shlex
import shutil
import struct
import subprocess
import tarfile
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.command_line import Parser
from trainer.data import (
    CLASSES,
    WRITER_INDICES,
    WRITER_NUMBERS,
    Dataset,
    DatasetError,
    load_dataset,
    load_writers,
    read_idx,
)

FASHION_PACKAGE = "dataset-fashion-mnist"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package installs its files."""
FASHION_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of the raw (decompressed) files in Debian's package. For the training images an MD5 is published too."""
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""The authors' class names (github.com/zalandoresearch/fashion-mnist)."""

USPS_SIDE = 16
"""Height and width of USPS's images."""

EMNIST_SPLITS = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
"""The datasets in EMNIST's archive, as its authors name them."""

CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""MD5 of `cifar-10-binary.tar.gz`, as its authors publish it (www.cs.toronto.edu/~kriz/cifar.html)."""
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_BATCHES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "t10k": ["test_batch.bin"]}
CIFAR10_SHAPE = (3, 32, 32)
"""Channels, height and width of an image in a batch."""
CIFAR10_CLASSES = 10

QMNIST_COLUMNS = 8
"""Columns of QMNIST's label files."""


def fetch_fashion(target: Path, source: Path | None = None) -> None:
    """Write Fashion-MNIST's four files and its class names into a new folder.

    The files come from `source`; by default from Debian's package, installed or downloaded. Raise `DatasetError`.
    """
    with _new_folder(target) as folder, tempfile.TemporaryDirectory() as downloads:
        if source is None:
            source = FASHION_FOLDER if FASHION_FOLDER.is_dir() else _download_fashion(Path(downloads))
        for name, sha256 in FASHION_SHA256.items():
            path = next((path for path in (source / f"{name}.gz", source / name) if path.exists()), source / name)
            if (digest := read_idx(path)[1]) != sha256:
                raise DatasetError(f"{path}: SHA-256 {digest} is not Fashion-MNIST's {sha256}; fetch the file again")
            shutil.copyfile(path, folder / path.name)
        (folder / CLASSES).write_text("".join(f"{name}\n" for name in FASHION_CLASSES), "utf-8")


def _download_fashion(folder: Path) -> Path:
    """Download and unpack Debian's package in a folder, without root; return the path of its files."""
    by_hand = (
        f"download {', '.join(f'{name}.gz' for name in FASHION_SHA256)} from data/fashion in "
        "github.com/zalandoresearch/fashion-mnist, and pass their folder as --source"
    )
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise DatasetError(f"Fashion-MNIST is a Debian package, but {tool} is not installed; {by_hand}")
    _run(["apt-get", "download", FASHION_PACKAGE], folder, f"try `apt-get update` as root, or {by_hand}")
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", package.name, "."], folder, by_hand)
    return folder / FASHION_FOLDER.relative_to("/")


def _run(command: list[str], folder: Path, advice: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))]
        reason = errors[0] if errors else f"exit status {done.returncode}"
        raise DatasetError(f"`{shlex.join(command)}` failed: {reason}; {advice}")


def convert_usps(train: Path, test: Path, target: Path) -> None:
    """Convert USPS from LIBSVM's two text files (plain or .bz2) to IDX files in a new folder; raise `DatasetError`."""
    with _new_folder(target) as folder:
        for split, path in (("train", train), ("t10k", test)):
            images, labels = read_libsvm(path)
            write_idx(folder / f"{split}-images-idx3-ubyte", images)
            write_idx(folder / f"{split}-labels-idx1-ubyte", labels)


def write_idx(path: Path, values: NDArray[np.uint8] | NDArray[np.int16]) -> None:
    """Write an array as an IDX file."""
    code = {np.dtype(np.uint8): 8, np.dtype(np.int16): 11}[values.dtype]
    header = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(values.dtype.newbyteorder(">")).tobytes())


def read_libsvm(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read images (N, 16, 16) and labels (N,) from one of USPS's files; `DatasetError` names the first invalid line.

    A line is a label, 1 to 10 for the digits 0 to 9, and 256 pairs `number:value` of a pixel's number, from 1, and its
    value in [-1, 1] (documented at docs.pytorch.org/vision/stable/generated/torchvision.datasets.USPS.html).
    """
    try:
        raw = path.read_bytes()
        text = (bz2.decompress(raw) if path.suffix == ".bz2" else raw).decode("ascii")
    except (OSError, ValueError) as error:  # ValueError: a truncated stream, or not ASCII
        raise DatasetError(f"{path}: cannot be read as text ({error}); fetch the file again") from error
    lines = text.splitlines()
    if not lines:
        raise DatasetError(f"{path}: is empty; fetch the file again")
    labels, images = np.empty(len(lines), np.uint8), np.empty((len(lines), USPS_SIDE**2), np.uint8)
    for index, line in enumerate(lines):
        try:
            labels[index], images[index] = _parse_usps(line.split())
        except ValueError as error:
            raise DatasetError(f"{path}, line {index + 1}: {error}; fetch the file again") from error
    return images.reshape(-1, USPS_SIDE, USPS_SIDE), labels


def _parse_usps(words: list[str]) -> tuple[int, NDArray[np.uint8]]:
    if not words or not words[0].isdigit() or not 1 <= int(words[0]) <= 10:
        raise ValueError(f"a line must begin with a label from 1 to 10: got {' '.join(words[:1])[:20]!r}")
    pixels = [word.partition(":")[::2] for word in words[1:]]
    for expected, (number, _) in enumerate(pixels, 1):
        if number != str(expected):
            raise ValueError(f"pixel {expected} must come next, as {expected}:value: got {words[expected][:20]!r}")
    if len(pixels) != USPS_SIDE**2:
        raise ValueError(f"there must be {USPS_SIDE**2} pixels: got {len(pixels)}")
    try:
        values = np.array([value for _, value in pixels], np.float64)
    except ValueError as error:
        raise ValueError(f"values must be numbers ({error})") from error
    if not (np.abs(values) <= 1).all():  # not `> 1`, so that NaN is refused
        raise ValueError(f"values must be in [-1, 1]: got {values[~(np.abs(values) <= 1)][0]:g}")
    return int(words[0]) - 1, np.rint((values + 1) * 127.5).astype(np.uint8)


def convert_emnist(source: Path, name: str, target: Path) -> None:
    """Write one of EMNIST's datasets with its images upright and its class names into a new folder.

    `source` is the authors' `gzip.zip`, or the folder of its files. They store each image transposed. Labels are copied
    as they are: those of `letters` begin at 1. Raise `DatasetError`.
    """
    files: Path | zipfile.Path = source
    if source.is_file():
        try:
            files = zipfile.Path(source, "gzip/")
        except (OSError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{source}: cannot be read as a ZIP archive ({error}); fetch the file again") from error
    with _new_folder(target) as folder:
        for split, ours in (("train", "train"), ("test", "t10k")):
            path = files / f"emnist-{name}-{split}-images-idx3-ubyte.gz"
            images = read_idx(path)[0]
            if images.ndim != 3 or images.dtype != np.uint8:
                raise DatasetError(
                    f"{path}: images must be unsigned bytes (N, H, W): got {images.dtype} {images.shape}"
                )
            write_idx(folder / f"{ours}-images-idx3-ubyte", images.swapaxes(1, 2).astype(np.uint8))
            labels = read_idx(files / f"emnist-{name}-{split}-labels-idx1-ubyte.gz")[0]
            write_idx(folder / f"{ours}-labels-idx1-ubyte", labels.astype(np.uint8))
        names = _emnist_names(files / f"emnist-{name}-mapping.txt")
        (folder / CLASSES).write_text("".join(f"{each}\n" for each in names), "utf-8")


def _emnist_names(path: Path | zipfile.Path) -> list[str]:
    """Return the class names in a mapping, whose lines are a label and the codes of its characters: `1 65 97` is Aa."""
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: cannot be read as text ({error}); fetch the file again") from error
    names = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) < 2 or not all(word.isdecimal() and int(word) < 128 for word in words):
            raise DatasetError(f"{path}, line {number}: must be a label and codes of characters: got {line[:40]!r}")
        names.append("".join(chr(int(code)) for code in words[1:]))
    return names


def convert_cifar10(archive: Path, target: Path) -> None:
    """Convert CIFAR-10 from the authors' `cifar-10-binary.tar.gz` to IDX files in a new folder; raise `DatasetError`.

    A batch is a sequence of records: a label byte, then 1,024 bytes each of red, green and blue, row by row.
    """
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise DatasetError(f"{archive}: cannot be read ({error.strerror})") from error
    if digest != CIFAR10_MD5:
        raise DatasetError(f"{archive}: MD5 {digest} is not CIFAR-10's {CIFAR10_MD5}; fetch the file again")
    with _new_folder(target) as folder, tarfile.open(archive) as files:
        for split, batches in CIFAR10_BATCHES.items():
            parts = [_cifar10_records(_member(files, name, archive), f"{archive}, {name}") for name in batches]
            records = np.concatenate(parts)
            images = records[:, 1:].reshape(-1, *CIFAR10_SHAPE).transpose(0, 2, 3, 1)
            write_idx(folder / f"{split}-images-idx4-ubyte", images)
            write_idx(folder / f"{split}-labels-idx1-ubyte", records[:, 0])
        names = _member(files, "batches.meta.txt", archive).decode("ascii", "replace").split()
        (folder / CLASSES).write_text("".join(f"{name}\n" for name in names), "utf-8")


def _member(files: tarfile.TarFile, name: str, archive: Path) -> bytes:
    try:
        member = files.extractfile(f"{CIFAR10_FOLDER}/{name}")
        if member:
            return member.read()
    except (KeyError, OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DatasetError(f"{archive}: {CIFAR10_FOLDER}/{name} cannot be read ({error})") from error
    raise DatasetError(f"{archive}: {CIFAR10_FOLDER}/{name} is not a file")


def _cifar10_records(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the records (N, 3073) of a batch."""
    size = 1 + math.prod(CIFAR10_SHAPE)
    if not content or len(content) % size:
        raise DatasetError(f"{name}: {len(content)} bytes are not records of {size} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    if records[:, 0].max() >= CIFAR10_CLASSES:
        raise DatasetError(f"{name}: labels must be 0 to {CIFAR10_CLASSES - 1}: got {records[:, 0].max()}")
    return records


def convert_writers(path: Path, target: Path) -> None:
    """Write who wrote MNIST's training digits into a new folder, from QMNIST's label file; raise `DatasetError`.

    `qmnist-train-labels-idx2-int` has a row for each digit, in MNIST's order (github.com/facebookresearch/qmnist):
    label, series, writer, and five columns that are not used here. The labels are compared with MNIST's.
    """
    rows = read_idx(path)[0]
    mnist = load_dataset().labels
    if rows.shape != (len(mnist), QMNIST_COLUMNS):
        raise DatasetError(
            f"{path}: must be ({len(mnist)}, {QMNIST_COLUMNS}), as qmnist-train-labels-idx2-int: got {rows.shape}"
        )
    if len(wrong := np.flatnonzero(rows[:, 0] != mnist)):
        first = wrong[0]
        raise DatasetError(
            f"{path}: label {first} is {rows[first, 0]}, but MNIST's is {mnist[first]}; fetch the file again"
        )
    numbers, indices = np.unique(rows[:, 2], return_inverse=True)
    with _new_folder(target) as folder:
        write_idx(folder / WRITER_INDICES, indices.astype(np.int16))
        (folder / WRITER_NUMBERS).write_text("".join(f"{number}\n" for number in numbers), "utf-8")


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to write to. It becomes `target` on success, and is removed on failure."""
    if target.exists():
        raise DatasetError(f"{target}: already exists; train on it, remove it, or choose another --to")
    stage = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        stage.mkdir(parents=True)
        yield stage
        stage.rename(target)
    except OSError as error:
        raise DatasetError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m trainer fetch", description="Get other data than MNIST.")
    datasets = parser.add_subparsers(dest="dataset", required=True, metavar="fashion|usps|emnist|cifar10|writers")
    fashion = datasets.add_parser("fashion", help="Fashion-MNIST, from Debian's package (30 MB; no root needed)")
    fashion.add_argument(
        "--source", type=Path, metavar="FOLDER", help="folder with its four files, instead of Debian's package"
    )
    usps = datasets.add_parser("usps", help="USPS, from two files that you download from LIBSVM's data page")
    usps.add_argument("train", type=Path, help="usps.bz2, or its decompressed content")
    usps.add_argument("test", type=Path, help="usps.t.bz2, or its decompressed content")
    emnist = datasets.add_parser("emnist", help="a dataset of EMNIST, from the authors' archive that you download")
    emnist.add_argument("source", type=Path, help="gzip.zip, or the folder of its files")
    emnist.add_argument("name", choices=EMNIST_SPLITS, help="which of its datasets")
    cifar10 = datasets.add_parser("cifar10", help="CIFAR-10, from the authors' archive that you download")
    cifar10.add_argument("archive", type=Path, help="cifar-10-binary.tar.gz")
    writers = datasets.add_parser("writers", help="who wrote MNIST's digits, from QMNIST's labels that you download")
    writers.add_argument("labels", type=Path, help="qmnist-train-labels-idx2-int, raw or .gz")
    for name, subparser in datasets.choices.items():
        default = "data/emnist-NAME" if name == "emnist" else f"data/{name}"
        subparser.add_argument("--to", type=Path, help=f"folder to create (default: {default})")
    options = parser.parse_args(arguments)
    name = f"emnist-{options.name}" if options.dataset == "emnist" else options.dataset
    target = options.to or Path("data", name)
    try:
        if options.dataset == "writers":
            convert_writers(options.labels, target)
            known = load_writers(target)
            print(f"Wrote the {len(known.numbers)} writers of {len(known.indices):,} training digits to {target}.")
            return 0
        if options.dataset == "fashion":
            fetch_fashion(target, options.source)
        elif options.dataset == "usps":
            convert_usps(options.train, options.test, target)
        elif options.dataset == "emnist":
            convert_emnist(options.source, options.name, target)
        else:
            convert_cifar10(options.archive, target)
        dataset = load_dataset(target)
    except DatasetError as error:
        return parser.fail(str(error))
    print(f"Wrote {len(dataset.images):,} training images of {dataset.num_classes} classes. Train on them with:")
    print(f"  {shlex.join(['python', '-m', 'trainer', 'forge', *flags_of(dataset, name, target)])}")
    return 0


def flags_of(dataset: Dataset, name: str, folder: Path) -> list[str]:
    """Return the flags that a recipe for MNIST needs to train on a dataset."""
    flags = ["--name", name, "--dataset", str(folder)]
    _, channels, size, _ = dataset.images.shape
    for flag, value, default in (
        ("--model.img-channels", channels, 1),
        ("--model.img-size", size, 28),
        ("--model.num-classes", dataset.num_classes, 10),
    ):
        flags += [flag, str(value)] * (value != default)
    return flags
