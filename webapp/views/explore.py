"""Explore: one picture to drag through the latent plane, and a grid of pictures of chosen digits."""

import dataclasses

import streamlit as st

from models.views import ExploreView
from webapp import address, drawing, notices
from webapp.classes import Classes, plain
from webapp.components.explore import explore
from webapp.page import DrawingScene

KEY = "explore.page"
GOOD_SEED = 772
"""Seed of the first visit. The digit reader reads each of the shipped `forge`'s hundred pictures with the seeds 772 to
781, ten of each digit, as its digit, with a probability of at least .998 (`python -m benchmarks.good_seed`)."""
START = ExploreView(seed=GOOD_SEED, digit=7, x=0.0, y=0.0)
"""What a visitor sees first."""


@st.fragment
@notices.guarded
def show(scene: DrawingScene[ExploreView]) -> None:
    """Draw the page; a fragment, so that a change draws nothing else."""
    st.title("Digits nobody wrote" if scene.classes.noun == "digit" else "Pictures of nothing real")
    st.write(
        "A neural network, the forger, turns random numbers into a picture. Drag the large picture: each place between "
        "the four corners is another mix of their random numbers."
    )
    first = drawing.explicit(scene, _fitting(drawing.fitting(scene), scene.classes))
    state = st.session_state.get(KEY)
    known = drawing.reported(scene, state.get("view") if state else None)
    data = drawing.scene_data(scene, first if known is None else known, with_pictures=known is None)
    data["seed_help"] = _seed_help(scene)
    view = drawing.reported(scene, explore(data, key=KEY))
    address.publish(view or first)


def _seed_help(scene: DrawingScene[ExploreView]) -> str:
    text = "The number that determines the random numbers. The same seed always gives the same picture."
    if scene.view.seed == GOOD_SEED:
        text += f" The first one, {GOOD_SEED}, was chosen because the digit reader reads all ten of its digits well."
    return text


def _fitting(view: ExploreView, classes: Classes) -> ExploreView:
    """Return a view of classes that this generator can draw; say what was left out."""
    labels = classes.labels
    asked = set(view.digits or ())
    if not labels:
        if asked:
            st.warning(f"This generator draws without classes, so {classes.nouns} cannot be chosen.")
        return dataclasses.replace(view, digits=None, digit=None)
    if unknown := sorted(asked - set(labels)):
        st.warning(f"This generator knows only {classes.range}. Left out: {plain(classes.listed(unknown))}.")
    known = tuple(digit for digit in view.digits or labels if digit in labels) or labels
    digit = view.digit if view.digit in labels else None
    return dataclasses.replace(view, digits=known, digit=digit)
