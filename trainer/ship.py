"""`python -m trainer ship RUN`: copy a finished run into `pretrained/`, without what only a resume needs."""

import sys
from typing import Any

from models.command_line import Parser
from trainer.run_store import Checkpoint, Run, RunStoreError, open_store
from trainer.state import GENERATOR_FILE

DIGITS = 4
"""Significant digits of a shipped curve: enough for a chart, and a quarter of the size."""


def ship(run: Run, target: Run) -> str:
    """Copy a run's record, its epochs and its newest checkpoint, with its scores; the checkpoint's name.

    Of the checkpoint's files the generator's goes along, which is all that shows a run; a resume needs the others.
    run.json says under `trained` how far it came. Raises `RunStoreError`, as for a target that exists: what is shipped
    is not overwritten.
    """
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        raise RunStoreError(f"{run.path}: has no checkpoint to ship; train it first")
    record = {name: value for name, value in run.read_run().items() if name not in ("format", "name")}
    target.create(record | {"trained": trained(checkpoint, record["total_steps"])})
    for epoch in run.epochs():
        target.write_samples(epoch, run.read_samples(epoch))
        if epoch:
            curve = run.read_losses(epoch)
            target.write_losses(epoch, {name: [_rounded(value) for value in values] for name, values in curve.items()})
        target.write_epoch_metrics(epoch, run.read_epoch_metrics(epoch))
    files = {GENERATOR_FILE: checkpoint.read(GENERATOR_FILE)}
    fields = {name: value for name, value in checkpoint.manifest.items() if name not in ("files", "format", "step")}
    shipped = target.publish_checkpoint(checkpoint.step, files, fields)
    target.write_progress(run.read_progress() or {})
    if scores := run.read_evaluation(checkpoint.step):
        target.write_evaluation(checkpoint.step, scores)
    return shipped.name


def trained(checkpoint: Checkpoint, total_steps: int) -> dict[str, Any]:
    """How far a checkpoint came: its steps, of how many, and the processor time of all workers in CPU-minutes."""
    minutes = round(checkpoint.manifest["cpu_seconds"] / 60, 1) if "cpu_seconds" in checkpoint.manifest else None
    length = "its own full length" if checkpoint.step >= total_steps else "stopped before its own full length"
    return {"length": length, "steps": checkpoint.step, "total_steps": total_steps, "cpu_minutes": minutes}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main(arguments: list[str]) -> int:
    """Run the command; the process's exit status."""
    parser = Parser(prog="python -m trainer ship", description=__doc__)
    parser.add_argument("run", help="name of the run")
    parser.add_argument("--runs", default="runs", help="folder or URI in which it is (default: runs)")
    parser.add_argument("--to", default="pretrained", help="folder or URI to copy it into (default: pretrained)")
    parser.add_argument("--name", help="its name there (default: the same)")
    options = parser.parse_args(arguments)
    try:
        run = open_store(options.runs).run(options.run)
        target = open_store(options.to).run(options.name or options.run)
        checkpoint = ship(run, target)
    except RunStoreError as error:
        print(f"trainer ship: {error}", file=sys.stderr)
        return 2
    print(f"Shipped {run.path} as {target.path}. Generator file: {target.path}/{checkpoint}/{GENERATOR_FILE}")
    return 0
