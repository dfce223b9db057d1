"""What all tests share: their order, and where the browser is."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.find_chromium import ChromiumError, find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Milliseconds say little where tests share their cores with a training.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that a plain mistake shows within seconds; then those that may take longest.

    Two processes share the tests (`make test`), and both are to end at about the same time.
    """

    def order(item: pytest.Item) -> tuple[bool, float]:
        timeout = item.get_closest_marker("timeout")
        return item.get_closest_marker("slow") is not None, -timeout.args[0] if timeout else 0

    items.sort(key=order)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser to drive. Without one a test is skipped, but fails under CI, where nobody would notice the skip."""
    try:
        return find_chromium()
    except ChromiumError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> "Iterator[Browser]":
    """A running Chromium."""
    from playwright.sync_api import expect, sync_playwright  # late: most test sessions need no browser

    expect.set_options(timeout=20_000)  # the machine may be busy with a training
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium_path, args=arguments)
        yield browser
        browser.close()
