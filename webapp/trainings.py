"""The trainings that this server starts, for the page Train and for `--train`: one at a time, in child processes."""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.run_store import Run, RunStore, RunStoreError, open_store
from webapp.training_child import TrainingChild

LOOK_SECONDS = 0.1
"""Seconds between two looks at a child."""
FAULT = re.compile(r"^(.+\.) The training goes on from (?:step (\d+)|the .+)\.$", re.MULTILINE)
"""Line in which the trainer says what has happened to its workers, and from which step it goes on."""
TRAIN_AGAIN = re.compile(r"^\d+ worker\(s\) train again\.$", re.MULTILINE)
"""Line in which the trainer says that new workers train."""


@dataclass(frozen=True)
class Recipe:
    """What a visitor needs to know of a recipe."""

    summary: str
    max_workers: int


@functools.cache
def recipes() -> dict[str, Recipe]:
    """Return the recipes by name. It takes a few seconds, once.

    They come from a process of the trainer, because this package imports of the trainer only how runs are stored.
    """
    done = subprocess.run([sys.executable, "-m", "trainer", "recipes", "--json"], capture_output=True, check=True)
    return {name: Recipe(**fields) for name, fields in json.loads(done.stdout).items()}


@dataclass(frozen=True)
class Launch:
    """A training to launch, or to resume."""

    recipe: str
    name: str
    workers: int = 2
    cpu_minutes: int = 0
    """The run ends, after a checkpoint, when its workers have used so much; 0: at the end of the recipe."""
    options: tuple[str, ...] = ()
    """Further words of the command line."""

    def arguments(self, runs: str) -> list[str]:
        """Return the words that follow `python` on the command line."""
        limit = ["--cpu-minutes", str(self.cpu_minutes)] if self.cpu_minutes else []
        words = ["-m", "trainer", self.recipe, *self.options, *limit]
        return [*words, "--workers", str(self.workers), "--runs", runs, "--name", self.name]


@dataclass
class Pull:
    """A worker that was killed, and what came of it. Moments are in seconds since 1970, None until they come."""

    pid: int
    pulled: float
    step: int
    """The last step that the run has reported before it went back to a checkpoint."""
    noticed: float | None = None
    words: str = ""
    """What the trainer said when it noticed."""
    resumed_step: int = 0
    """Step of the checkpoint from which the training goes on."""
    trained: float | None = None
    """When the new workers reported progress."""


class Job(threading.Thread):
    """Trainings in child processes, one after the other. The next one starts when the one before has succeeded.

    A job is a thread because a child ends with the thread that has started it.
    """

    def __init__(self, launches: Sequence[Launch], runs: str, strikes: bool = False) -> None:
        super().__init__(name="training", daemon=True)
        self.launches, self.runs, self.store = tuple(launches), runs, open_store(runs)
        self.strikes = strikes
        """Whether a worker of the last training may be killed."""
        self.pull: Pull | None = None
        self.children: list[TrainingChild] = []
        self.is_stopping = False
        self._first: Future[TrainingChild] = Future()
        self._lock = threading.Lock()

    @property
    def launch(self) -> Launch:
        """The training that runs, or ran last."""
        return self.launches[max(len(self.children), 1) - 1]

    @property
    def child(self) -> TrainingChild:
        """Its child process."""
        return self.children[-1]

    @property
    def has_ended(self) -> bool:
        """Whether no child runs and none will be started."""
        code, is_last = self.child.exit_code(), len(self.children) == len(self.launches)
        return code is not None and (code != 0 or is_last or self.is_stopping)

    def begin(self) -> None:
        """Start the first child. Raises `OSError` or `SubprocessError`."""
        self.start()
        self._first.result()

    def run(self) -> None:
        """Start the children, and wait for their ends."""
        for launch in self.launches:
            try:
                child = self._start_child(launch)
            except (OSError, subprocess.SubprocessError) as error:
                self.is_stopping = True
                if not self.children:  # `begin` waits, and raises it
                    self._first.set_exception(error)
                return
            if child is None:
                return
            while child.exit_code() is None:
                if self.pull and self.pull.trained is None:
                    with suppress(OSError, RunStoreError):  # the next look may succeed
                        self._follow(self.pull)
                time.sleep(LOOK_SECONDS)
            child.stop(lambda text: None)  # ends what it may have left behind
            if child.exit_code():
                return

    def _start_child(self, launch: Launch) -> TrainingChild | None:
        """Start a training; return None if the job is to stop."""
        with self._lock:
            if self.is_stopping:
                return None
            command = [sys.executable, *launch.arguments(self.runs)]
            self.children.append(TrainingChild(command, _log_of(self.store, launch.name)))
        if len(self.children) == 1:
            self._first.set_result(self.child)
        return self.child

    def stop(self) -> None:
        """Ask the training to stop after a checkpoint, and start no other one. Returns at once."""
        with self._lock:
            self.is_stopping = True
        self.child.interrupt()

    def close(self, say: Callable[[str], None]) -> None:
        """End the training and all its processes."""
        with self._lock:
            self.is_stopping = True
        self.child.stop(say)

    def can_be_struck(self) -> bool:
        """Return whether `strike` can kill a worker now: one trains, and none was killed before."""
        if not self.strikes or self.pull or self.is_stopping or len(self.children) < len(self.launches):
            return False
        if self.child.exit_code() is not None:
            return False
        with suppress(RunStoreError):
            progress = self._run().read_progress()
            return progress.phase == "training" and progress.is_live and progress.step > 0
        return False

    def strike(self) -> None:
        """Kill one worker of the last training with SIGKILL. Raises `ValueError` if it has none."""
        with self._lock:
            workers = self.child.workers() if self.can_be_struck() else []
            if not workers:
                raise ValueError("no worker trains now, or one was killed before")
            step = self._run().read_progress().step
            workers[-1].kill()
            self.pull = Pull(workers[-1].pid, time.time(), step)

    def _follow(self, pull: Pull) -> None:
        """Look at what the trainer says after a worker was killed, and at the progress of the run."""
        text = self.child.log.read_text(errors="replace").replace("\r", "\n")
        if pull.noticed is None and (fault := FAULT.search(text)):
            pull.words, pull.resumed_step, pull.noticed = fault[1], int(fault[2] or 0), time.time()
        progress = self._run().read_progress()
        if not TRAIN_AGAIN.search(text):
            pull.step = max(pull.step, progress.step)
        elif progress.phase in ("training", "finished") and (progress.heartbeat or 0) > (pull.noticed or 0):
            pull.trained = time.time()

    def _run(self) -> Run:
        return self.store.run(self.launch.name)


class Trainings:
    """The job of this server, and whether visitors may start one."""

    def __init__(self) -> None:
        self.is_allowed = False
        """Whether visitors may start, stop and strike trainings."""
        self.job: Job | None = None
        """The job that runs, or ran last; None before the first one."""
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def running(self) -> Job | None:
        """The job that runs; None if none does."""
        return None if self.job is None or self.job.has_ended else self.job

    def start(self, launches: Sequence[Launch], runs: str, strikes: bool = False) -> Job:
        """Start a job in a store of runs. Raises `ValueError` if one runs or the store is unusable, or `OSError`."""
        with self._lock:
            if self._is_closed:
                raise ValueError("the server is ending")
            if self.running:
                raise ValueError(f"{self.running.launch.name} is being trained by this server; stop it first")
            job = Job(launches, runs, strikes)
            job.begin()
            self.job = job
            return job

    def hurry(self) -> None:
        """Do not wait any longer in `close`; may be called by a signal handler."""
        if self.job:
            self.job.child.hurry()

    def close(self, say: Callable[[str], None]) -> Path | None:
        """End the training, and start no other; return the file with its output, None if there was no training."""
        with self._lock:
            self._is_closed = True
        if self.job is None:
            return None
        self.job.close(say)
        return self.job.child.log


TRAININGS = Trainings()
"""The trainings of this server."""


def _log_of(store: RunStore, name: str) -> Path:
    """Return the file for the output of a training: beside its run, or a temporary file if the run is not on a disk."""
    if store.storage.is_local:
        return Path(store.root) / f"{name}.log"
    handle, path = tempfile.mkstemp(prefix=f"digitforge-{name}-", suffix=".log")
    os.close(handle)
    return Path(path)
