"""IDX files, good and damaged, and the global order of batches."""

import gzip
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import data
from trainer.data import MNIST, MNIST_SHA256, Dataset, DatasetError, load_dataset, load_writers, read_idx

# Images of each digit 0-9, as published with the database.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def idx(values: NDArray[np.integer], code: int = 8) -> bytes:
    """An array of bytes, or of other big-endian integers with their type code, as a raw IDX file."""
    return struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape) + values.tobytes()


def write_dataset(folder: Path, images: NDArray[np.uint8], labels: list[int]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"train-images-idx{images.ndim}-ubyte").write_bytes(idx(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.array(labels, np.uint8)))
    return folder


def pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def mnist_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of MNIST that may be damaged, in the place of the real one."""
    copy = tmp_path / "mnist"
    shutil.copytree(MNIST, copy)
    monkeypatch.setattr(data, "MNIST", copy)
    return copy


@pytest.mark.parametrize(("split", "counts"), [("train", TRAIN_COUNTS), ("t10k", TEST_COUNTS)])
def test_mnist_is_embedded_whole_and_unchanged(split: data.Split, counts: list[int]) -> None:
    dataset = load_dataset(split=split)
    assert dataset.images.shape == (sum(counts), 1, 28, 28)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int64
    assert np.bincount(dataset.labels).tolist() == counts
    assert dataset.num_classes == 10
    names = {f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"}
    assert dataset.sha256 == {name: MNIST_SHA256[name] for name in names}


def test_a_raw_file_reads_as_its_gzipped_form(mnist_copy: Path) -> None:
    gzipped = load_dataset(mnist_copy, "t10k")
    for path in mnist_copy.glob("t10k-*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    raw = load_dataset(mnist_copy, "t10k")
    assert np.array_equal(raw.images, gzipped.images)
    assert np.array_equal(raw.labels, gzipped.labels)
    assert raw.sha256 == gzipped.sha256


def test_mnist_with_one_changed_pixel_is_refused(mnist_copy: Path) -> None:
    path = mnist_copy / "t10k-images-idx3-ubyte.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[-1] ^= 1
    path.write_bytes(gzip.compress(raw, 1))
    with pytest.raises(DatasetError, match=r"t10k-images-idx3-ubyte.*SHA-256.*git checkout"):
        load_dataset(mnist_copy, "t10k")


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_torn_gzip_file_is_named(mnist_copy: Path, name: str) -> None:
    path = mnist_copy / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match=re.escape(str(path)) + r".*fetch the file again"):
        load_dataset(mnist_copy, "t10k")


GOOD = idx(pixels(2, 4, 4))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", "not an IDX file", id="empty"),
        pytest.param(b"<html>moved</html>", "not an IDX file", id="another format"),
        pytest.param(b"\0\0\x0d" + GOOD[3:], "not an IDX file of integers", id="floats"),
        pytest.param(GOOD[:10], "10 bytes, but its header announces", id="torn in the header"),
        pytest.param(GOOD[:-1], "47 bytes, but its header announces 48", id="torn in the values"),
        pytest.param(GOOD + b"\0", "49 bytes, but its header announces 48", id="too long"),
    ],
)
def test_a_damaged_raw_file_is_named_with_what_to_do(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"{re.escape(str(path))}.*{complaint}.*fetch the file again"):
        read_idx(path)


def test_a_file_that_is_not_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(GOOD)
    with pytest.raises(DatasetError, match=re.escape(str(path))):
        read_idx(path)


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    write_dataset(tmp_path, pixels(3, 4, 4), [0, 1])
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte has 3 images, but .*train-labels.* has 2 labels"):
        load_dataset(tmp_path)


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, pixels(0, 4, 4), [])
    with pytest.raises(DatasetError, match="has 0 images"):
        load_dataset(tmp_path)


def test_labels_in_the_place_of_images_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, pixels(3), [0, 1, 2])
    with pytest.raises(DatasetError, match=r"train-images-idx1-ubyte: images must be .*\(N, H, W\)"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        (".", "no file train-images.*--dataset"),
        ("missing", "is missing; --dataset must be a folder .*`python -m trainer fetch`"),
    ],
)
def test_a_folder_without_a_dataset_is_named(tmp_path: Path, folder: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=f"{re.escape(str(tmp_path / folder))}: {problem}"):
        load_dataset(tmp_path / folder)


def test_any_size_and_class_count_is_read(tmp_path: Path) -> None:
    images = pixels(5, 16, 12)
    dataset = load_dataset(write_dataset(tmp_path, images, [0, 3, 25, 1, 1]))
    assert np.array_equal(dataset.images, images[:, None])
    assert dataset.labels.tolist() == [0, 3, 25, 1, 1]
    assert dataset.num_classes == 26


def test_colour_images_come_channels_first(tmp_path: Path) -> None:
    images = pixels(4, 8, 6, 3)
    dataset = load_dataset(write_dataset(tmp_path, images, [0, 1, 2, 3]))
    assert dataset.images.shape == (4, 3, 8, 6)
    assert dataset.images.flags.c_contiguous
    assert np.array_equal(dataset.images[2, 1], images[2, :, :, 1])


def test_labels_may_be_wider_numbers_and_the_first_of_several_columns(tmp_path: Path) -> None:
    write_dataset(tmp_path, pixels(3, 4, 4), [0, 1, 2])
    columns = np.array([[7, -1], [255, 2**31 - 1], [0, 5]], ">i4")  # QMNIST has eight
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    path = tmp_path / "train-labels-idx2-int.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBB2I", 0, 12, 2, 3, 2) + columns.tobytes()))
    assert load_dataset(tmp_path).labels.tolist() == [7, 255, 0]
    path.write_bytes(gzip.compress(struct.pack(">HBB1I", 0, 12, 1, 3) + columns[:, 1].tobytes()))
    with pytest.raises(DatasetError, match=r"train-labels-idx2-int.gz: labels must be 0 to 255: got -1, for image 0"):
        load_dataset(tmp_path)
    path.write_bytes(gzip.compress(struct.pack(">HBB1I", 0, 12, 1, 3) + np.array([3, 256, 1], ">i4").tobytes()))
    with pytest.raises(DatasetError, match=r"labels must be 0 to 255: got 256, for image 1"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("text", ["shoe\nT-shirt/top\nG\u00fcrtel\n", "\ufeffshoe\r\n T-shirt/top \r\nG\u00fcrtel"])
def test_classes_have_the_names_that_the_folder_gives_them(tmp_path: Path, text: str) -> None:
    write_dataset(tmp_path, pixels(4, 4, 4), [0, 2, 1, 2])
    assert load_dataset(tmp_path).class_names == ()
    plain = load_dataset(tmp_path).sha256
    (tmp_path / "classes.txt").write_text(text, "utf-8", newline="")
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == dataset.head(1).class_names == ("shoe", "T-shirt/top", "G\u00fcrtel")
    assert dataset.sha256.keys() == plain.keys() | {"classes.txt"}  # other names are other data to a run


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"a\nb\n", "line 3: is missing; name the labels 0 to 2", id="too few"),
        pytest.param(b"", "line 1: is missing", id="empty"),
        pytest.param(b"a\nb\nc\nd\n", "line 4: 'd' names label 3, but the labels are 0 to 2", id="too many"),
        pytest.param(b"a\n \nc\n", "line 2: '' is empty; name label 1", id="an empty name"),
        pytest.param(b"a\nb\na\n", "line 3: 'a' is also the name of label 0", id="twice"),
        pytest.param(b"a\nb\n" + b"c" * 41, "line 3: .* has 41 characters; use at most 40", id="too long"),
        pytest.param(b"a\nb\n\x07c", r"line 3: .* unprintable characters", id="a bell"),
        pytest.param(b"a\nb\n\xff", "cannot be read as UTF-8 text", id="not UTF-8"),
    ],
)
def test_class_names_that_do_not_fit_are_named_by_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    write_dataset(tmp_path, pixels(4, 4, 4), [0, 2, 1, 2])
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=f"{re.escape(str(tmp_path / 'classes.txt'))}.*{complaint}"):
        load_dataset(tmp_path)


# Labels from 1, names of files, and the cut test split


def test_labels_from_one_become_labels_from_zero_in_both_splits(tmp_path: Path) -> None:
    write_dataset(tmp_path, pixels(4, 4, 4), [1, 3, 2, 3])
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(pixels(2, 4, 4)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([2, 3], np.uint8)))
    train, test = load_dataset(tmp_path), load_dataset(tmp_path, "t10k")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 2, 1, 2], [1, 2])
    assert train.num_classes == 3
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    train, test = load_dataset(tmp_path), load_dataset(tmp_path, "t10k")
    assert (train.labels.tolist(), train.class_names, test.class_names) == ([0, 2, 1, 2], ("a", "b", "c"), tuple("abc"))
    # A name for label 0 says that it is a class, of which there is no image.
    (tmp_path / "classes.txt").write_text("none\na\nb\nc\n")
    assert load_dataset(tmp_path).labels.tolist() == [1, 3, 2, 3]
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([2, 4], np.uint8)))
    with pytest.raises(DatasetError, match=r"t10k-labels.*label 4 is not among the training labels"):
        load_dataset(tmp_path, "t10k")


def test_the_names_of_emnist_and_qmnist_are_known_and_two_datasets_are_not_mixed(tmp_path: Path) -> None:
    rows = np.zeros((4, 8), ">i4")
    rows[:, 0] = [5, 0, 4, 1]
    for split, count in (("train", 4), ("test", 2)):
        (tmp_path / f"qmnist-{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels(count, 28, 28))))
        (tmp_path / f"qmnist-{split}-labels-idx2-int.gz").write_bytes(gzip.compress(idx(rows[:count], 12)))
    assert load_dataset(tmp_path).labels.tolist() == [5, 0, 4, 1]
    test = load_dataset(tmp_path, "t10k")
    assert test.labels.tolist() == [5, 0]
    assert set(test.sha256) == {"qmnist-test-images-idx3-ubyte", "qmnist-test-labels-idx2-int"}
    (tmp_path / "emnist-digits-train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels(4, 28, 28))))
    with pytest.raises(DatasetError, match=r"holds several datasets .* give each a folder"):
        load_dataset(tmp_path)


def test_a_missing_test_split_is_cut_by_the_pixels(tmp_path: Path) -> None:
    images = pixels(700, 4, 4)
    images[100:103] = images[0]  # four equal images
    labels = [index % 10 for index in range(700)]
    labels[100:103] = [0, 0, 0]
    folder = write_dataset(tmp_path / "a", images, labels)
    train, test = load_dataset(folder), load_dataset(folder, "t10k")
    assert len(train.images) + len(test.images) == 700
    assert 97 <= len(test.images) <= 100
    assert train.sha256 == test.sha256
    kept, cut = ({image.tobytes() for image in part.images} for part in (train, test))
    assert not kept & cut  # equal images are on the same side
    # The order of the images does not matter, and each image keeps its label.
    backwards = write_dataset(tmp_path / "b", images[::-1], labels[::-1])
    again = load_dataset(backwards, "t10k")
    assert np.array_equal(again.images[::-1], test.images)
    assert again.labels[::-1].tolist() == test.labels.tolist()
    # With a test split of its own, all images are for training, and the data are others to a run.
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(images[:5]))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array(labels[:5], np.uint8)))
    whole = load_dataset(folder)
    assert len(whole.images) == 700
    assert whole.sha256.keys() == train.sha256.keys() - {"cut test split"}
    assert len(load_dataset(folder, "t10k").images) == 5


def test_a_test_split_is_not_cut_from_images_that_are_all_alike(tmp_path: Path) -> None:
    write_dataset(tmp_path, np.repeat(pixels(2, 4, 4), 50, axis=0), [0] * 50 + [1] * 50)
    assert len(load_dataset(tmp_path).images) == 100
    with pytest.raises(DatasetError, match="has no test split, and too few images to cut one; add t10k-images"):
        load_dataset(tmp_path, "t10k")


# Writers


def test_writers_are_read_as_written_or_refused(tmp_path: Path) -> None:
    indices, numbers = tmp_path / data.WRITER_INDICES, tmp_path / data.WRITER_NUMBERS
    indices.write_bytes(idx(np.array([2, 0, 1, 2], ">i2"), 11))
    numbers.write_text("12\n300\n2154\n")
    writers = load_writers(tmp_path)
    assert writers.indices.tolist() == [2, 0, 1, 2]
    assert writers.numbers == (12, 300, 2154)
    assert set(writers.sha256) == {indices.name, numbers.name}
    for text, complaint in (("12\n300\n", "must name writers 0 to 1"), ("a\nb\nc\n", "not as written")):
        numbers.write_text(text)
        with pytest.raises(DatasetError, match=complaint):
            load_writers(tmp_path)


def test_head_takes_the_first_images() -> None:
    dataset = Dataset(pixels(4, 1, 2, 2), np.arange(4), {})
    assert dataset.head(2).labels.tolist() == [0, 1]
    assert np.array_equal(dataset.head(2).images, dataset.images[:2])
    assert dataset.head(0) is dataset
    for count in (-1, 5):
        with pytest.raises(DatasetError, match=f"limit_images must be between 0 and the dataset's 4: got {count}"):
            dataset.head(count)
