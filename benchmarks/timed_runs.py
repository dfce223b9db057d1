"""Train runs for a given processor time with the ordinary trainer, and score their checkpoints.

Processor time is the time of all workers in the training loop, as recorded in a checkpoint's manifest. Other work on
the machine affects it far less than wall-clock time. Scoring happens afterwards and is not included.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.digit_reader import SHA256
from models.generator_file import LoadedGenerator, read_generator
from trainer.evaluate import evaluate
from trainer.metrics import EpochJudge, mnist_judge
from trainer.run_store import GENERATOR_FILE, Checkpoint, Evaluation, Run

ROOT = Path(__file__).resolve().parent.parent
KEEP_ALL = ("--keep-checkpoints", "1000", "--metrics-every", "0")
"""Options of every run: keep all checkpoints to score them afterwards, and do not score during training."""


def train(recipe: str, run: Run, workers: int, cpu_minutes: float, options: Sequence[str] = ()) -> None:
    """Start or resume a run and train it until it has used `cpu_minutes`. Its output goes to this terminal.

    Raise `RuntimeError` if the trainer fails.
    """
    command = [sys.executable, "-m", "trainer", recipe, "--name", run.name, "--runs", run.store.root]
    command += ["--workers", str(workers), "--cpu-minutes", str(cpu_minutes), *options]
    # By default Ray lowers the priority of its workers, which would distort the measurement.
    environment = {"RAY_worker_niceness": "0"} | os.environ
    if subprocess.run(command, cwd=ROOT, env=environment).returncode:
        raise RuntimeError(f"the training of {run.name} failed; the same command resumes it")


def generator_of(checkpoint: Checkpoint) -> LoadedGenerator:
    """Load the generator of a checkpoint."""
    return read_generator(checkpoint.read(GENERATOR_FILE), f"{checkpoint.run.name}, {checkpoint.name}")


def within(run: Run, cpu_minutes: float) -> list[Checkpoint]:
    """Return a run's checkpoints up to the first one that has used `cpu_minutes`: the run may have continued since."""
    found: list[Checkpoint] = []
    for checkpoint in run.checkpoints():
        if found and found[-1].manifest.cpu_seconds >= 60 * cpu_minutes:
            break
        found.append(checkpoint)
    return found


def spread(checkpoints: Sequence[Checkpoint], max_count: int) -> list[Checkpoint]:
    """Choose at most `max_count` checkpoints, about evenly spaced in processor time, and always the last one."""
    last = checkpoints[-1].manifest.cpu_seconds
    chosen = {}
    for place in range(1, max_count + 1):
        target = last * place / max_count
        near = min(checkpoints, key=lambda checkpoint: abs(checkpoint.manifest.cpu_seconds - target))
        chosen[near.step] = near
    return list(chosen.values())


def score(checkpoint: Checkpoint) -> dict[str, float]:
    """Return the scores of `EPOCH_COUNT` (2,000) digits of a checkpoint, with its `step`, `nimg` and times."""
    loaded = generator_of(checkpoint)
    scores = EpochJudge(loaded.config, torch.device("cpu"), loaded.table).score(loaded.generator)
    times = {"seconds": checkpoint.manifest.seconds, "cpu_seconds": checkpoint.manifest.cpu_seconds}
    return {"step": checkpoint.step, "nimg": checkpoint.nimg} | times | scores


def evaluation(checkpoint: Checkpoint, count: int) -> Evaluation:
    """Return what `evaluate` finds for `count` digits of a checkpoint. The result is cached in the run store."""
    known = checkpoint.run.read_evaluation(checkpoint.step)
    if known is None or (known.count, known.seed, known.reader_sha256) != (count, 0, SHA256):
        print(f"{checkpoint.run.name}: scoring {count} digits of step {checkpoint.step} ...", flush=True)
        known = Evaluation(
            step=checkpoint.step,
            epoch=checkpoint.epoch,
            nimg=checkpoint.nimg,
            count=count,
            seed=0,
            reader_sha256=SHA256,
            time=time.time(),
            **evaluate(generator_of(checkpoint), mnist_judge(), count, seed=0),
        )
        checkpoint.run.write_evaluation(known)
    return known


def machine() -> dict[str, Any]:
    """Describe the machine, the PyTorch version and the date of a measurement."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"processor": model, "cpus": os.cpu_count(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
