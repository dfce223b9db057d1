"""Install system packages by apt-get as root, where CI, `YES=1` or the person at the terminal permits it."""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Literal

ANSWER_SECONDS = 60
"""How long a question waits for an answer, so that an unattended terminal does not block a build."""


def permission(environment: Mapping[str, str], terminal: bool) -> Literal["given", "ask", "withheld"]:
    """Return whether commands may run as root: `given` under CI or with YES=1, `ask` at a terminal, else `withheld`."""
    if environment.get("CI") or environment.get("YES") == "1":
        return "given"
    return "ask" if terminal else "withheld"


def commands(packages: Sequence[str]) -> list[list[str]] | None:
    """Return the commands that install packages; None without apt-get, or if running as root needs a password."""
    root = _root_prefix()
    if root is None or not shutil.which("apt-get"):
        return None
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    return [[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *packages]]


def permitted(missing: str, planned: Sequence[str]) -> bool:
    """Print the commands that would install what is missing, ask if necessary, and return whether they may run."""
    said = permission(os.environ, sys.stdin.isatty() and sys.stderr.isatty())
    print(f"Missing: {missing}. To be installed as root, by:", *planned, sep="\n  ", file=sys.stderr)
    if said == "ask":
        print(
            f"Run them now? [y/N] (no answer within {ANSWER_SECONDS} s means no) ", end="", file=sys.stderr, flush=True
        )
        answered, _, _ = select.select([sys.stdin], [], [], ANSWER_SECONDS)
        said = "given" if answered and sys.stdin.readline().strip().lower() in ("y", "yes") else "withheld"
    if said == "withheld":
        print("Nothing was installed. Run these commands yourself, or `make setup YES=1`.", file=sys.stderr)
    return said == "given"


def succeeds(command: Sequence[str], quiet: bool = False, timeout: int = 600) -> bool:
    """Run a command without input, discard its output, and return whether it exits with 0 within `timeout` seconds."""
    nowhere = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, stdin=nowhere, stdout=nowhere, stderr=nowhere if quiet else None, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return False
    return done.returncode == 0


def _root_prefix() -> list[str] | None:
    """Return the prefix that runs a command as root without a password; None if there is none."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and succeeds(["sudo", "-n", "true"], quiet=True):
        return ["sudo", "-n"]
    return None
