"""`python -m benchmarks.dragging URL`: how fast pictures follow the pointer in a running app (`make demo`).

Chromium opens each generator's pages and drags the pad, the slider of the truncation and the scrubber with a real
mouse, 125 moves a second. Needs requirements-dev.txt and an idle machine.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tools.programs import find_chromium

RUNS = ("forge", "dcgan", "onehot-cdcgan", "dropout-dcgan", "mlp-cgan")
"""Shipped generators to drag; all are drawn in the browser."""
MOVES_A_SECOND = 125

DRAGS = {
    "pad": ("", ".pad", ".hero"),
    "truncation": ("", "input.truncation", ".hero"),
    "scrubber": ("interpolate", ".position", ".stage"),
}
"""Thing that is dragged -> its page, a selector of what the mouse drags, and one of the canvas with the picture."""

# Notes when the canvas shows a picture, and how long the drawing thread takes from a request to its answer.
WATCH = """() => {
  window.asked = new Map()
  window.took = []
  const post = Worker.prototype.postMessage
  Worker.prototype.postMessage = function (message, ...rest) {
    if (!this.isWatched) {
      this.isWatched = true
      this.addEventListener("message", ({ data: { id, found } }) => {
        if (found && window.asked.has(id)) window.took.push(performance.now() - window.asked.get(id))
      })
    }
    if (message.lane === "hero") window.asked.set(message.id, performance.now())
    return post.call(this, message, ...rest)
  }
}"""
COUNT = """(selector) => {
  const find = (root) => root.querySelector(selector)
    ?? [...root.querySelectorAll("*")].map((node) => node.shadowRoot && find(node.shadowRoot)).find(Boolean)
  const context = find(document).getContext("2d")
  const put = context.putImageData.bind(context)
  window.shown = []
  window.took = []
  context.putImageData = (...values) => { window.shown.push(performance.now()); put(...values) }
}"""


class Drag(NamedTuple):
    """Observations of one drag."""

    rate: float
    """Pictures a second."""
    gaps: list[float]
    """Milliseconds between two pictures."""
    took: list[float]
    """Milliseconds from a request to its picture; empty if the pictures were there before the drag."""
    messages: int
    """Messages to the server during the drag. The page itself looks for new runs every three seconds."""


def drag(browser: Browser, url: str, run: str, what: str, seconds: float) -> Drag:
    """Open a page of the app in a new tab, and drag."""
    path, target, canvas = DRAGS[what]
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.add_init_script(f"({WATCH})()")
    messages: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: messages.append("")))
    page.on("request", lambda request: messages.append(request.url))
    page.goto(f"{url}/{path}?run={quote(f'pretrained/{run}')}" + ("&frames=64" if path else ""))
    page.locator(canvas).hover()
    expect(page.locator("[data-draws=browser]")).to_have_count(1, timeout=30_000)
    page.wait_for_timeout(3000)
    box = page.locator(target).bounding_box()
    if not box:
        raise RuntimeError(f"{what} of {run} is not on the screen")
    left, width, top, height = box["x"] + 8, box["width"] - 16, box["y"], box["height"]
    page.mouse.move(left, top + height / 2)
    page.mouse.down()
    _move(page, left, width, top, height, 1)  # the first pictures: the browser compiles
    page.evaluate(COUNT, canvas)
    before, began = len(messages), time.perf_counter()
    _move(page, left, width, top, height, seconds)
    shown, took = page.evaluate("[window.shown, window.took]")
    lasted, sent = time.perf_counter() - began, len(messages) - before
    page.close()
    return Drag(len(shown) / lasted, [b - a for a, b in pairwise(shown)], took, sent)


def _move(page: Page, left: float, width: float, top: float, height: float, seconds: float) -> None:
    began = time.perf_counter()
    moves = 0
    while (passed := time.perf_counter() - began) < seconds:
        part = abs((passed / 0.8) % 2 - 1)
        page.mouse.move(left + part * width, top + (0.3 + 0.4 * part) * height)
        moves += 1
        page.wait_for_timeout(max(0, 1000 * (moves / MOVES_A_SECOND - (time.perf_counter() - began))))


def _figures(times: Sequence[float]) -> str:
    if len(times) < 2:
        return f"{'-':>6} {'-':>6}"
    return f"{statistics.median(times):6.1f} {statistics.quantiles(times, n=20)[-1]:6.1f}"


def main() -> None:
    """Print a line for each generator and drag."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dragging", description=__doc__)
    parser.add_argument("url", help="of the app, such as http://localhost:8501")
    parser.add_argument("--runs", nargs="+", default=RUNS, metavar="NAME", help="shipped generators")
    parser.add_argument("--seconds", type=float, default=5, help="length of a drag")
    options = parser.parse_args()
    print("                           pictures  ms between   ms to draw   messages")
    print("generator      drag          each s  median  p95  median  p95")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        for run in options.runs:
            for what in DRAGS:
                found = drag(browser, options.url.rstrip("/"), run, what, options.seconds)
                figures = f"{found.rate:9.1f}  {_figures(found.gaps)}  {_figures(found.took)}"
                print(f"{run:14} {what:11} {figures}  {found.messages:6}", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
