"""What there is to show: the stores, their runs, and how far each run has come.

A run is known to the app and in its addresses by a key such as `runs/quick-1` or `pretrained/forge`, which is looked up
here and never used as a path. Reads of the store are kept for a moment, so that many visitors cost no more than one.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from models.generator_file import usable_class_names
from trainer.run_store import (
    GENERATOR_FILE,
    Curve,
    DamagedError,
    EpochSummary,
    Evaluation,
    Progress,
    Run,
    RunRecord,
    RunStore,
    RunStoreError,
    open_store,
)
from webapp.classes import Classes
from webapp.environment import RUNS_VARIABLE

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
DEFAULT_RUN = "pretrained/forge"
RETRY_SECONDS = 20
"""Pause before an unreadable store is asked again."""


@dataclass(frozen=True)
class RunEntry:
    """A run as the lists show it."""

    key: str
    recipe: str
    started: float
    """Seconds since 1970."""
    progress: Progress

    @property
    def name(self) -> str:
        """Its name without the store's."""
        return self.key.partition("/")[2]


@dataclass(frozen=True)
class CheckpointEntry:
    """A checkpoint as the lists show it."""

    step: int
    epoch: int
    nimg: int
    generator_sha256: str
    """Of its generator file; empty if it has none."""


def stores() -> dict[str, str]:
    """Path or URI of each store, by the first half of the keys of its runs."""
    return {"runs": os.environ.get(RUNS_VARIABLE) or "runs", "pretrained": str(PRETRAINED)}


@st.cache_resource(max_entries=8, show_spinner=False)
def _opened(path_or_uri: str) -> RunStore:
    return open_store(path_or_uri)


def run_of(key: str) -> Run:
    """The run of a key from a listing; raises `RunStoreError` for a key of no store."""
    store, _, name = key.partition("/")
    if store not in stores():
        raise RunStoreError(f"there is no store {store!r}, only {' and '.join(stores())}")
    return _opened(stores()[store]).run(name)


@dataclass(frozen=True)
class Listing:
    """All runs that could be listed, and one line for each store that could not."""

    runs: tuple[RunEntry, ...]
    problems: tuple[str, ...]

    def find(self, key: str) -> RunEntry | None:
        """The run of this key."""
        return next((entry for entry in self.runs if entry.key == key), None)

    def default(self) -> RunEntry | None:
        """The run that a visitor sees first: the shipped one, else a finished one, else the newest."""
        finished = (entry for entry in self.runs if entry.progress.phase == "finished")
        return self.find(DEFAULT_RUN) or next(finished, None) or next(iter(self.runs), None)

    def live(self) -> RunEntry | None:
        """The newest run that trains now."""
        return next((entry for entry in self.runs if entry.progress.is_live), None)


def list_runs() -> Listing:
    """All runs of all stores: those of `runs` newest first, then the shipped ones."""
    found: list[RunEntry] = []
    problems: list[str] = []
    for store, path_or_uri in stores().items():
        try:
            found += _runs_of(store, path_or_uri)
        except RunStoreError as error:
            problems.append(str(error))
            _remember_failure(path_or_uri, str(error))
    return Listing(tuple(found), tuple(problems))


@st.cache_resource(show_spinner=False)
def _failures() -> dict[str, tuple[float, str]]:
    """When and why each unreadable store failed last: a dead server takes long to give up on, so rarely ask again."""
    return {}


def _remember_failure(path_or_uri: str, problem: str) -> None:
    when, known = _failures().get(path_or_uri, (0.0, ""))
    if time.time() - when > RETRY_SECONDS or known != problem:
        _failures()[path_or_uri] = (time.time(), problem)


@st.cache_data(ttl=2, max_entries=8, show_spinner=False)
def _runs_of(store: str, path_or_uri: str) -> list[RunEntry]:
    when, problem = _failures().get(path_or_uri, (0.0, ""))
    if time.time() - when < RETRY_SECONDS:
        raise RunStoreError(problem)
    entries = []
    for run in _opened(path_or_uri).list_runs():
        try:
            record, progress = run.read_run(), run.read_progress()
        except RunStoreError:  # removed meanwhile, or damaged: the others are still worth a list
            continue
        entries.append(RunEntry(f"{store}/{run.name}", record.recipe, record.started, progress))
    return sorted(entries, key=lambda entry: entry.started, reverse=True)


@st.cache_data(ttl=2, max_entries=64, show_spinner=False)
def checkpoints(key: str) -> list[CheckpointEntry]:
    """The checkpoints of a run that a visitor can choose, ascending by step."""
    return [
        CheckpointEntry(each.step, each.epoch, each.nimg, each.manifest.files[GENERATOR_FILE].sha256)
        for each in run_of(key).checkpoints()
        if GENERATOR_FILE in each.manifest.files
    ]


@st.cache_data(ttl=2, max_entries=64, show_spinner=False)
def epochs(key: str) -> list[int]:
    """The epochs of a run whose pictures are there, ascending."""
    return run_of(key).epochs()


@st.cache_data(max_entries=1024, show_spinner=False)
def samples(key: str, started: float, epoch: int) -> bytes:
    """The sample grid of a complete epoch, a PNG, which never changes within a run (hence `started`)."""
    return run_of(key).read_samples(epoch)


@st.cache_data(max_entries=1024, show_spinner=False)
def epoch_metrics(key: str, started: float, epoch: int) -> EpochSummary:
    """The summary of a complete epoch."""
    return run_of(key).read_epoch_metrics(epoch)


@st.cache_data(ttl=30, max_entries=64, show_spinner=False)
def evaluation(key: str, step: int) -> Evaluation | None:
    """The scores of a checkpoint, which may be written at any time; None without readable ones."""
    try:
        return run_of(key).read_evaluation(step)
    except DamagedError:  # they come on top: the page is whole without them
        return None


@st.cache_data(max_entries=1024, show_spinner=False)
def losses(key: str, started: float, epoch: int) -> Curve:
    """The curve of a complete epoch; without its epoch 0, which has none."""
    return run_of(key).read_losses(epoch)


def running_losses(key: str) -> Curve:
    """The curve of the epoch under way; empty if there is none."""
    run = run_of(key)
    epoch = run.running_epoch()
    return {} if epoch is None else run.read_losses(epoch)


def classes(key: str) -> Classes:
    """What the networks of a run can be asked for, as its run.json says."""
    record = run_record(key)
    number = record.config.get("model", {}).get("num_classes", 0)
    return Classes(number, usable_class_names(list(record.class_names), number))


@st.cache_data(ttl=30, max_entries=64, show_spinner=False)
def run_record(key: str) -> RunRecord:
    """What run.json says."""
    return run_of(key).read_run()
