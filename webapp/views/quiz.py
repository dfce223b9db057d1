"""Real or fake?: ten pairs of a real and a generated digit, for the visitor and two networks to tell apart."""

import dataclasses
from typing import Any

import streamlit as st

from models.view_link import View, pairs
from models.views import QuizView
from webapp import address, delivery, drawing, game, notices
from webapp.components.quiz import quiz
from webapp.page import DrawingScene

KEY = "quiz.page"
GENERATOR = "quiz.generator"
"""Key in the session of the generator whose pictures the answers are to."""


def show(scene: DrawingScene[QuizView]) -> None:
    """Draw the page. Answers to the pictures of a generator do not hold for another one that is chosen afterwards."""
    sha256 = scene.generator.sha256
    if st.session_state.setdefault(GENERATOR, sha256) != sha256:
        st.session_state[GENERATOR] = sha256
        scene = dataclasses.replace(scene, view=dataclasses.replace(scene.view, answers=""))
    _show(dataclasses.replace(scene, version=f"{scene.version} {scene.view.g}"))


@st.fragment
@notices.guarded
def _show(scene: DrawingScene[QuizView]) -> None:
    """Draw the game; a fragment, so that a change draws nothing else."""
    st.title("Real or fake?")
    state = st.session_state.get(KEY)
    view = drawing.reported(scene, state.get("view") if state else None) or scene.view
    try:
        played = game.play(scene.generator, view.seed)
    except game.NoGameError as error:
        st.write(f"{error} Choose another run to play.")
        address.publish(view)
        return
    address.publish(drawing.reported(scene, quiz(_data(scene, view, played), key=KEY)) or view)


def _data(scene: DrawingScene[QuizView], view: QuizView, played: game.Game) -> dict[str, Any]:
    """Return a game for the component: see webapp/browser/quiz.js."""
    one, name = scene.classes.one, scene.classes.name
    claims = ["which digit this is" if label is None else f"that this is {one(label)}" for label in played.digits]
    return {
        "version": scene.version,
        "scripts": delivery.scripts_url(),
        "scope": dict(pairs(View(run=view.run, step=view.step, g=view.g))),
        "seed": view.seed,
        "answers": view.answers,
        "size": [*played.pairs.shape[2:], 1],
        "pictures": drawing.packed(played.pairs),
        "things": ["digits" if label is None else f"{name(label)}s" for label in played.digits],
        "claims": claims,
        "real": played.real,
        "detective": played.detective,
        "certainty": played.certainty,
        "reader": played.reader,
        "read": played.read,
        "no_detective": "" if played.detective else game.NO_DETECTIVE,
    }
