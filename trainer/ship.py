"""`python -m trainer ship RUN`: copy a finished run into `pretrained/`, without the files that only a resume needs.

The reader of its data goes with it, unless they are MNIST.
"""

import sys
from dataclasses import replace

import safetensors.torch

from models.command_line import Parser
from models.digit_reader import SHA256
from trainer.data import ROOT
from trainer.readers import find_reader
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, READER_FILE, Curve, Run, RunStoreError, open_store

DIGITS = 4
"""Significant digits of a shipped curve. They suffice for a chart and need a quarter of the space."""


def ship(
    run: Run, target: Run, replaces: bool = False, keep_generators: int = 0, with_discriminator: bool = False
) -> str:
    """Copy a run's record, epochs, newest checkpoint with its scores, and reader; return the name of the checkpoint.

    The generators of the newest `keep_generators` epochs are copied, or of all epochs for 0. The copied checkpoint has
    the generator file, which is enough to show a run, and `with_discriminator` the weights of D. With `replaces`, the
    copy replaces an existing target, whose generators are archived, so that links to them remain valid. Raises
    `RunStoreError` if the run has no checkpoint, or if the target exists and `replaces` is False, `ValueError` if its
    reader is damaged.
    """
    checkpoint, record = run.latest_checkpoint(), run.read_run() if run.exists() else None
    if checkpoint is None or record is None:
        raise RunStoreError(f"{run.path}: has no checkpoint to ship; train it first")
    if run == target:
        raise RunStoreError(f"{run.path}: cannot be shipped onto itself; choose another --name or --to")
    reader = find_reader(record.data, ROOT / record.config.get("dataset", ""))
    if target.exists():
        if not replaces:
            raise RunStoreError(f"{target.path}: this run exists; choose another --name, or add --replace")
        target.retire()
    target.create(record)
    if reader and reader.sha256 != SHA256:
        target.write_reader((reader.folder / READER_FILE).read_bytes())
    epochs = run.epochs()
    for epoch in epochs:
        summary = run.read_epoch_metrics(epoch)
        target.write_samples(epoch, run.read_samples(epoch))
        if epoch:
            target.write_losses(epoch, _rounded(run.read_losses(epoch)))
        if epoch in epochs[-keep_generators:] and (content := run.read_epoch_generator(epoch)):
            target.write_generator(epoch, content)
        target.write_epoch_metrics(summary)
    files = {GENERATOR_FILE: checkpoint.read(GENERATOR_FILE)}
    if with_discriminator:
        networks = safetensors.torch.load(checkpoint.read(NETWORKS_FILE))
        files[NETWORKS_FILE] = safetensors.torch.save({name: networks[name] for name in networks if name[:2] == "D."})
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
    parser.add_argument("--replace", action="store_true", help="replace the copy if it exists; its generators stay")
    parser.add_argument(
        "--keep-generators",
        type=int,
        default=0,
        metavar="N",
        help="copy the generators of the newest N epochs only (default: of all)",
    )
    parser.add_argument(
        "--discriminator",
        action="store_true",
        help="copy the discriminator of the newest checkpoint, which the app asks about single pictures",
    )
    options = parser.parse_args(arguments)
    if options.keep_generators < 0:
        return parser.fail(f"--keep-generators must be at least 0: got {options.keep_generators}")
    try:
        run = open_store(options.runs).run(options.run)
        target = open_store(options.to).run(options.name or options.run)
        checkpoint = ship(run, target, options.replace, options.keep_generators, options.discriminator)
    except ValueError as error:
        print(f"trainer ship: {error}", file=sys.stderr)
        return 2
    print(f"Shipped {run.path} as {target.path}. Generator file: {target.path}/{checkpoint}/{GENERATOR_FILE}")
    return 0
