"""How it works: what a GAN is, told in eight parts with the pictures and the numbers of a run."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from models.generator_file import GeneratorFileError
from models.sampling import MAX_SEED
from models.scores import SCORES
from models.view_link import MAX_CLASS, View, check_range
from trainer.run_store import DamagedError
from webapp import address, catalog, delivery, drawing, notices, story, wording
from webapp.classes import Classes
from webapp.components.copy_link import copy_link
from webapp.components.how import how
from webapp.export import data_url
from webapp.glossary import GLOSSARY
from webapp.inference import GeneratorKey, load
from webapp.look import STORED
from webapp.page import Scene
from webapp.views import architecture
from webapp.views.explore import GOOD_SEED

KEY = "how.page"
PLAYERS, EPOCHS, STEP, COURT, CURVES, FAILURES, NETWORKS, WORDS = range(1, 9)
"""The parts of the story."""
MAX_EPOCH = 10**6
IMAGES = Path(__file__).resolve().parent.with_name("failures")
NO_GENERATOR = "This part needs a generator. Choose another run to see it now."
DAMAGED = "The generator of this run is damaged, so this part cannot be shown."
NO_DETECTIVE = (
    f"The detective of this run is not stored. {STORED} Choose forge, or a run of your own, to see this part."
)
NO_REALS = "The training images of this run are not on this server, so there is nothing to compare with."


@dataclass(frozen=True, kw_only=True)
class HowView(View):
    """A part of the story, and the picture that it is told with."""

    kind = "how"

    part: int = PLAYERS
    digit: int | None = None
    """None: 7, or the last class of a run without a 7."""
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
    address.publish(view)
    with st.container(horizontal=True, vertical_alignment="center", key="actions"):
        st.title("How it works")
        copy_link(address.relative_url(view), key="how.link")
    if scene.view.digit is not None and scene.view.digit != _digit(scene.view.digit, classes):
        st.warning(f"The networks of this run do not know class {scene.view.digit}. Another one is shown instead.")
    if not catalog.generators(scene.entry.key):
        st.caption(f"{wording.state(scene.entry)}. It has no generator yet, so it cannot draw.")
    data = _data(scene, view, classes)
    epochs = [each["epoch"] for each in data["content"].get("epochs", ()) if view.part == COURT]
    if epochs and scene.view.epoch is not None and scene.view.epoch not in epochs:
        st.warning(f"No forger of epoch {scene.view.epoch} is judged here. Shown instead: {epochs[-1]}, the last one.")
    how(data, key=KEY)
    if view.part == NETWORKS:
        architecture.show(scene.entry)


def _digit(digit: int | None, classes: Classes) -> int | None:
    if digit in classes.labels:
        return digit
    return min(7, classes.number - 1) if classes.number else None


def _reported(scene: Scene[HowView], report: object) -> HowView | None:
    """Return the view that the browser reported; see `drawing.read_report`."""
    view = drawing.read_report(HowView, scene.version, report)
    return view and dataclasses.replace(view, run=scene.view.run, step=None, g="")


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
        return own | {"failures": _failures(scene)}
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
    options: str
    """What follows `python -m trainer` in its command."""
    d_accuracy: float
    """How often D was right in the last epoch: the mean over real and generated pictures."""
    losses: tuple[float, float]
    """Mean losses of D and G in the last epoch."""
    scores: Mapping[str, float]
    """Scores after the last epoch, by their names in `SCORES`."""


FAILED = (
    Failure(
        "Collapse: one picture for each digit",
        "The forger learns ten times as fast as the detective, which sees each picture alone and so cannot notice that "
        "all are alike. The forger has found one picture of each digit that passes, and draws it whatever the random "
        "numbers are. The curves look healthy. The recall shows the fault: hardly any real digit could come from this "
        "forger.",
        "collapsed.png",
        "quick --workers 1 --name collapsed --epochs 3 --steps-per-epoch 50 --batch-size 32 --loss bce --gamma 0 "
        "--lr-warmup 0 --ema 0 --g-lr 1e-2 --d-lr 1e-3 --d-class-weight 0 --g-class-weight 0 --model.no-classifier "
        "--model.std-group 0 --metrics-every 3",
        0.56,
        (0.68, 0.84),
        {"label_accuracy": 0.6707, "recall": 0.006},
    ),
    Failure(
        "Divergence: both networks overshoot",
        "Both learn ten times too fast, and nothing keeps the detective's gradients small. Each move overshoots, so "
        "the other one has nothing useful to learn from it. The losses grow, and the pictures are patterns. Repeating "
        "it gives other patterns, because such a training amplifies the last bit of each number.",
        "diverged.png",
        "quick --workers 1 --name diverged --epochs 8 --steps-per-epoch 50 --batch-size 32 --loss bce --gamma 0 "
        "--lr-warmup 0 --ema 0 --g-lr 2e-2 --d-lr 2e-2 --metrics-every 8",
        0.63,
        (166.7, 391.3),
        {"label_accuracy": 0.1223, "recall": 0.0},
    ),
)
"""Real trainings of `quick` with other settings; their last sample grids and these numbers are kept.

They were trained on 2026-11-29, on two cores of an AMD EPYC.
"""


def _failures(scene: Scene[HowView]) -> list[dict[str, Any]]:
    """Return the trainings that failed, after the newest epoch of the run for comparison."""
    entry = scene.entry
    shown = []
    for epoch, summary in catalog.readable(catalog.epoch_metrics, entry, catalog.epochs(entry.key)[-1:]).items():
        right = _mean(summary.d_acc_real, summary.d_acc_fake)
        shown.append(
            {
                "title": f"For comparison: {entry.name}, epoch {epoch}",
                "words": "",
                "png": catalog.sample_url(entry, epoch),
                "numbers": _numbers(right, (summary.d_loss, summary.g_loss), summary.scores or {}),
                "command": "",
            }
        )
    for failure in FAILED:
        shown.append(
            {
                "title": failure.title,
                "words": failure.words,
                "png": data_url((IMAGES / failure.file).read_bytes()),
                "numbers": _numbers(failure.d_accuracy, failure.losses, failure.scores),
                "command": f"python -m trainer {failure.options}",
            }
        )
    return shown


def _mean(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2


def _short(loss: float) -> str:
    return f"{loss:.2f}" if abs(loss) < 10 else f"{loss:,.0f}"


def _numbers(
    right: float | None, losses: tuple[float | None, float | None], scores: Mapping[str, float | None]
) -> list[str]:
    """Return what the curves and the scores of an epoch say, in lines; those that are not known are left out."""
    lines = [] if right is None else [f"The detective is right {right:.0%} of the time"]
    d_loss, g_loss = losses
    if d_loss is not None and g_loss is not None:
        lines.append(f"Losses: detective {_short(d_loss)}, forger {_short(g_loss)}")
    for name in ("label_accuracy", "recall"):
        if (value := scores.get(name)) is not None:
            lines.append(f"{SCORES[name].heading}: {SCORES[name].show(value)}")
    return lines
