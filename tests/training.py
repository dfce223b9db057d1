"""Short trainings for tests: tiny configs, and runs in this process or in several processes connected by gloo."""

import math
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from models.config import ModelConfig
from tests.sample_run import run_record
from trainer import data
from trainer.config import TrainConfig, Upkeep
from trainer.draws import load_images
from trainer.recipes import RECIPES
from trainer.recorder import Recorder
from trainer.run_store import Manifest, Run, open_store
from trainer.train_loop import plan, train

FORGE = ModelConfig(architecture="forge", z_dim=8, g_widths=(8, 4), d_widths=(4, 8, 8), std_group=4, classifier=True)
MLP = ModelConfig(architecture="mlp", z_dim=8, g_widths=(16, 32), d_widths=(32, 16))
CONV = ModelConfig(architecture="conv_cgan", z_dim=8, g_widths=(4, 8, 4, 4), d_widths=(4, 4, 8, 8))
DROPOUT = ModelConfig(
    architecture="dropout_gan", z_dim=8, num_classes=0, g_widths=(8, 8, 4), d_widths=(8, 8), dropout=0.4
)

WRITERS = RECIPES["writers"].config.model.writers


def forge_config(**fields: Any) -> TrainConfig:
    defaults: dict[str, Any] = {
        "recipe": "forge",
        "epochs": 2,
        "steps_per_epoch": 15,
        "batch_size": 24,
        "limit_images": 300,
        "loss": "relativistic",
        "gamma": 1.0,
        "d_class_weight": 1.0,
        "g_class_weight": 0.5,
        "g_lr": 1e-3,
        "d_lr": 1e-3,
        "beta1": 0.0,
        "beta2": 0.99,
        "lr_decay": "cosine",
        "ema": 500,
        "model": FORGE,
    }
    return TrainConfig(**(defaults | fields))


def attributes_config(**fields: Any) -> TrainConfig:
    """Return a forge config with attributes."""
    model = replace(FORGE, attributes=("slant", "thickness", "width"))
    return forge_config(**({"model": model} | fields))


def writers_config(**fields: Any) -> TrainConfig:
    """Return a forge config with the writers of `made_up_writers`."""
    return forge_config(**({"model": replace(FORGE, writers=WRITERS)} | fields))


@contextmanager
def made_up_writers(count: int = WRITERS) -> Iterator[Path]:
    """Let `trainer.data` find writers 100, 103, ...; image k is by the one at 5k modulo `count`. Yield the folder."""
    with tempfile.TemporaryDirectory() as folder, patch.object(data, "WRITERS", Path(folder)):
        indices = np.arange(60_000) * 5 % count
        header = bytes([0, 0, 11, 1]) + len(indices).to_bytes(4, "big")
        Path(folder, data.WRITER_INDICES).write_bytes(header + indices.astype(">i2").tobytes())
        Path(folder, data.WRITER_NUMBERS).write_text("".join(f"{100 + 3 * index}\n" for index in range(count)))
        yield Path(folder)


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
    """Return a config with all features of the classics without BatchNorm."""
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
    """Return a config with RMSprop, BatchNorm and random classes."""
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


TINY: dict[str, dict[str, Any]] = {
    "mlp": {"g_widths": (16, 32), "d_widths": (32, 16)},
    "conv_cgan": {"g_widths": (8, 8, 8, 4), "d_widths": (4, 8, 8, 8)},
    "dcgan": {"g_widths": (16, 8), "d_widths": (8, 16)},
    "dropout_gan": {"g_widths": (16, 8, 8), "d_widths": (8, 16)},
    "forge": {"g_widths": (8, 4), "d_widths": (4, 8, 8)},
}
"""Family -> fields for networks so narrow that they train within seconds."""


def tiny(recipe: str, **fields: Any) -> TrainConfig:
    """Return the config of a recipe with narrow networks, for few steps on few images."""
    config = RECIPES[recipe].config
    model = replace(config.model, z_dim=8, **TINY[config.model.architecture])
    size: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16, "limit_images": 300, "lr_warmup": 0}
    return replace(config, model=model, **(size | fields))


class KilledError(Exception):
    """Simulates a process that dies right after a checkpoint."""


UNSCORED = Upkeep(metrics_every=0)
"""Turns scoring off: it takes longer than the short trainings of tests."""


def train_here(
    config: TrainConfig, run: Run, die_at: int = -1, cpu_minutes: float = math.inf, upkeep: Upkeep = UNSCORED
) -> None:
    """Train a config in this process and its process group, without Ray; return the run."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    if rank == 0 and not run.exists():
        _, total_steps = plan(config, len(load_images(config).images))
        run.create(run_record(recipe=config.recipe, config=config.to_dict(), total_steps=total_steps))

    def report(manifest: Manifest, files: dict[str, bytes] | None) -> None:
        if files:
            run.publish_checkpoint(manifest, files)
        if dist.is_initialized():
            dist.barrier()
        if manifest.step == die_at:
            raise KilledError

    torch.set_num_threads(1)
    if rank == 0:
        with Recorder(run, "a launch") as recorder:
            train(config, upkeep, run, report, recorder, torch.device("cpu"), cpu_minutes)
    else:
        train(config, upkeep, run, report, None, torch.device("cpu"), cpu_minutes)


def spawn(function: Callable[..., None], count: int, *arguments: Any, join: bool = True) -> Any:
    """Run function(rank, *arguments) in `count` processes; with `join`, wait, and raise the error of one that fails.

    They are forked from a process that has imported this module and done nothing else: its import takes seconds.
    """
    multiprocessing.set_forkserver_preload([__name__])
    return mp.start_processes(function, arguments, count, join, start_method="forkserver")


def _worker(rank: int, world_size: int, rendezvous: Path, jobs: list[tuple[TrainConfig, Path, Upkeep]]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    try:
        for config, folder, upkeep in jobs:
            train_here(config, open_store(folder).run("run"), upkeep=upkeep)
    finally:
        dist.destroy_process_group()


def train_on(
    world_size: int, *jobs: tuple[TrainConfig, Path], upkeep: Upkeep | Sequence[Upkeep] = UNSCORED
) -> list[Run]:
    """Train each config into its folder, on `world_size` processes connected by gloo; return the runs.

    `upkeep` is that of all jobs, or one for each.
    """
    upkeeps = [upkeep] * len(jobs) if isinstance(upkeep, Upkeep) else upkeep
    whole = [(*job, each) for job, each in zip(jobs, upkeeps, strict=True)]
    if world_size == 1:
        for config, folder, each in whole:
            train_here(config, open_store(folder).run("run"), upkeep=each)
    else:
        with tempfile.TemporaryDirectory() as temporary:  # a file of an earlier group may name ports that are closed
            spawn(_worker, world_size, world_size, Path(temporary, "rendezvous"), whole)
    return [open_store(folder).run("run") for _, folder in jobs]


def losses_of(run: Run) -> dict[str, list[float]]:
    """Return the columns of a run's curve over all epochs."""
    curves = [run.read_losses(epoch) for epoch in run.epochs() if epoch]
    return {
        name: [value for curve in curves for value in curve[name]] for name in ("step", "d_loss", "g_loss", "penalty")
    }


def tensors_of(run: Run, file: str) -> dict[str, torch.Tensor]:
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    return safetensors.torch.load(checkpoint.read(file))
