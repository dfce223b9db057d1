"""Launch a training: check it first, run Ray in a second thread, handle signals and progress in the main thread."""

import math
import platform
import secrets
import shlex
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.fs
import torch
from tqdm import tqdm

from trainer import data
from trainer.cluster import Resources, connect, in_job
from trainer.config import TrainConfig, Upkeep
from trainer.draws import load_images
from trainer.lease import Lease, LeaseLostError, fenced, take_lease
from trainer.ray_worker import Settings, train_on_worker
from trainer.recipes import RECIPES
from trainer.run_store import (
    GENERATOR_FILE,
    Checkpoint,
    EpochSummary,
    Progress,
    Run,
    RunRecord,
    RunStoreError,
    open_store,
)
from trainer.train_loop import plan

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray's own record of checkpoints. Manifests replace it, and Ray does not start if it is empty or names a missing
folder."""
START_MINUTES = 30
"""Minutes to wait for a cluster to add nodes. Ray counts each minute of waiting as a failure of its controller."""
WORKER_RESTARTS = 3
"""How often Ray restarts the workers after a worker has died."""
FIT_TRIES = 3
"""How often a training is started if Ray's controller dies."""
POLL_SECONDS = 0.5
"""Seconds between two reads of the progress."""


def launch(
    config: TrainConfig,
    upkeep: Upkeep,
    workers: int | None,
    runs: str,
    name: str,
    extend: bool,
    cpu_minutes: float = math.inf,
) -> int:
    """Start or resume a run, and train until it ends or has used `cpu_minutes`; return the process's exit status.

    0: finished, or the processor time is used up. 1: failed. 130 or 143: stopped by a signal, after a checkpoint.
    Raises `ValueError` for invalid settings, before anything is written.
    """
    run = open_store(runs).run(name)
    check_job(config, run, runs)
    dataset = load_images(config)
    _, total_steps = plan(config, len(dataset.images))
    if run.exists():
        check_same_run(config, dataset, run, extend)
        if reason := why_complete(run.latest_checkpoint(), name, total_steps, cpu_minutes):
            print(reason)
            return 0
    launch_id = secrets.token_hex(8)
    lease = take_lease(run, launch_id, lambda line: print(line, flush=True))
    try:
        return launch_leased(config, upkeep, workers, dataset, fenced(run, lease.token), extend, cpu_minutes, lease)
    finally:
        created = True
        with suppress(RunStoreError):  # if the storage does not answer, nothing is removed
            created = run.exists()
        lease.release(forget=not created)


def launch_leased(
    config: TrainConfig,
    upkeep: Upkeep,
    workers: int | None,
    dataset: data.Dataset,
    run: Run,
    extend: bool,
    cpu_minutes: float,
    lease: Lease,
) -> int:
    """Start or resume a run under its lease; return the process's exit status."""
    name = run.name
    steps_per_epoch, total_steps = plan(config, len(dataset.images))
    is_new = not run.exists()
    if not is_new:
        check_same_run(config, dataset, run, extend)  # again: another launch may have written to it meanwhile
    checkpoint = run.latest_checkpoint()
    if reason := why_complete(checkpoint, name, total_steps, cpu_minutes):
        print(reason)
        return 0
    resources = connect(config, workers)
    if is_new:
        run.create(record_of(config, upkeep, dataset, steps_per_epoch, total_steps, resources))
        print(f"New run {name}: {total_steps} steps in {config.epochs} epochs.")
    else:
        if extend:
            run.extend(config.to_dict(), total_steps)
        where = f"step {checkpoint.step} of {total_steps}" if checkpoint else "the start: it has no checkpoint yet"
        print(f"Resuming run {name} from {where}.")
    kind = "GPU" if resources.gpu else f"{resources.cpus_per_worker} CPU"
    print(f"{resources.workers} worker(s) with {kind} each; the run is in {run.store.root}/{name}.", flush=True)
    first_step = checkpoint.step if checkpoint else 0
    return Training(config, upkeep, run, resources, first_step, total_steps, cpu_minutes, lease).wait()


def check_job(config: TrainConfig, run: Run, runs: str) -> None:
    """Raise `ValueError` if this is a Ray job whose runs would be lost or that lacks the dataset."""
    if not in_job():
        return
    if run.storage.is_local and not (Path(runs).is_absolute() or ":" in runs):
        raise ValueError(f"--runs must be an absolute path or a URI in a job, whose folder is temporary: got {runs!r}")
    if not (data.ROOT / config.dataset).is_dir():
        raise ValueError(
            f"--dataset: {config.dataset} is not in this job; it must be in the repository, where .gitignore does not "
            "name it, or at the same absolute path on all nodes (docs/cluster.md)"
        )


def check_same_run(config: TrainConfig, dataset: data.Dataset, run: Run, extend: bool) -> None:
    """Raise `ValueError` unless a run has this config and data. With `extend`, it may have fewer epochs."""
    recorded = run.read_run()
    try:
        existing = TrainConfig.from_dict(recorded.config)
    except ValueError as error:
        raise ValueError(f"{run.path}/run.json: not a run of this version ({error}); choose another --name") from error
    differences = existing.differences(config)
    if extend and config.epochs >= existing.epochs:
        differences = [line for line in differences if not line.startswith("epochs:")]
    if differences:
        hint = "; --extend lengthens it" if differences[0].startswith("epochs:") else ""
        raise ValueError(
            f"run {run.name} exists with another config ({'; '.join(differences)}): choose another --name{hint}"
        )
    if recorded.data != dataset.sha256:
        raise ValueError(f"run {run.name} was trained on other data: choose another --name, or restore its dataset")


def why_complete(checkpoint: Checkpoint | None, name: str, total_steps: int, cpu_minutes: float) -> str:
    """Return why training is complete after a checkpoint; an empty string if it is not."""
    if checkpoint is None:
        return ""
    if checkpoint.step >= total_steps:
        return f"Run {name} is finished ({checkpoint.step} steps). --extend --epochs N lengthens it."
    if checkpoint.manifest.cpu_seconds >= 60 * cpu_minutes:
        return f"Run {name} has used its {cpu_minutes:g} CPU-minutes, at step {checkpoint.step} of {total_steps}."
    return ""


def record_of(
    config: TrainConfig,
    upkeep: Upkeep,
    dataset: data.Dataset,
    steps_per_epoch: int,
    total_steps: int,
    resources: Resources,
) -> RunRecord:
    """Return the record of a new run."""
    recipe = RECIPES[config.recipe]
    return RunRecord(
        recipe=config.recipe,
        about={"summary": recipe.summary, "source": recipe.source, "notes": " ".join(recipe.notes.split())},
        config=config.to_dict(),
        upkeep=asdict(upkeep),
        data=dataset.sha256,
        class_names=tuple(dataset.class_names),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        resources=asdict(resources),
    )


class Training:
    """A running training. Ray runs in a second thread; the main thread shows progress and handles signals."""

    def __init__(
        self,
        config: TrainConfig,
        upkeep: Upkeep,
        run: Run,
        resources: Resources,
        step: int,
        total_steps: int,
        cpu_minutes: float,
        lease: Lease,
    ) -> None:
        self.lease = lease
        self.config, self.upkeep, self.run, self.resources = config, upkeep, run, resources
        self.total_steps, self.cpu_minutes = total_steps, cpu_minutes
        self.launch_id = lease.record.launch_id
        self.starting = Progress(
            launch_id=self.launch_id,
            step=step,
            total_steps=total_steps,
            epochs=config.epochs,
            nimg=step * config.batch_size,
            world_size=resources.workers,
        )
        self.signals: list[int] = []
        self.error: Exception | None = None

    def wait(self) -> int:
        """Run the training and show its progress; return the exit status."""
        import ray

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        thread = threading.Thread(target=self._fit, name="fit", daemon=True)
        thread.start()
        with tqdm(total=self.total_steps, unit="step", desc="starting", disable=not sys.stderr.isatty()) as bar:
            shown = max(self.run.epochs(), default=-1)
            asked = False
            while thread.is_alive() and len(self.signals) < 2 and not self.lease.lost_to():
                thread.join(POLL_SECONDS)
                if self.signals and not asked:
                    asked = self._ask_to_stop(bar)
                shown = self._show(bar, shown)
        aborted = thread.is_alive()
        ray.shutdown()
        return self._outcome(aborted)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def _ask_to_stop(self, bar: "tqdm[Any]") -> bool:
        bar.write("Stopping after a checkpoint at the next step; once more aborts at once.", file=sys.stdout)
        try:
            self.run.request_stop(self.launch_id)
        except (RunStoreError, LeaseLostError) as error:
            bar.write(f"The request to stop could not be stored: {error}", file=sys.stdout)
            return False
        return True

    def _show(self, bar: "tqdm[Any]", shown: int) -> int:
        try:
            progress = self.run.read_progress()
            if progress.launch_id != self.launch_id:
                # Until the workers write progress, this heartbeat reports that the run is starting.
                self.run.write_progress(replace(self.starting, heartbeat=time.time()))
            for epoch in self.run.epochs():
                if epoch > shown:
                    for line in epoch_lines(self.run, epoch, self.config.epochs, self.upkeep):
                        bar.write(line, file=sys.stdout)
                    shown = epoch
        except (RunStoreError, LeaseLostError):
            return shown  # the storage may be slow; the next read may succeed
        sys.stdout.flush()
        if progress.launch_id == self.launch_id:
            bar.set_description(f"{progress.phase} {self.run.name}", refresh=False)
            bar.update(progress.step - bar.n)
            bar.set_postfix_str(f"{progress.images_per_second or 0:.0f} images/s")
        return shown

    def _outcome(self, aborted: bool) -> int:
        progress = self.run.read_progress()
        again = shlex.join([Path(sys.executable).name, "-m", "trainer", *sys.argv[1:]])
        if holder := self.lease.lost_to():
            print(
                f"Run {self.run.name} has passed to {holder}; this launch has written nothing since.", file=sys.stderr
            )
            return 1
        if aborted:
            print(f"Aborted. The same command resumes from the last checkpoint: {again}")
        elif self.error is not None:
            message = str(self.error).strip().splitlines()[-1:]
            with suppress(RunStoreError, LeaseLostError):  # the workers wrote that they restart
                ended = replace(progress, phase="failed", message="".join(message), heartbeat=time.time())
                self.run.write_progress(ended)
            print(f"Training failed: {self.error}", file=sys.stderr)
            print(f"The same command resumes from the last checkpoint: {again}", file=sys.stderr)
        elif progress.phase == "failed":
            print(f"Training failed: {progress.message}", file=sys.stderr)
        elif progress.phase == "stopped" and not self.signals:
            print(f"Run {self.run.name} has used its {self.cpu_minutes:g} CPU-minutes, at step {progress.step}.")
            return 0
        elif progress.phase == "stopped":
            print(f"Stopped at step {progress.step} of {self.total_steps}. The same command resumes: {again}")
        else:
            checkpoint = self.run.latest_checkpoint(verify=False)
            generator = f"{self.run.path}/{checkpoint.name}/{GENERATOR_FILE}" if checkpoint else ""
            print(f"Finished run {self.run.name}. Generator file: {generator}")
            return 0
        return 128 + self.signals[0] if self.signals else 1

    def _fit(self) -> None:
        from ray.exceptions import RayActorError

        for attempt in range(FIT_TRIES):
            try:
                set_snapshot_aside(self.run)
                self._trainer().fit()
            except RayActorError as error:
                if self.signals or attempt == FIT_TRIES - 1:
                    self.error = error
                    return
                print("Ray's controller died; starting again from the last checkpoint.", flush=True)
            except Exception as error:  # the main thread reports it
                self.error = error
                return
            else:
                return

    def _trainer(self) -> "TorchTrainer":
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        # Type checkers find older classes under these names.
        failures = FailureConfig(  # type: ignore[call-arg]
            max_failures=WORKER_RESTARTS, controller_failure_limit=START_MINUTES
        )
        resources = {"CPU": self.resources.cpus_per_worker, **({"GPU": 1} if self.resources.gpu else {})}
        settings = Settings(
            config=self.config,
            upkeep=self.upkeep,
            run=self.run,
            launch_id=self.launch_id,
            threads=self.resources.cpus_per_worker,
            cpu_minutes=self.cpu_minutes,
        )
        return TorchTrainer(
            train_on_worker,
            train_loop_config={"settings": settings},
            scaling_config=ScalingConfig(
                num_workers=self.resources.workers, use_gpu=self.resources.gpu, resources_per_worker=resources
            ),
            torch_config=TorchConfig(backend="nccl" if self.resources.gpu else "gloo", timeout_s=120),
            run_config=RunConfig(  # type: ignore[call-arg]
                name=self.run.name,
                storage_path=self.run.store.root,
                storage_filesystem=self.run.storage.fs,
                failure_config=failures,
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )


def set_snapshot_aside(run: Run) -> None:
    """Rename Ray's own record of checkpoints, which can prevent Ray from starting; see `SNAPSHOT`."""
    path = f"{run.path}/{SNAPSHOT}"
    if run.storage.fs.get_file_info(path).type == pyarrow.fs.FileType.File:
        run.storage.fs.move(path, f"{path}.previous")


def epoch_lines(run: Run, epoch: int, epochs: int, upkeep: Upkeep) -> list[str]:
    """Return the lines that the launcher prints for a complete epoch; none for epoch 0, which is before training."""
    if epoch == 0:
        return []
    summary = run.read_epoch_metrics(epoch)
    lines = [_epoch_line(summary, epochs)]
    if upkeep.print_accuracy_every and epoch % upkeep.print_accuracy_every == 0:
        lines.append(_accuracy_line(summary))
    return lines


def _epoch_line(summary: EpochSummary, epochs: int) -> str:
    line = f"epoch {summary.epoch}/{epochs}  step {summary.step}"
    line += f"  d_loss {summary.d_loss:.3f} g_loss {summary.g_loss:.3f}"
    line += f" d_acc_real {summary.d_acc_real:.3f} d_acc_fake {summary.d_acc_fake:.3f}"
    line += f"  {summary.images_per_second:.0f} images/s"
    if summary.scores and summary.floor:
        line += f"  FID {summary.scores['fid']:.2f} (real {summary.floor['fid']:.2f})"
        accuracy = summary.scores.get("label_accuracy")
        line += "" if accuracy is None else f" read as asked {accuracy:.1%}"
    return line


def _accuracy_line(summary: EpochSummary) -> str:
    real, fake = summary.d_acc_real, summary.d_acc_fake
    return f"epoch {summary.epoch}: the discriminator's accuracy is {real:.0%} on real and {fake:.0%} on fake samples"
