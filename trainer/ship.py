"""`python -m trainer ship RUN`: copy a finished run into `pretrained/`, without the files that only a resume needs."""

import sys
from dataclasses import replace

from models.command_line import Parser
from trainer.run_store import GENERATOR_FILE, Curve, Run, RunStoreError, open_store

DIGITS = 4
"""Significant digits of a shipped curve. They suffice for a chart and need a quarter of the space."""


def ship(run: Run, target: Run) -> str:
    """Copy a run's record, epochs, and newest checkpoint with its scores; return the name of the checkpoint.

    The copied checkpoint has only the generator file, which is enough to show a run. Raises `RunStoreError` if the run
    has no checkpoint or the target exists.
    """
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        raise RunStoreError(f"{run.path}: has no checkpoint to ship; train it first")
    target.create(run.read_run())
    for epoch in run.epochs():
        target.write_samples(epoch, run.read_samples(epoch))
        if epoch:
            target.write_losses(epoch, _rounded(run.read_losses(epoch)))
        target.write_epoch_metrics(run.read_epoch_metrics(epoch))
    files = {GENERATOR_FILE: checkpoint.read(GENERATOR_FILE)}
    shipped = target.publish_checkpoint(replace(checkpoint.manifest, files={}), files)
    target.write_progress(run.read_progress())
    if evaluation := run.read_evaluation(checkpoint.step):
        target.write_evaluation(evaluation)
    return shipped.name


def _rounded(curve: Curve) -> Curve:
    return {
        name: [float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for value in values]
        for name, values in curve.items()
    }


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m trainer ship", description=__doc__)
    parser.add_argument("run", help="name of the run")
    parser.add_argument("--runs", default="runs", help="folder or URI that holds the run (default: runs)")
    parser.add_argument("--to", default="pretrained", help="folder or URI to copy it into (default: pretrained)")
    parser.add_argument("--name", help="name of the copy (default: the same)")
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
