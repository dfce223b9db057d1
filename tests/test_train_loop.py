"""The mathematics of training is the same on any number of workers and after any interruption."""

import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from models.generator_file import read_generator
from models.networks import build_discriminator
from models.sampling import from_uint8, one_hot
from tests.sample_run import run_record
from tests.training import (
    DROPOUT,
    FORGE,
    UNSCORED,
    KilledError,
    attributes_config,
    augmented_config,
    dropout_config,
    forge_config,
    losses_of,
    mlp_config,
    rmsprop_config,
    tensors_of,
    train_here,
    train_on,
    writers_config,
)
from trainer import metrics, state
from trainer.bookkeeping import NotFiniteError
from trainer.checkpoint_writer import publish
from trainer.config import TrainConfig, Upkeep
from trainer.draws import epoch_order, load_images
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE, Manifest, Run, open_store
from trainer.train_loop import plan

EVERY_4_STEPS = dataclasses.replace(UNSCORED, checkpoint_every=4)


def test_an_epoch_is_a_pass_over_the_images_unless_the_recipe_says_otherwise() -> None:
    assert plan(forge_config(steps_per_epoch=0, batch_size=64, epochs=3), 60_000) == (937, 2811)
    assert plan(forge_config(steps_per_epoch=7, epochs=3), 60_000) == (7, 21)


FORGE_CASES: list[tuple[Any, Any, int, float]] = [
    (forge_config, "float64", 100, 1e-8),
    (attributes_config, "float64", 30, 1e-8),
    (augmented_config, "float64", 20, 1e-8),
    (forge_config, "float32", 25, 1e-3),
]
"""Kind of config, type, steps, and the tolerance of the losses of these steps."""


def train_forge_on(world_size: int, folder: Path) -> list[Run]:
    """Train each of `FORGE_CASES`, the first with scores."""
    configs = [kind(dtype=dtype, epochs=1, steps_per_epoch=steps) for kind, dtype, steps, _ in FORGE_CASES]
    upkeeps = [Upkeep() if k == 0 else UNSCORED for k in range(len(configs))]
    return train_on(world_size, *((config, folder / str(k)) for k, config in enumerate(configs)), upkeep=upkeeps)


@pytest.fixture(scope="module")
def forge_alone(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Each of `FORGE_CASES` on one worker."""
    return train_forge_on(1, tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [pytest.param(2, marks=pytest.mark.long), 3])
def test_the_number_of_workers_does_not_change_forge(forge_alone: list[Run], tmp_path: Path, world_size: int) -> None:
    together = train_forge_on(world_size, tmp_path)
    for (_, dtype, steps, tolerance), one, many in zip(FORGE_CASES, forge_alone, together, strict=True):
        expected, found = losses_of(one), losses_of(many)
        assert expected["step"] == found["step"] == list(range(1, steps + 1))
        for name in ("d_loss", "g_loss", "penalty"):
            assert found[name] == pytest.approx(expected[name], rel=tolerance), f"{name} in {dtype}"
        assert len(set(expected["d_loss"])) > steps / 2  # a constant curve would prove nothing
    # The workers also share the pictures to score. (In float32 a pixel may be rounded to another byte.)
    scores = [runs[0].read_epoch_metrics(1).scores for runs in (forge_alone, together)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_dropout_or_the_average_of_batchnorm(tmp_path: Path) -> None:
    # Half a batch of 26 is 13 images: 6 on one worker and 7 on the other.
    fields: dict[str, Any] = {"dtype": "float64", "epochs": 1, "steps_per_epoch": 20}
    configs = [dropout_config(batch_size=26, **fields), dropout_config(d_update="separate", **fields)]
    configs.append(rmsprop_config(d_update="joint", model=DROPOUT, **fields))
    configs.append(mlp_config(dtype="float64", epochs=1, steps_per_epoch=1))
    *alone, alone_batchnorm = train_on(1, *((config, tmp_path / f"alone-{k}") for k, config in enumerate(configs)))
    *together, batchnorm = train_on(2, *((config, tmp_path / f"together-{k}") for k, config in enumerate(configs)))
    for one, two in zip(alone, together, strict=True):
        expected, found = losses_of(one), losses_of(two)
        for name in ("d_loss", "g_loss"):
            assert found[name] == pytest.approx(expected[name], rel=1e-8)
        assert len(set(expected["d_loss"])) == 20
        curves = one.read_losses(1), two.read_losses(1)
        assert curves[0]["d_acc_real"] == pytest.approx(curves[1]["d_acc_real"])
    statistics = [tensors_of(run, NETWORKS_FILE)["G.norms.0.running_mean"] for run in (alone_batchnorm, batchnorm)]
    torch.testing.assert_close(*statistics)  # equal shares: means of means


@pytest.mark.usefixtures("writers")
@pytest.mark.parametrize(
    "config",
    [
        forge_config(),
        attributes_config(),
        writers_config(),
        augmented_config(),
        mlp_config(),
        pytest.param(dropout_config(), marks=pytest.mark.slow),
        pytest.param(rmsprop_config(), marks=pytest.mark.slow),
        pytest.param(rmsprop_config(model=DROPOUT), marks=pytest.mark.slow),
    ],
    ids=["forge", "attributes", "writers", "augmented", "mlp", "dropout", "batchnorm-rmsprop", "dropout-rmsprop"],
)
def test_a_killed_and_resumed_run_ends_as_if_it_had_not_been_killed(tmp_path: Path, config: TrainConfig) -> None:
    (whole,) = train_on(1, (config, tmp_path / "whole"), upkeep=EVERY_4_STEPS)
    interrupted = open_store(tmp_path / "interrupted").run("run")
    with pytest.raises(KilledError):
        train_here(config, interrupted, die_at=4, upkeep=EVERY_4_STEPS)  # within the first epoch
    with pytest.raises(KilledError):
        train_here(config, interrupted, die_at=16, upkeep=EVERY_4_STEPS)
    train_here(config, interrupted, upkeep=EVERY_4_STEPS)
    assert losses_of(interrupted) == losses_of(whole)
    # The speed of the steps before the interruption is kept.
    assert all(speed for epoch in (1, 2) for speed in interrupted.read_losses(epoch)["images_per_second"])
    assert interrupted.read_samples(2) == whole.read_samples(2)
    for file in (GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE):
        expected, found = tensors_of(whole, file), tensors_of(interrupted, file)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected if name != "speed"), file


def test_a_class_loss_moves_only_the_network_that_it_is_of(tmp_path: Path) -> None:
    def after_a_step(d_class_weight: float, g_class_weight: float) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        weights = {"d_class_weight": d_class_weight, "g_class_weight": g_class_weight}
        config = forge_config(epochs=1, steps_per_epoch=1, **weights)
        (run,) = train_on(1, (config, tmp_path / f"{d_class_weight}-{g_class_weight}"))
        return tensors_of(run, NETWORKS_FILE), run.read_losses(1)

    def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], network: str) -> bool:
        return all(torch.equal(one[name], other[name]) for name in one if name.startswith(f"{network}."))

    (tensors, curve), (of_more_g, _), (of_more_d, d_curve) = (after_a_step(*pair) for pair in ((1, 0), (1, 3), (3, 0)))
    assert equal(tensors, of_more_g, "D")
    assert not equal(tensors, of_more_g, "G")
    assert not equal(tensors, of_more_d, "D")
    # The class losses have their own columns, so the first d_loss is the same with and without them.
    assert d_curve["d_loss"] == curve["d_loss"]
    assert d_curve["d_class_loss"][0] == pytest.approx(3 * curve["d_class_loss"][0])
    assert (curve["g_class_loss"], d_curve["g_class_loss"]) == ([0], [0])


@pytest.mark.slow
def test_d_learns_to_read_from_real_images_and_g_to_be_read(tmp_path: Path) -> None:
    config = forge_config(epochs=1, steps_per_epoch=60, g_lr=5e-3, d_lr=5e-3)
    (run,) = train_on(1, (config, tmp_path))
    D = build_discriminator(config.model)
    D.load_state_dict({n[2:]: value for n, value in tensors_of(run, NETWORKS_FILE).items() if n.startswith("D.")})
    dataset = load_images(config)
    order = epoch_order(dataset.labels, 4, 0, 0)
    images, labels = from_uint8(torch.tensor(dataset.images[order])), torch.from_numpy(dataset.labels[order])
    _, class_logits = D.read(images, one_hot(labels.tolist(), 10))
    assert (class_logits.argmax(1) == labels).float().mean() > 0.3  # a random guess gives 0.1


def test_accuracy_is_measured_without_dropout_where_the_recipe_says_so(tmp_path: Path) -> None:
    # Compare the first step, where all cases have the same weights and images.
    def first_accuracy(mode: str, share: float) -> tuple[float, float]:
        model = dataclasses.replace(DROPOUT, dropout=share)
        config = dropout_config(epochs=1, steps_per_epoch=1, d_acc_mode=mode, model=model)
        (run,) = train_on(1, (config, tmp_path / f"{mode}-{share}"))
        curve = run.read_losses(1)
        return curve["d_acc_real"][0], curve["d_acc_fake"][0]

    assert first_accuracy("eval", 0.9) == first_accuracy("eval", 0.0)
    assert first_accuracy("train", 0.9) != first_accuracy("train", 0.0)


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path) -> None:
    config = forge_config()
    run = open_store(tmp_path / "runs").run("run")
    with pytest.raises(KilledError):
        train_here(config, run, die_at=8, upkeep=EVERY_4_STEPS)
    path = tmp_path / "runs" / "run" / "step_00000008" / "networks.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    train_here(config, run)
    (whole,) = train_on(1, (config, tmp_path / "whole"))
    assert losses_of(run) == losses_of(whole)


def test_a_request_to_stop_ends_training_after_a_checkpoint(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("run")
    run.request_stop("a launch")
    config = forge_config(epochs=1000)
    train_here(config, run)
    progress = run.read_progress()
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert progress.phase == "stopped"
    assert 0 < checkpoint.step == progress.step < progress.total_steps


def test_a_request_to_stop_another_launch_is_not_heard(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("run")
    run.request_stop("an earlier launch")
    train_here(mlp_config(), run)
    assert run.read_progress().phase == "finished"


@pytest.fixture
def cpu_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor clock that advances by one second each time it is read, which is once per step."""
    seconds = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: next(seconds))


@pytest.mark.usefixtures("cpu_clock")
def test_a_run_ends_after_a_checkpoint_when_its_cpu_minutes_are_used(tmp_path: Path) -> None:
    config, run = forge_config(), open_store(tmp_path / "runs").run("run")
    found: list[Manifest] = []
    for cpu_minutes, steps in ((7 / 60, 7), (19 / 60, 19), (100 / 60, 30)):
        train_here(config, run, cpu_minutes=cpu_minutes)
        checkpoint = run.latest_checkpoint()
        assert checkpoint
        assert (checkpoint.step, checkpoint.manifest.cpu_seconds) == (steps, steps)  # summed over all launches
        progress = run.read_progress()
        assert progress.phase == ("finished" if steps == 30 else "stopped")
        assert progress.cpu_seconds == steps
        found.append(checkpoint.manifest)
    assert 0 < found[0].seconds < found[1].seconds < found[2].seconds
    assert losses_of(run)["step"] == list(range(1, 31))


def test_a_run_whose_checkpoints_count_no_seconds_can_be_resumed(tmp_path: Path) -> None:
    config, run = mlp_config(), open_store(tmp_path).run("run")
    with pytest.raises(KilledError):
        train_here(config, run, die_at=4, upkeep=EVERY_4_STEPS)
    s = state.new_state(config, 10, torch.device("cpu"))
    checkpoint = run.checkpoint(4)
    assert checkpoint
    files = {name: checkpoint.read(name) for name in (GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE)}
    counters = json.dumps({"step": 4, "epoch_seconds": 0.5})
    files[RESUME_FILE] = safetensors.torch.save(safetensors.torch.load(files[RESUME_FILE]), {"counters": counters})
    state.load_checkpoint_files(s, files)
    assert (s.step, s.epoch_seconds, s.seconds, s.cpu_seconds) == (4, 0.5, 0, 0)


@pytest.mark.parametrize("config", [forge_config(), dropout_config()], ids=["with classes", "without"])
def test_epochs_are_scored_as_often_as_asked_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: TrainConfig
) -> None:
    monkeypatch.setattr(metrics, "EPOCH_COUNT", 100)  # for speed
    config = dataclasses.replace(config, epochs=3, steps_per_epoch=2)
    (run,) = train_on(1, (config, tmp_path), upkeep=Upkeep(metrics_every=2, checkpoint_every=1))
    floor = metrics.Reference.load().floor
    by_pixels = {"black", "haze", "lone_pixels", "centring", "nearest_1st_percentile"}
    by_reader = {"fid", "precision", "recall", "density", "coverage", "diversity", "label_accuracy"}
    assert by_reader | by_pixels == floor.keys()
    for epoch in (0, 1, 2, 3):
        summary = run.read_epoch_metrics(epoch)
        if epoch < 2:
            assert (summary.scores, summary.floor) == (None, None)
            continue
        assert summary.scores
        assert summary.floor == floor
        assert summary.scores.keys() == floor.keys() - (set() if config.model.num_classes else {"label_accuracy"})
        assert summary.scores["fid"] > 10 * floor["fid"]
        checkpoint = run.checkpoint(2 * epoch)
        assert checkpoint
        assert checkpoint.manifest.fid == summary.scores["fid"]
    scored = [checkpoint.step for checkpoint in run.checkpoints() if checkpoint.manifest.fid is not None]
    assert scored == [4, 6]


def test_the_checkpoint_of_the_lowest_fid_is_kept_beside_the_newest(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("run")
    run.create(run_record())
    kept = []
    for step, fid in enumerate((None, 30.0, 9.0, 20.0, None, 8.0, 10.0, 11.0), 1):
        manifest = Manifest(step=step, epoch=0, nimg=step, world_size=1, fid=fid)
        publish(run, manifest, {GENERATOR_FILE: b"weights"}, Upkeep(keep_checkpoints=2))
        kept.append([checkpoint.step for checkpoint in run.checkpoints()])
    assert kept == [[1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [5, 6], [6, 7], [6, 7, 8]]


@pytest.mark.parametrize("config", [forge_config(), mlp_config()], ids=["forge", "mlp"])
def test_a_run_leaves_epochs_and_a_generator(tmp_path: Path, config: TrainConfig) -> None:
    (run,) = train_on(1, (config, tmp_path / "runs"))
    assert run.epochs() == [0, 1, 2]
    for epoch in (1, 2):
        curve = run.read_losses(epoch)
        assert {len(values) for values in curve.values()} == {config.steps_per_epoch}
        assert all(0 <= share <= 1 for share in curve["d_acc_real"] + curve["d_acc_fake"])
        summary = run.read_epoch_metrics(epoch)
        assert summary.step == epoch * config.steps_per_epoch
        assert summary.d_loss == pytest.approx(sum(curve["d_loss"]) / len(curve["d_loss"]), rel=1e-5)
    assert run.read_samples(0) != run.read_samples(2)
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    loaded = read_generator(checkpoint.read("generator.safetensors"), "generator")
    assert loaded.config == config.model
    assert loaded.provenance["step"] == config.steps_per_epoch * 2


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_name(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"(d_loss|g_loss|penalty) is not finite at step \d+"):
        train_on(1, (forge_config(g_lr=1e30, d_lr=1e30), tmp_path / "runs"))
    progress = json.loads((tmp_path / "runs" / "run" / "progress.json").read_bytes())
    assert "not finite" in progress["message"]


def test_images_that_do_not_fit_the_networks_are_refused(tmp_path: Path) -> None:
    wide = dataclasses.replace(FORGE, img_size=32)
    with pytest.raises(ValueError, match=r"--model\.img-size"):
        train_on(1, (forge_config(model=wide), tmp_path / "runs"))


def test_the_generator_of_every_epoch_stays(tmp_path: Path) -> None:
    (run,) = train_on(1, (forge_config(epochs=3), tmp_path / "runs"))
    generators = run.generators()
    assert [(each.epoch, each.step, each.nimg) for each in generators] == [
        (epoch, 15 * epoch, 15 * epoch * 24) for epoch in (0, 1, 2, 3)
    ]
    assert len({each.sha256 for each in generators}) == 4
    newest = run.latest_checkpoint()
    assert newest
    assert generators[-1].paths == (f"{newest.name}/{GENERATOR_FILE}", f"epochs/0003/{GENERATOR_FILE}")
    for each in generators:
        content = run.read_epoch_generator(each.epoch)
        assert content
        provenance = read_generator(content, "epoch").provenance
        assert provenance.items() >= {"run": "run", "recipe": "forge", "step": each.step, "nimg": each.nimg}.items()
        assert (provenance["epoch"], provenance["world_size"]) == (each.epoch, 1)
        assert provenance["data"] == load_images(forge_config()).sha256


def test_the_generators_of_removed_checkpoints_stay_unless_they_are_bounded(tmp_path: Path) -> None:
    for keep, archived in ((0, 3), (2, 0)):
        run = open_store(tmp_path / str(keep)).run("run")
        run.create(run_record())
        for step in range(1, 5):
            manifest = Manifest(step=step, epoch=0, nimg=step, world_size=1)
            upkeep = Upkeep(keep_checkpoints=1, keep_generators=keep)
            publish(run, manifest, {GENERATOR_FILE: f"weights {step}".encode()}, upkeep)
        assert len(run.archived_generators()) == archived
