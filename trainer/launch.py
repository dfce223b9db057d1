"""From a config to a training on Ray, here or on a cluster, with its progress shown and its signals heard."""

import logging
import math
import os
import platform
import re
import secrets
import shlex
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.fs
import torch
import torch.distributed as dist
from tqdm import tqdm

from trainer import data
from trainer.config import TrainConfig
from trainer.recorder import Recorder
from trainer.run_store import (
    GENERATOR_FILE,
    EpochSummary,
    Manifest,
    Progress,
    Run,
    RunRecord,
    RunStoreError,
    checkpoint_name,
    open_store,
)
from trainer.train_loop import NotFiniteError, load_images, plan, train

if TYPE_CHECKING:
    from ray.train import Checkpoint
    from ray.train.torch import TorchTrainer

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray's own record of checkpoints, which manifests make superfluous. An empty one, or one that names a missing folder,
is fatal to the next start."""
UPLOAD_TRIES = 5
"""Tries to store a checkpoint, the waits between them doubling from 1 s; then the run stops and keeps what it has."""
START_MINUTES = 30
"""How long a cluster may take to add the nodes that a training asks for: Ray counts each minute as a failure."""
MAX_GPUS = "max_gpus"
"""Resource of the head in ray_cluster.yaml: the GPUs that the cluster can have, most of which it adds on demand."""
FIT_TRIES = 3
"""Starts of a training whose controller dies; workers that die are Ray's to restart."""


@dataclass(frozen=True)
class Resources:
    """What the workers get: chosen from the cluster unless asked for."""

    workers: int
    gpu: bool
    cpus_per_worker: int


def launch(
    config: TrainConfig, workers: int | None, runs: str, name: str, extend: bool, cpu_minutes: float = math.inf
) -> int:
    """Train a run from where it is to its end, or until it has used `cpu_minutes`; returns the process's exit status.

    0 = finished or used up, 1 = failed, 130 or 143 = stopped by a signal after a checkpoint. Raises `ValueError` for
    what the user can mend, before anything is written.
    """
    run = open_store(runs).run(name)
    if in_job() and run.storage.is_local and not (Path(runs).is_absolute() or ":" in runs):
        raise ValueError(f"--runs must be an absolute path or a URI in a job, whose folder is temporary: got {runs!r}")
    if in_job() and not (data.ROOT / config.dataset).is_dir():
        raise ValueError(
            f"--dataset: {config.dataset} is not in this job; it must be in the repository, where .gitignore does not "
            "name it, or at the same absolute path on all nodes (docs/cluster.md)"
        )
    dataset = load_images(config)
    steps_per_epoch, total_steps = plan(config, len(dataset.images))
    is_new = not run.exists()
    if not is_new:
        check_same_run(config, dataset, run, extend)
        if run.is_being_trained():
            raise ValueError(f"run {name} is being trained by another process now: choose another --name")
    checkpoint = run.latest_checkpoint()
    if checkpoint and checkpoint.step >= total_steps:
        print(f"Run {name} is finished ({checkpoint.step} steps). --extend --epochs N lengthens it.")
        return 0
    if checkpoint and checkpoint.manifest.cpu_seconds >= 60 * cpu_minutes:
        print(f"Run {name} has used its {cpu_minutes:g} CPU-minutes, at step {checkpoint.step} of {total_steps}.")
        return 0

    resources = connect(config, workers)
    if is_new:
        record = RunRecord(
            recipe=config.recipe,
            config=config.to_dict(),
            data=dataset.sha256,
            class_names=tuple(dataset.class_names),
            steps_per_epoch=steps_per_epoch,
            total_steps=total_steps,
            versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            resources=asdict(resources),
        )
        run.create(record)
        print(f"New run {name}: {total_steps} steps in {config.epochs} epochs.")
    else:
        if extend:
            run.extend(config.to_dict(), total_steps)
        where = f"step {checkpoint.step} of {total_steps}" if checkpoint else "the start: it has no checkpoint yet"
        print(f"Resuming run {name} from {where}.")
    kind = "GPU" if resources.gpu else f"{resources.cpus_per_worker} CPU"
    print(f"{resources.workers} worker(s) with {kind} each; the run is in {run.store.root}/{name}.", flush=True)
    return Fit(config, run, resources, checkpoint.step if checkpoint else 0, total_steps, cpu_minutes).wait()


def in_job() -> bool:
    """Whether this process was started by `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def check_same_run(config: TrainConfig, dataset: data.Dataset, run: Run, extend: bool) -> None:
    """`ValueError` unless an existing run is this very one, or a shorter one that is to be lengthened."""
    recorded = run.read_run()
    try:
        existing = TrainConfig.from_dict(dict(recorded.config))
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


def connect(config: TrainConfig, workers: int | None) -> Resources:
    """Connect to the cluster at RAY_ADDRESS, or start one on this machine, and see what it has."""
    address = os.environ.get("RAY_ADDRESS")
    if address and address.startswith("http"):
        raise ValueError(
            f"RAY_ADDRESS={address} is a dashboard: submit with `ray job submit --address {address} --working-dir . -- "
            "python -m trainer ...`, or set it to the head's host:6379"
        )
    # Workers wait for each other without spinning, Ray looks for reports often enough not to hold up short epochs, and
    # storage paths mean the same everywhere.
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
    }
    os.environ |= environment
    options: dict[str, Any]
    if address:
        options = {"address": address, "runtime_env": {"env_vars": environment}}
        if not in_job():
            options["runtime_env"] |= {"working_dir": str(ROOT)}  # less what .gitignore and .rayignore name
    else:
        # A cluster of our own: a token of its own, so that nobody else on the machine or network can use it.
        # Its processes inherit this environment: a runtime_env would make Ray start each of them anew.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        options = {"num_cpus": max(os.cpu_count() or 1, workers or 1), "include_dashboard": False}
    print(f"Connecting to Ray at {address} ..." if address else "Starting Ray on this machine ...", flush=True)
    import ray
    from ray.exceptions import AuthenticationError

    try:
        if address and (match := re.fullmatch(r"([^/]+):(\d+)", address)):
            # Ray itself would try for minutes where nobody answers.
            socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=10).close()
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **options)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "; check RAY_ADDRESS and RAY_AUTH_TOKEN" if address else ""
        raise ValueError(
            f"Ray at {address or 'this machine'} cannot be reached: {str(error).splitlines()[0]}{hint}"
        ) from error
    return share(ray.cluster_resources(), workers, config.most_workers, is_ours=not address)


def share(available: Mapping[str, float], workers: int | None, most_workers: int, is_ours: bool) -> Resources:
    """What of a cluster's resources a training takes; on a cluster of our own, all CPUs."""
    # An autoscaled cluster may have no GPU yet: how many it can get, its head says as a resource of ours.
    gpus = max(int(available.get("GPU", 0)), int(available.get(MAX_GPUS, 0)))
    cpus = max(1, int(available.get("CPU", 1)))
    if workers is None:
        workers = min(gpus or min(cpus, 8), most_workers)
    kind = "GPU" if gpus else "CPU"
    if workers > (now := int(available.get(kind, 0))):
        print(f"The cluster has {now} {kind}s now; waiting until it has {workers}.", flush=True)
    return Resources(workers, gpus > 0, max(1, cpus // workers) if is_ours and not gpus else 1)


class Fit:
    """A training under way: Ray in a thread of its own, signals and progress in this one."""

    def __init__(
        self, config: TrainConfig, run: Run, resources: Resources, step: int, total_steps: int, cpu_minutes: float
    ) -> None:
        self.config, self.run, self.resources = config, run, resources
        self.total_steps, self.cpu_minutes = total_steps, cpu_minutes
        self.launch_id = secrets.token_hex(8)
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
        """Train to the end, showing progress; the exit status."""
        import ray

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        thread = threading.Thread(target=self._fit, name="fit", daemon=True)
        thread.start()
        with tqdm(total=self.total_steps, unit="step", desc="starting", disable=not sys.stderr.isatty()) as bar:
            shown = max(self.run.epochs(), default=-1)
            asked = False
            while thread.is_alive() and len(self.signals) < 2:
                thread.join(0.5)
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
        except RunStoreError as error:
            bar.write(f"The request to stop could not be stored: {error}", file=sys.stdout)
            return False
        return True

    def _show(self, bar: "tqdm[Any]", shown: int) -> int:
        try:
            progress = self.run.read_progress()
            if progress.launch_id != self.launch_id:
                # Until the workers are up, the run shows that it is being started, and that somebody is at it.
                self.run.write_progress(replace(self.starting, heartbeat=time.time()))
            epochs = [epoch for epoch in self.run.epochs() if epoch > shown]
            for epoch in epochs:
                summary = self.run.read_epoch_metrics(epoch)
                if epoch:
                    bar.write(_epoch_line(summary, self.config.epochs), file=sys.stdout)
                if epoch and self.config.print_accuracy_every and epoch % self.config.print_accuracy_every == 0:
                    bar.write(_accuracy_line(summary), file=sys.stdout)
                shown = epoch
        except RunStoreError:
            return shown  # storage may be slow; the next look will tell
        sys.stdout.flush()
        if progress.launch_id == self.launch_id:
            bar.set_description(f"{progress.phase} {self.run.name}", refresh=False)
            bar.update(progress.step - bar.n)
            bar.set_postfix_str(f"{progress.images_per_second or 0:.0f} images/s")
        return shown

    def _outcome(self, aborted: bool) -> int:
        progress = self.run.read_progress()
        again = shlex.join([Path(sys.executable).name, "-m", "trainer", *sys.argv[1:]])
        if aborted:
            print(f"Aborted. The same command resumes from the last checkpoint: {again}")
        elif self.error is not None:
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
            except Exception as error:  # every other end is told by the main thread
                self.error = error
                return
            else:
                return

    def _trainer(self) -> "TorchTrainer":
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        # Type checkers see the older classes of these names.
        failures = FailureConfig(  # type: ignore[call-arg]
            max_failures=3, controller_failure_limit=START_MINUTES
        )
        resources = {"CPU": self.resources.cpus_per_worker, **({"GPU": 1} if self.resources.gpu else {})}
        return TorchTrainer(
            train_loop_per_worker,
            train_loop_config={
                "config": self.config.to_dict(),
                "run": self.run,
                "launch_id": self.launch_id,
                "threads": self.resources.cpus_per_worker,
                "cpu_minutes": self.cpu_minutes,
            },
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


def train_loop_per_worker(settings: dict[str, Any]) -> None:
    """What Ray runs on each worker: the training loop, with checkpoints that all ranks report together."""
    import ray.train
    import ray.train.torch

    config, run = TrainConfig.from_dict(settings["config"]), settings["run"]
    device = ray.train.torch.get_device()
    torch.set_num_threads(settings["threads"])
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it

    def report(manifest: Manifest, files: dict[str, bytes] | None) -> None:
        def publish(_: "Checkpoint", name: str) -> "Checkpoint":
            assert files is not None
            publish_patiently(run, manifest, files, config.keep_checkpoints)
            return ray.train.Checkpoint(f"{run.path}/{name}", filesystem=run.storage.fs)

        checkpoint = ray.train.Checkpoint.from_directory(tempfile.mkdtemp()) if files else None
        ray.train.report(
            {"step": manifest.step},
            checkpoint=checkpoint,
            checkpoint_dir_name=checkpoint_name(manifest.step),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=publish if files else None,
        )

    rank_zero = not dist.is_initialized() or dist.get_rank() == 0
    with Recorder(run, settings["launch_id"]) if rank_zero else nullcontext() as recorder:
        try:
            train(config, run, report, recorder, device, settings["cpu_minutes"])
        except NotFiniteError as error:
            # Not raised further: Ray would start again, and come to the same step.
            if recorder:
                recorder.progress = replace(recorder.progress, phase="failed", message=str(error))


def publish_patiently(run: Run, manifest: Manifest, files: dict[str, bytes], keep: int) -> None:
    """Publish a checkpoint and retire old ones; storage that fails is tried again for about half a minute."""
    for attempt in range(UPLOAD_TRIES):
        try:
            run.publish_checkpoint(manifest, files)
            scored = [(each.manifest.fid, each.step) for each in run.checkpoints() if each.manifest.fid is not None]
            run.prune_checkpoints(keep, min(scored)[1] if scored else None)
        except RunStoreError as error:
            if attempt == UPLOAD_TRIES - 1:
                raise
            print(f"checkpoint of step {manifest.step}: {error}; will try again", flush=True)
            time.sleep(2**attempt)
        else:
            return


def set_snapshot_aside(run: Run) -> None:
    """Move Ray's record of checkpoints out of its way; manifests alone say what there is."""
    path = f"{run.path}/{SNAPSHOT}"
    if run.storage.fs.get_file_info(path).type == pyarrow.fs.FileType.File:
        run.storage.fs.move(path, f"{path}.previous")


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
