"""TrainState: everything that a run is at a step, and its three files in a checkpoint.

`generator.safetensors` (EMA generator, for consumers), `networks.safetensors` (raw G and D), `resume.safetensors`
(optimizers, counters, the running epoch's curve): with all three, a resumed run goes on as if it had never stopped.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from models.discriminator import Discriminator
from models.generator_file import generator_bytes, read_metadata
from models.networks import build_discriminator, build_generator
from trainer.config import TrainConfig
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE

CURVE = ("d_loss", "g_loss", "d_acc_real", "d_acc_fake", "penalty")
"""Columns of the running epoch's curve: a row per step."""

COUNTERS = ("step", "epoch_seconds", "seconds", "cpu_seconds")
"""Numbers of the state that a checkpoint carries."""


@dataclass
class TrainState:
    """Networks, optimizers and counters; `G_ema` is `G` itself in a recipe without EMA."""

    G: nn.Module
    D: Discriminator
    G_ema: nn.Module
    g_optimizer: torch.optim.Optimizer
    d_optimizer: torch.optim.Optimizer
    curve: Tensor
    step: int = 0
    """Steps done."""
    epoch_seconds: float = 0.0
    """Time spent so far on the running epoch, over all its sittings."""
    seconds: float = 0.0
    """Time spent so far on the run, over all its sittings, without what comes before the first step of each."""
    cpu_seconds: float = 0.0
    """Processor time of all workers in it."""


def new_state(config: TrainConfig, steps_per_epoch: int, device: torch.device) -> TrainState:
    """The state before the first step: a function of the config alone, the same on every worker."""
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
        g_optimizer=_optimizer(config, G, config.g_lr),
        d_optimizer=_optimizer(config, D, config.d_lr),
        curve=torch.zeros(steps_per_epoch, len(CURVE), dtype=dtype, device=device),
    )


def _optimizer(config: TrainConfig, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), lr, config.beta2, config.adam_eps)
    fused = next(network.parameters()).is_cuda
    return torch.optim.Adam(network.parameters(), lr, (config.beta1, config.beta2), config.adam_eps, fused=fused)


@torch.no_grad()
def update_ema(state: TrainState, half_life: float, batch_size: int) -> None:
    """Move G_ema toward G by one step: weights that are `half_life` images old count half; buffers are copied."""
    weight = 1 - 0.5 ** (batch_size / half_life) if half_life > 0 else 1.0
    torch._foreach_lerp_(list(state.G_ema.parameters()), list(state.G.parameters()), weight)
    for average, current in zip(state.G_ema.buffers(), state.G.buffers(), strict=True):
        average.copy_(current)


def weights_digest(state: TrainState) -> str:
    """SHA-256 of the weights of G and D, to compare workers."""
    digest = hashlib.sha256()
    for network in (state.G, state.D):
        for parameter in network.parameters():
            digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def checkpoint_files(
    state: TrainState, config: TrainConfig, provenance: dict[str, Any], class_names: Sequence[str]
) -> dict[str, bytes]:
    """The content of a checkpoint's files."""
    networks = _prefixed("G", state.G.state_dict()) | _prefixed("D", state.D.state_dict())
    resume: dict[str, Tensor] = {"curve": state.curve}
    for name, network, optimizer in (
        ("g_optimizer", state.G, state.g_optimizer),
        ("d_optimizer", state.D, state.d_optimizer),
    ):
        for parameter_name, parameter in network.named_parameters():
            resume |= _prefixed(f"{name}.{parameter_name}", optimizer.state[parameter])
    counters = {name: getattr(state, name) for name in COUNTERS}
    return {
        GENERATOR_FILE: generator_bytes(state.G_ema, config.model, provenance, class_names),
        NETWORKS_FILE: safetensors.torch.save(networks),
        RESUME_FILE: safetensors.torch.save(resume, {"counters": json.dumps(counters)}),
    }


def load_checkpoint_files(state: TrainState, files: dict[str, bytes]) -> None:
    """Set a new state to what a checkpoint holds; `ValueError` if it does not belong to such networks."""
    generator = safetensors.torch.load(files[GENERATOR_FILE])
    networks = safetensors.torch.load(files[NETWORKS_FILE])
    resume = safetensors.torch.load(files[RESUME_FILE])
    try:
        state.G.load_state_dict(_without_prefix("G", networks))
        state.D.load_state_dict(_without_prefix("D", networks))
        if state.G_ema is not state.G:
            state.G_ema.load_state_dict(generator)
        for name, network, optimizer in (
            ("g_optimizer", state.G, state.g_optimizer),
            ("d_optimizer", state.D, state.d_optimizer),
        ):
            moments = [_without_prefix(f"{name}.{parameter}", resume) for parameter, _ in network.named_parameters()]
            optimizer.load_state_dict(
                {"state": dict(enumerate(moments)), "param_groups": optimizer.state_dict()["param_groups"]}
            )
        state.curve.copy_(resume["curve"])
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"the checkpoint does not fit this run's networks ({error})") from error
    counters = json.loads(read_metadata(files[RESUME_FILE])["counters"])
    for name in COUNTERS:
        setattr(state, name, counters.get(name, 0))  # runs of earlier versions did not count all of them


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # A copy on the CPU: what is saved in the background must not move on with training.
    return {f"{prefix}.{name}": tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
