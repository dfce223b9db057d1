"""What the page How it works shows of a run: one step in slow motion, a discriminator's verdicts, and curves.

Values are plain, for the page's script. Pictures are bytes, row by row, in base64.
"""

import base64
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import sampling
from models.discriminator import Discriminator
from models.generator_file import LoadedGenerator
from trainer.run_store import DamagedError, EpochSummary, StoredGenerator
from webapp import catalog, inference
from webapp.catalog import RunEntry
from webapp.drawing import multiply_accumulates
from webapp.look import REAL, class_rows, discriminator, draws_mnist, training_images

MAX_EPOCHS = 11
"""Limit of the epochs that are shown."""
COLUMN = 1
"""Column of the sample grids that is shown."""
FAKES = 16
"""Generated pictures of an epoch that a discriminator judges."""
MAX_WORK = 4e9
"""Limit of the multiply-accumulates of the generators for one answer: about a second."""
RISE = 0.5
"""Change of a verdict at which a step in slow motion aims. A step of a training moves it much less."""
HALVINGS = 8
"""Limit of how often a step of the generator is halved until the verdict rises."""
POINTS = 160
"""Points of a curve."""
CURVES = ("d_acc_real", "d_acc_fake", "d_loss", "g_loss")


def spread(numbers: Sequence[int], most: int = MAX_EPOCHS) -> list[int]:
    """Return at most `most` of ascending numbers, evenly spread, with the first and the last one."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[index] for index in np.linspace(0, len(numbers) - 1, most).round().astype(int)]


def packed(pixels: NDArray[Any]) -> str:
    """Return an array of bytes, in base64."""
    return base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode("ascii")


# --- Epochs


def epoch_rows(entry: RunEntry) -> list[dict[str, Any]]:
    """Return the epochs to show: the URL of each sample grid, and its scores where the epoch was scored."""
    epochs = spread(catalog.epochs(entry.key))
    summaries = catalog.readable(catalog.epoch_metrics, entry, epochs)
    return [_epoch_row(entry, epoch, summaries.get(epoch)) for epoch in epochs]


def _epoch_row(entry: RunEntry, epoch: int, summary: EpochSummary | None) -> dict[str, Any]:
    scores, reals = (summary and summary.scores) or {}, (summary and summary.floor) or {}
    return {
        "epoch": epoch,
        "step": summary and summary.step,
        "images": summary and summary.nimg,
        "url": catalog.sample_url(entry, epoch),
        "scores": {name: scores.get(name) for name in ("label_accuracy", "fid")},
        "reals": {name: reals.get(name) for name in ("label_accuracy", "fid")},
    }


def epoch_generators(key: str) -> dict[int, StoredGenerator]:
    """Return the generators that a run keeps of its epochs, by epoch: at most `MAX_EPOCHS`."""
    kept = {each.epoch: each for each in catalog.generators(key) if any(p.startswith("epochs/") for p in each.paths)}
    return {epoch: kept[epoch] for epoch in spread(sorted(kept))}


# --- Pictures


@st.cache_data(max_entries=256, show_spinner=False)
def picture(run: str, step: int, sha256: str, label: int | None, seed: int) -> dict[str, Any]:
    """Return a generated picture, the latent that it comes from, and a real picture of its class, if there is one."""
    loaded = inference.load(inference.GeneratorKey(run, step, sha256))
    reals = _reals(loaded, label)
    return {
        "latent": sampling.latent(seed, loaded.config).tolist(),
        "fake": packed(_draw(loaded, label, [seed])[0]),
        "real": None if reals is None else packed(reals[seed % len(reals)]),
    }


def _draw(loaded: LoadedGenerator, label: int | None, seeds: Sequence[int]) -> NDArray[np.uint8]:
    rows = loaded.class_rows([label or 0] * len(seeds), seeds)
    return sampling.draw(loaded.generator, sampling.latents(seeds, loaded.config), rows)


def _reals(loaded: LoadedGenerator, label: int | None) -> NDArray[np.uint8] | None:
    """Return real pictures (N, H, W) of a class, at most `REAL` and as many as D takes; None: they are not here."""
    dataset = training_images() if draws_mnist(loaded) else None
    if dataset is None:
        return None
    labels = np.asarray(dataset.labels)
    chosen = np.flatnonzero(labels == label if label is not None else labels >= 0)
    return np.asarray(dataset.images[chosen[: REAL - REAL % _group(loaded)]]).reshape(
        -1, *loaded.config.image_shape[1:]
    )


# --- The discriminator


def judge_of(key: str) -> StoredGenerator | None:
    """Return the newest checkpoint of a run whose discriminator is stored; None: there is none."""
    for each in reversed(catalog.generators(key)):
        if any(path.startswith("step_") for path in each.paths):
            return each if discriminator(key, each.step) is not None else None
    return None


def objections(D: nn.Module, images: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return D's logits (N,) of images (N, C, H, W) in [-1, 1] with class rows c, and the gradient (N, C, H, W).

    The gradient is that of the sum of the logits: where it is positive, a brighter pixel looks more real to D.
    """
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = D(images, c)
        (gradient,) = torch.autograd.grad(logits.sum(), images)
    return logits.detach(), gradient


def verdicts(
    D: nn.Module, loaded: LoadedGenerator, pictures: NDArray[np.uint8], label: int | None
) -> NDArray[np.float64]:
    """Return D's logits (N,) of grey pictures (N, H, W) of one class; N is a multiple of the size of D's groups."""
    images = torch.from_numpy(pictures.copy())[:, None]
    with torch.inference_mode():
        weights = next(D.parameters())
        rows = class_rows(loaded, images, [label or 0] * len(images))
        return D(sampling.from_uint8(images, weights.dtype), rows.to(weights)).double().numpy()


def _group(loaded: LoadedGenerator) -> int:
    return max(loaded.config.group_size, 1)


def _company(loaded: LoadedGenerator, seed: int) -> list[int]:
    """Return a seed and those of the pictures that a D which compares pictures sees with it."""
    return [seed, *[other for other in range(_group(loaded)) if other != seed]][: _group(loaded)]


@st.cache_data(max_entries=256, show_spinner=False)
def slow_motion(run: str, step: int, sha256: str, label: int | None, seed: int) -> dict[str, Any] | None:
    """Take one step of D and then one of G, for a real picture and the generated one of a seed.

    The steps follow the gradients of the verdicts and are long enough to be seen: they aim at a change of `RISE`.
    Returns the pictures, the verdicts before and after, and the gradient of the forged picture's verdict after D's
    step, as signed bytes whose largest is 127; None without a stored D or real pictures.
    """
    stored, loaded = discriminator(run, step), inference.load(inference.GeneratorKey(run, step, sha256))
    reals = _reals(loaded, label)
    if stored is None or reals is None:
        return None
    D, G = (copy.deepcopy(network).double().requires_grad_(True) for network in (stored, loaded.generator))
    seeds, group = _company(loaded, seed), _group(loaded)
    z, c = sampling.latents(seeds, loaded.config).double(), loaded.class_rows([label or 0] * group, seeds).double()
    at = seed % len(reals)
    chosen = np.roll(reals, -at, 0)[:group].copy()
    real, c_real = _seen(loaded, torch.from_numpy(chosen)[:, None], label)
    with torch.no_grad():
        drawn = G(z, c)
    fake, c_fake = _seen(loaded, torch.from_numpy(sampling.to_uint8(drawn).copy())[:, None], label)
    before = [float(D(real, c_real)[0].detach()), float(D(fake, c_fake)[0].detach())]
    _climb(D, D(real, c_real)[0] - D(fake, c_fake)[0])
    after = [float(D(real, c_real)[0].detach()), float(D(fake, c_fake)[0].detach())]
    _, gradient = objections(D, fake, c_fake)
    first = copy.deepcopy(G.state_dict())
    rise = RISE
    for _ in range(HALVINGS):
        G.load_state_dict(first)
        _climb(G, D(G(z, c), c_fake)[0], rise)
        with torch.no_grad():
            improved = G(z, c)
        judged, _ = _seen(loaded, torch.from_numpy(sampling.to_uint8(improved).copy())[:, None], label)
        better = float(D(judged, c_fake)[0].detach())
        if better > after[1]:
            break
        rise /= 2
    signed = gradient[0, 0] / gradient[0, 0].abs().max().clamp(min=1e-12)
    return {
        "real": packed(chosen[0]),
        "fake": packed(sampling.to_uint8(drawn)[0]),
        "better": packed(sampling.to_uint8(improved)[0]),
        "gradient": packed((signed * 127).round().to(torch.int8).numpy()),
        "before": before,
        "after": after,
        "improved": better,
        "reals": [float(value) for value in np.quantile(verdicts(stored, loaded, reals, label), (0.0, 0.5, 1.0))],
    }


def _seen(loaded: LoadedGenerator, images: Tensor, label: int | None) -> tuple[Tensor, Tensor]:
    """Return bytes (N, 1, H, W) of one class as D gets them: images in [-1, 1], and class rows."""
    return sampling.from_uint8(images, torch.float64), class_rows(loaded, images, [label or 0] * len(images)).double()


def _climb(network: nn.Module, value: Tensor, rise: float = RISE) -> None:
    """Move the weights of a network along the gradient of a scalar, which would rise by `rise` if it were linear."""
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    square = sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.add_(gradient, alpha=rise / max(square, 1e-12))


def courtroom(key: str, judge: StoredGenerator, label: int | None, seed: int) -> dict[str, Any] | None:
    """Return the verdicts of a run's newest D: on real pictures, and on generated ones of each epoch.

    Each epoch comes with the picture of the seed and its verdict. None without real pictures.
    """
    reals = _real_verdicts(key, judge.step, judge.sha256, label)
    if reals is None:
        return None
    epochs = epoch_generators(key) or {judge.epoch: judge}
    rows = []
    for epoch, each in epochs.items():
        which = (key, judge.step, each.step, each.sha256, label)
        rows.append({"epoch": epoch, "fakes": _fake_verdicts(*which, len(epochs))} | _own_verdict(*which, seed))
    return {"reals": reals, "epochs": rows}


@st.cache_data(max_entries=256, show_spinner=False)
def _real_verdicts(run: str, step: int, sha256: str, label: int | None) -> list[float] | None:
    loaded = inference.load(inference.GeneratorKey(run, step, sha256))
    reals = _reals(loaded, label)
    return None if reals is None else verdicts(_judge(run, step), loaded, reals, label).tolist()


@st.cache_data(max_entries=1024, show_spinner=False)
def _fake_verdicts(run: str, judge: int, step: int, sha256: str, label: int | None, epochs: int) -> list[float]:
    """Return the verdicts of the D of step `judge` on pictures by the generator of one of `epochs` epochs."""
    loaded = inference.load(inference.GeneratorKey(run, step, sha256))
    affordable = int(MAX_WORK / epochs / multiply_accumulates(loaded.config))
    count = max(min(FAKES, affordable) // _group(loaded), 1) * _group(loaded)
    return verdicts(_judge(run, judge), loaded, _draw(loaded, label, range(count)), label).tolist()


@st.cache_data(max_entries=1024, show_spinner=False)
def _own_verdict(run: str, judge: int, step: int, sha256: str, label: int | None, seed: int) -> dict[str, Any]:
    """Return the picture of a seed by a generator, and the verdict of the D of step `judge` on it."""
    loaded = inference.load(inference.GeneratorKey(run, step, sha256))
    drawn = _draw(loaded, label, _company(loaded, seed))
    return {"picture": packed(drawn[0]), "own": float(verdicts(_judge(run, judge), loaded, drawn, label)[0])}


def _judge(run: str, step: int) -> Discriminator:
    D = discriminator(run, step)
    if D is None:
        raise DamagedError(f"{run}: the discriminator of step {step} has been removed meanwhile")
    return D


# --- Curves


def curves(entry: RunEntry) -> dict[str, list[list[float]]]:
    """Return each of `CURVES` as points (epoch, value), at most `POINTS`, over the complete epochs of a run.

    Empty curves are left out, and so are epochs whose file is damaged.
    """
    return _curves(entry.key, entry.started, len(catalog.epochs(entry.key)), entry)


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(key: str, started: float, number: int, _entry: RunEntry) -> dict[str, list[list[float]]]:
    from webapp import charts  # late: Plotly is large

    trained = [epoch for epoch in catalog.epochs(key) if epoch > 0]
    columns = charts.joined(list(catalog.readable(catalog.losses, _entry, trained).values()), ("step", *CURVES))
    found = {}
    for name in CURVES:
        x, y = charts.thinned(columns["step"] / max(catalog.run_record(key).steps_per_epoch, 1), columns[name], POINTS)
        if len(x):
            found[name] = np.round(np.stack([x, y], 1), 4).tolist()
    return found
