"""What all tests share: their order, and where the browser is."""

import os

import pytest
from hypothesis import settings

from tests.find_chromium import ChromiumError, find_chromium

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
