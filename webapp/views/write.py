"""Write: a number, a date or a time in handwriting."""

from dataclasses import replace

import streamlit as st

from models.views import WriteView
from models.writing import COLOURS
from webapp import address, drawing, inference, notices
from webapp.components.write import write
from webapp.page import DrawingScene
from webapp.views.explore import GOOD_SEED

KEY = "write.page"
START = WriteView(text="2026", seed=GOOD_SEED, thickness=3.0, ink="blue", paper="cream")
"""What a visitor sees first."""
INKS = ("black", "blue", "violet", "red", "green", "gold", "white")
PAPERS = ("white", "cream", "pink", "sky", "mint", "board", "night")


def show(scene: DrawingScene[WriteView]) -> None:
    """Draw the page, or a notice for a generator that cannot write."""
    if inference.load(scene.generator).writes_digits:
        _page(scene)
    else:
        notices.writes_no_digits(scene.entry)


@st.fragment
@notices.guarded
def _page(scene: DrawingScene[WriteView]) -> None:
    """Draw the page; a fragment, so that a change draws nothing else."""
    st.title("Your number in handwriting")
    st.write("Type a number, a date or a time. A neural network writes it: no person ever wrote these digits.")
    first = drawing.explicit(scene, drawing.fitting(_started(scene)))
    state = st.session_state.get(KEY)
    known = drawing.reported(scene, state.get("view") if state else None)
    data = drawing.scene_data(scene, first if known is None else known, with_pictures=known is None)
    data |= {"colours": COLOURS, "inks": INKS, "papers": PAPERS}
    view = drawing.reported(scene, write(data, key=KEY))
    address.publish(view or first)


def _started(scene: DrawingScene[WriteView]) -> DrawingScene[WriteView]:
    """Return a scene whose first view asks for no thickness that its generator does not know."""
    view = scene.view
    if view == replace(START, run=view.run, step=view.step, g=view.g) and "thickness" not in scene.config.asks:
        return replace(scene, view=replace(view, thickness=None))
    return scene
