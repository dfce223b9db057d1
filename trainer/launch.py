"""Launch a training: check it, take the run's lease, find where it goes on, and let `trainer.supervise` train it."""

import importlib.metadata
import math
import platform
import secrets
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from trainer import data
from trainer.cluster import Resources, WorkerRange, address_of_cluster, in_job
from trainer.config import TrainConfig, Upkeep
from trainer.draws import load_images
from trainer.lease import fenced, take_lease
from trainer.order import Order
from trainer.processes import adopt_orphans
from trainer.recipes import RECIPES
from trainer.run_store import Checkpoint, Run, RunRecord, RunStoreError, open_store
from trainer.state import CURVE, check_compiler
from trainer.supervise import Driver, Ending, Training
from trainer.train_loop import plan


def launch(
    config: TrainConfig,
    upkeep: Upkeep,
    workers: WorkerRange | None,
    runs: str,
    name: str,
    extend: bool,
    cpu_minutes: float = math.inf,
    driver: Driver | None = None,
) -> int:
    """Start or resume a run, and train until it ends or has used `cpu_minutes`; return the process's exit status.

    `driver` is one that starts already, which saves time.

    0: finished, or the processor time is used up. 1: failed. 130 or 143: stopped by a signal, after a checkpoint.
    Raises `ValueError` for invalid settings, before anything is written.
    """
    run = open_store(runs).run(name)
    check_job(config, run, runs)
    if not address_of_cluster() and upkeep.compile:
        check_compiler()  # the workers are on this machine
    adopt_orphans()
    with driver or Driver() as driver:
        dataset = load_images(config)
        _, total_steps = plan(config, len(dataset.images))
        if run.exists():
            check_same_run(config, dataset, run, extend)
            if reason := why_complete(run.latest_checkpoint(), name, total_steps, cpu_minutes):
                print(reason)
                return 0
        launch_id = secrets.token_hex(8)
        lease = take_lease(run, launch_id, lambda line: print(line, flush=True))
        order = Order(
            config=config.to_dict(),
            upkeep=asdict(upkeep),
            runs=runs,
            name=name,
            launch_id=launch_id,
            token=lease.token,
            workers=workers,
            max_workers=config.max_workers,
            cpu_minutes=cpu_minutes,
        )
        training = Training(fenced(run, lease.token), config, upkeep, order, lease, driver)
        try:
            return launch_leased(training, dataset, extend)
        finally:
            driver.kill()  # before the lease is given back
            created = True
            with suppress(RunStoreError):  # if the storage does not answer, nothing is removed
                created = run.exists()
            lease.release(forget=not created)


def launch_leased(training: Training, dataset: data.Dataset, extend: bool) -> int:
    """Start or resume a run under its lease; return the process's exit status."""
    run, order = training.run, training.order
    config, name = training.config, order.name
    steps_per_epoch, total_steps = plan(config, len(dataset.images))
    is_new = not run.exists()
    if not is_new:
        check_same_run(config, dataset, run, extend)  # again: another launch may have written to it meanwhile
    checkpoint, where = resume_point(run, total_steps)
    if reason := why_complete(checkpoint, name, total_steps, order.cpu_minutes):
        print(reason)
        return 0
    resources = training.connect()
    if isinstance(resources, Ending):
        print(f"{resources.message} The training had not begun; the same command starts it.")
        return resources.status
    if is_new:
        run.create(record_of(config, training.upkeep, dataset, steps_per_epoch, total_steps, resources))
        print(f"New run {name}: {total_steps} steps in {config.epochs} epochs.")
    else:
        for epoch in run.mend_curves([*CURVE, "images_per_second"]):
            print(f"The curve of epoch {epoch} was damaged; its values are unknown now.")
        if extend:
            run.extend(config.to_dict(), total_steps)
        print(f"Resuming run {name} from {where}.")
    kind = "GPU" if resources.gpu else f"{resources.cpus_per_worker} CPU"
    count = f"{resources.min_workers} to {resources.workers}" if resources.min_workers else f"{resources.workers}"
    print(f"{count} worker(s) with {kind} each; the run is in {run.store.root}/{name}.", flush=True)
    return training.train(checkpoint.step if checkpoint else 0, total_steps, resources.workers)


def resume_point(run: Run, total_steps: int) -> tuple[Checkpoint | None, str]:
    """Return the checkpoint from which a run goes on, None for the start, and where that is, in words."""
    listed = run.checkpoints()
    checkpoint = run.latest_checkpoint() if listed else None
    damaged = [each for each in listed if checkpoint is None or each.step > checkpoint.step]
    steps = ", ".join(str(each.step) for each in damaged)
    if checkpoint is None:
        lost = f"none of its {len(listed)} checkpoints is intact (steps {steps}); they are kept as set-aside-*"
        return None, f"the start: {lost if listed else 'it has no checkpoint yet'}"
    where = f"step {checkpoint.step} of {total_steps}"
    return checkpoint, f"{where}, because the checkpoint of step {steps} is damaged" if damaged else where


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
        versions={
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
            "numpy": np.__version__,
        },
        resources=asdict(resources),
    )
