"""The frame around every page: the choice of run and generator, the live run, and the page or a notice."""

import dataclasses
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from models import pictures
from models.generator_file import GeneratorFileError
from models.view_link import G_LENGTH, View, ViewError, pairs
from models.views import DrawingView, ExploreView, InterpolateView, QuizView, WriteView
from trainer.run_store import DamagedError, RunStoreError, StoredGenerator
from webapp import address, catalog, inference, notices, wording
from webapp.catalog import Listing, RunEntry
from webapp.classes import Classes, plain
from webapp.page import DrawingScene, OwnScene, Page, Scene
from webapp.trainings import TRAININGS
from webapp.views import compare, explore, how, interpolate, quiz, train, training, write

PAGES = (
    Page(
        "Explore",
        ":material/gesture:",
        ExploreView,
        explore.show,
        "Handwritten digits that nobody wrote, drawn by a small neural network: drag one through its latent space.",
        draws=True,
        start=explore.START,
    ),
    Page(
        "Interpolate",
        ":material/timeline:",
        InterpolateView,
        interpolate.show,
        "How one generated digit turns into another, frame by frame.",
        draws=True,
        start=interpolate.START,
    ),
    Page(
        "Write",
        ":material/draw:",
        WriteView,
        write.show,
        "Type a number, a date or a time, and a small neural network writes it by hand.",
        draws=True,
        start=write.START,
    ),
    Page(
        "Real or fake?",
        ":material/search:",
        QuizView,
        quiz.show,
        "Two digits, one written by hand and one drawn by a neural network: which is real? A game of ten rounds.",
        draws=True,
    ),
    Page(
        "Training",
        ":material/show_chart:",
        training.TrainingView,
        training.show,
        "How a generator learns to write digits: a grid, scores and curves of every epoch, live as it trains.",
    ),
    Page(
        "Compare",
        ":material/compare:",
        compare.CompareView,
        compare.show,
        "Two generators draw from the same random numbers: two epochs of a training, or two trainings.",
        draws=True,
    ),
    Page(
        "How it works",
        ":material/account_tree:",
        how.HowView,
        how.show,
        "What a GAN is, told with the pictures and the numbers of a real one: forger, detective, and their networks.",
    ),
    Page(
        "Train",
        ":material/model_training:",
        train.TrainView,
        train.show,
        "Start and stop the training of a GAN, and kill one of its workers to see it recover without a difference.",
        is_own=True,
        is_offered=lambda: TRAININGS.is_allowed,
    ),
)
"""All pages, in the order of the navigation bar."""

ICON = str(Path(__file__).with_name("icon.svg"))
LOGO = str(Path(__file__).with_name("logo.svg"))
STYLE = Path(__file__).with_name("style.css")
POLL_SECONDS = 3
FOLLOW = -1
"""Option in the list of checkpoints for the newest one, which changes as the run trains."""

Links = dict[str, st.Page]
"""Kind of each page -> the page as Streamlit knows it."""


def navigation(home: str) -> st.Page:
    """Register all pages with Streamlit; return the one that the URL names, or `home` for a URL without a path."""
    links: Links = {}
    for page in PAGES:
        links[page.kind] = st.Page(
            partial(show, page, links),
            title=page.title,
            icon=page.icon,
            url_path=page.kind,
            default=page.kind == home,
            visibility="visible" if page.is_offered() else "hidden",
        )
    return st.navigation(list(links.values()), position="top")


def show(page: Page, links: Links) -> None:
    """Draw one page."""
    st.html(STYLE)
    st.logo(LOGO, size="large")
    listing = catalog.list_runs()
    link = address.read(page.view, page.start or page.view())
    if page.is_own:
        _show_problems(link, link.view)
        page.show(OwnScene(link.view, links))
        return
    for problem in listing.problems:
        text = f"Runs cannot be listed: {catalog.without_paths(problem)}"
        st.warning(plain(text), icon=":material/cloud_off:")
    for key in listing.damaged:
        st.caption(f":material/warning: run.json of {plain(key)} is damaged, so this run cannot be shown.")
    if not listing.runs:
        _watch(page.kind, links, _Shown(()))
        notices.no_runs(listing)
        return
    if link.view.g and (page.draws or page.view.names_epoch):
        link = _located(link, listing)
    entry = listing.named(link.view)
    if entry is None:
        _watch(page.kind, links, _Shown(_keys(listing)))
        notices.no_such_run(link, listing)
        return
    if entry.problem:
        st.warning(plain(f"The progress of {entry.name} is not known: {catalog.without_paths(entry.problem)}"))
    make_scene = _drawing_scene if page.draws else _run_scene
    try:
        scene = make_scene(page.kind, links, listing, entry, link)
        if scene:
            page.show(scene)
    except RunStoreError as error:  # the storage failed between listing and reading
        notices.unreadable(error)


def _located(link: address.Link, listing: Listing) -> address.Link:
    """Return a link with the run that holds its generator, if the run that it names does not."""
    named = listing.named(link.view)
    try:
        if named and link.view.names_epoch and catalog.epoch_of(named, link.view) is not None:
            return link
        found = catalog.locate(link.view, listing)
    except RunStoreError:  # the page will say so
        return link
    if found.entry is None or found.stored is None:
        return dataclasses.replace(link, is_searched=found.is_searched)
    if found.entry == named:
        return link
    address.move(found.entry.key)
    return dataclasses.replace(link, view=dataclasses.replace(link.view, run=found.entry.key))


def _run_scene(kind: str, links: Links, listing: Listing, entry: RunEntry, link: address.Link) -> Scene[Any]:
    """Draw the choice of a run; return what the page shows."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="scope"):
        _choose_run(listing, entry)
        _watch(kind, links, _Shown(_keys(listing), entry.key, state=_state(entry)))
    _describe_shipped(entry)
    _show_problems(link, link.view)
    view = dataclasses.replace(link.view, run=entry.key, step=None, g="")
    if link.view.names_epoch and link.view.g:
        epoch = catalog.epoch_of(entry, link.view)
        notices.epoch_origin(link, entry, epoch)
        if epoch is not None:
            view = dataclasses.replace(view, epoch=epoch)  # type: ignore[call-arg]
    return Scene(view, link.version, entry)


def _drawing_scene(
    kind: str, links: Links, listing: Listing, entry: RunEntry, link: address.Link
) -> DrawingScene[Any] | None:
    """Draw the choice of a run and a generator; return what the page shows, or None after a notice in its place."""
    generators = catalog.generators(entry.key)
    newest = generators[-1] if generators else None
    follows = link.view.step is None and not link.view.g
    chosen = catalog.generator(entry.key, link.view)
    with st.container(horizontal=True, vertical_alignment="bottom", key="scope"):
        _choose_run(listing, entry)
        if newest:
            _choose_checkpoint(entry, generators, chosen, follows)
        waits = follows and kind != QuizView.kind  # a new generator would break off the game
        shown = _Shown(_keys(listing), entry.key, newest.step if newest else None, waits, _state(entry))
        _watch(kind, links, shown)
    _describe_shipped(entry)
    if chosen is None:
        if newest or link.view.g:
            notices.gone(entry, link, generators)
        else:
            st.fragment(_no_checkpoint, run_every=POLL_SECONDS if _moves(entry) else None)(entry.key)
        return None
    key = inference.GeneratorKey(entry.key, chosen.step, chosen.sha256)
    view = dataclasses.replace(link.view, run=entry.key, step=chosen.step, g=chosen.sha256[:G_LENGTH])
    try:
        loaded = inference.load(key)
    except inference.GeneratorGoneError:
        others = [other for other in generators if other != chosen]
        asked = dataclasses.replace(link.view, step=chosen.step)
        notices.gone(entry, dataclasses.replace(link, view=asked), others)
        return None
    except (DamagedError, GeneratorFileError) as error:
        notices.damaged(entry, chosen, _nearest_good(entry, generators, chosen), str(error))
        return None
    _show_problems(link, view)
    notices.origin(link, view)
    if link.px and isinstance(view, DrawingView):
        with suppress(ViewError):  # the page says what it cannot draw
            drawn = inference.frames(key, pictures.explicit(loaded, view))
            grid = drawn[1:] if isinstance(view, ExploreView) else drawn  # links of a grid open the same page
            meant = grid if pictures.digest(grid) == link.px else drawn
            notices.reproduced(link.px, pictures.digest(meant), meant.size)
    classes = Classes(loaded.config.num_classes, loaded.class_names)
    return DrawingScene(view, link.version, entry, chosen, key, loaded.config, classes)


def _no_checkpoint(key: str) -> None:
    """Show how far a run without a checkpoint is; a fragment, so that its numbers stay true."""
    listing = catalog.list_runs()
    if entry := listing.find(key):
        notices.no_checkpoint(entry, listing)


def _moves(entry: RunEntry) -> bool:
    """Return whether what is said of a run changes with time: it trains, or has been silent for some seconds."""
    return entry.progress.is_live or entry.progress.is_stale


def _nearest_good(entry: RunEntry, generators: list[StoredGenerator], bad: StoredGenerator) -> StoredGenerator | None:
    """Return the newest older generator that can be used, or else the oldest newer one."""
    older = [other for other in reversed(generators) if other.step < bad.step]
    for other in older + [other for other in generators if other.step > bad.step]:
        try:
            inference.load(inference.GeneratorKey(entry.key, other.step, other.sha256))
        except (RunStoreError, GeneratorFileError):
            continue
        return other
    return None


def _show_problems(link: address.Link, view: View) -> None:
    """Say which values of a link are invalid, and what is shown instead."""
    values = dict(pairs(view))
    for problem in link.problems:
        instead = f"Shown instead: {values[problem.parameter]}." if problem.parameter in values else (
            "All are shown instead." if problem.parameter == "digits" else "It is left out."
        )  # fmt: skip
        named, text = plain(problem.parameter), plain(f"{problem.problem}. {instead}")
        st.warning(f"A value in this link cannot be used. **{named}** {text}")


def _choose_run(listing: Listing, entry: RunEntry) -> None:
    names = {run.key: wording.run_name(run) for run in listing.runs}
    st.session_state["scope.run"] = entry.key
    st.selectbox(
        "Run",
        list(names),
        format_func=lambda key: names.get(key, key),
        key="scope.run",
        on_change=lambda: address.choose(st.session_state["scope.run"], None),
        help="One training of a generator. Shipped runs come with DigitForge; others are yours.",
        width=210,
    )


def _describe_shipped(entry: RunEntry) -> None:
    """Say what a shipped run is, except for the one that is shown first: most are classics, trained for minutes."""
    if entry.key.startswith(catalog.SHIPPED) and entry.key != catalog.DEFAULT_RUN:
        st.caption(plain(wording.shipped(catalog.run_record(entry.key))))


def _choose_checkpoint(
    entry: RunEntry, generators: list[StoredGenerator], chosen: StoredGenerator | None, follows: bool
) -> None:
    by_step = {each.step: each for each in reversed(generators)}
    if chosen:  # an archived one is not in the list
        by_step[chosen.step] = chosen
    names = {step: wording.checkpoint(by_step[step]) for step in sorted(by_step, reverse=True)}
    if entry.progress.is_live:
        names = {FOLLOW: f"Newest (epoch {generators[-1].epoch})", **names}
    st.session_state["scope.step"] = FOLLOW if follows and FOLLOW in names else (chosen.step if chosen else None)

    def choose() -> None:
        step = st.session_state["scope.step"]
        if step == FOLLOW:
            address.choose(entry.key, None)
        else:
            address.choose(entry.key, step, by_step[step].sha256[:G_LENGTH])

    st.selectbox(
        "Checkpoint",
        list(names),
        format_func=lambda step: names.get(step, str(step)),
        key="scope.step",
        on_change=choose,
        index=0 if chosen else None,
        placeholder="Choose one",
        help="The generator as it was at this moment of its training.",
        width=210,
    )


@dataclasses.dataclass(frozen=True)
class _Shown:
    """The runs and the checkpoint that the page shows. When they change, the page is drawn again."""

    runs: tuple[str, ...]
    run: str = ""
    newest_step: int | None = None
    follows: bool = False
    state: tuple[object, ...] = ()


def _state(entry: RunEntry | None) -> tuple[object, ...]:
    """Return what tells whether a run has begun, ended, fallen silent or been resumed.

    The steps of a run that trains are left out: a page that shows them draws itself again.
    """
    if entry is None:
        return ()
    progress = entry.progress
    return (entry.started, progress.phase, progress.is_live, 0 if progress.is_live else progress.step, entry.problem)


def _keys(listing: Listing) -> tuple[str, ...]:
    return tuple(run.key for run in listing.runs)


@st.fragment(run_every=POLL_SECONDS)
def _watch(kind: str, links: Links, shown: _Shown) -> None:
    """Look for new runs and generators every few seconds, and link to the run that trains now."""
    address.confirm(kind)
    listing = catalog.list_runs()
    if _keys(listing) != shown.runs or (shown.run and _state(listing.find(shown.run)) != shown.state):
        st.rerun()
    if shown.follows and listing.find(shown.run):
        try:
            steps = [generator.step for generator in catalog.generators(shown.run)]
        except RunStoreError:  # the next look may succeed
            steps = []
        if steps and steps[-1] != shown.newest_step:
            st.rerun()
    live = listing.live()
    if live and not (kind == "training" and live.key == shown.run):
        with st.container(key="live"):
            st.page_link(
                links["training"],
                label=f"{wording.state(live)} - watch",
                icon=":material/sensors:",
                query_params={"run": live.key},
                width="content",
            )
