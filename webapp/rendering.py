"""Drawing for routes: find the generator of a link, limit the work, and make one file of each kind.

The pages of the app draw in fragments of Streamlit; these functions draw for an HTTP request without one.
"""

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TypeVar

import anyio
import anyio.to_thread
import numpy as np
import streamlit as st
from numpy.typing import NDArray

from models import pictures
from models.view_link import G_LENGTH, View, ViewError
from models.views import DrawingView, GenerateView, InterpolateView, Permalink, WriteView, from_query
from trainer.run_store import RunStoreError, StoredGenerator
from webapp import catalog, inference
from webapp.catalog import RunEntry
from webapp.classes import Classes
from webapp.drawing import multiply_accumulates

SLOTS = 2
"""Requests that draw at the same time."""
MAX_WAITING = 6
"""Limit of the requests that wait for a slot."""
MAX_WORK = 21e9
"""Limit of the multiply-accumulates of one request: a few seconds for the slowest generators that are shipped."""
MAX_PER_MINUTE = 300
"""Limit of the requests of one client in a minute. A page needs two to four, and a class may share one address."""
MAX_CLIENTS = 10_000
"""Limit of the clients that are remembered; those that asked least recently are forgotten."""
T = TypeVar("T")


class NotHereError(RunStoreError):
    """The generator that a link names is not among the runs that the app can see."""


class BusyError(RuntimeError):
    """More requests wait than the server can serve soon."""


@dataclass(frozen=True)
class Found:
    """A link with its generator."""

    link: Permalink
    """With every value named, and with the generator's hash."""
    is_pinned: bool
    """Whether the link named the generator itself."""
    entry: RunEntry
    stored: StoredGenerator
    key: inference.GeneratorKey
    classes: Classes

    def pixels(self) -> NDArray[np.uint8]:
        """Draw the view."""
        return inference.frames(self.key, self.link.view)


def find(items: Sequence[tuple[str, str]]) -> Found:
    """Return what the query of a permalink names.

    Raises `ViewError` for a bad value or for too much work, `NotHereError`, and other errors of a run store.
    """
    link = from_query(items)
    entry, stored = locate(link.view)
    key = inference.GeneratorKey(entry.key, stored.step, stored.sha256)
    loaded = inference.load(key)
    view = pictures.explicit(loaded, link.view)
    number = _pictures(view)
    limit = int(MAX_WORK // multiply_accumulates(loaded.config))
    if number > limit:
        name = {InterpolateView: "frames", WriteView: "text"}.get(type(view), "count")
        raise ViewError(name, f"makes {number} pictures; of this generator, one request draws at most {limit}")
    view = dataclasses.replace(view, run=entry.key, step=stored.step, g=stored.sha256[:G_LENGTH])
    classes = Classes(loaded.config.num_classes, loaded.class_names)
    return Found(Permalink(view, link.px), bool(link.view.g), entry, stored, key, classes)


def _pictures(view: DrawingView) -> int:
    if isinstance(view, InterpolateView):
        return view.number
    if isinstance(view, WriteView):
        return len(view.digits)
    return len(view.digits or (0,)) * view.count if isinstance(view, GenerateView) else 1


def locate(view: View) -> tuple[RunEntry, StoredGenerator]:
    """Return the run and the generator that a view names. Raises `NotHereError` if no run holds it."""
    found = catalog.locate(view, catalog.list_runs())
    if found.entry and found.stored:
        return found.entry, found.stored
    if view.g:
        more = "" if found.is_searched else " Not all runs could be searched in time; try again."
        raise NotHereError(f"the generator {view.g} is not among the runs that this app can see.{more}")
    where = f"the run {view.run}" if view.run else "a run"
    raise NotHereError(f"{where}, step {view.step if view.step is not None else 'newest'}, is not here")


@st.cache_data(max_size="64MB", show_spinner=False)
def _file(sha256: str, text: str, kind: str, _found: Found) -> tuple[str, bytes]:
    pixels = _found.pixels()
    px = pictures.digest(pixels)
    if kind == "frames":
        return px, pixels.tobytes()
    note = Permalink(_found.link.view, px).text
    return px, pictures.file_of(_found.link.view, pixels, kind, note)


def file(found: Found, kind: str) -> tuple[str, bytes]:
    """Return the digest of a view's pixels, and its file: png, svg, gif, webp, mp4, or frames, which are the pixels.

    Raises `ValueError` for a kind that does not show the view.
    """
    return _file(found.key.sha256, Permalink(found.link.view).text, kind, found)


def digest(found: Found) -> tuple[str, int]:
    """Return the digest of a view's pixels, and their number."""
    pixels = found.pixels()
    return pictures.digest(pixels), pixels.size


class Limited:
    """Runs functions in threads: `SLOTS` at a time, while at most `MAX_WAITING` wait."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None  # needs an event loop
        self._waiting = 0

    async def run(self, function: Callable[[], T]) -> T:
        """Return what a function returns. Raises `BusyError` if too many wait already."""
        if self._waiting >= SLOTS + MAX_WAITING:
            raise BusyError
        self._limiter = self._limiter or anyio.CapacityLimiter(SLOTS)
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)
        finally:
            self._waiting -= 1


class ClientLimit:
    """Counts the requests of each client, over a window of one minute that slides.

    Requests from this machine itself are not counted: a proxy may stand there for all visitors. A proxy that names them
    (`X-Forwarded-For`) is believed by uvicorn, and then they are counted.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
        """Client -> a minute, the requests in it, and those in the minute before."""

    def allows(self, host: str, now: float | None = None) -> bool:
        """Count a request of a client, and return whether it may be answered. `now` is a time in seconds."""
        if (client := _network(host)) is None:
            return True
        now = time.monotonic() if now is None else now
        minute, share = int(now // 60), now % 60 / 60
        then, count, before = self._counts.pop(client, (minute, 0, 0))
        if then != minute:
            count, before = 0, count if then == minute - 1 else 0
        is_allowed = before * (1 - share) + count < MAX_PER_MINUTE
        self._counts[client] = (minute, count + is_allowed, before)
        if len(self._counts) > MAX_CLIENTS:
            self._counts.popitem(last=False)
        return is_allowed


def _network(host: str) -> str | None:
    """Return what identifies a client: its IPv4 address, or its /64 network; None for this machine."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:  # a proxy may name its visitors in another way
        return host[:64]
    if address.is_loopback:
        return None
    return str(address) if address.version == 4 else str(ip_network((address, 64), strict=False))
