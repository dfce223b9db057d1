"""`python -m benchmarks.speedrun`: measure the time to good digits, and how much of the machine training uses.

Write docs/speedrun.md and docs/speedrun.json. `forge` runs with several seeds. Every classic gets three times the time
that `forge` needs for the second goal. The runs stay in the run store, and the same command resumes them.
"""

import json
import math
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import timed_runs
from models import sampling
from models.command_line import Parser
from trainer.config import Upkeep
from trainer.metrics import (
    Judge,
    balanced_label_accuracy,
    fit_gaussian,
    frechet_distance,
    frequent_labels,
    mnist_judge,
)
from trainer.recipes import RECIPES
from trainer.run_store import Checkpoint, RunStore, open_store
from trainer.train_loop import train

CLASSICS = ("mlp-cgan", "conv-cgan", "onehot-cdcgan", "dcgan", "gan", "dropout-dcgan")
COUNT = 10_000
TIMES = 3
"""The processor time of a classic, as a multiple of what `forge` needs for the second goal."""
MAX_POINTS = 6
"""Maximum number of checkpoints of a classic that are scored."""
CHECKPOINT_STEPS = 100
"""Steps between two checkpoints of `forge`, which is the resolution of its times."""
MATRIX = 1024
"""Size of the square matrices whose product measures the peak rate of the machine."""
COUNTED_STEPS, PROFILED_STEPS = 3, 30
KINDS = {
    "convolutions": ("conv", "unfold"),
    "matrix products": ("mm",),
    "layer normalization": ("layer_norm",),
    "activations": ("relu", "threshold", "clamp_min", "tanh", "softplus"),
}
"""Kind of operation -> substrings of its names in a profile."""


@dataclass(frozen=True)
class Goal:
    """A quality that the digits have to reach."""

    label_accuracy: float
    fid_ratio: float
    """FID divided by its floor."""

    def is_met(self, scores: dict[str, float]) -> bool:
        """Return whether scores reach the goal. Unconditional networks have no label accuracy and never do."""
        accuracy = scores.get("label_accuracy", 0.0)
        return accuracy >= self.label_accuracy and scores["fid_ratio"] <= self.fid_ratio

    def __str__(self) -> str:
        return f"label accuracy {self.label_accuracy:.1%}, FID {self.fid_ratio:g} x floor"


GOALS = (Goal(0.97, 15), Goal(0.989, 5))


def score(checkpoint: Checkpoint, judge: Judge, floor: float) -> dict[str, float]:
    """Return label accuracy and FID of 10,000 digits with seeds 0, 1, ..., as frequent as among the training images.

    Label accuracy is the mean over digits, so each digit counts the same.
    """
    loaded = timed_runs.generator_of(checkpoint)
    labels = frequent_labels(COUNT, judge.class_shares)
    z, c = sampling.latents(range(COUNT), loaded.config), loaded.class_rows(labels, range(COUNT))
    reading = judge.read(sampling.draw(loaded.generator, z, c))
    manifest = checkpoint.manifest
    scores = {"seconds": manifest.seconds, "cpu_seconds": manifest.cpu_seconds, "nimg": manifest.nimg}
    scores["fid_ratio"] = frechet_distance(fit_gaussian(reading.features), judge.real.gaussian()) / floor
    if loaded.config.num_classes:
        scores["label_accuracy"] = balanced_label_accuracy(torch.tensor(labels), reading.digits)
    return scores


def matrix_ceiling(threads: int) -> float:
    """Return the best rate of products of 1024 x 1024 float32 matrices on `threads` threads, in GFLOP/s."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b = torch.randn(2, MATRIX, MATRIX).unbind()
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(20):
            a @ b
        best = min(best, (time.perf_counter() - start) / 20)
    torch.set_num_threads(before)
    return 2 * MATRIX**3 / best / 1e9


class _Flops(TorchDispatchMode):
    """Counts the floating-point operations of matrix products and convolutions; other operations count as 0.

    PyTorch's own FlopCounterMode breaks `torch.autograd.grad`, which training calls (pytorch/pytorch#131753).
    """

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if count := flop_registry.get(function._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def few_steps(recipe: str, steps: int) -> None:
    """Train the first steps of a recipe in this process, without recording them."""
    config, upkeep = replace(RECIPES[recipe].config, epochs=1, steps_per_epoch=steps), Upkeep(metrics_every=0)
    with tempfile.TemporaryDirectory() as folder:
        train(config, upkeep, open_store(folder).run("counted"), lambda *_: None, None, torch.device("cpu"))


def operations_per_image(recipe: str) -> float:
    """Return the floating-point operations of matrix products and convolutions in training, per image of a step."""
    with _Flops() as flops:
        few_steps(recipe, COUNTED_STEPS)
    return flops.total / (COUNTED_STEPS * RECIPES[recipe].config.batch_size)


def where_time_goes(recipe: str) -> dict[str, float]:
    """Return the share of each kind of operation in the training time of one thread, largest first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    few_steps(recipe, COUNTED_STEPS)  # warm-up: the first call of an operation is slow
    with torch.profiler.profile() as profile:
        few_steps(recipe, PROFILED_STEPS)
    torch.set_num_threads(threads)
    shares = dict.fromkeys([*KINDS, "other (elementwise, copies, optimizers)"], 0.0)
    for event in profile.key_averages():
        kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), None)
        shares[kind or list(shares)[-1]] += event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: time / total for kind, time in sorted(shares.items(), key=lambda item: -item[1])}


def speedrun(seed: int, store: RunStore, workers: int, judge: Judge, floor: float) -> dict[str, Any]:
    """Train `forge` to its end, then find the first checkpoint that reaches each goal."""
    run = store.run(f"forge-speedrun-{seed}")
    options = [*timed_runs.KEEP_ALL, "--checkpoint-every", str(CHECKPOINT_STEPS), "--seed", str(seed)]
    timed_runs.train("forge", run, workers, math.inf, options)
    checkpoints = [checkpoint for checkpoint in run.checkpoints() if checkpoint.step % CHECKPOINT_STEPS == 0]
    reached: list[dict[str, float]] = []
    for checkpoint in checkpoints:
        scores = score(checkpoint, judge, floor)
        print(f"{run.name}, {checkpoint.name}: {_scores(scores)}", flush=True)
        while len(reached) < len(GOALS) and GOALS[len(reached)].is_met(scores):
            reached.append(scores)
        if len(reached) == len(GOALS):
            break
    last = checkpoints[-1]
    generated = timed_runs.evaluation(last, COUNT).generated
    final = {name: value for name, value in generated.items() if isinstance(value, float)}
    final |= {"seconds": last.manifest.seconds, "cpu_seconds": last.manifest.cpu_seconds, "nimg": last.nimg}
    return {"recipe": "forge", "seed": seed, "reached": reached, "final": final | {"fid_ratio": final["fid"] / floor}}


def attempt(
    recipe: str, store: RunStore, workers: int, cpu_minutes: float, judge: Judge, floor: float
) -> dict[str, Any]:
    """Train a classic for its time; return the first checkpoint that reaches each goal, and its final scores."""
    run = store.run(f"{recipe}-0")  # shared with benchmarks.recipes
    timed_runs.train(recipe, run, workers, cpu_minutes, [*timed_runs.KEEP_ALL, "--seed", "0"])
    reached: list[dict[str, float]] = []
    scores: dict[str, float] = {}
    for checkpoint in timed_runs.spread(timed_runs.within(run, cpu_minutes), MAX_POINTS):
        scores = score(checkpoint, judge, floor)
        print(f"{run.name}, {checkpoint.name}: {_scores(scores)}", flush=True)
        while len(reached) < len(GOALS) and GOALS[len(reached)].is_met(scores):
            reached.append(scores)
    return {"recipe": recipe, "seed": 0, "reached": reached, "final": scores}


def _scores(scores: dict[str, float]) -> str:
    accuracy = f"label accuracy {scores['label_accuracy']:.2%}, " if "label_accuracy" in scores else ""
    return f"{accuracy}FID {scores['fid_ratio']:.1f} x floor after {scores['cpu_seconds']:.0f} CPU-seconds"


def _spread(values: list[float], form: str = "{:,.0f}") -> str:
    low, median, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return median if low == high else f"{median} ({low} to {high})"


def report(
    forges: list[dict[str, Any]],
    classics: list[dict[str, Any]],
    speed: dict[str, float],
    profile: dict[str, float],
    command: str,
) -> str:
    """Return the results in Markdown."""
    machine = timed_runs.machine()
    lines = [
        "# Time to quality",
        "",
        f"`{command}`",
        f"on {machine['processor']}, {machine['cpus']} CPUs, PyTorch {machine['torch']}, {machine['date']}.",
        "",
        f"Goals are measured on {COUNT:,} digits with seeds 0 to {COUNT - 1}, without truncation. Times are those of",
        f"the training loop; `forge` is scored every {CHECKPOINT_STEPS} steps. Medians, with the range over seeds.",
        "",
        "| `forge`, seeds "
        + ", ".join(str(result["seed"]) for result in forges)
        + " | seconds | CPU-seconds | images |",
        "|---|---|---|---|",
    ]
    for index, goal in enumerate(GOALS):
        there = [result["reached"][index] for result in forges if len(result["reached"]) > index]
        cells = (
            [_spread([point[name] for point in there]) for name in ("seconds", "cpu_seconds", "nimg")] if there else []
        )
        short = f" ({len(there)} of {len(forges)} seeds)" if len(there) < len(forges) else ""
        lines.append(f"| {goal}{short} | {' | '.join(cells or ['not reached', '', ''])} |")
    finals = [result["final"] for result in forges]
    cells = [_spread([final[name] for final in finals]) for name in ("seconds", "cpu_seconds", "nimg")]
    lines.append(f"| whole training | {' | '.join(cells)} |")
    lines += [
        "",
        "At the end: label accuracy "
        + _spread([final["label_accuracy"] for final in finals], "{:.2%}")
        + ", FID "
        + _spread([final["fid_ratio"] for final in finals], "{:.2f}")
        + " x floor, coverage "
        + _spread([final["coverage"] for final in finals], "{:.3f}")
        + ", recall "
        + _spread([final["recall"] for final in finals], "{:.3f}")
        + ".",
        "",
        f"Training reached {speed['reached']:.0f} GFLOP/s in matrix products and convolutions, at a counted "
        f"{speed['per_image'] / 1e6:.0f} MFLOP per image:",
        f"{speed['reached'] / speed['ceiling']:.0%} of the {speed['ceiling']:.0f} GFLOP/s of products of "
        f"{MATRIX} x {MATRIX} matrices on as many threads. The time of a worker,",
        "in a profile of one thread: " + ", ".join(f"{kind} {share:.0%}" for kind, share in profile.items()) + ".",
    ]
    if classics:
        lines += [
            "",
            f"Each classic with {TIMES} times the CPU-seconds of the second goal, seed 0. A run that is already in",
        ]
        lines += ["the run store is resumed, and its earlier time counts:", ""]
        lines += ["| recipe | label accuracy | FID / floor | CPU-seconds | goals reached |", "|---|---|---|---|---|"]
    for result in classics:
        final = result["final"]
        accuracy = f"{final['label_accuracy']:.1%}" if "label_accuracy" in final else "-"
        met = "; ".join(
            f"{goal}: after {point['cpu_seconds']:.0f}" for goal, point in zip(GOALS, result["reached"], strict=False)
        )
        numbers = f"{final['fid_ratio']:.1f} | {final['cpu_seconds']:.0f}"
        lines.append(f"| `{result['recipe']}` | {accuracy} | {numbers} | {met or 'none'} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m benchmarks.speedrun", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="seeds of `forge` (default: 0 1 2)"
    )
    parser.add_argument(
        "--classics", nargs="*", choices=CLASSICS, default=CLASSICS, metavar="NAME", help="default: all"
    )
    parser.add_argument("--workers", type=int, default=2, help="number of workers of a run (default: 2)")
    parser.add_argument(
        "--runs", default="runs/benchmarks", help="folder or URI of the run store (default: runs/benchmarks)"
    )
    parser.add_argument("--out", type=Path, default=timed_runs.ROOT / "docs", help="folder to write to (default: docs)")
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "benchmarks.speedrun", *arguments])
    try:
        store, judge = open_store(options.runs), mnist_judge()
        floor = judge.floor(COUNT)["fid"]
        speed = {"ceiling": matrix_ceiling(options.workers), "per_image": operations_per_image("forge")}
        profile = where_time_goes("forge")
        forges = [speedrun(seed, store, options.workers, judge, floor) for seed in options.seeds]
        rate = statistics.median(result["final"]["nimg"] / result["final"]["seconds"] for result in forges)
        speed["reached"] = rate * speed["per_image"] / 1e9
        there = [result["reached"][-1]["cpu_seconds"] for result in forges if len(result["reached"]) == len(GOALS)]
        needed = statistics.median(there or [result["final"]["cpu_seconds"] for result in forges])
        classics: list[dict[str, Any]] = []
        for recipe in [None, *options.classics]:  # write once before the classics: a long benchmark may be interrupted
            if recipe:
                minutes = round(TIMES * needed / 60, 2)
                classics.append(attempt(recipe, store, options.workers, minutes, judge, floor))
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "speedrun.md").write_text(report(forges, classics, speed, profile, command))
            record = {"command": command, "machine": timed_runs.machine(), "speed": speed, "floor": floor}
            record |= {"profile": profile, "forge": forges, "classics": classics}
            (options.out / "speedrun.json").write_text(json.dumps(record, indent=1) + "\n")
    except (RuntimeError, ValueError) as error:
        return parser.fail(str(error))
    print((options.out / "speedrun.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
