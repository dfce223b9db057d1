"""The recorder writes a run's progress, curves and epochs in the background, and listens for a request to stop.

Storage that is slow or fails never stalls or ends a training: what could not be written is tried again, in order.
"""

import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from trainer.run_store import Run, RunStoreError

INTERVAL = 1.0
"""Seconds between two looks at the store."""
PATIENCE = 10.0
"""Seconds for which the end of an epoch or of the run waits for storage that fails."""


class Recorder:
    """Rank 0's thread beside the training; a context manager that at the end writes what is left."""

    def __init__(self, run: Run, launch_id: str) -> None:
        self.stop_requested = False
        self._run, self._launch_id = run, launch_id
        self._progress: dict[str, Any] = {"phase": "starting", "message": "", "launch_id": launch_id}
        self._curve: tuple[int, dict[str, list[Any]]] | None = None
        self._curve_time = 0.0
        self._epochs: deque[tuple[int, bytes, dict[str, list[Any]] | None, dict[str, Any]]] = deque()
        self._complaint = ""
        self._condition, self._closing = threading.Condition(), False
        self._flushes_asked = self._flushes_done = 0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.progress(phase="failed", message=f"{type(error).__name__}: {error}".splitlines()[0])
        self.flush()
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(PATIENCE)

    def progress(self, **fields: Any) -> None:
        """Set fields of progress.json."""
        self._progress = self._progress | fields

    def wants_curve(self) -> bool:
        """Whether the last running curve is old enough for a new one."""
        return time.monotonic() - self._curve_time > 2 * INTERVAL

    def running_curve(self, epoch: int, curve: dict[str, list[Any]]) -> None:
        """Set the curve of the epoch that is under way."""
        self._curve, self._curve_time = (epoch, curve), time.monotonic()

    def epoch(self, epoch: int, png: bytes, curve: dict[str, list[Any]] | None, metrics: dict[str, Any]) -> None:
        """Record a finished epoch: its pictures, its curve, and last its summary."""
        self._curve = None
        self._epochs.append((epoch, png, curve, metrics))

    def flush(self) -> None:
        """Wait until all that was recorded is written, or the storage has failed for long."""
        with self._condition:
            self._flushes_asked += 1
            mine = self._flushes_asked
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._flushes_done >= mine, PATIENCE)

    def _work(self) -> None:
        while not self._closing:
            with self._condition:
                self._condition.wait_for(lambda: self._closing or self._flushes_asked > self._flushes_done, INTERVAL)
                asked = self._flushes_asked
            try:
                self._write()
                self.stop_requested = self.stop_requested or self._run.stop_requested(self._launch_id)
            except RunStoreError as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    print(f"recorder: {error}; will try again", flush=True)
                time.sleep(INTERVAL)
                continue
            with self._condition:
                self._flushes_done, self._complaint = asked, ""
                self._condition.notify_all()

    def _write(self) -> None:
        while self._epochs:
            epoch, png, curve, metrics = self._epochs[0]
            self._run.write_samples(epoch, png)
            if curve is not None:
                self._run.write_losses(epoch, curve)
            self._run.write_epoch_metrics(epoch, metrics)
            self._epochs.popleft()
        if running := self._curve:
            self._run.write_losses(*running)
            if self._curve is running:
                self._curve = None
        self._run.write_progress(self._progress | {"heartbeat": time.time()})
