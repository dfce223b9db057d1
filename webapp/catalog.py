"""List the stores and their runs, and read the data that pages show of a run.

The app and its URLs name a run by a key, for example `runs/quick-1` or `pretrained/forge`. Keys are looked up here
and never used as paths. Results are cached for a short time, so that many visitors cost no more reads than one.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import streamlit as st

from models.generator_file import read_metadata, usable_class_names
from models.view_link import G_LENGTH, View
from trainer.run_store import (
    Curve,
    DamagedError,
    EpochSummary,
    Evaluation,
    MissingError,
    Progress,
    Run,
    RunRecord,
    RunStore,
    RunStoreError,
    StoredGenerator,
    open_store,
    valid_run_name,
)
from webapp.classes import Classes
from webapp.environment import ROUTES_VARIABLE, RUNS_VARIABLE, SAMPLES_ROUTE
from webapp.export import data_url, is_whole_png

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
SHIPPED = "pretrained/"
"""What the keys of shipped runs begin with."""
DEFAULT_RUN = "pretrained/forge"
RETRY_SECONDS = 20
"""Seconds before an unreadable store is tried again."""
SEARCH_SECONDS = 5.0
"""Limit of one search through all runs."""

LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class RunEntry:
    """A run in a list."""

    key: str
    recipe: str
    started: float
    """When the run was created, in seconds since 1970."""
    progress: Progress
    problem: str = ""
    """Why `progress` is not known; empty if it is."""

    @property
    def name(self) -> str:
        """Name of the run, without the store."""
        return self.key.partition("/")[2]


def stores() -> dict[str, str]:
    """Return name -> path or URI of each store. The name is the first part of its runs' keys."""
    return {"runs": os.environ.get(RUNS_VARIABLE) or "runs", "pretrained": str(PRETRAINED)}


def without_paths(message: str) -> str:
    """Return a message for visitors: it names each store where the message of the store has a path on the server."""
    for name, path_or_uri in stores().items():
        paths = [path_or_uri]
        with suppress(RunStoreError):
            paths.append(_opened(path_or_uri).root)
        for path in paths:
            if path := path.rstrip("/"):
                message = re.sub(rf"{re.escape(path)}(?![\w.-])", name, message)
    return message


@st.cache_resource(max_entries=8, show_spinner=False)
def _opened(path_or_uri: str) -> RunStore:
    return open_store(path_or_uri)


def run_of(key: str) -> Run:
    """Return the run of a key; raises `RunStoreError` if its store is unknown or its name invalid."""
    store, _, name = key.partition("/")
    if store not in stores():
        raise RunStoreError(f"there is no store {store!r}, only {' and '.join(stores())}")
    return _opened(stores()[store]).run(name)


@dataclass(frozen=True)
class Listing:
    """The runs of all readable stores, and one line for each store that could not be read."""

    runs: tuple[RunEntry, ...]
    problems: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    """Keys of the runs that cannot be listed because their run.json is damaged."""

    def find(self, key: str) -> RunEntry | None:
        """Return the run of this key; None if it is not listed."""
        return next((entry for entry in self.runs if entry.key == key), None)

    def default(self) -> RunEntry | None:
        """Return the run to show first: `DEFAULT_RUN`, else a finished one, else the newest."""
        finished = (entry for entry in self.runs if entry.progress.phase == "finished")
        return self.find(DEFAULT_RUN) or next(finished, None) or next(iter(self.runs), None)

    def named(self, view: View) -> RunEntry | None:
        """Return the run that a view names; the one to show first if it names none, and None if it is not listed."""
        return self.find(view.run) if view.run else self.default()

    def live(self) -> RunEntry | None:
        """Return the newest run that is being trained."""
        return next((entry for entry in self.runs if entry.progress.is_live), None)


def list_runs() -> Listing:
    """List the runs of all stores: those of `runs` newest first, then the shipped ones, the best of them first."""
    found: list[RunEntry] = []
    problems: list[str] = []
    damaged: list[str] = []
    for store, path_or_uri in stores().items():
        try:
            entries, others = _runs_of(store, path_or_uri)
            found += entries
            damaged += others
        except RunStoreError as error:
            problems.append(str(error))
            _remember_failure(path_or_uri, str(error))
    found.sort(key=lambda entry: (entry.key.startswith(SHIPPED), entry.key != DEFAULT_RUN))  # a stable sort
    return Listing(tuple(found), tuple(problems), tuple(damaged))


@st.cache_resource(show_spinner=False)
def _failures() -> dict[str, tuple[float, str]]:
    """Return when and why each unreadable store failed last. A dead server takes seconds to time out."""
    return {}


def _remember_failure(path_or_uri: str, problem: str) -> None:
    when, known = _failures().get(path_or_uri, (0.0, ""))
    if known != problem:
        LOG.warning(problem)
    if time.time() - when > RETRY_SECONDS or known != problem:
        _failures()[path_or_uri] = (time.time(), problem)


@st.cache_data(ttl=2, max_entries=8, show_spinner=False)
def _runs_of(store: str, path_or_uri: str) -> tuple[list[RunEntry], list[str]]:
    """Return the runs of a store, newest first, and the keys of those whose run.json is damaged."""
    when, problem = _failures().get(path_or_uri, (0.0, ""))
    if time.time() - when < RETRY_SECONDS:
        raise RunStoreError(problem)
    entries = []
    opened = _opened(path_or_uri)
    runs = opened.list_runs()
    for run in runs:
        problem = ""
        try:
            record = run.read_run()
            try:
                progress = run.read_progress()
            except DamagedError as error:  # the run can be shown without it
                progress, problem = Progress(phase="stopped"), str(error)
        except RunStoreError:  # removed meanwhile, or damaged: list the others
            continue
        entries.append(RunEntry(f"{store}/{run.name}", record.recipe, record.started, progress, problem))
    others = set(opened.storage.folders()) - {run.name for run in runs}
    damaged = [f"{store}/{name}" for name in sorted(others) if valid_run_name(name) and _is_damaged(opened.run(name))]
    return sorted(entries, key=lambda entry: entry.started, reverse=True), damaged


def _is_damaged(run: Run) -> bool:
    """Return whether a run has a run.json that cannot be used."""
    try:
        run.read_run()
    except RunStoreError as error:
        return isinstance(error, DamagedError) and not isinstance(error, MissingError)  # without it, it is no run
    return False


@st.cache_data(ttl=2, max_entries=64, show_spinner=False)
def generators(key: str) -> list[StoredGenerator]:
    """Return the generators of a run's checkpoints and epochs, ascending by step."""
    run = run_of(key)
    try:
        started = run.read_run().started
    except MissingError:  # the run has been removed meanwhile
        return []
    return run.generators(partial(epoch_metrics, key, started))


def generator(key: str, view: View) -> StoredGenerator | None:
    """Return the generator of a run that a view names: by its hash, or else by its step, or else the newest one.

    None if the run does not hold it.
    """
    listed = generators(key)
    if view.g:
        same = [each for each in listed if each.sha256.startswith(view.g)]
        at_step = (each for each in same if each.step == view.step)
        return next(at_step, None) or next(iter(same), None) or _archived(key, view.g)
    step = listed[-1].step if view.step is None and listed else view.step
    return next((each for each in listed if each.step == step), None)


@st.cache_data(ttl=30, max_entries=1024, show_spinner=False)
def _archived(key: str, g: str) -> StoredGenerator | None:
    """Return an archived generator of a run, with the numbers that its file gives; None if there is no intact one."""
    run = run_of(key)
    for sha256 in run.archived_generators():
        if sha256.startswith(g):
            path = run.archive_path(sha256)
            with suppress(DamagedError, ValueError, KeyError):
                provenance = json.loads(read_metadata(run.read_generator(path, sha256))["provenance"])
                return StoredGenerator(provenance["step"], provenance["epoch"], provenance["nimg"], sha256, (path,))
    return None


@dataclass(frozen=True)
class Located:
    """Where the generator of a view was found."""

    entry: RunEntry | None
    """The run that holds it, or else the one that the view names; None if that run is not listed."""
    stored: StoredGenerator | None
    """None: the generator was not found."""
    is_searched: bool = True
    """False: it was not found, but not all runs could be searched."""


def locate(view: View, listing: Listing) -> Located:
    """Look for the generator of a view in the run that it names, then, by its hash, in all others."""
    entry = listing.named(view)
    found = generator(entry.key, view) if entry else None
    if found or not view.g:
        return Located(entry, found)
    other, is_searched = holder(view.g, listing)
    if other is None:
        return Located(entry, None, is_searched)
    return Located(other, generator(other.key, view))


def holder(g: str, listing: Listing) -> tuple[RunEntry | None, bool]:
    """Return the run that holds a generator, and whether the search was complete: it ends after `SEARCH_SECONDS`.

    What was read is kept, so a later search goes on where this one ended.
    """
    deadline = time.monotonic() + SEARCH_SECONDS
    is_complete = True
    for entry in listing.runs:
        try:
            if g in _held(entry.key, entry.started, entry.progress.step, deadline):
                return entry, True
        except (RunStoreError, TimeoutError):
            is_complete = False
    return None, is_complete


@st.cache_data(ttl=600, max_entries=4096, show_spinner=False)
def _held(key: str, started: float, step: int, _deadline: float) -> frozenset[str]:
    """Return each generator of a run, as links name it. `started` and `step` make a run that goes on be read again."""

    def read_summary(epoch: int) -> EpochSummary:
        if time.monotonic() > _deadline:
            raise TimeoutError
        return epoch_metrics(key, started, epoch)

    if time.monotonic() > _deadline:
        raise TimeoutError
    run = run_of(key)
    listed = [each.sha256 for each in run.generators(read_summary)]
    return frozenset(sha256[:G_LENGTH] for sha256 in (*listed, *run.archived_generators()))


def forget_generators(key: str) -> None:
    """List the generators of a run anew, because its files are not those that were listed."""
    generators.clear(key)
    epoch_metrics.clear()
    _archived.clear()
    _held.clear()


@st.cache_data(ttl=2, max_entries=64, show_spinner=False)
def epochs(key: str) -> list[int]:
    """Return the complete epochs of a run, ascending."""
    return run_of(key).epochs()


def epoch_generators(entry: RunEntry) -> dict[int, str]:
    """Return the SHA-256 of the generator of each epoch that has recorded it, or still has the file."""
    held: dict[int, str] = {}
    with suppress(RunStoreError):
        held = {each.step: each.sha256 for each in generators(entry.key)}
    summaries = readable(epoch_metrics, entry, epochs(entry.key))
    known = {epoch: each.generator_sha256 or held.get(each.step, "") for epoch, each in summaries.items()}
    return {epoch: sha256 for epoch, sha256 in known.items() if sha256}


def epoch_of(entry: RunEntry, view: View) -> int | None:
    """Return the epoch of a run whose generator a view names by its hash; None if there is none."""
    found = [epoch for epoch, sha256 in epoch_generators(entry).items() if sha256.startswith(view.g)]
    own = getattr(view, "epoch", None)
    return own if own in found else next(iter(found), None)


@st.cache_data(max_entries=1024, show_spinner=False)
def samples(key: str, started: float, epoch: int) -> bytes:
    """Return the sample grid of a complete epoch, a PNG. `started` distinguishes runs of the same name in the cache.

    Raises `DamagedError` for a file that is no whole PNG.
    """
    png = run_of(key).read_samples(epoch)
    if not is_whole_png(png):
        raise DamagedError(f"{key}: the picture of epoch {epoch} is damaged")
    return png


def sample_url(entry: RunEntry, epoch: int) -> str:
    """Return the URL of a sample grid: our route where `webapp.asgi` serves the app, else a data URL.

    The content of a URL never changes, because `started` distinguishes runs of the same name.
    """
    if not os.environ.get(ROUTES_VARIABLE):
        with suppress(DamagedError):
            return data_url(samples(entry.key, entry.started, epoch))
        return data_url(b"")  # no picture, which is what our route answers for a damaged file
    return f".{SAMPLES_ROUTE}?{urlencode({'run': entry.key, 'started': repr(entry.started), 'epoch': epoch}, safe='/')}"


@st.cache_data(max_entries=16_384, show_spinner=False)
def epoch_metrics(key: str, started: float, epoch: int) -> EpochSummary:
    """Return the summary of a complete epoch."""
    return run_of(key).read_epoch_metrics(epoch)


@st.cache_data(ttl=30, max_entries=64, show_spinner=False)
def evaluation(key: str, step: int) -> Evaluation | None:
    """Return the scores of a checkpoint; None if there are none (yet) or they cannot be read."""
    try:
        return run_of(key).read_evaluation(step)
    except DamagedError:  # the page works without them
        return None


@st.cache_data(max_entries=1024, show_spinner=False)
def losses(key: str, started: float, epoch: int) -> Curve:
    """Return the curve of a complete epoch; epoch 0 has none."""
    return run_of(key).read_losses(epoch)


def readable(read: Callable[[str, float, int], T], entry: RunEntry, epochs: Sequence[int]) -> dict[int, T]:
    """Return what `read` returns for each epoch, without the epochs whose file is damaged.

    Raises `RunStoreError` if the storage does not answer, which says nothing about the files.
    """
    found: dict[int, T] = {}
    for epoch in epochs:
        with suppress(DamagedError):
            found[epoch] = read(entry.key, entry.started, epoch)
    return found


def curves(entry: RunEntry, epochs: Sequence[int]) -> dict[int, Curve]:
    """Return the curve of each of the complete epochs that has one, and then of the epoch under way.

    Raises as `readable` does.
    """
    found = readable(losses, entry, [epoch for epoch in epochs if epoch > 0])
    with suppress(RunStoreError):  # completed in the meantime: it is among the others next time
        run = run_of(entry.key)
        if (running := run.running_epoch()) is not None:
            found[running] = run.read_losses(running)
    return found


def classes(key: str) -> Classes:
    """Return the classes that the networks of a run can draw, from run.json."""
    record = run_record(key)
    number = record.config.get("model", {}).get("num_classes", 0)
    return Classes(number, usable_class_names(list(record.class_names), number))


@st.cache_data(ttl=30, max_entries=64, show_spinner=False)
def run_record(key: str) -> RunRecord:
    """Return the content of run.json."""
    return run_of(key).read_run()
