"""The checkpoint writer stores checkpoints in the background, so that training goes on meanwhile."""

import queue
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from trainer.config import Upkeep
from trainer.endings import StorageFailedError
from trainer.run_store import Manifest, Run, RunStoreError

PATIENCE = 120.0
"""Seconds for which a failed write is repeated, before the training ends. It trains on meanwhile."""
STORE_SECONDS = 8.0
"""Seconds for which `store` waits for the checkpoint before. The other workers wait meanwhile, and must not give up."""
MAX_PAUSE = 8.0
"""Maximum seconds between two tries. The first pause is 1 s, and each further one is twice as long."""


class CheckpointWriter:
    """The thread of rank 0 that stores checkpoints. A context manager: on exit it waits for the last one.

    At most one checkpoint waits while another is stored; a newer one may take its place. If the storage fails for
    `PATIENCE` seconds, `store` and `flush` raise `StorageFailedError`. If the run's lease is lost, they raise
    `LeaseLostError`.
    """

    def __init__(self, run: Run, upkeep: Upkeep) -> None:
        self._run, self._upkeep = run, upkeep
        self._queue: queue.Queue[tuple[Manifest, dict[str, bytes]] | None] = queue.Queue(maxsize=1)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        else:
            self._queue.join()  # what was reported before the error still counts
        self._queue.put(None)
        self._thread.join()

    def store(self, manifest: Manifest, files: dict[str, bytes]) -> None:
        """Store a checkpoint in the background.

        While an earlier one waits for the storage, this waits for `STORE_SECONDS` and then replaces it.
        """
        self._raise_error()
        try:
            self._queue.put((manifest, files), timeout=STORE_SECONDS)
        except queue.Full:
            with suppress(queue.Empty):  # the storage has taken it at this moment
                self._queue.get_nowait()
                self._queue.task_done()
            self._queue.put((manifest, files))

    def flush(self) -> None:
        """Wait until all checkpoints are stored."""
        self._queue.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error:
            raise self._error

    def _work(self) -> None:
        while job := self._queue.get():
            try:
                if not self._error:
                    publish(self._run, *job, self._upkeep)
            except Exception as error:  # raised in the training's thread
                self._error = error
            self._queue.task_done()


def publish(run: Run, manifest: Manifest, files: dict[str, bytes], upkeep: Upkeep) -> None:
    """Store a checkpoint and remove old ones; try again for `PATIENCE` seconds if the storage fails.

    Raises `StorageFailedError` after that, and `LeaseLostError` at once.
    """
    deadline, pause = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            run.publish_checkpoint(manifest, files)
            scored = [(each.manifest.fid, each.step) for each in run.checkpoints() if each.manifest.fid is not None]
            best = min(scored)[1] if scored else None
            run.prune_checkpoints(upkeep.keep_checkpoints, best, archive=not upkeep.keep_generators)
            return
        except RunStoreError as error:
            if time.monotonic() + pause > deadline:
                raise StorageFailedError(
                    f"the checkpoint of step {manifest.step} could not be stored for {PATIENCE:.0f} s: {error}"
                ) from error
            print(f"checkpoint of step {manifest.step}: {error}; will try again", flush=True)
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)
