"""Runs that are trained for a given processor time by the ordinary trainer, and the scores of their checkpoints.

Processor time is that of all workers in the training loop, as a checkpoint's manifest has it: other work on the machine
moves it far less than the clock on the wall. Scoring happens afterwards and is not part of it.
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
"""Options of every run: all checkpoints stay to be scored afterwards, and none is scored in the run's own time."""


def train(recipe: str, run: Run, workers: int, cpu_minutes: float, options: Sequence[str] = ()) -> None:
    """Train a run, or go on with it, until it has used its processor time; its output goes to this terminal.

    Raises `RuntimeError` if the trainer fails.
    """
    command = [sys.executable, "-m", "trainer", recipe, "--name", run.name, "--runs", run.store.root]
    command += ["--workers", str(workers), "--cpu-minutes", str(cpu_minutes), *options]
    # Ray makes its workers yield to everything else, which is not what is measured here.
    environment = {"RAY_worker_niceness": "0"} | os.environ
    if subprocess.run(command, cwd=ROOT, env=environment).returncode:
        raise RuntimeError(f"the training {run.name} did not end well; the same command goes on with it")


def generator_of(checkpoint: Checkpoint) -> LoadedGenerator:
    """The generator of a checkpoint."""
    return read_generator(checkpoint.read(GENERATOR_FILE), f"{checkpoint.run.name}, {checkpoint.name}")


def within(run: Run, cpu_minutes: float) -> list[Checkpoint]:
    """The checkpoints of a run up to the one that used up this time, for it may have gone on since."""
    found: list[Checkpoint] = []
    for checkpoint in run.checkpoints():
        if found and found[-1].manifest.cpu_seconds >= 60 * cpu_minutes:
            break
        found.append(checkpoint)
    return found


def spread(checkpoints: Sequence[Checkpoint], most: int) -> list[Checkpoint]:
    """At most so many checkpoints, about evenly apart in processor time, and always the last one."""
    last = checkpoints[-1].manifest.cpu_seconds
    chosen = {}
    for place in range(1, most + 1):
        near = min(checkpoints, key=lambda checkpoint: abs(checkpoint.manifest.cpu_seconds - last * place / most))
        chosen[near.step] = near
    return list(chosen.values())


def score(checkpoint: Checkpoint) -> dict[str, float]:
    """The scores of 2,000 digits of a checkpoint, with `step`, `nimg` and times."""
    loaded = generator_of(checkpoint)
    scores = EpochJudge(loaded.config, torch.device("cpu")).score(loaded.generator)
    times = {"seconds": checkpoint.manifest.seconds, "cpu_seconds": checkpoint.manifest.cpu_seconds}
    return {"step": checkpoint.step, "nimg": checkpoint.nimg} | times | scores


def evaluation(checkpoint: Checkpoint, count: int) -> Evaluation:
    """What `evaluate` says of so many digits of a checkpoint: from the run store if it is there, and kept there."""
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
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"processor": model, "cpus": os.cpu_count(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
