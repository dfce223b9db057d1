"""Find the Chromium that the browser tests drive; `python -m tests.find_chromium --install` installs one if need be."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import apt

NAMES = ("chromium", "chromium-browser", "google-chrome")

HOW_TO_GET_ONE = (
    "There is no Chromium for the browser tests. `make test` installs one where it can: by apt-get as root, or else "
    "Playwright's own. Where neither works, install Chromium or Chrome by hand, or set the environment variable "
    "CHROMIUM to the path of one."
)


class ChromiumError(Exception):
    """There is no Chromium to drive; the message says how to get one."""


def find_chromium() -> str:
    """The path of a Chromium that starts: the one CHROMIUM names, one on PATH, or Playwright's own."""
    if name := os.environ.get("CHROMIUM"):
        if path := shutil.which(name):
            return path
        raise ChromiumError(f"CHROMIUM is {name!r}, which is not an executable file.")
    for path in _candidates():
        if _starts(path):
            return path
    raise ChromiumError(HOW_TO_GET_ONE)


def _on_path() -> list[str]:
    return [path for name in NAMES if (path := shutil.which(name))]


def _candidates() -> Iterator[str]:
    yield from _on_path()
    from playwright.sync_api import sync_playwright  # late: it starts a process, to no end where PATH has a browser

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if Path(path).exists():
        yield path


def install_chromium() -> None:
    """Try to install one, by apt where that is allowed, else as Playwright's own; `find_chromium` tells the outcome."""
    if apt.install("Chromium", "chromium", "fonts-dejavu-core") and any(map(_starts, _on_path())):
        return
    print("Installing Playwright's own Chromium for the browser tests ...", flush=True)
    may_install = shutil.which("apt-get") and apt.root_prefix() is not None
    dependencies = ["--with-deps"] if may_install else []
    apt.succeeds([sys.executable, "-m", "playwright", "install", *dependencies, "chromium"])


def _starts(path: str) -> bool:
    # On some systems `chromium-browser` is a script that only says where to get the real one.
    return apt.succeeds([path, "--version"], quiet=True, timeout=60)


def main() -> None:
    """Say which browser the tests drive; without one fail only under CI, for the other tests are worth running."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install", action="store_true", help="install Chromium where none is found")
    arguments = parser.parse_args()
    try:
        print(f"The browser tests drive {_find_or_install() if arguments.install else find_chromium()}")
    except ChromiumError as error:
        print(error, file=sys.stderr)
        sys.exit(1 if os.environ.get("CI") else 0)


def _find_or_install() -> str:
    try:
        return find_chromium()
    except ChromiumError:
        if os.environ.get("CHROMIUM"):
            raise  # who names a browser wants that one
        install_chromium()
        return find_chromium()


if __name__ == "__main__":
    main()
