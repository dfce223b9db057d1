"""`python -m trainer ship RUN`: copy a finished run into `pretrained/`, without what only a resume needs."""

import sys
from typing import Any

from models.command_line import Parser
from trainer.run_store import Run, RunStoreError, open_store
from trainer.state import GENERATOR_FILE, NETWORKS_FILE

DIGITS = 4
"""Significant digits of a shipped curve: enough for a chart, and a quarter of the size."""


def ship(run: Run, target: Run) -> str:
    """Copy a run's record, its epochs and its newest checkpoint, less the optimizers; the checkpoint's name.

    Raises `RunStoreError`, as for a target that exists: a shipped run is not overwritten.
    """
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        raise RunStoreError(f"{run.path}: has no checkpoint to ship; train it first")
    target.create({name: value for name, value in run.read_run().items() if name not in ("format", "name")})
    for epoch in run.epochs():
        target.write_samples(epoch, run.read_samples(epoch))
        if epoch:
            curve = run.read_losses(epoch)
            target.write_losses(epoch, {name: [_rounded(value) for value in values] for name, values in curve.items()})
        target.write_epoch_metrics(epoch, run.read_epoch_metrics(epoch))
    files = {name: checkpoint.read(name) for name in (GENERATOR_FILE, NETWORKS_FILE)}
    fields = {name: value for name, value in checkpoint.manifest.items() if name not in ("files", "format", "step")}
    shipped = target.publish_checkpoint(checkpoint.step, files, fields)
    target.write_progress(run.read_progress() or {})
    return shipped.name


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
