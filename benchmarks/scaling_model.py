"""`python -m benchmarks.scaling_model`: from docs/scaling.json, how long a step takes on thousands of workers.

A model of the time of a step is fitted to what `benchmarks.scaling` measured, and checked by a simulation of every
worker and every message. The command rewrites the tables in docs/scaling.md, prints them, and measures nothing.

The terms of a step of W workers on a batch of B images:

- images: the work on B / W images.
- fixed: what a worker does in each step, however few its images: Python, optimizers, the average of G's weights.
- draws: each worker draws latents and the order of the images for the whole batch.
- stragglers: both sums of a step wait for the slowest worker.
- latency and transfer: the messages of both sums, each as latency + bytes / bandwidth.
"""

import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.timed_runs import ROOT
from models.command_line import Parser

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Link:
    """A connection between workers."""

    title: str
    latency: float
    """Seconds of a message without content."""
    bandwidth: float
    """Bytes per second in each direction."""
    max_workers: int = 4096


ETHERNET = Link("10 Gbit/s Ethernet", 30e-6, 1.1e9)
FAST = Link("100 Gbit/s", 5e-6, 11e9)
"""Assumed, not measured: usual latencies of TCP and of RDMA or NVLink, and 90 % of the nominal bandwidth."""
MAX_HOST = 64
"""Largest assumed number of workers that share the memory of a host."""
PER_HOST = 8
"""Workers of a host in the hierarchical reduction."""


@dataclass(frozen=True)
class Costs:
    """The costs of a step on one worker, in seconds and bytes."""

    fixed: float
    """Seconds of a step, however few images it has."""
    image: float
    """Seconds for each image of the worker."""
    draw: float
    """Seconds for each image of the whole batch."""
    d_bytes: float
    """Bytes that the sum of D's update adds up, without those of the images."""
    g_bytes: float
    """Bytes that the sum of G's update adds up."""
    bytes_per_image: float
    """Bytes that each image of the whole batch adds to the sum of D's update."""
    noise: Floats
    """Step times (N,) of a process, divided by their median; ascending."""

    def work(self, workers: int, batch: int) -> float:
        """Return the seconds in which a worker without noise does its part of a step, without the sums."""
        return self.image * batch / workers + self.fixed + self.draw * batch

    def payloads(self, batch: int) -> tuple[float, float]:
        """Return the bytes of both sums of a step."""
        return self.d_bytes + self.bytes_per_image * batch, self.g_bytes


# The time of a sum: (link, workers, bytes) -> seconds of (latency, transfer).
Reduction = Callable[[Link, int, float], tuple[float, float]]


def ring(link: Link, workers: int, size: float) -> tuple[float, float]:
    """Return the time of a sum in 2 (W - 1) rounds, in each of which a worker sends 1 / W of the bytes to the next."""
    rounds = 2 * (workers - 1)
    return rounds * link.latency, rounds * size / workers / link.bandwidth


def tree(link: Link, workers: int, size: float) -> tuple[float, float]:
    """Return the time of a sum by recursive halving and doubling (Rabenseifner 2004), in 2 log2(W) rounds.

    It sends as many bytes as `ring`. W must be a power of two.
    """
    return 2 * math.log2(workers) * link.latency, 2 * (workers - 1) * size / workers / link.bandwidth


def hierarchical(inside: Link) -> Reduction:
    """Return the sum that first adds up within hosts of `PER_HOST` workers, then in a tree of hosts."""

    def reduction(link: Link, workers: int, size: float) -> tuple[float, float]:
        own = ring(inside, min(workers, PER_HOST), size)
        others = tree(link, max(1, workers // PER_HOST), size)
        return own[0] + others[0], own[1] + others[1]

    return reduction


def slowest(noise: Floats, workers: int) -> float:
    """Return the expected maximum of `workers` values that are drawn from `noise` (N,), which is ascending."""
    below = np.arange(len(noise) + 1) / len(noise)
    return float(noise @ np.diff(below**workers))


def terms(costs: Costs, link: Link, workers: int, batch: int, reduction: Reduction = ring) -> dict[str, float]:
    """Return the terms of the time of a step, in seconds."""
    sums = [reduction(link, workers, size) for size in costs.payloads(batch)]
    return {
        "images": costs.image * batch / workers,
        "fixed": costs.fixed,
        "draws": costs.draw * batch,
        "stragglers": (slowest(costs.noise, workers) - 1) * costs.work(workers, batch),
        "latency": sum(latency for latency, _ in sums),
        "transfer": sum(transfer for _, transfer in sums),
    }


def step_seconds(costs: Costs, link: Link, workers: int, batch: int, reduction: Reduction = ring) -> float:
    """Return the time of a step: the sum of its terms."""
    return sum(terms(costs, link, workers, batch, reduction).values())


def overlapped(costs: Costs, link: Link, workers: int, batch: int, reduction: Reduction = ring) -> float:
    """Return a lower bound for the time of a step whose sums run beside the work: the longer of the two."""
    found = terms(costs, link, workers, batch, reduction)
    sums = found["latency"] + found["transfer"]
    return max(sums, sum(found.values()) - sums)


def simulate(
    costs: Costs,
    link: Link,
    workers: int,
    batch: int,
    steps: int,
    seed: int,
    reduction: Reduction = ring,
    varying: bool = False,
) -> float:
    """Return the mean time of a step in a simulation of each worker and each message of `ring` or `tree`.

    Each half of a step lasts as long as its noise says, which is drawn from `costs.noise` for each worker. A worker
    sends its message of a round when it has finished the round before, and ends a round when it has the message. With
    `varying`, latencies are exponentially distributed around that of the link, which the model does not know.
    """
    random = np.random.default_rng(seed)
    clocks, ranks = np.zeros(workers), np.arange(workers)
    levels = list(range(int(math.log2(workers))))
    for _ in range(steps):
        for size in costs.payloads(batch):
            clocks = clocks + costs.work(workers, batch) / 2 * random.choice(costs.noise, workers)
            if reduction is ring:  # (sender of each worker, bytes) of each round
                rounds = [(ranks - 1, size / workers)] * (2 * (workers - 1))
            else:
                rounds = [(ranks ^ (1 << level), size / 2 ** (level + 1)) for level in levels + levels[::-1]]
            for sender, content in rounds:
                latency = link.latency * random.exponential(size=workers) if varying else link.latency
                clocks = np.maximum(clocks, clocks[sender]) + latency + content / link.bandwidth
    return float(clocks.max()) / steps


def best_interval(checkpoint: float, mtbf: float) -> float:
    """Return the best time between checkpoints, in seconds of work (Daly 2006; the first term is Young's, 1974).

    `checkpoint` is the time that training stands still for one, and `mtbf` the mean time between failures of the job.
    """
    if checkpoint >= 2 * mtbf:
        return mtbf
    share = checkpoint / (2 * mtbf)
    return math.sqrt(2 * checkpoint * mtbf) * (1 + math.sqrt(share) / 3 + share / 9) - checkpoint


def slowdown(interval: float, checkpoint: float, restart: float, mtbf: float) -> float:
    """Return wall-clock time over time of work, for failures at exponentially distributed times (Daly 2006, eq. 20)."""
    return mtbf * math.exp(restart / mtbf) * math.expm1((interval + checkpoint) / mtbf) / interval


def simulate_failures(interval: float, checkpoint: float, restart: float, mtbf: float, count: int, seed: int) -> float:
    """Return wall-clock time over time of work, in a simulation of `count` intervals with their failures."""
    random = np.random.default_rng(seed)
    clock, failure = 0.0, random.exponential(mtbf)
    for _ in range(count):
        needed = interval + checkpoint
        while failure < clock + needed:
            clock, failure = failure, failure + random.exponential(mtbf)
            needed = restart + interval + checkpoint
        clock += needed
    return clock / (count * interval)


def fit_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return (a, b) for which a + b x is closest to y, by least squares of the relative errors."""
    xs, ys = np.array(x, float), np.array(y, float)
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / ys, xs / ys], 1), np.ones_like(ys), rcond=None)
    return float(a), float(b)


def fit(record: dict[str, Any]) -> tuple[Costs, Link]:
    """Return the costs of a step, and the link between two workers of this machine, from measured times.

    The sum between two workers is a `ring` of two rounds, each with half of the bytes.
    """
    fixed, image = fit_line(*_columns(record["sweep"], "batch"))
    _, draw = fit_line(*_columns(record["draws"], "batch"))
    start, per_byte = fit_line(*_columns(record["sums"], "bytes"))
    costs = Costs(fixed=fixed, image=image - draw, draw=draw, noise=np.array(record["noise"]), **record["payloads"])
    return costs, Link("shared memory", start / 2, 1 / per_byte, MAX_HOST)


def _columns(rows: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    return [row[name] for row in rows], [row["seconds"] for row in rows]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _spread(values: Sequence[float], form: str) -> str:
    low, median, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return median if low == high else f"{median} ({low} to {high})"


MAX_LOAD = 0.5
"""Load average before a measurement above which the machine was not free."""


def measured_table(record: dict[str, Any]) -> str:
    """Return the table of the variants: medians, with the range over the rounds."""
    rounds, rows = record["rounds"], []
    for name in rounds[0]:
        each = [(one[name], one["one process"]) for one in rounds]
        speeds = _spread([mine["images_per_second"] for mine, _ in each], "{:,.0f}")
        ratios = _spread([mine["images_per_second"] / plain["images_per_second"] for mine, plain in each], "{:.2f}")
        cpu = _spread([1e3 * mine["cpu_seconds_per_image"] for mine, _ in each], "{:.2f}")
        first = _spread([mine["first_step"] for mine, _ in each], "{:.1f}")
        start = _spread([mine["cpu_seconds_to_first_step"] for mine, _ in each], "{:.0f}")
        rows.append([name, speeds, ratios, cpu, first, start])
    titles = ["trainings", "images/s", "ratio", "CPU-ms per image", "first step after, s", "CPU-s until then"]
    machine = record["machine"]
    where = f"{machine['processor']}, {machine['cpus']} CPUs, PyTorch {machine['torch']}, {machine['date']}"
    where += f", load average {machine['load']} before"
    count = "one round" if len(rounds) == 1 else f"{len(rounds)} rounds: medians, with the range"
    head = f"`{record['command']}`, recipe `forge`, {where}. {count[0].upper()}{count[1:]}."
    if machine["load"] > MAX_LOAD:
        head += " **The machine was in use: no figure of this page counts until this is measured again.**"
    return f"{head}\n\n{_table(titles, rows)}"


ACTIONS = {
    "progress_write": "progress written (each second, by a thread of rank 0)",
    "curve_write": "curve of 250 steps written (every two seconds, by the same thread)",
    "weights_digest": "checkpoint: digest of the weights, on each worker",
    "checkpoint_files": "checkpoint: files made in memory, on rank 0",
    "checkpoint_store": "checkpoint: files written to the disk, in the background",
    "sample_grid": "end of an epoch: sample grid, on rank 0",
    "epoch_scores": "end of an epoch: scores of 2,000 digits, spread over the workers",
}


def costs_table(record: dict[str, Any]) -> str:
    """Return two tables: what single actions take, and how much longer steps are after a checkpoint."""
    actions = [
        [title, f"{1e3 * record['costs'][name]:,.1f}"] for name, title in ACTIONS.items() if name in record["costs"]
    ]
    felt = []
    for name in record["rounds"][0]:
        columns = (
            [1e3 * one[name][column] for one in record["rounds"]] for column in ("checkpoint_pause", "checkpoint_cost")
        )
        felt.append([name, *(_spread(column, "{:.0f}") for column in columns)])
    after = f"the {record['steps_after_checkpoint']} steps after it, ms longer"
    return f"{_table(['action', 'ms'], actions)}\n\n{_table(['checkpoint of', 'next step, ms longer', after], felt)}"


def fit_table(record: dict[str, Any]) -> str:
    """Return the fitted costs, and the model against what was measured."""
    costs, link = fit(record)
    rows = [
        ["fixed", f"{1e3 * costs.fixed:.2f} ms a step, of it {1e3 * record['costs']['optimizers']:.1f} ms optimizers"],
        ["images", f"{1e3 * costs.image:.3f} ms an image of the worker"],
        ["draws", f"{1e6 * costs.draw:.2f} \u00b5s an image of the whole batch"],
        ["sums", f"{costs.d_bytes / 1e6:.2f} and {costs.g_bytes / 1e6:.2f} MB"],
        ["shared memory", f"{1e6 * link.latency:.0f} \u00b5s a message, {link.bandwidth / 1e9:.2f} GB/s"],
        [
            "noise",
            f"standard deviation {costs.noise.std():.1%}, longest of {len(costs.noise)} steps {costs.noise[-1]:.2f}",
        ],
    ]
    checks = [
        (f"one process, batch {row['batch']}", row["seconds"], costs.work(1, row["batch"])) for row in record["sweep"]
    ]
    checks.append(("two workers", *two_workers(record)))
    compared = [
        [name, f"{1e3 * seen:.1f}", f"{1e3 * expected:.1f}", f"{expected / seen - 1:+.0%}"]
        for name, seen, expected in checks
    ]
    return (
        f"{_table(['term', 'fitted'], rows)}\n\n{_table(['step of', 'measured, ms', 'model, ms', 'error'], compared)}"
    )


def two_workers(record: dict[str, Any]) -> tuple[float, float]:
    """Return the step time of two workers: (measured, predicted). No part of the model was fitted to it.

    Two processes that have nothing to do with each other slow each other down. Their ratio to one process, which is of
    this machine and not of the training, multiplies the work of both.
    """
    costs, link = fit(record)
    batch = record["batch_size"]
    seen = [batch / one["two, spawned"]["images_per_second"] for one in record["rounds"]]
    contention = statistics.median(
        2 * one["one process"]["images_per_second"] / one["two independent"]["images_per_second"]
        for one in record["rounds"]
    )
    found = terms(costs, link, 2, batch)
    sums = found["latency"] + found["transfer"]
    return statistics.median(seen), (sum(found.values()) - sums) * contention + sums


def scene(record: dict[str, Any]) -> tuple[Costs, tuple[Link, ...]]:
    """Return the costs of a step, and the links to compare: that of this machine, and the assumed ones."""
    costs, shared = fit(record)
    return costs, (shared, ETHERNET, FAST)


BATCHES = (64, 512, 4096, 32_768)
ACCELERATION = 50
"""Assumed speed of an accelerator at the work on images, as a multiple of one core."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
MIN_IMAGES = 4
"""Smallest number of images of a worker: the group that D of `forge` compares."""


def sizes(link: Link, batch: int) -> list[int]:
    """Return the numbers of workers that a link and a batch allow."""
    return [workers for workers in SIZES if workers <= min(link.max_workers, batch // MIN_IMAGES)]


def dominance_table(record: dict[str, Any]) -> str:
    """Return which term of a step is the longest, from which number of workers on, for each link and batch.

    The last rows are for workers that are `ACCELERATION` times as fast at the work on images, on the last link.
    """
    costs, links = scene(record)
    rows = []
    fast = replace(costs, image=costs.image / ACCELERATION)
    cases = [(costs, link, link.title) for link in links]
    cases.append((fast, links[-1], f"{links[-1].title}, images {ACCELERATION} times as fast"))
    for costs, link, title in cases:
        for batch in BATCHES:
            parts, last = [], ""
            for workers in sizes(link, batch):
                found = terms(costs, link, workers, batch)
                longest = max(found, key=found.__getitem__)
                if longest != last:
                    parts.append(f"{longest} from {workers}" if last else longest)
                    last = longest
            half = [
                workers
                for workers in sizes(link, batch)
                if costs.image * batch / workers >= step_seconds(costs, link, workers, batch) / 2
            ]
            rows.append([title, f"{batch:,}", ", ".join(parts), f"{half[-1]}" if half else "none"])
    return _table(["link", "batch", "longest term", "workers up to which images are half of the step"], rows)


def speed_table(record: dict[str, Any]) -> str:
    """Return the images per second over those of one process, and the efficiency, for each link and batch."""
    (costs, links), base, rows = scene(record), record["batch_size"], []
    shown = (2, 8, 16, 64, 256, 1024, 4096)
    for link in links:
        alone = base / step_seconds(costs, link, 1, base)
        for batch in BATCHES:
            cells = []
            for workers in shown:
                if workers in sizes(link, batch):
                    gain = batch / step_seconds(costs, link, workers, batch) / alone
                    cells.append(
                        f"{gain:,.1f} ({gain / workers:.0%})" if gain < 100 else f"{gain:,.0f} ({gain / workers:.0%})"
                    )
                else:
                    cells.append("-")
            rows.append([link.title, f"{batch:,}", *cells])
    return _table(["link", "batch", *(f"{workers:,} workers" for workers in shown)], rows)


CASES = ((64, 8), (512, 64), (4096, 512), (32_768, 4096))
"""(batch, workers) for which changes are compared: 8 images for each worker."""


def changes_table(record: dict[str, Any]) -> str:
    """Return the time of a step as it is, and by how much each change shortens it."""
    costs, (inside, *links) = scene(record)
    own_rows = replace(costs, draw=0.0)
    half = replace(costs, d_bytes=costs.d_bytes / 2, g_bytes=costs.g_bytes / 2)
    by_hosts = hierarchical(inside)
    rows = []
    for link in links:
        for batch, workers in CASES:
            now = step_seconds(costs, link, workers, batch)
            all_of_them = overlapped(replace(half, draw=0.0), link, workers, batch, tree)
            changed = (
                step_seconds(costs, link, workers, batch, tree),
                step_seconds(costs, link, workers, batch, by_hosts),
                step_seconds(half, link, workers, batch),
                overlapped(costs, link, workers, batch),
                step_seconds(own_rows, link, workers, batch),
                all_of_them,
            )
            images = costs.image * batch / workers / all_of_them
            cells = [f"{1 - seconds / now:.0%}" for seconds in changed]
            rows.append([link.title, f"{batch:,}", f"{workers:,}", f"{1e3 * now:,.1f}", *cells, f"{images:.0%}"])
    titles = ["link", "batch", "workers", "step, ms", "tree", "hosts of 8", "bf16 sums", "overlap", "own draws"]
    return _table([*titles, "all but hosts", "images then"], rows)


def simulation_table(record: dict[str, Any]) -> str:
    """Return the simulated time of a step against that of the model, and the largest difference."""
    costs, (_, *links) = scene(record)
    rows, worst = [], 0.0
    for link in links:
        for batch, workers in CASES:
            cells = []
            for reduction in (ring, tree):
                # The ring has 2 (W - 1) rounds of W messages.
                steps = max(5, min(400, 40_000 // workers))
                seen = simulate(costs, link, workers, batch, steps, 0, reduction)
                expected = step_seconds(costs, link, workers, batch, reduction)
                worst = max(worst, abs(expected / seen - 1))
                varied = simulate(costs, link, workers, batch, max(2, steps // 5), 0, reduction, varying=True)
                cells += [f"{1e3 * expected:,.1f}", f"{1e3 * seen:,.1f}", f"{1e3 * varied:,.1f}"]
            rows.append([link.title, f"{batch:,}", f"{workers:,}", *cells])
    titles = ["link", "batch", "workers"]
    titles += [title for name in ("ring", "tree") for title in (f"{name}: model, ms", "simulated", "varying latency")]
    return f"{_table(titles, rows)}\n\nThe largest difference between model and simulation is {worst:.1%}."


DAY = 86_400.0


def failures_table(record: dict[str, Any]) -> str:
    """Return the best time between checkpoints, and what failures cost then and with one checkpoint a minute."""
    name = "two, Ray Train"
    pause = statistics.median(max(one[name]["checkpoint_pause"], 1e-3) for one in record["rounds"])
    restart = statistics.median(one[name]["first_step"] for one in record["rounds"])
    rows = []
    for days in (30.0, 365.0):
        for workers in (2, 16, 256, 4096):
            mtbf = days * DAY / workers
            interval = best_interval(pause, mtbf)
            seen = simulate_failures(interval, pause, restart, mtbf, 200_000, 0)
            rows.append(
                [
                    f"{days:.0f} days",
                    f"{workers:,}",
                    f"{mtbf / 3600:,.1f} h",
                    f"{interval:,.0f} s",
                    f"{slowdown(interval, pause, restart, mtbf) - 1:.2%}",
                    f"{seen - 1:.2%}",
                    f"{slowdown(60, pause, restart, mtbf) - 1:.2%}",
                ]
            )
    titles = ["a worker fails every", "workers", "the job every", "best interval", "lost", "simulated", "lost at 60 s"]
    return (
        f"A checkpoint stops the training for {1e3 * pause:.0f} ms, and a restart takes {restart:.0f} s: the start of "
        f"the whole command, an upper bound.\n\n{_table(titles, rows)}"
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "measured": measured_table,
    "costs": costs_table,
    "fit": fit_table,
    "dominance": dominance_table,
    "speed": speed_table,
    "changes": changes_table,
    "simulation": simulation_table,
    "failures": failures_table,
}
"""The tables of docs/scaling.md by name."""


def write_tables(document: Path, contents: dict[str, str]) -> None:
    """Replace the tables in a document, which stand between `<!-- table: NAME -->` and `<!-- end -->`.

    Raises `ValueError` if the document lacks one.
    """
    text = document.read_text()
    for name, content in contents.items():
        block = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not block.search(text):
            raise ValueError(f"{document}: has no table {name!r}")
        text = block.sub(lambda match, content=content: f"{match[1]}\n{content}\n\n{match[2]}", text)  # type: ignore[misc]
    document.write_text(text)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m benchmarks.scaling_model", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="folder of both files (default: docs)")
    options = parser.parse_args(arguments)
    document = options.folder / "scaling.md"
    try:
        record = json.loads((options.folder / "scaling.json").read_text())
        found = {name: table(record) for name, table in TABLES.items()}
        if document.exists():
            write_tables(document, found)
    except (OSError, ValueError) as error:
        return parser.fail(str(error))
    for name, content in found.items():
        print(f"{name}\n\n{content}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
