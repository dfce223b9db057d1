"""Generate: pictures of chosen digits."""

import dataclasses
import random

import streamlit as st

from models import pictures
from models.sampling import MAX_SEED
from models.view_link import WHOLE, encode
from models.views import MAX_COUNT, GenerateView
from webapp import address, inference, notices, wording
from webapp.classes import Classes, plain, slug
from webapp.components.copy_link import copy_link
from webapp.page import DrawingScene
from webapp.picture_html import picture_rows


@st.fragment
@notices.guarded
def show(scene: DrawingScene[GenerateView]) -> None:
    """Draw the page; a fragment, so that a click redraws nothing else."""
    left, right = st.columns([5, 3], gap="large")
    with right:
        st.title("Digits nobody wrote" if scene.classes.noun == "digit" else "Pictures of nothing real")
        st.write("A neural network draws each picture from random numbers, its latent z. The seed determines z.")
        view = _controls(scene)
    digits = view.digits or ()
    images = inference.frames(scene.generator, view)
    images = images.reshape(-1, view.count, *images.shape[1:])
    number = images.shape[0] * images.shape[1]
    with left, st.container(key="pictures"):
        st.html(picture_rows(images, digits, view.seed, scene.classes))
        st.caption(
            f"{number} picture{'' if number == 1 else 's'} of {plain(scene.classes.listed(digits))}, "
            f"drawn by {scene.entry.name} after {wording.count(scene.checkpoint.nimg)} training images."
        )
    with right, st.container(horizontal=True, key="actions"):
        copy_link(address.relative_url(view), key="generate.link")
        st.download_button(
            "PNG",
            data=lambda: pictures.sheet(images.reshape(-1, *images.shape[2:]), view.count, encode(view)),
            file_name=f"{_file_name(scene.classes, digits)}-seed-{view.seed}.png",
            mime="image/png",
            icon=":material/download:",
            on_click="ignore",
            key="generate.png",
        )
    address.publish(view)


def _file_name(classes: Classes, labels: tuple[int, ...]) -> str:
    if classes.noun == "digit":
        return "digits"
    return (slug(classes.picture(labels[0])) if len(labels) == 1 else "") or "pictures"


def _controls(scene: DrawingScene[GenerateView]) -> GenerateView:
    """Draw the widgets; return the view that they make. Invalid input is named, and the last valid value stays."""
    asked, state, classes = scene.view, st.session_state, scene.classes
    state.setdefault("generate.count", asked.count)
    state.setdefault("generate.seed", str(asked.seed))
    state.setdefault("generate.truncation", asked.truncation)
    digits = _choose_digits(asked, classes)
    title = f"Pictures of each {classes.noun}" if classes.number else "Pictures"
    count = st.slider(title, 1, MAX_COUNT, key="generate.count")
    seed = _choose_seed(asked, count)
    truncation = st.slider(
        "Truncation",
        0.0,
        1.0,
        step=0.05,
        key="generate.truncation",
        help="How far the pictures may be from the average: 1 = as varied as in training, 0 = all the same.",
    )
    return dataclasses.replace(asked, digits=digits, count=count, seed=seed, truncation=round(truncation, 2))


def _choose_digits(asked: GenerateView, classes: Classes) -> tuple[int, ...] | None:
    labels = classes.labels
    if not labels:
        st.write(f"This generator was trained without labels, so {classes.nouns} cannot be chosen.")
        return None
    known = tuple(digit for digit in asked.digits or labels if digit in labels)
    if unknown := sorted(set(asked.digits or ()) - set(labels)):
        st.warning(f"This generator knows only {classes.range}. Left out: {classes.listed(unknown)}.")
    if "generate.digits" not in st.session_state:
        st.session_state["generate.digits"] = [] if known == labels else list(known)
    chosen = st.pills(
        classes.nouns.capitalize(),
        labels,
        format_func=lambda label: plain(classes.name(label)),
        selection_mode="multi",
        key="generate.digits",
        help="Choose none to draw all.",
        wrap=True,
    )

    def choose_all() -> None:
        st.session_state["generate.digits"] = []

    st.button(  # always there, or it would move what is below
        f"All {classes.nouns}",
        on_click=choose_all,
        type="tertiary",
        icon=":material/select_all:",
        key="generate.all",
        disabled=not chosen,
    )
    if not chosen:
        return labels
    return tuple(sorted(set(chosen) & set(labels))) or labels


def _choose_seed(asked: GenerateView, count: int) -> int:
    def roll() -> None:
        st.session_state["generate.seed"] = str(random.randrange(100_000))

    with st.container(horizontal=True, vertical_alignment="bottom", key="seed"):
        text = st.text_input(
            "Seed",
            key="generate.seed",
            max_chars=10,
            help="The number that the latent z of the first picture is drawn from; each further picture uses the next "
            "number. The same seed always gives the same pictures.",
        )
        st.button("New seed", on_click=roll, icon=":material/casino:", key="generate.roll")
    text = (text or "").strip()
    if WHOLE.fullmatch(text) and int(text) <= MAX_SEED + 1 - count:
        return int(text)
    last = address.last(asked)
    seed = min(last.seed, MAX_SEED + 1 - count)
    st.error(f"A seed must be a whole number from 0 to {MAX_SEED + 1 - count:,}. Still shown: seed {seed}.")
    return seed
