"""Routes of what the browser draws with: our scripts, Plotly, the generator files. Their URLs name their content."""

import functools
import hashlib
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from models.view_link import G_LENGTH, View

if TYPE_CHECKING:
    from webapp import inference

FOLDER = Path(__file__).resolve().with_name("browser")
SCRIPTS = "api/v1/browser"
GENERATORS = "api/v1/generators"
PLOTLY = "api/v1/plotly"
IMMUTABLE = "public, max-age=31536000, immutable"
SHA256 = re.compile(r"[0-9a-f]{64}")


@functools.cache
def _scripts() -> tuple[str, dict[str, bytes]]:
    """Return a hash of all scripts, and each script by its name."""
    scripts = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("*.js"))}
    digest = hashlib.sha256()
    for name, content in scripts.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16], scripts


def scripts_url() -> str:
    """Return the URL of the folder of our scripts, relative to the app's."""
    return f"{SCRIPTS}/{_scripts()[0]}/"


@functools.cache
def plotly_url() -> str:
    """Return the URL of plotly.js, relative to the app's. It is that of the installed Python package."""
    return f"{PLOTLY}/{version('plotly')}.js"


@functools.cache
def _plotly() -> bytes:
    return (files("plotly") / "package_data" / "plotly.min.js").read_bytes()


def weights_url(sha256: str) -> str:
    """Return the URL of a generator file, relative to the app's."""
    return f"{GENERATORS}/{sha256}.safetensors"


async def script(request: Request) -> Response:
    """Answer with one of our scripts."""
    version, scripts = _scripts()
    content = scripts.get(request.path_params["name"])
    if content is None or request.path_params["version"] != version:
        return PlainTextResponse("There is no such script.", 404)
    return Response(content, media_type="text/javascript", headers={"Cache-Control": IMMUTABLE})


async def plotly(request: Request) -> Response:
    """Answer with plotly.js."""
    if request.path_params["version"] != version("plotly"):
        return PlainTextResponse("There is no such version.", 404)
    # The middleware compresses it from 4.8 to 1.3 MB, and keeps the result.
    content = await anyio.to_thread.run_sync(_plotly)
    return Response(content, media_type="text/javascript", headers={"Cache-Control": IMMUTABLE})


async def generator(request: Request) -> Response:
    """Answer with the generator file of a hash, which is looked up among all runs and never used as a path."""
    from trainer.run_store import RunStoreError
    from webapp import catalog

    sha256 = request.path_params["sha256"]
    try:
        content = await anyio.to_thread.run_sync(_generator, sha256) if SHA256.fullmatch(sha256) else None
    except RunStoreError as error:
        return PlainTextResponse(catalog.without_paths(str(error)), 503)
    if content is None:
        return PlainTextResponse("There is no such generator.", 404)
    # The middleware does not compress this type: it would save 7 %, and cost the server 20 to 50 ms.
    return Response(content, media_type="application/octet-stream", headers={"Cache-Control": IMMUTABLE})


def _generator(sha256: str) -> bytes | None:
    """Return the content of a generator file; None if no run holds it.

    Raises `RunStoreError` if not all runs could be searched, or if the store does not answer.
    """
    from trainer.run_store import DamagedError, RunStoreError
    from webapp import catalog, inference

    listing = catalog.list_runs()
    entry, is_complete = catalog.holder(sha256[:G_LENGTH], listing)
    if entry is None:
        if is_complete and not listing.problems:
            return None
        raise RunStoreError("Not all runs could be searched. Try again.")
    found = catalog.generator(entry.key, View(g=sha256[:G_LENGTH]))
    if found is None or found.sha256 != sha256:
        return None
    try:
        return _content(sha256, inference.GeneratorKey(entry.key, found.step, sha256))
    except (DamagedError, inference.GeneratorGoneError):
        return None


@st.cache_data(max_entries=8, show_spinner=False)
def _content(sha256: str, _key: "inference.GeneratorKey") -> bytes:
    from webapp import inference

    return inference.read(_key)[1]


ROUTES = [
    Route(f"/{SCRIPTS}/{{version}}/{{name}}", script),
    Route(f"/{PLOTLY}/{{version}}.js", plotly),
    Route(f"/{GENERATORS}/{{sha256}}.safetensors", generator),
]
