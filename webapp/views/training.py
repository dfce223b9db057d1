"""Training: what a generator drew after each epoch of its training, how good that was, and the curves; live."""

import dataclasses
import functools
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import streamlit as st
from PIL import Image

from models.config import ModelConfig
from models.sampling import MAX_SEED
from models.scores import SCORES
from models.trace import sizes
from models.view_link import G_LENGTH, Stops, View, ViewError, check_range, encode
from models.views import ExploreView, GenerateView, InterpolateView, read_link
from trainer.run_store import DamagedError, EpochSummary, Progress, RunStoreError
from webapp import address, catalog, delivery, diagnosis, drawing, export, notices, wording
from webapp.catalog import RunEntry
from webapp.classes import Classes
from webapp.components.copy_link import copy_link
from webapp.components.training import training
from webapp.page import Scene

KEY = "training.page"
POLL_SECONDS = 2
STAGE_WIDTH, STAGE_HEIGHT = 560, 900
"""Approximate size of the grid on a large screen, in pixels: 560 is twice the width of a 28x28 grid."""
TIMELAPSE_MILLISECONDS = 250
MAX_EPOCH = 10**6

EPOCH_COUNT = 2000
"""Number of pictures that a training scores at the end of an epoch, if there are as many test images."""
EPOCH_SCORES = (
    *("label_accuracy", "fid", "precision", "recall", "density", "coverage", "diversity"),
    *("nearest_1st_percentile", "black", "haze", "lone_pixels", "centring"),
)
"""Scores that a training computes at the end of an epoch."""


@dataclass(frozen=True, kw_only=True)
class TrainingView(View):
    """One epoch of a run, and a picture of the visitor's own as the generator of that epoch draws it."""

    kind = "training"
    names_epoch = True

    epoch: int | None = None
    """None: the newest."""
    mine: Stops = ()
    """The visitor's own picture, as one digit and seed."""
    link: str = ""
    """The visitor's own picture, as the text of a view, for those that one digit and seed do not describe."""

    def pinned(self, generators: Mapping[int, str]) -> "TrainingView":
        """Return the view with the generator of its epoch, from the SHA-256 of each; without one if it follows."""
        g = "" if self.epoch is None else generators.get(self.epoch, "")[:G_LENGTH]
        return dataclasses.replace(self, g=g)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epoch is not None:
            check_range("epoch", self.epoch, 0, MAX_EPOCH)
        if len(self.mine) > 1:
            raise ViewError("mine", f"must be one picture, such as 7.5: got {len(self.mine)}")
        for _, seed in self.mine:
            check_range("mine", seed, 0, MAX_SEED)
        if self.link:
            pasted(self.link)


def pasted(link: str) -> ExploreView:
    """Return the first picture of a link, as the hero of an Explore view. Raises `ViewError` for what is no link."""
    view = read_link(link).view
    if isinstance(view, ExploreView):
        digit = view.digits[0] if view.digit is None and view.digits else view.digit
        seed = view.seed
    elif isinstance(view, InterpolateView):
        digit, seed = view.from_digit, view.from_seed
    elif isinstance(view, GenerateView):
        digit, seed = view.digits[0] if view.digits else None, view.seed
    else:
        raise ViewError("link", "must be the link of a picture, such as generate?digits=7")
    hero = ExploreView(
        digit=digit,
        digits=None if digit is None else (digit,),
        count=1,
        seed=seed,
        slant=view.slant,
        thickness=view.thickness,
        width=view.width,
        writer=view.writer,
    )
    if isinstance(view, GenerateView):
        hero = dataclasses.replace(hero, truncation=view.truncation)
    if isinstance(view, ExploreView):
        hero = dataclasses.replace(hero, corners=view.corners, x=view.x, y=view.y)
    return hero


def show(scene: Scene[TrainingView]) -> None:
    """Draw the page, and again every few seconds while the run trains."""
    progress = scene.entry.progress
    moves = progress.is_live or progress.is_stale  # the page says how long a run has been silent
    st.fragment(_show, run_every=POLL_SECONDS if moves else None)(scene, progress.is_live)


@notices.guarded
def _show(scene: Scene[TrainingView], was_live: bool) -> None:
    entry = catalog.list_runs().find(scene.entry.key)
    if entry is None or entry.progress.is_live != was_live:
        st.rerun()
    scene = dataclasses.replace(scene, entry=entry)
    _header(entry)
    epochs = catalog.epochs(entry.key)
    if scene.view.epoch is not None and epochs and scene.view.epoch not in epochs:
        st.warning(f"This run has no epoch {scene.view.epoch}. Shown instead: {epochs[-1]}, the newest.")
    summaries = catalog.readable(catalog.epoch_metrics, entry, epochs)
    if damaged := [epoch for epoch in epochs if epoch not in summaries]:
        st.warning(f"The summary of {wording.epochs(damaged)} is damaged, so its step and its scores are missing here.")
    for finding in diagnosis.findings(list(summaries.values())):
        st.warning(finding, icon=":material/monitor_heart:")
    actions = st.container(horizontal=True, key="actions")
    charts = _charts(entry, epochs, summaries)
    if not epochs:
        st.caption("The first sample grid will appear here.")
    shown = _epochs(scene, epochs, summaries, charts)
    with actions:
        _actions(entry, epochs, shown)
    address.publish(shown)
    _evaluation(entry)


def _header(entry: RunEntry) -> None:
    progress = entry.progress
    st.title(wording.state(entry))
    if entry.problem:
        return
    if progress.is_stale:
        st.warning(
            f"This run has not reported for {wording.duration(progress.age or 0)}. It may have been killed. "
            "When it reports again, this page shows it."
        )
    if progress.phase == "failed":
        st.error("The run failed.")
        if progress.message:
            st.code(catalog.without_paths(progress.message), language=None, wrap_lines=True)
    notices.resume_command(entry)
    if progress.phase != "finished":
        st.progress(progress.share)
    with st.container(horizontal=True, key="figures", gap="large"):
        for label, value in _figures(progress):
            st.metric(label, value, width="content")


def _figures(progress: Progress) -> list[tuple[str, str]]:
    speed, eta = progress.images_per_second, progress.eta
    rows = [
        ("Epoch", f"{progress.epoch} of {progress.epochs}" if progress.epochs else ""),
        ("Step", f"{progress.step:,} of {progress.total_steps:,}" if progress.total_steps else ""),
        ("Images seen", wording.count(progress.nimg) if progress.nimg else ""),
        ("Images per second", f"{speed:,.0f}" if speed and progress.is_live else ""),
        ("Time left", wording.duration(eta) if eta and progress.is_live else ""),
        ("Workers", str(progress.world_size) if progress.world_size else ""),
    ]
    return [(label, value) for label, value in rows if value]


# --- The epochs


def _epochs(
    scene: Scene[TrainingView], epochs: list[int], summaries: Mapping[int, EpochSummary], charts: list[dict[str, Any]]
) -> TrainingView:
    """Draw the component with everything that depends on the epoch; return what it shows."""
    entry, classes = scene.entry, catalog.classes(scene.entry.key)
    state = st.session_state.get(KEY)
    view, problem, answers = _reported(scene, state.get("view") if state else None)
    generators = _generators(entry, epochs, summaries)
    config = _config(entry)
    index = epochs.index(scene.view.epoch) if scene.view.epoch in epochs else None
    data = {
        "version": f"{entry.key} {scene.version}",
        "scripts": delivery.scripts_url(),
        "plotly": delivery.plotly_url(),
        "run": entry.key,
        "is_live": entry.progress.is_live,
        "epochs": [_epoch(entry, epoch, summaries.get(epoch), generators.get(epoch, {}), config) for epoch in epochs],
        "index": index,
        "interval": TIMELAPSE_MILLISECONDS,
        "stage": _stage(entry, epochs),
        "rows": [classes.name(label) for label in classes.labels],
        "words": _words(entry, classes, epochs),
        "scores": _scores(entry, classes, list(summaries.values())),
        "charts": charts,
        "picture": _picture(view, classes),
        "problem": problem,
        "answers": answers,
        "weights": _weights_size(config, len({each["sha256"] for each in generators.values()})),
        "size": [config.image_shape[1], config.image_shape[2], config.image_shape[0]] if config else [28, 28, 1],
        "classes": [classes.picture(label) for label in classes.labels],
        "thing": classes.picture(None),
        "noun": classes.noun,
    }
    shown, _, _ = _reported(scene, training(data, key=KEY))
    return dataclasses.replace(shown, epoch=_epoch_to_link(entry, shown.epoch, epochs)).pinned(
        catalog.epoch_generators(entry)
    )


def _actions(entry: RunEntry, epochs: Sequence[int], view: TrainingView) -> None:
    """Draw the buttons that take the page elsewhere. A link always names its epoch."""
    pinned = view
    if view.epoch is None and epochs:
        pinned = dataclasses.replace(view, epoch=epochs[-1]).pinned(catalog.epoch_generators(entry))
    copy_link(address.relative_url(pinned), key="training.link")
    st.download_button(
        "Time-lapse",
        data=lambda: export.timelapse(
            list(catalog.readable(catalog.samples, entry, epochs).values()), TIMELAPSE_MILLISECONDS
        ),
        file_name=f"{entry.name}.gif",
        mime="image/gif",
        icon=":material/download:",
        on_click="ignore",
        key="training.gif",
        help="The grids of all epochs as one GIF",
        disabled=len(epochs) < 2,
    )


def _reported(scene: Scene[TrainingView], report: object) -> tuple[TrainingView, str, int]:
    """Return the view that the browser reported, a problem with the link that it sent, and the report's number.

    Without a report of this version, or for one that is invalid, the view is that of the scene. A report comes from
    outside, so it may hold anything.
    """
    found = drawing.read_report(TrainingView, f"{scene.entry.key} {scene.version}", report)
    if found is None or not isinstance(report, Mapping):
        return scene.view, "", 0
    link, number = report.get("pasted", ""), report.get("number", 0)
    if not isinstance(link, str) or type(number) is not int:
        return scene.view, "", 0
    view = dataclasses.replace(found, run=scene.view.run, step=None, g="")
    if not link:
        return view, "", number
    try:
        hero = pasted(link)
        if hero == pasted(encode(ExploreView(digit=hero.digit, digits=hero.digits, count=1, seed=hero.seed))):
            return dataclasses.replace(view, mine=((hero.digit, hero.seed),), link=""), "", number
        return dataclasses.replace(view, mine=(), link=encode(hero)), "", number
    except ViewError as error:
        return view, f"This link cannot be used. {error.parameter}: {error.problem}.", number


def _epoch_to_link(entry: RunEntry, epoch: int | None, epochs: Sequence[int]) -> int | None:
    """Return the epoch for the address: None while following a run, so that the page keeps following.

    A run that has not reported for long is followed too, because it may be resumed.
    """
    if epoch in epochs or not epochs:
        return epoch
    return None if entry.progress.is_live or entry.progress.is_stale else epochs[-1]


def _epoch(
    entry: RunEntry, epoch: int, summary: EpochSummary | None, generator: Mapping[str, Any], config: ModelConfig | None
) -> dict[str, Any]:
    """Return an epoch for the component: its words, the URL of its grid, its scores, and its generator."""
    when = "before training" if epoch == 0 else f"step {summary.step:,}" if summary else "step not known"
    label = f"Epoch {epoch} - {when}"
    scores, real = (summary.scores or {}, summary.floor or {}) if summary else ({}, {})
    weights = (
        delivery.weights_url(generator["sha256"]) if generator and config and drawing.drawn_in_browser(config) else ""
    )
    return {
        "epoch": epoch,
        "label": label,
        "alt": f"Sample grid of {entry.name}, {label.lower()}",
        "url": catalog.sample_url(entry, epoch),
        "scores": _shown(scores),
        "real": _shown(real),
        "count": (summary.count or EPOCH_COUNT) if summary and scores else 0,
        "weights": weights,
        "scope": generator.get("scope"),
    }


def _shown(scores: Mapping[str, object]) -> dict[str, str]:
    """Return scores as tables show them, without those that are no number."""
    known = {name: scores.get(name) for name in SCORES}
    return {name: SCORES[name].show(value) for name, value in known.items() if isinstance(value, int | float)}


def _generators(
    entry: RunEntry, epochs: Sequence[int], summaries: Mapping[int, EpochSummary]
) -> dict[int, dict[str, Any]]:
    """Return the hash and the place of the generator of each epoch that still has one."""
    try:
        held = {each.step: each.sha256 for each in catalog.generators(entry.key)}
    except RunStoreError:
        return {}
    found: dict[int, dict[str, Any]] = {}
    for epoch in epochs:
        step = summaries[epoch].step if epoch in summaries else None
        if step in held:
            scope = {"run": entry.key, "step": step, "g": held[step][:G_LENGTH]}
            found[epoch] = {"sha256": held[step], "scope": scope}
    return found


def _config(entry: RunEntry) -> ModelConfig | None:
    """Return the config of a run's networks; None if run.json has no valid one."""
    model = catalog.run_record(entry.key).config.get("model")
    with suppress(ValueError):
        return ModelConfig.from_dict(model if isinstance(model, dict) else {})
    return None


def _weights_size(config: ModelConfig | None, number: int) -> str:
    """Return the size of all generators in words, such as `20 MB`; empty if the browser does not load them."""
    if config is None or not drawing.drawn_in_browser(config):
        return ""
    (parameters, _), _ = _sizes(config)  # of 32 bits each
    return f"{max(4 * parameters * number / 1e6, 0.1):.2g} MB"


@functools.cache
def _sizes(config: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    return sizes(config)


def _picture(view: TrainingView, classes: Classes) -> dict[str, Any] | None:
    """Return the visitor's own picture: where it lies in the plane between four seeds, and what the link says of it."""
    if view.link:
        hero, own = pasted(view.link), {"link": view.link}
    elif view.mine:
        ((digit, seed),) = view.mine
        hero = ExploreView(digit=digit, seed=seed, count=1)
        own = {"mine": f"{seed}" if digit is None else f"{digit}.{seed}"}
    else:
        return None
    if classes.number and (hero.digit is None or hero.digit >= classes.number):
        hero = dataclasses.replace(hero, digit=0, digits=None)
    if not classes.number:
        hero = dataclasses.replace(hero, digit=None, digits=None)
    corners = hero.corners or tuple((hero.seed + k) % (MAX_SEED + 1) for k in range(4))
    place = {"digit": hero.digit, "corners": corners, "x": hero.x, "y": hero.y}
    return {"plane": place, "truncation": hero.truncation, "asked": hero.asked, "seed": corners[0], "own": own}


def _stage(entry: RunEntry, epochs: Sequence[int]) -> list[int]:
    """Return the size of a grid, and its width on the page: a whole multiple, so that all pixels get the same size."""
    for epoch in reversed(epochs):
        with suppress(DamagedError):
            width, height = Image.open(io.BytesIO(catalog.samples(entry.key, entry.started, epoch))).size
            return [width, height, max(min(round(STAGE_WIDTH / width), STAGE_HEIGHT // height), 1) * width]
    return [STAGE_WIDTH // 2, STAGE_WIDTH // 2, STAGE_WIDTH]


def _words(entry: RunEntry, classes: Classes, epochs: Sequence[int]) -> str:
    """Describe the grid and the slider."""
    text = (
        "After each epoch, the generator draws from the same random numbers, so every change comes from what it has "
        f"learned. {f'Each row is one {classes.noun}, each column one seed. ' if classes.number else ''}"
    )
    if len(epochs) > 1:
        return f"{text}Drag the slider or press Play. Point at a curve to see that epoch; click to go there."
    if entry.progress.is_live:
        return "The first epoch has not ended yet. Epoch 0 is the generator before training: it draws noise."
    return "This run stopped within its first epoch. Explore shows what it had learned by then." if epochs else ""


# --- Scores


def _scores(entry: RunEntry, classes: Classes, summaries: Sequence[EpochSummary]) -> dict[str, Any]:
    """Return the rows of the table of scores, and what is said about it.

    A run that will have scores has its rows from its start, so that nothing moves when they come.
    """
    known = {name for each in summaries for name, value in (each.scores or {}).items() if value is not None}
    names = [name for name in SCORES if name in known or (not known and name in _expected_scores(entry))]
    return {
        "rows": [
            {"name": name, "title": SCORES[name].heading, "better": SCORES[name].better, "help": SCORES[name].help}
            for name in names
        ],
        "things": classes.things,
        "is_expected": not known,
    }


def _expected_scores(entry: RunEntry) -> tuple[str, ...]:
    """Return the scores that a run in training will have at the end of an epoch."""
    every, classes = catalog.run_record(entry.key).config.get("metrics_every", 1), catalog.classes(entry.key)
    if not entry.progress.is_live or every == 0 or classes.noun != "digit":
        return ()
    return EPOCH_SCORES if classes.number else EPOCH_SCORES[1:]  # without classes there is no accuracy


def _evaluation(entry: RunEntry) -> None:
    """Say that a larger evaluation of the newest checkpoint exists, and show it, if there is one."""
    checkpoints = catalog.generators(entry.key)
    found = catalog.evaluation(entry.key, checkpoints[-1].step) if checkpoints else None
    if not found:
        return
    generated, reals, things = found.generated, found.floor, catalog.classes(entry.key).things
    if memory := diagnosis.memorized(generated, reals):
        st.warning(memory, icon=":material/monitor_heart:")
    rows, meanings = [], []
    for name, score in SCORES.items():
        value, real = generated.get(name), reals.get(name)
        if isinstance(value, int | float) and isinstance(real, int | float):
            title = score.heading
            rows.append(f"| {title} | {score.show(value)} | {score.show(real)} |")
            meanings.append(f"- **{title}**: {score.help}")
    checkpoint = wording.checkpoint(checkpoints[-1])
    with st.expander(f"A larger evaluation of {checkpoint.lower()}, with {found.count:,} {things}"):
        # Markdown, because the browser would load 40 kB more for a table of Streamlit's.
        st.markdown("\n".join(["| Score | Generated | Real |", "|---|---:|---:|", *rows]))
        st.caption(
            f"Scores of {found.count:,} generated and as many real {things}, by `python -m trainer evaluate`. Some, "
            f"such as FID, depend on the number of {things}, so do not compare these with those above."
        )
        st.markdown("\n".join(meanings))


# --- Charts


def _charts(entry: RunEntry, epochs: Sequence[int], summaries: Mapping[int, EpochSummary]) -> list[dict[str, Any]]:
    """Return the charts of the steps, and below them those of the scores, which come later."""
    known_curves = catalog.curves(entry, epochs)
    if damaged := [epoch for epoch in epochs if epoch > 0 and epoch not in known_curves]:
        st.warning(f"The record of the steps of {wording.epochs(damaged)} is damaged, so the curves have a gap.")
    curves = list(known_curves.values())
    from webapp import charts  # late: Plotly is large, and only two pages need it

    found = []
    if any(curve.get("step") for curve in curves):
        steps = max(catalog.run_record(entry.key).steps_per_epoch, 1)
        for name, chart in charts.CURVES.items():
            found.append(charts.for_browser(name, chart, entry.name, chart.draw(curves, steps)))
    else:
        live = entry.progress.is_live
        st.caption("Curves appear with the first steps of training." if live else "This run has recorded no curves.")
    scored = [summary for summary in summaries.values() if summary.scores]
    known = {name for summary in scored for name, score in (summary.scores or {}).items() if score is not None}
    for name, chart in charts.QUALITY.items() if scored else ():
        if name == "neighbours" or name in known:  # without classes there is no accuracy
            found.append(charts.for_browser(name, chart, entry.name, chart.draw(scored)))
    return found
