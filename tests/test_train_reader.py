"""A dataset gets a reader beside it, which scores the generators of these data, and of no others."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
from numpy.typing import NDArray
from torch import nn

from models.config import ModelConfig
from models.digit_reader import SHA256, DigitReader, read_digits
from models.generator_file import generator_bytes
from models.networks import build_generator
from models.sampling import from_uint8
from models.scores import SCORES
from tests.pages import open_app, part, words
from tests.sample_run import manifest, run_record
from tests.test_data import idx, write_dataset
from tests.training import forge_config, train_here
from trainer import data, evaluate, metrics, readers, train_reader
from trainer.__main__ import main
from trainer.config import Upkeep
from trainer.data import load_dataset
from trainer.readers import DatasetReader, find_reader
from trainer.run_store import GENERATOR_FILE, Run, open_store
from webapp import catalog
from webapp.environment import RUNS_VARIABLE

SIZE, CLASSES, COUNT = 16, 3, 1400
SEED, EPOCHS = 5, 10


def bars(count: int, channels: int, seed: int = 0) -> tuple[NDArray[np.uint8], list[int]]:
    """Images (N, 16, 16[, 3]) of a bar in one of three directions, of any thickness, place and brightness."""
    random = np.random.default_rng(seed)
    labels = [index % CLASSES for index in range(count)]
    images = random.integers(0, 30, (count, SIZE, SIZE, channels))
    for index, label in enumerate(labels):
        across = [np.arange(SIZE)[:, None], np.arange(SIZE)[None], np.add.outer(np.arange(SIZE), np.arange(SIZE)) / 2]
        near = np.broadcast_to(abs(across[label] - random.uniform(4, 11)) < random.uniform(1, 2.5), (SIZE, SIZE))
        images[index, near] = random.integers(150, 256, channels)
    return images.astype(np.uint8).squeeze(3) if channels == 1 else images.astype(np.uint8), labels


def model(channels: int) -> ModelConfig:
    return ModelConfig(
        architecture="forge", z_dim=8, num_classes=CLASSES, img_size=SIZE, img_channels=channels, g_widths=(8, 4),
        d_widths=(4, 8, 8), std_group=4, classifier=True,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def channels(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, channels: int) -> Path:
    """A dataset with labels from 1, without a test split, and with the reader that the command has trained on it."""
    images, labels = bars(COUNT, channels)
    folder = write_dataset(tmp_path_factory.mktemp("data") / "bars", images, [label + 1 for label in labels])
    (folder / "classes.txt").write_text("lying\nstanding\nslanted\n")
    command = ["train-reader", "--dataset", str(folder), "--epochs", str(EPOCHS), "--seed", str(SEED)]
    assert main(command) == 0
    return folder


@pytest.fixture(scope="module")
def reader(folder: Path) -> DatasetReader:
    return DatasetReader.load(folder / "reader.safetensors")


def test_the_command_says_how_well_it_reads_and_what_real_images_score(
    folder: Path, reader: DatasetReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "bars"
    shutil.copytree(folder, copy)
    (copy / "reader.safetensors").unlink()
    assert main(["train-reader", "--dataset", str(copy), "--epochs", str(EPOCHS), "--seed", str(SEED)]) == 0
    printed = capsys.readouterr().out
    test = load_dataset(copy, "t10k")
    assert f"Training a reader of 3 classes on {COUNT - len(test.images):,} images, {EPOCHS} epochs." in printed
    assert f"reader, epoch {EPOCHS}/{EPOCHS}: loss" in printed
    assert f"on {len(test.images)} images that it has not seen" in printed
    # It is a function of its seed, up to the last bit.
    assert f"(SHA-256 {reader.sha256})" in printed
    assert [path.name for path in sorted(copy.iterdir()) if "reader" in path.name] == ["reader.safetensors"]


def test_the_file_has_accuracy_floors_and_hashes(folder: Path, reader: DatasetReader) -> None:
    training, test = load_dataset(folder), load_dataset(folder, "t10k")
    _, logits = read_digits(reader.network, test.images)
    accuracy = np.mean(logits.argmax(1).numpy() == test.labels)
    assert accuracy > 0.95
    assert reader.provenance["test_accuracy"] == pytest.approx(accuracy)
    assert reader.provenance["command"].endswith(f"train-reader --dataset bars --epochs {EPOCHS} --seed {SEED}")
    assert reader.data == training.sha256
    assert "cut test split" in reader.data
    judge = reader.judge(folder)
    count = len(test.images)
    assert reader.reference.floor == pytest.approx(
        {name: (judge.floor(count) | judge.floor_labels(count))[name] for name in reader.reference.floor}
    )
    assert {"label_accuracy", "fid", "coverage", "diversity", "haze"} <= reader.reference.floor.keys()
    shares = np.bincount(training.labels) / len(training.labels)
    assert reader.reference.class_shares == pytest.approx(shares)


def test_it_tells_real_images_from_noise_and_from_one_image_a_class(folder: Path, reader: DatasetReader) -> None:
    judge, count = reader.judge(folder), 180
    channels = reader.network.img_channels
    pictures, labels = bars(count, channels, seed=9)
    floor = judge.floor(count) | judge.floor_labels(count)

    def scores(pictures: NDArray[np.uint8]) -> dict[str, float]:
        reading = judge.read(pictures)
        return judge.score(reading, torch.tensor(labels)) | judge.score_labels(reading, torch.tensor(labels))

    good = scores(pictures)
    assert good["label_accuracy"] > 0.95
    assert good["fid"] < 2 * floor["fid"]
    assert good["coverage"] > floor["coverage"] - 0.1
    noise = scores(np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8))
    assert noise["label_accuracy"] < 0.7
    assert noise["fid"] > 10 * floor["fid"]
    one_each = scores(np.concatenate([pictures[:3]] * (count // 3)))
    assert one_each["label_accuracy"] > 0.6
    assert one_each["coverage"] < 0.3
    assert one_each["diversity"] == pytest.approx(0, abs=1e-6)


class Forger(nn.Module):
    """A perfect one: it draws unseen images of each class in turn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        pictures, labels = bars(3000, channels, seed=7)
        images = from_uint8(torch.from_numpy(pictures.reshape(3000, SIZE, SIZE, channels)).movedim(3, 1))
        self.images = [images[torch.tensor(labels) == label] for label in range(CLASSES)]
        self.weight, self.drawn = nn.Parameter(torch.zeros(1)), 0

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        chosen = [self.images[label][(self.drawn + k) % 1000] for k, label in enumerate(c.argmax(1))]
        self.drawn += len(c)
        return torch.stack(chosen)


def test_a_generator_is_scored_in_training_as_by_the_judge(folder: Path, reader: DatasetReader) -> None:
    dataset, config = load_dataset(folder), model(reader.network.img_channels)
    judge = readers.epoch_judge(config, dataset, torch.device("cpu"))
    assert judge
    assert judge.reader_sha256 == reader.sha256
    scores = judge.score(Forger(config.img_channels))
    assert scores.keys() == judge.floor.keys()
    assert scores["label_accuracy"] > 0.95
    assert scores["fid"] < 2 * judge.floor["fid"]
    assert judge.score(build_generator(config))["fid"] > 10 * judge.floor["fid"]
    assert "label_accuracy" not in unconditional_scores(config, dataset)


def unconditional_scores(config: ModelConfig, dataset: data.Dataset) -> dict[str, float]:
    config = replace(config, num_classes=0, classifier=False)
    judge = readers.epoch_judge(config, dataset, torch.device("cpu"))
    assert judge
    return judge.score(build_generator(config))


@pytest.fixture(scope="module")
def run(folder: Path, reader: DatasetReader, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs of forge on the data, scored at the end of each."""
    config = forge_config(
        dataset=str(folder), limit_images=0, steps_per_epoch=2, batch_size=24, model=model(reader.network.img_channels)
    )
    run = open_store(tmp_path_factory.mktemp("runs")).run("bars")
    dataset = load_dataset(folder)
    known = {"data": dataset.sha256, "class_names": dataset.class_names}
    run.create(run_record(config=config.to_dict(), steps_per_epoch=2, total_steps=4, **known))
    train_here(config, run, upkeep=Upkeep())
    return run


def test_a_run_on_the_data_has_scores_and_floors_and_keeps_the_best(run: Run, reader: DatasetReader) -> None:
    for epoch in (1, 2):
        summary = run.read_epoch_metrics(epoch)
        assert summary.scores
        assert summary.scores.keys() == reader.reference.floor.keys()
        assert summary.floor == pytest.approx(reader.reference.floor)
        assert summary.reader_sha256 == reader.sha256
        assert summary.count == len(reader.reference.real.test_features)
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert checkpoint.manifest.fid == run.read_epoch_metrics(2).scores["fid"]  # type: ignore[index]


@pytest.fixture
def app_on_bars(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app sees the run, and none of the shipped ones."""
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv(RUNS_VARIABLE, run.store.root)
    monkeypatch.setattr(catalog, "PRETRAINED", tmp_path / "pretrained")


@pytest.mark.usefixtures("app_on_bars")
def test_the_app_shows_the_scores_beside_the_floor_of_the_data(run: Run, reader: DatasetReader) -> None:
    app = open_app("training")
    epoch = part(app, "epochs")[2]
    scores = run.read_epoch_metrics(2).scores
    assert scores
    assert epoch["count"] == len(reader.reference.real.test_features)
    assert epoch["scores"]["fid"] == SCORES["fid"].show(scores["fid"])
    assert epoch["real"]["fid"] == SCORES["fid"].show(reader.reference.floor["fid"])
    assert part(app, "scores")["things"] == "pictures"
    assert "digit" not in words(app)


def test_a_shipped_run_has_its_reader_with_it(
    run: Run, reader: DatasetReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ship", "bars", "--runs", run.store.root, "--to", str(tmp_path)]
    assert main(command) == 0
    shipped = DatasetReader.load(tmp_path / "bars" / "reader.safetensors")
    assert shipped.sha256 == reader.sha256
    assert find_reader(run.read_run().data, tmp_path / "bars") is not None
    assert main([*command, "--replace"]) == 0
    assert DatasetReader.load(tmp_path / "bars" / "reader.safetensors").sha256 == reader.sha256


def test_a_run_is_evaluated_with_the_reader_of_its_data(
    run: Run, folder: Path, reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(metrics, "KID_SUBSETS", 5)
    monkeypatch.setattr(evaluate, "GAN_TRAIN_EPOCHS", 1)
    monkeypatch.setattr(evaluate, "TWO_SAMPLE_COUNT", 60)
    monkeypatch.setattr(metrics, "TWO_SAMPLE_SEEDS", 1)
    command = ["evaluate", "bars", "--runs", run.store.root]
    count = len(load_dataset(folder, "t10k").images)
    assert main([*command, "--full"]) == 0
    printed = capsys.readouterr().out
    assert f"bars, step_00000004: {count} pictures, seeds 0 to {count - 1}, read by {reader.sha256[:12]}" in printed
    assert "read as asked: slanted" in printed
    assert "GAN-train: accuracy on real test" in printed
    assert SCORES["two_sample_0"].title in printed
    kept = run.read_evaluation(4)
    assert kept
    assert (kept.count, kept.reader_sha256) == (count, reader.sha256)
    assert np.shape(kept.generated["confusion"]) == (CLASSES, CLASSES)
    assert kept.floor["label_accuracy"] > 0.9  # type: ignore[operator]

    # A generator file knows the hashes of its data, but not where they are.
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    file = tmp_path / "generator.safetensors"
    file.write_bytes(checkpoint.read(GENERATOR_FILE))
    command = ["evaluate", "--generator", str(file), "--count", "30"]
    assert main(command) == 2
    assert "no reader of them was found; train one: python -m trainer train-reader" in capsys.readouterr().err
    assert main([*command, "--dataset", str(folder)]) == 0
    # A reader in the repository is found without a folder; the data are asked for if they are not there.
    (tmp_path / "pretrained" / "bars").mkdir(parents=True)
    shutil.copy(folder / "reader.safetensors", tmp_path / "pretrained" / "bars")
    monkeypatch.setattr(readers, "ROOT", tmp_path)
    assert main(command) == 2
    assert "name their folder by --dataset" in capsys.readouterr().err
    shutil.copytree(folder, tmp_path / "data" / "bars", ignore=shutil.ignore_patterns("reader*"))
    assert main(command) == 0


def test_a_reader_never_judges_other_data(folder: Path, reader: DatasetReader, tmp_path: Path) -> None:
    dataset, config = load_dataset(folder), model(reader.network.img_channels)
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    images, labels = bars(COUNT, config.img_channels, seed=3)
    write_dataset(other, images, labels)
    assert find_reader(load_dataset(other).sha256, other) is None
    assert readers.epoch_judge(config, load_dataset(other), torch.device("cpu")) is None
    shutil.rmtree(other)
    for unfit in (replace(config, num_classes=4), replace(config, img_size=32)):
        assert readers.epoch_judge(unfit, dataset, torch.device("cpu")) is None
        with pytest.raises(ValueError, match=r"the reader reads 3 classes at .x16x16: this generator draws"):
            readers.reader_for(unfit, dataset.sha256, folder)
    # A generator of unknown data, or of MNIST, is MNIST's reader's.
    found = find_reader(None, folder)
    assert found
    assert found.sha256 == SHA256
    generator = generator_bytes(build_generator(config), config, {"data": {"train-images-idx3-ubyte": "0" * 64}})
    run = open_store(tmp_path).run("other")
    run.create(run_record(config={"dataset": str(folder)}))
    run.publish_checkpoint(manifest(1), {GENERATOR_FILE: generator})
    assert main(["evaluate", "other", "--runs", str(tmp_path)]) == 2


def test_a_damaged_reader_is_named(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "reader.safetensors").read_bytes())
    path = tmp_path / "reader.safetensors"
    for damaged, complaint in (
        (content[:-1], "cannot be read as a reader"),
        (content[:-1] + bytes([content[-1] ^ 1]), "is damaged"),
        (generator_bytes(nn.Linear(1, 1), model(1), {}), "is not a reader of this version"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: {complaint}.*train it again"):
            DatasetReader.load(path)


def test_a_damaged_reader_of_other_data_is_passed_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = DatasetReader.load(folder / "reader.safetensors").data
    monkeypatch.setattr(readers, "ROOT", tmp_path)
    (tmp_path / "data" / "another").mkdir(parents=True)
    (tmp_path / "data" / "another" / "reader.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot be read as a reader"):  # it may have been the one
        find_reader(hashes)
    shutil.copytree(folder, tmp_path / "data" / "bars")
    found = find_reader(hashes)
    assert found
    assert found.folder == tmp_path / "data" / "bars"


def test_data_that_no_reader_can_learn_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dataset(name: str, shape: tuple[int, ...], classes: int, test: int = 10) -> Path:
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        folder = write_dataset(tmp_path / name, images, [index % classes for index in range(len(images))])
        if test:
            (folder / f"t10k-images-idx{images.ndim}-ubyte").write_bytes(idx(images[:test]))
            (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(test, dtype=np.uint8) % classes))
        return folder

    for folder, message in (
        (tmp_path / "none", "is missing; --dataset must be a folder of IDX files"),
        (data.MNIST, "is MNIST, whose reader is part of the project"),
        (dataset("oblong", (200, 16, 12), 2), "images must be squares of at least 8 pixels"),
        (dataset("small", (200, 7, 7), 2), "images must be squares of at least 8 pixels"),
        (dataset("two", (200, 8, 8, 2), 2), "in grey or RGB"),
        (dataset("alike", (200, 8, 8), 1), "a reader tells classes apart"),
        (dataset("few", (100, 8, 8), 2), "100 training images are too few; 128 are needed"),
        (dataset("untested", (200, 8, 8), 2, test=5), "5 test images are too few; 6 are needed"),
        (dataset("uncut", (6, 8, 8), 2, test=0), "has no test split, and too few images to cut one"),
    ):
        assert main(["train-reader", "--dataset", str(folder)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("trainer train-reader: ")
        assert error.count("\n") == 1
    for arguments, message in ((["--epochs", "0"], "--epochs must be at least 1"), (["--seed", "-1"], "--seed must")):
        assert main(["train-reader", "--dataset", str(folder), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_few_images_are_seen_more_often() -> None:
    assert train_reader.MIN_STEPS > train_reader.EPOCHS * (7291 // train_reader.BATCH_SIZE)  # USPS


@pytest.mark.parametrize("size", [8, 12, 16, 20, 24, 28, 32, 40, 64])
def test_readers_of_any_size_have_features_of_one_length(size: int) -> None:
    network = DigitReader(size, 3, 7).eval()
    features, logits = read_digits(network, np.zeros((2, size, size, 3), np.uint8))
    assert (features.shape, logits.shape) == ((2, 128), (2, 7))
    assert sum(parameter.numel() for parameter in network.parameters()) < 500_000
    with pytest.raises(ValueError, match="at least 8 pixels"):
        DigitReader(7)


def test_colour_is_read_the_same_in_both_orders() -> None:
    network = DigitReader(16, 3, 4).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    drawn, _ = read_digits(network, pictures)
    stored, _ = read_digits(network, pictures.transpose(0, 3, 1, 2))
    assert torch.equal(drawn, stored)
    assert json.dumps(drawn.shape) == "[5, 128]"
