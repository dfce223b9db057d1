"""Interpolate: the way from one picture to another, frame by frame."""

import dataclasses
import random
from functools import partial

import streamlit as st

from models import pictures
from models.pictures import MILLISECONDS
from models.sampling import MAX_SEED
from models.view_link import WHOLE, encode
from models.views import MAX_FRAMES, MIN_FRAMES, PATHS, InterpolateView
from webapp import address, export, inference, notices
from webapp.classes import Classes, plain, slug
from webapp.components.copy_link import copy_link
from webapp.components.scrubber import Frame, scrubber
from webapp.page import DrawingScene

PATH_NAMES = {"slerp": "Arc (slerp)", "lerp": "Line (lerp)"}
STAGE = 392
"""Limit of the side of the large picture, in pixels: 14 times 28."""


@st.fragment
@notices.guarded
def show(scene: DrawingScene[InterpolateView]) -> None:
    """Draw the page; a fragment, so that a click redraws nothing else."""
    st.title("From one picture to another")
    st.write("Each end is a picture of its own. In between, the generator draws what lies on the way.")
    view = _controls(scene)
    images = inference.frames(scene.generator, view)
    scrubber(
        [Frame(f"Frame {k + 1} of {view.frames}", _words(scene.classes, view, k)) for k in range(view.frames)],
        key="interpolate.scrubber",
        name="Frame",
        version=encode(view),
        stage=max(STAGE // images.shape[2], 1) * images.shape[2],
        interval=MILLISECONDS,
        index=0,
        sprite=export.data_url(pictures.sprite(images)),
        width=images.shape[2],
        strip=True,
        bounce=True,
        autoplay=True,
    )
    with st.container(horizontal=True, key="actions"):
        copy_link(address.relative_url(view), key="interpolate.link")
        for kind, title in (("gif", "GIF"), ("webp", "WebP")):
            st.download_button(
                title,
                data=partial(pictures.animation, images, kind, encode(view), MILLISECONDS),
                file_name=f"{_file_name(scene.classes, view)}.{kind}",
                mime=f"image/{kind}",
                icon=":material/download:",
                on_click="ignore",
                key=f"interpolate.{kind}",
            )
    address.publish(view)


def _words(classes: Classes, view: InterpolateView, frame: int) -> str:
    """Describe what a frame shows."""
    start, end = f"seed {view.from_seed}", f"seed {view.to_seed}"
    if view.from_digit is not None and view.to_digit is not None:
        start, end = f"{classes.one(view.from_digit)} ({start})", f"{classes.one(view.to_digit)} ({end})"
    return f"{frame / (view.frames - 1):.0%} of the way from {start} to {end}"


def _file_name(classes: Classes, view: InterpolateView) -> str:
    ends = [slug(classes.name(digit)) for digit in (view.from_digit, view.to_digit) if digit is not None]
    return f"interpolation-{'-to-'.join(ends)}" if len(ends) == 2 and all(ends) else "interpolation"


def _controls(scene: DrawingScene[InterpolateView]) -> InterpolateView:
    """Draw the widgets; return the view that they make."""
    asked, state = scene.view, st.session_state
    state.setdefault("interpolate.path", asked.path)
    state.setdefault("interpolate.frames", asked.frames)
    with st.container(horizontal=True, gap="large", vertical_alignment="bottom", key="controls"):
        from_digit, from_seed = _choose_end(scene, "from", "From")
        to_digit, to_seed = _choose_end(scene, "to", "To")
        frames = st.slider("Frames", MIN_FRAMES, MAX_FRAMES, key="interpolate.frames", width=180)
        path = st.segmented_control(
            "Path",
            list(PATHS),
            format_func=PATH_NAMES.__getitem__,
            key="interpolate.path",
            required=True,
            help="The way between the two latents z, the lists of random numbers that the pictures are drawn from. On "
            "the arc, all latents are as long as those of the ends; the straight line takes a short cut, through more "
            "average pictures.",
            width="content",
        )
    return dataclasses.replace(
        asked,
        from_digit=from_digit,
        from_seed=from_seed,
        to_digit=to_digit,
        to_seed=to_seed,
        path=path or asked.path,
        frames=frames,
    )


def _choose_end(scene: DrawingScene[InterpolateView], end: str, title: str) -> tuple[int | None, int]:
    asked, classes, key = scene.view, scene.classes, f"interpolate.{end}"
    labels = classes.labels
    digit_asked, seed_asked = getattr(asked, f"{end}_digit"), getattr(asked, f"{end}_seed")
    st.session_state.setdefault(f"{key}.seed", str(seed_asked))

    def roll() -> None:
        st.session_state[f"{key}.seed"] = str(random.randrange(100_000))

    with st.container(horizontal=True, vertical_alignment="bottom", width="content", key=f"{end}-end"):
        digit = None
        if labels:
            default = 3 if end == "from" else 8
            fallback = digit_asked if digit_asked in labels else min(default, labels[-1])
            st.session_state.setdefault(f"{key}.digit", fallback)
            width = 170 if classes.names else 90
            digit = st.selectbox(
                f"{title} {classes.noun}", labels, format_func=classes.name, key=f"{key}.digit", width=width
            )
        text = st.text_input(f"{title} seed", key=f"{key}.seed", max_chars=10, width=110)
        st.button(":material/casino:", on_click=roll, key=f"{key}.roll", help="New seed")
    if labels and digit_asked is not None and digit_asked not in labels:
        st.warning(
            f"This generator has no {classes.noun} {digit_asked}. Shown instead: {plain(classes.name(digit or 0))}."
        )
    text = (text or "").strip()
    if WHOLE.fullmatch(text) and int(text) <= MAX_SEED:
        return digit, int(text)
    seed = getattr(address.last(asked), f"{end}_seed")
    st.error(f"A seed must be a whole number from 0 to {MAX_SEED:,}. Still shown: seed {seed}.")
    return digit, seed
