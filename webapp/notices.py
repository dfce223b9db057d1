"""Notices in place of a page that has nothing to show. They say what is missing and what to do."""

import shlex

import streamlit as st

from trainer.run_store import RunStoreError, StoredGenerator
from webapp import address, wording
from webapp.catalog import Listing, RunEntry, stores
from webapp.view_link import G_LENGTH, View


def no_runs(listing: Listing) -> None:
    """Say that there is no run at all, and how to start one."""
    st.header("No run yet")
    if listing.problems:
        st.write("The runs could not be read, so there is nothing to show. Check their path or URI.")
    st.write("A run is one training of a generator. Start one, and it will appear here:")
    st.code(f"make train RECIPE=quick RUNS={shlex.quote(stores()['runs'])}", language="shell", wrap_lines=True)


def no_such_run(link: address.Link, listing: Listing) -> None:
    """Say that a link names an unknown run, and a generator that no other run holds."""
    view = link.view
    st.header("This run is not here")
    st.write(f"The link names the run **{view.run}**, which is not among the runs that this app can see.")
    if view.g:
        st.write(f"It names the generator {_named(view)}. {_search(link)}")
    _offer_run(listing)


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


def no_checkpoint(entry: RunEntry, listing: Listing) -> None:
    """Say that a run has just started, or that it ended before its first checkpoint."""
    progress = entry.progress
    if progress.is_live:
        st.header(f"{entry.name} has just started")
        st.write(
            "Its first generator is written when the workers have started, before the first step, and then appears "
            "here. The Training page shows the progress."
        )
        st.progress(progress.share, text=_progress_text(entry))
    else:
        st.header(f"{entry.name} has no checkpoint")
        st.write(f"{wording.state(entry)}. It ended before its first checkpoint, so there is no generator to use.")
        if progress.message:
            st.code(progress.message, language=None)
    _offer_run(listing, besides=entry.key)


def gone(entry: RunEntry, link: address.Link, generators: list[StoredGenerator]) -> None:
    """Say that a link names a generator that is not there, and offer the nearest one."""
    view = link.view
    step = view.step or 0
    if view.g:
        st.header("This generator is not here")
        there = any(each.step == step for each in generators)
        st.write(
            f"The link names the generator {_named(view)} of **{entry.name}**. "
            + ("That step holds another generator now. " if there else "")
            + f"{_search(link)} Without it, the pictures of the link cannot be drawn."
        )
    else:
        st.header("This checkpoint no longer exists")
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
    st.header("This checkpoint is damaged")
    st.write(f"{wording.checkpoint(bad)} of **{entry.name}** cannot be used:")
    st.code(reason, language=None, wrap_lines=True)
    if good:
        kind = "previous" if good.step < bad.step else "next"
        _offer_checkpoint(f"Use the {kind} good one", entry, good)
    else:
        st.write("No other checkpoint of this run can be used either.")


def unreadable(error: RunStoreError) -> None:
    """Say that the storage does not answer."""
    st.header("The run cannot be read")
    st.code(str(error), language=None, wrap_lines=True)
    st.button("Try again", icon=":material/refresh:", key="notice.retry")


def no_epoch(entry: RunEntry) -> None:
    """Say that a run has no sample grid."""
    st.header("No pictures yet")
    if entry.progress.is_live:
        st.write(f"{wording.state(entry)}. Its first sample grid is drawn before the first step of training.")
    else:
        st.write(f"{wording.state(entry)}. It ended before its first sample grid was drawn.")


def no_architecture(entry: RunEntry) -> None:
    """Say that a run's record describes no networks that this version knows."""
    st.header("The networks are not known")
    st.write(f"{wording.state(entry)}. Its record has no description of the networks that this version can read.")


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
