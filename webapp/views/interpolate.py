"""Interpolate: the way from one picture to another, over further stops, frame by frame."""

import dataclasses
import importlib.util

import streamlit as st

from models.view_link import Stops
from models.views import InterpolateView
from webapp import address, drawing, notices
from webapp.classes import Classes, plain
from webapp.components.interpolate import interpolate
from webapp.page import DrawingScene

KEY = "interpolate.page"
START = InterpolateView(from_seed=772, to_seed=774)
"""What a visitor sees first. The digit reader finds both seeds good for all ten digits."""


@st.fragment
@notices.guarded
def show(scene: DrawingScene[InterpolateView]) -> None:
    """Draw the page; a fragment, so that a change draws nothing else."""
    st.title("From one picture to another")
    st.write("Each stop is a picture of its own. In between, the generator draws what lies on the way.")
    first = _fitting(drawing.fitting(scene), scene.classes)
    state = st.session_state.get(KEY)
    known = drawing.reported(scene, state.get("view") if state else None)
    data = drawing.scene_data(scene, first if known is None else known, with_pictures=known is None)
    data["stops"] = [{"digit": digit, "seed": seed} for digit, seed in (known or first).stops]
    data["has_video"] = importlib.util.find_spec("av") is not None
    view = drawing.reported(scene, interpolate(data, key=KEY))
    address.publish(view or first)


def _fitting(view: InterpolateView, classes: Classes) -> InterpolateView:
    """Return a view that this generator can draw, with each digit named; say what is shown instead."""
    labels = classes.labels
    if not labels:
        stops: Stops = tuple((None, seed) for _, seed in view.stops)
        if any(digit is not None for digit, _ in view.stops):
            st.warning(f"This generator draws without classes, so {classes.nouns} cannot be chosen.")
    else:
        defaults = InterpolateView().explicit(len(labels))
        others = [defaults.from_digit, *[0] * len(view.via), defaults.to_digit]
        stops = tuple(
            (digit if digit in labels else other, seed) for (digit, seed), other in zip(view.stops, others, strict=True)
        )
        for (asked, _), (digit, _) in zip(view.stops, stops, strict=True):
            if asked is not None and asked != digit:
                instead = plain(classes.name(digit or 0))
                st.warning(f"This generator has no {classes.noun} {asked}. Shown instead: {instead}.")
    (from_digit, from_seed), *via, (to_digit, to_seed) = stops
    return dataclasses.replace(
        view, from_digit=from_digit, from_seed=from_seed, to_digit=to_digit, to_seed=to_seed, via=tuple(via)
    )
