"""The Train page in a real browser, on a real Ray: a worker is killed, and the curve stays the same to the last bit."""

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.chaos import differences
from tests.browser import address, open_page, serve, settle
from tests.test_browser_access import DESKTOP, PHONE, violations
from trainer.run_store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "runs"


@pytest.fixture(scope="module")
def own_site(runs: Path) -> Iterator[str]:
    """The URL of an app that may train."""
    with serve(runs, "--allow-training") as url:
        yield url


def status(site: str, path: str, method: str = "GET", **headers: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        return connection.getresponse().status
    finally:
        connection.close()


def test_only_this_machine_gets_in_and_no_request_starts_anything(own_site: str, runs: Path) -> None:
    socket = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13"}
    socket |= {"sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ=="}
    own = own_site.removeprefix("http://")
    assert status(own_site, "/_stcore/stream", **socket, host=own, origin=own_site) == 101
    for headers in (
        {"host": "lab.example"},
        {"host": "192.0.2.7"},
        {"host": own, "origin": "http://lab.example"},
        {"host": own, "origin": "http://localhost:1"},
        {"host": own, "x_forwarded_for": "192.0.2.7"},
    ):
        assert status(own_site, "/_stcore/stream", **socket, **headers) == 403
        assert status(own_site, "/train", **headers) == 403
    for method in ("GET", "POST", "PUT"):
        assert status(own_site, "/train?recipe=quick&name=mine&train.start=true", method) < 500
    assert not runs.exists()


def test_the_form_is_accessible_and_fits_a_phone(browser: Browser, own_site: str) -> None:
    for options in (DESKTOP, PHONE):
        context = browser.new_context(reduced_motion="reduce", **options)
        page = open_page(context, f"{own_site}/train")
        expect(page.get_by_role("button", name="Start quick-1")).to_be_enabled(timeout=60_000)
        settle(page)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        ground = page.get_by_test_id("stApp")
        light = ground.evaluate("app => getComputedStyle(app).backgroundColor")
        page.emulate_media(color_scheme="dark")
        expect(ground).not_to_have_css("background-color", light)
        settle(page)
        assert violations(page) == []
        context.close()


def figure(page: Page, label: str) -> str:
    """Return the value of a figure on the page."""
    return page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue").inner_text()


def test_a_worker_that_is_killed_leaves_no_trace_in_the_curve(browser: Browser, own_site: str, runs: Path) -> None:
    context = browser.new_context(**DESKTOP)
    page = open_page(context, f"{own_site}/train")
    errors: list[str] = []
    page.on(
        "console",
        lambda message: errors.append(f"{message.text} {message.location}") if message.type == "error" else None,
    )
    page.get_by_role("button", name="Start the two trainings").click()
    pull = page.get_by_role("button", name="Pull the plug on a worker")
    expect(pull).to_be_disabled(timeout=60_000)
    page.reload()  # what the page knows is in the server and in the store
    expect(pull).to_be_enabled(timeout=600_000)
    expect(page.get_by_role("button", name="Start quick-1")).to_be_disabled()
    pull.click()
    said = page.get_by_role("status").filter(has_text="Training again")
    expect(said).to_contain_text(re.compile(r"Worker \d (died|lost the connection)"), timeout=60_000)
    assert float(figure(page, "Noticed after").removesuffix(" s")) < 30
    assert 0 <= int(figure(page, "Steps done again")) < 100
    context.close()  # the training goes on

    page = open_page(browser.new_context(**DESKTOP), f"{own_site}/train")
    expect(page.get_by_text("identical")).to_be_visible(timeout=500_000)
    assert (figure(page, "Largest difference"), figure(page, "Steps compared")) == ("0", "400")
    expect(page.get_by_role("status").filter(has_text="the same weights, to the last bit")).to_be_visible()
    settle(page)
    assert violations(page) == []
    assert "run=" not in address(page)
    assert errors == []
    store = open_store(runs)
    assert differences(store.run("plug-1"), store.run("plug-1-undisturbed")) == []
    page.context.close()
