"""`python -m benchmarks.speedrun`: measure the time to good digits, and how much of the machine training uses.

Write docs/speedrun.md and docs/speedrun.json. `forge` runs with several seeds. Every classic gets three times the time
that `forge` needs for the second goal. The runs stay in the run store, and the same command resumes them.

`python -m benchmarks.speedrun record NUMBER --cause TEXT -- RECIPE [OPTIONS]` measures a record: the time of a whole
training whose last generator reaches `RECORD_GOAL`. It writes docs/records/NUMBER.json and draws docs/speedrun.md anew.
`python -m benchmarks.speedrun check` holds all records to the rule and draws docs/speedrun.md anew.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import timed_runs
from models import sampling
from models.command_line import Parser
from models.digit_reader import SHA256
from models.generator_file import LoadedGenerator
from trainer.config import Upkeep
from trainer.data import load_dataset
from trainer.metrics import (
    TWO_SAMPLE_COUNT,
    Judge,
    balanced_label_accuracy,
    fit_gaussian,
    frechet_distance,
    frequent_labels,
    mnist_judge,
    told_apart,
    two_real_samples,
    uniform_labels,
)
from trainer.recipes import RECIPES
from trainer.run_store import GENERATOR_FILE, Checkpoint, RunStore, open_store
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
    two_sample: float = 1.0
    """Highest share of digits that a new classifier may tell right, as generated or real, under `RECORD_NOISE`."""

    def is_met(self, scores: dict[str, float]) -> bool:
        """Return whether scores reach the goal. Unconditional networks have no label accuracy and never do."""
        accuracy, told_apart = scores.get("label_accuracy", 0.0), scores.get("two_sample", 1.0)
        return (
            accuracy >= self.label_accuracy and scores["fid_ratio"] <= self.fid_ratio and told_apart <= self.two_sample
        )

    def __str__(self) -> str:
        text = f"label accuracy {self.label_accuracy:.1%}, FID {self.fid_ratio:g} x floor"
        return text if self.two_sample == 1 else f"{text}, two-sample accuracy {self.two_sample:.2f}"


GOALS = (Goal(0.97, 15), Goal(0.989, 5))
RECORD_GOAL = Goal(0.989, 5, 0.90)
RECORD_NOISE = 0.1
"""Standard deviation of the noise in a record's two-sample test. It has one classifier, of seed 0."""
RECORD_SEEDS = (0, 1, 2, 3, 4)
RECORD_P = 0.01
"""A record must be faster than the one before with a smaller p-value than this."""
RECORDS = "records"
"""Folder of the records, beside docs/speedrun.md."""


def score(checkpoint: Checkpoint, judge: Judge, floor: float) -> dict[str, float]:
    """Return the times of a checkpoint, and label accuracy and FID of its digits: see `quality`."""
    manifest = checkpoint.manifest
    times = {"seconds": manifest.seconds, "cpu_seconds": manifest.cpu_seconds, "nimg": manifest.nimg}
    return times | quality(timed_runs.generator_of(checkpoint), judge, floor)


def quality(loaded: LoadedGenerator, judge: Judge, floor: float) -> dict[str, float]:
    """Return label accuracy and FID of 10,000 digits with seeds 0, 1, ..., as frequent as among the training images.

    Label accuracy is the mean over digits, so each digit counts the same.
    """
    labels = frequent_labels(COUNT, judge.class_shares)
    z, c = sampling.latents(range(COUNT), loaded.config), loaded.class_rows(labels, range(COUNT))
    reading = judge.read(sampling.draw(loaded.generator, z, c))
    scores = {"fid_ratio": frechet_distance(fit_gaussian(reading.features), judge.real.gaussian()) / floor}
    if loaded.config.num_classes:
        scores["label_accuracy"] = balanced_label_accuracy(torch.tensor(labels), reading.digits)
    return scores


def two_sample(loaded: LoadedGenerator, judge: Judge) -> float:
    """Return how often one new classifier tells digits from real ones under `RECORD_NOISE`.

    The digits are those of `trainer.evaluate.two_sample` with seed 0.
    """
    labels, first = uniform_labels(TWO_SAMPLE_COUNT), len(judge.training_labels)
    seeds = range(first, first + TWO_SAMPLE_COUNT)
    z, c = sampling.latents(seeds, loaded.config), loaded.class_rows(labels, seeds)
    pictures, classes = torch.from_numpy(sampling.draw(loaded.generator, z, c)), torch.tensor(labels)
    chosen, _ = two_real_samples(classes, judge.training_labels)
    return told_apart(pictures, judge.training.pictures[chosen], classes, RECORD_NOISE, seed=0)


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


def report(measured: dict[str, Any]) -> list[str]:
    """Return the content of speedrun.json in Markdown, as lines."""
    machine, forges, speed = measured["machine"], measured["forge"], measured["speed"]
    lines = [
        "# Time to quality",
        "",
        f"`{measured['command']}`",
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
        "in a profile of one thread: "
        + ", ".join(f"{kind} {share:.0%}" for kind, share in measured["profile"].items()),
    ]
    lines[-1] += "."
    if measured["classics"]:
        lines += [
            "",
            f"Each classic with {TIMES} times the CPU-seconds of the second goal, seed 0. A run that is already in",
        ]
        lines += ["the run store is resumed, and its earlier time counts:", ""]
        lines += ["| recipe | label accuracy | FID / floor | CPU-seconds | goals reached |", "|---|---|---|---|---|"]
    for result in measured["classics"]:
        final = result["final"]
        accuracy = f"{final['label_accuracy']:.1%}" if "label_accuracy" in final else "-"
        met = "; ".join(
            f"{goal}: after {point['cpu_seconds']:.0f}" for goal, point in zip(GOALS, result["reached"], strict=False)
        )
        numbers = f"{final['fid_ratio']:.1f} | {final['cpu_seconds']:.0f}"
        lines.append(f"| `{result['recipe']}` | {accuracy} | {numbers} | {met or 'none'} |")
    return lines


def rule() -> dict[str, Any]:
    """Return what all records must have been held to: goal, pictures, and the judge's reader and images by hash."""
    files = load_dataset(split="train").sha256 | load_dataset(split="t10k").sha256
    return {
        "goal": dataclasses.asdict(RECORD_GOAL),
        "pictures": COUNT,
        "two_sample": {"pictures": TWO_SAMPLE_COUNT, "noise": RECORD_NOISE, "classifiers": 1},
        "reader_sha256": SHA256,
        "data_sha256": files,
    }


def p_value(times: Sequence[float], before: Sequence[float]) -> float:
    """Return the probability of times that are so low beside those before, if both had the same distribution.

    It is that of the one-sided rank-sum test (Wilcoxon 1945; Mann and Whitney 1947), exact: the share of all splits of
    the times into two groups with at most as many pairs in which the first is greater; ties count half. The lowest of
    five against five is 1/252. A seed that did not reach the goal has the time infinity.
    """

    def greater(first: Sequence[float], second: Sequence[float]) -> float:
        return sum((a > b) + (a == b) / 2 for a in first for b in second)

    together, observed = [*times, *before], greater(times, before)
    places = range(len(together))
    splits = [
        ([together[i] for i in chosen], [together[i] for i in places if i not in chosen])
        for chosen in map(set, itertools.combinations(places, len(times)))
    ]
    return sum(greater(*split) <= observed for split in splits) / len(splits)


def times_to_goal(record: dict[str, Any]) -> list[float]:
    """Return the CPU-seconds of each seed of a record; infinity for a seed that did not reach the goal."""
    return [seed["cpu_seconds"] if RECORD_GOAL.is_met(seed) else math.inf for seed in record["seeds"]]


def objections(record: dict[str, Any], before: dict[str, Any] | None, rule: dict[str, Any]) -> list[str]:
    """Return why a measurement is no record, given the record before it; an empty list if it is one."""
    found = []
    if record["rule"] != rule:
        found.append("judged by another rule")
    if len(record["seeds"]) < len(RECORD_SEEDS):
        found.append(f"{len(record['seeds'])} of {len(RECORD_SEEDS)} seeds")
    missed = [str(seed["seed"]) for seed in record["seeds"] if not RECORD_GOAL.is_met(seed)]
    if missed:
        found.append(f"goal missed with seed {', '.join(missed)}")
    if before:
        if record["machine"]["processor"] != before["machine"]["processor"]:
            found.append(f"measured on another processor than record {before['number']}: measure that here, too")
        elif (p := p_value(times_to_goal(record), times_to_goal(before))) >= RECORD_P:
            found.append(f"p = {p:.3f} against record {before['number']}")
    return found


def read_records(docs: Path) -> list[dict[str, Any]]:
    """Return the records in a folder of documents, by number."""
    records = [json.loads(path.read_text()) for path in (docs / RECORDS).glob("*.json")]
    return sorted(records, key=lambda record: record["number"])


def judged_records(records: list[dict[str, Any]], rule: dict[str, Any]) -> list[tuple[dict[str, Any], str, list[str]]]:
    """Return each record, its p-value against the one before in words, and the objections to it.

    The record before is the last one without objections.
    """
    rows, before = [], None
    for record in records:
        found = objections(record, before, rule)
        p = f"{p_value(times_to_goal(record), times_to_goal(before)):.3f}" if before else "-"
        rows.append((record, p, found))
        before = before if found else record
    return rows


def record_lines(rows: list[tuple[dict[str, Any], str, list[str]]]) -> list[str]:
    """Return the rule and the table of records in Markdown, as lines."""
    goal = RECORD_GOAL
    lines = [
        "",
        "## Records",
        "",
        "A record is a training command whose last generator reaches the goal, and its time. The rule:",
        "",
        f"1. The goal: label accuracy at least {goal.label_accuracy:.1%} and FID at most {goal.fid_ratio:g} times its",
        f"   floor, on {COUNT:,} digits without truncation; and a new classifier, which learned from five sixths of",
        f"   {TWO_SAMPLE_COUNT:,} digits and as many real ones, under noise of standard deviation {RECORD_NOISE:g},",
        f"   tells at most {goal.two_sample:.0%} of the others right.",
        "2. The judge is fixed: the digit reader and the images are those whose hashes the record states.",
        f"3. Seeds {RECORD_SEEDS[0]} to {RECORD_SEEDS[-1]}. Each reaches the goal at the end of its training, so that",
        "   nobody chooses a lucky moment.",
        "4. The time is the CPU-seconds of the training loop, summed over workers, on the processor of the record",
        f"   before. It is lower than that record's with p < {RECORD_P:g} in the one-sided rank-sum test (Wilcoxon,",
        "   Mann and Whitney), computed exactly.",
        f"5. The log of each seed is in `docs/{RECORDS}/`, with one line that names the cause.",
        "",
        "`python -m benchmarks.speedrun record NUMBER --cause TEXT -- RECIPE [OPTIONS]` measures a record, and",
        "`python -m benchmarks.speedrun check` holds all of them to the rule. Medians, with the range over seeds.",
        "",
        "| record | training | CPU-seconds | images | label accuracy | FID / floor | two-sample | p | stands | cause |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record, p, found in rows:
        forms = {"cpu_seconds": "{:,.0f}", "nimg": "{:,.0f}", "label_accuracy": "{:.2%}", "fid_ratio": "{:.2f}"}
        forms["two_sample"] = "{:.3f}"
        cells = [_spread([seed[name] for seed in record["seeds"]], form) for name, form in forms.items()]
        cells = [str(record["number"]), f"`{shlex.join(record['training'])}`", *cells, p]
        lines.append(f"| {' | '.join([*cells, 'no: ' + '; '.join(found) if found else 'yes', record['cause']])} |")
    for record, _, _ in rows:
        machine = record["machine"]
        lines += ["", f"Record {record['number']}: {machine['processor']}, {machine['cpus']} CPUs, PyTorch "]
        lines[-1] += f"{machine['torch']}, {machine['date']}, {record['workers']} worker(s)."
    return lines


def document(docs: Path) -> tuple[str, list[str]]:
    """Return speedrun.md, drawn from speedrun.json and the records in a folder, and the objections to the records."""
    rows = judged_records(read_records(docs), rule())
    lines = report(json.loads((docs / "speedrun.json").read_text())) + record_lines(rows)
    found = [f"record {record['number']}: {reason}" for record, _, found in rows for reason in found]
    return "\n".join(lines) + "\n", found


def write_document(docs: Path) -> list[str]:
    """Write speedrun.md into a folder and return the objections to its records."""
    text, found = document(docs)
    (docs / "speedrun.md").write_text(text)
    return found


def measure_seed(
    training: Sequence[str], seed: int, store: RunStore, workers: int, judge: Judge, known: list[dict[str, Any]]
) -> dict[str, Any]:
    """Train one seed of a record to its end and judge its last generator, unless it is the one that is known."""
    recipe, *options = training
    run = store.run(f"record-{hashlib.sha256(shlex.join(training).encode()).hexdigest()[:12]}-{seed}")
    timed_runs.train(recipe, run, workers, math.inf, [*timed_runs.KEEP_ALL, *options, "--seed", str(seed)])
    checkpoints = run.checkpoints()
    last = checkpoints[-1]
    sha256 = hashlib.sha256(last.read(GENERATOR_FILE)).hexdigest()
    if found := next((other for other in known if other["generator_sha256"] == sha256), None):
        return found
    print(f"{run.name}: judging {last.name} ...", flush=True)
    scores = score(last, judge, judge.floor(COUNT)["fid"])
    scores["two_sample"] = two_sample(timed_runs.generator_of(last), judge)
    manifests = [checkpoint.manifest for checkpoint in checkpoints]
    log = [{name: getattr(each, name) for name in ("step", "nimg", "seconds", "cpu_seconds")} for each in manifests]
    return {"seed": seed, "generator_sha256": sha256, **scores, "log": log}


def record_main(arguments: list[str]) -> int:
    """Run `record` and return the exit status of the process."""
    parser = Parser(prog="python -m benchmarks.speedrun record", description="Measure a record of docs/speedrun.md.")
    parser.add_argument("number", type=int, metavar="NUMBER", help="number of the record; an existing one is replaced")
    parser.add_argument("--cause", required=True, metavar="TEXT", help="one line: what makes it faster")
    parser.add_argument("--seeds", nargs="+", type=int, default=RECORD_SEEDS, metavar="SEED", help="default: 0 1 2 3 4")
    _add_common_options(parser)
    parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " -- RECIPE [OPTIONS OF THE TRAINER]"
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, training = parser.parse_args(arguments[:end]), arguments[end + 1 :]
    path = options.out / RECORDS / f"{options.number}.json"
    record = {"number": options.number, "cause": options.cause, "training": training}
    record |= {"workers": options.workers, "machine": timed_runs.machine(), "rule": rule()}
    try:
        if not training or training[0] not in RECIPES:
            raise ValueError(f"name a recipe after --: one of {', '.join(RECIPES)}")
        store, judge = open_store(options.runs), mnist_judge()
        known = json.loads(path.read_text())["seeds"] if path.exists() else []
        record["seeds"] = []
        for seed in options.seeds:
            record["seeds"].append(measure_seed(training, seed, store, options.workers, judge, known))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=1) + "\n")  # after each seed: a long benchmark may be interrupted
            found = write_document(options.out)
    except (RuntimeError, ValueError) as error:
        return parser.fail(str(error))
    print("\n".join(found) or "There are no objections.")
    return 0


def check_main(arguments: list[str]) -> int:
    """Run `check` and return the exit status of the process: 1 if a record does not stand."""
    parser = Parser(prog="python -m benchmarks.speedrun check", description="Hold all records to the rule.")
    parser.add_argument("--out", type=Path, default=timed_runs.ROOT / "docs", help="folder of the documents")
    found = write_document(parser.parse_args(arguments).out)
    print("\n".join(found) or "There are no objections.")
    return 1 if found else 0


def _add_common_options(parser: Parser) -> None:
    parser.add_argument("--workers", type=int, default=2, help="number of workers of a run (default: 2)")
    parser.add_argument(
        "--runs", default="runs/benchmarks", help="folder or URI of the run store (default: runs/benchmarks)"
    )
    parser.add_argument("--out", type=Path, default=timed_runs.ROOT / "docs", help="folder to write to (default: docs)")


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    for name, subcommand in (("record", record_main), ("check", check_main)):
        if arguments[:1] == [name]:
            return subcommand(arguments[1:])
    parser = Parser(prog="python -m benchmarks.speedrun", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="seeds of `forge` (default: 0 1 2)"
    )
    parser.add_argument(
        "--classics", nargs="*", choices=CLASSICS, default=CLASSICS, metavar="NAME", help="default: all"
    )
    _add_common_options(parser)
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
            record = {"command": command, "machine": timed_runs.machine(), "speed": speed, "floor": floor}
            record |= {"profile": profile, "forge": forges, "classics": classics}
            (options.out / "speedrun.json").write_text(json.dumps(record, indent=1) + "\n")
            write_document(options.out)
    except (RuntimeError, ValueError) as error:
        return parser.fail(str(error))
    print((options.out / "speedrun.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
