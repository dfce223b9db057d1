"""Notices in place of a page that has nothing to show. They say what is missing and what to do."""

import functools
import shlex
from collections.abc import Callable
from typing import ParamSpec

import streamlit as st

from models.view_link import G_LENGTH, View
from trainer.run_store import RunStoreError, StoredGenerator
from webapp import address, wording
from webapp.catalog import Listing, RunEntry, list_runs, stores, without_paths
from webapp.classes import plain

P = ParamSpec("P")


def guarded(draw: Callable[P, None]) -> Callable[P, None]:
    """Return a function that draws, or shows the notice `unreadable` if the store fails.

    Streamlit shows a box of its own for an exception that leaves a fragment, so each fragment that reads is guarded.
    """

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            draw(*args, **kwargs)
        except RunStoreError as error:
            unreadable(error)

    return drawn


def no_runs(listing: Listing) -> None:
    """Say that there is no run at all, and how to start one."""
    st.title("No run yet")
    if listing.problems:
        st.write("The runs could not be read, so there is nothing to show. Check their path or URI.")
    st.write("A run is one training of a generator. Start one, and it will appear here:")
    st.code(f"make train RECIPE=quick RUNS={shlex.quote(stores()['runs'])}", language="shell", wrap_lines=True)


def no_such_run(link: address.Link, listing: Listing) -> None:
    """Say that a link names an unknown run, and a generator that no other run holds."""
    view = link.view
    st.title("This run is not here")
    st.write(f"The link names the run **{plain(view.run)}**, which is not among the runs that this app can see.")
    if view.g:
        st.write(f"It names the generator {_named(view)}. {_search(link)}")
    _offer_run(listing)


def reproduced(px: str, drawn: str, number: int) -> None:
    """Say whether the pixels of the link that brought the visitor here are those that the app draws."""
    text = wording.reproduced(px, drawn, number)
    if px == drawn:
        st.caption(f":material/check_circle: {text}")
    else:
        st.warning(text, icon=":material/difference:")


def origin(link: address.Link, shown: View) -> None:
    """Say where the generator comes from if the link does not name one, or not the place where it was found."""
    opened = link.opened
    if opened is None or opened.step is None:
        return
    if not opened.g:
        st.caption(
            ":material/link_off: This link does not pin its generator: links of earlier versions name only a run and a "
            "step. You see the generator that is there now. The address and Copy link now pin it."
        )
        return
    run = opened.run or shown.run
    if (run, opened.step) != (shown.run, shown.step):
        st.caption(
            f":material/search: The generator of this link is not at step {opened.step:,} of **{run}**. It was found "
            f"at step {shown.step or 0:,} of **{shown.run}**, and this is what it draws."
        )


def epoch_origin(link: address.Link, entry: RunEntry, epoch: int | None) -> None:
    """Say where the epoch was found whose generator the link names, if not where the link says; None: nowhere."""
    named = f"generator `{link.view.g}`"
    if epoch is None:
        if link.is_searched:
            where = "which no epoch of a run that this app can see has. The epoch that you see is another one."
        else:
            where = "which was not found yet, but not all runs could be searched in time. Open the link again to go on."
        st.warning(f"The link names the {named}, {where}")
        return
    opened = link.opened
    if opened is None or opened.g != link.view.g:
        return
    place, run = getattr(opened, "epoch", None), opened.run or entry.key
    if run != entry.key or place not in (None, epoch):
        said = f"The {named} of this link is not " + ("in" if place is None else f"epoch {place} of")
        st.caption(f":material/search: {said} **{run}**. It was found as epoch {epoch} of **{entry.key}**.")


def no_checkpoint(entry: RunEntry, listing: Listing) -> None:
    """Say that a run has just started, or that it ended before its first checkpoint."""
    progress = entry.progress
    if progress.is_live:
        st.title(f"{entry.name} has just started")
        st.write(
            "Its first generator is written when the workers have started, before the first step, and then appears "
            "here. The Training page shows the progress."
        )
        st.progress(progress.share, text=_progress_text(entry))
    else:
        st.title(f"{entry.name} has no checkpoint")
        if entry.problem:
            st.write("There is no generator to use.")
        else:
            st.write(f"{wording.state(entry)}. It ended before its first checkpoint, so there is no generator to use.")
        if progress.message:
            st.code(without_paths(progress.message), language=None, wrap_lines=True)
        resume_command(entry)
    _offer_run(listing, besides=entry.key)


def gone(entry: RunEntry, link: address.Link, generators: list[StoredGenerator]) -> None:
    """Say that a link names a generator that is not there, and offer the nearest one."""
    view = link.view
    step = view.step or 0
    if view.g:
        st.title("This generator is not here")
        there = any(each.step == step for each in generators)
        st.write(
            f"The link names the generator {_named(view)} of **{entry.name}**. "
            + ("That step holds another generator now. " if there else "")
            + f"{_search(link)} Without it, the pictures of the link cannot be drawn."
        )
    else:
        st.title("This checkpoint no longer exists")
        st.write(
            f"The link names step {step:,} of **{entry.name}**, of which no generator is kept. Without it, the "
            "pictures of the link cannot be drawn."
        )
    if generators:
        nearest = min(generators, key=lambda generator: abs(generator.step - step))
        _offer_checkpoint("Use the nearest one", entry, nearest)


def _named(view: View) -> str:
    return f"`{view.g}`" + ("" if view.step is None else f" at step {view.step:,}")


def _search(link: address.Link) -> str:
    if link.is_searched:
        return "No run that this app can see holds the generator of the link."
    return "It was not found yet, but not all runs could be searched in time. Open the link again to continue."


def damaged(entry: RunEntry, bad: StoredGenerator, good: StoredGenerator | None, reason: str) -> None:
    """Say why a checkpoint cannot be used, and offer a good one."""
    st.title("This checkpoint is damaged")
    st.write(f"{wording.checkpoint(bad)} of **{entry.name}** cannot be used:")
    st.code(without_paths(reason), language=None, wrap_lines=True)
    if good:
        kind = "previous" if good.step < bad.step else "next"
        _offer_checkpoint(f"Use the {kind} good one", entry, good)
    else:
        st.write("No other checkpoint of this run can be used either.")


def writes_no_digits(entry: RunEntry) -> None:
    """Say that a generator does not draw the ten digits, and offer the run that is shown first."""
    st.title("This generator writes no numbers")
    st.write(f"**{plain(entry.name)}** does not draw the digits 0 to 9 on request, so it cannot write a text.")
    _offer_run(list_runs(), besides=entry.key)


def resume_command(entry: RunEntry) -> None:
    """Show the command that continues a run that has not finished; nothing for a shipped run, which cannot go on."""
    store, _, name = entry.key.partition("/")
    if store != "runs" or entry.progress.is_live or entry.progress.phase == "finished" or entry.problem:
        return
    command = ["python", "-m", "trainer", entry.recipe, "--runs", stores()["runs"], "--name", name]
    st.write("This command continues it from its newest checkpoint. Add the options that its first launch had, if any:")
    st.code(shlex.join(command), language="shell", wrap_lines=True)


def no_training() -> None:
    """Say that this app starts no trainings, and how to serve one that does."""
    st.title("Training from this page is not allowed")
    st.write("The page Train starts and stops trainings on the server's machine. This server does not allow that.")
    st.write("Serve the app on your own machine like this, and the page appears in the navigation:")
    st.code("python -m webapp --allow-training", language=None, wrap_lines=True)
    st.write("A training can also be started on the command line:")
    st.code("python -m trainer quick --workers 2", language=None, wrap_lines=True)


def unreadable(error: RunStoreError) -> None:
    """Say that the storage does not answer, or that a file is damaged that the page needs."""
    st.title("The run cannot be read")
    st.code(without_paths(str(error)), language=None, wrap_lines=True)
    st.button("Try again", icon=":material/refresh:", key="notice.retry")


def failed() -> None:
    """Say that the page cannot be drawn because of an error in the app."""
    st.error(
        "This part of the page cannot be drawn, because of an error in the app. The output of the server has the "
        "details. Reload the page to try again.",
        icon=":material/error:",
    )


def no_epoch(entry: RunEntry) -> None:
    """Say that a run has no sample grid."""
    st.title("No pictures yet")
    if entry.progress.is_live:
        st.write(f"{wording.state(entry)}. Its first sample grid is drawn before the first step of training.")
    elif entry.problem:
        st.write("This run has no sample grid.")
    else:
        st.write(f"{wording.state(entry)}. It ended before its first sample grid was drawn.")


def no_architecture(entry: RunEntry) -> None:
    """Say that a run's record describes no networks that this version knows."""
    st.markdown("**The networks are not known**")
    if not entry.progress.is_stale:  # how long it has been silent would soon be wrong here
        st.write(f"{wording.state(entry)}.")
    st.write("The record of this run has no description of the networks that this version can read.")


def _offer_checkpoint(text: str, entry: RunEntry, checkpoint: StoredGenerator) -> None:
    st.button(
        f"{text}: {wording.checkpoint(checkpoint).lower()}",
        on_click=address.choose,
        args=(entry.key, checkpoint.step, checkpoint.sha256[:G_LENGTH]),
        type="primary",
        key="notice.checkpoint",
    )


def _offer_run(listing: Listing, besides: str = "") -> None:
    others = Listing(tuple(run for run in listing.runs if run.key != besides), ())
    if other := others.default():
        st.button(
            f"Show {wording.run_name(other)}",
            on_click=address.choose,
            args=(other.key, None),
            type="primary",
            key="notice.run",
        )


def _progress_text(entry: RunEntry) -> str:
    progress = entry.progress
    if not progress.total_steps:
        return "Starting the workers"
    return f"Step {progress.step:,} of {progress.total_steps:,}"
