"""The URL of the page: read once into a view, and rewritten when the view changes.

The URL names the run, the step, the generator by its hash, and all values, so that it shows the same to everyone who
opens it. Whether the visitor follows the newest generator is therefore kept in the session and not in the URL.
"""

import dataclasses
from dataclasses import dataclass

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from models.view_link import View, ViewError, encode, from_link, pairs
from models.views import PX

HOME = "explore"
"""Kind of the page at the app's URL without a path."""
PX_NAME = "px"
"""Parameter of a link for the digest of its pixels. It is not part of the view."""
MAX_UNSEEN = 8
"""Maximum number of URLs that the browser may have to catch up with."""


@dataclass(frozen=True)
class Link:
    """The view that the URL names."""

    view: View
    problems: tuple[ViewError, ...]
    """Invalid values of the link that brought the visitor here."""
    version: str
    """Changes when a link is opened or a run is chosen."""
    opened: View | None = None
    """The view of the link that brought the visitor here, until a run or a generator is chosen."""
    px: str = ""
    """Digest of the pixels that the link names; empty if it names none, or another run or generator was chosen."""
    is_searched: bool = True
    """False: its generator was not found, but not all runs could be searched."""


@dataclass
class _Memory:
    """The state of a session between runs of the script."""

    run: str = ""
    step: int | None = None
    """None: follow the newest generator."""
    g: str = ""
    """As in `View`."""
    opened: View | None = None
    """As in `Link`."""
    px: str = ""
    """Digest of the pixels, as in `Link`."""
    views: dict[str, View] = dataclasses.field(default_factory=dict)
    """The last view of each kind."""
    known: list[tuple[str, tuple[tuple[str, str], ...]]] = dataclasses.field(default_factory=list)
    """Kind and parameters of the URL that the browser sent last, and of those that were written since, newest last."""
    problems: tuple[str, tuple[ViewError, ...]] = ("", ())
    """Kind of the page that a link opened, and the invalid values of that link."""
    versions: int = 0


def _memory() -> _Memory:
    return st.session_state.setdefault("address", _Memory())


def _current() -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name in st.query_params for value in st.query_params.get_all(name))


def read(view_class: type[View], start: View) -> Link:
    """Return the view of the URL if it is a new link, else the view that the page showed last, or `start`.

    A click may be sent before the URL of the click before has reached the browser, and then brings the older URL. That
    is no new link, unless the visitor went back to it.
    """
    memory, current, kind = _memory(), _current(), view_class.kind
    confirm(kind)
    if current and ((kind, current) not in memory.known or _is_back_or_forward()):
        view, problems = from_link(view_class, [pair for pair in current if pair[0] != PX_NAME])
        px = dict(current).get(PX_NAME, "")
        memory.px = px if PX.fullmatch(px) else ""
        memory.run = view.run
        memory.step, memory.g = (None, "") if view.names_epoch else (view.step, view.g)
        memory.opened = view
        memory.views[kind] = view
        memory.problems = (kind, problems)
        memory.versions += 1
        _remember(kind, current)
        for key in [key for key in st.session_state if isinstance(key, str) and key.startswith(f"{kind}.")]:
            del st.session_state[key]  # widgets take their values from the view again
    elif memory.problems[0] != kind:
        memory.problems = (kind, ())
    view = memory.views.get(kind, start)
    g = view.g if view.names_epoch else memory.g
    view = dataclasses.replace(view, run=memory.run, step=memory.step, g=g)
    return Link(view, memory.problems[1], str(memory.versions), memory.opened, memory.px)


def _is_back_or_forward() -> bool:
    """Return whether the script runs because the visitor went back or forward in the browser's history."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def confirm(kind: str) -> None:
    """Note which URL the browser has: it will not send an older one again, unless a visitor opens it."""
    memory, current = _memory(), (kind, _current())
    if current in memory.known:
        memory.known = memory.known[memory.known.index(current) :]


def choose(run: str, step: int | None, g: str = "") -> None:
    """Show this generator from the next run of the script on; None: follow the newest."""
    memory = _memory()
    if run != memory.run:
        for kind, view in memory.views.items():  # another run has other epochs
            if hasattr(view, "epoch"):
                memory.views[kind] = dataclasses.replace(view, epoch=None, g="")  # type: ignore[call-arg]
        memory.versions += 1
    memory.run, memory.step, memory.g, memory.opened, memory.px = run, step, g, None, ""
    memory.problems = ("", ())


def move(run: str) -> None:
    """Show this run, because it holds the generator that the link names."""
    _memory().run = run


def publish(view: View) -> None:
    """Write this view into the URL."""
    confirm(view.kind)
    memory, address = _memory(), tuple(pairs(view))
    memory.views[view.kind] = view
    if address != _current():
        st.query_params.from_dict(dict(address))
    _remember(view.kind, address)


def _remember(kind: str, address: tuple[tuple[str, str], ...]) -> None:
    memory = _memory()
    if memory.known[-1:] != [(kind, address)]:
        memory.known = [*memory.known[1 - MAX_UNSEEN :], (kind, address)]


def relative_url(view: View) -> str:
    """Return the URL of a view, relative to any page of the app."""
    text = encode(view)
    return "./" + text.removeprefix(HOME) if view.kind == HOME else text
