"""The app that uvicorn serves: Streamlit's pages, with a warm-up, middleware and more routes."""

import gc
import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_compress import CompressMiddleware

from webapp import delivery, share
from webapp.environment import HOSTS_VARIABLE, ROUTES_VARIABLE, SAMPLES_ROUTE
from webapp.shell import first_picture_url, icon_font, not_found, script_hashes, shell
from webapp.trainings import TRAININGS

SCRIPT = Path(__file__).resolve().with_name("app.py")
ICONS = SCRIPT.with_name("icons.woff2")
"""The icons that the app can show, in place of Streamlit's whole icon font; written by tools/icons.py."""
FAVICON = SCRIPT.with_name("favicon.ico")
HIDDEN = ("_stcore/metrics",)
"""Paths of Streamlit that visitors have no use for: it tells of all sessions and caches."""

MOVED = {"architecture": ("how", "part=7"), "gallery": ("training", "")}
"""Kind of a page of earlier versions -> that of the page that it is a part of now, and the part's parameter."""

MAX_COMPRESSED = 6
"""Limit of the answers that `CompressedOnce` keeps; each has 1.3 MB, uncompressed 4.8 MB."""

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers that a proxy adds."""
ROBOTS = "User-agent: *\nDisallow: /_stcore/\nDisallow: /api/\n"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        # 'wasm-unsafe-eval' is for webapp/browser/sums.js, blob: for our components.
        f"script-src 'self' 'wasm-unsafe-eval' blob: {' '.join(script_hashes())}",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityHeaders:
    """Middleware that adds `HEADERS` to every HTTP response that does not have its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class ThisMachineOnly:
    """Middleware that refuses all but the browsers of this machine, if visitors may start trainings.

    The server listens on a loopback address then. A proxy on this machine could still lead others to it, and a web site
    could make a browser of this machine call it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not TRAININGS.is_allowed or scope["type"] == "lifespan" or is_from_this_machine(scope):
            await self.app(scope, receive, send)
        else:
            text = (
                "This app may start trainings (--allow-training), so it answers to browsers of its own machine only.\n"
            )
            await _refuse(text, scope, receive, send)


def is_from_this_machine(scope: Scope) -> bool:
    """Return whether a request comes from a browser of this machine, and from a page of this app if it says from where.

    The client and the Host are loopback addresses or localhost, no proxy has forwarded it, and an Origin is ours.
    """
    headers = Headers(scope=scope)
    host = _host_name(headers.get("host", ""))
    origin = headers.get("origin")
    return (
        _is_loopback((scope.get("client") or ("",))[0])
        and (host == "localhost" or host.endswith(".localhost") or _is_loopback(host))
        and (origin is None or origin in (f"http://{headers['host']}", f"https://{headers['host']}"))
        and not any(name in headers for name in FORWARDED)
    )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


async def _refuse(text: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 403 with a text."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the browser gets a 403
    else:
        await PlainTextResponse(text, 403)(scope, receive, send)


class AllowedHosts:
    """Middleware that refuses a request for a host name that is not ours.

    A web site can make its own name lead to this machine and so reach an app that only this machine can reach (DNS
    rebinding). The browser then still sends the name of the site.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] in ("http", "websocket") else None
        if host is None or is_allowed_host(host):
            await self.app(scope, receive, send)
        else:
            text = "This app does not answer to this host name; `python -m webapp --allow-host NAME` allows one.\n"
            await _refuse(text, scope, receive, send)


def _host_name(host: str) -> str:
    """Return the name or address in a Host header, in lower case; empty if the header is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        name = (parts.hostname or "").rstrip(".")
        _ = parts.port
    except ValueError:
        return ""
    return "" if parts.username is not None or parts.path or parts.query or parts.fragment else name


def is_allowed_host(host: str) -> bool:
    """Return whether a Host header names this app: localhost, an IP address, or a name in `HOSTS_VARIABLE`."""
    if not (name := _host_name(host)):
        return False
    with suppress(ValueError):
        ip_address(name.partition("%")[0])
        return True  # no name, so no DNS
    names = [each.strip().lower() for each in os.environ.get(HOSTS_VARIABLE, "").split(",")]
    return name == "localhost" or name.endswith(".localhost") or name in names or "*" in names


class CompressedOnce:
    """Middleware that keeps the compressed answers with plotly.js: to compress it takes 0.2 s of processor time.

    They are kept by the request's Accept-Encoding, of which browsers have few.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.kept: dict[tuple[str, str], list[Message]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != f"/{delivery.plotly_url()}":
            await self.app(scope, receive, send)
            return
        key = (scope["path"], Headers(scope=scope).get("accept-encoding", ""))
        messages = self.kept.get(key)
        if messages is None:
            messages = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await self.app(scope, receive, keep)
            if messages[0]["status"] == 200:  # an error, or a part of the file, is for this request only
                while len(self.kept) >= MAX_COMPRESSED:
                    del self.kept[next(iter(self.kept))]
                self.kept[key] = messages
        for message in messages:
            await send(dict(message))


class Pages:
    """Middleware that answers a page's path with its shell, and a path that is not ours with 404.

    Streamlit itself answers every unknown path with the same HTML and status 200.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OWN_PATHS:
            await self.app(scope, receive, send)
        elif response := _page(scope):
            await response(scope, receive, send)
        else:
            await self._without_fallback(scope, receive, send)

    async def _without_fallback(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_fallback = False

        async def send_unless_fallback(message: Message) -> None:
            nonlocal is_fallback
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
                is_fallback = message["status"] == 200 and kind.startswith("text/html")
                if is_fallback:
                    await _not_found(scope)(scope, receive, send)
            if not is_fallback:
                await send(message)

        await self.app(scope, receive, send_unless_fallback)


def _page(scope: Scope) -> Response | None:
    """Return the answer for the path of a page; None for any other path."""
    from models.views import GenerateView
    from webapp.address import HOME
    from webapp.frame import PAGES

    if scope["method"] not in ("GET", "HEAD"):
        return None
    kind = scope["path"].removeprefix("/")
    if kind in (HOME, GenerateView.kind):  # the text of a view, as older versions wrote it into a PNG, is a path too
        query = scope["query_string"].decode("latin-1")
        return RedirectResponse(f"./?{query}" if query else "./", 307)
    if kind in MOVED:
        query = "&".join(part for part in (MOVED[kind][1], scope["query_string"].decode("latin-1")) if part)
        return RedirectResponse(f"./{MOVED[kind][0]}" + (f"?{query}" if query else ""), 307)
    if kind in HIDDEN:
        return _not_found(scope)
    if scope["path"] == icon_font():
        return FileResponse(ICONS, media_type="font/woff2", headers={"Cache-Control": "public, max-age=86400"})
    page = next((page for page in PAGES if page.kind == (kind or HOME)), None)
    if page is None:
        return None
    query = scope["query_string"].decode("latin-1")
    picture = first_picture_url(page.start, query) if page.draws and page.start else None
    return HTMLResponse(shell(page.title, page.description, picture), headers={"Cache-Control": "no-cache"})


def _not_found(scope: Scope) -> Response:
    return HTMLResponse(not_found(scope["path"]), 404)


async def robots(request: Request) -> Response:
    """Answer with what search engines may read."""
    return PlainTextResponse(ROBOTS)


async def favicon(request: Request) -> Response:
    """Answer with the app's icon."""
    return FileResponse(FAVICON, media_type="image/x-icon", headers={"Cache-Control": "public, max-age=86400"})


async def health(request: Request) -> Response:
    """Answer `ok`. The warm-up ends before the first request, so an answer means that the app is ready."""
    return PlainTextResponse("ok")


async def samples(request: Request) -> Response:
    """Answer with the sample grid of an epoch. Run and epoch are looked up in the listings, never used as a path."""
    run, started, epoch = (request.query_params.get(name, "") for name in ("run", "started", "epoch"))
    return await anyio.to_thread.run_sync(_samples, run, started, epoch)


def _samples(run: str, started: str, epoch: str) -> Response:
    from trainer.run_store import DamagedError, RunStoreError
    from webapp import catalog

    try:
        entry = catalog.list_runs().find(run)
        if entry is None or repr(entry.started) != started:
            return PlainTextResponse("There is no such run.", 404)
        listings = (catalog.epochs, lambda key: catalog.run_of(key).epochs())  # the first one is up to 2 s old
        known = next((each for listing in listings for each in listing(run) if str(each) == epoch), None)
        if known is None:
            return PlainTextResponse("The run has no such epoch.", 404)
        png = catalog.samples(run, entry.started, known)
    except DamagedError:
        return PlainTextResponse("The picture of this epoch is damaged.", 404)
    except RunStoreError as error:
        return PlainTextResponse(catalog.without_paths(str(error)), 503)
    return Response(png, media_type="image/png", headers={"Cache-Control": delivery.IMMUTABLE})


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Before the server answers, load what the first visitor would otherwise wait for."""
    os.environ[ROUTES_VARIABLE] = "1"
    await anyio.to_thread.run_sync(_warm_up)
    gc.collect()
    gc.freeze()  # the objects of the libraries stay, so later collections can skip them
    yield {}


def _warm_up() -> None:
    from models.view_link import pairs
    from trainer.run_store import RunStoreError
    from webapp import charts, frame, rendering  # noqa: F401 (frame loads the modules of all pages)
    from webapp.views import explore

    # Streamlit and Plotly import it when they need it. Two visitors at once would see it half imported.
    importlib.import_module("pandas")
    try:  # what the home page shows first, for its component and as the picture before that is loaded
        rendering.file(rendering.find([("kind", explore.START.kind), *pairs(explore.START)]), "png")
    except (RunStoreError, ValueError):  # the page will show the error
        return


def show_error(error: Exception) -> bool:
    """Show an error of a page, which is in the log already, in our own words; return True: nothing else is shown."""
    from webapp import notices

    notices.failed()
    return True


ROUTES = [
    Route("/healthz", health),
    Route(SAMPLES_ROUTE, samples),
    Route("/robots.txt", robots),
    Route("/favicon.ico", favicon),
    *delivery.ROUTES,
    *share.Routes().routes,
]
OWN_PATHS = {route.path for route in ROUTES}

app = st.App(
    SCRIPT,
    lifespan=lifespan,
    on_script_error=show_error,
    routes=ROUTES,
    middleware=[
        Middleware(SecurityHeaders),
        Middleware(ThisMachineOnly),
        Middleware(AllowedHosts),
        Middleware(CompressedOnce),
        # Without remove_accept_encoding, Streamlit would choose gzip before.
        Middleware(CompressMiddleware, zstd_level=9, brotli_quality=5, gzip_level=6, remove_accept_encoding=True),
        Middleware(Pages),
    ],
)
