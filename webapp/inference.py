"""Pictures drawn by generators: plain arguments in, uint8 arrays out. Generators and pictures are cached."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from models import pictures
from models.generator_file import LoadedGenerator, read_generator
from models.view_link import pairs
from models.views import DRAWING_VIEWS, DrawingView
from trainer.run_store import DamagedError, RunStoreError
from webapp import catalog


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


def _what_it_draws(view: DrawingView) -> tuple[object, ...]:
    """Return the values of a view that its pictures depend on; a generator is known by its hash."""
    where = ("run", "step", "g", "frame", "play", "fps", "spacing", "ink", "paper")
    return (view.kind, *[pair for pair in pairs(view) if pair[0] not in where])


KEYED_BY_CONTENT: dict[str | type, Callable[[Any], Any]] = {
    GeneratorKey: lambda key: key.sha256,
    **dict.fromkeys(DRAWING_VIEWS.values(), _what_it_draws),
}
"""How Streamlit's caches identify a generator and a view: by what they draw, wherever the generator is stored."""


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=KEYED_BY_CONTENT)
def load(key: GeneratorKey) -> LoadedGenerator:
    """Return the generator, ready to draw.

    Raises `GeneratorGoneError`, `DamagedError` or `GeneratorFileError` if its file cannot be used, and
    `RunStoreError` if the store does not answer.
    """
    path, content = read(key)
    torch.set_num_threads(1)  # a second thread does not speed up networks this small, and a training may need the core
    return read_generator(content, f"{key.run}/{path}")


def read(key: GeneratorKey) -> tuple[str, bytes]:
    """Return the first of a generator's files that is intact: its path in the run's folder, and its content.

    Raises `GeneratorGoneError` or `DamagedError` if there is none, and `RunStoreError` if the store does not answer.
    """
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


@st.cache_data(max_size="128MB", show_spinner=False, hash_funcs=KEYED_BY_CONTENT)
def frames(key: GeneratorKey, view: DrawingView) -> NDArray[np.uint8]:
    """Draw a view; see `models.pictures.frames`."""
    return pictures.frames(load(key), view)
