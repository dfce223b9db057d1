"""Generate: pictures of chosen digits."""

import dataclasses
import random
from dataclasses import dataclass

import streamlit as st

from models.sampling import MAX_SEED
from webapp import address, export, inference, notices, wording
from webapp.classes import Classes, plain, slug
from webapp.components.copy_link import copy_link
from webapp.page import DrawingScene
from webapp.picture_html import picture_rows
from webapp.view_link import MAX_CLASS, WHOLE, View, ViewError, check_range, encode

MAX_COUNT = 20
"""Limit of the pictures of each digit."""


@dataclass(frozen=True, kw_only=True)
class GenerateView(View):
    """Pictures of chosen digits: picture k of each digit uses seed + k."""

    kind = "generate"

    digits: tuple[int, ...] | None = None
    """Classes to draw, ascending; None: all classes of the generator."""
    count: int = 10
    """Pictures of each digit."""
    seed: int = 0
    truncation: float = 1.0
    """Factor for the latents, with at most two decimals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.digits is not None:
            if not self.digits or list(self.digits) != sorted(set(self.digits)):
                raise ViewError("digits", "must be different digits in ascending order")
            for digit in self.digits:
                check_range("digits", digit, 0, MAX_CLASS)
        check_range("count", self.count, 1, MAX_COUNT)
        check_range("seed", self.seed, 0, MAX_SEED + 1 - self.count)
        check_range("truncation", self.truncation, 0, 1)
        if round(self.truncation, 2) != self.truncation:
            raise ViewError("truncation", f"must have at most two decimals: got {self.truncation}")


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
    images = inference.pictures(scene.generator, digits, view.count, view.seed, view.truncation)
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
            data=lambda: export.sheet(images.reshape(-1, *images.shape[2:]), view.count, encode(view)),
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
