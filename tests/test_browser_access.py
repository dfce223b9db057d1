"""Every page, in both themes and on a phone: axe-core finds no violation, icons are pictures, nothing is cut."""

from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import FORGE, settle

pytestmark = pytest.mark.slow

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PATHS = {
    "generate": "?run=runs/quick-1",
    "interpolate": "interpolate?run=runs/quick-1",
    "write": "write?run=runs/quick-1&text=24.12.2026&ink=white&paper=board",
    "quiz": "quiz?run=runs/quick-1",
    "training": "training?run=runs/quick-1&epoch=2&mine=7.5",
    "compare": "compare?run=pretrained/forge&other_run=runs/quick-1",
    "how": "how?run=pretrained/forge&part=1",
    "how, one step": "how?run=pretrained/forge&part=3",
    "how, courtroom": "how?run=pretrained/forge&part=4",
    "how, networks": "how?run=runs/quick-1&part=7",
    "train": "train",
    "notice": "?run=runs/none",
    "invalid": "training?run=runs/quick-1&epoch=x",
    "permalink": f"s?v=1&kind=generate&{FORGE}&digits=7&count=1&seed=5",
    "moving permalink": f"s?v=1&kind=interpolate&{FORGE}&from_digit=3&to_digit=8&px={'0' * 16}",
    "quiz permalink": f"s?v=1&kind=quiz&{FORGE}&seed=5&answers=0101010101",
    "refused permalink": "s?v=1&kind=generate&seed=x",
    "embedded": f"embed?v=1&kind=interpolate&{FORGE}&from_digit=3&to_digit=8",
}

SIGNS = {
    "generate": ".hero",
    "interpolate": ".stage",
    "write": "button.glyph",
    "quiz": ".choice",
    "training": ".stage",
    "compare": ".js-plotly-plot",
    "how": ".players",
    "how, one step": ".motion",
    "how, courtroom": "button.court-row",
    "how, networks": "[data-testid=stGraphVizChart] .node",
}
"""Texts on the pages that show a run."""


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong on a page: rule, impact and element of each violation."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then(result => result.violations)")
    return [f"{rule['id']} ({rule['impact']}): {node['html'][:200]}" for rule in found for node in rule["nodes"]]


def icons(page: Page) -> list[tuple[str, float]]:
    """Return the name and the width, in em, of each icon on a page. One that the font lacks is shown as its name."""
    found = page.get_by_test_id("stIconMaterial").evaluate_all(
        "icons => icons.map(i => [i.textContent, i.scrollWidth / parseFloat(getComputedStyle(i).fontSize)])"
    )
    return [(name, width) for name, width in found]


def open_whole(context: BrowserContext, site: str, name: str) -> Page:
    """Open a page, and wait until all of it is there."""
    page = context.new_page()
    page.goto(f"{site}/{PATHS[name]}")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    if name in SIGNS:
        expect(page.locator(SIGNS[name]).first).to_be_visible()
    settle(page)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # components label their buttons when their data has come
    if name == "training":
        expect(page.locator(".js-plotly-plot")).to_have_count(6)
    return page


@pytest.mark.parametrize("name", PATHS)
def test_no_page_has_a_violation_in_either_theme(browser: Browser, site: str, name: str) -> None:
    context = browser.new_context(reduced_motion="reduce", **DESKTOP)
    page = open_whole(context, site, name)
    assert violations(page) == []
    if name in SIGNS:
        assert len(icons(page)) >= 5
        assert [icon for icon in icons(page) if icon[1] > 1.2] == []
    light = page.screenshot()
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(1000)
    settle(page)
    assert name == "embedded" or page.screenshot() != light  # the embedded form is dark in both
    assert violations(page) == []
    context.close()


@pytest.mark.parametrize("name", PATHS)
def test_no_page_has_a_violation_or_is_cut_off_on_a_phone(browser: Browser, site: str, name: str) -> None:
    context = browser.new_context(reduced_motion="reduce", **PHONE)
    page = open_whole(context, site, name)
    assert violations(page) == []
    widths = "['html', '[data-testid=stMain]'].map(name => document.querySelector(name)?.scrollWidth ?? 0)"
    assert max(page.evaluate(widths)) <= 390
    context.close()


def test_axe_finds_what_is_wrong(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<main><h1>Page</h1><img src='data:,'></main>")
    assert any("image-alt" in violation for violation in violations(page))
    page.close()
