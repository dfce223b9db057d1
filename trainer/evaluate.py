"""`python -m trainer evaluate RUN`: what a checkpoint's generator scores, beside what real digits score."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models import sampling
from models.command_line import Parser
from models.digit_reader import IMG_SIZE, NUM_CLASSES, SHA256, read_digits
from models.generator_file import LoadedGenerator, load_generator, read_generator
from models.scores import SCORES
from trainer import data
from trainer.metrics import Judge, frequent_labels, mnist_judge, uniform_labels
from trainer.run_store import GENERATOR_FILE, Checkpoint, Evaluation, Run, RunStoreError, open_store
from trainer.train_digit_reader import train

GAN_TRAIN_EPOCHS = 4
"""Passes over 60,000 pictures, about two CPU-minutes for each of the two classifiers."""


def evaluate(loaded: LoadedGenerator, judge: Judge, count: int, seed: int, full: bool = False) -> dict[str, Any]:
    """Scores of `count` pictures with seeds seed, seed + 1, ... (`generated`), and of as many real ones (`floor`).

    Once with all digits equally often, for label accuracy, and once as often as among the training images, for all
    else; `full` adds GAN-train. Raises `ValueError` for a generator or a count that the judge cannot compare.
    """
    config = loaded.config
    if config.image_shape != (1, IMG_SIZE, IMG_SIZE) or config.num_classes not in (0, NUM_CLASSES):
        raise ValueError(
            f"the digit reader reads the {NUM_CLASSES} digits at 1x{IMG_SIZE}x{IMG_SIZE}: this generator draws "
            f"{config.num_classes} classes at {'x'.join(map(str, config.image_shape))}"
        )
    if is_other_data(loaded.provenance.get("data")):
        raise ValueError("this generator was trained on other data than MNIST, which the digit reader cannot read")
    if full and not config.num_classes:
        raise ValueError("--full trains a classifier on generated digits, so it needs a generator with classes")
    if not 0 <= seed <= sampling.MAX_SEED - max(count, len(judge.training_labels) if full else 0) + 1:
        raise ValueError(f"--seed and the seeds after it must be in 0..{sampling.MAX_SEED}: got {seed}")
    floor = judge.floor(count)
    z = sampling.latents(range(seed, seed + count), config)
    labels = frequent_labels(count, judge.class_shares)
    reading = judge.look(sampling.draw(loaded.generator, z, sampling.one_hot(labels, config.num_classes)))
    if not config.num_classes:
        return {"generated": judge.score(reading), "floor": floor}
    generated = judge.score(reading, torch.tensor(labels))
    labels = uniform_labels(count)
    reading = judge.look(sampling.draw(loaded.generator, z, sampling.one_hot(labels, config.num_classes)))
    generated = judge.score_labels(reading, torch.tensor(labels)) | generated
    floor = judge.floor_labels(count) | floor
    if full:
        generated["gan_train"], floor["gan_train"] = gan_train(loaded, judge, seed, GAN_TRAIN_EPOCHS)
    return {"generated": generated, "floor": floor}


def gan_train(loaded: LoadedGenerator, judge: Judge, seed: int, epochs: int) -> tuple[float, float]:
    """How well a classifier reads the real test digits that saw generated ones only, and one that saw real ones.

    Picture i has seed `seed` + i and the class of training image i: both classifiers start from the same weights and
    see the same classes in the same order. Nothing is augmented, which would add what the generator may lack. (Ravuri
    and Vinyals 2019, arXiv 1905.10887; the name is of Shmelkov et al. 2018, arXiv 1807.09499.)
    """
    labels, config = judge.training_labels, loaded.config
    seeds = range(seed, seed + len(labels))
    c = sampling.one_hot(labels.tolist(), config.num_classes)
    generated = torch.from_numpy(sampling.draw(loaded.generator, sampling.latents(seeds, config), c))
    accuracies = []
    for kind, pictures in (("generated", generated), ("real", judge.training.pictures)):
        title = f"GAN-train on {kind} digits"
        reader = train(pictures[:, None], labels, epochs, seed=0, augmented=False, title=title)
        _, logits = read_digits(reader, judge.test.pictures)
        accuracies.append((logits.argmax(1) == judge.test_labels).double().mean().item())
    return accuracies[0], accuracies[1]


def is_other_data(sha256: Mapping[str, str] | None) -> bool:
    """Whether a run's or a generator file's record of its data names any other file than MNIST's; None = no record."""
    return any(data.MNIST_SHA256.get(name) != value for name, value in (sha256 or {}).items())


def table(fields: dict[str, Any]) -> str:
    """The scores of `evaluate`, a line each, and the label accuracy of each digit."""
    generated, floor = fields["generated"], fields["floor"]
    lines = [f"{'':40}{'generated':>12}{'floor (real)':>14}"]
    for name, score in SCORES.items():
        if name in generated:
            lines.append(f"{score.title:40}{score.show(generated[name]):>12}{score.show(floor[name]):>14}")
    shares = (generated.get("label_accuracy_per_digit", []), floor.get("label_accuracy_per_digit", []))
    for digit, (share, floor_share) in enumerate(zip(*shares, strict=True)):
        lines.append(f"{f'  read as asked: {digit}':40}{share:>12.2%}{floor_share:>14.2%}")
    return "\n".join(lines)


def find_checkpoint(run: Run, step: int | None) -> Checkpoint:
    """The checkpoint of a step, or the newest one that verifies; `ValueError` if there is none."""
    if not run.exists():
        names = ", ".join(other.name for other in run.store.list_runs()) or "none"
        raise ValueError(f"{run.store.root} has no run {run.name!r}; it has: {names}")
    if is_other_data(run.read_run().data):
        raise ValueError(f"run {run.name} was trained on other data than MNIST, which the digit reader cannot read")
    checkpoint = run.latest_checkpoint() if step is None else run.checkpoint(step)
    if checkpoint is None:
        steps = ", ".join(str(other.step) for other in run.checkpoints()) or "none"
        which = "intact checkpoint" if step is None else f"checkpoint of step {step}"
        raise ValueError(f"run {run.name} has no {which}; listed are: {steps}")
    return checkpoint


def main(arguments: list[str]) -> int:
    """Run the command; the process's exit status."""
    parser = Parser(prog="python -m trainer evaluate", description="Score a generator beside real digits.")
    parser.add_argument("run", nargs="?", metavar="RUN", help="name of the run; the scores are written beside it")
    parser.add_argument("--runs", default="runs", help="folder, or URI, in which runs are kept (default: runs)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="default: the newest one that verifies")
    parser.add_argument("--generator", type=Path, metavar="FILE", help="a generator file, in place of a run")
    parser.add_argument("--count", type=int, default=10_000, help="digits to draw (default and most: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first digit; digit k has seed + k (default: 0)")
    parser.add_argument("--full", action="store_true", help="add GAN-train, which takes about four CPU-minutes more")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    checkpoint = None
    try:
        if (options.run is None) == (options.generator is None):
            raise ValueError("name either a run or a --generator file")
        if options.generator:
            loaded, title = load_generator(options.generator), str(options.generator)
        else:
            checkpoint = find_checkpoint(open_store(options.runs).run(options.run), options.checkpoint)
            title = f"{checkpoint.run.name}, {checkpoint.name}"
            loaded = read_generator(checkpoint.read(GENERATOR_FILE), f"{title}, {GENERATOR_FILE}")
        fields = evaluate(loaded, mnist_judge(), options.count, options.seed, options.full)
    except ValueError as error:
        print(f"trainer evaluate: {error}", file=sys.stderr)
        return 2
    last = options.seed + options.count - 1
    print(f"{title}: {options.count} digits, seeds {options.seed} to {last}, read by {SHA256[:12]}")
    print(table(fields))
    print(f"Took {time.monotonic() - started:.0f} s")
    if checkpoint:
        evaluation = Evaluation(
            step=checkpoint.step,
            epoch=checkpoint.epoch,
            nimg=checkpoint.nimg,
            count=options.count,
            seed=options.seed,
            reader_sha256=SHA256,
            time=time.time(),
            **fields,
        )
        try:
            checkpoint.run.write_evaluation(evaluation)
        except RunStoreError as error:  # a store to look at only: the scores are what was asked for
            print(f"trainer evaluate: not kept: {error}", file=sys.stderr)
    return 0
