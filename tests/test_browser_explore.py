"""The Explore and Interpolate pages in a real browser: dragging, typing, links and files of what is on the screen."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, WebSocket, expect

from models.attributes import AttributeTable, measure
from models.config import ModelConfig
from models.generator_file import generator_bytes, load_generator, read_generator
from models.networks import build_generator
from models.pictures import frames, read_note
from models.prompt import Abilities, read_prompt
from models.views import ExploreView, GenerateView, InterpolateView, read_link
from tests.browser import FORGE, address, canvases, images, open_page, row, settle, wait_for_address
from tests.golden import shipped_generators
from tests.sample_run import (
    STEPS_PER_EPOCH,
    generator_file,
    manifest,
    model_config,
    write_checkpoint,
    write_run,
)
from trainer.data import load_dataset
from trainer.run_store import GENERATOR_FILE
from webapp.drawing import MAX_MMAC, multiply_accumulates

pytestmark = pytest.mark.slow

HOLDS = (0, 80, 120, 400)
"""Milliseconds for which a visitor holds the mouse button."""


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page whose errors fail the test."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900},
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def wait_for_pictures(page: Page, expected: NDArray[np.uint8], selector: str = "") -> None:
    """Wait until the grid, or the canvases that a selector finds, show these pictures, to the last pixel."""
    deadline = time.monotonic() + 20
    while not np.array_equal(np.stack(canvases(page, selector) if selector else images(page)), expected):
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def wake(page: Page) -> None:
    """Move the pointer over the page, and wait until the browser draws by itself."""
    page.locator(".hero, .stage").first.hover()
    expect(page.locator("[data-draws=browser]")).to_have_count(1)


def view_of(url: str) -> Any:
    return read_link(url).view


def clipboard(page: Page) -> str:
    return page.evaluate("navigator.clipboard.readText()")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("times", [len(HOLDS), pytest.param(40, marks=pytest.mark.long)])
def test_what_was_typed_counts_at_once(page: Page, site: str, times: int) -> None:
    page.goto(site)
    wake(page)
    field = page.get_by_label("Seed", exact=True)
    actions = [(action, k) for action in ("Share", "Copy link", "PNG") for k in range(times)]
    for seed, (action, k) in enumerate(actions, 1000):
        page.bring_to_front()
        field.click()
        field.fill("")
        page.keyboard.type(str(seed))
        button = page.locator(".actions-bar button").nth(("Share", "Copy link", "PNG").index(action))
        hold = HOLDS[k % len(HOLDS)]
        if action == "PNG":
            with page.expect_download() as download:
                button.click(delay=hold)
            view = view_of(read_note(Path(download.value.path()).read_bytes()))
        elif action == "Share":
            button.click(delay=hold)
            expect(page.locator(".share-state")).to_contain_text("The permalink is copied")
            view = view_of(clipboard(page))
            page.keyboard.press("Escape")
        else:
            page.evaluate("navigator.clipboard.writeText('nothing')")
            button.click(delay=hold)
            while (link := clipboard(page)) == "nothing":
                page.wait_for_timeout(20)
            expect(page.get_by_role("button", name="Link copied")).to_be_visible()
            view = view_of(link)
        assert view.seed == seed
        assert page.locator(".grid button").first.get_attribute("aria-label") == f"A handwritten 0, seed {seed}"
    wait_for_address(page, seed=seed)
    loaded = load_generator(shipped_generators()["forge"])
    wait_for_pictures(page, frames(loaded, GenerateView(seed=seed)))


def sent(page: Page) -> list[str]:
    """Return a list that grows with each message of the page to the server."""
    messages: list[str] = []

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", lambda _: messages.append(socket.url))

    page.on("websocket", watch)
    return messages


# Counts the pictures that the hero or the stage shows, and how long each frame of the screen takes.
COUNT = """(selector) => {
  const find = (root) => root.querySelector(selector)
    ?? [...root.querySelectorAll("*")].map((node) => node.shadowRoot && find(node.shadowRoot)).find(Boolean)
  const context = find(document).getContext("2d")
  const put = context.putImageData.bind(context)
  window.drawn = []
  context.putImageData = (...values) => { window.drawn.push(performance.now()); put(...values) }
}"""


DRAGGED = {
    "": {".pad": ".hero", "input.truncation": ".hero"},
    "interpolate?frames=64": {".position": ".stage"},
}
"""Page -> what is dragged on it -> the picture that follows."""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("path", DRAGGED, ids=["explore", "interpolate"])
def test_dragging_draws_in_the_browser_and_asks_the_server_at_the_end(page: Page, site: str, path: str) -> None:
    messages = sent(page)
    page.goto(f"{site}/{path}")
    wake(page)
    settle(page)
    page.wait_for_timeout(1500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(COUNT, next(iter(DRAGGED[path].values())))
    for target in DRAGGED[path]:
        box = page.locator(target).bounding_box()
        assert box
        page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.evaluate("window.drawn = []")
        before, began = len(messages), time.monotonic()
        asked.clear()
        for k in range(120):
            part = abs((k / 40) % 2 - 1)
            page.mouse.move(
                box["x"] + 8 + (1 - part) * (box["width"] - 16), box["y"] + (0.3 + 0.4 * part) * box["height"]
            )
        page.wait_for_timeout(100)
        drawn = page.evaluate("window.drawn")
        polls = len(messages) - before  # the frame looks for new runs every three seconds
        assert asked == []
        assert polls <= 1 + (time.monotonic() - began) / 3
        assert len(drawn) >= 60
        page.mouse.up()
        settle(page)
        page.wait_for_timeout(800)
        assert len(messages) > before
        query = parse_qs(urlsplit(address(page)).query)
        if target == ".position":
            assert query["frame"] == [page.locator(".position").input_value()]
        elif target == ".pad":
            assert float(query["x"][0]) > 0
        else:
            assert float(query["truncation"][0]) == float(page.locator("input.truncation").input_value())


def test_the_released_picture_is_the_servers(page: Page, site: str) -> None:
    page.goto(site)
    wake(page)
    pad = page.locator(".pad")
    pad.hover(position={"x": 30, "y": 30})  # once the pad stands still
    page.mouse.down()
    for share in range(1, 6):
        pad.hover(position={"x": 30 + 34 * share, "y": 30 + 16 * share}, force=True)
    page.mouse.up()
    page.wait_for_function("() => Number(new URLSearchParams(location.search).get('x')) > 0")
    settle(page)
    view = view_of(address(page))
    assert isinstance(view, ExploreView)
    assert 0 < view.x < 1
    expected = frames(load_generator(shipped_generators()["forge"]), view)
    assert np.array_equal(canvases(page, ".hero")[0], expected[0])
    again = open_page(page.context, address(page))
    images(again)
    assert np.array_equal(canvases(again, ".hero")[0], expected[0])


def test_a_generator_that_is_too_large_is_drawn_by_the_server(page: Page, site: str, served_runs: Path) -> None:
    config = ModelConfig(architecture="forge", z_dim=16, g_widths=(512, 64), d_widths=(8, 8, 8))
    assert multiply_accumulates(config) > MAX_MMAC * 1e6
    run = write_run(served_runs, "too-large", checkpoints=False)
    write_checkpoint(run, 3, config)
    loaded = read_generator(generator_file(run, 3, config), "a file")
    expected = frames(loaded, GenerateView(digits=(3,), count=2, seed=77))
    asked: list[str] = []
    page.goto(f"{site}/?run=runs/too-large&digits=3&count=2&seed=5")
    settle(page)
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Seed", exact=True).fill("77")
    wait_for_address(page, seed=77)
    wait_for_pictures(page, expected)
    assert any("/s/frames.bin" in url for url in asked)
    assert not any(".safetensors" in url for url in asked)


def test_sliders_of_attributes_ask_for_them_and_leave_them_to_the_seeds(
    page: Page, site: str, served_runs: Path
) -> None:
    config = replace(model_config(), attributes=("slant", "thickness", "width"))
    run = write_run(served_runs, "with-attributes", checkpoints=False)
    write_checkpoint(run, 3, config)
    loaded = read_generator(generator_file(run, 3, config), "a file")

    def seen() -> ExploreView:
        page.wait_for_timeout(1000)
        settle(page)
        view = view_of(address(page))
        expected = frames(loaded, view)
        assert np.array_equal(np.stack(images(page)), expected[1:])
        assert np.array_equal(canvases(page, ".hero")[0], expected[0])
        return view

    page.goto(f"{site}/?run=runs/with-attributes&digits=3&count=2&seed=5&thickness=3.5")
    thickness, slant = (page.get_by_role("slider", name=name) for name in ("Thickness", "Slant"))
    expect(thickness).to_have_value("3.5")
    expect(page.locator(".attribute[data-name=slant] output")).to_have_text("from the seed")
    free = seen()
    assert free.asked == {"thickness": 3.5}
    wake(page)
    slant.fill("20")
    expect(page.locator(".attribute[data-name=slant] output")).to_have_text("20\N{DEGREE SIGN}")
    slanted = seen()
    assert slanted.asked == {"slant": 20, "thickness": 3.5}
    assert not np.array_equal(frames(loaded, slanted), frames(loaded, free))
    page.get_by_role("button", name="Thickness from the seed").click()
    assert seen().asked == {"slant": 20}
    page.goto(f"{site}/interpolate?run=runs/with-attributes&slant=20&from_digit=1&to_digit=4&frames=4")
    wake(page)
    settle(page)
    page.wait_for_timeout(500)
    way = view_of(address(page))
    assert way.asked == {"slant": 20}
    assert np.array_equal(np.stack(canvases(page, ".strip canvas")), frames(loaded, way))
    page.goto(f"{site}/?run=pretrained/mlp-cgan&slant=20")
    expect(page.get_by_text("This generator draws without slant")).to_be_visible()


def test_a_hand_is_chosen_by_number_at_random_or_in_words(page: Page, site: str, served_runs: Path) -> None:
    config = replace(model_config(), writers=3)
    run = write_run(served_runs, "with-hands", checkpoints=False)
    write_checkpoint(run, 3, config)
    loaded = read_generator(generator_file(run, 3, config), "a file")
    assert loaded.writers == (100, 103, 106)

    def seen() -> ExploreView:
        page.wait_for_timeout(1000)
        settle(page)
        view = view_of(address(page))
        expected = frames(loaded, view)
        assert np.array_equal(np.stack(images(page)), expected[1:])
        assert np.array_equal(canvases(page, ".hero")[0], expected[0])
        return view

    page.goto(f"{site}/?run=runs/with-hands&digits=3&count=2&seed=5&writer=103")
    hand = page.get_by_label("Hand", exact=True)
    expect(hand).to_have_value("103")
    first = seen()
    assert first.writer == 103
    wake(page)
    page.get_by_role("button", name="Anyone").click()
    expect(hand).to_have_value("")
    assert seen().writer is None
    hand.fill("106")
    assert seen().writer == 106
    hand.fill("107")
    expect(page.get_by_role("alert")).to_have_text("No writer has this number. Still shown: writer 106.")
    page.get_by_role("button", name="New hand").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert seen().writer in (100, 103)
    field = page.get_by_label("Write in words")
    field.fill("a three in the hand of writer 106")
    field.press("Enter")
    expect(hand).to_have_value("106")
    written = seen()
    assert (written.writer, written.digit) == (106, 3)
    assert not np.array_equal(frames(loaded, written)[1:], frames(loaded, first)[1:])

    page.goto(f"{site}/interpolate?run=runs/with-hands&writer=103&from_digit=1&to_digit=4&frames=4")
    wake(page)
    expect(page.get_by_label("Hand", exact=True)).to_have_value("103")
    page.get_by_label("Hand", exact=True).fill("100")
    page.wait_for_timeout(1000)
    settle(page)
    way = view_of(address(page))
    assert way.writer == 100
    assert np.array_equal(np.stack(canvases(page, ".strip canvas")), frames(loaded, way))
    page.goto(f"{site}/?run=runs/with-hands&writer=7")
    expect(page.get_by_text("Writer 7 cannot be chosen")).to_be_visible()
    page.goto(f"{site}/?writer=100")
    expect(page.get_by_text("This generator draws without writer")).to_be_visible()


def test_a_sample_opens_large_and_leads_on(page: Page, site: str) -> None:
    page.goto(site)
    images(page)
    page.get_by_role("group", name="Pictures").get_by_role("button", name="A handwritten 3, seed 775").click()
    dialog = page.get_by_role("dialog", name="A handwritten 3, seed 775")
    expect(dialog.locator(".bar")).to_have_count(10)
    expect(dialog.locator(".nearest figure")).to_have_count(5)
    expect(dialog.locator(".neighbours button")).to_have_count(8)
    expect(dialog.locator(".verdict")).to_contain_text(re.compile(r"more real to it than \d+ of 100 real 3s"))
    loaded = load_generator(shipped_generators()["forge"])
    page.wait_for_timeout(500)
    expected = frames(loaded, GenerateView(digits=(3,), count=1, seed=775))[0]
    assert np.array_equal(canvases(page, ".large")[0], expected)
    dialog.get_by_role("button", name="Link to this picture").click()
    expect(dialog.get_by_role("button", name="Link copied")).to_be_visible()
    link = read_link(clipboard(page))
    assert link.view == GenerateView(
        run="pretrained/forge", step=15000, g="66aa0cbdc22a", digits=(3,), count=1, seed=775
    )
    assert link.px
    dialog.locator(".neighbours button").nth(2).click()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Close", exact=True).first.click()
    settle(page)
    view = view_of(address(page))
    assert (view.digit, view.x, view.corners[0]) == (3, 0.3, 775)
    page.get_by_role("group", name="Pictures").get_by_role("button", name="A handwritten 3, seed 775").click()
    page.get_by_role("link", name="Start a morph here").click()
    expect(page.get_by_label("From seed")).to_have_value("775")


def test_seeds_are_read_as_people_write_them(page: Page, site: str) -> None:
    page.goto(site)
    wake(page)
    field = page.get_by_label("Seed", exact=True)
    for text, seed in (("1,000", 1000), ("007", 7), (" 12 ", 12)):
        field.fill(text)
        expect(page.locator(".grid button").first).to_have_attribute("aria-label", f"A handwritten 0, seed {seed}")
        expect(page.get_by_role("alert")).to_be_hidden()
    for text in ("-1", "1e3", "4294967290", "x"):
        field.fill(text)
        expect(page.get_by_role("alert")).to_contain_text("from 0 to 4,294,967,286. Still shown: seed 12")
    field.fill("13")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_words_move_the_controls_and_are_shown_beside_them(page: Page, site: str) -> None:
    page.goto(site)
    wake(page)
    field = page.get_by_label("Write in words")
    lines = page.get_by_role("list", name="What each word moves").get_by_role("listitem")
    field.fill("A typical three, seed 21")
    field.press("Enter")
    expect(lines).to_have_text(["typical \u2192 truncation 0.5", "three \u2192 digit 3", "seed 21 \u2192 seed 21"])
    expect(page.get_by_label("Seed", exact=True)).to_have_value("21")
    page.wait_for_timeout(1000)
    settle(page)
    view = view_of(address(page))
    assert (view.digit, view.seed, view.truncation) == (3, 21, 0.5)
    assert (view.corners, view.x, view.y) == ((21, 22, 23, 24), 0, 0)
    images(page)
    expected = frames(load_generator(shipped_generators()["forge"]), view)
    assert np.array_equal(canvases(page, ".hero")[0], expected[0])
    page.get_by_label("Truncation").fill("0.9")
    expect(lines).to_have_count(0)


def test_words_for_attributes_move_their_sliders(page: Page, site: str, served_runs: Path) -> None:
    names = ("slant", "thickness", "width")
    config = ModelConfig(architecture="forge", z_dim=8, g_widths=(8, 4), d_widths=(4, 8, 8), attributes=names)
    dataset = load_dataset().head(3000)
    table = AttributeTable.fit(names, measure(dataset.images[:, 0], names), dataset.labels, 10)
    run = write_run(served_runs, "with-words", checkpoints=False)
    provenance = {"run": run.name, "recipe": "quick", "step": STEPS_PER_EPOCH, "epoch": 1, "nimg": 1}
    content = generator_bytes(build_generator(config), config, provenance, table=table)
    run.publish_checkpoint(manifest(STEPS_PER_EPOCH), {GENERATOR_FILE: content})
    page.goto(f"{site}/?run=runs/with-words&count=2&seed=5&digit=7")
    wake(page)
    field = page.get_by_label("Write in words")
    field.fill("thick, slanted 20 degrees")
    field.press("Enter")
    lines = page.get_by_role("list", name="What each word moves").get_by_role("listitem")
    expect(lines).to_have_text(["thick \u2192 thickness +1.5", "slanted 20 degrees \u2192 slant +20 degrees"])
    expect(page.get_by_label("Slant", exact=False).first).to_have_value("20")
    page.wait_for_timeout(1000)
    settle(page)
    view = view_of(address(page))
    assert view.asked == read_prompt("thick, slant 20", Abilities(attributes=names)).values(table, 7)
    field.fill("slant 80")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Slant must be between")


def test_words_that_cannot_be_used_are_named_and_change_nothing(page: Page, site: str) -> None:
    page.goto(f"{site}/?seed=5")
    wake(page)
    field, alert = page.get_by_label("Write in words"), page.get_by_role("alert")
    for text, message in (
        ("a thikc seven, seed 9", "'thikc' is not known; the nearest word is 'thick'."),
        ("seven eight", "'seven' and 'eight' both set the digit."),
        ("<img src=x onerror=alert(1)> seven", "'<' is not known"),
        ("", "The prompt asks for nothing"),
    ):
        field.fill(text)
        page.get_by_role("button", name="Write", exact=True).click()
        expect(alert).to_contain_text(message)
        expect(field).to_have_attribute("aria-invalid", "true")
    assert page.locator(".prompt img").count() == 0
    expect(page.get_by_label("Seed", exact=True)).to_have_value("5")
    field.fill("seven")
    field.press("Enter")
    expect(alert).to_be_hidden()
    expect(page.get_by_role("listitem")).to_have_text(["seven \u2192 digit 7"])


def test_another_checkpoint_draws_the_same_view(page: Page, site: str) -> None:
    page.goto(site)
    wake(page)
    row(page, 4)
    wait_for_address(page, digits=4)
    runs = page.get_by_role("combobox", name=re.compile("Run"))
    runs.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # an open list closes when the page scrolls
    runs.click()
    page.get_by_text("mlp-cgan (shipped)", exact=True).click()
    wait_for_address(page, run="pretrained/mlp-cgan")
    view = view_of(address(page))
    assert view.run == "pretrained/mlp-cgan"
    expected = frames(load_generator(shipped_generators()["mlp-cgan"]), view)
    wait_for_pictures(page, expected[1:])
    wait_for_pictures(page, expected[:1], ".hero")


def test_the_page_says_that_a_permalink_is_reproduced(page: Page, site: str) -> None:
    query = f"kind=generate&{FORGE}&digits=7&count=1&seed=5&truncation=1"
    page.goto(f"{site}/s?v=1&{query}")
    with page.expect_navigation():
        page.get_by_role("link", name="Open interactive").click()
    expect(page.get_by_text("Reproduced: the same")).to_be_visible()
    page.goto(f"{site}/interpolate?frames=5&px={'0' * 16}")
    expect(page.get_by_text("Not reproduced")).to_be_visible()


def test_stops_are_added_moved_and_removed(page: Page, site: str) -> None:
    page.goto(f"{site}/interpolate?from_digit=1&from_seed=5&to_digit=2&to_seed=6&frames=6")
    wake(page)
    page.get_by_role("button", name="Add a stop").click()
    page.get_by_label("To digit").select_option("9")
    page.get_by_label("To seed").fill("77")
    page.get_by_role("button", name="Move to left").click()
    page.wait_for_timeout(1000)
    settle(page)
    view = view_of(address(page))
    assert isinstance(view, InterpolateView)
    assert view.stops == ((1, 5), (9, 77), (2, 6))
    assert np.array_equal(
        np.stack(canvases(page, ".strip canvas")), frames(load_generator(shipped_generators()["forge"]), view)
    )
    expect(page.locator(".distances rect")).to_have_count(10)
    page.get_by_label("Hold the style").check()
    page.get_by_role("button", name="Remove stop 2").click()
    page.wait_for_timeout(1000)
    settle(page)
    assert view_of(address(page)).stops == ((1, 5), (2, 5))
    for kind in ("GIF", "WebP", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        assert view_of(read_note(Path(download.value.path()).read_bytes())).stops == ((1, 5), (2, 5))


def test_the_saved_page_plays_without_a_network(page: Page, site: str, tmp_path: Path) -> None:
    page.goto(f"{site}/interpolate?frames=12")
    wake(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML").click()
    shown = canvases(page, ".strip canvas")
    download.value.save_as(tmp_path / "saved.html")
    page.context.set_offline(True)
    page.goto((tmp_path / "saved.html").as_uri())
    page.get_by_role("slider").fill("7")
    page.wait_for_timeout(200)
    assert np.array_equal(canvases(page, "canvas")[0], shown[7])
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(500)
    assert not np.array_equal(canvases(page, "canvas")[0], shown[7])
