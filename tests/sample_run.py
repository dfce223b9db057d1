"""A small run, written through the run store as the trainer does it, with generators that were never trained."""

import dataclasses
import math
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.config import ModelConfig
from models.generator_file import generator_bytes
from models.networks import build_generator
from models.sampling import draw, image_grid, latents, one_hot, to_png
from trainer.run_store import Run, open_store

STEPS_PER_EPOCH = 50
BATCH_SIZE = 64
FLOOR = {"fid": 0.42, "precision": 0.95, "recall": 0.94, "density": 1.0, "coverage": 0.97, "diversity": 0.99}
FLOOR |= {"label_accuracy": 0.998}
"""What real digits score."""


def model_config(num_classes: int = 10) -> ModelConfig:
    """The smallest networks that draw at 28x28."""
    return ModelConfig(architecture="forge", z_dim=16, num_classes=num_classes, g_widths=(16, 8), d_widths=(8, 8, 8))


def write_run(
    runs: Path,
    name: str = "quick-1",
    *,
    epochs: int = 3,
    total_epochs: int = 3,
    phase: str = "finished",
    num_classes: int = 10,
    checkpoints: bool = True,
    scored: Collection[int] = (),
    **progress: Any,
) -> Run:
    """Write a run with `epochs` complete epochs, and a checkpoint at the end of each, into the store `runs`.

    Those epochs that are in `scored` have scores.
    """
    config = model_config(num_classes)
    run = open_store(runs).run(name)
    run.create(
        {
            "recipe": "quick",
            "config": {"epochs": total_epochs, "batch_size": BATCH_SIZE, "model": dataclasses.asdict(config)},
            "total_steps": total_epochs * STEPS_PER_EPOCH,
            "steps_per_epoch": STEPS_PER_EPOCH,
            "workers": 2,
        }
    )
    for epoch in range(epochs + 1):
        write_epoch(run, epoch, config, epoch in scored)
        if epoch and checkpoints:
            write_checkpoint(run, epoch, config)
    step = epochs * STEPS_PER_EPOCH
    state = {"step": step, "total_steps": total_epochs * STEPS_PER_EPOCH, "epoch": min(epochs + 1, total_epochs)}
    state |= {"epochs": total_epochs, "nimg": step * BATCH_SIZE, "images_per_second": 1500.0, "eta": 75.0}
    state |= {"world_size": 2, "heartbeat": time.time(), "phase": phase, "message": ""}
    run.write_progress(state | progress)
    return run


def generator(epoch: int, config: ModelConfig) -> torch.nn.Module:
    """Another one for each epoch, always the same one for the same epoch; it draws something, though no digits."""
    with torch.random.fork_rng():
        torch.manual_seed(epoch)
        network = build_generator(config)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.5 / math.sqrt(parameter[0].numel()))
    return network.eval().requires_grad_(False)


def write_epoch(run: Run, epoch: int, config: ModelConfig, scored: bool = False) -> None:
    """The sample grid, the curve (but of epoch 0) and the summary of an epoch, with scores if it was scored."""
    rows = max(config.num_classes, 1)
    columns = 100 // rows
    z = latents(range(columns), config).repeat(rows, 1)
    labels = [label for label in range(rows) for _ in range(columns)]
    images = draw(generator(epoch, config), z, one_hot(labels, config.num_classes))
    run.write_samples(epoch, to_png(image_grid(images, 10)))
    step = epoch * STEPS_PER_EPOCH
    metrics: dict[str, Any] = {"epoch": epoch, "step": step, "nimg": step * BATCH_SIZE, "time": time.time()}
    if epoch:
        run.write_losses(epoch, curve(epoch))
        metrics |= {"d_loss": 1.2, "g_loss": 0.9, "d_acc_real": 0.7, "d_acc_fake": 0.6, "seconds": 2.0}
    if scored:
        metrics |= {"scores": scores(epoch, config), "floor": FLOOR}
    run.write_epoch_metrics(epoch, metrics)


def scores(epoch: int, config: ModelConfig) -> dict[str, float]:
    """Of an epoch's generator, nearer to those of real digits with each; without classes no label accuracy."""
    found = {name: value * (1 - 0.5**epoch) for name, value in FLOOR.items()} | {"fid": FLOOR["fid"] * (1 + 9 / epoch)}
    return found if config.num_classes else {name: found[name] for name in found if name != "label_accuracy"}


def curve(epoch: int) -> dict[str, list[Any]]:
    """The records of an epoch's steps."""
    steps = list(range((epoch - 1) * STEPS_PER_EPOCH + 1, epoch * STEPS_PER_EPOCH + 1))
    return {
        "step": steps,
        "d_loss": [1.4 - 0.3 * math.sin(step / 9) / (1 + step / 50) for step in steps],
        "g_loss": [0.7 + 0.4 * math.cos(step / 11) / (1 + step / 50) for step in steps],
        "d_acc_real": [0.6 + 0.1 * math.sin(step / 5) for step in steps],
        "d_acc_fake": [0.55 + 0.1 * math.cos(step / 5) for step in steps],
        "images_per_second": [None if step % 10 else 1500.0 + step for step in steps],
    }


def write_checkpoint(run: Run, epoch: int, config: ModelConfig) -> None:
    """A checkpoint at the end of an epoch."""
    step = epoch * STEPS_PER_EPOCH
    provenance = {"run": run.name, "recipe": "quick", "step": step, "epoch": epoch, "nimg": step * BATCH_SIZE}
    content = generator_bytes(generator(epoch, config), config, provenance)
    fields = {"epoch": epoch, "nimg": step * BATCH_SIZE, "world_size": 2}
    run.publish_checkpoint(step, {"generator.safetensors": content}, fields)


@contextmanager
def being_trained(run: Run) -> Iterator[None]:
    """A heartbeat that goes on, as that of a run in training does."""
    over = threading.Event()

    def beat() -> None:
        run.write_progress({"phase": "training", "heartbeat": time.time()})

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
