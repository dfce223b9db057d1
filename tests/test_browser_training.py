"""Training and Compare in a real browser: one slider for everything, one's own picture, two generators."""

import dataclasses
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocket, expect

from models.generator_file import load_generator
from models.pictures import frames
from models.views import ExploreView, GenerateView
from tests.browser import address, canvases, open_page, settle
from tests.sample_run import model_config, write_epoch, write_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

EPOCHS = 6
KEPT = "training?run=runs/kept"
MIN_RATE = 30
"""Least number of epochs a second that a drag shows."""
TRIES = 4
"""Times that a rate may be measured: the machine may be busy with other tests."""


@pytest.fixture(scope="module")
def kept(served_runs: Path) -> Path:
    """The folder of a finished run with the generator of each epoch, and of another, to compare it with."""
    write_run(served_runs, "other", epochs=3, keeps_generators=True, seed=1, scored=[1, 2, 3])
    scored = range(1, EPOCHS + 1)
    run = write_run(served_runs, "kept", epochs=EPOCHS, total_epochs=EPOCHS, keeps_generators=True, scored=scored)
    time.sleep(2.5)  # the list of runs is kept that long
    return Path(run.path)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    yield context
    context.close()


def sent(page: Page) -> list[str]:
    """Return a list that grows with each report of the page to the server, not with its regular looks for news."""
    messages: list[str] = []

    def note(payload: str | bytes) -> None:
        text = payload if isinstance(payload, str) else payload.decode("latin-1")
        messages.extend(number for number in re.findall(r'"number":(\d+)', text)[-1:] if number not in messages)

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", note)

    page.on("websocket", watch)
    return messages


def wait_for_address(page: Page, part: str) -> None:
    """Wait until a text is in the URL: it is written when the server has answered."""
    end = time.monotonic() + 20
    while part not in address(page):
        assert time.monotonic() < end, address(page)
        page.wait_for_timeout(50)


def drawn(page: Page, charts: int = 6) -> None:
    """Wait until all charts are drawn."""
    expect(page.locator(".df-training .js-plotly-plot")).to_have_count(charts)
    expect(page.locator(".marker:not([hidden])")).not_to_have_count(0)
    settle(page)


def shown(page: Page) -> tuple[str, str, str, bytes]:
    """Return what depends on the epoch: the title of the scores, FID, the place of a marker, and the grid."""
    fid = page.get_by_role("row", name="FID").locator("td").first.inner_text()
    marker = page.locator(".marker").first.evaluate("marker => marker.style.transform")
    return page.locator(".scores-title").inner_text(), fid, marker, canvases(page, ".stage")[0].tobytes()


# Drags the slider for as many steps as given, and returns how many of them a second were shown.
RATE = """async (steps) => {
  const range = document.querySelector(".df-training .position")
  const began = performance.now()
  for (let k = 0; k < steps; k++) {
    range.value = k % (Number(range.max) + 1)
    range.dispatchEvent(new Event("input"))
    await new Promise(requestAnimationFrame)
    if (!document.querySelector(".df-training .caption").textContent.startsWith(`Epoch ${range.value}`)) return 0
  }
  return 1000 * steps / (performance.now() - began)
}"""


def test_a_drag_moves_the_grid_the_markers_and_the_scores_without_the_server(
    context: BrowserContext, site: str, kept: Path
) -> None:
    page = context.new_page()
    messages = sent(page)
    page.goto(f"{site}/gallery?run=runs/kept&epoch=3")  # as links of earlier versions named it
    drawn(page)
    assert page.evaluate("location.pathname") == "/training"
    expect(page.locator(".caption")).to_have_text("Epoch 3 - step 150")
    wait_for_address(page, "epoch=3")
    before = len(messages)
    box = page.locator(".position").bounding_box()
    assert box
    at = lambda part: (box["x"] + 8 + part * (box["width"] - 16), box["y"] + box["height"] / 2)  # noqa: E731
    page.mouse.move(*at(0.5))
    page.mouse.down()
    seen = []
    for part in (0.67, 0.84, 1.0, 0.17):
        page.mouse.move(*at(part))
        page.evaluate("new Promise(requestAnimationFrame)")
        seen.append(shown(page))
    for values in zip(*seen, strict=True):
        assert len(set(values)) == 4
    assert len(messages) == before
    page.mouse.up()
    expect(page.locator(".announced")).to_have_text("Epoch 1 - step 50, Label accuracy 49.90%, FID 4.200")
    wait_for_address(page, "epoch=1")
    assert len(messages) == before + 1

    rates: list[float] = []
    while (not rates or max(rates) < MIN_RATE) and len(rates) < TRIES:
        rates.append(page.evaluate(RATE, 60))
    assert max(rates) >= MIN_RATE
    assert len(messages) == before + 1
    page.close()


def test_a_chart_shows_its_epoch_under_the_pointer_and_goes_there_with_a_click(
    context: BrowserContext, site: str, kept: Path
) -> None:
    page = open_page(context, f"{site}/{KEPT}&epoch=2")
    drawn(page)
    plot = page.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    place = """(plot, epoch) => {
      const { x, y } = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout
      return [x + xaxis._offset + xaxis.d2p(epoch), y + yaxis._offset + yaxis._length / 2]
    }"""
    page.mouse.move(*plot.evaluate(place, 5))
    expect(page.locator(".caption")).to_have_text("Epoch 5 - step 250")
    expect(page.locator(".scores-title")).to_contain_text("after epoch 5")
    assert page.locator(".position").input_value() == "2"
    page.mouse.move(5, 5)
    expect(page.locator(".caption")).to_have_text("Epoch 2 - step 100")
    page.mouse.move(*plot.evaluate(place, 4))
    page.wait_for_timeout(200)
    page.mouse.click(*plot.evaluate(place, 4))
    page.mouse.move(5, 5)
    expect(page.locator(".caption")).to_have_text("Epoch 4 - step 200")
    assert page.locator(".position").input_value() == "4"
    wait_for_address(page, "epoch=4")

    page.locator(".position").focus()  # and the keyboard
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".caption")).to_have_text("Epoch 3 - step 150")
    page.close()


def own(page: Page, epoch: int) -> "np.ndarray":
    """Return the pixels of one's own picture at an epoch, once they are drawn."""
    expect(page.locator(f".own-canvas[data-epoch='{epoch}']")).to_have_count(1)
    [picture] = canvases(page, ".own-canvas")
    return picture


def test_ones_own_picture_is_drawn_by_the_generator_of_each_epoch(
    context: BrowserContext, site: str, kept: Path
) -> None:
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site}/{KEPT}&epoch=6")
    drawn(page)
    assert not [url for url in asked if "generators" in url]  # nobody has asked for a picture
    page.locator(".own-seed").fill("41")
    page.locator(".own-digit").select_option("3")
    page.get_by_role("button", name="Draw").click()
    expect(page.locator(".own-state")).to_have_text("A handwritten 3, seed 41, as epoch 6 draws it")
    assert len([url for url in asked if "generators" in url]) == EPOCHS + 1
    generators = [load_generator(kept / "epochs" / f"{epoch:04d}" / "generator.safetensors") for epoch in range(7)]
    view = ExploreView(digit=3, digits=(3,), count=1, seed=41)
    for epoch in (6, 3, 0):
        page.locator(".position").fill(str(epoch))
        assert np.array_equal(own(page, epoch), frames(generators[epoch], view)[0])
    wait_for_address(page, "mine=3.41")

    link = f"{site}/?run=runs/kept&digit=8&corners=1.2.3.4&x=0.5&y=0.25&truncation=0.7&seed=9"
    page.locator(".own-link").fill(link)
    page.get_by_role("button", name="Use").click()
    expect(page.locator(".own-state")).to_contain_text("A handwritten 8, the picture of your link")
    view = ExploreView(digit=8, digits=(8,), count=1, seed=9, corners=(1, 2, 3, 4), x=0.5, y=0.25, truncation=0.7)
    assert np.array_equal(own(page, 0), frames(generators[0], view)[0])
    wait_for_address(page, "corners")
    other = open_page(context, address(page))  # the link holds the picture and the epoch
    assert np.array_equal(own(other, 0), frames(generators[0], view)[0])
    other.close()
    page.locator(".own-link").fill("https://example.org/s?kind=generate&v=7")
    page.get_by_role("button", name="Use").click()
    expect(page.get_by_text("This link cannot be used")).to_be_visible()
    page.close()


def test_a_first_visit_plays_the_training_once(browser: Browser, site: str, kept: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script("""document.addEventListener("DOMContentLoaded", () => {
      window.seen = []
      new MutationObserver(() => {
        const text = document.querySelector(".df-training .caption")?.textContent
        if (text && text !== window.seen.at(-1)) window.seen.push(text)
      }).observe(document.body, { subtree: true, childList: true, characterData: true })
    })""")
    page = context.new_page()
    page.goto(f"{site}/{KEPT}")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    seen = page.evaluate("window.seen")
    assert [int(text.split()[1]) for text in seen[-7:]] == list(range(EPOCHS + 1))
    page.goto(f"{site}/{KEPT}")
    drawn(page)
    page.wait_for_timeout(700)
    assert len(page.evaluate("window.seen")) == 1
    context.close()


def test_a_live_run_grows_without_moving_what_the_visitor_has_set(
    context: BrowserContext, site: str, served_runs: Path
) -> None:
    run = write_run(
        served_runs, "growing", epochs=2, total_epochs=9, phase="training", heartbeat=time.time() + 120, scored=[1, 2]
    )
    try:
        page = open_page(context, f"{site}/training?run=runs/growing")
        drawn(page)
        newest = open_page(context, f"{site}/training?run=runs/growing")
        drawn(newest)
        page.get_by_role("button", name="Previous").click()
        page.evaluate("""() => {
          const plot = document.querySelector(".js-plotly-plot")
          window.Plotly.relayout(plot, { "xaxis.range": [0.2, 1.4], "xaxis.autorange": false })
          document.querySelector("[data-testid=stMain]").scrollTop = 333
        }""")
        ends = "document.querySelectorAll('.js-plotly-plot')[%d]._fullData[1].x.at(-1)"
        range_ = "document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range"
        top = "document.querySelector('[data-testid=stMain]').scrollTop"
        write_epoch(run, 3, model_config(), scored=True)
        expect(newest.locator(".caption")).to_have_text("Epoch 3 - step 150")  # it stood on the newest
        expect(page.locator(".position")).to_have_attribute("max", "3")
        for _ in range(100):
            if page.evaluate(ends % 0) == 3:
                break
            page.wait_for_timeout(100)
        assert page.evaluate(ends % 0) == 3
        expect(page.locator(".caption")).to_have_text("Epoch 1 - step 50")
        assert page.locator(".position").input_value() == "1"
        assert page.evaluate(range_) == pytest.approx([0.2, 1.4])
        assert page.evaluate(top) == 333
        page.close()
        newest.close()
    finally:
        run.write_progress(dataclasses.replace(run.read_progress(), phase="finished"))


def test_compare_draws_the_same_latents_with_two_generators_and_its_link_names_both(
    context: BrowserContext, site: str, kept: Path
) -> None:
    page = open_page(context, f"{site}/compare?run=runs/kept&other_run=runs/other&digits=2.7&count=3&seed=5")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    expect(page.get_by_role("row", name="FID")).to_contain_text("1.050")
    page.get_by_role("button", name="New seed").click()
    expect(page.locator("#compare-seed")).not_to_have_value("5")
    wait_for_address(page, f"seed={page.locator('#compare-seed').input_value()}&")
    query = {name: value for name, [value] in parse_qs(urlsplit(address(page)).query).items()}
    seed = int(query["seed"])
    assert page.locator("#compare-seed").input_value() == query["seed"]
    view = GenerateView(digits=(2, 7), count=3, seed=seed)
    paths = [kept / "epochs" / "0006", kept.parent / "other" / "epochs" / "0003"]
    expected = [frames(load_generator(path / "generator.safetensors"), view) for path in paths]
    assert not np.array_equal(*expected)
    assert {"run", "step", "g", "other_run", "other_step", "other_g"} < query.keys()
    again = open_page(context, address(page))
    for each in (page, again):
        for side, pictures in enumerate(expected):
            grid = each.locator(".side .grid").nth(side)
            expect(grid).to_have_attribute("data-drawn", re.compile(f"&count=3&seed={seed}&"))
            assert np.array_equal(np.stack(canvases(each, f".side:nth-child({side + 1}) canvas")), pictures)
    moved = address(page).replace("other_run=runs%2Fother", "other_run=runs%2Fkept")
    found = open_page(context, moved)  # the hash counts, wherever the generator lies
    expect(found.get_by_text("other, epoch 3, step 150").first).to_be_visible()
    for each in (page, again, found):
        each.close()
