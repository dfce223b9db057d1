"""A training as a child process: started at low priority, ended in stages, with nothing left running."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from trainer.run_store import RunStore

NICENESS = 10
REFUSED = 2
"""Exit code of a trainer that cannot do what it is asked for, such as going on with a run of another config."""
STAGES = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""Signals to end the child with, and how many seconds each has."""
PR_SET_PDEATHSIG = 1


class TrainingChild:
    """One training; its output goes to a file, for the terminal should stay readable."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start it; to be called on the main thread, with whose end the child is ended too, however that comes."""
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._hurry = False
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None

        def prepare() -> None:
            os.nice(NICENESS)
            if libc:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # a Ctrl-C in the terminal is for us to pass on
                preexec_fn=prepare,
            )

    @property
    def pid(self) -> int:
        """Of the child, of its process group and of its session."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def last_lines(self, count: int = 20) -> str:
        """The end of its output."""
        lines = self.log.read_text(errors="replace").replace("\r", "\n").splitlines()
        return "\n".join([line for line in lines if line.strip()][-count:])

    def hurry(self) -> None:
        """Give the child no more time for the stage that `stop` is in; may be called by a signal handler."""
        self._hurry = True

    def stop(self, say: Callable[[str], None]) -> None:
        """End the child and whatever it has started, asking kindly first."""
        if self.exit_code() is None:
            say("Ending the training: it writes a checkpoint first (Ctrl-C again hurries it) ...")
        for number, seconds in STAGES:
            if self.exit_code() is not None:
                break
            with suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(self.pid, number)
                else:
                    self._process.send_signal(number)
            self._wait(seconds)
        self._end_session()

    def _wait(self, seconds: float) -> None:
        self._hurry = False
        deadline = time.monotonic() + seconds
        while self.exit_code() is None and not self._hurry and time.monotonic() < deadline:
            time.sleep(0.05)

    def _end_session(self) -> None:
        """Kill what the child has left behind: its group, and on Linux all of its session."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ValueError):
                after_name = stat.read_text().rpartition(")")[2].split()
                if int(after_name[3]) == self.pid:  # state, parent, group, session
                    os.kill(int(stat.parent.name), signal.SIGKILL)


def training_command(recipe: str, name: str, runs: str) -> list[str]:
    """What `python -m webapp --train` starts."""
    return [sys.executable, "-m", "trainer", recipe, "--workers", "2", "--runs", runs, "--name", name]


def choose_run_name(store: RunStore, recipe: str, resume: bool = True) -> str:
    """The newest run `<recipe>-<n>` if it is unfinished and nobody trains it now, or else a new one.

    Without `resume` always a new one. Looking takes a few seconds if that run has only just lost its trainer. Raises
    `RunStoreError`.
    """
    matches = [re.fullmatch(re.escape(recipe) + r"-([1-9][0-9]{0,6})", run.name) for run in store.list_runs()]
    newest = max((int(match[1]) for match in matches if match), default=0)
    if newest and resume:
        run = store.run(f"{recipe}-{newest}")
        if run.read_progress().phase != "finished" and not run.is_being_trained():
            return run.name
    return f"{recipe}-{newest + 1}"
