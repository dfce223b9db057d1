"""Install what tests need by apt-get, where that is allowed."""

import os
import shutil
import subprocess
import sys


def install(what: str, *packages: str) -> bool:
    """Try to install packages as root, and say so; False where that is not allowed or fails."""
    root = root_prefix()
    if root is None or not shutil.which("apt-get"):
        return False
    print(f"Installing {what} for the tests by apt-get (about half a minute) ...", flush=True)
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    succeeds([*apt, "update"])  # where it fails, an older list may still do
    return succeeds([*apt, "install", "-y", "--no-install-recommends", *packages])


def root_prefix() -> list[str] | None:
    """What goes before a command to run it as root without a password; None where that is impossible."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and succeeds(["sudo", "-n", "true"], quiet=True):
        return ["sudo", "-n"]
    return None


def succeeds(command: list[str], quiet: bool = False, timeout: int = 600) -> bool:
    """Run a command that nobody answers and whose output nobody reads; whether it ended well in so many seconds."""
    nowhere = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, stdin=nowhere, stdout=nowhere, stderr=nowhere if quiet else None, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return False
    return done.returncode == 0
