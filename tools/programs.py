"""`python -m tools.programs chromium dot`: find the programs that tests use, or offer to install them.

Chromium runs the browser tests and draws the notebook's charts; Graphviz's `dot` draws the diagrams of networks.
"""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import apt

PACKAGES = {"chromium": ("chromium", "fonts-dejavu-core"), "dot": ("graphviz", "fonts-dejavu-core")}
"""Program -> its packages in Debian and Ubuntu."""

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


class MissingProgramError(Exception):
    """A program is not installed; the message says how to get it."""


def find_chromium() -> str:
    """Return the path of Chromium: the one named by CHROMIUM, one on PATH that starts, or Playwright's."""
    if name := os.environ.get("CHROMIUM"):
        if path := shutil.which(name):
            return path
        raise MissingProgramError(f"CHROMIUM is {name!r}, which is not an executable file.")
    for path in _chromiums():
        if _starts(path):
            return path
    raise MissingProgramError(
        "There is no Chromium, so nothing can be shown in a browser. `make setup` offers to install one; or install "
        "Chromium or Chrome yourself, or set the environment variable CHROMIUM to the path of one."
    )


def find_dot() -> str:
    """Return the path of Graphviz's `dot`."""
    if path := shutil.which("dot"):
        return path
    raise MissingProgramError(
        "There is no program `dot`, so diagrams of networks cannot be drawn to files. `make setup` offers to install "
        "Graphviz; or install it yourself, as in: apt-get install graphviz"
    )


FINDERS = {"chromium": find_chromium, "dot": find_dot}


def install(programs: Sequence[str]) -> None:
    """Install programs if that is possible and permitted. Does not report failure: call the finders afterwards."""
    names = " and ".join(programs)
    packages = sorted({package for program in programs for package in PACKAGES[program]})
    playwright = [sys.executable, "-m", "playwright", "install"]
    planned = apt.commands(packages)
    if planned is None:
        if "chromium" in programs:
            print("Downloading Playwright's own Chromium ...", flush=True)
            apt.succeeds([*playwright, "chromium"])
        return
    # Ubuntu's package `chromium` is a stub. If no Chromium starts, install Playwright's.
    fallback = [*playwright, "--with-deps", "chromium"]
    lines = [shlex.join(command) for command in planned]
    if "chromium" in programs:
        lines.append(f"{shlex.join(fallback)}  # only if no Chromium starts after that")
    if not apt.permitted(names, lines):
        return
    print(f"Installing {names} (about half a minute) ...", flush=True)
    for command in planned:
        apt.succeeds(command)  # if `update` fails, older package lists may suffice
    if "chromium" in programs and not any(map(_starts, _chromiums())):
        apt.succeeds(fallback)


def main(arguments: list[str] | None = None) -> int:
    """Print the paths of programs, and offer to install missing ones. Return 1 if one is missing under CI, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.programs", description=__doc__)
    parser.add_argument("programs", nargs="+", choices=list(FINDERS), metavar="PROGRAM", help="chromium or dot")
    programs: list[str] = parser.parse_args(arguments).programs
    _, problems = _look_for(programs)
    # CHROMIUM names the one to use, so none is installed.
    missing = [program for program in problems if program != "chromium" or not os.environ.get("CHROMIUM")]
    if missing:
        install(missing)
    paths, problems = _look_for(programs)
    for program, path in paths.items():
        print(f"Using {program}: {path}")
    for problem in problems.values():
        print(problem, file=sys.stderr)
    return 1 if problems and os.environ.get("CI") else 0


def _look_for(programs: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return program -> path of those found, and program -> message for the others."""
    paths, problems = {}, {}
    for program in programs:
        try:
            paths[program] = FINDERS[program]()
        except MissingProgramError as error:
            problems[program] = str(error)
    return paths, problems


def _chromiums() -> Iterator[str]:
    yield from (path for name in CHROMIUM_NAMES if (path := shutil.which(name)))
    from playwright.sync_api import sync_playwright  # late: not needed if a browser on PATH starts

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if Path(path).exists():
        yield path


def _starts(path: str) -> bool:
    # On some systems `chromium-browser` is a script that only prints how to get the browser.
    return apt.succeeds([path, "--version"], quiet=True, timeout=60)


if __name__ == "__main__":
    sys.exit(main())
