"""Pictures from generators: plain arguments in, uint8 arrays out, both kept for those who ask again."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from models.generator_file import LoadedGenerator, read_generator
from models.sampling import draw, latent, latents, lerp, one_hot, slerp, truncate
from trainer.run_store import GENERATOR_FILE, RunStoreError
from webapp import catalog

PATHS = {"slerp": slerp, "lerp": lerp}


class CheckpointGoneError(RunStoreError):
    """A checkpoint that was listed, or linked to, and is no longer there."""


@dataclass(frozen=True)
class GeneratorKey:
    """Which generator: where it lies, and what it must be."""

    run: str
    step: int
    sha256: str
    """Of the generator file; the same file in two places is one generator."""


def load(key: GeneratorKey) -> LoadedGenerator:
    """The generator, ready to draw.

    Raises `CheckpointGoneError`, `DamagedError` or `GeneratorFileError` if its file cannot be used, and
    `RunStoreError` if the store does not answer.
    """
    return _loaded(key.sha256, key)


@st.cache_resource(max_entries=8, show_spinner=False)
def _loaded(sha256: str, _key: GeneratorKey) -> LoadedGenerator:
    checkpoint = catalog.run_of(_key.run).checkpoint(_key.step)
    if checkpoint is None:
        raise CheckpointGoneError(f"{_key.run}: the checkpoint of step {_key.step} is no longer there")
    content = checkpoint.read(GENERATOR_FILE)
    if checkpoint.manifest.files[GENERATOR_FILE].sha256 != sha256:
        raise CheckpointGoneError(f"{_key.run}: the checkpoint of step {_key.step} has been replaced meanwhile")
    torch.set_num_threads(1)  # small nets: a second thread costs more than it gives, and a training may need it
    return read_generator(content, f"{_key.run}, {checkpoint.name}/{GENERATOR_FILE}")


def pictures(key: GeneratorKey, digits: tuple[int, ...], count: int, seed: int, truncation: float) -> NDArray[np.uint8]:
    """`count` pictures of each digit, picture k from seed + k: uint8 (D, count, H, W[, 3]).

    A generator without classes draws one row, and `digits` must be empty.
    """
    return _pictures(key.sha256, key, digits, count, seed, truncation)


@st.cache_data(max_entries=256, show_spinner=False)
def _pictures(
    sha256: str, _key: GeneratorKey, digits: tuple[int, ...], count: int, seed: int, truncation: float
) -> NDArray[np.uint8]:
    loaded = load(_key)
    z = truncate(latents(range(seed, seed + count), loaded.config), truncation)
    rows = max(len(digits), 1)
    labels = [digit for digit in digits or (0,) for _ in range(count)]
    images = draw(loaded.generator, z.repeat(rows, 1), one_hot(labels, loaded.config.num_classes))
    return images.reshape(rows, count, *images.shape[1:])


def interpolation(
    key: GeneratorKey,
    from_digit: int | None,
    from_seed: int,
    to_digit: int | None,
    to_seed: int,
    path: str,
    frames: int,
) -> NDArray[np.uint8]:
    """Pictures on the way from one end to the other, both included: uint8 (frames, H, W[, 3]).

    Latents follow `path`; classes are mixed in even steps. Digits are None for a generator without classes.
    """
    return _interpolation(key.sha256, key, from_digit, from_seed, to_digit, to_seed, path, frames)


@st.cache_data(max_entries=256, show_spinner=False)
def _interpolation(
    sha256: str,
    _key: GeneratorKey,
    from_digit: int | None,
    from_seed: int,
    to_digit: int | None,
    to_seed: int,
    path: str,
    frames: int,
) -> NDArray[np.uint8]:
    loaded = load(_key)
    a, b = latent(from_seed, loaded.config), latent(to_seed, loaded.config)
    ends = one_hot([from_digit or 0, to_digit or 0], loaded.config.num_classes)
    positions = [frame / (frames - 1) for frame in range(frames)]
    z = torch.stack([PATHS[path](a, b, t) for t in positions])
    c = torch.stack([lerp(ends[0], ends[1], t) for t in positions])
    return draw(loaded.generator, z, c)
