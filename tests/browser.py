"""Helpers for tests in a real browser: open pages, and read URLs and pixels."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect


def open_page(context: BrowserContext, url: str) -> Page:
    """Open a URL in a new tab."""
    page = context.new_page()
    page.goto(url)
    return page


def settle(page: Page) -> None:
    """Wait until the app has finished its run."""
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    page.wait_for_timeout(300)


def address(page: Page) -> str:
    """Return the URL in the address bar."""
    return page.evaluate("location.href")


def pixels(source: str) -> NDArray[np.uint8]:
    """Return the pixels of an image from its data URL."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def images(page: Page) -> list[NDArray[np.uint8]]:
    """Return the pixels of each picture on the Generate page."""
    found = page.locator(".df-rows img")
    expect(found.first).to_be_visible()
    return [pixels(source) for source in found.evaluate_all("images => images.map(image => image.src)")]
