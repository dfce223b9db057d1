"""The recorder writes a run's progress, curves and epochs in the background, and checks for a request to stop.

Slow or failing storage never stalls or ends a training: failed writes are repeated, in order. A lost lease ends it.
"""

import math
import queue
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from trainer.lease import LeaseLostError
from trainer.run_store import Curve, DamagedError, EpochSummary, Progress, Run, RunStoreError, StopRequest

INTERVAL = 1.0
"""Seconds between two accesses to the store."""
PATIENCE = 10.0
"""Maximum seconds that the end of an epoch or of the run waits for failing storage."""


class Recorder:
    """The writing thread of rank 0. A context manager: on exit it writes what is still pending.

    The training sets `progress` to a new value, for example `replace(recorder.progress, step=7)`; the thread writes it.
    `keep_generators` is the field of `Upkeep`.
    """

    def __init__(self, run: Run, launch_id: str, keep_generators: int = 0) -> None:
        self.stop_request: StopRequest | None = None
        self.lease_lost: LeaseLostError | None = None
        self.progress = Progress(launch_id=launch_id)
        self._run, self._launch_id, self._keep_generators = run, launch_id, keep_generators
        self._curve: tuple[int, Curve] | None = None
        self._curve_time = 0.0
        self._epochs: deque[tuple[EpochSummary, bytes, Curve | None, bytes]] = deque()
        self._fids: dict[int, float] = {}
        self._flushes: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # the launcher starts the workers again, or reports that the training failed
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            self.progress = replace(self.progress, phase="restarting", message=message)
        self.flush()
        self._closing = True
        self._flushes.put(threading.Event())  # wakes the thread
        self._thread.join(PATIENCE)

    def wants_curve(self) -> bool:
        """Return whether it is time for a new running curve."""
        return time.monotonic() - self._curve_time > 2 * INTERVAL

    def running_curve(self, epoch: int, curve: Curve) -> None:
        """Set the curve of the current epoch."""
        self._curve, self._curve_time = (epoch, curve), time.monotonic()

    def epoch(self, summary: EpochSummary, png: bytes, curve: Curve | None, generator: bytes) -> None:
        """Record a complete epoch: its summary, sample grid, curve (None for epoch 0) and generator file."""
        self._curve = None
        self._epochs.append((summary, png, curve, generator))

    def flush(self) -> None:
        """Wait until everything recorded is written, at most `PATIENCE` seconds."""
        written = threading.Event()
        self._flushes.put(written)
        deadline = time.monotonic() + PATIENCE
        while self._thread.is_alive() and time.monotonic() < deadline and not written.wait(0.1):
            pass

    def _work(self) -> None:
        flushes: list[threading.Event] = []
        is_failing = False
        while not self._closing:
            with suppress(queue.Empty):
                flushes.append(self._flushes.get(timeout=INTERVAL))
            try:
                self._write()
                self.stop_request = self.stop_request or self._run.stop_request(self._launch_id)
            except RunStoreError as error:
                if not is_failing:
                    print(f"recorder: {error}; will try again", flush=True)
                is_failing = True
            except LeaseLostError as error:
                self.lease_lost = error
                return
            else:
                is_failing = False
                for written in flushes:
                    written.set()
                flushes.clear()

    def _write(self) -> None:
        while self._epochs:
            summary, png, curve, generator = self._epochs[0]
            self._run.write_samples(summary.epoch, png)
            if curve is not None:
                self._run.write_losses(summary.epoch, curve)
            sha256 = self._run.write_generator(summary.epoch, generator)
            self._run.write_epoch_metrics(replace(summary, generator_sha256=sha256))
            if self._keep_generators:
                self._run.prune_generators(self._keep_generators, self._best_epoch())
            self._epochs.popleft()
        if running := self._curve:
            self._run.write_losses(*running)
            if self._curve is running:
                self._curve = None
        self._run.write_progress(replace(self.progress, heartbeat=time.time()))

    def _best_epoch(self) -> int | None:
        """Return the epoch with the lowest FID of the run; None if none was scored."""
        for epoch in self._run.epochs():
            if epoch not in self._fids:
                fid = None
                with suppress(DamagedError):  # one bad summary must not stop the recorder
                    fid = (self._run.read_epoch_metrics(epoch).scores or {}).get("fid")
                self._fids[epoch] = math.inf if fid is None else fid
        best = min(self._fids, key=self._fids.__getitem__)
        return None if self._fids[best] == math.inf else best
