"""A training as a child process: started at low priority, and ended in stages with all its own processes."""

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

import psutil

from trainer.run_store import RunStore

NICENESS = 10
REFUSED = 2
"""Exit code of a trainer that refuses its arguments, for example to resume a run with another config."""
STAGES = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""Signals that end the child, in order, and the seconds to wait after each."""
PR_SET_PDEATHSIG = 1
WORKER = "RayTrainWorker"
"""What the command line of a worker's process has, as Ray sets it."""
CLEAR_LINES = ("trainer: ", "Training failed: ")
"""Beginnings of the lines in which a trainer says why it has ended."""


class TrainingChild:
    """A training in a child process. Its output goes to a file, so that the terminal stays readable."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start the child. On Linux, it ends when the thread ends that calls this."""
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._hurry = self._is_interrupted = False
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
                start_new_session=True,  # a Ctrl-C in the terminal reaches only the app, and `stop` passes it on
                preexec_fn=prepare,
            )

    @property
    def pid(self) -> int:
        """ID of the child, which is also that of its process group and of its session."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code; None while the child runs."""
        return self._process.poll()

    def last_lines(self, count: int = 20) -> str:
        """Return the last lines of the output that are not empty."""
        lines = self.log.read_text(errors="replace").replace("\r", "\n").splitlines()
        return "\n".join([line for line in lines if line.strip()][-count:])

    def reason(self) -> str:
        """Return the line in which the trainer has said why it ended, or else its last line."""
        lines = self.last_lines(1000).splitlines()
        clear = [line for line in lines if line.startswith(CLEAR_LINES)]
        return next(reversed(clear or lines), "")

    def workers(self) -> list[psutil.Process]:
        """Return the processes of Ray's workers in this training."""
        found = []
        with suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.Error):  # it has ended meanwhile
                    if WORKER in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def interrupt(self) -> None:
        """Ask the trainer, once, to stop after a checkpoint. It would end at once if it were asked again."""
        if self.exit_code() is None and not self._is_interrupted:
            self._is_interrupted = True
            self._process.send_signal(signal.SIGINT)

    def hurry(self) -> None:
        """End the current stage of `stop` now; may be called by a signal handler."""
        self._hurry = True

    def stop(self, say: Callable[[str], None]) -> None:
        """End the child and all processes that it has started, with the signals of `STAGES`."""
        if self.exit_code() is None:
            say("Ending the training: it writes a checkpoint first (Ctrl-C again hurries it) ...")
        for number, seconds in STAGES:
            if self.exit_code() is not None:
                break
            with suppress(ProcessLookupError):
                if number == signal.SIGINT:
                    self.interrupt()
                elif number == signal.SIGKILL:
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
        """Kill processes that the child has left: its process group, and on Linux its whole session."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ValueError):
                after_name = stat.read_text().rpartition(")")[2].split()
                if int(after_name[3]) == self.pid:  # state, parent, group, session
                    os.kill(int(stat.parent.name), signal.SIGKILL)


def choose_run_name(store: RunStore, recipe: str, resume: bool = True) -> str:
    """Return the name of the newest run `<recipe>-<n>` if it is unfinished and not being trained, else a new name.

    Without `resume`, return a new name. Takes a few seconds if the run's training was killed just before. Raises
    `RunStoreError`.
    """
    matches = [re.fullmatch(re.escape(recipe) + r"-([1-9][0-9]{0,6})", run.name) for run in store.list_runs()]
    newest = max((int(match[1]) for match in matches if match), default=0)
    if newest and resume:
        run = store.run(f"{recipe}-{newest}")
        if run.read_progress().phase != "finished" and not run.is_being_trained():
            return run.name
    return f"{recipe}-{newest + 1}"
