"""`python -m benchmarks.recipes`: train every recipe for the same processor time, and score them in the same way.

Write docs/recipes.md (a table), docs/recipes.svg (scores over time) and docs/recipes.json (all figures). The runs stay
in the run store. The same command resumes them, and a greater --cpu-minutes extends them.
"""

import argparse
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks import timed_runs
from models.command_line import Parser
from models.scores import SCORES
from trainer.metrics import EPOCH_COUNT, Reference
from trainer.recipes import RECIPES
from trainer.run_store import Run, open_store

NAMES = ("forge", "mlp-cgan", "conv-cgan", "onehot-cdcgan", "dcgan", "gan", "dropout-dcgan")
"""The recipes to compare. `quick` and `forge-best` are left out: they are `forge` at other lengths."""
MAX_POINTS = 12
"""Maximum number of checkpoints of a run that are scored for the chart."""
COUNT = 10_000
"""Number of digits scored for the table."""
COLORS = ("#d6336c", "#1c7ed6", "#0ca678", "#7048e8", "#f08c00", "#495057", "#a0522d")
COLUMNS = {
    "label_accuracy": "{:.1%}",
    "fid": "{:.2f}",
    "fid_ratio": "{:.1f}",
    "precision": "{:.3f}",
    "recall": "{:.3f}",
    "density": "{:.3f}",
    "coverage": "{:.3f}",
}
"""Score -> its format in the table."""
TITLES = {"fid_ratio": "FID / floor"} | {name: score.title for name, score in SCORES.items()}
UNCONDITIONAL = ("fid", "fid_ratio", "precision", "recall")
"""The scores that are reported for unconditional recipes."""


def measure(recipe: str, seed: int, run: Run, workers: int, cpu_minutes: float) -> dict[str, Any]:
    """Train one run for its time; return its scores: `curve` (2,000 digits per point) and `final` (10,000 digits)."""
    timed_runs.train(recipe, run, workers, cpu_minutes, [*timed_runs.KEEP_ALL, "--seed", str(seed)])
    checkpoints = timed_runs.within(run, cpu_minutes)
    curve = [timed_runs.score(checkpoint) for checkpoint in timed_runs.spread(checkpoints, MAX_POINTS)]
    last = checkpoints[-1]
    scores = timed_runs.evaluation(last, COUNT)
    final = {name: value for name, value in scores.generated.items() if isinstance(value, float)}
    floor = {name: value for name, value in scores.floor.items() if isinstance(value, float)}
    final["fid_ratio"] = final["fid"] / floor["fid"]
    if not RECIPES[recipe].config.model.num_classes:
        final = {name: final[name] for name in UNCONDITIONAL}
    times = {"seconds": last.manifest.seconds, "cpu_seconds": last.manifest.cpu_seconds}
    lengths = {"step": last.step, "total_steps": run.read_progress().total_steps, "nimg": last.nimg}
    return {"recipe": recipe, "seed": seed, **times, **lengths, "curve": curve, "final": final, "floor": floor}


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table with a row for each recipe: medians over its seeds, with the range for several seeds."""
    titles = ["recipe", "images", "CPU-seconds", *(TITLES[name] for name in COLUMNS)]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for recipe in dict.fromkeys(result["recipe"] for result in results):
        mine = [result for result in results if result["recipe"] == recipe]
        cells = [f"`{recipe}`", f"{statistics.median(result['nimg'] for result in mine):,.0f}"]
        cells.append(f"{statistics.median(result['cpu_seconds'] for result in mine):.0f}")
        for name, form in COLUMNS.items():
            cells.append(_cell([result["final"][name] for result in mine if name in result["final"]], form))
        lines.append(f"| {' | '.join(cells)} |")
    floor = results[0]["floor"] | {"fid_ratio": 1.0}
    cells = ["real digits (the floor)", "", "", *(form.format(floor[name]) for name, form in COLUMNS.items())]
    return "\n".join([*lines, f"| {' | '.join(cells)} |"])


def _cell(values: list[float], form: str) -> str:
    if not values:
        return "-"
    median = form.format(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({form.format(min(values))} to {form.format(max(values))})"


def chart(results: list[dict[str, Any]], floor: dict[str, float]) -> go.Figure:
    """Return a chart of label accuracy and FID of 2,000 digits over processor time, with a line for each run."""
    figure = make_subplots(1, 2, subplot_titles=("Label accuracy, %", "FID (log scale)"), horizontal_spacing=0.09)
    colors = dict(zip(dict.fromkeys(result["recipe"] for result in results), COLORS, strict=False))
    for result in results:
        seconds = [point["cpu_seconds"] for point in result["curve"]]
        style = {
            "name": result["recipe"],
            "legendgroup": result["recipe"],
            "mode": "lines+markers",
            "line": {"color": colors[result["recipe"]], "width": 3 if result["recipe"] == "forge" else 1.5},
        }
        is_first = result is next(other for other in results if other["recipe"] == result["recipe"])
        if RECIPES[result["recipe"]].config.model.num_classes:
            accuracy = [100 * point["label_accuracy"] for point in result["curve"]]
            figure.add_scatter(x=seconds, y=accuracy, showlegend=False, **style, row=1, col=1)
        fid = [point["fid"] for point in result["curve"]]
        figure.add_scatter(x=seconds, y=fid, showlegend=is_first, **style, row=1, col=2)
    for column, value in ((1, 100 * floor["label_accuracy"]), (2, floor["fid"])):
        figure.add_hline(y=value, line={"dash": "dash", "color": "#868e96"}, row=1, col=column)
    figure.update_xaxes(title_text="CPU-seconds of training", rangemode="tozero")
    figure.update_yaxes(range=[0, 102], row=1, col=1)
    figure.update_yaxes(type="log", dtick=1, row=1, col=2)
    figure.update_layout(
        template="plotly_white", width=1000, height=420, margin={"l": 50, "r": 20, "t": 40, "b": 50}, font={"size": 13}
    )
    return figure


def write(folder: Path, results: list[dict[str, Any]], options: argparse.Namespace, command: str) -> None:
    """Write the table, the chart and all figures."""
    reference = Reference.load()
    machine = timed_runs.machine()
    where = f"{machine['processor']}, {machine['cpus']} CPUs, PyTorch {machine['torch']}, {machine['date']}"
    text = f"""# Every recipe for the same processor time

`{command}` trained each recipe for {options.cpu_minutes:g} CPU-minutes, or for its own full length where that is
shorter, on {options.workers} workers. {where}.

{table(results)}

The table scores {COUNT:,} digits of the last checkpoint, with seeds 0 to {COUNT - 1}, without truncation. Scores and
floors are defined in `trainer/metrics.py`. Unconditional networks have no label accuracy. No learning-rate schedule was
adapted to this time: a longer recipe was stopped at its end.
Processor time is the time of all workers in the training loop. Scoring happens afterwards.

![Label accuracy and FID against processor time](recipes.svg)

Each point of the chart scores {EPOCH_COUNT:,} digits. For that many, the floor of FID (dashed) is higher: \
{reference.floor["fid"]:.2f}.
`recipes.json` has all figures.
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipes.md").write_text(text)
    chart(results, reference.floor).write_image(folder / "recipes.svg")
    record = {"command": command, "machine": machine, "reference_floor": reference.floor, "results": results}
    (folder / "recipes.json").write_text(json.dumps(record, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m benchmarks.recipes", description=__doc__.splitlines()[0])
    parser.add_argument("--cpu-minutes", type=float, default=5.0, help="processor time for each run (default: 5)")
    parser.add_argument("--recipes", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="default: 0")
    parser.add_argument("--workers", type=int, default=2, help="number of workers of a run (default: 2)")
    parser.add_argument(
        "--runs", default="runs/benchmarks", help="folder or URI of the run store (default: runs/benchmarks)"
    )
    parser.add_argument("--out", type=Path, default=timed_runs.ROOT / "docs", help="folder to write to (default: docs)")
    options = parser.parse_args(arguments)
    if options.cpu_minutes <= 0:
        parser.error(f"--cpu-minutes must be greater than 0: got {options.cpu_minutes:g}")
    store = open_store(options.runs)
    command = shlex.join(["python", "-m", "benchmarks.recipes", *arguments])
    results = []
    try:
        for recipe in options.recipes:
            for seed in options.seeds:
                run = store.run(f"{recipe}-{seed}")
                results.append(measure(recipe, seed, run, options.workers, options.cpu_minutes))
                write(options.out, results, options, command)  # after each run: a long benchmark may be interrupted
    except (RuntimeError, ValueError) as error:
        return parser.fail(str(error))
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
