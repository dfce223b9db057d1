"""The pages that stand in for a view where there is nothing to show: what is missing, and what to do."""

import shlex

import streamlit as st

from trainer.run_store import RunStoreError
from webapp import address, wording
from webapp.catalog import CheckpointEntry, Listing, RunEntry, stores


def no_runs(listing: Listing) -> None:
    """There is no run at all."""
    st.header("No run yet")
    if listing.problems:
        st.write("The place of the runs could not be read, so there is nothing to show. Is its address right?")
    st.write("A run is one training of a generator. Start one, and this page fills by itself:")
    st.code(f"make train RECIPE=quick RUNS={shlex.quote(stores()['runs'])}", language="shell", wrap_lines=True)


def no_such_run(key: str, listing: Listing) -> None:
    """A link names a run that is not here."""
    st.header("This run is not here")
    st.write(f"The link names the run **{key}**, which is not among the runs that this app can see.")
    _offer_run(listing)


def no_checkpoint(entry: RunEntry, listing: Listing) -> None:
    """A run has just started, or ended before its first checkpoint."""
    progress = entry.progress
    if progress.is_live:
        st.header(f"{entry.name} has just started")
        st.write(
            "Its first checkpoint, and with it the first generator to play with, comes at the end of an epoch. "
            "This page then fills by itself; the Training page shows how far it is."
        )
        st.progress(progress.share, text=_progress_text(entry))
    else:
        st.header(f"{entry.name} has no checkpoint")
        st.write(f"{wording.state(entry)}. It ended before its first checkpoint, so there is no generator to use.")
        if progress.message:
            st.code(progress.message, language=None)
    _offer_run(listing, besides=entry.key)


def gone(entry: RunEntry, step: int, checkpoints: list[CheckpointEntry]) -> None:
    """A link names a checkpoint that was there once, or never."""
    st.header("This checkpoint no longer exists")
    st.write(
        f"The link names step {step:,} of **{entry.name}**. A run keeps only its newest checkpoints, "
        "and this one is not among them; the pictures of the link cannot be drawn without it."
    )
    if checkpoints:
        nearest = min(checkpoints, key=lambda checkpoint: abs(checkpoint.step - step))
        _offer_checkpoint("Use the nearest one", entry, nearest)


def damaged(entry: RunEntry, bad: CheckpointEntry, good: CheckpointEntry | None, reason: str) -> None:
    """A checkpoint cannot be read."""
    st.header("This checkpoint is damaged")
    st.write(f"{wording.checkpoint(bad)} of **{entry.name}** cannot be used:")
    st.code(reason, language=None, wrap_lines=True)
    if good:
        kind = "previous" if good.step < bad.step else "next"
        _offer_checkpoint(f"Use the {kind} good one", entry, good)
    else:
        st.write("No other checkpoint of this run can be used either.")


def unreadable(error: RunStoreError) -> None:
    """The storage does not answer."""
    st.header("The run cannot be read")
    st.code(str(error), language=None, wrap_lines=True)
    st.button("Try again", icon=":material/refresh:", key="notice.retry")


def no_epoch(entry: RunEntry) -> None:
    """A run has no pictures yet."""
    st.header("No pictures yet")
    st.write(f"{wording.state(entry)}. Its first sample grid is drawn before the first step of training.")


def no_architecture(entry: RunEntry) -> None:
    """A run's record does not say what its networks are, or says what this version does not know."""
    st.header("The networks are not known")
    st.write(f"{wording.state(entry)}. Its record has no description of the networks that this version can read.")


def _offer_checkpoint(text: str, entry: RunEntry, checkpoint: CheckpointEntry) -> None:
    st.button(
        f"{text}: {wording.checkpoint(checkpoint).lower()}",
        on_click=address.choose,
        args=(entry.key, checkpoint.step),
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
