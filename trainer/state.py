"""TrainState: the networks, optimizers and counters of a run at a step, and how checkpoints store them.

A checkpoint has three files: `generator.safetensors` (the EMA generator, for consumers), `networks.safetensors` (G and
D as they train) and `resume.safetensors` (optimizers, counters, the curve of the current epoch). With all three, a
resumed run continues as if it had not been interrupted.
"""

import copy
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import partial
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop

from models.discriminator import Discriminator
from models.generator_file import generator_bytes, read_metadata
from models.networks import build_discriminator, build_generator
from trainer.config import TrainConfig
from trainer.data import Dataset
from trainer.endings import UnfitError
from trainer.flat_optimizer import FlatOptimizer
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE
from trainer.workers import Workers

CURVE = ("d_loss", "g_loss", "d_acc_real", "d_acc_fake", "penalty", "d_class_loss", "g_class_loss")
"""Columns of the curve: one row per step. Checkpoints depend on the order, so append new columns at the end."""

COUNTERS = ("step", "epoch_seconds", "seconds", "cpu_seconds")
"""Fields of the state that a checkpoint stores as numbers."""


@dataclass
class TrainState:
    """The state of a run after `step` steps. `G_ema` is `G` itself in a recipe without EMA."""

    G: nn.Module
    D: Discriminator
    G_ema: nn.Module
    g_optimizer: FlatOptimizer
    d_optimizer: FlatOptimizer
    curve: Tensor
    """(steps_per_epoch, len(CURVE)): a row per step of the current epoch. Later rows are from the epoch before."""
    speed: Tensor
    """(steps_per_epoch,): images per second at each step; NaN where it was not measured."""
    step: int = 0
    """Number of steps done."""
    epoch_seconds: float = 0.0
    """Time spent on the current epoch, over all launches of the run."""
    seconds: float = 0.0
    """Time spent on the run, over all launches, without the startup before the first step of each launch."""
    cpu_seconds: float = 0.0
    """Processor time of all workers in that time."""

    @property
    def epoch_step(self) -> int:
        """Number of steps done in the epoch of the last step, from 1 to steps_per_epoch; 0 before the first step."""
        return (self.step - 1) % len(self.curve) + 1 if self.step else 0


def new_state(
    config: TrainConfig, steps_per_epoch: int, device: torch.device, workers: Workers | None = None
) -> TrainState:
    """Return the state before the first step. It depends only on the config and is the same on every worker."""
    workers = workers or Workers()
    dtype = getattr(torch, config.dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        G, D = build_generator(config.model), build_discriminator(config.model)
    G, D = G.to(device, dtype).train(), D.to(device, dtype).train()
    G_ema = copy.deepcopy(G).eval().requires_grad_(False) if config.ema else G
    return TrainState(
        G=G,
        D=D,
        G_ema=G_ema,
        g_optimizer=_optimizer(config, G, config.g_lr, workers),
        d_optimizer=_optimizer(config, D, config.d_lr, workers),
        curve=torch.zeros(steps_per_epoch, len(CURVE), dtype=dtype, device=device),
        speed=torch.full((steps_per_epoch,), torch.nan),
    )


def _optimizer(config: TrainConfig, network: nn.Module, lr: float, workers: Workers) -> FlatOptimizer:
    if config.optimizer == "rmsprop":
        return FlatOptimizer(network, partial(update_by_rmsprop, config), ("square_avg",), lr, workers)
    return FlatOptimizer(network, partial(update_by_adam, config), ("exp_avg", "exp_avg_sq"), lr, workers)


def update_by_adam(
    config: TrainConfig,
    parameters: list[Tensor],
    gradients: list[Tensor],
    moments: dict[str, list[Tensor]],
    steps: list[Tensor],
    lr: float,
) -> None:
    """Update parameters by Adam; see `trainer.flat_optimizer.Update`."""
    adam(
        parameters,
        gradients,
        moments["exp_avg"],
        moments["exp_avg_sq"],
        [],
        steps,
        foreach=False,
        fused=parameters[0].is_cuda,
        amsgrad=False,
        beta1=config.beta1,
        beta2=config.beta2,
        lr=lr,
        weight_decay=0,
        eps=config.adam_eps,
        maximize=False,
    )


def update_by_rmsprop(
    config: TrainConfig,
    parameters: list[Tensor],
    gradients: list[Tensor],
    moments: dict[str, list[Tensor]],
    steps: list[Tensor],
    lr: float,
) -> None:
    """Update parameters by RMSprop; see `trainer.flat_optimizer.Update`."""
    rmsprop(
        parameters,
        gradients,
        moments["square_avg"],
        [],
        [],
        steps,
        foreach=parameters[0].is_cuda,
        lr=lr,
        alpha=config.beta2,
        eps=config.adam_eps,
        weight_decay=0,
        momentum=0,
        centered=False,
    )


def check_compiler() -> None:
    """Raise `UnfitError` unless this machine has the C++ compiler that `compile_networks` needs."""
    name = os.environ.get("CXX", "g++")
    if not shutil.which(name):
        raise UnfitError(f"--compile needs a C++ compiler: {name} is not installed here (CXX names another)")


def compile_networks(state: TrainState, config: TrainConfig) -> None:
    """Let PyTorch compile G and, if the recipe has no gradient penalty, D, when they are called.

    The weights stay where they are and keep their names. Raises `UnfitError` without a C++ compiler.
    """
    check_compiler()
    state.G.compile()
    if not config.gamma:
        state.D.compile()


def set_learning_rates(state: TrainState, g_lr: float, d_lr: float) -> None:
    """Set the learning rates of both optimizers."""
    state.g_optimizer.lr, state.d_optimizer.lr = g_lr, d_lr


@torch.no_grad()
def update_ema(state: TrainState, config: TrainConfig) -> None:
    """Move the weights of G_ema toward those of G, and copy the buffers."""
    # Early in a run the half-life is shorter; otherwise the initial weights would stay in the average for too long.
    half_life = min(config.ema, state.step * config.batch_size / 20)
    weight = 1 - 0.5 ** (config.batch_size / half_life) if half_life > 0 else 1.0
    torch._foreach_lerp_(list(state.G_ema.parameters()), list(state.G.parameters()), weight)
    for average, current in zip(state.G_ema.buffers(), state.G.buffers(), strict=True):
        average.copy_(current)


def weights_digest(state: TrainState) -> str:
    """Return the SHA-256 of the weights of G and D, to compare them between workers."""
    digest = hashlib.sha256()
    for network in (state.G, state.D):
        for parameter in network.parameters():
            digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def generator_file(state: TrainState, config: TrainConfig, run: str, dataset: Dataset, world_size: int) -> bytes:
    """Return the content of the file of the EMA generator; `run` is the run's name.

    The same state gives the same bytes, so a checkpoint and an epoch of one step hold the same file.
    """
    provenance = {
        "run": run,
        "recipe": config.recipe,
        "data": dataset.sha256,
        "step": state.step,
        "epoch": state.step // len(state.curve),
        "nimg": state.step * config.batch_size,
        "world_size": world_size,
    }
    writers = dataset.writers.numbers if dataset.writers else ()
    return generator_bytes(state.G_ema, config.model, provenance, dataset.class_names, dataset.table, writers)


def checkpoint_files(state: TrainState, generator: bytes, record: dict[str, Any]) -> dict[str, bytes]:
    """Return the content of a checkpoint's files, by name.

    `generator` is the content of `generator_file`, and `record` that of `trainer.verification`.
    """
    networks = _prefixed("G", state.G.state_dict()) | _prefixed("D", state.D.state_dict())
    resume: dict[str, Tensor] = {"curve": state.curve, "speed": state.speed}
    for name, optimizer in (("g_optimizer", state.g_optimizer), ("d_optimizer", state.d_optimizer)):
        for parameter, tensors in optimizer.state_of().items():
            resume |= _prefixed(f"{name}.{parameter}", tensors)
    counters = {name: getattr(state, name) for name in COUNTERS}
    return {
        GENERATOR_FILE: generator,
        NETWORKS_FILE: safetensors.torch.save(networks),
        RESUME_FILE: safetensors.torch.save(
            resume, {"counters": json.dumps(counters), "verification": json.dumps(record)}
        ),
    }


def load_checkpoint_files(state: TrainState, files: dict[str, bytes]) -> dict[str, Any]:
    """Load the files of a checkpoint into a new state; return its record for `trainer.verification`.

    The record is empty in checkpoints of earlier versions. Raises `ValueError` if the files do not fit the networks.
    """
    generator = safetensors.torch.load(files[GENERATOR_FILE])
    networks = safetensors.torch.load(files[NETWORKS_FILE])
    resume = safetensors.torch.load(files[RESUME_FILE])
    try:
        state.G.load_state_dict(_without_prefix("G", networks))
        state.D.load_state_dict(_without_prefix("D", networks))
        if state.G_ema is not state.G:
            state.G_ema.load_state_dict(generator)
        for name, optimizer in (("g_optimizer", state.g_optimizer), ("d_optimizer", state.d_optimizer)):
            tensors = _without_prefix(name, resume)
            optimizer.load_state({parameter: _without_prefix(parameter, tensors) for parameter in optimizer.state_of()})
        _load_curve(state, resume)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"the checkpoint does not fit this run's networks ({error})") from error
    metadata = read_metadata(files[RESUME_FILE])
    counters, record = json.loads(metadata["counters"]), json.loads(metadata.get("verification", "{}"))
    for name in COUNTERS:
        setattr(state, name, counters.get(name, 0))  # earlier versions did not store all of them
    return dict(record)


def _load_curve(state: TrainState, resume: dict[str, Tensor]) -> None:
    # Checkpoints of earlier versions have fewer columns and no speed. The missing values become NaN.
    curve = resume["curve"]
    state.curve.fill_(torch.nan)
    state.curve[:, : curve.shape[1]] = curve
    if "speed" in resume:
        state.speed.copy_(resume["speed"])


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Copies on the CPU, because training continues while they are saved.
    return {f"{prefix}.{name}": tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
