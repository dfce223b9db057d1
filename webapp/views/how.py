"""How it works: what a GAN is, told in eight parts with the pictures and the numbers of a run."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import streamlit as st

from models.generator_file import GeneratorFileError
from models.sampling import MAX_SEED
from models.scores import SCORES
from models.view_link import MAX_CLASS, View, check_range, from_pairs
from models.views import MAX_LINK
from trainer.run_store import DamagedError
from webapp import address, catalog, delivery, notices, story, wording
from webapp.classes import Classes
from webapp.components.copy_link import copy_link
from webapp.components.how import how
from webapp.export import data_url
from webapp.glossary import GLOSSARY
from webapp.inference import GeneratorKey, load
from webapp.page import Scene
from webapp.views import architecture

KEY = "how.page"
PLAYERS, EPOCHS, STEP, COURT, CURVES, FAILURES, NETWORKS, WORDS = range(1, 9)
"""The parts of the story."""
MAX_EPOCH = 10**6
GOOD_SEED = 772
"""As on the page Explore."""
IMAGES = Path(__file__).resolve().parent.with_name("failures")


@dataclass(frozen=True, kw_only=True)
class HowView(View):
    """A part of the story, and the picture that it is told with."""

    kind = "how"

    part: int = PLAYERS
    digit: int | None = None
    """None: 7, or the first class of a run without a 7."""
    seed: int = GOOD_SEED
    epoch: int | None = None
    """Epoch whose forger is judged; None: the last one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("part", self.part, PLAYERS, WORDS)
        check_range("seed", self.seed, 0, MAX_SEED)
        if self.digit is not None:
            check_range("digit", self.digit, 0, MAX_CLASS)
        if self.epoch is not None:
            check_range("epoch", self.epoch, 0, MAX_EPOCH)


@st.fragment
@notices.guarded
def show(scene: Scene[HowView]) -> None:
    """Draw the page; a fragment, so that a step of the story draws nothing else."""
    classes = catalog.classes(scene.entry.key)
    state = st.session_state.get(KEY)
    view = _reported(scene, state.get("view") if state else None) or scene.view
    view = dataclasses.replace(view, digit=_digit(view.digit, classes))
    with st.container(horizontal=True, vertical_alignment="center", key="actions"):
        st.title("How it works")
        copy_link(address.relative_url(view), key="how.link")
    if scene.view.digit is not None and scene.view.digit != _digit(scene.view.digit, classes):
        st.warning(f"The networks of this run do not know class {scene.view.digit}. Another one is shown instead.")
    if not catalog.generators(scene.entry.key):
        st.caption(f"{wording.state(scene.entry)}. It has no generator yet, so it cannot draw.")
    how(_data(scene, view, classes), key=KEY)
    if view.part == NETWORKS:
        architecture.show(scene.entry)
    address.publish(view)


def _digit(digit: int | None, classes: Classes) -> int | None:
    if digit in classes.labels:
        return digit
    return min(7, classes.number - 1) if classes.number else None


def _reported(scene: Scene[HowView], report: object) -> HowView | None:
    """Return the view that the browser reported; None without a report of this version or for one that is invalid."""
    if not isinstance(report, Mapping) or report.get("version") != scene.version:
        return None
    text = report.get("text")
    if not isinstance(text, str) or len(text) > MAX_LINK:
        return None
    try:
        view = from_pairs(HowView, parse_qsl(text, keep_blank_values=True, max_num_fields=50))
    except ValueError:
        return None
    return dataclasses.replace(view, run=scene.view.run, step=None, g="")


def _data(scene: Scene[HowView], view: HowView, classes: Classes) -> dict[str, Any]:
    """Return what the component needs of any part, and the content of the part that is shown."""
    record = catalog.run_record(scene.entry.key)
    return {
        "version": scene.version,
        "scripts": delivery.scripts_url(),
        "scope": {"run": scene.entry.key},
        "view": {"part": view.part, "digit": view.digit, "seed": view.seed, "epoch": view.epoch},
        "run": scene.entry.name,
        "things": classes.things,
        "thing": classes.things.removesuffix("s"),
        "classes": [{"name": classes.name(label), "one": classes.one(label)} for label in classes.labels],
        "batch": record.config.get("batch_size"),
        "steps": record.total_steps,
        "steps_per_epoch": record.steps_per_epoch,
        "glossary": GLOSSARY,
        "content": _content(scene, view, classes),
    }


def _content(scene: Scene[HowView], view: HowView, classes: Classes) -> dict[str, Any]:
    """Return the content of one part, with the values of the view that it depends on."""
    own: dict[str, Any] = {"part": view.part, "digit": view.digit, "seed": view.seed}
    entry = scene.entry
    if view.part == EPOCHS:
        return own | {"epochs": story.epoch_rows(entry), "rows": len(classes.labels), "column": story.COLUMN}
    if view.part == CURVES:
        return own | {"curves": story.curves(entry), "means": _means(scene)}
    if view.part == FAILURES:
        return own | {"failures": [_failure(failure) for failure in FAILED]}
    if view.part not in (PLAYERS, STEP, COURT):
        return own
    judge = story.judge_of(entry.key)
    drawer = judge or next(reversed(catalog.generators(entry.key)), None)
    if drawer is None:
        return own | {"missing": NO_GENERATOR}
    if view.part != PLAYERS and judge is None:
        return own | {"missing": NO_DETECTIVE}
    try:
        loaded = load(GeneratorKey(entry.key, drawer.step, drawer.sha256))
        own |= {"size": list(loaded.config.image_shape), "epoch": drawer.epoch, "step": drawer.step}
        which = (entry.key, drawer.step, drawer.sha256, view.digit, view.seed)
        if view.part == PLAYERS:
            return own | story.picture(*which)
        found = story.slow_motion(*which) if view.part == STEP else story.courtroom(entry.key, drawer, *which[3:])
    except (DamagedError, GeneratorFileError):
        return own | {"missing": DAMAGED}
    return own | (found or {"missing": NO_REALS})


NO_GENERATOR = "This part needs a generator. Choose another run to see it now."
DAMAGED = "The generator of this run is damaged, so this part cannot be shown."
NO_DETECTIVE = (
    "The detective of this run is not stored: a run keeps those of its newest checkpoints, and of the shipped runs "
    "only forge has one. Choose forge, or a run of your own, to see this part."
)
NO_REALS = "The training images of this run are not on this server, so there is nothing to compare with."


def _means(scene: Scene[HowView]) -> dict[str, Any]:
    """Return how often D was right, on average over the last epoch that was trained, and both losses."""
    epochs = [epoch for epoch in catalog.epochs(scene.entry.key) if epoch > 0]
    last = catalog.readable(catalog.epoch_metrics, scene.entry, epochs[-1:])
    if not last:
        return {}
    [summary] = last.values()
    return {
        "epoch": summary.epoch,
        **{name: getattr(summary, name) for name in ("d_acc_real", "d_acc_fake", "d_loss", "g_loss")},
    }


@dataclass(frozen=True)
class Failure:
    """A training that failed, which anybody can repeat."""

    title: str
    words: str
    file: str
    """Its last sample grid, in `IMAGES`."""
    command: str
    scores: Mapping[str, float]
    """Name in `SCORES` -> value after the last epoch."""
    d_accuracy: float
    """How often D was right in the last epoch: the mean over real and generated pictures."""


FAILED: tuple[Failure, ...] = ()
"""Real trainings with other settings than those of the recipes. Only the sample grids and these numbers are kept."""


def _failure(failure: Failure) -> dict[str, Any]:
    shown = [f"{SCORES[name].heading} {SCORES[name].show(value)}" for name, value in failure.scores.items()]
    return {
        "title": failure.title,
        "words": failure.words,
        "png": data_url((IMAGES / failure.file).read_bytes()),
        "numbers": [f"The detective is right {failure.d_accuracy:.0%} of the time", *shown],
        "command": failure.command,
    }
