"""The game Real or fake? in a real browser: ten rounds by keyboard, the result, and what its link shows."""

import re
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from models.quiz import ROUNDS
from tests.browser import FORGE, address, canvases, settle
from tests.test_browser_access import violations
from webapp import catalog, game, inference

pytestmark = pytest.mark.slow

KEYS = ("1", "2", "ArrowLeft", "ArrowRight", "1", "1", "2", "1", "2", "1")
ANSWERS = "0101001010"
SEED = 3
GIVEN_AWAY = re.compile("real|fake|written by|drawn by|is-known", re.IGNORECASE)
"""What nothing in a round may say before the answer."""


def game_of(seed: int) -> game.Game:
    """Return the game of a seed against the shipped generator forge."""
    stored = catalog.generators("pretrained/forge")[-1]
    return game.play(inference.GeneratorKey("pretrained/forge", stored.step, stored.sha256), seed)


def shown(page: Page) -> NDArray[np.uint8]:
    """Return the pictures of the round that is shown: left and right."""
    return np.stack(canvases(page, ".choice canvas"))


def test_a_game_is_played_by_keyboard_and_its_result_is_sent(browser: Browser, site: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    own = (site, "blob:", "data:")
    page.on("request", lambda request: None if request.url.startswith(own) else complaints.append(request.url))
    expected = game_of(SEED)
    page.goto(f"{site}/quiz?{FORGE}&seed={SEED}")
    next_pair, status = page.locator(".next"), page.locator(".verdict")
    expect(page.locator(".quiz[data-is-ready]")).to_be_visible()
    settle(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for number, key in enumerate(KEYS):
        expect(page.locator(".progress")).to_have_text(f"Round {number + 1} of {ROUNDS}")
        assert np.array_equal(shown(page), expected.pairs[number])
        assert not GIVEN_AWAY.search(page.locator(".pair").inner_html())
        place = page.locator(".pair").bounding_box()
        page.keyboard.press(key)
        side = ("left", "right")[int(expected.real[number])]
        is_right = ANSWERS[number] == expected.real[number]
        expect(status).to_contain_text(f"{'Correct' if is_right else 'Wrong'}: the {side} one was written by hand.")
        expect(status).to_contain_text("The detective bet on the")
        expect(page.locator(".choice.is-real")).to_have_attribute("aria-label", f"The {side} one")
        assert page.locator(".pair").bounding_box() == place  # nothing moves
        page.keyboard.press("2")  # too late
        expect(next_pair).to_be_focused()
        page.keyboard.press("Enter")
    assert asked == []
    score = expected.score(ANSWERS)
    expect(page.locator(".score")).to_have_text(f"{score} of {ROUNDS}")
    expect(page.locator(".score")).to_be_focused()
    expect(page.locator(".pairs canvas")).to_have_count(2 * ROUNDS)
    settle(page)
    assert parse_qs(urlsplit(address(page)).query)["answers"] == [ANSWERS]
    result = page.url
    rows = [f"{expected.score(bets)} of {ROUNDS}" for _, bets in (("You", ANSWERS), *expected.others)]
    assert page.locator(".scores td:last-child").all_inner_texts() == rows
    marks = page.locator(".pairs li").evaluate_all("items => items.map(item => item.className)")
    assert marks == ["right" if found else "wrong" for found in expected.is_right(ANSWERS)]
    assert violations(page) == []

    page.get_by_role("button", name="Share", exact=True).click()
    permalink = page.get_by_label("Permalink")
    expect(permalink).to_have_value(re.compile(f"/s.*kind=quiz.*answers={ANSWERS}&px="))
    friend = context.new_page()
    friend.goto(permalink.input_value())
    expect(friend.get_by_text("Reproduced: the same")).to_be_visible()
    assert friend.locator(".scores td").all_inner_texts() == rows
    assert friend.locator(".pairs li").evaluate_all("items => items.map(item => item.className)") == marks
    friend.get_by_role("link", name="Play the same ten").click()
    expect(friend.locator(".progress")).to_have_text(f"Round 1 of {ROUNDS}")
    assert np.array_equal(shown(friend), expected.pairs[0])
    friend.goto(result)
    expect(friend.locator(".words")).to_contain_text("Can you do better?")
    friend.close()

    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Play ten new pairs").click()
    expect(page.locator(".progress")).to_have_text(f"Round 1 of {ROUNDS}")
    expect(page.locator(".question")).to_be_focused()
    settle(page)
    query = parse_qs(urlsplit(address(page)).query)
    assert "answers" not in query
    assert np.array_equal(shown(page), game_of(int(query["seed"][0])).pairs[0])
    page.locator(".choice").first.click()
    expect(status).to_contain_text("one was written by hand")
    page.go_back()
    expect(page.locator(".score")).to_have_text(f"{score} of {ROUNDS}")
    context.close()
    assert complaints == []
