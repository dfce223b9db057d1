"""The app that uvicorn serves: Streamlit's pages, with a warm-up, security headers and two more routes."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webapp.environment import ROUTES_VARIABLE, SAMPLES_ROUTE

SCRIPT = Path(__file__).resolve().with_name("app.py")
IMMUTABLE = "public, max-age=31536000, immutable"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        # blob: is for our components; the hash is that of the only script in Streamlit's page.
        "script-src 'self' 'wasm-unsafe-eval' blob: 'sha256-THxz9J9+wf7rhwR2YkXJoSZ13UCmYyC+3lNDv2+8ugA='",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' ws: wss: data: blob:",
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
    """Middleware that adds `HEADERS` to every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


async def health(request: Request) -> Response:
    """Answer `ok`. The warm-up ends before the first request, so an answer means that the app is ready."""
    return PlainTextResponse("ok")


async def samples(request: Request) -> Response:
    """Answer with the sample grid of an epoch. Run and epoch are looked up in the listings, never used as a path."""
    run, started, epoch = (request.query_params.get(name, "") for name in ("run", "started", "epoch"))
    return await anyio.to_thread.run_sync(_samples, run, started, epoch)


def _samples(run: str, started: str, epoch: str) -> Response:
    from trainer.run_store import RunStoreError
    from webapp import catalog

    try:
        entry = catalog.list_runs().find(run)
        if entry is None or repr(entry.started) != started:
            return PlainTextResponse("There is no such run.", 404)
        known = next((each for each in catalog.epochs(run) if str(each) == epoch), None)
        if known is None:
            return PlainTextResponse("The run has no such epoch.", 404)
        png = catalog.samples(run, entry.started, known)
    except RunStoreError as error:
        return PlainTextResponse(str(error), 503)
    return Response(png, media_type="image/png", headers={"Cache-Control": IMMUTABLE})


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Before the server answers, load what the first visitor would otherwise wait for."""
    os.environ[ROUTES_VARIABLE] = "1"
    await anyio.to_thread.run_sync(_warm_up)
    gc.collect()
    gc.freeze()  # the objects of the libraries stay, so later collections can skip them
    yield {}


def _warm_up() -> None:
    from trainer.run_store import RunStoreError
    from webapp import catalog, frame, inference  # noqa: F401 (frame loads the modules of all pages)
    from webapp.views.generate import GenerateView

    entry = catalog.list_runs().default()
    if entry is None:
        return
    try:
        for newest in catalog.generators(entry.key)[-1:]:
            key = inference.GeneratorKey(entry.key, newest.step, newest.sha256)
            labels = tuple(range(inference.load(key).config.num_classes))
            view = GenerateView()
            inference.pictures(key, labels, view.count, view.seed, view.truncation)
    except (RunStoreError, ValueError):  # the page will show the error
        return


app = st.App(
    SCRIPT,
    lifespan=lifespan,
    routes=[Route("/healthz", health), Route(SAMPLES_ROUTE, samples)],
    middleware=[Middleware(SecurityHeaders)],
)
