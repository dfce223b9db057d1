"""Accessibility: axe-core finds no violation on any page, in both themes and on a phone."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import serve, settle
from tests.sample_run import write_run

pytestmark = pytest.mark.slow

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
PATHS = {
    "generate": "?run=runs/quick-1",
    "interpolate": "interpolate?run=runs/quick-1",
    "gallery": "gallery?run=runs/quick-1",
    "training": "training?run=runs/quick-1",
    "architecture": "architecture?run=runs/quick-1",
    "notice": "?run=runs/none",
    "invalid": "gallery?run=runs/quick-1&epoch=x",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the app with one run that has scores."""
    runs = tmp_path_factory.mktemp("runs")
    write_run(runs, scored=[1, 2, 3])
    with serve(runs) as url:
        yield url


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong on a page: rule, impact and element of each violation."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then(result => result.violations)")
    return [f"{rule['id']} ({rule['impact']}): {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PATHS)
def test_no_page_has_a_violation(browser: Browser, site: str, name: str, screen: str) -> None:
    context = browser.new_context(reduced_motion="reduce", **SCREENS[screen])
    page = context.new_page()
    page.goto(f"{site}/{PATHS[name]}")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    settle(page)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # components label their buttons when their data has come
    if name == "training":
        expect(page.locator(".js-plotly-plot")).to_have_count(6)
    assert violations(page) == []
    context.close()


def test_axe_finds_what_is_wrong(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<main><h1>Page</h1><img src='data:,'></main>")
    assert any("image-alt" in violation for violation in violations(page))
    page.close()
