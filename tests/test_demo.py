"""`make demo`: shipped digits at once, a live training, and a clean end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser import images, open_page, prefer, row, settle
from trainer.run_store import open_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The command of `make demo` in a process, on a free port and without a terminal."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "webapp",
            "--train",
            "quick",
            "--allow-training",
            "--port",
            "0",
            "--runs",
            str(tmp_path / "runs"),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    prefer(process)
    yield process
    if process.poll() is None:
        process.kill()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.mark.timeout(400)
def test_a_demo_shows_digits_trains_live_and_ends_cleanly(
    demo: "subprocess.Popen[str]", visitor: BrowserContext, tmp_path: Path
) -> None:
    assert demo.stdout
    site = next(found[0] for line in demo.stdout if (found := re.search(r"http://localhost:\d+", line)))
    page = open_page(visitor, site)
    assert len(images(page)) == 100
    row(page, 6)
    expect(page.locator(".grid canvas")).to_have_count(10)
    settle(page)
    sixes = images(page)
    assert "run=pretrained/forge" in page.evaluate("decodeURIComponent(location.href)")

    again = open_page(visitor, page.evaluate("location.href"))
    expect(again.locator(".grid canvas")).to_have_count(10)
    assert np.array_equal(np.stack(images(again)), np.stack(sixes))
    again.close()

    run = open_store(tmp_path / "runs").run("quick-1")
    deadline = time.monotonic() + 240
    while run.read_progress().step < 3:
        assert time.monotonic() < deadline, (tmp_path / "runs" / "quick-1.log").read_text()
        time.sleep(0.5)
    expect(page.get_by_text(re.compile("quick-1 is training"))).to_be_visible(timeout=30_000)

    family = psutil.Process(demo.pid).children(recursive=True)
    assert len(family) > 3  # the trainer and the processes of Ray
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=90)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [process.cmdline() for process in alive] == []
    assert demo.returncode == 0
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert checkpoint.step >= 3
    assert run.read_progress().phase == "stopped"
