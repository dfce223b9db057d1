"""`python -m trainer fetch fashion` and `fetch usps`: write other datasets than MNIST as IDX files for `--dataset`."""

import bz2
import shlex
import shutil
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.command_line import Parser
from trainer.data import CLASSES, DatasetError, load_dataset, read_idx

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
            for kind, values in (("images", images), ("labels", labels)):
                header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
                (folder / f"{split}-{kind}-idx{values.ndim}-ubyte").write_bytes(header + values.tobytes())


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
    parser = Parser(prog="python -m trainer fetch", description="Get other datasets than MNIST, for --dataset.")
    datasets = parser.add_subparsers(dest="dataset", required=True, metavar="fashion|usps")
    fashion = datasets.add_parser("fashion", help="Fashion-MNIST, from Debian's package (30 MB; no root needed)")
    fashion.add_argument(
        "--source", type=Path, metavar="FOLDER", help="folder with its four files, instead of Debian's package"
    )
    fashion.add_argument(
        "--to", type=Path, default=Path("data/fashion"), help="folder to create (default: data/fashion)"
    )
    usps = datasets.add_parser("usps", help="USPS, from two files that you download from LIBSVM's data page")
    usps.add_argument("train", type=Path, help="usps.bz2, or its decompressed content")
    usps.add_argument("test", type=Path, help="usps.t.bz2, or its decompressed content")
    usps.add_argument("--to", type=Path, default=Path("data/usps"), help="folder to create (default: data/usps)")
    options = parser.parse_args(arguments)
    try:
        if options.dataset == "fashion":
            fetch_fashion(options.to, options.source)
        else:
            convert_usps(options.train, options.test, options.to)
        dataset = load_dataset(options.to)
    except DatasetError as error:
        return parser.fail(str(error))
    size = dataset.images.shape[-1]
    flags = ["--name", options.dataset, "--dataset", str(options.to), *(["--model.img-size", str(size)] * (size != 28))]
    print(f"Wrote {len(dataset.images):,} training images of {dataset.num_classes} classes. Train on them with:")
    print(f"  {shlex.join(['python', '-m', 'trainer', 'forge', *flags])}")
    return 0
