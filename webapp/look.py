"""A closer look at one picture: what the digit reader and the discriminator make of it, and what it resembles."""

from contextlib import suppress
from typing import Any

import numpy as np
import safetensors.torch
import streamlit as st
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import pictures, sampling
from models.attributes import measure
from models.config import ModelConfig
from models.digit_reader import IMG_SIZE, NUM_CLASSES, load_digit_reader, read_digits
from models.discriminator import Discriminator
from models.generator_file import LoadedGenerator
from models.networks import build_discriminator
from models.views import DrawingView, ExploreView, GenerateView, QuizView
from trainer import data
from trainer.run_store import RunStoreError
from webapp import catalog, inference
from webapp.export import data_url

NEAREST = 5
"""Number of training images that are shown."""
REAL = 100
"""Number of real digits that the discriminator compares a picture with."""
CHUNK = 10_000
"""Training images that are compared at once."""
NETWORKS_FILE = "networks.safetensors"
STORED = "A run keeps only the discriminators of its newest checkpoints. Of the shipped runs, only forge has one."
"""Where discriminators are, after a sentence that says that one is not there."""
NOT_MNIST = "The digit reader reads MNIST's digits only, and this generator draws something else."


def look(key: inference.GeneratorKey, view: DrawingView) -> dict[str, Any]:
    """Judge the first picture of a view; return plain values for JSON.

    `probabilities` are those of the ten digits, or [] where the reader cannot read, and `reader` says why; `nearest`
    are the training images at the smallest L2 distance, with black = 0 and white = 1. Raises `ValueError` for a quiz.
    """
    if isinstance(view, QuizView):
        raise ValueError("A quiz has no picture to look at: that would tell which one is generated.")
    loaded = inference.load(key)
    view = pictures.explicit(loaded, view)
    picture = inference.frames(key, view)[:1]
    label = _label(view)
    answer = {"probabilities": [], "reader": NOT_MNIST, "nearest": [], "nearest_help": ""}
    if draws_mnist(loaded):
        _, logits = read_digits(reader(), picture)
        answer |= {"probabilities": torch.softmax(logits[0].double(), 0).tolist(), "reader": ""} | _nearest(picture[0])
    return answer | {"verdict": _verdict(key, loaded, picture, label), "px": pictures.digest(picture)}


def _label(view: DrawingView) -> int | None:
    """Return the class of the first picture of a view; None: it has none."""
    if isinstance(view, ExploreView):
        return view.digit
    return view.digits[0] if isinstance(view, GenerateView) and view.digits else None


def draws_mnist(loaded: LoadedGenerator) -> bool:
    """Return whether a generator learned from MNIST, whose pictures the digit reader reads."""
    files = loaded.provenance.get("data") or {}
    is_mnist = all(data.MNIST_SHA256.get(name) == sha256 for name, sha256 in files.items())
    config = loaded.config
    return is_mnist and config.image_shape == (1, IMG_SIZE, IMG_SIZE) and config.num_classes in (0, NUM_CLASSES)


@st.cache_resource(show_spinner=False)
def reader() -> Any:
    """Return the digit reader."""
    return load_digit_reader()


@st.cache_resource(show_spinner=False)
def training_images() -> data.Dataset | None:
    """Return MNIST's training images; None where the server does not have them."""
    try:
        return data.load_dataset()
    except (data.DatasetError, OSError):
        return None


def _nearest(picture: NDArray[np.uint8]) -> dict[str, Any]:
    dataset = training_images()
    if dataset is None:
        return {"nearest_help": "The training images are not on this server."}
    images = dataset.images.reshape(len(dataset.images), -1)
    x = torch.from_numpy(picture.reshape(-1).astype(np.float32) / 255)
    squares = [
        (torch.tensor(images[start : start + CHUNK]).float() / 255 - x).square().sum(1)
        for start in range(0, len(images), CHUNK)
    ]
    distances, indices = torch.cat(squares).sqrt().topk(NEAREST, largest=False)
    found = [
        {
            "png": data_url(sampling.to_png(np.asarray(dataset.images[index]).reshape(picture.shape))),
            "digit": int(dataset.labels[index]),
            "index": index,
            "distance": distance,
        }
        for index, distance in zip(indices.tolist(), distances.tolist(), strict=True)
    ]
    return {
        "nearest": found,
        "nearest_help": "Distance over all pixels, with black = 0 and white = 1. A copy would be at 0; one real digit "
        "in a hundred is nearer than 1.29 to a training image.",
    }


# --- The discriminator


def _verdict(
    key: inference.GeneratorKey, loaded: LoadedGenerator, picture: NDArray[np.uint8], label: int | None
) -> str:
    """Return how real D takes the picture for, compared with real digits."""
    dataset = training_images()
    if not draws_mnist(loaded) or dataset is None:
        return "The training images are not on this server, so there is nothing to compare with."
    D = partner(key)
    if D is None:
        return f"The discriminator of this checkpoint is not stored. {STORED}"
    own, real = _logits(D, loaded, picture, label, dataset)
    lower = int((real < own).sum())
    kind = "real digits" if label is None else f"real {label}s"
    return f"This picture looks more real to it than {lower} of {len(real)} {kind}."


def partner(key: inference.GeneratorKey) -> Discriminator | None:
    """Return the discriminator that trained with a generator, to judge with; None if it is not stored."""
    if not any((each.step, each.sha256) == (key.step, key.sha256) for each in catalog.generators(key.run)):
        return None  # an earlier run of this name has had the generator
    return discriminator(key.run, key.step)


@st.cache_resource(max_entries=4, show_spinner=False)
def discriminator(run: str, step: int) -> Discriminator | None:
    """Return the discriminator of a checkpoint, to judge with; None if it is not stored."""
    with suppress(RunStoreError, ValueError, RuntimeError):
        checkpoint = next(each for each in catalog.run_of(run).checkpoints() if each.step == step)
        networks = safetensors.torch.load(checkpoint.read(NETWORKS_FILE))
        D = build_discriminator(ModelConfig.from_dict(dict(catalog.run_record(run).config["model"])))
        D.load_state_dict({name.removeprefix("D."): tensor for name, tensor in networks.items() if name[:2] == "D."})
        return D.float().eval().requires_grad_(False)
    return None


@torch.inference_mode()
def _logits(
    D: Discriminator, loaded: LoadedGenerator, picture: NDArray[np.uint8], label: int | None, dataset: data.Dataset
) -> tuple[float, Tensor]:
    """Return D's logit of the picture, and those (REAL,) of real digits of its class.

    A D that compares images of one class gets the picture in a group with others of the same generator.
    """
    group, classes = loaded.config.group_size, loaded.config.num_classes
    others = sampling.draw(
        loaded.generator,
        sampling.latents(range(group - 1), loaded.config),
        loaded.class_rows([label or 0] * (group - 1), range(group - 1)),
    ) if group > 1 else picture[:0]  # fmt: skip
    fakes = torch.from_numpy(np.concatenate([picture, others]))[:, None]
    own = D(sampling.from_uint8(fakes), condition_rows(loaded, fakes, [label or 0] * group))[0]
    labels = np.asarray(dataset.labels)
    chosen = np.flatnonzero(labels == label if classes else labels >= 0)[: REAL - REAL % group]
    reals = torch.tensor(dataset.images[chosen]).reshape(-1, 1, IMG_SIZE, IMG_SIZE)
    return float(own), D(sampling.from_uint8(reals), condition_rows(loaded, reals, labels[chosen].tolist()))


def condition_rows(loaded: LoadedGenerator, images: Tensor, labels: list[int]) -> Tensor:
    """Return the class rows of grey images (N, 1, H, W): with the attributes that they show, by anyone."""
    if loaded.table is None:
        return loaded.class_rows(labels, [0] * len(labels))
    rows = sampling.one_hot(labels, loaded.config.num_classes)
    values = measure(images[:, 0].numpy(), loaded.table.names)
    return torch.cat([rows, torch.from_numpy(loaded.table.to_scores(values, np.array(labels))).float()], 1)
