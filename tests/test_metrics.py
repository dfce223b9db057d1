"""Metrics have the values that one computes by hand, and move as the pictures get worse."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import sampling
from models.config import ModelConfig
from models.digit_reader import SHA256, load_digit_reader
from models.generator_file import LoadedGenerator, generator_bytes
from models.networks import build_generator
from models.sampling import from_uint8
from models.scores import SCORES
from tests.sample_run import manifest, run_record
from trainer import data, evaluate, metrics, readers, train_digit_reader
from trainer.__main__ import main
from trainer.metrics import EpochJudge, Judge, Reference
from trainer.run_store import GENERATOR_FILE, Run, open_store

COUNT = 1000


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """A judge that knows a tenth of the real digits and takes fewer subsets for KID, to be quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "KID_SUBSETS", 10)
        yield Judge(load_digit_reader(), data.load_dataset().head(6000), data.load_dataset(split="t10k").head(COUNT))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, Tensor]:
    """The best that a generator could draw: training images that this judge does not know, and their labels."""
    unknown = data.load_dataset()
    return unknown.images[6000 : 6000 + COUNT, 0], torch.from_numpy(unknown.labels[6000 : 6000 + COUNT])


@pytest.fixture(scope="module")
def clean(judge: Judge, digits: tuple[np.ndarray, Tensor]) -> dict[str, Any]:
    return scores(judge, *digits)


def scores(judge: Judge, pictures: np.ndarray, labels: Tensor) -> dict[str, Any]:
    reading = judge.read(pictures)
    return judge.score(reading, labels) | judge.score_labels(reading, labels)


def corners(width: float, height: float, x: float = 0, y: float = 0) -> Tensor:
    """Four points around (x, y), with these standard deviations and no correlation."""
    a, b = width * math.sqrt(3) / 2, height * math.sqrt(3) / 2  # of a sample: 4 a^2 / (4 - 1) = width^2
    return torch.tensor([[x - a, y - b], [x - a, y + b], [x + a, y - b], [x + a, y + b]], dtype=torch.float64)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


# By hand


def test_fid_is_the_distance_between_two_gaussians() -> None:
    def distance(features: Tensor, real_features: Tensor) -> float:
        return metrics.frechet_distance(metrics.fit_gaussian(features), metrics.fit_gaussian(real_features))

    # |(3, 4)|^2 + (2 - 1)^2 + (3 - 1)^2
    assert distance(corners(2, 3, 3, 4), corners(1, 1)) == pytest.approx(30)
    assert distance(corners(2, 3), corners(2, 3)) == pytest.approx(0, abs=1e-6)
    # (1 - 2)^2 + (2 - 1)^2
    assert distance(corners(1, 2), corners(2, 1)) == pytest.approx(2)
    # The covariance [[2, 1], [1, 2]] against the unit: traces 4 and 2, and its root has the eigenvalues sqrt(3) and 1.
    turned = corners(math.sqrt(3), 1) @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]]).double() / math.sqrt(2)
    assert distance(turned, corners(1, 1)) == pytest.approx(6 - 2 * (math.sqrt(3) + 1))


def test_kid_is_the_mean_of_cubic_kernels() -> None:
    # k(x, y) = (x y + 1)^3. Within {1, -1}: 0; within {2, 2}: 125; between them: 27 and -1, so 125 - 2 * 13.
    assert metrics.kernel_distance(column(2, 2), column(1, -1)) == pytest.approx(99)


def test_neighbour_scores_on_a_line() -> None:
    # With k = 1 the real balls reach 1 far. 0.4 lies in those of 0 and 1; its own ball reaches to 10, over all real.
    real = column(0, 1, 2, 3)
    assert metrics.neighbour_scores(column(0.4, 10, 10.5), real, k=1) == pytest.approx(
        {"precision": 1 / 3, "recall": 1, "density": 2 / 3, "coverage": 2 / 4}
    )
    # With k = 2 they reach 2, 1, 1, 2 far: all over all of three generated ones, whose own balls hold nothing real.
    assert metrics.neighbour_scores(column(1.5, 1.6, 1.7), real, k=2) == pytest.approx(
        {"precision": 1, "recall": 0, "density": 12 / (2 * 3), "coverage": 1}
    )
    assert metrics.neighbour_radii(real, k=2).tolist() == [2, 1, 1, 2]
    with pytest.raises(ValueError, match="5 neighbours need at least 6 pictures: got 4"):
        metrics.neighbour_scores(real, real)


def test_neighbour_scores_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    fake, real = torch.randn(90, 8, generator=random), torch.randn(70, 8, generator=random) + 0.5
    whole = metrics.neighbour_scores(fake, real)
    monkeypatch.setattr(metrics, "CHUNK", 16)
    assert metrics.neighbour_scores(fake, real) == pytest.approx(whole)


def test_class_variances() -> None:
    features = torch.tensor([[0.0, 0.0], [2.0, 4.0], [5.0, 5.0], [1.0, 1.0], [1.0, 1.0]])
    # Class 0: 2 + 8 of a sample of two; class 1: one picture; class 2: two equal ones; class 3: none.
    assert metrics.class_variances(features, torch.tensor([0, 0, 1, 2, 2]), 4).tolist() == [10, 0, 0, 0]


def test_label_accuracy_and_confusion() -> None:
    counts = metrics.confusion(torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 2, 1, 1, 0, 2]), 3)
    assert counts.tolist() == [[1, 0, 1], [1, 2, 0], [0, 0, 1]]
    overall, each = metrics.label_accuracy(counts)
    assert overall == pytest.approx(4 / 6)
    assert each == pytest.approx([1 / 2, 2 / 3, 1])


def test_nearest_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    def picture(*pixels: int) -> list[list[int]]:
        return [[pixels[0], pixels[1]], [pixels[2], pixels[3]]]

    others = torch.tensor([picture(0, 0, 0, 0), picture(255, 255, 0, 0), picture(9, 9, 9, 9)], dtype=torch.uint8)
    pictures = torch.tensor([picture(255, 255, 255, 255), picture(9, 9, 9, 12)], dtype=torch.uint8)
    for chunk in (1000, 1):
        monkeypatch.setattr(metrics, "CHUNK", chunk)
        assert metrics.nearest_distances(pictures, others).tolist() == pytest.approx([math.sqrt(2), 3 / 255])
    many = torch.randint(0, 256, (40, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert metrics.nearest_distances(many, many).tolist() == [0.0] * 40


def test_features_that_are_hardly_ever_active_are_dropped() -> None:
    raw = torch.zeros(1000, 3)
    raw[:9, 0], raw[:10, 1], raw[:500, 2] = 5, 2, 4
    kept, mean, std = metrics.feature_scale(raw)
    assert kept.tolist() == [False, True, True]
    assert mean.tolist() == pytest.approx([0.02, 2])
    assert std.tolist() == pytest.approx([math.sqrt(4 * 0.01 * 0.99 * 1000 / 999), 2 * math.sqrt(1000 / 999)])


def test_labels_are_uniform_or_as_frequent_as_in_training() -> None:
    assert metrics.uniform_labels(12) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    shares = np.array([0.5, 0.2, 0.3])
    assert metrics.frequent_labels(10, shares) == [0] * 5 + [1] * 2 + [2] * 3
    # 3.5, 1.4 and 2.1 of 7: the one left goes to the first.
    assert metrics.frequent_labels(7, shares) == [0] * 4 + [1] + [2] * 2
    for count in range(60):
        assert len(metrics.frequent_labels(count, shares)) == count


def test_pixel_scores() -> None:
    pictures = torch.zeros(3, 5, 7, dtype=torch.uint8)
    pictures[0, 1, 1], pictures[0, 3, 6] = 5, 200  # both are lone: one in the haze, one at the edge
    pictures[1, 2:4, 2:4] = torch.tensor([[6, 1], [0, 5]])  # neighbours, one of them at a corner of the other
    rows = metrics.pixel_rows(pictures)
    assert rows[:, 0].tolist() == pytest.approx([33 / 35, 32 / 35, 1])
    assert rows[:, 1].tolist() == pytest.approx([1 / 35, 2 / 35, 0])
    assert rows[:, 2].tolist() == [2, 0, 0]
    # The middle is (2, 3). The third picture has no centre of mass.
    centres = [(-5 + 200) / 205, (-2 * 5 + 3 * 200) / 205, 5 / 12, -6 / 12, 0, 0]
    assert rows[:, 3:].flatten().tolist() == pytest.approx(centres)
    scores = metrics.pixel_scores(torch.tensor([[0.5, 0.1, 2, -1, 3], [0.7, 0, 0, 1, 3]]))
    # The variances are 2 and 0.
    assert scores == pytest.approx({"black": 0.6, "haze": 0.05, "lone_pixels": 1, "centring": 1})


# On real digits


def test_pixels_of_real_digits(judge: Judge) -> None:
    real = metrics.pixel_scores(metrics.pixel_rows(judge.training.pictures))
    assert real["black"] == pytest.approx(0.81, abs=0.005)
    assert real["haze"] == pytest.approx(0.0036, abs=0.0005)
    assert real["lone_pixels"] == pytest.approx(0.006, abs=0.003)
    assert real["centring"] == pytest.approx(0.29, abs=0.005)
    # A veil of the faintest grey, and every second digit one pixel to the right.
    veiled = metrics.pixel_scores(metrics.pixel_rows(judge.training.pictures.clamp(min=1)))
    assert veiled["black"] == veiled["lone_pixels"] == 0
    assert veiled["haze"] == pytest.approx(real["black"] + real["haze"])
    moved = judge.training.pictures.clone()
    moved[::2] = moved[::2].roll(1, 2)
    assert metrics.pixel_scores(metrics.pixel_rows(moved))["centring"] == pytest.approx(
        math.sqrt(real["centring"] ** 2 + 0.5**2 / 2), abs=0.01
    )


def test_real_digits_score_as_their_floor(judge: Judge, clean: dict[str, Any]) -> None:
    floor = judge.floor(COUNT) | judge.floor_labels(COUNT)
    assert clean.keys() == floor.keys()
    for metric in ("precision", "recall", "density", "coverage"):
        assert clean[metric] == pytest.approx(floor[metric], abs=0.06), metric
        assert clean[metric] > 0.85, metric
    assert clean["diversity"] == pytest.approx(1, abs=0.1)
    assert floor["diversity"] == pytest.approx(1, abs=0.15)
    assert clean["label_accuracy"] > 0.99
    assert clean["nearest_1st_percentile"] == pytest.approx(floor["nearest_1st_percentile"], rel=0.15)
    assert np.sum(floor["confusion"]) == COUNT
    features = judge.training.features
    torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(0), torch.ones(features.shape[1]), atol=1e-3, rtol=0)


def blurred(pictures: np.ndarray) -> np.ndarray:
    mean = F.avg_pool2d(torch.tensor(pictures)[:, None].float(), 3, 1, 1)
    return mean.round().byte().numpy()[:, 0]


def noisy(pictures: np.ndarray) -> np.ndarray:
    noise = np.random.RandomState(0).normal(0, 0.3 * 127.5, pictures.shape)
    return np.clip(pictures + noise, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("spoil", [blurred, noisy])
def test_spoiled_pictures_are_read_well_and_yet_score_worse(
    judge: Judge, digits: tuple[np.ndarray, Tensor], clean: dict[str, Any], spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    spoiled = scores(judge, spoil(digits[0]), digits[1])
    assert spoiled["label_accuracy"] > 0.9
    assert spoiled["fid"] > 3 * clean["fid"]
    assert spoiled["kid"] > 3 * abs(clean["kid"])
    assert spoiled["coverage"] < clean["coverage"] - 0.05
    assert spoiled["nearest_1st_percentile"] > 1.1 * clean["nearest_1st_percentile"]


def test_a_missing_digit_shows(judge: Judge, digits: tuple[np.ndarray, Tensor], clean: dict[str, Any]) -> None:
    others = np.flatnonzero(digits[1] != 3)
    chosen = np.resize(others, COUNT)
    missing = scores(judge, digits[0][chosen], digits[1][chosen])
    assert missing["label_accuracy"] > 0.99
    assert missing["fid"] > 3 * clean["fid"]
    assert missing["recall"] < clean["recall"] - 0.04
    assert missing["coverage"] < clean["coverage"] - 0.06
    assert missing["precision"] == pytest.approx(clean["precision"], abs=0.03)
    assert math.isnan(missing["label_accuracy_per_digit"][3])
    assert missing["diversity"] == pytest.approx(0.9 * clean["diversity"], abs=0.05)


def test_a_hundred_pictures_over_and_over_show(
    judge: Judge, digits: tuple[np.ndarray, Tensor], clean: dict[str, Any]
) -> None:
    chosen = np.arange(COUNT) % 100
    repeated = scores(judge, digits[0][chosen], digits[1][chosen])
    assert repeated["label_accuracy"] > 0.98
    assert repeated["precision"] > 0.85
    assert repeated["recall"] < 0.05
    assert repeated["coverage"] < 0.6 * clean["coverage"]
    assert repeated["fid"] > 3 * clean["fid"]


def test_one_perfect_picture_of_each_digit_has_no_diversity(judge: Judge, digits: tuple[np.ndarray, Tensor]) -> None:
    chosen = np.array([int(torch.nonzero(digits[1] == label)[0]) for label in digits[1].tolist()])
    collapsed = scores(judge, digits[0][chosen], digits[1])
    assert collapsed["label_accuracy"] == 1
    assert collapsed["diversity"] == pytest.approx(0, abs=1e-6)


def test_shifted_labels_show_in_label_accuracy_alone(
    judge: Judge, digits: tuple[np.ndarray, Tensor], clean: dict[str, Any]
) -> None:
    shifted = scores(judge, digits[0], (digits[1] + 1) % 10)
    assert shifted["label_accuracy"] < 0.01
    assert np.trace(np.roll(shifted["confusion"], 1, axis=1)) > 0.99 * COUNT
    for metric in ("fid", "kid", "coverage", "diversity"):
        assert shifted[metric] == pytest.approx(clean[metric]), metric


def wrong_pixels(pictures: np.ndarray) -> np.ndarray:
    """Give 1 % of the pixels another grey."""
    random = np.random.RandomState(0)
    return np.where(random.rand(*pictures.shape) < 0.01, random.randint(0, 256, pictures.shape), pictures).astype(
        np.uint8
    )


def lighter(pictures: np.ndarray) -> np.ndarray:
    """Make each pixel one grey level lighter."""
    return np.minimum(pictures, 254) + np.uint8(1)


def told_apart(judge: Judge, spoil: Callable[[np.ndarray], np.ndarray], count: int, noise: float = 0) -> float:
    """Return how well real digits are told from other real ones that `spoil` has changed."""
    labels = torch.tensor(metrics.uniform_labels(count))
    first, second = metrics.two_real_samples(labels, judge.training_labels)
    spoilt = torch.from_numpy(spoil(judge.training.pictures[first].numpy()))
    return metrics.told_apart(spoilt, judge.training.pictures[second], labels, noise, seed=0)


def test_real_digits_cannot_be_told_from_real_ones_but_from_spoilt_ones(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TWO_SAMPLE_BATCH", 16)  # of few pictures
    assert told_apart(judge, lambda pictures: pictures, 300) == pytest.approx(0.5, abs=0.15)
    assert told_apart(judge, wrong_pixels, 300) > 0.7
    assert told_apart(judge, blurred, 120) > 0.9
    assert told_apart(judge, blurred, 120, noise=1.0) < 0.8


@pytest.mark.long
def test_the_two_sample_test_finds_small_faults(judge: Judge) -> None:
    assert told_apart(judge, lambda pictures: pictures, 2400) == pytest.approx(0.5, abs=0.06)
    for spoil in (blurred, wrong_pixels, lighter):
        assert told_apart(judge, spoil, 2400) > 0.95
    assert told_apart(judge, lighter, 2400, noise=0.3) < 0.6


def test_the_two_sample_test_depends_on_the_seed_alone(judge: Judge) -> None:
    labels, noise = torch.tensor(metrics.uniform_labels(60)), 0.1
    pictures, others = judge.training.pictures[:60], judge.training.pictures[60:120]
    torch.manual_seed(1)
    found = metrics.told_apart(pictures, others, labels, noise, seed=3)
    before = torch.random.get_rng_state()
    assert metrics.told_apart(pictures, others, labels, noise, seed=3) == found
    assert torch.equal(torch.random.get_rng_state(), before)


def test_samples_of_the_two_sample_test_have_the_same_classes_and_share_no_picture(judge: Judge) -> None:
    pool = judge.training_labels
    labels = torch.tensor([3, 1, 3, 3, 0])
    first, second = metrics.two_real_samples(labels, pool)
    assert pool[first].tolist() == pool[second].tolist() == labels.tolist()
    assert len({*first.tolist(), *second.tolist()}) == 10
    with pytest.raises(ValueError, match="4 real pictures of class 1 are needed: there are 3"):
        metrics.two_real_samples(torch.tensor([1, 1]), torch.tensor([1, 0, 1, 1]))


def test_copies_of_training_images_are_too_near(judge: Judge) -> None:
    copies = judge.score(judge.read(judge.training.pictures[:COUNT].numpy()))
    assert copies["nearest_1st_percentile"] == copies["nearest_median"] == 0


# At the end of an epoch


@pytest.fixture
def reference(judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reference:
    """What the small judge compares fewer pictures with, in place of the shipped file."""
    monkeypatch.setattr(metrics, "EPOCH_COUNT", 500)
    metrics.make_reference(judge, tmp_path / "reference.safetensors")
    made = Reference.load(tmp_path / "reference.safetensors")
    monkeypatch.setattr(Reference, "load", lambda: made)
    return made


@pytest.mark.parametrize("num_classes", [10, 0])
def test_an_epochs_scores_are_those_of_the_judge(
    judge: Judge, reference: Reference, monkeypatch: pytest.MonkeyPatch, num_classes: int
) -> None:
    labels = metrics.frequent_labels(500, judge.class_shares)
    unknown = data.load_dataset()
    members = [6000 + np.flatnonzero(unknown.labels[6000:8000] == label) for label in range(10)]
    indices = np.concatenate([members[label][: labels.count(label)] for label in range(10)])
    pictures = unknown.images[indices, 0]
    monkeypatch.setattr(sampling, "draw", lambda generator, z, c: pictures)
    config = tiny_config(num_classes)
    device = torch.device("cpu")
    assert "nearest_1st_percentile" not in EpochJudge(config, device).score(build_generator(config))
    found = EpochJudge(config, device, training=judge.training_set).score(build_generator(config))

    reading = judge.read(pictures)
    expected = judge.score(reading, torch.tensor(labels) if num_classes else None)
    expected["label_accuracy"] = np.mean(judge.score_labels(reading, torch.tensor(labels))["label_accuracy_per_digit"])
    expected = {name: expected[name] for name in reference.floor if num_classes or name != "label_accuracy"}
    assert found == pytest.approx(expected, rel=1e-4)
    whole_floor = judge.floor(500) | judge.floor_labels(500)
    assert reference.floor == pytest.approx({name: whole_floor[name] for name in reference.floor})


def test_the_nearest_training_image_is_looked_for_in_the_class_that_is_read() -> None:
    training = data.load_dataset(split="t10k").head(1000)
    drawn, digits = torch.tensor(training.images[:50, 0]), torch.from_numpy(training.labels[:50])
    drawn[0, 14, 14] ^= 255  # all others are copies
    found = metrics.nearest_of_class(drawn, digits, training)
    assert found.tolist() == pytest.approx([1.0] + [0.0] * 49)
    assert metrics.nearest_percentile(found) == 0.0
    unlike = metrics.nearest_of_class(drawn, (digits + 1) % 10, training)
    assert (unlike > 2).all()
    assert metrics.nearest_of_class(drawn[:1], torch.tensor([11]), training).isinf().all()


def test_drawing_for_a_score_leaves_a_generator_as_it_was(reference: Reference) -> None:
    config = tiny_config()
    judge = EpochJudge(config, torch.device("cpu"))
    for training in (True, False):
        generator = build_generator(config).train(training)
        scores = judge.score(generator)
        assert generator.training == training
        assert all(math.isfinite(score) for score in scores.values())


def test_mnists_reader_judges_generators_of_mnists_digits_only() -> None:
    mnist, config, cpu = data.load_dataset(), tiny_config(), torch.device("cpu")
    for known, judged in ((mnist.sha256, config), (None, config), (mnist.sha256, tiny_config(0))):
        assert readers.reader_for(judged, known).sha256 == SHA256
    assert readers.epoch_judge(config, mnist, cpu)
    named = dataclasses.replace(mnist, sha256=mnist.sha256 | {"classes.txt": "0" * 64})
    assert readers.epoch_judge(config, named, cpu)
    other = dataclasses.replace(mnist, sha256={"train-images-idx3-ubyte": "0" * 64})
    with pytest.raises(ValueError, match="trained on other data than MNIST, and no reader of them was found"):
        readers.reader_for(config, other.sha256)
    assert readers.epoch_judge(config, other, cpu) is None
    for unfit, drawn in (
        (dataclasses.replace(config, img_size=32), "10 classes at 1x32x32"),
        (dataclasses.replace(config, img_channels=3), "10 classes at 3x28x28"),
        (dataclasses.replace(config, num_classes=26), "26 classes at 1x28x28"),
    ):
        with pytest.raises(ValueError, match=f"reads 10 classes at 1x28x28: this generator draws {drawn}"):
            readers.reader_for(unfit, mnist.sha256)
        assert readers.epoch_judge(unfit, mnist, cpu) is None


def test_a_reference_of_another_reader_is_refused(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "EPOCH_COUNT", 100)
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "SHA256", "another")
        metrics.make_reference(judge, tmp_path / "reference.safetensors")
    with pytest.raises(ValueError, match=r"reference\.safetensors: was made with another digit reader; make it again"):
        Reference.load(tmp_path / "reference.safetensors")


@pytest.mark.slow
def test_the_shipped_reference_is_what_would_be_made_now(tmp_path: Path) -> None:
    judge = metrics.mnist_judge()
    metrics.make_reference(judge, tmp_path / "reference.safetensors")
    made, shipped = Reference.load(tmp_path / "reference.safetensors"), Reference.load()
    # The sum of scaled features is 0 but for the rounding of 60,000 of them: their mean is compared instead.
    found, expected = (vars(reference.real) | {"sum": reference.real.gaussian().mean} for reference in (shipped, made))
    for name, tensor in expected.items():
        rounding = 1e-4 * max(1.0, float(tensor.double().abs().max()))
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=rounding)
    assert shipped.class_shares.tolist() == made.class_shares.tolist()
    assert shipped.floor == pytest.approx(made.floor, rel=1e-3)


# The command


def tiny_config(num_classes: int = 10) -> ModelConfig:
    return ModelConfig(architecture="forge", z_dim=8, num_classes=num_classes, g_widths=(8, 4), d_widths=(4, 4, 4))


def tiny(num_classes: int = 10, provenance: dict[str, Any] | None = None) -> bytes:
    """A generator file of random weights."""
    config = tiny_config(num_classes)
    torch.manual_seed(0)
    return generator_bytes(build_generator(config), config, provenance or {})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: Judge) -> Run:
    """A run with a checkpoint, and a judge that is quick to ask."""
    monkeypatch.setattr(readers, "mnist_judge", lambda: judge)
    run = open_store(tmp_path / "runs").run("tiny")
    run.create(run_record(data={"train-images-idx3-ubyte": data.MNIST_SHA256["train-images-idx3-ubyte"]}))
    run.publish_checkpoint(manifest(40, epoch=2, nimg=640), {GENERATOR_FILE: tiny()})
    return run


def command(run: Run, *arguments: str) -> list[str]:
    return ["evaluate", *arguments, "--runs", run.store.root, "--count", "200"]


def test_a_run_is_scored_and_the_scores_are_kept_beside_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.read_evaluation(40) is None
    assert main(command(run, "tiny", "--seed", "7")) == 0
    printed = capsys.readouterr().out
    assert "tiny, step_00000040: 200 digits, seeds 7 to 206" in printed
    scores_kept = set(SCORES) - {"gan_train", *metrics.TWO_SAMPLE_NOISE}
    for name, score in SCORES.items():
        assert (score.title in printed) == (name in scores_kept)
    assert "read as asked: 9" in printed

    path = Path(run.path, "evaluations", "step_00000040.json")
    kept = json.loads(path.read_text())
    stored = run.read_evaluation(40)
    assert stored
    assert kept == stored.to_json()
    expected = {"step": 40, "epoch": 2, "nimg": 640, "count": 200, "seed": 7, "reader_sha256": SHA256}
    assert expected.items() <= kept.items()
    for side in ("generated", "floor"):
        assert set(kept[side]) == {*scores_kept, "label_accuracy_per_digit", "confusion"}
        assert np.sum(kept[side]["confusion"]) == 200
    assert np.sum(kept["generated"]["confusion"], axis=1).tolist() == [20] * 10
    assert kept["generated"]["fid"] > 10 * kept["floor"]["fid"]

    assert main(command(run, "tiny", "--seed", "7", "--checkpoint", "40")) == 0
    again = json.loads(path.read_text())
    assert {**again, "time": 0} == {**kept, "time": 0}
    assert main(command(run, "tiny", "--seed", "8")) == 0
    assert json.loads(path.read_text())["generated"] != kept["generated"]


class Forger(nn.Module):
    """A perfect one: it draws the real images of each class in turn."""

    def __init__(self, dataset: data.Dataset) -> None:
        super().__init__()
        self.images = [from_uint8(torch.tensor(dataset.images[dataset.labels == label])) for label in range(10)]
        self.drawn = 0

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        chosen = [self.images[label][(self.drawn + k) % len(self.images[label])] for k, label in enumerate(c.argmax(1))]
        self.drawn += len(c)
        return torch.stack(chosen)


@pytest.mark.slow
def test_a_classifier_learns_from_good_digits_only(monkeypatch: pytest.MonkeyPatch, judge: Judge) -> None:
    monkeypatch.setattr(train_digit_reader, "AVERAGE", 0.9)  # of few steps, the usual average is mostly of the first
    monkeypatch.setattr(train_digit_reader, "BATCH_SIZE", 32)  # as many steps as 8000 digits make in usual batches
    config, few = tiny_config(), copy.copy(judge)
    few.training, few.training_labels = judge.training[torch.arange(2000)], judge.training_labels[:2000]
    forger = LoadedGenerator(Forger(data.load_dataset().head(2000)), config, {})
    generated, real = evaluate.gan_train(forger, few, seed=0, epochs=1)
    assert generated > 0.9
    assert real > 0.9
    untrained = LoadedGenerator(build_generator(config).eval(), config, {})
    generated, again = evaluate.gan_train(untrained, few, seed=0, epochs=1)
    assert generated < 0.4
    assert again == real


def test_a_full_evaluation_trains_classifiers_too(
    run: Run, judge: Judge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = copy.copy(judge)
    few.training = judge.training[torch.arange(256)]
    few.training_labels = judge.training_labels[:256]
    monkeypatch.setattr(readers, "mnist_judge", lambda: few)
    monkeypatch.setattr(evaluate, "GAN_TRAIN_EPOCHS", 1)
    monkeypatch.setattr(evaluate, "TWO_SAMPLE_COUNT", 60)
    monkeypatch.setattr(metrics, "TWO_SAMPLE_EPOCHS", 1)
    assert main(command(run, "tiny", "--full")) == 0
    printed = capsys.readouterr().out
    assert "GAN-train on generated digits, epoch 1/1: loss" in printed
    assert "GAN-train on real digits, epoch 1/1: loss" in printed
    kept = run.read_evaluation(40)
    assert kept
    shares = [side["gan_train"] for side in (kept.generated, kept.floor)]
    assert all(0 <= share <= 1 for share in shares)
    (row,) = [line for line in printed.splitlines() if line.startswith("GAN-train: accuracy on real test images")]
    assert row.split()[-2:] == [f"{share:.2%}" for share in shares]
    for noise in (0.0, 0.1, 0.3):
        assert f"Two-sample test, noise {noise}, classifier 3/3: right " in printed
    for name in metrics.TWO_SAMPLE_NOISE:
        assert 0 <= kept.generated[name] <= 1
        assert 0 <= kept.floor[name] <= 1
        assert f"{SCORES[name].title} " in printed


def test_a_generator_without_classes_is_not_asked_for_any(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "unconditional.safetensors"
    file.write_bytes(tiny(num_classes=0))
    assert main(command(run, "--generator", str(file))) == 0
    printed = capsys.readouterr().out
    assert "FID" in printed
    assert "label accuracy" not in printed
    assert "as asked" not in printed
    assert run.read_evaluation(40) is None

    monkeypatch.setattr(evaluate, "TWO_SAMPLE_COUNT", 60)
    monkeypatch.setattr(metrics, "TWO_SAMPLE_EPOCHS", 1)
    assert main(command(run, "--generator", str(file), "--full")) == 0
    printed = capsys.readouterr().out
    assert SCORES["two_sample_0"].title in printed
    assert "GAN-train" not in printed


def test_scores_are_shown_where_they_cannot_be_kept(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path(run.path, "evaluations").write_text("in the way")
    assert main(command(run, "tiny")) == 0
    streams = capsys.readouterr()
    assert "FID" in streams.out
    assert streams.err.startswith("trainer evaluate: the scores could not be saved: ")
    assert streams.err.count("\n") == 1


def test_what_cannot_be_scored_is_said_in_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.store.run("empty").create(run_record())
    fashion = run.store.run("fashion")
    fashion.create(run_record())
    other_data = {"data": {"train-images-idx3-ubyte": "0" * 64}}
    fashion.publish_checkpoint(manifest(5), {GENERATOR_FILE: tiny(provenance=other_data)})
    damaged = run.store.run("damaged")
    damaged.create(run_record())
    checkpoint = damaged.publish_checkpoint(manifest(5), {GENERATOR_FILE: tiny()})
    Path(damaged.path, checkpoint.name, "generator.safetensors").write_bytes(b"nothing")
    broken, colour = (tmp_path / f"{name}.safetensors" for name in ("broken", "colour"))
    broken.write_bytes(tiny()[:-9])
    config = ModelConfig(architecture="mlp", z_dim=4, img_channels=3, g_widths=(8,), d_widths=(8,))
    colour.write_bytes(generator_bytes(build_generator(config), config, {}))
    for arguments, message in (
        (["none"], "has no run 'none'; it has: "),
        (["../up"], "cannot be the name of a run"),
        (["empty"], "run empty has no intact checkpoint; listed are: none"),
        (["tiny", "--checkpoint", "39"], "run tiny has no checkpoint of step 39; listed are: 40"),
        (["damaged"], "run damaged has no intact checkpoint; listed are: 5"),
        (["damaged", "--checkpoint", "5"], "is damaged"),
        (["fashion"], "other data than MNIST"),
        (["--generator", str(broken)], "broken.safetensors: not a safetensors file, or a damaged one"),
        (["--generator", str(tmp_path / "no")], "cannot be read"),
        (["--generator", str(colour)], "this generator draws 10 classes at 3x28x28"),
        (["tiny", "--full", "--seed", str(2**32 - 5000)], "--seed and the seeds after it must be in 0..4294967295"),
        ([], "name either a run or a --generator file"),
        (["tiny", "--generator", str(broken)], "name either a run or a --generator file"),
        (["tiny", "--seed", "-1"], "--seed and the seeds after it must be in 0..4294967295: got -1"),
        (["tiny", "--count", "5"], "count must be in 6..1000, the test images: got 5"),
        (["tiny", "--count", "1001"], "count must be in 6..1000"),
    ):
        assert main([*command(run), *arguments]) == 2, arguments
        streams = capsys.readouterr()
        assert message in streams.err, arguments
        assert streams.err.startswith("trainer evaluate: ")
        assert streams.err.count("\n") == 1
        assert not streams.out
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "tiny", "--count", "many"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_help_mentions_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "evaluate" in capsys.readouterr().out
