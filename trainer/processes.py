"""The processes that a driver starts, directly or not: adopt them when their parents die, and kill them all."""

import contextlib
import ctypes
import sys

import psutil

PR_SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent dies, so that `kill_descendants` finds them. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(variable: str = "", value: str = "", timeout: float = 5.0) -> None:
    """Kill all processes that this one has started, directly or not, and wait until they have ended.

    With a name and value of an environment variable, only those that have inherited it.
    """
    me = psutil.Process()
    while chosen := [each for each in me.children(recursive=True) if not variable or _has(each, variable, value)]:
        for process in chosen:  # meanwhile one may have started another, so the list is made again
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if psutil.wait_procs(chosen, timeout)[1]:
            return  # one hangs in the kernel, for example in a dead mount


def _has(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return process.environ().get(variable) == value
    except psutil.Error:  # it has ended, or belongs to another user
        return False
