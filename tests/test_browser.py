"""The app in a real browser: pictures, links, sliders and small screens."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from models.views import GenerateView
from tests.browser import address, images, open_page, row, settle
from tests.sample_run import STEPS_PER_EPOCH
from webapp import catalog, inference
from webapp.environment import RUNS_VARIABLE

pytestmark = pytest.mark.slow

EPOCHS = 3


@pytest.fixture
def context(browser: Browser, site: str) -> Iterator[BrowserContext]:
    """A browser context. The test fails if a page reports an error or sends a request to another server."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800},
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(20_000)
    complaints: list[str] = []
    own = (site, site.replace("http:", "ws:"), "data:", "blob:")

    def on_request(url: str) -> None:
        if not url.startswith(own):
            complaints.append(f"asked another host: {url}")

    def watch(page: Page) -> None:
        page.on("request", lambda request: on_request(request.url))
        page.on("websocket", lambda socket: on_request(socket.url))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    context.on("page", watch)
    yield context
    context.close()
    assert complaints == []


def copied_link(page: Page) -> str:
    """Click the copy button; return the link that it copies."""
    page.bring_to_front()
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    return page.evaluate("navigator.clipboard.readText()")


def test_a_visitor_draws_digits_and_sends_the_link(
    context: BrowserContext, site: str, served_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(context, f"{site}/?run=runs/quick-1")
    assert len(images(page)) == 100

    row(page, 7)
    expect(page.locator(".grid canvas")).to_have_count(10)
    before = images(page)
    page.get_by_role("button", name="New seed").click()
    page.wait_for_timeout(1000)
    settle(page)
    seed = int(page.get_by_label("Seed", exact=True).input_value())
    drawn = images(page)
    assert not np.array_equal(drawn[0], before[0])

    # The page shows exactly the pictures that the generator file draws.
    monkeypatch.setenv(RUNS_VARIABLE, str(served_runs))
    entry = catalog.generators("runs/quick-1")[-1]
    key = inference.GeneratorKey("runs/quick-1", entry.step, entry.sha256)
    expected = inference.frames(key, GenerateView(digits=(7,), seed=seed))
    assert np.array_equal(np.stack(drawn), expected)

    link = copied_link(page)
    query = f"run=runs/quick-1&step={EPOCHS * STEPS_PER_EPOCH}&g={entry.sha256[:12]}&digits=7&count=10&seed={seed}"
    assert link.startswith(f"{site}/?{query}&truncation=1&digit=")
    for url in (link, address(page)):
        other = open_page(context, url)
        expect(other.locator(".grid canvas")).to_have_count(10)
        assert np.array_equal(np.stack(images(other)), expected)
        assert other.locator(".grid button").first.get_attribute("aria-label") == f"A handwritten 7, seed {seed}"


def frames(page: Page) -> list[str]:
    """Return the pixels of each frame of the strip, as a data URL."""
    expect(page.locator(".strip canvas").first).to_be_visible()
    page.wait_for_timeout(300)
    return page.locator(".strip canvas").evaluate_all("canvases => canvases.map(canvas => canvas.toDataURL())")


def stage(page: Page) -> str:
    return page.locator(".stage").evaluate("canvas => canvas.toDataURL()")


def test_an_interpolation_is_sent_as_a_link(context: BrowserContext, site: str) -> None:
    ends = "from_digit=2&from_seed=5&to_digit=6&to_seed=9"
    page = open_page(context, f"{site}/interpolate?run=runs/quick-1&{ends}&frames=12")
    shown = frames(page)
    assert len(shown) == len(set(shown)) == 12
    settle(page)

    page.locator(".position").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert stage(page) == shown[2]
    expect(page.locator(".caption")).to_have_text("Frame 3 of 12")
    assert "from a 2 (seed 5) to a 6 (seed 9)" in (page.locator(".stage").get_attribute("aria-label") or "")
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Pause").click()
    assert stage(page) != shown[2]

    for url in (copied_link(page), address(page)):
        assert f"step={EPOCHS * STEPS_PER_EPOCH}" in url
        assert frames(open_page(context, url)) == shown

    with page.expect_download() as download:
        page.get_by_role("button", name="GIF").click()
    assert Image.open(download.value.path()).n_frames == 22


def test_back_and_forward_go_through_quick_changes_one_by_one(context: BrowserContext, site: str) -> None:
    page = open_page(context, f"{site}/training?run=runs/quick-1&epoch=3")
    caption, slider = page.locator(".caption"), page.locator(".position")
    expect(caption).to_contain_text("Epoch 3")
    settle(page)
    slider.focus()
    for epoch in (2, 1, 0):
        page.keyboard.press("ArrowLeft")
        expect(caption).to_contain_text(f"Epoch {epoch}")
        page.wait_for_function(f"() => location.search.includes('epoch={epoch}')")
    for epoch in (1, 2, 3):
        page.go_back()
        expect(caption).to_contain_text(f"Epoch {epoch}")
        page.wait_for_timeout(300)
        assert f"epoch={epoch}" in address(page)
    for epoch in (2, 1, 0):
        page.go_forward()
        expect(caption).to_contain_text(f"Epoch {epoch}")
        page.wait_for_timeout(300)
        assert f"epoch={epoch}" in address(page)


def test_only_the_training_page_loads_plotly(context: BrowserContext, site: str) -> None:
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site)
    expect(page.locator(".hero")).to_be_visible()
    settle(page)
    assert not [url for url in asked if "plotly" in url.lower()]
    page.get_by_role("link", name="Training").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(6)  # three charts of scores, three of the curve
    assert [url for url in asked if "plotly" in url.lower()]
    assert page.evaluate("location.pathname") == "/training"
    page.get_by_role("link", name="Explore").click()
    expect(page.locator(".grid canvas")).to_have_count(100)


def test_the_networks_are_drawn_in_the_browser(context: BrowserContext, site: str) -> None:
    page = open_page(context, f"{site}/architecture?run=runs/quick-1")
    for diagram, (first, last) in enumerate((("class c", "images"), ("images", "logits"), ("latent z", "logits"))):
        texts = page.get_by_test_id("stGraphVizChart").nth(diagram).locator(".node text")
        expect(texts.filter(has_text=first).first).to_be_visible()
        expect(texts.filter(has_text=last).last).to_be_visible()
    settle(page)
    for url in (copied_link(page), address(page)):
        assert unquote(url) == f"{site}/how?run=runs/quick-1&part=7&digit=7&seed=772"


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("", "Explore"),
        ("generate?seed=7&digits=3", "Explore"),
        ("interpolate", "Interpolate"),
        ("quiz", "Real or fake?"),
        ("gallery", "Training"),
        ("training", "Training"),
        ("compare", "Compare"),
        ("how", "How it works"),
    ],
)
def test_each_page_has_its_title_and_one_heading(context: BrowserContext, site: str, path: str, title: str) -> None:
    page = context.new_page()
    titles: list[str] = []
    page.expose_function("tell", lambda title: titles.append(title))
    page.add_init_script("setInterval(() => document.querySelector('title') && tell(document.title), 10)")
    page.goto(f"{site}/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    settle(page)
    assert titles[0] == titles[-1] == f"{title} - DigitForge"  # from the first moment on
    assert set(titles) <= {f"{title} - DigitForge", title}  # Streamlit may set its own for an instant
    if path.startswith("generate"):
        assert "seed=7" in address(page)
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_picture_and_its_controls_are_both_in_view_on_a_phone(context: BrowserContext, site: str) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(site)
    expect(page.locator(".hero")).to_be_visible()
    settle(page)
    for name in ("Digit", "Styles"):
        expect(page.get_by_role("group", name=name)).to_be_in_viewport()
    page.get_by_label("Truncation").scroll_into_view_if_needed()
    expect(page.get_by_label("Truncation")).to_be_in_viewport()
    expect(page.locator(".hero")).to_be_in_viewport(ratio=0.9)
    page.goto(f"{site}/interpolate")
    expect(page.locator(".stage")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name="Play")).to_be_in_viewport()


def test_figures_are_not_cut_on_a_phone(context: BrowserContext, site: str) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site}/architecture?run=pretrained/forge")
    figure = page.get_by_test_id("stMetricValue").get_by_text("which also reads the class")
    expect(figure).to_be_visible()
    settle(page)
    assert figure.evaluate("figure => figure.scrollWidth <= figure.clientWidth")


def test_wide_screens_are_used(context: BrowserContext, site: str) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(f"{site}/architecture?run=pretrained/forge")
    expect(page.locator("[data-testid=stGraphVizChart] .node").first).to_be_visible()
    settle(page)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight") < 2150
    page.goto(f"{site}/training?run=pretrained/forge")
    expect(page.locator(".js-plotly-plot")).to_have_count(6)
    settle(page)
    picture, first, second = (
        page.locator(name).first.bounding_box() for name in (".stage", ".chart", ".chart + .chart")
    )
    assert picture
    assert first
    assert second
    assert first["y"] == second["y"]  # beside each other
    assert first["x"] - (picture["x"] + picture["width"]) < 300  # the numbers are next to the picture
