"""Write small runs with untrained generators through the run store, as the trainer does."""

import dataclasses
import math
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.attributes import AttributeTable
from models.config import ModelConfig
from models.generator_file import generator_bytes
from models.networks import build_generator
from models.sampling import draw, image_grid, latents, one_hot, to_png
from trainer.run_store import (
    GENERATOR_FILE,
    Curve,
    EpochSummary,
    Evaluation,
    Manifest,
    Phase,
    Progress,
    Run,
    RunRecord,
    Scores,
    open_store,
)

STEPS_PER_EPOCH = 50
BATCH_SIZE = 64
FLOOR: dict[str, float] = {
    "fid": 0.42,
    "precision": 0.95,
    "recall": 0.94,
    "density": 1.0,
    "coverage": 0.97,
    "diversity": 0.99,
    "nearest_1st_percentile": 1.28,
    "black": 0.81,
    "haze": 0.004,
    "lone_pixels": 0.006,
    "centring": 0.29,
}
FLOOR |= {"label_accuracy": 0.998}
"""Scores of real digits."""


def run_record(**fields: Any) -> RunRecord:
    """Return the record of a run of three epochs, with these fields changed."""
    values: dict[str, Any] = {"recipe": "quick", "config": {}, "data": {}, "steps_per_epoch": STEPS_PER_EPOCH}
    return RunRecord(**{**values, "total_steps": 3 * STEPS_PER_EPOCH, **fields})


def manifest(step: int, **fields: Any) -> Manifest:
    """Return the manifest of a checkpoint, with these fields changed."""
    values = {"step": step, "epoch": step // STEPS_PER_EPOCH, "nimg": step * BATCH_SIZE, "world_size": 2}
    return Manifest(**{**values, **fields})


def evaluation(step: int, **fields: Any) -> Evaluation:
    """Return an evaluation of a checkpoint with the scores of real digits, with these fields changed."""
    values: dict[str, Any] = {"step": step, "epoch": step // STEPS_PER_EPOCH, "nimg": step * BATCH_SIZE}
    values |= {"count": 10_000, "seed": 0, "reader_sha256": "0" * 64, "time": time.time()}
    return Evaluation(**{**values, "generated": FLOOR, "floor": FLOOR, **fields})


def model_config(num_classes: int = 10) -> ModelConfig:
    """Return the config of the smallest networks that draw at 28x28."""
    return ModelConfig(architecture="forge", z_dim=16, num_classes=num_classes, g_widths=(16, 8), d_widths=(8, 8, 8))


def write_run(
    runs: Path,
    name: str = "quick-1",
    *,
    epochs: int = 3,
    total_epochs: int = 3,
    phase: Phase = "finished",
    num_classes: int = 10,
    checkpoints: bool = True,
    scored: Collection[int] = (),
    keeps_generators: bool = False,
    seed: int = 0,
    **progress: Any,
) -> Run:
    """Write a run with `epochs` complete epochs and a checkpoint at the end of each into the store `runs`.

    The epochs in `scored` have scores. With `keeps_generators` every epoch has its generator, as in runs of today.
    Runs of another `seed` have other generators. `progress` changes fields of progress.json.
    """
    config = model_config(num_classes)
    run = open_store(runs).run(name)
    total_steps = total_epochs * STEPS_PER_EPOCH
    fields = {"epochs": total_epochs, "batch_size": BATCH_SIZE, "model": dataclasses.asdict(config)}
    run.create(run_record(config=fields, total_steps=total_steps))
    for epoch in range(epochs + 1):
        write_epoch(run, epoch, config, epoch in scored, keeps_generators, seed)
        if epoch and checkpoints:
            write_checkpoint(run, epoch, config, seed)
    step = epochs * STEPS_PER_EPOCH
    state = Progress(
        phase=phase,
        step=step,
        total_steps=total_steps,
        epoch=min(epochs + 1, total_epochs),
        epochs=total_epochs,
        nimg=step * BATCH_SIZE,
        images_per_second=1500.0,
        eta=75.0,
        world_size=2,
        heartbeat=time.time(),
    )
    run.write_progress(dataclasses.replace(state, **progress))
    return run


def generator(epoch: int, config: ModelConfig, seed: int = 0) -> torch.nn.Module:
    """Return an untrained generator whose weights depend only on the epoch and the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(1000 * seed + epoch)
        network = build_generator(config)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.5 / math.sqrt(parameter[0].numel()))
    return network.eval().requires_grad_(False)


def generator_file(run: Run, epoch: int, config: ModelConfig, seed: int = 0, step: int | None = None) -> bytes:
    """Return the content of the generator file of an epoch; `step` is its last step unless it is given."""
    step = epoch * STEPS_PER_EPOCH if step is None else step
    provenance = {"run": run.name, "recipe": "quick", "step": step, "epoch": epoch, "nimg": step * BATCH_SIZE}
    writers = range(100, 100 + 3 * config.writers, 3)
    table = attribute_table(config)
    return generator_bytes(generator(epoch, config, seed), config, provenance, table=table, writers=writers)


def attribute_table(config: ModelConfig) -> AttributeTable | None:
    """Return a table of made-up values for a config with attributes."""
    if not config.attributes:
        return None
    random, labels = np.random.RandomState(0), np.arange(2000) % config.num_classes
    middle = {"slant": (6, 12), "thickness": (3, 0.4), "width": (14, 2)}
    columns = [random.normal(*middle[name], len(labels)) + 0.02 * labels for name in config.attributes]
    return AttributeTable.fit(config.attributes, np.stack(columns, 1), labels, config.num_classes)


def write_epoch(
    run: Run, epoch: int, config: ModelConfig, scored: bool = False, keeps_generator: bool = False, seed: int = 0
) -> None:
    """Write an epoch's sample grid, curve (except for epoch 0) and summary, with scores if `scored`."""
    rows = max(config.num_classes, 1)
    columns = 100 // rows
    z = latents(range(columns), config).repeat(rows, 1)
    labels = [label for label in range(rows) for _ in range(columns)]
    images = draw(generator(epoch, config, seed), z, one_hot(labels, config.num_classes))
    run.write_samples(epoch, to_png(image_grid(images, 10)))
    step = epoch * STEPS_PER_EPOCH
    summary = EpochSummary(epoch=epoch, step=step, nimg=step * BATCH_SIZE, time=time.time())
    if epoch:
        run.write_losses(epoch, curve(epoch))
        summary = dataclasses.replace(
            summary, d_loss=1.2, g_loss=0.9, d_acc_real=0.7, d_acc_fake=0.6, seconds=2.0, images_per_second=1600.0
        )
    if scored:
        summary = dataclasses.replace(summary, scores=scores(epoch, config), floor=FLOOR)
    if keeps_generator:
        sha256 = run.write_generator(epoch, generator_file(run, epoch, config, seed))
        summary = dataclasses.replace(summary, generator_sha256=sha256)
    run.write_epoch_metrics(summary)


def scores(epoch: int, config: ModelConfig) -> Scores:
    """Return scores of an epoch, closer to `FLOOR` for later epochs. Without classes there is no label accuracy."""
    found = {name: value * (1 - 0.5**epoch) for name, value in FLOOR.items()} | {"fid": FLOOR["fid"] * (1 + 9 / epoch)}
    return found if config.num_classes else {name: found[name] for name in found if name != "label_accuracy"}


def curve(epoch: int) -> Curve:
    """Return the curve of an epoch."""
    steps = list(range((epoch - 1) * STEPS_PER_EPOCH + 1, epoch * STEPS_PER_EPOCH + 1))
    return {
        "step": steps,
        "d_loss": [1.4 - 0.3 * math.sin(step / 9) / (1 + step / 50) for step in steps],
        "g_loss": [0.7 + 0.4 * math.cos(step / 11) / (1 + step / 50) for step in steps],
        "d_acc_real": [0.6 + 0.1 * math.sin(step / 5) for step in steps],
        "d_acc_fake": [0.55 + 0.1 * math.cos(step / 5) for step in steps],
        "images_per_second": [None if step % 10 else 1500.0 + step for step in steps],
    }


def write_checkpoint(run: Run, epoch: int, config: ModelConfig, seed: int = 0, step: int | None = None) -> None:
    """Write a checkpoint at the end of an epoch, or at a step within the next one."""
    files = {GENERATOR_FILE: generator_file(run, epoch, config, seed, step)}
    run.publish_checkpoint(manifest(epoch * STEPS_PER_EPOCH if step is None else step), files)


@contextmanager
def being_trained(run: Run) -> Iterator[None]:
    """Write heartbeats in the background, as a running training does."""
    over = threading.Event()

    def beat() -> None:
        run.write_progress(Progress(phase="training", heartbeat=time.time()))

    def beat_on() -> None:
        while not over.wait(0.5):
            beat()

    beat()
    thread = threading.Thread(target=beat_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
