"""Helpers for tests in a real browser: open pages, and read URLs and pixels."""

import base64
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from webapp.training_child import NICENESS

ROOT = Path(__file__).resolve().parent.parent
FORGE = "run=pretrained/forge&step=15000&g=66aa0cbdc22a"
"""The shipped generator forge in a permalink."""


def prefer(server: "subprocess.Popen[str]") -> None:
    """Raise the priority of a server, if we may, by as much as its trainings lower theirs.

    Beside the tests of other processes they would hardly run.
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, server.pid, -NICENESS)


@contextmanager
def serve(runs: Path, *options: str) -> Iterator[str]:
    """Serve the app on a store of runs, as `make demo` does; give its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "webapp", "--port", "0", "--runs", str(runs), *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if "--allow-training" in options:
            prefer(process)
        assert process.stdout
        yield next(found[0] for line in process.stdout if (found := re.search(r"http://localhost:\d+", line)))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def open_page(context: BrowserContext, url: str) -> Page:
    """Open a URL in a new tab."""
    page = context.new_page()
    page.goto(url)
    return page


def settle(page: Page) -> None:
    """Wait until the app has finished its run."""
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    page.wait_for_timeout(300)


def wait_for_address(page: Page, **fields: object) -> None:
    """Wait until the URL has these parameters, and the app has finished its run."""
    texts = {name: str(value) for name, value in fields.items()}
    script = """(wanted) => {
        const query = new URLSearchParams(location.search)
        return Object.entries(wanted).every(([name, text]) => query.get(name) === text)
    }"""
    page.wait_for_function(script, arg=texts)
    settle(page)


def address(page: Page) -> str:
    """Return the URL in the address bar."""
    return page.evaluate("location.href")


def pixels(source: str) -> NDArray[np.uint8]:
    """Return the pixels of an image from its data URL."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def canvases(page: Page, selector: str) -> list[NDArray[np.uint8]]:
    """Return the grey pixels of each canvas on a page that a selector finds."""
    sources = page.locator(selector).evaluate_all("all => all.map(canvas => canvas.toDataURL())")
    return [pixels(source)[..., 0] for source in sources]


def images(page: Page) -> list[NDArray[np.uint8]]:
    """Return the pixels of each picture in the grid of the Explore page, once they are drawn."""
    page.wait_for_function("""() => {
        const find = (root) => [...root.querySelectorAll("*")].map((node) => node.shadowRoot).filter(Boolean)
            .flatMap((shadow) => [...shadow.querySelectorAll(".grid canvas"), ...find(shadow)])
        const grid = find(document)
        const isDrawn = (canvas) => canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3] === 255
        return grid.length && grid.every(isDrawn)
    }""")
    return canvases(page, ".grid canvas")


def row(page: Page, digit: int) -> None:
    """Choose a digit in the rows of the grid of the Explore page."""
    page.get_by_role("group", name="Rows").get_by_role("button", name=str(digit), exact=True).click()
