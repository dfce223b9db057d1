"""The page's address: read once into a view, rewritten whenever the view changes.

Every address names the run, the checkpoint and all values, so that it shows the same to whoever opens it. Whether the
visitor follows the newest checkpoint is therefore not in it, but in the session.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st

from models.view_link import VIEWS, Lenient, View, ViewError, encode, pairs

V = TypeVar("V", bound=View)

SETTLING_SECONDS = 2.0
"""A click may still carry the address of before: for so long one of our own is not taken for a link."""


@dataclass(frozen=True)
class Link:
    """What the address asks for."""

    view: View
    problems: tuple[ViewError, ...]
    """What was wrong in the link that brought the visitor here."""
    version: str
    """Another one for each link that was opened."""


@dataclass
class _Memory:
    """What a session remembers between runs of the script."""

    run: str = ""
    step: int | None = None
    """None: follow the newest checkpoint."""
    views: dict[str, View] = dataclasses.field(default_factory=dict)
    """The view last shown of each kind."""
    known: list[tuple[float, str, tuple[tuple[str, str], ...]]] = dataclasses.field(default_factory=list)
    """When, kind and address of what was read or written last, newest last."""
    problems: tuple[str, tuple[ViewError, ...]] = ("", ())
    versions: int = 0


def _memory() -> _Memory:
    return st.session_state.setdefault("address", _Memory())


def _current() -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name in st.query_params for value in st.query_params.get_all(name))


def read(kind: str) -> Link:
    """The view that the page's address asks for: a link's, or without one what this page showed last."""
    memory, current = _memory(), _current()
    if current and not _is_known(kind, current):
        lenient = Lenient.of(kind, current)
        memory.run, memory.step = lenient.view.run, lenient.view.step
        memory.views[kind] = lenient.view
        memory.problems = (kind, lenient.problems)
        memory.versions += 1
        _remember(kind, current)
        for key in [key for key in st.session_state if isinstance(key, str) and key.startswith(f"{kind}.")]:
            del st.session_state[key]  # widgets take their values from the view again
    elif memory.problems[0] != kind:
        memory.problems = (kind, ())
    view = dataclasses.replace(memory.views.get(kind, VIEWS[kind]()), run=memory.run, step=memory.step)
    return Link(view, memory.problems[1], str(memory.versions))


def _is_known(kind: str, current: tuple[tuple[str, str], ...]) -> bool:
    known = _memory().known
    return any(
        (kind, current) == (known_kind, address)
        and (index == len(known) - 1 or time.monotonic() - when < SETTLING_SECONDS)
        for index, (when, known_kind, address) in enumerate(known)
    )


def choose(run: str, step: int | None) -> None:
    """Show this checkpoint from the next run of the script on; None = follow the newest."""
    memory = _memory()
    if run != memory.run and "gallery" in memory.views:  # another run has other epochs
        memory.views["gallery"] = VIEWS["gallery"]()
    memory.versions += run != memory.run
    memory.run, memory.step = run, step
    memory.problems = ("", ())


def publish(view: View) -> None:
    """Make this view the page's address."""
    memory, address = _memory(), tuple(pairs(view))
    memory.views[view.kind] = view
    if address != _current():
        st.query_params.from_dict(dict(address))
    _remember(view.kind, address)


def _remember(kind: str, address: tuple[tuple[str, str], ...]) -> None:
    memory = _memory()
    if not memory.known or memory.known[-1][1:] != (kind, address):
        memory.known = [*memory.known[-7:], (time.monotonic(), kind, address)]


def last(view: V) -> V:
    """The view that was published last of this kind, or `view`: what a widget in error falls back to."""
    known: Any = _memory().views.get(view.kind, view)
    return known


def relative_url(view: View) -> str:
    """The view's address, relative to any page of the app."""
    text = encode(view)
    return "./" + text.removeprefix("generate") if view.kind == "generate" else text
