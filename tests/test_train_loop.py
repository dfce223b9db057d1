"""The mathematics of training: the same on any number of workers, and after any interruption."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from models.config import ModelConfig
from models.generator_file import read_generator
from trainer.config import TrainConfig
from trainer.recorder import Recorder
from trainer.run_store import Run, open_store
from trainer.state import GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE
from trainer.train_loop import NotFiniteError, load_images, plan, train, worker_slice

FORGE = ModelConfig(architecture="forge", z_dim=8, g_widths=(8, 4), d_widths=(4, 8, 8), std_group=4)
MLP = ModelConfig(architecture="mlp", z_dim=8, g_widths=(16, 32), d_widths=(32, 16))
CONV = ModelConfig(architecture="conv_cgan", z_dim=8, g_widths=(4, 8, 4, 4), d_widths=(4, 4, 8, 8))
DROPOUT = ModelConfig(
    architecture="dropout_gan", z_dim=8, num_classes=0, g_widths=(8, 8, 4), d_widths=(8, 8), dropout=0.4
)


def forge_config(**fields: Any) -> TrainConfig:
    defaults: dict[str, Any] = {
        "recipe": "forge",
        "epochs": 2,
        "steps_per_epoch": 15,
        "batch_size": 24,
        "limit_images": 300,
        "loss": "relativistic",
        "gamma": 1.0,
        "g_lr": 1e-3,
        "d_lr": 1e-3,
        "beta1": 0.0,
        "beta2": 0.99,
        "lr_decay": "cosine",
        "ema": 500,
        "model": FORGE,
    }
    return TrainConfig(**(defaults | fields))


def mlp_config(**fields: Any) -> TrainConfig:
    defaults: dict[str, Any] = {
        "recipe": "mlp-cgan",
        "epochs": 2,
        "steps_per_epoch": 10,
        "batch_size": 24,
        "limit_images": 300,
        "loss": "bce",
        "d_update": "separate",
        "d_fakes_mode": "eval",
        "g_labels": "uniform",
        "g_lr": 1e-3,
        "d_lr": 1e-3,
        "beta1": 0.5,
        "beta2": 0.999,
        "model": MLP,
    }
    return TrainConfig(**(defaults | fields))


def dropout_config(**fields: Any) -> TrainConfig:
    """Everything at once that the classics without BatchNorm do."""
    defaults: dict[str, Any] = {
        "recipe": "gan",
        "sampling": "random",
        "d_batch": "halves",
        "d_update": "concatenated",
        "d_acc_mode": "eval",
        "g_decay": 1e-3,
        "d_decay": 2e-3,
        "model": DROPOUT,
    }
    return mlp_config(**(defaults | fields))


def rmsprop_config(**fields: Any) -> TrainConfig:
    """RMSprop on networks with BatchNorm, and random classes."""
    defaults: dict[str, Any] = {
        "recipe": "conv-cgan",
        "sampling": "random",
        "d_update": "concatenated",
        "d_fakes_labels": "uniform",
        "optimizer": "rmsprop",
        "beta1": 0.0,
        "beta2": 0.9,
        "model": CONV,
    }
    return mlp_config(**(defaults | fields))


class KilledError(Exception):
    """Stands for a process that dies right after a checkpoint."""


def train_here(config: TrainConfig, run: Run, die_at: int = -1) -> None:
    """Train in this process and its process group, without Ray."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    if rank == 0 and not run.exists():
        _, total_steps = plan(config, len(load_images(config).images))
        run.create({"recipe": config.recipe, "config": config.to_dict(), "total_steps": total_steps})

    def report(step: int, files: dict[str, bytes] | None, fields: dict[str, Any]) -> None:
        if files:
            run.publish_checkpoint(step, files, fields)
        if dist.is_initialized():
            dist.barrier()
        if step == die_at:
            raise KilledError

    torch.set_num_threads(1)
    if rank == 0:
        with Recorder(run, "a launch") as recorder:
            train(config, run, report, recorder, torch.device("cpu"))
    else:
        train(config, run, report, None, torch.device("cpu"))


def _worker(rank: int, world_size: int, jobs: list[tuple[TrainConfig, Path]]) -> None:
    rendezvous = f"file://{jobs[0][1].parent}/rendezvous-{world_size}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size)
    try:
        for config, folder in jobs:
            train_here(config, open_store(folder).run("run"))
    finally:
        dist.destroy_process_group()


def train_on(world_size: int, *jobs: tuple[TrainConfig, Path]) -> list[Run]:
    """Train each config into its folder on several processes that talk over gloo."""
    if world_size == 1:
        for config, folder in jobs:
            train_here(config, open_store(folder).run("run"))
    else:
        mp.spawn(_worker, (world_size, list(jobs)), nprocs=world_size)
    return [open_store(folder).run("run") for _, folder in jobs]


def losses_of(run: Run) -> dict[str, list[float]]:
    """A run's whole curve."""
    curves = [run.read_losses(epoch) for epoch in run.epochs() if epoch]
    return {
        name: [value for curve in curves for value in curve[name]] for name in ("step", "d_loss", "g_loss", "penalty")
    }


def tensors_of(run: Run, file: str) -> dict[str, torch.Tensor]:
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    return safetensors.torch.load(checkpoint.read(file))


def test_an_epoch_is_a_pass_over_the_images_unless_the_recipe_says_otherwise() -> None:
    assert plan(forge_config(steps_per_epoch=0, batch_size=64, epochs=3), 60_000) == (937, 2811)
    assert plan(forge_config(steps_per_epoch=7, epochs=3), 60_000) == (7, 21)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 6])
def test_workers_share_a_batch_in_whole_groups(world_size: int) -> None:
    slices = [worker_slice(24, 4, rank, world_size) for rank in range(world_size)]
    assert [slices[0].start, slices[-1].stop] == [0, 24]
    assert all(a.stop == b.start for a, b in pairwise(slices))
    assert all(part.stop > part.start and part.start % 4 == 0 for part in slices)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_the_number_of_workers_does_not_change_forge(tmp_path: Path, world_size: int) -> None:
    cases: list[tuple[Any, int, float]] = [("float64", 100, 1e-8), ("float32", 25, 1e-3)]
    configs = [forge_config(dtype=dtype, epochs=1, steps_per_epoch=steps) for dtype, steps, _ in cases]
    alone = train_on(1, *((config, tmp_path / f"alone-{config.dtype}") for config in configs))
    together = train_on(world_size, *((config, tmp_path / f"together-{config.dtype}") for config in configs))
    for (dtype, steps, tolerance), one, many in zip(cases, alone, together, strict=True):
        expected, found = losses_of(one), losses_of(many)
        assert expected["step"] == found["step"] == list(range(1, steps + 1))
        for name in ("d_loss", "g_loss", "penalty"):
            assert found[name] == pytest.approx(expected[name], rel=tolerance), f"{name} in {dtype}"
        assert len(set(expected["d_loss"])) > steps / 2  # a curve that stands still would prove nothing


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_dropout(tmp_path: Path) -> None:
    # Half a batch of 26 are 13 images: 6 on one worker and 7 on the other.
    fields: dict[str, Any] = {"dtype": "float64", "epochs": 1, "steps_per_epoch": 20}
    configs = [dropout_config(batch_size=26, **fields), dropout_config(d_update="separate", **fields)]
    configs.append(rmsprop_config(d_update="joint", model=DROPOUT, **fields))
    alone = train_on(1, *((config, tmp_path / f"alone-{k}") for k, config in enumerate(configs)))
    together = train_on(2, *((config, tmp_path / f"together-{k}") for k, config in enumerate(configs)))
    for one, two in zip(alone, together, strict=True):
        expected, found = losses_of(one), losses_of(two)
        for name in ("d_loss", "g_loss"):
            assert found[name] == pytest.approx(expected[name], rel=1e-8)
        assert len(set(expected["d_loss"])) == 20
        curves = one.read_losses(1), two.read_losses(1)
        assert curves[0]["d_acc_real"] == pytest.approx(curves[1]["d_acc_real"])


@pytest.mark.parametrize(
    "config",
    [
        forge_config(checkpoint_every=4),
        mlp_config(checkpoint_every=4),
        pytest.param(dropout_config(checkpoint_every=4), marks=pytest.mark.slow),
        pytest.param(rmsprop_config(checkpoint_every=4), marks=pytest.mark.slow),
        pytest.param(rmsprop_config(checkpoint_every=4, model=DROPOUT), marks=pytest.mark.slow),
    ],
    ids=["forge", "mlp", "dropout", "batchnorm-rmsprop", "dropout-rmsprop"],
)
def test_a_killed_and_resumed_run_ends_as_if_it_had_not_been_killed(tmp_path: Path, config: TrainConfig) -> None:
    (whole,) = train_on(1, (config, tmp_path / "whole"))
    interrupted = open_store(tmp_path / "interrupted").run("run")
    with pytest.raises(KilledError):
        train_here(config, interrupted, die_at=4)  # within the first epoch
    with pytest.raises(KilledError):
        train_here(config, interrupted, die_at=16)
    train_here(config, interrupted)
    assert losses_of(interrupted) == losses_of(whole)
    assert interrupted.read_samples(2) == whole.read_samples(2)
    for file in (GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE):
        expected, found = tensors_of(whole, file), tensors_of(interrupted, file)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected), file


def test_accuracy_is_measured_without_dropout_where_the_recipe_says_so(tmp_path: Path) -> None:
    # Of the first step, so that all cases have the same weights and images.
    def first_accuracy(mode: str, share: float) -> tuple[float, float]:
        model = dataclasses.replace(DROPOUT, dropout=share)
        config = dropout_config(epochs=1, steps_per_epoch=1, d_acc_mode=mode, model=model)
        (run,) = train_on(1, (config, tmp_path / f"{mode}-{share}"))
        curve = run.read_losses(1)
        return curve["d_acc_real"][0], curve["d_acc_fake"][0]

    assert first_accuracy("eval", 0.9) == first_accuracy("eval", 0.0)
    assert first_accuracy("train", 0.9) != first_accuracy("train", 0.0)


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path) -> None:
    config = forge_config(checkpoint_every=4)
    run = open_store(tmp_path / "runs").run("run")
    with pytest.raises(KilledError):
        train_here(config, run, die_at=8)
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
    assert progress
    assert checkpoint
    assert progress["phase"] == "stopped"
    assert 0 < checkpoint.step == progress["step"] < progress["total_steps"]


def test_a_request_to_stop_another_launch_is_not_heard(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("run")
    run.request_stop("an earlier launch")
    train_here(mlp_config(), run)
    assert (run.read_progress() or {})["phase"] == "finished"


@pytest.mark.parametrize("config", [forge_config(), mlp_config()], ids=["forge", "mlp"])
def test_a_run_leaves_epochs_and_a_generator(tmp_path: Path, config: TrainConfig) -> None:
    (run,) = train_on(1, (config, tmp_path / "runs"))
    assert run.epochs() == [0, 1, 2]
    for epoch in (1, 2):
        curve = run.read_losses(epoch)
        assert {len(values) for values in curve.values()} == {config.steps_per_epoch}
        assert all(0 <= share <= 1 for share in curve["d_acc_real"] + curve["d_acc_fake"])
        summary = run.read_epoch_metrics(epoch)
        assert summary["step"] == epoch * config.steps_per_epoch
        assert summary["d_loss"] == pytest.approx(sum(curve["d_loss"]) / len(curve["d_loss"]), rel=1e-5)
    assert run.read_samples(0) != run.read_samples(2)
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    loaded = read_generator(checkpoint.read("generator.safetensors"), "generator")
    assert loaded.config == config.model
    assert loaded.provenance["step"] == config.steps_per_epoch * 2


@pytest.mark.slow
def test_batchnorm_statistics_are_averaged_over_workers(tmp_path: Path) -> None:
    config = mlp_config(epochs=1, steps_per_epoch=1, dtype="float64")
    statistics = []
    for world_size in (1, 2):
        (run,) = train_on(world_size, (config, tmp_path / str(world_size)))
        statistics.append(tensors_of(run, NETWORKS_FILE)["G.norms.0.running_mean"])
    torch.testing.assert_close(statistics[0], statistics[1])  # means over a batch: the mean of its halves' means


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_name(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"(d_loss|g_loss|penalty) is not finite at step \d+"):
        train_on(1, (forge_config(g_lr=1e30, d_lr=1e30), tmp_path / "runs"))
    progress = json.loads((tmp_path / "runs" / "run" / "progress.json").read_bytes())
    assert progress["phase"] == "failed"
    assert "not finite" in progress["message"]


def test_images_that_do_not_fit_the_networks_are_refused(tmp_path: Path) -> None:
    wide = ModelConfig(architecture="forge", z_dim=8, img_size=32, g_widths=(8, 4), d_widths=(4, 8, 8))
    with pytest.raises(ValueError, match=r"--model\.img-size"):
        train_on(1, (forge_config(model=wide), tmp_path / "runs"))
