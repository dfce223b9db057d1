"""Installing Chromium and Graphviz: when to ask, what runs without an answer, and what is never installed."""

import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import apt

ROOT = Path(__file__).resolve().parent.parent

APT_GET = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in *install*) printf '#!/bin/sh\\n' > "$BIN/dot"; chmod +x "$BIN/dot";; esac
"""
"""A script in place of apt-get: it logs its arguments, and installs a `dot` that does nothing."""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without `dot`, with root access and an apt-get that logs its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "env", "chmod"):
        program = shutil.which(name)
        assert program
        (folder / name).symlink_to(program)
    for name, text in {"apt-get": APT_GET, "sudo": '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "BIN": str(folder), "LOG": str(tmp_path / "log")}


def calls(machine: Mapping[str, str]) -> list[str]:
    """Return the calls of apt-get, without options."""
    log = Path(machine["LOG"])
    lines = log.read_text().splitlines() if log.exists() else []
    return [" ".join(word for word in line.split()[3:] if not word.startswith("-")) for line in lines]


def look_for_dot(
    machine: Mapping[str, str], stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools.programs", "dot"]
    return subprocess.run(command, cwd=ROOT, env=machine, stdin=stdin, stderr=stderr, text=True, timeout=30)


@pytest.mark.parametrize("terminal", [True, False])
def test_ci_and_yes_permit_and_only_a_terminal_is_asked(terminal: bool) -> None:
    assert apt.permission({"CI": "true"}, terminal) == "given"
    assert apt.permission({"YES": "1"}, terminal) == "given"
    assert apt.permission({"YES": "0", "CI": ""}, terminal) == apt.permission({}, terminal)
    assert apt.permission({}, terminal) == ("ask" if terminal else "withheld")


@pytest.mark.parametrize("variable", ["CI", "YES"])
def test_where_it_is_permitted_what_is_missing_is_installed_without_a_question(
    machine: dict[str, str], variable: str
) -> None:
    assert look_for_dot(machine | {variable: "1"}).returncode == 0
    assert calls(machine) == ["update", "install fonts-dejavu-core graphviz"]
    assert look_for_dot(machine | {variable: "1"}).returncode == 0
    assert len(calls(machine)) == 2  # the second time it is installed


def test_without_a_person_the_commands_are_printed_and_nothing_is_installed(machine: dict[str, str]) -> None:
    done = look_for_dot(machine)
    assert done.returncode == 0
    assert calls(machine) == []
    assert "install -y --no-install-recommends fonts-dejavu-core graphviz" in done.stderr
    assert "make setup YES=1" in done.stderr


@pytest.mark.parametrize(("answer", "installs"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_a_person_is_asked_once(machine: dict[str, str], answer: bytes, installs: bool) -> None:
    person, terminal = pty.openpty()
    try:
        os.write(person, answer)
        assert look_for_dot(machine, stdin=terminal, stderr=terminal).returncode == 0
        shown = b""
        while select.select([person], [], [], 0)[0]:
            shown += os.read(person, 10_000)
    finally:
        os.close(person)
        os.close(terminal)
    assert shown.count(b"[y/N]") == 1
    assert bool(calls(machine)) == installs


def test_without_apt_get_a_missing_program_fails_under_ci_only(machine: dict[str, str]) -> None:
    (Path(machine["BIN"]) / "apt-get").unlink()
    assert look_for_dot(machine).returncode == 0
    assert look_for_dot(machine | {"CI": "true"}).returncode == 1
