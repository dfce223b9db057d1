"""The app in a real browser when something is wrong: silent runs, storage that fails, damaged files, bad links."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import open_page, serve, settle
from tests.sample_run import model_config, write_checkpoint, write_epoch, write_run
from trainer.run_store import Run

pytestmark = pytest.mark.slow

STREAMLITS_OWN = ("This app has encountered an error", "Manage app", "Ask Google", "Page not found")
"""Texts of Streamlit's own boxes."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def site(runs: Path) -> Iterator[str]:
    """The address of the app."""
    with serve(runs) as url:
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A visitor's page; a box of Streamlit's own on it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    page = context.new_page()
    yield page
    text = page.inner_text("body")
    context.close()
    assert [words for words in STREAMLITS_OWN if words in text] == []


def write_progress(run: Run, **fields: object) -> None:
    run.write_progress(dataclasses.replace(run.read_progress(), **fields))


def test_pages_wake_up_when_a_silent_run_is_resumed(page: Page, site: str, runs: Path) -> None:
    run = write_run(runs, "silent", epochs=1, phase="training", heartbeat=time.time() - 60)
    page.goto(f"{site}/training?run=runs/silent")
    heading, caption = page.get_by_role("heading", level=1), page.locator(".caption")
    expect(heading).to_contain_text("has not reported for 1 min")
    expect(caption).to_contain_text("Epoch 1")
    before = heading.inner_text()
    expect(heading).not_to_have_text(before, timeout=30_000)  # the seconds go on

    write_epoch(run, 2, model_config())
    write_progress(run, heartbeat=time.time() + 25, step=100, epoch=3)
    expect(heading).to_have_text("silent is training: epoch 3 of 3", timeout=30_000)
    expect(caption).to_contain_text("Epoch 2", timeout=30_000)
    write_epoch(run, 3, model_config())
    write_progress(run, phase="finished", step=150)
    expect(heading).to_have_text("silent has finished", timeout=30_000)
    expect(caption).to_contain_text("Epoch 3", timeout=30_000)


def test_pages_wake_up_when_a_stopped_run_is_resumed(page: Page, site: str, runs: Path) -> None:
    run = write_run(runs, "stopped", epochs=0, phase="stopped")
    training = page.context.new_page()
    page.goto(f"{site}/?run=runs/stopped")
    training.goto(f"{site}/training?run=runs/stopped")
    expect(page.get_by_text("stopped has no checkpoint")).to_be_visible()
    expect(training.get_by_role("heading", level=1)).to_have_text("stopped was stopped")
    write_progress(run, phase="training", heartbeat=time.time() + 25, step=7)
    expect(training.get_by_role("heading", level=1)).to_contain_text("stopped is training", timeout=30_000)
    expect(page.get_by_text("Step 7 of 150")).to_be_visible(timeout=30_000)
    write_progress(run, heartbeat=time.time() + 25, step=8)
    expect(page.get_by_text("Step 8 of 150")).to_be_visible(timeout=30_000)
    write_checkpoint(run, 1, model_config())
    expect(page.locator(".grid canvas")).to_have_count(100, timeout=30_000)


def test_a_storage_that_fails_shows_our_notice_and_the_page_recovers(page: Page, site: str, runs: Path) -> None:
    run = write_run(runs, "failing", epochs=2, phase="training", heartbeat=time.time() + 60)
    page.goto(f"{site}/training?run=runs/failing")
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    write_epoch(run, 3, model_config())
    losses = Path(run.path, "epochs", "0003", "losses.json")
    content = losses.read_bytes()
    losses.unlink()
    losses.mkdir()  # a folder in place of a file: the storage answers with an error of its own
    expect(page.get_by_text("The run cannot be read")).to_be_visible()
    assert str(runs) not in page.inner_text("body")
    losses.rmdir()
    losses.write_bytes(content)
    expect(page.get_by_text("The run cannot be read")).to_have_count(0)
    expect(page.locator(".js-plotly-plot")).to_have_count(3)


def test_an_error_in_the_app_shows_our_own_words(page: Page, site: str, runs: Path) -> None:
    run = write_run(runs, "overflowing", epochs=2)
    path = Path(run.path, "epochs", "0002", "losses.json")
    path.write_text(f'{{"step": [1], "d_loss": [1{"0" * 400}], "g_loss": [1]}}')  # no float can hold it
    page.goto(f"{site}/training?run=runs/overflowing")
    expect(page.get_by_text("This part of the page cannot be drawn")).to_be_visible()
    expect(page.get_by_text("overflowing has finished")).to_be_visible()


def test_a_damaged_picture_is_named(page: Page, site: str, runs: Path) -> None:
    run = write_run(runs, "scratched", epochs=2)
    flip_a_byte(Path(run.path, "epochs", "0002", "samples.png"))
    page.goto(f"{site}/training?run=runs/scratched")
    expect(page.locator(".caption")).to_contain_text("Epoch 2 - step 100 - this picture is damaged")
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".caption")).to_have_text("Epoch 1 - step 50")
    expect(page.locator(".stage")).to_be_visible()


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_link_brings_no_link_of_its_own_onto_the_page(page: Page, site: str) -> None:
    values = (
        "seed=[Log in again](https://evil.example)",
        "count=https://evil.example",
        "truncation=www.evil.example",
        "digits=me@evil.example",
        "[Log in](https://evil.example)=1",
        "https://evil.example=1",
    )
    for query, number in (("&".join(values), len(values)), ("run=https://evil.example/a", 1)):
        page.goto(f"{site}/?{query}")
        expect(page.get_by_text("cannot be used")).to_have_count(number)
        assert page.locator("a[href*=evil]").count() == 0, query
        assert page.inner_text("[data-testid=stMain]").count("evil.example") >= number


def test_a_finger_on_a_chart_scrolls_the_page(browser: Browser, site: str, runs: Path) -> None:
    write_run(runs, "charted", scored=[1, 2, 3])
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = open_page(context, f"{site}/training?run=runs/charted")
    charts = page.locator(".js-plotly-plot")
    expect(charts).to_have_count(6)
    settle(page)
    client = context.new_cdp_session(page)
    for number in range(6):
        chart = charts.nth(number)
        chart.scroll_into_view_if_needed()
        page.wait_for_timeout(200)
        box = chart.bounding_box()
        assert box
        before = axes(page, number), scrolled(page)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for k in range(1, 11):
            point = {"x": x, "y": y + (12 * k if number == 5 else -12 * k)}
            client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(300)
        assert abs(scrolled(page) - before[1]) > 50
        assert axes(page, number) == before[0]
    context.close()


def test_the_first_scores_do_not_move_the_curves(page: Page, site: str, runs: Path) -> None:
    run = write_run(runs, "scored", epochs=1, phase="training", heartbeat=time.time() + 120)
    page.goto(f"{site}/training?run=runs/scored")
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    settle(page)
    title = page.get_by_text("Losses", exact=True)
    before = title.bounding_box()
    write_epoch(run, 2, model_config(), scored=True)
    expect(page.locator(".js-plotly-plot")).to_have_count(6, timeout=30_000)
    settle(page)
    assert title.bounding_box() == before


def test_a_zoom_has_a_visible_way_back(page: Page, site: str, runs: Path) -> None:
    write_run(runs, "zoomed")
    page.goto(f"{site}/training?run=runs/zoomed")
    chart = page.locator(".js-plotly-plot").first
    expect(chart).to_be_visible()
    settle(page)
    box = chart.bounding_box()
    assert box
    before = axes(page, 0)
    page.mouse.move(box["x"] + 200, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 150, steps=5)
    page.mouse.up()
    page.wait_for_timeout(300)
    assert axes(page, 0) != before
    chart.get_by_text("Reset axes").or_(chart.locator("[data-title='Reset axes']")).first.click()
    page.wait_for_timeout(500)
    assert axes(page, 0) == pytest.approx(before)


def axes(page: Page, chart: int) -> list[float]:
    """Return what the axes of a chart show: ends of x, ends of y."""
    return (
        page.locator(".js-plotly-plot")
        .nth(chart)
        .evaluate("plot => [...plot._fullLayout.xaxis.range, ...plot._fullLayout.yaxis.range]")
    )


def scrolled(page: Page) -> float:
    return page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop + window.scrollY")
