"""Data beside MNIST: how they are got, and that training, the generator file, the CLI and the app know them."""

import bz2
import gzip
import hashlib
import io
import json
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from models import generate
from models.config import ModelConfig
from models.digit_reader import load_digit_reader
from models.generator_file import read_generator
from tests.pages import address, drawn, open_app, words
from tests.sample_run import run_record
from tests.test_data import idx, pixels, write_dataset
from tests.training import forge_config, train_here
from trainer import fetch, launch
from trainer.__main__ import main
from trainer.data import ROOT, load_dataset, load_writers
from trainer.evaluate import evaluate
from trainer.fetch import FASHION_CLASSES, FASHION_SHA256
from trainer.metrics import Judge
from trainer.run_store import Run, open_store
from trainer.train_command import parse
from webapp import catalog
from webapp.environment import RUNS_VARIABLE

SHAPES = {
    "train-images-idx3-ubyte": (20, 28, 28),
    "train-labels-idx1-ubyte": (20,),
    "t10k-images-idx3-ubyte": (10, 28, 28),
    "t10k-labels-idx1-ubyte": (10,),
}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four small files in the place of Fashion-MNIST's, two of them gzipped."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, shape in SHAPES.items():
        values = pixels(*shape) if len(shape) > 1 else (np.arange(shape[0]) % 10).astype(np.uint8)
        raw = idx(values)
        monkeypatch.setitem(FASHION_SHA256, name, hashlib.sha256(raw).hexdigest())
        if "images" in name:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    return folder


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said of a mistake."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# --- Fashion-MNIST


def test_fashion_is_copied_whole_with_its_names(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "data" / "fashion"
    assert main(["fetch", "fashion", "--source", str(source), "--to", str(target)]) == 0
    assert f"python -m trainer forge --name fashion --dataset {target}\n" in capsys.readouterr().out
    for split in ("train", "t10k"):
        assert load_dataset(target, split).class_names == FASHION_CLASSES  # type: ignore[arg-type]
    assert [path.name for path in target.parent.iterdir()] == ["fashion"]
    assert main(["fetch", "fashion", "--source", str(source), "--to", str(target)]) == 2
    assert "already exists" in one_line(capsys)


@pytest.mark.parametrize("damage", ["another pixel", "torn", "missing"])
def test_fashion_that_is_not_as_published_leaves_nothing(
    source: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "t10k-images-idx3-ubyte.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[-1] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(gzip.compress(raw) if damage == "another pixel" else path.read_bytes()[:-100])
    assert main(["fetch", "fashion", "--source", str(source), "--to", str(tmp_path / "data" / "fashion")]) == 2
    assert "t10k-images-idx3-ubyte" in one_line(capsys)
    assert not list((tmp_path / "data").iterdir())


def test_without_the_package_or_apt_the_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch, "FASHION_FOLDER", tmp_path / "not" / "installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["fetch", "fashion", "--to", str(tmp_path / "fashion")]) == 2
    error = one_line(capsys)
    assert all(f"{name}.gz" in error for name in FASHION_SHA256)
    assert "apt-get is not installed" in error
    assert "--source" in error
    (tmp_path / "dpkg-deb").symlink_to("/bin/true")
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'W: slow' >&2; echo 'E: No network' >&2; exit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    assert main(["fetch", "fashion", "--to", str(tmp_path / "fashion")]) == 2
    assert "`apt-get download dataset-fashion-mnist` failed: E: No network" in one_line(capsys)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get here")
def test_fashion_comes_from_debian(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if main(["fetch", "fashion", "--to", str(tmp_path / "fashion")]):
        pytest.skip(f"Debian's archive could not be asked: {one_line(capsys)}")
    for split, count in (("train", 6000), ("t10k", 1000)):
        dataset = load_dataset(tmp_path / "fashion", split)  # type: ignore[arg-type]
        assert dataset.class_names == FASHION_CLASSES
        assert np.bincount(dataset.labels).tolist() == [count] * 10


# --- USPS


def usps_line(label: int, values: NDArray[np.float64]) -> str:
    return " ".join([str(label), *(f"{number}:{value:g}" for number, value in enumerate(values, 1))])


def usps(count: int) -> list[str]:
    random = np.random.default_rng(0)
    return [usps_line(index % 10 + 1, random.uniform(-1, 1, 256).round(3)) for index in range(count)]


def test_usps_becomes_idx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = usps_line(10, np.array([-1.0, 1.0, 0.0, *[-1.0] * 253]))
    (tmp_path / "usps.bz2").write_bytes(bz2.compress("\n".join([ends, *usps(12)]).encode()))
    (tmp_path / "usps.t").write_text("".join(f"{line} \n" for line in usps(10)))
    command = ["fetch", "usps", str(tmp_path / "usps.bz2"), str(tmp_path / "usps.t"), "--to", str(tmp_path / "usps")]
    assert main(command) == 0
    assert "--model.img-size 16" in capsys.readouterr().out
    train, test = load_dataset(tmp_path / "usps"), load_dataset(tmp_path / "usps", "t10k")
    assert train.images.shape == (13, 1, 16, 16)
    assert train.images[0, 0, 0, :4].tolist() == [0, 255, 128, 0]
    assert train.labels.tolist() == [9, *range(10), 0, 1]
    assert test.labels.tolist() == list(range(10))
    assert np.array_equal(train.images[1:11], test.images)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0" + usps(1)[0][1:], "must begin with a label from 1 to 10: got '0'"),
        ("11" + usps(1)[0][1:], "got '11'"),
        ("", "must begin with a label"),
        (usps(1)[0].rpartition(" ")[0], "there must be 256 pixels: got 255"),
        (usps(1)[0] + " 257:0", "there must be 256 pixels: got 257"),
        (usps(1)[0].replace(" 7:", " 8:"), "pixel 7 must come next, as 7:value: got '8:"),
        (usps(1)[0] + "x", "values must be numbers"),
        (usps_line(3, np.full(256, 1.5)), "values must be in [-1, 1]: got 1.5"),
        (usps_line(3, np.full(256, np.nan)), "values must be in [-1, 1]: got nan"),
    ],
)
def test_a_line_that_is_not_of_usps_is_named(
    tmp_path: Path, line: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "usps", tmp_path / "usps.t"
    good.write_text("\n".join(usps(3)))
    bad.write_text("\n".join([*usps(2), line, *usps(1)]))
    assert main(["fetch", "usps", str(good), str(bad), "--to", str(tmp_path / "out")]) == 2
    error = one_line(capsys)
    assert f"{bad}, line 3: " in error
    assert complaint in error
    assert {path.name for path in tmp_path.iterdir()} == {"usps", "usps.t"}


def test_usps_files_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "usps.bz2"
    for content in (bz2.compress("\n".join(usps(3)).encode())[:-9], b"<html>", bz2.compress(b"")):
        torn.write_bytes(content)
        assert main(["fetch", "usps", str(torn), str(torn), "--to", str(tmp_path / "out")]) == 2
        assert f"{torn}: " in one_line(capsys)


# --- EMNIST


LETTERS = "".join(f"{label} {64 + label} {96 + label}\n" for label in range(1, 27))
"""The mapping of EMNIST's letters: a label, and the codes of its capital and small letter."""


def emnist(folder: Path, name: str, images: NDArray[np.uint8], labels: list[int], mapping: str) -> None:
    """Write one of EMNIST's datasets as its authors publish it: transposed, and gzipped under their names."""
    folder.mkdir()
    for split in ("train", "test"):
        stem = f"emnist-{name}-{split}"
        transposed = np.ascontiguousarray(images.swapaxes(1, 2))
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(transposed)))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array(labels, np.uint8))))
    (folder / f"emnist-{name}-mapping.txt").write_text(mapping)


@pytest.mark.parametrize("source", ["gzip.zip", "gzip"])
def test_emnist_stands_upright_with_labels_from_zero_and_names(
    tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pixels(52, 28, 28)
    labels = [index % 26 + 1 for index in range(52)]
    emnist(tmp_path / "gzip", "letters", images, labels, LETTERS)
    shutil.make_archive(str(tmp_path / "gzip"), "zip", tmp_path, "gzip")
    target = tmp_path / "letters"
    assert main(["fetch", "emnist", str(tmp_path / source), "letters", "--to", str(target)]) == 0
    assert f"--name emnist-letters --dataset {target} --model.num-classes 26\n" in capsys.readouterr().out
    for split in ("train", "t10k"):
        dataset = load_dataset(target, split)  # type: ignore[arg-type]
        assert np.array_equal(dataset.images[:, 0], images)
        assert dataset.labels.tolist() == [label - 1 for label in labels]
        assert dataset.class_names[:2] + dataset.class_names[-1:] == ("Aa", "Bb", "Zz")


def test_emnist_that_cannot_be_read_is_named_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emnist(tmp_path / "gzip", "digits", pixels(10, 28, 28), list(range(10)), "0 48\n1 x\n")
    text = tmp_path / "gzip.zip"
    text.write_text("<html>")
    for source, name, message in (
        (tmp_path / "none", "digits", "none/emnist-digits-train-images-idx3-ubyte.gz: cannot be read"),
        (text, "digits", "gzip.zip: cannot be read as a ZIP archive"),
        (tmp_path / "gzip", "letters", "emnist-letters-train-images-idx3-ubyte.gz: cannot be read"),
        (tmp_path / "gzip", "digits", "emnist-digits-mapping.txt, line 2: must be a label and codes of characters"),
    ):
        assert main(["fetch", "emnist", str(source), name, "--to", str(tmp_path / "out")]) == 2
        assert message in one_line(capsys)
    torn = tmp_path / "gzip" / "emnist-digits-test-labels-idx1-ubyte.gz"
    torn.write_bytes(torn.read_bytes()[:-9])
    shutil.make_archive(str(tmp_path / "gzip"), "zip", tmp_path, "gzip")
    assert main(["fetch", "emnist", str(text), "digits", "--to", str(tmp_path / "out")]) == 2
    assert f"{torn.name}: the compressed stream is damaged" in one_line(capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"gzip", "gzip.zip"}


# --- Data that need no conversion


def test_kmnist_is_used_as_it_is_published(tmp_path: Path) -> None:
    for split, count in (("train", 30), ("t10k", 10)):
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, values in (("images-idx3", pixels(count, 28, 28)), ("labels-idx1", labels)):
            (tmp_path / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(values)))
    assert load_dataset(tmp_path).images.shape == (30, 1, 28, 28)
    assert load_dataset(tmp_path, "t10k").labels.tolist() == list(range(10))


# --- CIFAR-10


CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar10(path: Path, monkeypatch: pytest.MonkeyPatch, **members: bytes) -> NDArray[np.uint8]:
    """Write a small archive of the published layout, with `members` in the place of its own; return its images."""
    planes = pixels(60, 3, 32, 32)
    labels = (np.arange(60) % 10).astype(np.uint8)
    records = np.concatenate([labels[:, None], planes.reshape(60, -1)], 1)
    parts = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    content = {name: part.tobytes() for name, part in zip(parts, np.split(records, 6), strict=True)}
    content["batches.meta.txt"] = "".join(f"{name}\n" for name in CIFAR_NAMES).encode() + b"\n"
    content |= {name.replace("_bin", ".bin"): value for name, value in members.items()}
    with tarfile.open(path, "w:gz") as archive:
        for name, value in content.items():
            if value:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = len(value)
                archive.addfile(member, io.BytesIO(value))
    monkeypatch.setattr(fetch, "CIFAR10_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return planes


def test_cifar10_becomes_idx4_with_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, target = tmp_path / "cifar-10-binary.tar.gz", tmp_path / "cifar10"
    planes = cifar10(archive, monkeypatch)
    assert main(["fetch", "cifar10", str(archive), "--to", str(target)]) == 0
    assert "--model.img-channels 3 --model.img-size 32\n" in capsys.readouterr().out
    train, test = load_dataset(target), load_dataset(target, "t10k")
    assert np.array_equal(train.images, planes[:50])
    assert np.array_equal(test.images, planes[50:])
    assert train.labels.tolist() == list(range(10)) * 5
    assert train.class_names == tuple(CIFAR_NAMES)
    assert (target / "train-images-idx4-ubyte").exists()


def test_cifar10_that_is_not_as_published_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "cifar-10-binary.tar.gz"
    command = ["fetch", "cifar10", str(archive), "--to", str(tmp_path / "out")]
    assert main(command) == 2
    assert f"{archive}: cannot be read" in one_line(capsys)
    archive.write_bytes(b"<html>")
    assert main(command) == 2
    assert "MD5" in (error := one_line(capsys))
    assert "is not CIFAR-10's c32a1d4ab5d03f1284b67883e8d87530" in error
    for members, message in (
        ({"test_batch_bin": b""}, "cifar-10-batches-bin/test_batch.bin cannot be read"),
        ({"data_batch_3_bin": bytes(3072)}, "data_batch_3.bin: 3072 bytes are not records of 3073 bytes"),
        ({"data_batch_3_bin": b"\x0a" + bytes(3072)}, "labels must be 0 to 9: got 10"),
    ):
        cifar10(archive, monkeypatch, **members)
        assert main(command) == 2
        assert message in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


# --- Writers


def test_writers_come_from_qmnists_labels_of_mnists_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.zeros((60_000, 8), ">i4")
    rows[:, 0] = load_dataset().labels
    rows[:, 2] = np.arange(60_000) // 100 * 3 + 7
    file, target = tmp_path / "qmnist-train-labels-idx2-int.gz", tmp_path / "writers"
    command = ["fetch", "writers", str(file), "--to", str(target)]
    file.write_bytes(gzip.compress(idx(rows, 12), 1))
    assert main(command) == 0
    assert f"Wrote the 600 writers of 60,000 training digits to {target}." in capsys.readouterr().out
    writers = load_writers(target)
    assert np.array_equal(writers.indices, np.arange(60_000) // 100)
    assert writers.numbers[:2] == (7, 10)
    assert main(command) == 2
    assert "already exists" in one_line(capsys)
    shutil.rmtree(target)

    shifted = rows.copy()
    shifted[:, 0] = np.roll(rows[:, 0], 1)
    for wrong, message in (
        (rows[:100], "must be (60000, 8), as qmnist-train-labels-idx2-int: got (100, 8)"),
        (rows[:, :3], "got (60000, 3)"),
        (shifted, "but MNIST's is 5; fetch the file again"),
    ):
        file.write_bytes(gzip.compress(idx(wrong, 12), 1))
        assert main(command) == 2
        assert message in one_line(capsys)
    assert not target.exists()


# --- Where the data are


def test_a_dataset_in_the_repository_is_kept_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(dataset: str) -> str:
        return parse(["forge", "--dataset", dataset]).config.dataset

    monkeypatch.chdir(ROOT / "data")
    assert kept("fashion") == kept(str(ROOT / "data" / "fashion")) == "data/fashion"
    assert kept("mnist") == ""
    assert kept(str(tmp_path)) == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert kept("elsewhere") == str(tmp_path / "elsewhere")


def test_data_that_did_not_travel_with_a_job_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "in_job", lambda: True)
    command = ["forge", "--runs", str(tmp_path / "runs"), "--dataset", str(ROOT / "data" / "no-such")]
    assert main(command) == 2
    assert "data/no-such is not in this job" in one_line(capsys)


# --- Data that the networks are not made for


@pytest.mark.parametrize(
    ("shape", "labels", "arguments", "message"),
    [
        ((40, 28, 28), 26, [], "26 classes (labels 0 to 25), but --model.num-classes is 10: set it to 26"),
        ((40, 28, 28), 5, [], "5 classes (labels 0 to 4), but --model.num-classes is 10: set it to 5"),
        ((40, 32, 32, 3), 10, [], "set --model.img-channels 3 --model.img-size 32"),
        ((40, 16, 12), 10, [], "the images are 1x16x12 (channels, height, width), but the networks draw squares"),
        ((40, 28, 28, 2), 10, [], "the images are 2x28x28 (channels, height, width), but the networks draw squares"),
        ((40, 28, 28), 10, ["--model.img-channels", "2"], "model.img_channels must be 1 or 3: got 2"),
        ((40, 30, 30), 10, ["--model.img-size", "30"], "model.img_size must be divisible by 4 for forge: got 30"),
    ],
)
def test_the_flags_that_data_need_are_named(
    shape: tuple[int, ...],
    labels: int,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_dataset(tmp_path / "data", pixels(*shape), [index % labels for index in range(shape[0])])
    command = ["forge", "--dataset", str(folder), "--runs", str(tmp_path / "runs"), *arguments]
    assert main(command) == 2
    assert message in one_line(capsys)


# --- From the data to the app


def colours(folder: Path) -> Path:
    """Ninety-six RGB images of 32x32 in three classes with names, each class of one colour."""
    labels = [index % 3 for index in range(96)]
    images = pixels(96, 32, 32, 3) // 4
    for index, label in enumerate(labels):
        images[index, ..., label] += 180
    write_dataset(folder, images, labels)
    (folder / "classes.txt").write_text("red\nGreen/moss\nsky, blue\n")
    return folder


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two steps of forge on RGB images with class names."""
    folder = tmp_path_factory.mktemp("colours")
    model = ModelConfig(
        architecture="forge", z_dim=8, num_classes=3, img_size=32, img_channels=3, g_widths=(8, 4), d_widths=(4, 8, 8),
        std_group=4, classifier=True,
    )  # fmt: skip
    config = forge_config(
        dataset=str(colours(folder / "data")), limit_images=0, epochs=1, steps_per_epoch=2, batch_size=12, model=model
    )
    run = open_store(folder / "runs").run("colours")
    dataset = launch.load_images(config)
    lengths = {"steps_per_epoch": 2, "total_steps": 2}
    names = tuple(dataset.class_names)
    run.create(run_record(config=config.to_dict(), data=dataset.sha256, class_names=names, **lengths))
    train_here(config, run)
    return run


def test_colour_images_train_and_their_names_stay_with_the_generator(colour_run: Run, tmp_path: Path) -> None:
    assert colour_run.read_epoch_metrics(1).step == 2
    checkpoint = colour_run.latest_checkpoint()
    assert checkpoint
    content = checkpoint.read("generator.safetensors")
    loaded = read_generator(content, "a file")
    assert loaded.class_names == ("red", "Green/moss", "sky, blue")
    assert set(loaded.provenance["data"]) >= {"classes.txt", "train-images-idx4-ubyte"}
    (tmp_path / "samples.png").write_bytes(colour_run.read_samples(1))
    assert (Image.open(tmp_path / "samples.png").size, Image.open(tmp_path / "samples.png").mode) == ((320, 96), "RGB")


def test_generate_takes_names(colour_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = f"{colour_run.path}/step_00000002/generator.safetensors"
    out = tmp_path / "x.npz"

    def labels(digit: str) -> list[int]:
        assert generate.main(["--generator", file, "--digit", digit, "--count", "1", "--out", str(out)]) == 0
        with np.load(out) as archive:
            assert archive["images"].shape[1:] == (32, 32, 3)
            return archive["labels"].tolist()

    assert labels("Green/moss") == [1]
    assert labels("sky, blue") == [2]
    assert labels("Green/moss,0,1-2") == [1, 0, 1, 2]
    capsys.readouterr()
    assert generate.main(["--generator", file, "--digit", "moss", "--out", str(out)]) == 2
    assert "or a list of them or of the names red, Green/moss, sky, blue: got 'moss'" in one_line(capsys)
    assert generate.main(["--generator", file, "--out", str(tmp_path / "x.png")]) == 0
    assert Image.open(tmp_path / "x.png").mode == "RGB"


@pytest.mark.parametrize(
    "names", ["{", "[1, 2, 3]", '["a", "b"]', '["a", "a", "b"]', '["a", "", "b"]', '"abc"', "null"]
)
def test_class_names_that_are_none_are_left_out(colour_run: Run, names: str) -> None:
    checkpoint = colour_run.latest_checkpoint()
    assert checkpoint
    content = checkpoint.read("generator.safetensors")
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["class_names"] = names
    damaged = json.dumps(header).encode()
    damaged += b" " * (-len(damaged) % 8)
    loaded = read_generator(struct.pack("<Q", len(damaged)) + damaged + content[8 + size :], "a file")
    assert loaded.class_names == ()
    assert loaded.config.num_classes == 3


def test_the_digit_reader_is_not_asked_about_other_data(colour_run: Run) -> None:
    checkpoint = colour_run.latest_checkpoint()
    assert checkpoint
    loaded = read_generator(checkpoint.read("generator.safetensors"), "a file")
    digits = ModelConfig(architecture="forge", z_dim=8, g_widths=(8, 4), d_widths=(4, 8, 8))
    object.__setattr__(loaded, "config", digits)
    few = load_dataset().head(200)
    with pytest.raises(ValueError, match="trained on other data than those of the judge"):
        evaluate(loaded, Judge(load_digit_reader(), few, few), 10, 0)


@pytest.fixture
def app_on_colours(colour_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app sees the run, and none of the shipped ones."""
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv(RUNS_VARIABLE, colour_run.store.root)
    monkeypatch.setattr(catalog, "PRETRAINED", tmp_path / "pretrained")


@pytest.mark.usefixtures("app_on_colours")
def test_the_app_calls_classes_by_their_names_and_links_by_their_numbers() -> None:
    app = open_app()
    given = drawn(app)
    assert [each["picture"] for each in given["classes"]] == ["Red", "Green/moss", "Sky, blue"]
    assert (given["noun"], given["nouns"], given["has_names"]) == ("class", "classes", True)
    assert address(app)["digits"] == "0-2"
    app = open_app(digits="0.2.7", count="1")
    assert "This generator knows only classes 0 to 2. Left out: class 7" in words(app)
    assert address(app)["digits"] == "0.2"
    app = open_app("interpolate", from_digit="1", to_digit="2")
    assert [each["name"] for each in drawn(app)["classes"]] == ["red", "Green/moss", "sky, blue"]
    assert address(app)["from_digit"] == "1"
    assert "digit" not in words(open_app("training"))
