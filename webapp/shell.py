"""The HTML that a browser gets first: Streamlit's own page, with the title and the description of ours."""

import base64
import functools
import hashlib
import html
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from streamlit.file_util import get_static_dir

from models.view_link import View, from_pairs, pairs

APP = "DigitForge"
STATIC = Path(get_static_dir())
PICTURE_ROUTE = "/s/image.png"
"""Path of the picture of a view, which the server draws."""
EARLY = ("Selectbox", "Html", "BidiComponent")
"""Parts of Streamlit's front end that every page needs. It would ask for them only when the page arrives."""
LATER = re.compile(r"import\(`\./(\w+)\.[\w-]+\.js`\),__vite__mapDeps\(\[([\d,]+)\]\)")
FILES = re.compile(r"m\.f=\[([^\]]*)\]")
ENTRY = re.compile(r'src="\./(static/js/index\.[\w-]+\.js)"')
FONT_PRELOAD = re.compile(r"<link\s+rel=\"preload\"[^>]*as=\"font\"[^>]*>")
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


FIRST_STYLE = """
      html:not(:has([data-testid="stApp"])) { color-scheme: light dark; }
      body:not(:has([data-testid="stApp"])) { background: #ffffff; color: #1d2430; }
      .df-first {
        position: fixed; inset: 0; z-index: 1; pointer-events: none; display: flex; flex-direction: column;
        align-items: center; justify-content: center; gap: 1rem; font: 1rem system-ui, sans-serif;
        visibility: visible; transition: visibility 0s 1e6s; /* once hidden, it does not come back */
      }
      .df-first img { max-width: min(90vw, 560px); max-height: 70vh; image-rendering: pixelated; border-radius: 8px; }
      body:has(h1) .df-first { visibility: hidden; transition: none; }
      @media (prefers-color-scheme: dark) {
        body:not(:has([data-testid="stApp"])) { background: #12151b; color: #e7eaf0; }
      }
"""
"""Style of what stands there until the page has its heading, in the colours of .streamlit/config.toml."""


def shell(page: str, description: str, picture: str | None = None) -> str:
    """Return the HTML of a page, which loads Streamlit's front end; until then it shows a picture, if there is one."""
    title, description = html.escape(title_of(page)), html.escape(description)
    head = f'<title>{title}</title>\n    <meta name="description" content="{description}">'
    image = ""
    if picture:  # asked for before the scripts, or a slow connection would bring it after them
        source = html.escape(picture)
        head = f'<link rel="preload" as="image" fetchpriority="high" href="{source}">\n    {head}'
        image = f'<img src="{source}" alt="" fetchpriority="high">'
    text = TITLE.sub(lambda _: head, _shell(), count=1)
    first = f'<div class="df-first">{image}<span role="status">Loading {APP} ...</span></div>\n  </body>'
    return text.replace("</body>", first, 1)


def first_picture_url(start: View, query: str) -> str | None:
    """Return the URL of the picture that a page shows for a query string; None if a value is invalid.

    `start` is the view of a visitor without a link.
    """
    try:
        items = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "px"]
        view = from_pairs(type(start), items) if items else start
    except ValueError:
        return None
    return f".{PICTURE_ROUTE}?{urlencode([('v', '1'), ('kind', view.kind), *pairs(view)], safe='/')}"


@functools.cache
def icon_font() -> str | None:
    """Return the path of Streamlit's icon font on the server; `icons.woff2` takes its place. None: there is none."""
    found = next(STATIC.glob("static/media/MaterialSymbols-Rounded.*.woff2"), None)
    return f"/{found.relative_to(STATIC).as_posix()}" if found else None


def early_scripts(index: str) -> list[str]:
    """Return the scripts that `EARLY` needs and Streamlit's index.html does not load, in order; empty if not found."""
    entry = ENTRY.search(index)
    if not entry or not (path := STATIC / entry[1]).is_file():
        return []
    script = path.read_text(encoding="utf-8")
    names = FILES.search(script)
    if not names:
        return []
    files = [name.strip('"') for name in names[1].split(",")]
    needed = {name: numbers for name, numbers in LATER.findall(script) if name in EARLY}
    numbers = dict.fromkeys(int(number) for name in EARLY for number in needed.get(name, "").split(",") if number)
    found = [f"static/js/{files[number].removeprefix('./')}" for number in numbers if number < len(files)]
    return [name for name in found if name.endswith(".js") and name not in index and (STATIC / name).is_file()]


@functools.cache
def _shell() -> str:
    """Return Streamlit's page without what it says of itself; raises `RuntimeError` if it is not as expected."""
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    noscript = f"<noscript>{APP} needs JavaScript.</noscript>"
    base = f"<title></title>\n    <script>{BASE_SCRIPT}</script>"
    for pattern, new in ((NOSCRIPT, noscript), (AGENTS, ""), (ICON, "./favicon.ico"), (TITLE, base)):
        text, count = pattern.subn(lambda _, new=new: new, text)  # type: ignore[misc]
        if count != 1:
            raise RuntimeError(f"Streamlit's index.html has changed: {pattern.pattern} is in it {count} times")
    # The font can wait: text is shown in another one until it comes, and it would delay the scripts.
    text = FONT_PRELOAD.sub("", text)
    links = [f'<link rel="modulepreload" crossorigin href="./{name}">' for name in early_scripts(text)]
    return text.replace("</head>", "\n    ".join([*links, f"<style>{FIRST_STYLE}    </style>\n  </head>"]), 1)


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
