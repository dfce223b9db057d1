"""Gallery: the same latents, drawn at the end of every epoch."""

import dataclasses
import io

import streamlit as st
from PIL import Image

from models.view_link import GalleryView
from webapp import address, catalog, export, notices, sheet_links
from webapp.components.copy_link import copy_link
from webapp.components.scrubber import Frame, scrubber
from webapp.scene import Scene

STAGE_WIDTH, STAGE_HEIGHT = 560, 900
"""Pixels of a desk that the grid should about fill: 560 is twice its own width at 28x28."""
TIMELAPSE_MILLISECONDS = 250
POLL_SECONDS = 3


def show(scene: Scene[GalleryView]) -> None:
    """Draw the page, again and again while the run trains."""
    st.fragment(_show, run_every=POLL_SECONDS if scene.entry.progress.is_live else None)(scene)


def _show(scene: Scene[GalleryView]) -> None:
    entry = scene.entry
    epochs = catalog.epochs(entry.key)
    if not epochs:
        notices.no_epoch(entry)
        return
    if scene.view.epoch is not None and scene.view.epoch not in epochs:
        st.warning(f"**epoch** {scene.view.epoch} is not there (yet). Shown instead: {epochs[-1]}, the newest.")
    left, right = st.columns([5, 3], gap="large")
    classes = catalog.classes(entry.key)
    with left:
        chosen = scrubber(
            [_frame(scene, epoch) for epoch in epochs],
            key="gallery.scrubber",
            name="Epoch",
            version=f"{entry.key} {scene.version}",
            stage=_stage_width(catalog.samples(entry.key, entry.started, epochs[-1])),
            interval=TIMELAPSE_MILLISECONDS,
            index=epochs.index(scene.view.epoch) if scene.view.epoch in epochs else None,
            rows=[classes.name(label) for label in classes.labels],
            follow=True,
            reports=True,
        )
    epoch = _epoch_to_link(scene, epochs, chosen)
    view = dataclasses.replace(scene.view, epoch=epoch)
    with right:
        st.subheader("One grid, every epoch")
        st.write(
            "The same latents are drawn at the end of each epoch, so what changes is the generator alone. "
            + (f"Each row is one {classes.noun}, each column one latent. " if classes.number else "")
            + "Epoch 0 is before training: noise."
        )
        if len(epochs) > 1:
            st.caption("Drag the slider, press play, or use the arrow keys.")
        elif entry.progress.is_live:
            st.caption("The first epoch has not ended yet: its grid will appear here.")
        else:
            st.caption("This run stopped within its first epoch. Generate shows what it had learned by then.")
        with st.container(horizontal=True, key="actions"):
            pinned = view if view.epoch is not None else dataclasses.replace(view, epoch=epochs[-1])
            copy_link(address.relative_url(pinned), key="gallery.link")
            st.download_button(
                "Time-lapse",
                data=lambda: export.timelapse(
                    [catalog.samples(entry.key, entry.started, each) for each in epochs], TIMELAPSE_MILLISECONDS
                ),
                file_name=f"{entry.name}.gif",
                mime="image/gif",
                icon=":material/download:",
                on_click="ignore",
                key="gallery.gif",
                help="Every epoch's grid as one GIF",
                disabled=len(epochs) == 1,
            )
    address.publish(view)


def _epoch_to_link(scene: Scene[GalleryView], epochs: list[int], chosen: int | None) -> int | None:
    """The epoch for the address: none while the newest one of a living run is shown, for it will be another soon."""
    epoch = scene.view.epoch if chosen is None else None if chosen < 0 else epochs[chosen]
    if epoch in epochs or scene.entry.progress.is_live:
        return epoch if epoch in epochs else None
    return epochs[-1]


def _stage_width(sheet: bytes) -> int:
    """Pixels of a grid's width on the page, a whole multiple of its own, so that all of its pixels are alike."""
    width, height = Image.open(io.BytesIO(sheet)).size
    return max(min(round(STAGE_WIDTH / width), STAGE_HEIGHT // height), 1) * width


def _frame(scene: Scene[GalleryView], epoch: int) -> Frame:
    entry = scene.entry
    step = catalog.epoch_metrics(entry.key, entry.started, epoch).step
    when = "before training" if epoch == 0 else f"step {step:,}"
    label = f"Epoch {epoch}" + (f" - {when}" if when else "")
    return Frame(label, f"Sample grid of {entry.name}, {label.lower()}", sheet_links.url(entry, epoch))
