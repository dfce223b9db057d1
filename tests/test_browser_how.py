"""The page How it works in a real browser: the story by keyboard, its links, and its words."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import address, canvases, open_page, settle

pytestmark = pytest.mark.slow

HEADINGS = {
    1: "A forger and a detective",
    2: "From noise to digits",
    3: "One step, in slow motion",
    4: "The courtroom",
    5: "How to read the curves",
    6: "When it fails",
    7: "The networks of forge",
    8: "Words",
}


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


def complete(page: Page, part: int) -> None:
    """Wait until a part is shown with its content, and is in the address."""
    expect(page.get_by_role("heading", level=2, name=HEADINGS[part])).to_be_visible()
    expect(page.locator(".how:not(.stale)")).to_be_visible()
    page.wait_for_function("part => location.search.includes(part)", arg=f"part={part}")
    settle(page)


def test_the_story_is_told_by_keyboard_and_each_part_is_a_link(context: BrowserContext, site: str) -> None:
    page = open_page(context, f"{site}/how")
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.partition("?")[0]))
    complete(page, 1)
    expect(page.get_by_role("heading", level=1)).to_have_text("How it works")
    first = canvases(page, ".players .fake")[0]
    page.get_by_role("button", name="New random numbers").press("Enter")
    expect(page.locator(".how:not(.stale)")).to_be_visible()
    expect(page.get_by_text("64 random numbers")).to_be_visible()
    settle(page)
    assert (canvases(page, ".players .fake")[0] != first).any()
    for part in range(2, 9):
        page.keyboard.press("ArrowRight")
        complete(page, part)
        expect(page.get_by_role("status").filter(has_text=f"Part {part} of 8")).to_have_count(1)
        if part == 3:
            expect(page.locator(".improved")).to_have_text(re.compile(r"^\u2212?\d+\.\d\d$"))
            tinted = page.locator(".objection").evaluate("""canvas => {
                const data = canvas.getContext("2d").getImageData(0, 0, 28, 28).data
                return [...Array(784).keys()].filter(k => data[4 * k] !== data[4 * k + 2]).length
            }""")
            assert tinted > 20
        if part == 4:
            page.get_by_role("button", name=re.compile("^Epoch 3: verdict")).press("Enter")
            expect(page.locator(".court-words")).to_contain_text("At epoch 3: verdict")
            expect(page.get_by_role("button", name=re.compile("^Epoch 3: "))).to_be_focused()
            settle(page)
            assert "epoch=3" in address(page)
            link = address(page)
    page.keyboard.press("ArrowRight")  # there is no further part
    page.keyboard.press("ArrowLeft")
    complete(page, 7)
    expect(page.get_by_test_id("stGraphVizChart")).to_have_count(3)
    page.goto(link)
    complete(page, 4)
    expect(page.get_by_role("button", name=re.compile("^Epoch 3: "))).to_have_attribute("aria-pressed", "true")
    assert problems == []
    assert {url for url in hosts if not url.startswith((site, "data:", "blob:"))} == set()


def test_a_word_is_explained_where_it_stands_and_a_run_without_a_detective_says_so(
    context: BrowserContext, site: str
) -> None:
    page = open_page(context, f"{site}/how?run=runs/quick-1&part=3")
    expect(page.get_by_text("The detective of this run is not stored")).to_be_visible()
    expect(page.locator(".motion")).to_be_hidden()
    page.get_by_role("button", name="2 Epochs").click()
    expect(page.locator(".epoch canvas")).to_have_count(4)
    page.get_by_role("button", name="weights", exact=True).press("Enter")
    expect(page.locator(".meaning")).to_contain_text("Weights: The numbers of a network that training changes.")
    page.keyboard.press("Escape")
    expect(page.locator(".meaning")).to_be_hidden()
    page.goto(f"{site}/how?run=runs/quick-1&part=99")
    expect(page.get_by_text("part must be between 1 and 8: got 99")).to_be_visible()
    expect(page.get_by_role("heading", level=2, name=HEADINGS[1])).to_be_visible()
