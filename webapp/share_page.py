"""The HTML of a permalink: a page without JavaScript, and the form that other sites embed."""

import html
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

from models.attributes import ATTRIBUTES
from models.pictures import kinds
from models.scores import SCORES
from models.view_link import encode
from models.views import DrawingView, ExploreView, GenerateView, InterpolateView, Permalink, QuizView, WriteView
from models.writing import SIGNS
from webapp import catalog, quiz_page, wording
from webapp.game import play
from webapp.rendering import Found

EMBED_WIDTH, EMBED_HEIGHT = 480, 520
SAVED = {
    "png": ("PNG", "s/image.png"),
    "svg": ("SVG", "s/image.svg"),
    "gif": ("GIF", "s/animation.gif"),
    "webp": ("WebP", "s/animation.webp"),
}
"""Kind of a file that a visitor can save -> its name, and its path. Not every server can make an MP4."""
SHOWN_SCORES = ("label_accuracy", "fid")

STYLE, EMBED_STYLE = (Path(__file__).with_name(name) for name in ("share_page.css", "embed.css"))


def title(found: Found) -> str:
    """Return what the pictures are, such as `From a 3 to an 8`."""
    view, classes = found.link.view, found.classes
    asked = _asked(view)
    if isinstance(view, InterpolateView):
        if view.from_digit is None or view.to_digit is None:
            return f"From seed {view.from_seed} to seed {view.to_seed}{asked}"
        names = [classes.one(digit) for digit, _ in view.stops if digit is not None]
        over = f" over {', '.join(names[1:-1])}" if len(names) > 2 else ""
        return f"From {names[0]} to {names[-1]}{over}{asked}"
    if isinstance(view, QuizView):
        return quiz_page.title(play(found.key, view.seed), view.answers)
    if isinstance(view, ExploreView):
        return f"{classes.picture(view.digit)}{asked}, and more that nobody wrote"
    if isinstance(view, GenerateView):
        number = len(view.digits or (0,)) * view.count
        if number == 1:
            return f"{classes.picture((view.digits or (None,))[0])}{asked}, seed {view.seed}"
        return f"{number} pictures of {classes.listed(view.digits or ())}{asked}"
    if isinstance(view, WriteView):
        return f"{view.text.strip()}{' in handwriting' if view.writer is None else ''}{asked}"
    return "A picture"


def _asked(view: DrawingView) -> str:
    """Return the attributes and the writer that a view sets, such as `, slant 20°, in the hand of writer 2154`."""
    parts = [f"{name} {value:g}{ATTRIBUTES[name].unit}" for name, value in view.asked.items() if name in ATTRIBUTES]
    if view.writer is not None:
        parts.append(f"in the hand of writer {view.writer}")
    return "".join(f", {part}" for part in parts)


def origin(found: Found) -> str:
    """Return which generator drew the pictures, such as `Drawn by forge, epoch 10, after 600k training images`."""
    stored = found.stored
    return f"Drawn by {found.entry.name}, epoch {stored.epoch}, after {wording.count(stored.nimg)} training images"


def details(found: Found) -> list[tuple[str, str]]:
    """Return names and values that describe the pictures and their generator."""
    view, stored = found.link.view, found.stored
    rows = [("Pictures", _seeds(view, found)), ("Generator", f"{origin(found)} (step {stored.step:,})")]
    if started := found.entry.started:
        rows.append(("Trained", time.strftime("%-d %B %Y", time.gmtime(started))))
    if scores := catalog.evaluation(found.entry.key, stored.step):
        things = found.classes.things
        texts = [
            f"{SCORES[name].title} {SCORES[name].show(value)} (real {things} {SCORES[name].show(real)})"
            for name in SHOWN_SCORES
            if isinstance(value := scores.generated.get(name), float)
            and isinstance(real := scores.floor.get(name), float)
        ]
        if texts:
            rows.append(("Scores", f"{', '.join(texts)}, of {scores.count:,} {things}"))
    rows.append(("Hash", stored.sha256[:12]))
    return rows


def _seeds(view: DrawingView, found: Found) -> str:
    if isinstance(view, InterpolateView):
        stops = [
            f"{found.classes.one(digit)} (seed {seed})" if digit is not None else f"seed {seed}"
            for digit, seed in view.stops
        ]
        way = "on the arc between the latents" if view.path == "slerp" else "on the straight line between the latents"
        return f"{', then '.join(stops)}; {view.number} frames {way}{_asked(view)}"
    if isinstance(view, WriteView):
        return _written(view)
    if isinstance(view, QuizView):
        return f"ten test images of MNIST, ten generated pictures, game {view.seed}"
    if not isinstance(view, GenerateView):
        return ""
    last = view.seed + view.count - 1
    seeds = f"seed {view.seed}" if view.count == 1 else f"seeds {view.seed} to {last}"
    text = f"{found.classes.listed(view.digits or ())}, {seeds}, truncation {view.truncation:g}{_asked(view)}"
    if isinstance(view, ExploreView) and view.corners:
        corners = ", ".join(map(str, view.corners))
        text = f"{found.classes.picture(view.digit)} at ({view.x:g}, {view.y:g}) between the seeds {corners}; {text}"
    return text


def _written(view: WriteView) -> str:
    """Say how the digits of a text were drawn, and that its signs were not."""
    own = ", ".join(f"digit {number + 1} with seed {seed}" for number, seed in view.own)
    style = (
        f"in one style, seed {view.seed}"
        if view.style == "same"
        else f"each in its own style, from seed {view.seed} on"
    )
    signs = "".join(dict.fromkeys(character for character in view.text if character in SIGNS))
    named = f"the sign{'s' * (len(signs) > 1)} {' '.join(signs)}"
    note = f"; {named} drawn by this app, because the generator knows only digits" if signs else ""
    return f"The digits {style}{f', {own}' if own else ''}, truncation {view.truncation:g}{_asked(view)}{note}"


def page(found: Found, px: str, number: int, base: str) -> str:
    """Return the page of a permalink. `px` and `number` are the digest and the number of its pixels."""
    link = Permalink(found.link.view, px)
    quiz = link.view if isinstance(link.view, QuizView) else None
    intro = quiz_page.INTRO if quiz else "A neural network drew this from random numbers. Nobody wrote it."
    verdict = wording.reproduced(found.link.px, px, number)
    heading, text = title(found), quiz_page.words(quiz) if quiz else f"{origin(found)}. {verdict}"
    url, card = f"{base}{link.text}", f"{base}s/image.png?{link.query}&card=1"
    oembed = f"{base}oembed?{urlencode({'url': url, 'format': 'json'})}"
    meta = [
        ("name", "description", text),
        ("property", "og:title", heading),
        ("property", "og:description", text),
        ("property", "og:type", "website"),
        ("property", "og:site_name", "DigitForge"),
        ("property", "og:url", url),
        ("property", "og:image", card),
        ("property", "og:image:type", "image/png"),
        ("property", "og:image:width", "1200"),
        ("property", "og:image:height", "630"),
        ("property", "og:image:alt", heading),
        ("name", "twitter:card", "summary_large_image"),
        ("name", "twitter:title", heading),
        ("name", "twitter:description", text),
        ("name", "twitter:image", card),
        ("name", "twitter:image:alt", heading),
    ]
    tags = "\n".join(f'<meta {kind}="{name}" content="{_quoted(value)}">' for kind, name, value in meta)
    mark = "" if not found.link.px else " good" if found.link.px == px else " bad"
    rows = "".join(f"<dt>{name}</dt><dd>{_quoted(value)}</dd>" for name, value in details(found))
    downloads = "".join(
        f'<li><a href="{_quoted(f"{_file(link, path)}&download=1")}" download>Save {name}</a></li>'
        for name, path in [SAVED[kind] for kind in kinds(link.view) if kind in SAVED]
    )
    fields = "".join(
        f'<label for="{name}">{label}</label><input id="{name}" readonly value="{_quoted(value)}">'
        for name, label, value in (
            ("link", "Link", url),
            ("markdown", "Markdown", markdown(found, link, base)),
            ("embed", "Embed", embed_code(found, link, base)),
            ("command", "Command line", f"python -m models.generate --link '{link.text}' --out picture.png"),
        )
    )
    first = f'<a class="first" href="{_quoted(_interactive(link))}">{_action(link)}</a>'
    actions = f'<ul class="actions"><li>{first}</li>{downloads}</ul>'
    digest = f'<p class="quiet{mark}">{_quoted(verdict)}</p>'
    if quiz:
        shown = quiz_page.board(play(found.key, quiz.seed), link, quiz.answers, actions) + digest
    else:
        shown = f"{_picture(found, link)}\n{digest}\n{actions}"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<title>{_quoted(heading)} - DigitForge</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="favicon.ico">
<link rel="canonical" href="{_quoted(url)}">
<link rel="alternate" type="application/json+oembed" href="{_quoted(oembed)}" title="{_quoted(heading)}">
{tags}
<style>{STYLE.read_text()}</style></head>
<body>
<header><a class="brand" href="./">DigitForge</a></header>
<main>
<h1>{_quoted(heading)}</h1>
<p class="quiet">{intro}</p>
{shown}
<dl>{rows}</dl>
<details><summary>Share</summary>{fields}</details>
</main>
</body></html>
"""


def _interactive(link: Permalink) -> str:
    if isinstance(link.view, QuizView):
        return encode(replace(link.view, answers=""))
    return f"{encode(link.view)}&px={link.px}"


def _action(link: Permalink) -> str:
    return "Play the same ten" if isinstance(link.view, QuizView) else "Open interactive"


def _file(link: Permalink, path: str) -> str:
    """Return the URL of a file of a link, relative to the app. The PNG of a quiz is its card."""
    card = "&card=1" if isinstance(link.view, QuizView) else ""
    return f"{path}?{link.query}{card}"


def _picture(found: Found, link: Permalink) -> str:
    alt = _quoted(title(found))
    still = f'<img class="picture" src="{_quoted(_file(link, "s/image.png"))}" alt="{alt}">'
    if not isinstance(link.view, InterpolateView):
        return still
    return (
        f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{_quoted(f"s/image.png?{link.query}")}">'
        f'<img class="picture" src="{_quoted(f"s/animation.webp?{link.query}")}" alt="{alt}"></picture>'
    )


def embed(found: Found, px: str) -> str:
    """Return the form that other sites embed: the pictures, and a line that leads to the page."""
    link = Permalink(found.link.view, px)
    text = _quoted(title(found))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{text} - DigitForge</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<style>{EMBED_STYLE.read_text()}</style></head>
<body><main style="display: contents">{_picture(found, link)}
<h1><a href="{_quoted(link.text)}" target="_blank" rel="noopener">{text}</a></h1></main></body></html>
"""


def markdown(found: Found, link: Permalink, base: str) -> str:
    """Return a picture that leads to the page, in Markdown."""
    moves = isinstance(link.view, InterpolateView)
    text = title(found).replace("\\", "").replace("[", "(").replace("]", ")")
    picture = _file(link, "s/animation.webp" if moves else "s/image.png")
    return f"[![{text}]({base}{picture})]({base}{link.text})"


def embed_code(found: Found, link: Permalink, base: str, width: int = EMBED_WIDTH, height: int = EMBED_HEIGHT) -> str:
    """Return the HTML with which another site embeds the pictures."""
    source = _quoted(f"{base}embed?{link.query}")
    return f'<iframe src="{source}" width="{width}" height="{height}" title="{_quoted(title(found))}"></iframe>'


def refusal(message: str) -> str:
    """Return the page of a link that cannot be shown, with the reason."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>This link cannot be shown - DigitForge</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE.read_text()}</style></head>
<body><header><a class="brand" href="./">DigitForge</a></header>
<main><h1>This link cannot be shown</h1><p>{_quoted(message)}</p><p><a href="./">Open DigitForge</a></p></main>
</body></html>
"""


def _quoted(text: str) -> str:
    return html.escape(text, quote=True)
