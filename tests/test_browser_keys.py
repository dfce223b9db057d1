"""The keys of the pages in a real browser, the list of them, and the hint for a first visit."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser import address, open_page
from tests.test_browser_access import violations
from tests.test_browser_training import wait_for_address

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


def test_keys_choose_the_digit_move_the_picture_and_share_unless_a_field_takes_them(
    context: BrowserContext, site: str
) -> None:
    page = open_page(context, f"{site}/?digit=7&seed=772")
    words = page.locator(".words")
    expect(words).to_have_text("A handwritten 7, seed 772")
    page.keyboard.press("3")
    expect(words).to_have_text("A handwritten 3, seed 772")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    wait_for_address(page, "digit=3&corners=772.773.774.775&x=0.05&y=0.1")
    page.get_by_label("Seed", exact=True).press("End")
    page.keyboard.press("1")
    expect(words).to_have_text("A handwritten 3, seed 7721")
    page.locator(".grid button").first.focus()
    page.keyboard.press("ArrowRight")  # moves among the cells, as before
    expect(page.locator(".grid button").nth(1)).to_be_focused()
    expect(words).to_have_text("A handwritten 3, seed 7721")
    page.keyboard.press("Control+s")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("s")
    expect(page.get_by_role("dialog", name="Share")).to_be_visible()
    page.keyboard.press("5")  # belongs to the dialog
    page.keyboard.press("Escape")
    expect(words).to_have_text("A handwritten 3, seed 7721")


def test_a_list_of_the_keys_opens_and_can_turn_them_off(context: BrowserContext, site: str) -> None:
    page = open_page(context, site)
    hint = page.locator(".welcome")
    expect(hint.get_by_role("link", name="How it works")).to_have_attribute(
        "href", f"{site}/how?run=pretrained/forge&step=15000&g=66aa0cbdc22a"
    )
    place = page.locator(".controls .prompt").bounding_box()
    hint.get_by_role("button", name="Dismiss this hint").click()
    expect(hint).to_be_hidden()
    assert page.locator(".controls .prompt").bounding_box() == place
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog.locator("dt").first).to_have_text("0 to 9")
    expect(dialog.locator("dd").first).to_have_text("Choose the digit")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        assert violations(page) == []
    dialog.get_by_label("Use letters, digits and ? as keys").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    for key in ("3", "?"):
        page.keyboard.press(key)
    expect(page.locator(".words")).to_have_text("A handwritten 7, seed 772")
    page.reload()  # both are remembered
    expect(page.locator(".words")).to_have_text("A handwritten 7, seed 772")
    expect(hint).to_be_hidden()
    page.keyboard.press("3")
    page.keyboard.press("ArrowRight")  # no character
    expect(page.locator(".words")).to_have_text("A handwritten 7 between seeds 772, 773, 774 and 775")
    page.get_by_role("button", name="Keys").click()
    dialog.get_by_label("Use letters, digits and ? as keys").check()
    dialog.get_by_role("button", name="Close").click()
    page.keyboard.press("3")
    expect(page.locator(".words")).to_have_text("A handwritten 3 between seeds 772, 773, 774 and 775")


def test_keys_play_and_step_through_frames_and_epochs_and_copy_the_link(context: BrowserContext, site: str) -> None:
    page = open_page(context, f"{site}/interpolate?frame=0")
    expect(page.locator(".caption")).to_have_text("Frame 1 of 24")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".caption")).to_have_text("Frame 2 of 24")
    page.keyboard.press("5")  # no stop is chosen
    page.locator(".stop canvas").first.click()
    page.keyboard.press("6")
    wait_for_address(page, "from_digit=6")
    assert "to_digit=8" in address(page)
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("P")
    expect(page.get_by_role("button", name="Play")).to_be_visible()

    page.goto(f"{site}/training?run=runs/quick-1&epoch=2")
    expect(page.locator(".df-training[data-is-ready] .caption")).to_contain_text("Epoch 2 ")
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".caption")).to_contain_text("Epoch 1 ")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".caption")).to_contain_text("Epoch 0 ")
    wait_for_address(page, "epoch=0")
    page.keyboard.press("p")
    expect(page.locator(".caption")).to_contain_text("Epoch 3 ")
    link = re.compile(rf"{site}/training\?run=runs/quick-1&g=[0-9a-f]{{12}}&epoch=3")
    expect(page.locator(".copy")).to_have_attribute("data-link", link)
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    assert link.fullmatch(page.evaluate("navigator.clipboard.readText()"))


def test_keys_write_into_the_field_and_choose_a_part(context: BrowserContext, site: str) -> None:
    page = open_page(context, f"{site}/write?text=42")
    expect(page.locator("button.glyph")).to_have_count(2)
    page.keyboard.type("-7s")  # the field has the focus after the first key
    expect(page.locator("#text")).to_have_value("42-7s")
    page.goto(f"{site}/how?run=pretrained/forge")
    expect(page.locator(".pills [aria-pressed=true]")).to_have_text("7")
    page.keyboard.press("4")
    expect(page.locator(".pills [aria-pressed=true]")).to_have_text("4")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="From noise to digits")).to_be_visible()


def test_compare_names_the_classes_of_each_side(context: BrowserContext, site: str) -> None:
    page = open_page(context, f"{site}/compare?run=pretrained/forge&other_run=pretrained/fashion&digits=7&count=1")
    expect(page.locator(".matched")).to_contain_text("9 is a 9 on the left and Ankle boot on the right")
    expect(page.locator(".pills button").nth(7)).to_have_text("7 \u00b7 Sneaker")
    labels = page.locator(".side canvas").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert [label.partition(",")[0] for label in labels] == ["A handwritten 7", "Sneaker"]
    page.keyboard.press("3")  # joins the 7
    expect(page.locator(".pills [aria-pressed=true]")).to_have_text(["3 \u00b7 Dress", "7 \u00b7 Sneaker"])
