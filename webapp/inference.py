"""Pictures drawn by generators: plain arguments in, uint8 arrays out. Generators and pictures are cached."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from models.generator_file import LoadedGenerator, read_generator
from models.sampling import draw, latent, latents, lerp, one_hot, slerp, truncate
from trainer.run_store import DamagedError, RunStoreError
from webapp import catalog

PATHS = {"slerp": slerp, "lerp": lerp}
"""Name of a path between two latents -> its function: along the arc (slerp), or along the straight line (lerp)."""


class GeneratorGoneError(RunStoreError):
    """A generator that was listed or linked to is no longer there."""


@dataclass(frozen=True)
class GeneratorKey:
    """Identity of a generator: the hash of its file, and where it was found."""

    run: str
    """Key of the run that holds it."""
    step: int
    sha256: str
    """SHA-256 of the generator file."""


KEYED_BY_CONTENT: dict[str | type, Callable[[Any], Any]] = {GeneratorKey: lambda key: key.sha256}
"""How Streamlit's caches identify a generator: by the content of its file, wherever it is stored."""


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=KEYED_BY_CONTENT)
def load(key: GeneratorKey) -> LoadedGenerator:
    """Return the generator, ready to draw.

    Raises `GeneratorGoneError`, `DamagedError` or `GeneratorFileError` if its file cannot be used, and
    `RunStoreError` if the store does not answer.
    """
    path, content = _read(key)
    torch.set_num_threads(1)  # a second thread does not speed up networks this small, and a training may need the core
    return read_generator(content, f"{key.run}/{path}")


def _read(key: GeneratorKey) -> tuple[str, bytes]:
    """Return the first of a generator's files that is intact: its path in the run's folder, and its content."""
    run, archive = catalog.run_of(key.run), catalog.run_of(key.run).archive_path(key.sha256)
    for path in (*_listed(key), archive):
        with suppress(DamagedError):
            return path, run.read_generator(path, key.sha256)
    catalog.forget_generators(key.run)
    if still := _listed(key):
        raise DamagedError(f"{key.run}/{still[0]}: is missing, or its content is not what was written")
    raise GeneratorGoneError(f"{key.run}: the generator of step {key.step} has been removed or replaced meanwhile")


def _listed(key: GeneratorKey) -> list[str]:
    return [path for each in catalog.generators(key.run) if each.sha256 == key.sha256 for path in each.paths]


@st.cache_data(max_entries=256, show_spinner=False, hash_funcs=KEYED_BY_CONTENT)
def pictures(key: GeneratorKey, digits: tuple[int, ...], count: int, seed: int, truncation: float) -> NDArray[np.uint8]:
    """Draw `count` pictures of each digit, picture k from seed + k; return uint8 (D, count, H, W[, 3]).

    A generator without classes draws one row, and `digits` must be empty.
    """
    loaded = load(key)
    z = truncate(latents(range(seed, seed + count), loaded.config), truncation)
    rows = max(len(digits), 1)
    labels = [digit for digit in digits or (0,) for _ in range(count)]
    images = draw(loaded.generator, z.repeat(rows, 1), one_hot(labels, loaded.config.num_classes))
    return images.reshape(rows, count, *images.shape[1:])


@st.cache_data(max_entries=256, show_spinner=False, hash_funcs=KEYED_BY_CONTENT)
def interpolation(
    key: GeneratorKey,
    from_digit: int | None,
    from_seed: int,
    to_digit: int | None,
    to_seed: int,
    path: str,
    frames: int,
) -> NDArray[np.uint8]:
    """Draw the way from one picture to another, both included; return uint8 (frames, H, W[, 3]).

    Latents follow `path`, a key of `PATHS`; classes are mixed linearly. Digits are None for a generator without
    classes.
    """
    loaded = load(key)
    a, b = latent(from_seed, loaded.config), latent(to_seed, loaded.config)
    ends = one_hot([from_digit or 0, to_digit or 0], loaded.config.num_classes)
    positions = [frame / (frames - 1) for frame in range(frames)]
    z = torch.stack([PATHS[path](a, b, t) for t in positions])
    c = torch.stack([lerp(ends[0], ends[1], t) for t in positions])
    return draw(loaded.generator, z, c)
