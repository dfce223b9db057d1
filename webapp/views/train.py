"""Train: start, stop and resume trainings of this server, and pull the plug on one of their workers."""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import streamlit as st

from models.view_link import View, ViewError, check_range, quoted
from trainer.run_store import Curve, DamagedError, open_store, valid_run_name
from webapp import address, catalog, notices, plug, wording
from webapp.catalog import RunEntry
from webapp.classes import plain
from webapp.components.announce import announce
from webapp.components.copy_link import copy_link
from webapp.components.keys import keys
from webapp.page import OwnScene
from webapp.training_child import choose_run_name
from webapp.trainings import TRAININGS, Job, Launch, Pull, recipes

POLL_SECONDS = 1
CHART = {"displaylogo": False, "modeBarButtons": [["resetScale2d"]]}
"""Settings of the chart: the only button leads back from a zoom."""
KEYS = (
    ("p", "Start, resume or stop the training", ("train.start", "train.stop")),
    ("x", "Pull the plug on a worker", ("plug.pull",)),
    ("s", "Copy the link", ()),
)
"""Keys of the page, as `webapp.components.keys` takes them."""
MAX_WORKERS = 64
MAX_MINUTES = 10_000


@dataclass(frozen=True, kw_only=True)
class TrainView(View):
    """A training that may be started. To open a link to it starts nothing."""

    kind = "train"

    recipe: str = "quick"
    name: str = ""
    """Name of the run; empty: the app chooses one."""
    workers: int = 2
    cpu_minutes: int = 0
    """As in `Launch`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, text in (("recipe", self.recipe), ("name", self.name)):
            if (text or field == "recipe") and not valid_run_name(text):
                raise ViewError(field, f"{quoted(text)} cannot be a name: 1 to 64 of a-z, 0-9, '.', '_' and '-'")
        check_range("workers", self.workers, 1, MAX_WORKERS)
        check_range("cpu_minutes", self.cpu_minutes, 0, MAX_MINUTES)


def show(scene: OwnScene[TrainView]) -> None:
    """Draw the page; while a training runs, its parts draw themselves again every second."""
    view = replace(scene.view, run="", step=None, g="")
    address.publish(view)
    if not TRAININGS.is_allowed:
        notices.no_training()
        return
    actions = st.container(horizontal=True, vertical_alignment="center", key="actions")
    actions.title("Train a generator")
    st.write(
        "A training runs on this machine with Ray Train, at low priority. It continues when you close this page. When "
        "the server stops, the training writes a checkpoint and stops too. A training that was stopped or killed "
        "continues from its last checkpoint and ends with the same weights, to the last bit."
    )
    job, drawn = TRAININGS.job, _state()
    with st.container(key="train"):
        left, right = st.columns([5, 3], gap="large")
    with left:
        if job and not job.has_ended and not job.strikes:
            st.fragment(_watch_training, run_every=POLL_SECONDS)(job, scene.links)
        else:
            view = _choose(view)
            if job and not job.strikes:
                _say_how_it_ended(job, scene.links)
    with right:
        name = job.launch.name if job and not job.strikes else ""
        st.fragment(_newest_grid, run_every=None if job is None or job.has_ended else 2 * POLL_SECONDS)(name)
    with actions:
        copy_link(address.relative_url(view), key="train.link")
        keys(KEYS, key="train.keys")
    st.divider()
    _show_plug()
    _watch_jobs(drawn)


def _state() -> tuple[object, ...]:
    """Return what the parts of the page depend on that do not draw themselves again."""
    job, runs = TRAININGS.job, catalog.list_runs().runs
    own = (job is not None and job.has_ended, job and job.launch)
    return (*own, *((entry.key, entry.progress.phase) for entry in runs))


@st.fragment(run_every=2 * POLL_SECONDS)
def _watch_jobs(drawn: tuple[object, ...]) -> None:
    """Draw the page again when a training starts or ends, also one that another visitor or process starts."""
    address.confirm(TrainView.kind)
    if _state() != drawn:
        st.rerun()


# --- Start, watch, stop


def _choose(view: TrainView) -> TrainView:
    """Draw the choice of a training, its command, and the button that starts it; return what is chosen."""
    with st.spinner("Loading the recipes ..."):
        known = recipes()
    if view.recipe not in known:
        st.warning(f"There is no recipe {plain(quoted(view.recipe))}. Chosen instead: quick.")
        view = replace(view, recipe="quick")
    names = list(known)
    recipe = st.selectbox("Recipe", names, index=names.index(view.recipe), key="train.recipe")
    recipe = recipe if recipe in known else "quick"
    summary, max_workers = known[recipe].summary, min(known[recipe].max_workers, MAX_WORKERS)
    st.caption(f"{summary[:1].upper()}{summary[1:]}.")
    default = _default_name(recipe)
    with st.container(horizontal=True, key="launch"):
        name = st.text_input("Name of the run", view.name, placeholder=default, key="train.name", max_chars=64)
        workers = st.number_input(
            "Workers", 1, max_workers, value=min(view.workers, max_workers), key="train.workers",
            help="Processes that share each batch. The result does not depend on their number, except for rounding.",
        )  # fmt: skip
        minutes = st.number_input(
            "CPU-minutes", 0, MAX_MINUTES, value=view.cpu_minutes, key="train.cpu_minutes",
            help="The run ends when its workers together have used this much processor time. 0 means no limit: it ends "
            "with the recipe.",
        )  # fmt: skip
    try:
        view = replace(view, recipe=recipe, name=(name or "").strip(), workers=int(workers), cpu_minutes=int(minutes))
    except ViewError as error:
        st.error(plain(error.problem))
        return view
    address.publish(view)
    launch = Launch(recipe, view.name or default, view.workers, view.cpu_minutes)
    st.caption(_time_in_words(launch))
    verb, obstacle = _what_starts(launch)
    _command([launch])
    if st.button(
        f"{verb} {launch.name}", type="primary", icon=":material/play_arrow:", key="train.start",
        disabled=bool(obstacle),
    ):  # fmt: skip
        _start([launch])
    if obstacle:
        st.caption(obstacle)
    return view


def _default_name(recipe: str) -> str:
    """Return the name of the newest unfinished run of a recipe, else a new one."""
    return _named(recipe, tuple((entry.key, entry.progress.phase) for entry in catalog.list_runs().runs))


@st.cache_data(ttl=60, max_entries=64, show_spinner=False)
def _named(recipe: str, listed: tuple[tuple[str, str], ...]) -> str:
    """Return the name for the next run of a recipe, while these runs are listed."""
    return choose_run_name(open_store(catalog.stores()["runs"]), recipe)


def _time_in_words(launch: Launch) -> str:
    if not launch.cpu_minutes:
        return "It runs until the recipe ends or you stop it."
    cores = os.cpu_count() or 1
    used = cores if launch.workers > cores else launch.workers * (cores // launch.workers)
    minutes = wording.duration(60 * launch.cpu_minutes / used)
    return f"About {minutes} on {used} free cores, plus about 10 s to start Ray."


def _what_starts(launch: Launch) -> tuple[str, str]:
    """Return what the button does, Start or Resume, and why it cannot; empty if it can."""
    entry = _entry(launch.name)
    verb = "Resume" if entry and entry.progress.phase != "finished" else "Start"
    if running := TRAININGS.running:
        return verb, f"{running.launch.name} is being trained; stop it first."
    if entry and verb == "Start":
        return verb, f"{entry.name} is finished. Choose another name."
    if entry and entry.recipe != launch.recipe:
        return verb, f"{entry.name} was trained with the recipe {plain(entry.recipe)}. Choose another name."
    return verb, ""


def _start(launches: Sequence[Launch], strikes: bool = False) -> None:
    """Start a job, and draw the page anew; or say why it cannot start."""
    try:
        TRAININGS.start(launches, catalog.stores()["runs"], strikes)
    except (OSError, ValueError) as error:
        st.error(plain(f"The training could not be started: {catalog.without_paths(str(error))}"))
        return
    st.rerun()


@notices.guarded
def _watch_training(job: Job, links: Mapping[str, st.Page]) -> None:
    """Show the progress of a training."""
    name, entry = job.launch.name, _entry(job.launch.name)
    if entry is None or not entry.progress.is_live:  # the record of a run that resumes is still that of its end
        st.subheader(f"{name} is starting")
        st.progress(0.0)
        st.caption("Ray and the workers start, which takes about 10 s.")
    else:
        progress = entry.progress
        st.subheader(wording.state(entry))
        st.progress(progress.share)
        figures = [
            ("Step", f"{progress.step:,} of {progress.total_steps:,}" if progress.total_steps else "-"),
            ("Images per second", f"{progress.images_per_second:,.0f}" if progress.images_per_second else "-"),
            ("Time left", wording.duration(progress.eta) if progress.eta else "-"),
        ]
        with st.container(horizontal=True, key="figures", gap="large"):
            for label, value in figures:
                st.metric(label, value, width="content")
    with st.container(horizontal=True, vertical_alignment="center", key="controls"):
        _stop_button(job)
        _link_to(name, links)
    newest = max(_epochs(entry), default=0) if entry else 0
    said = f"The pictures of epoch {newest} are here." if newest else "The first pictures are noise."
    announce(f"{name} is stopping: it writes a checkpoint first." if job.is_stopping else said, key="train.said")
    _command([job.launch])


def _stop_button(job: Job) -> None:
    st.button(
        "Stop", icon=":material/stop:", key="train.stop", on_click=job.stop, disabled=job.is_stopping,
        help="Writes a checkpoint and ends the training, so nothing is lost.",
    )  # fmt: skip


def _say_how_it_ended(job: Job, links: Mapping[str, st.Page]) -> None:
    """Say how the last training has ended, with the trainer's own words."""
    name, code = job.launch.name, job.child.exit_code()
    reason = catalog.without_paths(job.child.reason())
    if code == 0:
        st.success(plain(reason))
    elif job.is_stopping:
        st.info(plain(f"{name}: {reason.partition(' The same command')[0]}"))
    else:
        st.error(f"{name} has ended with an error:")
        st.code(reason, language=None, wrap_lines=True)
    if _entry(name):
        _link_to(name, links)


def _link_to(name: str, links: Mapping[str, st.Page]) -> None:
    if _entry(name):
        st.page_link(
            links["training"], label="Curves and scores", icon=":material/show_chart:",
            query_params={"run": f"runs/{name}"}, width="content",
        )  # fmt: skip


def _command(launches: Sequence[Launch]) -> None:
    lines = [shlex.join(["python", *launch.arguments(catalog.stores()["runs"])]) for launch in launches]
    st.code("\n".join(lines), language=None, wrap_lines=True)


@notices.guarded
def _newest_grid(name: str) -> None:
    entry = _entry(name)
    epochs = _epochs(entry) if entry else []
    if not entry or not epochs:
        st.caption("The newest pictures of the training appear here.")
        return
    _grid(entry, epochs[-1], f"**Newest pictures** - epoch {epochs[-1]}")


def _grid(entry: RunEntry, epoch: int, title: str) -> None:
    st.markdown(title)
    with suppress(DamagedError):
        catalog.samples(entry.key, entry.started, epoch)
        source, alt = catalog.sample_url(entry, epoch), f"Sample grid of {entry.name}, epoch {epoch}"
        st.html(f'<img class="df-newest" src="{source}" alt="{alt}">')


def _epochs(entry: RunEntry) -> list[int]:
    """Return the complete epochs of a run, read anew: nothing is drawn after the end that would replace old ones."""
    return catalog.run_of(entry.key).epochs()


def _entry(name: str) -> RunEntry | None:
    return catalog.list_runs().find(f"runs/{name}")


# --- Pull the plug


def _show_plug() -> None:
    st.header("Pull the plug")
    st.write(
        "What if a machine dies in the middle of a training? Try it. First, a short training runs undisturbed. Then "
        "the same training runs again: same recipe, same seed, two workers. While it runs, you kill one of the two. "
        "Ray Train notices and starts new workers, which go on from the last checkpoint. If nothing is lost, the curve "
        "of the second run lies exactly on that of the first."
    )
    job, running = TRAININGS.job, TRAININGS.running
    number = plug.newest(entry.name for entry in catalog.list_runs().runs)
    if not (running and running.strikes):
        if st.button(
            "Do it again" if number else "Start the two trainings", icon=":material/play_arrow:", key="plug.start",
            disabled=bool(running),
        ):  # fmt: skip
            _start(plug.launches(number + 1), strikes=True)
        if running:
            st.caption(f"{running.launch.name} is being trained; stop it first.")
    if job and job.strikes:
        st.fragment(_watch_plug, run_every=None if job.has_ended else POLL_SECONDS)(job)
    elif number:
        _compare(number, None)
    _command(job.launches if job and job.strikes else plug.launches(number or 1))


@notices.guarded
def _watch_plug(job: Job) -> None:
    """Show how far the two trainings are, the button that kills a worker, what came of it, and both curves."""
    undisturbed, struck = job.launches
    left, right = st.columns(2, gap="large")
    with left:
        _bar("1. Undisturbed", undisturbed.name)
    with right:
        _bar("2. The same again, with the plug pulled", struck.name)
    with st.container(horizontal=True, key="pull"):
        if st.button(
            "Pull the plug on a worker", type="primary", icon=":material/link_off:", key="plug.pull",
            disabled=not job.can_be_struck(), help="Kills one of the two worker processes with SIGKILL.",
        ):  # fmt: skip
            try:
                job.strike()
            except ValueError as error:
                st.error(plain(str(error)))
        if not job.has_ended:
            _stop_button(job)
    announce(_sentence(job), key="plug.said")
    if job.has_ended and job.child.exit_code() and not job.is_stopping:
        st.error("The training has ended with an error:")
        st.code(catalog.without_paths(job.child.reason()), language=None, wrap_lines=True)
    _compare(plug.newest([struck.name]), job)


def _bar(title: str, name: str) -> None:
    progress = entry.progress if (entry := _entry(name)) else None
    if progress and progress.total_steps:
        state = "finished" if progress.phase == "finished" else f"step {progress.step:,} of {progress.total_steps:,}"
        st.progress(progress.share, text=f"**{title}**: {state}")
    else:
        st.progress(0.0, text=f"**{title}**: not started")


def _sentence(job: Job) -> str:
    """Return what happens now, in a sentence."""
    pull = job.pull
    if pull and pull.trained:
        again = f"Training again {wording.seconds(pull.trained - pull.pulled)} after the kill, from step"
        return f"{pull.words} {again} {pull.resumed_step:,}." + (_verdict(job) if job.has_ended else "")
    if pull and pull.noticed:
        return f"Noticed after {wording.seconds(pull.noticed - pull.pulled)}: {pull.words} New workers start."
    if pull:
        return f"The process {pull.pid} was killed."
    if job.has_ended:
        return "Stopped." if job.is_stopping else "It has ended before a worker was killed. Do it again."
    if len(job.children) < 2:
        return "The undisturbed training comes first. Its curve is what the second one must repeat."
    return "Pull the plug now." if job.can_be_struck() else "The second training starts."


def _verdict(job: Job) -> str:
    """Return how both trainings have ended, in a sentence with a space before it; empty if one has not finished."""
    same = plug.same_weights(*(job.store.run(launch.name) for launch in job.launches))
    end = "the same weights, to the last bit." if same else "different weights."
    return "" if same is None else f" Both runs have ended with {end}"


def _compare(number: int, job: Job | None) -> None:
    """Show what came of the kill, the curves of both runs over each other, and their largest difference.

    Without the job that has trained them, the moments of the kill are not known.
    """
    undisturbed, struck = (_entry(launch.name) for launch in plug.launches(number))
    weights = _weights(undisturbed, struck)  # before the curves, which are complete if both have ended here
    first, second = _curves(undisturbed) if undisturbed else [], _curves(struck) if struck else []
    compared, pull = plug.compare(first, second), job.pull if job else None
    with st.container(horizontal=True, key="compared", gap="large"):
        if job:
            _figures_of(pull)
        largest = "-" if not compared.steps else "0" if compared.largest == 0 else f"{compared.largest:.3g}"
        st.metric("Largest difference", largest, width="content")
        st.metric("Steps compared", f"{compared.steps:,}", width="content")
        st.metric("Weights at the end", weights, width="content")
    if undisturbed is None:
        return
    from webapp import charts  # late: Plotly is large

    redone = (pull.resumed_step + 1, pull.step) if pull and pull.noticed and pull.step > pull.resumed_step else None
    alt = f"Losses of {undisturbed.name} as broad bands, and of the same training again, plug-{number}, as thin lines."
    left, right = st.columns([5, 2], gap="large")
    with left:
        figure = charts.overlay(first, second, redone).update_layout(template="streamlit")  # the theme's colours
        st.plotly_chart(figure, key="plug.curves", config=CHART, alt=alt)
        st.caption(
            f"Broad bands: {undisturbed.name}. Thin lines: plug-{number}. Every step of both is drawn, and "
            f"nothing is smoothed. The difference is the largest of all {compared.columns} numbers that a step "
            "records: losses, class losses, accuracies and the gradient penalty."
        )
    with right:
        _newest_grid((struck or undisturbed).name)


def _figures_of(pull: Pull | None) -> None:
    """Show what came of the kill; before it, dashes in the same places."""

    def after(moment: float | None) -> str:
        return wording.seconds(moment - pull.pulled) if pull and moment else "-"

    noticed, trained = (pull.noticed, pull.trained) if pull else (None, None)
    redone = max(pull.step - pull.resumed_step, 0) if pull and pull.noticed else None
    st.metric("Noticed after", after(noticed), width="content")
    st.metric("Training again after", after(trained), width="content")
    st.metric(
        "Steps done again", "-" if redone is None else f"{redone:,}", width="content",
        help="The steps from the last checkpoint to the last step that the run had reported when a worker died.",
    )  # fmt: skip


def _weights(undisturbed: RunEntry | None, struck: RunEntry | None) -> str:
    if undisturbed is None or struck is None:
        return "-"
    same = plug.same_weights(catalog.run_of(undisturbed.key), catalog.run_of(struck.key))
    return "-" if same is None else "identical" if same else "different"


def _curves(entry: RunEntry) -> list[Curve]:
    """Return the curves of a run's epochs, also of the one under way."""
    return list(catalog.curves(entry, _epochs(entry)).values())
