"""Images and labels from IDX files, and the global order in which training sees them.

IDX is the format of MNIST, Fashion-MNIST, KMNIST and EMNIST: two zero bytes, a type code (8 = uint8), the number of
dimensions, each dimension as a big-endian uint32, then the values.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MNIST = Path(__file__).resolve().parent.parent / "data" / "mnist"
"""The embedded dataset; found from this file, because Ray changes the working directory."""

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of MNIST's raw (decompressed) files, as several independent projects publish them."""

Split = Literal["train", "t10k"]


class DatasetError(ValueError):
    """A dataset that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Dataset:
    """One split of a dataset: `images` uint8 (N, C, H, W), `labels` int64 (N,), `sha256` of each raw file by name."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sha256: dict[str, str]

    @property
    def num_classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1

    def head(self, count: int) -> "Dataset":
        """The first `count` images and their labels; 0 = all."""
        if not 0 <= count <= len(self.images):
            raise DatasetError(f"limit_images must be between 0 and the dataset's {len(self.images)}: got {count}")
        return Dataset(self.images[:count], self.labels[:count], self.sha256) if count else self


def read_idx(path: Path) -> tuple[NDArray[np.uint8], str]:
    """Read a raw or gzipped IDX file of unsigned bytes: the array, and the SHA-256 of the raw file.

    Raises `DatasetError` for a file that is missing, truncated, not IDX, or not of bytes.
    """
    fix = "fetch the file again"
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}); {fix}") from error
    except (EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: the gzip stream is damaged ({error}); {fix}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != 8 or raw[3] == 0:
        raise DatasetError(f"{path}: not an IDX file of unsigned bytes (it begins with {raw[:4].hex()!r}); {fix}")
    offset = 4 + 4 * raw[3]
    shape = tuple(int(size) for size in np.frombuffer(raw[4 : min(offset, len(raw) // 4 * 4)], dtype=">u4"))
    expected = offset + int(np.prod(shape, dtype=np.int64))
    if len(shape) < raw[3] or len(raw) != expected:
        raise DatasetError(f"{path}: {len(raw)} bytes, but its header asks for {expected}; {fix}")
    return np.frombuffer(raw, dtype=np.uint8, offset=offset).reshape(shape), hashlib.sha256(raw).hexdigest()


def load_dataset(folder: Path = MNIST, split: Split = "train") -> Dataset:
    """Load `<split>-images-idx3-ubyte` and `<split>-labels-idx1-ubyte`, each raw or `.gz`, from a folder.

    Images may have a fourth dimension for channels (idx4: N, H, W, C). MNIST's own files are checked against their
    published SHA-256. Raises `DatasetError`.
    """
    images_path, labels_path = _find(folder, split, "images"), _find(folder, split, "labels")
    (images, images_sha), (labels, labels_sha) = read_idx(images_path), read_idx(labels_path)
    sha256 = {images_path.name.removesuffix(".gz"): images_sha, labels_path.name.removesuffix(".gz"): labels_sha}
    if folder == MNIST:
        for name, digest in sha256.items():
            if digest != MNIST_SHA256[name]:
                raise DatasetError(
                    f"{folder / name}: SHA-256 {digest} is not MNIST's {MNIST_SHA256[name]}; "
                    "restore the file with `git checkout -- data/mnist`"
                )
    if images.ndim not in (3, 4) or labels.ndim != 1:
        raise DatasetError(
            f"{images_path}: images must be (N, H, W) or (N, H, W, C), labels (N,): got {images.shape}, {labels.shape}"
        )
    if len(images) != len(labels) or not len(images):
        raise DatasetError(
            f"{images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels; fetch both again"
        )
    channels_first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Dataset(np.ascontiguousarray(channels_first), labels.astype(np.int64), sha256)


def _find(folder: Path, split: Split, kind: str) -> Path:
    pattern = f"{split}-{kind}-idx*-ubyte"
    found = sorted(folder.glob(pattern)) + sorted(folder.glob(pattern + ".gz"))
    if not found:
        raise DatasetError(f"{folder}: no file {pattern} or {pattern}.gz; point --dataset at a folder of IDX files")
    return found[0]


ORDER, D_LATENTS, G_LATENTS, G_LABELS, IMAGES, D_LABELS, D_DROPOUT, G_DROPOUT = range(8)
"""Purposes of random streams: what each number of a run is drawn for."""


def random_stream(seed: int, purpose: int, index: int) -> np.random.Generator:
    """The random numbers for one purpose at one step or epoch: a function of its arguments, whoever computes it."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose << 48 | index]))


def epoch_order(labels: NDArray[np.int64], group: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the images: indices (M,), a function of its arguments alone.

    With `group` > 1 it comes in runs of `group` images of one class, for networks that compare images of a class; the
    fewer than `group` images that remain of each class sit this epoch out, other ones in every epoch.
    """
    random = random_stream(seed, ORDER, epoch)
    order = random.permutation(len(labels))
    if group <= 1:
        return order
    runs = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        runs.append(members[: len(members) // group * group].reshape(-1, group))
    return random.permutation(np.concatenate(runs)).reshape(-1)


def batch_of_step(order: NDArray[np.int64], step: int, batch_size: int) -> NDArray[np.int64]:
    """Indices (batch_size,) of the batch at this step of an epoch; past the end it begins again."""
    start = step * batch_size
    return order[np.arange(start, start + batch_size) % len(order)]


def random_batch(num_images: int, seed: int, step: int, batch_size: int) -> NDArray[np.int64]:
    """Indices (batch_size,) of a step's batch that is drawn with replacement."""
    return random_stream(seed, IMAGES, step).integers(0, num_images, batch_size)
