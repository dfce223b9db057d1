"""Gallery: the sample grid of every epoch, always drawn from the same latents."""

import dataclasses
import io
from dataclasses import dataclass

import streamlit as st
from PIL import Image

from models.view_link import View, check_range
from trainer.run_store import DamagedError, EpochSummary
from webapp import address, catalog, export, notices, wording
from webapp.catalog import RunEntry
from webapp.components.copy_link import copy_link
from webapp.components.scrubber import Frame, scrubber
from webapp.page import Scene

STAGE_WIDTH, STAGE_HEIGHT = 560, 900
"""Approximate size of the grid on a large screen, in pixels: 560 is twice the width of a 28x28 grid."""
TIMELAPSE_MILLISECONDS = 250
POLL_SECONDS = 3
MAX_EPOCH = 10**6


@dataclass(frozen=True, kw_only=True)
class GalleryView(View):
    """The sample grid of one epoch."""

    kind = "gallery"

    epoch: int | None = None
    """None: the newest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epoch is not None:
            check_range("epoch", self.epoch, 0, MAX_EPOCH)


def show(scene: Scene[GalleryView]) -> None:
    """Draw the page, and again every few seconds while the run trains."""
    progress = scene.entry.progress
    st.fragment(_show, run_every=POLL_SECONDS if progress.is_live or progress.is_stale else None)(scene)


@notices.guarded
def _show(scene: Scene[GalleryView]) -> None:
    entry = catalog.list_runs().find(scene.entry.key) or scene.entry
    scene = dataclasses.replace(scene, entry=entry)
    epochs = catalog.epochs(entry.key)
    if not epochs:
        notices.no_epoch(entry)
        return
    if scene.view.epoch is not None and scene.view.epoch not in epochs:
        st.warning(f"This run has no epoch {scene.view.epoch}. Shown instead: {epochs[-1]}, the newest.")
    summaries = catalog.readable(catalog.epoch_metrics, entry, epochs)
    if damaged := [epoch for epoch in epochs if epoch not in summaries]:
        st.warning(f"The summary of {wording.epochs(damaged)} is damaged, so its step is not known.")
    with st.container(key="gallery"):
        left, right = st.columns([5, 3], gap="large")
    classes = catalog.classes(entry.key)
    with left:
        chosen = scrubber(
            [_frame(entry, epoch, summaries.get(epoch)) for epoch in epochs],
            key="gallery.scrubber",
            name="Epoch",
            version=f"{entry.key} {scene.version}",
            stage=_stage_width(entry, epochs[-1]),
            interval=TIMELAPSE_MILLISECONDS,
            index=epochs.index(scene.view.epoch) if scene.view.epoch in epochs else None,
            rows=[classes.name(label) for label in classes.labels],
        )
    epoch = _epoch_to_link(scene, epochs, chosen)
    view = dataclasses.replace(scene.view, epoch=epoch)
    with right:
        st.title("One grid, every epoch")
        st.write(
            "At the end of each epoch, the generator draws the same latents, so every change comes from the generator. "
            + (f"Each row is one {classes.noun}, each column one latent. " if classes.number else "")
            + "Epoch 0 is the generator before training: it draws noise."
        )
        if len(epochs) > 1:
            st.caption("Drag the slider, or select it and use the arrow keys, or press play.")
        elif entry.progress.is_live:
            st.caption("The first epoch has not ended yet. Its grid will appear here.")
        else:
            st.caption("This run stopped within its first epoch. Explore shows what it had learned by then.")
        with st.container(horizontal=True, key="actions"):
            pinned = view if view.epoch is not None else dataclasses.replace(view, epoch=epochs[-1])
            copy_link(address.relative_url(pinned), key="gallery.link")
            st.download_button(
                "Time-lapse",
                data=lambda: export.timelapse(
                    list(catalog.readable(catalog.samples, entry, epochs).values()), TIMELAPSE_MILLISECONDS
                ),
                file_name=f"{entry.name}.gif",
                mime="image/gif",
                icon=":material/download:",
                on_click="ignore",
                key="gallery.gif",
                help="The grids of all epochs as one GIF",
                disabled=len(epochs) == 1,
            )
    address.publish(view)


def _epoch_to_link(scene: Scene[GalleryView], epochs: list[int], chosen: int | None) -> int | None:
    """Return the epoch for the address: None while following a run, so that the page keeps following.

    A run that has not reported for long is followed too, because it may be resumed.
    """
    epoch = scene.view.epoch if chosen is None else None if chosen < 0 else epochs[chosen]
    progress = scene.entry.progress
    if epoch in epochs or progress.is_live or progress.is_stale:
        return epoch if epoch in epochs else None
    return epochs[-1]


def _stage_width(entry: RunEntry, epoch: int) -> int:
    """Return the width of a grid on the page: a whole multiple of its own, so that all its pixels get the same size."""
    try:
        width, height = Image.open(io.BytesIO(catalog.samples(entry.key, entry.started, epoch))).size
    except DamagedError:
        return STAGE_WIDTH
    return max(min(round(STAGE_WIDTH / width), STAGE_HEIGHT // height), 1) * width


def _frame(entry: RunEntry, epoch: int, summary: EpochSummary | None) -> Frame:
    when = "before training" if epoch == 0 else f"step {summary.step:,}" if summary else "step not known"
    label = f"Epoch {epoch} - {when}"
    return Frame(label, f"Sample grid of {entry.name}, {label.lower()}", catalog.sample_url(entry, epoch))
