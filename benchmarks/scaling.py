"""`python -m benchmarks.scaling`: measure one process, two, and two under torchrun and under Ray Train, in one run.

Write docs/scaling.json, and the tables in docs/scaling.md (`benchmarks.scaling_model`). Each round runs all variants
one after another, and ratios are taken within a round, so that slow changes of the machine's speed affect all alike.
All variants train the same recipe with one thread per process, and are measured in the same window of steps: after a
warm-up, and before the only checkpoint, whose cost is what the steps after the window take longer.
"""

import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from numpy.typing import NDArray

from benchmarks import scaling_model, timed_runs
from benchmarks.timed_runs import ROOT
from models import sampling
from models.command_line import Parser
from trainer import state, train_loop
from trainer.config import Upkeep
from trainer.draws import Draws, load_images
from trainer.readers import epoch_judge
from trainer.recipes import RECIPES
from trainer.run_store import Curve, Manifest, Progress, Run, open_store
from trainer.workers import Workers

CHILD = Path(__file__).with_name("train_steps.py")
RECIPE = "forge"
WARM_UP = 50
"""Steps before the measured ones."""
AFTER = 20
"""Steps after the measured ones and their checkpoint."""
WATCH_SECONDS = 0.5
"""Seconds between two looks at the processor time of a variant's processes."""
VARIANTS = ("one process", "two independent", "two, spawned", "two, torchrun", "two, Ray Train")
SWEEP = (4, 8, 16, 32, 64, 128)
"""Batch sizes of one process whose step times the model is fitted to."""
SWEEP_STEPS, SWEEP_WARM_UP = 40, 10
SUM_NUMBERS = (1, 1024, 16_384, 131_072, 524_288, 2_097_152)
"""Numbers (float32) of the sums between two workers whose times the model is fitted to."""
DRAW_BATCHES = (64, 1024, 16_384)
"""Sizes of the whole batch that one of many workers draws."""
REPEATS = 10
"""Number of timings of each single action."""


def variants(folder: Path, steps: int) -> dict[str, "Trainings"]:
    """Return the trainings of each of `VARIANTS`. Each run is in its own folder of `folder`."""
    total = str(WARM_UP + steps + AFTER)
    every = ["--checkpoint-every", str(WARM_UP + steps)]
    child = [str(CHILD), RECIPE, total]
    plain, one, other, spawned, torchrun, ray = (
        str(folder / name) for name in ("plain", "one", "other", "spawned", "torchrun", "ray")
    )
    launch = ["-m", "trainer", RECIPE, "--workers", "2", "--runs", ray, "--name", "run", "--epochs", "1"]
    launch += ["--steps-per-epoch", total, "--metrics-every", "0", *every]
    elastic = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    trainings = (
        Trainings([[*child, plain, "0", "1", *every]], [plain]),
        Trainings([[*child, path, "0", "1", *every] for path in (one, other)], [one, other]),
        Trainings([[*child, spawned, str(rank), "2", *every] for rank in (0, 1)], [spawned]),
        Trainings([[*elastic, *child, torchrun, *every]], [torchrun]),
        Trainings([launch], [ray]),
    )
    return dict(zip(VARIANTS, trainings, strict=True))


@dataclass(frozen=True)
class Trainings:
    """Python programs that train together, and the folders of the runs that they write."""

    arguments: list[list[str]]
    folders: list[str]


@dataclass
class Watch:
    """Observations of running processes: their processor time, and the progress of their runs."""

    started: float
    times: list[float] = field(default_factory=list)
    """When the processor time was read, in seconds since the epoch."""
    cpu_seconds: list[float] = field(default_factory=list)
    """Processor time of all processes and their children until then."""
    progress: list[list[Progress]] = field(default_factory=list)
    """For each run, the progress that was read."""


def watch(trainings: Trainings) -> Watch:
    """Run trainings to their end. Raise `RuntimeError` if one fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    # By default Ray lowers the priority of its workers, which would distort the comparison on a machine in use.
    environment |= {"RAY_worker_niceness": "0"}
    runs = [open_store(path).run("run") for path in trainings.folders]
    for path in trainings.folders:
        Path(path).mkdir(exist_ok=True)
    with tempfile.TemporaryFile("w+") as output:
        seen = Watch(time.time(), progress=[[] for _ in runs])
        processes = [
            subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output)
            for arguments in trainings.arguments
        ]
        cpu: dict[psutil.Process, float] = {}
        try:
            while any(process.poll() is None for process in processes):
                if any(process.returncode for process in processes):
                    break
                time.sleep(WATCH_SECONDS)
                _look(processes, runs, cpu, seen)
        finally:
            for process in processes:
                process.terminate()  # a launcher of Ray ends Ray
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                process.kill()
        if any(process.returncode for process in processes):
            output.seek(0)
            raise RuntimeError(f"{shlex.join(trainings.arguments[0])} failed:\n{output.read()}")
    return seen


def _look(
    processes: list[subprocess.Popen[bytes]], runs: list[Run], cpu: dict[psutil.Process, float], seen: Watch
) -> None:
    """Add what can be seen now. `cpu` holds the last processor time of each process, also of those that have ended."""
    for process in processes:
        try:
            family = [root := psutil.Process(process.pid), *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for member in family:
            try:
                times = member.cpu_times()
            except psutil.Error:  # it has just ended
                continue
            cpu[member] = times.user + times.system
    seen.times.append(time.time())
    seen.cpu_seconds.append(sum(cpu.values()))
    for run, progress in zip(runs, seen.progress, strict=True):
        progress.append(run.read_progress())


def measured(trainings: Trainings, steps: int) -> dict[str, Any]:
    """Run trainings, and return their speed, processor time, first step, checkpoint and step times (seconds)."""
    seen = watch(trainings)
    batch_size = 0
    speed, first, pauses, extras, durations = 0.0, [], [], [], []
    for path, progress in zip(trainings.folders, seen.progress, strict=True):
        run = open_store(path).run("run")
        batch_size = run.read_progress().nimg // run.read_progress().step
        lasting = batch_size / np.array(run.read_losses(1)["images_per_second"], dtype=float)
        window = lasting[WARM_UP : WARM_UP + steps]
        speed += batch_size * steps / window.sum()
        ends = step_ends(lasting, progress)
        first.append(ends[0] - seen.started)
        after = lasting[WARM_UP + steps :] - np.median(window)
        pauses.append(after[0])
        extras.append(after.sum())
        durations.append(window.tolist())
        begin, end = ends[WARM_UP - 1], ends[WARM_UP + steps - 1]
    used = np.interp([begin, end], seen.times, seen.cpu_seconds)
    return {
        "images_per_second": speed,
        # Independent trainings have almost the same window: that of the last one is taken for all.
        "cpu_seconds_per_image": (used[1] - used[0]) / (speed * (end - begin)),
        "first_step": statistics.mean(first),
        "cpu_seconds_to_first_step": float(
            np.interp(seen.started + statistics.mean(first), seen.times, seen.cpu_seconds)
        ),
        "checkpoint_pause": statistics.mean(pauses),
        "checkpoint_cost": statistics.mean(extras),
        "step_seconds": durations,
    }


def step_ends(durations: NDArray[np.float64], progress: list[Progress]) -> NDArray[np.float64]:
    """Return when each step ended, in seconds since the epoch, from its duration and the run's progress.

    The progress says at which time the run was at which step; the median over all that was read is taken.
    """
    elapsed = np.cumsum(durations)
    known = [at for at in progress if at.heartbeat and 0 < at.step < len(durations)]
    if not known:
        raise RuntimeError("no progress was seen between the first and the last step: use more --steps")
    return elapsed + statistics.median(at.heartbeat - elapsed[at.step - 1] for at in known)


def sweep() -> list[dict[str, float]]:
    """Return the median step time of one process for each batch size."""
    found = []
    for batch_size in SWEEP:
        with tempfile.TemporaryDirectory() as folder:
            total = str(SWEEP_WARM_UP + SWEEP_STEPS)
            watch(Trainings([[str(CHILD), RECIPE, total, folder, "--batch-size", str(batch_size)]], [folder]))
            speeds = open_store(folder).run("run").read_losses(1)["images_per_second"]
        seconds = batch_size / np.array(speeds[SWEEP_WARM_UP:], dtype=float)
        found.append({"batch": batch_size, "seconds": float(np.median(seconds))})
    return found


def timed(action: Callable[[], object]) -> float:
    """Return the shortest time of an action in seconds: other work on the machine makes the others longer."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def _sum_on_worker(rank: int, folder: str) -> None:
    """Time sums on one of two workers; rank 0 writes the times."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    workers = Workers.here()
    found = []
    for numbers in SUM_NUMBERS:
        tensor = torch.zeros(numbers)
        found.append({"bytes": 4 * numbers, "seconds": timed(partial(workers.sum, tensor))})
    if rank == 0:
        Path(folder, "sums.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def sums() -> list[dict[str, float]]:
    """Return the time of a sum between two workers of this machine, for each number of bytes."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_sum_on_worker, (folder,), nprocs=2)
        found: list[dict[str, float]] = json.loads(Path(folder, "sums.json").read_text())
    return found


def draw_times() -> list[dict[str, float]]:
    """Return the time that one of many workers needs for the draws of a step, for each size of the whole batch.

    It has 8 rows of the batch, so nearly all of the time goes into what it draws for the others.
    """
    config, found = RECIPES[RECIPE].config, []
    dataset = load_images(config)
    for batch_size in DRAW_BATCHES:
        sized = replace(config, batch_size=batch_size)
        draws = Draws(sized, dataset, torch.device("cpu"), Workers(0, batch_size // 8))

        def draw(draws: Draws = draws) -> None:
            real = draws.real(0)
            draws.d_inputs(0, real.c)
            if draws.config.g_fakes == "fresh":
                draws.g_inputs(0, real.c)

        found.append({"batch": batch_size, "seconds": timed(draw)})
    return found


def costs() -> dict[str, float]:
    """Return the seconds that one process with one thread needs for each action beside the steps."""
    taken: list[tuple[Manifest, dict[str, bytes]]] = []
    config = replace(RECIPES[RECIPE].config, epochs=1, steps_per_epoch=250)
    dataset, device = load_images(config), torch.device("cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = open_store(folder).run("run")

        def report(manifest: Manifest, files: dict[str, bytes] | None) -> None:
            taken.append((manifest, files or {}))

        few = replace(config, steps_per_epoch=2)
        train_loop.train(few, Upkeep(metrics_every=0), run, report, None, device)
        [(manifest, files)] = taken
        s = state.new_state(few, 2, device)
        state.load_checkpoint_files(s, files)
        counter = itertools.count(manifest.step)
        curve: Curve = {"step": list(range(250))}
        curve |= {name: [0.5] * 250 for name in (*state.CURVE, "images_per_second")}

        def generator() -> bytes:
            return state.generator_file(s, config, run.name, dataset, 1)

        def optimize() -> None:
            for each, gradients in zip((s.g_optimizer, s.d_optimizer), zeros, strict=True):
                each.update(each.own, gradients, each.own_moments, each.steps, each.lr)
            if config.ema:
                state.update_ema(s, config)

        zeros = [[torch.zeros_like(own) for own in each.own] for each in (s.g_optimizer, s.d_optimizer)]
        found = {
            "optimizers": timed(optimize),
            "weights_digest": timed(lambda: state.weights_digest(s)),
            "checkpoint_files": timed(lambda: state.checkpoint_files(s, generator(), {})),
            "checkpoint_store": timed(lambda: run.publish_checkpoint(replace(manifest, step=next(counter)), files)),
            "progress_write": timed(lambda: run.write_progress(Progress())),
            "curve_write": timed(lambda: run.write_losses(1, curve)),
            "sample_grid": timed(lambda: sampling.sample_grid(s.G_ema, config.model, dataset.table)),
        }
        if judge := epoch_judge(config.model, dataset, device):
            found["epoch_scores"] = timed(lambda: judge.score(s.G_ema))
    torch.set_num_threads(threads)
    return found


def payloads() -> dict[str, float]:
    """Return the bytes of the gradients of D and of G, and the bytes that each image of the whole batch adds."""
    s = state.new_state(RECIPES[RECIPE].config, 1, torch.device("cpu"))
    d_bytes, g_bytes = (
        sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
        for network in (s.D, s.G)
    )
    return {"d_bytes": d_bytes, "g_bytes": g_bytes, "bytes_per_image": 8.0}  # logits of a real image and of a fake


def run_round(number: int, steps: int) -> dict[str, dict[str, Any]]:
    """Measure each variant once. Every other round goes through them in the opposite order."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        trainings = variants(Path(folder), steps)
        for name in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
            results[name] = result = measured(trainings[name], steps)
            print(
                f"round {number + 1}, {name}: {result['images_per_second']:.0f} images/s, "
                f"{1e3 * result['cpu_seconds_per_image']:.2f} CPU-ms per image, "
                f"first step after {result['first_step']:.1f} s",
                flush=True,
            )
    return {name: results[name] for name in VARIANTS}


def summary(result: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a measurement, rounded, without the time of each step."""
    return {name: round(float(value), 6) for name, value in result.items() if name != "step_seconds"}


def noise(runs: list[list[float]]) -> list[float]:
    """Return all step times of runs, each divided by the median of its run; ascending."""
    steps = [np.array(run) / np.median(run) for run in runs]
    return sorted(round(float(value), 4) for value in np.concatenate(steps))


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each variant (default: 3)")
    parser.add_argument(
        "--steps", type=int, default=200, help=f"steps of a measurement, after {WARM_UP} of warm-up (default: 200)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder to write to (default: docs)")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.steps) < 1:
        parser.error("--rounds and --steps must be at least 1")
    # The load tells what else ran on the machine.
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.scaling --rounds {options.rounds} --steps {options.steps}",
        "machine": timed_runs.machine() | {"load": round(os.getloadavg()[1], 1)},
        "batch_size": RECIPES[RECIPE].config.batch_size,
        "payloads": payloads(),
        "steps_after_checkpoint": AFTER,
        "rounds": [],
    }
    step_seconds = []
    try:
        record |= {"costs": costs(), "sums": sums(), "draws": draw_times()}
        record["sweep"] = sweep()
        for number in range(options.rounds):
            results = run_round(number, options.steps)
            step_seconds += results["one process"]["step_seconds"]
            record["noise"] = noise(step_seconds)
            record["rounds"].append({name: summary(result) for name, result in results.items()})
            # After each round: a long benchmark may be interrupted.
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "scaling.json").write_text(json.dumps(record, indent=1) + "\n")
    except (RuntimeError, ValueError) as error:
        return parser.fail(str(error))
    return scaling_model.main(["--folder", str(options.out)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
