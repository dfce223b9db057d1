"""Compare: two generators draw the same latents, with their scores and their curves beside each other."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from models.generator_file import GeneratorFileError
from models.scores import SCORES
from models.view_link import G_LENGTH, View, ViewError, pairs
from models.views import check_grid, check_truncation
from trainer.run_store import DamagedError, EpochSummary, RunStoreError, StoredGenerator
from webapp import address, catalog, delivery, drawing, inference, notices, wording
from webapp.catalog import Listing, RunEntry
from webapp.classes import Classes, plain
from webapp.components.compare import compare
from webapp.components.copy_link import copy_link
from webapp.page import DrawingScene

KEY = "compare.page"
MAX_COUNT = 10


@dataclass(frozen=True, kw_only=True)
class CompareView(View):
    """The same latents, drawn by the generator of `View` and by another."""

    kind = "compare"

    other_run: str = ""
    """Key of the run of the other generator; empty: the app chooses one."""
    other_step: int | None = None
    other_g: str = ""
    digits: tuple[int, ...] | None = None
    """Classes to draw, ascending; None: all."""
    count: int = 6
    """Pictures of each digit."""
    seed: int = 0
    truncation: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            _ = self.other
        except ViewError as error:
            raise ViewError(f"other_{error.parameter}", error.problem) from error
        check_grid(self.digits, self.count, self.seed, MAX_COUNT)
        check_truncation(self.truncation)

    @property
    def other(self) -> View:
        """The other generator."""
        return View(run=self.other_run, step=self.other_step, g=self.other_g)

    def against(self, run: str, stored: StoredGenerator) -> "CompareView":
        """Return the view with this generator as the other one."""
        return dataclasses.replace(self, other_run=run, other_step=stored.step, other_g=stored.sha256[:G_LENGTH])


@dataclass(frozen=True)
class _Side:
    """One of the two generators."""

    entry: RunEntry
    stored: StoredGenerator
    classes: Classes
    data: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.entry.name}, {wording.checkpoint(self.stored).lower()}"


@notices.guarded
def show(scene: DrawingScene[CompareView]) -> None:
    """Draw the page."""
    st.title("Two generators, the same seeds")
    st.write(
        "Both draw from the same random numbers, so every difference comes from the generators. Choose the first one "
        "above and the second one here: another epoch of the same training, or another training."
    )
    listing = catalog.list_runs()
    entry, stored = _other(scene, listing)
    view = scene.view
    if entry is None:
        st.warning("The second generator of this link is not in any run that this app can see. Choose another.")
        entry = scene.entry
    _choose_other(scene, listing, entry, stored)
    if stored is None:
        st.caption(f"{plain(entry.name)} has no generator yet.")
        address.publish(view)
        return
    view = view.against(entry.key, stored)
    try:
        left = _side(scene.entry, scene.checkpoint)
        right = _side(entry, stored)
    except (DamagedError, GeneratorFileError, inference.GeneratorGoneError):
        st.error("The file of the second generator is damaged or was removed. Choose another.")
        address.publish(view)
        return
    labels = min((each.classes.labels for each in (left, right) if each.classes.number), key=len, default=())
    view = _fitting(view, labels)
    names, matched = _matched([each.classes for each in (left, right) if each.classes.number], labels)
    data = {
        "version": scene.version,
        "scripts": delivery.scripts_url(),
        "plotly": delivery.plotly_url(),
        "sides": [left.data | {"title": left.title}, right.data | {"title": right.title}],
        "classes": names,
        "noun": "digit" if {left.classes.noun, right.classes.noun} == {"digit"} else "class",
        "matched": matched,
        "view": {name: getattr(view, name) for name in ("digits", "count", "seed", "truncation")},
        "scores": _scores([left, right]),
        "charts": _charts([left, right]),
    }
    shown = _reported(scene, view, compare(data, key=KEY), labels)
    if scene.entry.key == entry.key:
        st.caption("Both are of the same run. Its curves, with a slider over all epochs, are on Training.")
    with st.container(horizontal=True, key="actions"):
        copy_link(address.relative_url(shown), key="compare.link")
    address.publish(shown)


def _other(scene: DrawingScene[CompareView], listing: Listing) -> tuple[RunEntry | None, StoredGenerator | None]:
    """Return the other generator and its run: that of the view, or else an early epoch of the same run.

    The run is None if the view names a generator that was not found.
    """
    if scene.view.other_g or scene.view.other_run:
        found = catalog.locate(scene.view.other, listing)
        return (found.entry if found.stored or not scene.view.other_g else None), found.stored
    listed = catalog.generators(scene.entry.key)
    others = [each for each in listed if each.sha256 != scene.checkpoint.sha256]
    early = next((each for each in others if each.epoch >= 1), next(iter(others), None))
    if early:
        return scene.entry, early
    for entry in listing.runs:
        if entry.key != scene.entry.key and (generators := catalog.generators(entry.key)):
            return entry, generators[-1]
    return scene.entry, scene.checkpoint


def _choose_other(
    scene: DrawingScene[CompareView], listing: Listing, entry: RunEntry, stored: StoredGenerator | None
) -> None:
    """Draw the choice of the second run and generator."""
    generators = catalog.generators(entry.key)
    by_step = {each.step: each for each in reversed(generators)}
    if stored:  # an archived one is not in the list
        by_step[stored.step] = stored
    names = {run.key: wording.run_name(run) for run in listing.runs}
    steps = {step: wording.checkpoint(by_step[step]) for step in sorted(by_step, reverse=True)}

    def choose_run() -> None:
        key = st.session_state["against.run"]
        held = catalog.generators(key)
        if held:
            address.publish(scene.view.against(key, held[-1]))
        else:
            address.publish(dataclasses.replace(scene.view, other_run=key, other_step=None, other_g=""))

    def choose_step() -> None:
        address.publish(scene.view.against(entry.key, by_step[st.session_state["against.step"]]))

    st.session_state["against.run"] = entry.key
    st.session_state["against.step"] = stored.step if stored else None
    with st.container(horizontal=True, key="against"):
        st.selectbox(
            "Second run",
            list(names),
            format_func=lambda key: names.get(key, key),
            key="against.run",
            on_change=choose_run,
            width=210,
        )
        if steps:
            st.selectbox(
                "Second checkpoint",
                list(steps),
                format_func=lambda step: steps.get(step, str(step)),
                key="against.step",
                on_change=choose_step,
                placeholder="Choose one",
                width=210,
            )


def _side(entry: RunEntry, stored: StoredGenerator) -> _Side:
    """Load a generator; raises as `inference.load` does."""
    loaded = inference.load(inference.GeneratorKey(entry.key, stored.step, stored.sha256))
    config, (channels, height, width) = loaded.config, loaded.config.image_shape
    classes = Classes(config.num_classes, loaded.class_names)
    data = {
        "weights": delivery.weights_url(stored.sha256) if drawing.drawn_in_browser(config) else "",
        "scope": dict(pairs(View(run=entry.key, step=stored.step, g=stored.sha256[:G_LENGTH]))),
        "size": [height, width, channels],
        "number": config.num_classes,
        "picture": [classes.picture(label) for label in classes.labels],
        "thing": classes.picture(None),
    }
    return _Side(entry, stored, classes, data)


def _matched(sides: Sequence[Classes], labels: Sequence[int]) -> tuple[list[str], str]:
    """Return the name of each class, with those of all sides if they differ; and a line that says so, or nothing."""
    own = [[classes.name(label) for label in labels] for classes in sides]
    names = [" \u00b7 ".join(dict.fromkeys(each)) for each in zip(*own, strict=True)]
    if all(each == own[0] for each in own):
        return names, ""
    last = labels[-1]
    left, right = [classes.one(last) for classes in sides]
    example = f"{last} is {left} on the left and {right} on the right"
    return names, f"The classes differ and are matched by number: {example}."


def _fitting(view: CompareView, labels: Sequence[int]) -> CompareView:
    """Return the view with classes that both generators can draw; say what was left out."""
    asked = set(view.digits or ())
    if unknown := sorted(asked - set(labels)):
        st.warning(f"Not both generators can draw {', '.join(map(str, unknown))}. Left out.")
    known = tuple(digit for digit in view.digits or labels if digit in labels) or tuple(labels)
    return dataclasses.replace(view, digits=known or None)


def _reported(
    scene: DrawingScene[CompareView], view: CompareView, report: object, labels: Sequence[int]
) -> CompareView:
    """Return the view that the browser reported, or `view`; see `drawing.read_report`."""
    found = drawing.read_report(CompareView, scene.version, report)
    if found is None:
        return view
    digits = tuple(digit for digit in found.digits or labels if digit in labels) or view.digits
    return dataclasses.replace(view, digits=digits, count=found.count, seed=found.seed, truncation=found.truncation)


def _summaries(entry: RunEntry) -> list[EpochSummary]:
    try:
        return list(catalog.readable(catalog.epoch_metrics, entry, catalog.epochs(entry.key)).values())
    except RunStoreError:
        return []


def _scores(sides: Sequence[_Side]) -> list[dict[str, Any]]:
    """Return the rows of the table: the scores of both generators, of how many pictures, and those of real images."""
    found: list[EpochSummary | None] = []
    for side in sides:
        same = (each for each in _summaries(side.entry) if each.step == side.stored.step and each.scores)
        found.append(next(same, None))
    rows = []
    for name, score in SCORES.items():
        values = [(each.scores or {}).get(name) if each else None for each in found]
        real = next((each.floor[name] for each in found if each and each.floor and name in each.floor), None)
        if any(value is not None for value in values):
            shown = ["-" if value is None else score.show(value) for value in (*values, real)]
            rows.append({"title": score.heading, "better": score.better, "values": shown})
    return rows


def _charts(sides: Sequence[_Side]) -> list[dict[str, Any]]:
    """Return charts of what both runs have recorded; none for a run and itself."""
    entries = tuple(side.entry for side in sides)
    if entries[0].key == entries[1].key:
        return []
    try:
        known = [(each.key, each.started, each.progress.step, tuple(catalog.epochs(each.key))) for each in entries]
        return _drawn_charts(known, entries)
    except RunStoreError:
        return []


@st.cache_data(max_entries=32, show_spinner=False)
def _drawn_charts(known: Sequence[tuple[object, ...]], _entries: Sequence[RunEntry]) -> list[dict[str, Any]]:
    """Return the charts of two runs. `known` changes with what they have recorded. Raises `RunStoreError`."""
    from webapp import charts  # late: Plotly is large, and only two pages need it

    names = [entry.name for entry in _entries]
    if names[0] == names[1]:  # of two stores
        names = [entry.key for entry in _entries]
    runs = []
    for name, entry in zip(names, _entries, strict=True):
        batch_size = catalog.run_record(entry.key).config.get("batch_size", 0)
        epochs = catalog.epochs(entry.key)
        curves = list(catalog.curves(entry, epochs).values())
        summaries = list(catalog.readable(catalog.epoch_metrics, entry, epochs).values())
        runs.append(charts.Recorded(name, curves, batch_size, summaries))
    return charts.comparison(runs)
