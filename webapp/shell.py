"""The HTML that a browser gets first: Streamlit's own page, with the title and the description of ours."""

import base64
import functools
import hashlib
import html
import re

from streamlit.file_util import get_static_dir

APP = "DigitForge"
TITLE = re.compile(r"<title>.*?</title>", re.DOTALL)
NOSCRIPT = re.compile(r"<noscript>.*?</noscript>", re.DOTALL)
AGENTS = re.compile(r"<!--\s*Machine-readable pointer.*?-->\s*<link rel=\"service-desc\"[^>]*>", re.DOTALL)
ICON = re.compile(r"\./favicon\.png")
INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)

# Without a base URL, the front end first looks for its server below the page's path, where nothing answers.
BASE_SCRIPT = "window.__streamlit = { BACKEND_BASE_URL: new URL('./', window.location.href).href }"


def title_of(page: str) -> str:
    """Return the title of a page for the browser's tab."""
    return f"{page} - {APP}"


def shell(page: str, description: str) -> str:
    """Return the HTML of a page, which loads Streamlit's front end."""
    title, description = html.escape(title_of(page)), html.escape(description)
    head = f'<title>{title}</title>\n    <meta name="description" content="{description}">'
    return TITLE.sub(lambda _: head, _shell(), count=1)


@functools.cache
def _shell() -> str:
    """Return Streamlit's page without what it says of itself; raises `RuntimeError` if it is not as expected."""
    with open(f"{get_static_dir()}/index.html", encoding="utf-8") as file:
        text = file.read()
    noscript = f"<noscript>{APP} needs JavaScript.</noscript>"
    base = f"<title></title>\n    <script>{BASE_SCRIPT}</script>"
    for pattern, new in ((NOSCRIPT, noscript), (AGENTS, ""), (ICON, "./favicon.ico"), (TITLE, base)):
        text, count = pattern.subn(lambda _, new=new: new, text)  # type: ignore[misc]
        if count != 1:
            raise RuntimeError(f"Streamlit's index.html has changed: {pattern.pattern} is in it {count} times")
    return text


@functools.cache
def script_hashes() -> tuple[str, ...]:
    """Return the sources of the inline scripts of the page for a content security policy."""
    scripts = INLINE_SCRIPT.findall(_shell())
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    return tuple(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def not_found(path: str) -> str:
    """Return the HTML for a path that is none of ours."""
    home = "../" * (path.count("/") - 1) or "./"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title_of("Not found")}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        'content="light dark"></head><body style="font-family: sans-serif; margin: 3rem auto; max-width: 32rem; '
        'padding: 0 1rem"><h1>There is no such page</h1><p>The address may have a typing error.</p>'
        f'<p><a href="{home}">Open {APP}</a></p></body></html>\n'
    )
