"""What the page How it works shows of a run: one step in slow motion, a discriminator's verdicts, and curves.

Values are plain, for the page's script. Pictures are bytes, row by row, in base64.
"""

import base64
import copy
from collections.abc import Callable, Sequence
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
from webapp.look import REAL, condition_rows, discriminator, draws_mnist, training_images

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
"""Limit of the lengths that are tried for a step."""
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
    shape = (-1, *loaded.config.image_shape[1:])
    return np.asarray(dataset.images[chosen[: REAL - REAL % _group(loaded)]]).reshape(shape)


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
    images, rows = _seen(loaded, pictures, [label or 0] * len(pictures))
    with torch.inference_mode():
        weights = next(D.parameters())
        logits: NDArray[np.float64] = D(images.to(weights), rows.to(weights)).double().numpy()
        return logits


def _group(loaded: LoadedGenerator) -> int:
    return max(loaded.config.group_size, 1)


def _company(loaded: LoadedGenerator, seed: int) -> list[int]:
    """Return a seed and those of the pictures that a D which compares pictures sees with it."""
    return [seed, *[other for other in range(_group(loaded)) if other != seed]][: _group(loaded)]


@st.cache_data(max_entries=256, show_spinner=False)
def slow_motion(run: str, step: int, sha256: str, label: int | None, seed: int) -> dict[str, Any] | None:
    """Take one step of D and then one of G, for a real picture and the generated one of a seed.

    The steps follow the gradients of the verdicts and are long enough to be seen. Returns the pictures, the verdicts
    before and after, and the gradient of the verdict on the generated picture after D's step, as signed bytes of which
    the largest is 127; None without a stored D or real pictures.
    """
    stored, loaded = discriminator(run, step), inference.load(inference.GeneratorKey(run, step, sha256))
    reals = _reals(loaded, label)
    if stored is None or reals is None:
        return None
    D, G = (copy.deepcopy(network).double().requires_grad_(True) for network in (stored, loaded.generator))
    seeds, labels = _company(loaded, seed), [label or 0] * _group(loaded)
    z, c = sampling.latents(seeds, loaded.config).double(), loaded.class_rows(labels, seeds).double()
    chosen = np.roll(reals, -(seed % len(reals)), 0)[: len(labels)]
    drawn = sampling.to_uint8(G(z, c))
    real, c_real = _seen(loaded, chosen, labels)
    fake, c_fake = _seen(loaded, drawn, labels)

    def verdict(images: Tensor, rows: Tensor) -> Tensor:
        own: Tensor = D(images, rows)[0]
        return own

    before = [verdict(real, c_real).item(), verdict(fake, c_fake).item()]
    _step(D, lambda: verdict(real, c_real) - verdict(fake, c_fake))
    after = [verdict(real, c_real).item(), verdict(fake, c_fake).item()]
    gradient = objections(D, fake, c_fake)[1][0, 0]
    _step(G, lambda: verdict(G(z, c), c_fake))
    improved = sampling.to_uint8(G(z, c))
    return {
        "real": packed(chosen[0]),
        "fake": packed(drawn[0]),
        "better": packed(improved[0]),
        "gradient": packed((127 * gradient / gradient.abs().max().clamp(min=1e-12)).round().to(torch.int8).numpy()),
        "before": before,
        "after": after,
        "improved": verdict(_seen(loaded, improved, labels)[0], c_fake).item(),
        "reals": np.quantile(verdicts(stored, loaded, reals, label), (0.0, 0.5, 1.0)).tolist(),
    }


def _seen(loaded: LoadedGenerator, pictures: NDArray[np.uint8], labels: list[int]) -> tuple[Tensor, Tensor]:
    """Return grey pictures (N, H, W) as D gets them: images (N, 1, H, W) in [-1, 1], and class rows."""
    images = torch.from_numpy(pictures.copy())[:, None]
    return sampling.from_uint8(images, torch.float64), condition_rows(loaded, images, labels).double()


def _step(network: nn.Module, value: Callable[[], Tensor]) -> None:
    """Move the weights of a network along the gradient of a scalar, so that it rises.

    It would rise by `RISE` if it were linear. The step is halved as long as the scalar does not rise at all.
    """
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    start, first = value(), [weight.detach().clone() for weight in weights]
    gradients = torch.autograd.grad(start, weights, allow_unused=True)
    length = RISE / max(sum(float(each.square().sum()) for each in gradients if each is not None), 1e-12)
    with torch.no_grad():
        for _ in range(HALVINGS):
            for weight, old, gradient in zip(weights, first, gradients, strict=True):
                if gradient is not None:
                    weight.copy_(old + length * gradient)
            if value() > start:
                return
            length /= 2


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
