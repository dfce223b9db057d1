"""The Write page in a real browser: typing, rewriting digits, colours, links and files of what is on the paper."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from models import writing
from models.generator_file import load_generator
from models.pictures import digest, frames, read_note
from models.views import WriteView, read_link
from tests.browser import address, pixels, wait_for_address
from tests.golden import shipped_generators

pytestmark = pytest.mark.slow

LOADED = load_generator(shipped_generators()["forge"])


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page whose errors fail the test, as do requests to other hosts."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900},
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: wrong.append(request.url) if "://localhost" not in request.url[:20] else None)
    yield page
    context.close()
    assert [each for each in wrong if not each.startswith(("data:", "blob:"))] == []


def drawn(view: WriteView) -> list[NDArray[np.uint8]]:
    """Return each digit and sign of a view (H, w, 3) as the server draws it."""
    glyphs = zip(view.text, writing.glyphs(view.text, frames(LOADED, view)), strict=True)
    return [writing.ramp(view.ink, view.paper)[glyph] for character, glyph in glyphs if character != " "]


def on_paper(page: Page) -> list[NDArray[np.uint8]]:
    """Return the pixels (H, w, 3) of each digit and sign on the page."""
    shown = page.locator("button.glyph canvas, .glyph canvas[role=img]")
    sources = shown.evaluate_all("all => all.map(canvas => canvas.toDataURL())")
    return [pixels(source)[..., :3] for source in sources]


def expect_paper(page: Page, view: WriteView) -> None:
    """Wait until the paper shows the digits and signs of a view, to the last pixel."""
    wanted = drawn(view)
    for _ in range(200):
        shown = on_paper(page)
        if len(shown) == len(wanted) and all(map(np.array_equal, shown, wanted)):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the page does not show {view}")


def view_of(link: str) -> WriteView:
    view = read_link(link).view
    assert isinstance(view, WriteView)
    return view


def saved(page: Page, name: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes()


def shared(page: Page) -> str:
    """Share what the page shows; return the permalink."""
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.locator(".share-state")).to_contain_text("The permalink is copied")
    page.keyboard.press("Escape")
    return page.evaluate("navigator.clipboard.readText()")


@pytest.mark.timeout(300)
def test_what_is_typed_is_written_and_shared_at_once(page: Page, site: str) -> None:
    page.goto(f"{site}/write")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your number in handwriting")
    first = WriteView(text="2026", seed=772, thickness=3.0, ink="blue", paper="cream")
    expect_paper(page, first)
    field = page.get_by_label("A number, a date or a time")
    field.fill("")
    expect(page.get_by_role("alert").filter(has_text="Type at least one digit")).to_be_visible()
    page.keyboard.type("12:30, 24/12 +1.5-")
    link = shared(page)
    view = view_of(link)
    assert (view.text, view.seed, view.thickness, view.ink) == ("12:30, 24/12 +1.5-", 772, 3.0, "blue")
    assert read_link(link).px == digest(frames(LOADED, view))
    expect(page.locator("[data-draws=browser]")).to_have_count(1)
    expect_paper(page, view)
    expect(page.locator(".hint")).to_contain_text("This page draws the signs : , / + . - because")
    png = saved(page, "PNG")
    assert view_of(read_note(png)).text == view.text
    shown = np.asarray(Image.open(io.BytesIO(png)))[::8, ::8]
    ends = zip(view.text, writing.ends(view.text, frames(LOADED, view), view.spacing), strict=True)
    places = [end for character, end in ends if character != " "]
    for glyph, end in zip(on_paper(page), places, strict=True):
        assert np.array_equal(shown[4:-4, end - glyph.shape[1] : end], glyph)
    assert view_of(read_note(saved(page, "GIF"))).text == view.text
    svg = saved(page, "SVG").decode()
    assert f"<title>{view.text} in handwriting</title>" in svg
    assert re.search("<metadata>s.v=1&amp;kind=write&amp;.*px=[0-9a-f]{16}</metadata>", svg)
    field.fill("2o26")
    expect(page.get_by_role("alert")).to_contain_text("\u201co\u201d cannot be written")
    wait_for_address(page, text=view.text)


@pytest.mark.timeout(300)
def test_a_digit_is_rewritten_by_mouse_and_keyboard_and_keeps_its_seed(page: Page, site: str) -> None:
    text = "2026-11-24"
    page.goto(f"{site}/write?text={text}&seed=772&style=free&ink=white&paper=board")
    view = WriteView(text=text, seed=772, style="free", ink="white", paper="board")
    expect_paper(page, view)
    digits = page.locator("button.glyph")
    digits.nth(4).click()
    expect(page.locator(".words")).to_contain_text("Digit 5, a 1, from seed")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".words")).to_contain_text("Digit 6, a 1, from seed")
    view = view_of(shared(page))
    assert [number for number, _ in view.own] == [4, 5]
    expect_paper(page, view)
    digits.nth(5).focus()
    page.keyboard.press("Delete")
    expect(page.locator(".words")).to_contain_text("Digit 6, a 1, from seed 777")
    ((_, seed),) = [pair for pair in view.own if pair[0] == 4]
    field = page.get_by_label("A number, a date or a time")
    field.fill("20260-11-24")  # digits are moved, and the one with a seed of its own moves with them
    assert view_of(shared(page)).own == ((5, seed),)
    page.get_by_role("button", name="Undo rewritten digits").click()
    page.get_by_role("button", name="Today").click()
    expect(field).to_have_value(re.compile(r"\d{4}-\d\d-\d\d"))
    page.get_by_role("button", name="One for all").click()
    page.get_by_role("group", name="Ink").get_by_role("button", name="gold").click()
    page.get_by_label("Another colour for the paper").fill("#123456")
    page.get_by_role("slider", name="Spacing").fill("7")
    page.get_by_role("slider", name="Slant").fill("30")
    view = view_of(shared(page))
    assert (view.own, view.style, view.ink, view.paper, view.spacing) == ((), "same", "gold", "#123456", 7)
    assert view.slant == 30
    expect_paper(page, view)
    wait_for_address(page, slant=30)
    link = address(page)
    assert view_of(link) == view
    page.goto("about:blank")
    page.goto(link)
    expect_paper(page, view)


@pytest.mark.timeout(300)
def test_long_texts_wrap_and_others_are_told_where_to_go(browser: Browser, site: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    page = context.new_page()
    text = "2026-11-24 12:30, 7/8 +1"
    page.goto(f"{site}/write?text={quote_plus(text)}")
    expect(page.locator("button.glyph")).to_have_count(15)
    boxes = [page.locator(".line").nth(k).bounding_box() for k in range(page.locator(".line").count())]
    assert len(boxes) > 2
    scale = page.locator(".text-lines").evaluate("lines => Number(lines.style.getPropertyValue('--scale'))")
    assert scale == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for glyph in page.locator(".glyph canvas").all():
        box = glyph.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["width"] == scale * glyph.evaluate("canvas => canvas.width")
    page.goto(f"{site}/write?run=pretrained/gan")
    expect(page.get_by_role("heading", level=1)).to_have_text("This generator writes no numbers")
    page.get_by_role("button", name="Show forge (shipped)").click()
    expect(page.locator("button.glyph").first).to_be_visible()
    context.close()


@pytest.mark.timeout(300)
def test_a_late_answer_of_the_server_does_not_replace_what_the_browser_drew(page: Page, site: str) -> None:
    answers: list[Route] = []
    page.route(re.compile(r"/s/frames\.bin"), lambda route: answers.append(route))  # Playwright marks its handlers
    page.goto(f"{site}/write")
    field = page.get_by_label("A number, a date or a time")
    field.fill("12")  # the first sign that the generator is wanted, so the server draws
    expect(page.locator("[data-draws=browser]")).to_have_count(1)
    assert len(answers) == 1
    field.fill("345")
    view = WriteView(text="345", seed=772, thickness=3.0, ink="blue", paper="cream")
    expect_paper(page, view)
    with page.expect_response(re.compile(r"/s/frames\.bin")):
        answers[0].continue_()
    page.wait_for_timeout(500)
    assert all(map(np.array_equal, on_paper(page), drawn(view)))
