"""Recorded results that must not change: numbers of short trainings, and pictures of the shipped generators.

`python -m tests.golden` rewrites the files. Do this only on purpose, in a commit that says why they changed.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from models.generator_file import load_generator
from models.sampling import draw, image_grid, latents, to_png
from tests.training import made_up_writers, tensors_of, tiny, train_here
from trainer import state
from trainer.config import TrainConfig
from trainer.recipes import RECIPES
from trainer.run_store import Run, open_store

FOLDER = Path(__file__).resolve().parent
CURVES = FOLDER / "curves"
"""One JSON file for each recipe, and for each entry of `EARLIER`."""
PICTURES = FOLDER / "pictures"
"""One PNG for each shipped generator, and `digests.json`."""
RUNS = FOLDER / "runs"
"""Stored runs that the code of November 2026 trained and stopped within the first epoch."""
RESUMED = FOLDER / "resumed"
"""Final results of these runs with that code. They cannot be rewritten, because that code no longer exists."""
PRETRAINED = FOLDER.parent.parent / "pretrained"

new_state = state.new_state
COLUMNS = ("d_loss", "g_loss", "d_acc_real", "d_acc_fake", "penalty")


_NETWORKS = {"attributes": (), "g_widths": (8, 4), "g_gain": 1.0}
EARLIER: dict[str, tuple[str, dict[str, Any]]] = {
    "first-forge-best": (
        "forge-best",
        {"gamma_end": 0.0, "penalties": "both", "g_fakes": "fresh", "model": _NETWORKS | {"d_kernel": 4}},
    ),
}
"""Name of a curve -> a recipe, and the settings that it had when the curve was recorded."""


def golden_config(recipe: str) -> TrainConfig:
    """Return the config of a recipe with tiny networks, for 20 steps in float64.

    The learning rate is low and rises slowly. At the full rate, Adam amplifies a difference of 1e-15 to 0.1 within 80
    steps. A name in `EARLIER` is a recipe as it was before.
    """
    recipe, settings = EARLIER.get(recipe, (recipe, {}))
    config = tiny(recipe, epochs=2, steps_per_epoch=10, dtype="float64", g_lr=1e-4, d_lr=1e-4, lr_warmup=20)
    return replace(config, **settings | {"model": replace(config.model, **settings.get("model", {}))})


def measure(config: TrainConfig) -> dict[str, Any]:
    """Train a config in this process; return its curve by column, and its initial and final weights by tensor.

    The initial weights are drawn with NumPy, because PyTorch's differ in the last bits between kinds of processors.
    """
    first = state.new_state(config, 1, torch.device("cpu"))
    initial = {f"G.{name}": fingerprint(tensor) for name, tensor in first.G.named_parameters()}
    initial |= {f"D.{name}": fingerprint(tensor) for name, tensor in first.D.named_parameters()}
    with tempfile.TemporaryDirectory() as folder, patch.object(state, "new_state", portable_state):
        run = open_store(folder).run("run")
        train_here(config, run)
        return {"initial": initial, "curve": curve_of(run), "weights": weights_of(run)}


def portable_state(*arguments: Any) -> state.TrainState:
    """Return a new state with the same weights on every machine: gains near 1, all others near 0."""
    s = new_state(*arguments)
    random = np.random.RandomState(0)
    for network in (s.G, s.D):
        for parameter in network.parameters():
            std = 0.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.02
            noise = torch.from_numpy(std * random.standard_normal(tuple(parameter.shape)))
            parameter.data.copy_(parameter.data.round() + noise)
    if s.G_ema is not s.G:
        s.G_ema.load_state_dict(s.G.state_dict())
    return s


def resume(name: str, folder: Path) -> Run:
    """Copy a stored run into a folder and train it to its end; return the copy."""
    shutil.copytree(RUNS / name, folder / name)
    run = open_store(folder).run(name)
    config = TrainConfig.from_dict(run.read_run().config)
    train_here(config, run)
    return run


def curve_of(run: Run) -> dict[str, list[float]]:
    """Return the columns of a run's curve over all its epochs."""
    epochs = [run.read_losses(epoch) for epoch in run.epochs() if epoch]
    return {name: [value for epoch in epochs for value in epoch[name]] for name in COLUMNS}


def weights_of(run: Run) -> dict[str, list[float]]:
    """Return the `fingerprint` of each tensor of a run's newest checkpoint."""
    networks = tensors_of(run, "networks.safetensors")
    average = {f"G_ema.{name}": tensor for name, tensor in tensors_of(run, "generator.safetensors").items()}
    return {name: fingerprint(tensor) for name, tensor in (networks | average).items() if tensor.is_floating_point()}


def fingerprint(tensor: Tensor) -> list[float]:
    """Return a tensor's sum, its norm and its product with fixed random numbers.

    Unlike a hash, these numbers change only slightly if rounding changes the tensor.
    """
    values = tensor.double().flatten()
    random = torch.from_numpy(np.random.RandomState(0).standard_normal(len(values)))
    return [values.sum().item(), values.norm().item(), (values @ random).item()]


def shipped_generators() -> dict[str, Path]:
    """Return the generator file of each shipped run, by the run's name."""
    return {path.parent.parent.name: path for path in sorted(PRETRAINED.glob("*/step_*/generator.safetensors"))}


def draw_hundred(path: Path) -> np.ndarray:
    """Draw 100 pictures with a generator file: 10 seeds of each class, or 100 seeds without classes."""
    loaded = load_generator(path)
    classes = loaded.config.num_classes
    seeds = [seed for _ in range(classes) for seed in range(100 // classes)] if classes else list(range(100))
    labels = [label for label in range(classes) for _ in range(100 // classes)] if classes else [0] * 100
    return draw(loaded.generator, latents(seeds, loaded.config), loaded.class_rows(labels, seeds))


def digest(pictures: np.ndarray) -> str:
    """Return the SHA-256 of the pixels of pictures, in order."""
    return hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()


def renew() -> None:
    """Write all golden files."""
    CURVES.mkdir(exist_ok=True)
    for recipe in (*RECIPES, *EARLIER):
        with made_up_writers():
            text = json.dumps(measure(golden_config(recipe)), indent=1)
        (CURVES / f"{recipe}.json").write_text(text + "\n")
        print(f"{recipe}: {CURVES / recipe}.json")
    PICTURES.mkdir(exist_ok=True)
    digests = {}
    for name, path in shipped_generators().items():
        pictures = draw_hundred(path)
        digests[name] = digest(pictures)
        (PICTURES / f"{name}.png").write_bytes(to_png(image_grid(pictures, 10)))
        print(f"{name}: {PICTURES / name}.png")
    (PICTURES / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")
