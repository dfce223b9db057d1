"""The function that Ray runs on each worker: the training loop, with checkpoints that all workers report together."""

import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from trainer.bookkeeping import NotFiniteError
from trainer.config import TrainConfig, Upkeep
from trainer.recorder import Recorder
from trainer.run_store import Manifest, Run, RunStoreError, checkpoint_name
from trainer.train_loop import Report, train
from trainer.workers import Workers

if TYPE_CHECKING:
    from ray.train import Checkpoint

UPLOAD_TRIES = 5
"""Attempts to store a checkpoint before the run fails. Pauses between them start at 1 s and double: 15 s in total."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that the launcher passes to each worker."""

    config: TrainConfig
    upkeep: Upkeep
    run: Run
    launch_id: str
    threads: int
    cpu_minutes: float


def train_on_worker(arguments: dict[str, Settings]) -> None:
    """Train on a worker of Ray; `arguments` is `{"settings": Settings}` from the launcher."""
    import ray.train.torch

    settings = arguments["settings"]
    device = ray.train.torch.get_device()
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it
    report = reporter(settings.run, settings.upkeep)
    is_first = Workers.here().rank == 0
    recorder = Recorder(settings.run, settings.launch_id, settings.upkeep.keep_generators) if is_first else None
    with recorder or nullcontext():
        try:
            train(settings.config, settings.upkeep, settings.run, report, recorder, device, settings.cpu_minutes)
        except NotFiniteError as error:
            # Not raised again: Ray would restart the workers, which would fail at the same step.
            if recorder:
                recorder.progress = replace(recorder.progress, phase="failed", message=str(error))


def reporter(run: Run, upkeep: Upkeep) -> Report:
    """Return the function with which all workers report a checkpoint to Ray; rank 0 stores it in the background."""
    import ray.train

    def report(manifest: Manifest, files: dict[str, bytes] | None) -> None:
        def publish(_: "Checkpoint", name: str) -> "Checkpoint":
            publish_with_retries(run, manifest, files or {}, upkeep)
            return ray.train.Checkpoint(f"{run.path}/{name}", filesystem=run.storage.fs)

        # Ray requires a folder; `publish` does not use it.
        folder = ray.train.Checkpoint.from_directory(tempfile.mkdtemp()) if files else None
        ray.train.report(
            {"step": manifest.step},
            checkpoint=folder,
            checkpoint_dir_name=checkpoint_name(manifest.step),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=publish if files else None,
        )

    return report


def publish_with_retries(run: Run, manifest: Manifest, files: dict[str, bytes], upkeep: Upkeep) -> None:
    """Store a checkpoint and remove old ones; retry up to `UPLOAD_TRIES` times if the storage fails."""
    for attempt in range(UPLOAD_TRIES):
        try:
            run.publish_checkpoint(manifest, files)
            scored = [(each.manifest.fid, each.step) for each in run.checkpoints() if each.manifest.fid is not None]
            best = min(scored)[1] if scored else None
            run.prune_checkpoints(upkeep.keep_checkpoints, best, archive=not upkeep.keep_generators)
        except RunStoreError as error:
            if attempt == UPLOAD_TRIES - 1:
                raise
            print(f"checkpoint of step {manifest.step}: {error}; will try again", flush=True)
            time.sleep(2**attempt)
        else:
            return
