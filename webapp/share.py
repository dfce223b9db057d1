"""Routes of a permalink: a page without JavaScript, its pictures, an embedded form, oEmbed, and the link itself.

`/api/v1/look` and `/api/v1/prompt` answer what the pages ask about the generator of a link.

All that a route shows follows from the query, so the server keeps no state, and a link works on every server that has
the generator.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from models.prompt import Abilities, read_prompt
from models.view_link import ViewError, encode
from models.views import MAX_LINK, DrawingView, ExploreView, GenerateView, InterpolateView, Permalink, WriteView
from trainer.run_store import RunStoreError
from webapp import catalog, inference, rendering, share_page, wording
from webapp.card import HEIGHT, WIDTH, card
from webapp.classes import slug
from webapp.delivery import IMMUTABLE
from webapp.environment import PUBLIC_URL_VARIABLE
from webapp.look import look
from webapp.rendering import BusyError, ClientLimit, Found, Limited, NotHereError

MOVING = "public, max-age=60"
"""Caching of what a link shows that does not name its generator: it may show another one later."""
NO_SCRIPT = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors {}"
)
KINDS = {
    "image.png": "png",
    "image.svg": "svg",
    "animation.gif": "gif",
    "animation.webp": "webp",
    "animation.mp4": "mp4",
    "frames.bin": "frames",
}
MEDIA = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "frames": "application/octet-stream",
}
RETRY_SECONDS = {429: "30", 503: "5"}
"""Status -> seconds after which a client may ask again."""
T = TypeVar("T")


def base_url(request: Request) -> str:
    """Return the URL of the app, with a slash at its end: the public one, or that of the request.

    The middleware has checked the host of the request.
    """
    if public := os.environ.get(PUBLIC_URL_VARIABLE):
        return public.rstrip("/") + "/"
    return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}{request.scope.get('root_path', '')}/"


class RefusalError(Exception):
    """An answer that is an error: a status, and a message for the visitor."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Routes:
    """The routes; they share the limits of what is drawn at the same time and for one client."""

    def __init__(self) -> None:
        self.limited = Limited()
        self.clients = ClientLimit()

    @property
    def routes(self) -> list[Route]:
        """All routes."""
        return [
            Route("/s", self.page),
            Route("/s/link", self.link),
            *[Route(f"/s/{name}", partial(self.file, kind=kind)) for name, kind in KINDS.items()],
            Route("/embed", self.embed),
            Route("/oembed", self.oembed),
            Route("/api/v1/look", self.look),
            Route("/api/v1/prompt", self.prompt),
        ]

    async def page(self, request: Request) -> Response:
        """Answer with the page of a permalink."""
        base = base_url(request)
        try:
            found, _ = await self._found(request, request.url.query)
            px, number = await self._run(lambda: rendering.digest(found))
            text = await self._run(lambda: share_page.page(found, px, number, base))
        except RefusalError as refusal:
            return _html(share_page.refusal(refusal.message), refusal.status)
        return _html(text, headers=_caching(found, px))

    async def embed(self, request: Request) -> Response:
        """Answer with the pictures alone, for a frame on any page."""
        try:
            found, _ = await self._found(request, request.url.query)
            px, _ = await self._run(lambda: rendering.digest(found))
        except RefusalError as refusal:
            return _html(share_page.refusal(refusal.message), refusal.status, frames="*")
        return _html(share_page.embed(found, px), headers=_caching(found, px), frames="*")

    async def file(self, request: Request, kind: str) -> Response:
        """Answer with pictures as a file; `card=1` asks for a card, `download=1` for a file to save."""
        try:
            found, own = await self._found(request, request.url.query)
            if own.get("card") == "1" and kind == "png":
                px, content = await self._run(lambda: _card(found))
            else:
                px, content = await self._run(lambda: rendering.file(found, kind))
        except RefusalError as refusal:
            return _text(refusal)
        headers = _caching(found, px)
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if own.get("download") == "1":
            headers["Content-Disposition"] = f'attachment; filename="{file_name(found, kind)}"'
        return Response(content, media_type=MEDIA[kind], headers=headers)

    async def link(self, request: Request) -> Response:
        """Answer with the permalink of a view, as JSON: with every value, the generator, and the digest."""
        base = base_url(request)
        try:
            found, _ = await self._found(request, request.url.query)
            px, number = await self._run(lambda: rendering.digest(found))
        except RefusalError as refusal:
            return JSONResponse({"error": refusal.message}, refusal.status, headers=_retry(refusal.status))
        link = Permalink(found.link.view, px)
        return JSONResponse(
            {
                "url": base + link.text,
                "page": base + encode(link.view),
                "px": px,
                "pixels": number,
                "markdown": share_page.markdown(found, link, base),
                "embed": share_page.embed_code(found, link, base),
                "verdict": wording.reproduced(found.link.px, px, number),
            },
            headers={"Cache-Control": "no-cache"},
        )

    async def look(self, request: Request) -> Response:
        """Answer with what the digit reader and the discriminator make of the first picture of a view, as JSON."""
        try:
            found, _ = await self._found(request, request.url.query)
            judged = await self._run(lambda: look(found.key, found.link.view))
        except RefusalError as refusal:
            return JSONResponse({"error": refusal.message}, refusal.status, headers=_retry(refusal.status))
        return JSONResponse(judged, headers={"Cache-Control": MOVING})

    async def prompt(self, request: Request) -> Response:
        """Answer with what the words of a prompt (`words=`) set in a view of Explore, as JSON."""
        try:
            found, own = await self._found(request, request.url.query)
            answer = await self._run(lambda: _prompted(found, own.get("words", "")))
        except RefusalError as refusal:
            return JSONResponse({"error": refusal.message}, refusal.status, headers=_retry(refusal.status))
        return JSONResponse(answer, headers={"Cache-Control": MOVING})

    async def oembed(self, request: Request) -> Response:
        """Answer to an oEmbed request (oembed.com) for one of our permalinks."""
        query = request.query_params
        base = base_url(request)
        url = query.get("url", "")
        if query.get("format", "json") != "json":
            return PlainTextResponse("Only format=json is offered.", 501)
        if len(url) > MAX_LINK or not url.startswith((base + "s?", base + "embed?")):
            return PlainTextResponse("url must be a permalink of this app.", 404)
        try:
            found, _ = await self._found(request, urlsplit(url).query)
            px, _ = await self._run(lambda: rendering.digest(found))
        except RefusalError as refusal:
            return _text(RefusalError(404 if refusal.status == 400 else refusal.status, refusal.message))
        width = _size(query.get("maxwidth"), share_page.EMBED_WIDTH)
        height = _size(query.get("maxheight"), share_page.EMBED_HEIGHT)
        link = Permalink(found.link.view, px)
        answer = {
            "version": "1.0",
            "type": "rich",
            "provider_name": "DigitForge",
            "provider_url": base,
            "title": share_page.title(found),
            "html": share_page.embed_code(found, link, base, width, height),
            "width": width,
            "height": height,
        }
        if _size(query.get("maxwidth"), WIDTH) == WIDTH and _size(query.get("maxheight"), HEIGHT) == HEIGHT:
            answer["thumbnail_url"] = f"{base}s/image.png?{link.query}&card=1"
            answer |= {"thumbnail_width": WIDTH, "thumbnail_height": HEIGHT}  # both must respect the limits, too
        return JSONResponse(answer, headers={"Cache-Control": MOVING})

    async def _found(self, request: Request, query: str) -> tuple[Found, dict[str, str]]:
        """Return what a query names, and those of its values that are only for the route."""
        if request.client and not self.clients.allows(request.client.host):
            raise RefusalError(429, "Your address has asked for many pictures in the last minute. Wait for a minute.")
        if len(query) > MAX_LINK:
            raise RefusalError(400, f"A link has at most {MAX_LINK} characters.")
        try:
            items = parse_qsl(query, keep_blank_values=True, max_num_fields=50)
        except ValueError:
            raise RefusalError(400, "A link has at most 50 values.") from None
        own = {name: value for name, value in items if name in ("card", "download", "words")}
        rest = [(name, value) for name, value in items if name not in own]
        return await self._run(lambda: rendering.find(rest)), own

    async def _run(self, function: Callable[[], T]) -> T:
        """Run what reads or draws in a thread; raise `RefusalError` for what goes wrong."""
        try:
            return await self.limited.run(function)
        except BusyError:
            raise RefusalError(503, "Too many pictures are being drawn now. Try again in a few seconds.") from None
        except ViewError as error:
            raise RefusalError(400, f"A value in this link cannot be used. {error}.") from None
        except NotHereError as error:
            raise RefusalError(404, f"This picture cannot be drawn here: {error}") from None
        except RunStoreError as error:
            raise RefusalError(503, catalog.without_paths(str(error))) from None
        except ValueError as error:
            raise RefusalError(400, f"{error}") from None


def _prompted(found: Found, text: str) -> dict[str, Any]:
    """Return the values that a prompt sets in a view of Explore, and what each part of it moves.

    Raises `ValueError` for a prompt that cannot be read, and for a value that the view cannot have.
    """
    view = found.link.view
    if not isinstance(view, ExploreView):
        raise ValueError("A prompt changes a view of Explore only.")
    loaded = inference.load(found.key)
    prompt = read_prompt(text, Abilities.of(loaded))
    said = {"digit": prompt.digit, "seed": prompt.seed, "truncation": prompt.truncation}
    values: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    values |= prompt.values(loaded.table, values.get("digit", view.digit or 0))
    try:
        replace(view, **values)
    except ViewError as error:  # `_run` would call it a value of a link
        raise ValueError(str(error)) from None
    return {"values": values, "moves": [asdict(move) for move in prompt.moves]}


def _card(found: Found) -> tuple[str, bytes]:
    pixels = found.pixels()
    px, _ = rendering.digest(found)
    return px, card(found.link.view, pixels, share_page.title(found), share_page.origin(found))


def file_name(found: Found, kind: str) -> str:
    """Return a name for a saved file, such as digit-7-seed-5.png."""
    view: DrawingView = found.link.view
    suffix = "bin" if kind == "frames" else kind
    if isinstance(view, InterpolateView):
        digits = [slug(found.classes.name(digit)) for digit, _ in view.stops if digit is not None]
        return f"interpolation-{'-to-'.join(digits) or view.from_seed}.{suffix}"
    if isinstance(view, WriteView):
        return f"written-{slug(view.text)}.{suffix}"
    digit = view.digit if isinstance(view, ExploreView) else None
    if isinstance(view, GenerateView) and view.digits and len(view.digits) == 1 and digit in (None, view.digits[0]):
        return f"{found.classes.noun}-{slug(found.classes.name(view.digits[0]))}-seed-{view.seed}.{suffix}"
    return f"{found.classes.nouns}-seed-{view.seed if isinstance(view, GenerateView) else 0}.{suffix}"


def _caching(found: Found, px: str) -> dict[str, str]:
    return {"Cache-Control": IMMUTABLE if found.is_pinned else MOVING, "ETag": f'"{px}"'}


def _retry(status: int) -> dict[str, str]:
    return {"Retry-After": RETRY_SECONDS[status]} if status in RETRY_SECONDS else {}


def _text(refusal: RefusalError) -> Response:
    return PlainTextResponse(refusal.message, refusal.status, headers=_retry(refusal.status))


def _html(text: str, status: int = 200, headers: dict[str, str] | None = None, frames: str = "'self'") -> Response:
    policy = {"Content-Security-Policy": NO_SCRIPT.format(frames)}
    return HTMLResponse(text, status, headers=policy | _retry(status) | (headers or {}))


def _size(text: str | None, limit: int) -> int:
    """Return a size that an oEmbed request asks for, at most `limit`; a text that is no size means `limit`."""
    is_size = text and text.isascii() and text.isdigit() and len(text) < 6 and int(text)
    return min(int(text), limit) if text and is_size else limit
