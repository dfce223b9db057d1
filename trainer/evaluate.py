"""`python -m trainer evaluate RUN`: the scores of a checkpoint's generator, beside the scores of real digits."""

import copy
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models import sampling
from models.command_line import Parser
from models.digit_reader import SHA256, read_digits
from models.generator_file import LoadedGenerator, load_generator, read_generator
from models.scores import SCORES
from trainer.data import ROOT
from trainer.metrics import TWO_SAMPLE_COUNT, Judge, channels_first, frequent_labels, uniform_labels
from trainer.readers import is_of, reader_for, why_unreadable
from trainer.run_store import GENERATOR_FILE, Checkpoint, Evaluation, Run, RunStoreError, open_store
from trainer.train_digit_reader import train

MAX_COUNT = 10_000
"""Number of pictures that are scored, if there are as many test images."""
GAN_TRAIN_EPOCHS = 4
"""Passes over 60,000 pictures: about two CPU-minutes for each of the two classifiers."""


def evaluate(loaded: LoadedGenerator, judge: Judge, count: int, seed: int, full: bool = False) -> dict[str, Any]:
    """Return the scores of `count` pictures with seeds seed, seed + 1, ... (`generated`) and of real ones (`floor`).

    Label accuracy is measured on pictures of all digits equally often, the other scores on digits as frequent as among
    the training images. `full` adds the two-sample test, and GAN-train for a generator with classes. Raise
    `ValueError` for a generator or a count that cannot be judged.
    """
    config = loaded.config
    if not is_of(judge.data_sha256, loaded.provenance.get("data")):
        raise ValueError("this generator was trained on other data than those of the judge")
    if reason := why_unreadable(judge.reader, config):
        raise ValueError(reason)
    if not 0 <= seed <= sampling.MAX_SEED - (len(judge.training_labels) + TWO_SAMPLE_COUNT if full else count) + 1:
        raise ValueError(f"--seed and the seeds after it must be in 0..{sampling.MAX_SEED}: got {seed}")
    floor = judge.floor(count)
    # In float32, which is three times as fast: a pixel in 100,000 that is one grey level lighter changes no score.
    loaded = dataclasses.replace(loaded, generator=copy.deepcopy(loaded.generator).float())
    seeds = range(seed, seed + count)
    z = sampling.latents(seeds, config)
    labels = frequent_labels(count, judge.class_shares)
    reading = judge.read(sampling.draw(loaded.generator, z, loaded.class_rows(labels, seeds)))
    generated = judge.score(reading, torch.tensor(labels) if config.num_classes else None)
    if config.num_classes:
        labels = uniform_labels(count, config.num_classes)
        reading = judge.read(sampling.draw(loaded.generator, z, loaded.class_rows(labels, seeds)))
        generated = judge.score_labels(reading, torch.tensor(labels)) | generated
        floor = judge.floor_labels(count) | floor
    if full and (pictures := two_sample_count(judge)):
        generated |= two_sample(loaded, judge, pictures, seed)
        floor |= judge.two_sample_floor(pictures)
    if full and config.num_classes:
        generated["gan_train"], floor["gan_train"] = gan_train(loaded, judge, seed, GAN_TRAIN_EPOCHS)
    return {"generated": generated, "floor": floor}


def two_sample_count(judge: Judge) -> int:
    """Return the number of pictures in the two-sample test.

    It is smaller for data with a rare class, whose real images must suffice for two samples; 0 if they do not.
    """
    classes = judge.reader.num_classes
    rarest = int(torch.bincount(judge.training_labels, minlength=classes).min())
    return min(TWO_SAMPLE_COUNT, classes * (rarest // 2))


def two_sample(loaded: LoadedGenerator, judge: Judge, count: int, seed: int) -> dict[str, float]:
    """Return the two-sample test of a generator at each noise: see `Judge.two_sample`.

    The digits are all equally often asked for. Their seeds come after those of GAN-train, so that no other score has
    seen the pictures.
    """
    config = loaded.config
    labels = uniform_labels(count, judge.reader.num_classes)
    first = seed + len(judge.training_labels)
    seeds = range(first, first + len(labels))
    z = sampling.latents(seeds, config)
    pictures = torch.from_numpy(sampling.draw(loaded.generator, z, loaded.class_rows(labels, seeds)))
    return judge.two_sample(pictures, torch.tensor(labels) if config.num_classes else None)


def gan_train(loaded: LoadedGenerator, judge: Judge, seed: int, epochs: int) -> tuple[float, float]:
    """Return the accuracy on real test digits of a classifier trained on generated digits, and of one on real digits.

    Picture i has seed `seed` + i and the class of training image i, so both classifiers start from the same weights and
    see the same classes in the same order. No image is augmented: that could add variety that the generator lacks.
    Source: Ravuri and Vinyals 2019 (arXiv 1905.10887); the name is from Shmelkov et al. 2018 (arXiv 1807.09499).
    """
    labels, config = judge.training_labels, loaded.config
    seeds = range(seed, seed + len(labels))
    c = loaded.class_rows(labels.tolist(), seeds)
    generated = torch.from_numpy(sampling.draw(loaded.generator, sampling.latents(seeds, config), c))
    classes = judge.reader.num_classes
    accuracies = []
    for kind, pictures in (("generated", generated), ("real", judge.training.pictures)):
        title = f"GAN-train on {kind} digits"
        reader = train(
            channels_first(pictures), labels, epochs, seed=0, augmented=False, title=title, num_classes=classes
        )
        _, logits = read_digits(reader, judge.test.pictures)
        accuracies.append((logits.argmax(1) == judge.test_labels).double().mean().item())
    return accuracies[0], accuracies[1]


def table(fields: dict[str, Any], class_names: Sequence[str] = ()) -> str:
    """Return the scores of `evaluate` as text: a line for each score, and for the label accuracy of each class."""
    generated, floor = fields["generated"], fields["floor"]
    lines = [f"{'':40}{'generated':>12}{'floor (real)':>14}"]
    for name, score in SCORES.items():
        if name in generated:
            lines.append(f"{score.title:40}{score.show(generated[name]):>12}{score.show(floor[name]):>14}")
    shares = (generated.get("label_accuracy_per_digit", []), floor.get("label_accuracy_per_digit", []))
    for digit, (share, floor_share) in enumerate(zip(*shares, strict=True)):
        name = class_names[digit] if class_names else str(digit)
        lines.append(f"{f'  read as asked: {name}':40}{share:>12.2%}{floor_share:>14.2%}")
    return "\n".join(lines)


def find_checkpoint(run: Run, step: int | None) -> Checkpoint:
    """Return the checkpoint of a step, or the newest intact one for None; `ValueError` if there is none."""
    if not run.exists():
        names = ", ".join(other.name for other in run.store.list_runs()) or "none"
        raise ValueError(f"{run.store.root} has no run {run.name!r}; it has: {names}")
    checkpoint = run.latest_checkpoint() if step is None else run.checkpoint(step)
    if checkpoint is None:
        steps = ", ".join(str(other.step) for other in run.checkpoints()) or "none"
        which = "intact checkpoint" if step is None else f"checkpoint of step {step}"
        raise ValueError(f"run {run.name} has no {which}; listed are: {steps}")
    return checkpoint


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m trainer evaluate", description="Score a generator, and real digits for comparison.")
    parser.add_argument("run", nargs="?", metavar="RUN", help="name of the run; the scores are saved in its folder")
    parser.add_argument("--runs", default="runs", help="folder or URI of the run store (default: runs)")
    parser.add_argument(
        "--checkpoint", type=int, metavar="STEP", help="step of the checkpoint (default: the newest intact one)"
    )
    parser.add_argument("--generator", type=Path, metavar="FILE", help="a generator file, instead of a run")
    parser.add_argument(
        "--dataset", type=Path, metavar="FOLDER", help="the data (default: where the run was trained, or in data/)"
    )
    parser.add_argument(
        "--count",
        type=int,
        help=f"number of pictures to draw (default: {MAX_COUNT}; at most, and by default in smaller datasets, the "
        "number of test images)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first picture; picture k has seed + k (default: 0)"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="add the two-sample test and GAN-train, which take about 50 and 4 more CPU-minutes, with progress",
    )
    options = parser.parse_args(arguments)
    started = time.monotonic()
    checkpoint, folder = None, options.dataset
    try:
        if (options.run is None) == (options.generator is None):
            raise ValueError("name either a run or a --generator file")
        if options.generator:
            loaded, title = load_generator(options.generator), str(options.generator)
        else:
            checkpoint = find_checkpoint(open_store(options.runs).run(options.run), options.checkpoint)
            title = f"{checkpoint.run.name}, {checkpoint.name}"
            loaded = read_generator(checkpoint.read(GENERATOR_FILE), f"{title}, {GENERATOR_FILE}")
            folder = folder or ROOT / checkpoint.run.read_run().config.get("dataset", "")
        reader = reader_for(loaded.config, loaded.provenance.get("data"), folder)
        judge = reader.judge(folder)
        count = min(MAX_COUNT, len(judge.test_labels)) if options.count is None else options.count
        fields = evaluate(loaded, judge, count, options.seed, options.full)
    except ValueError as error:
        return parser.fail(str(error))
    last, noun = options.seed + count - 1, "digits" if reader.sha256 == SHA256 else "pictures"
    print(f"{title}: {count} {noun}, seeds {options.seed} to {last}, read by {reader.sha256[:12]}")
    print(table(fields, loaded.class_names))
    print(f"Took {time.monotonic() - started:.0f} s")
    if checkpoint:
        evaluation = Evaluation(
            step=checkpoint.step,
            epoch=checkpoint.epoch,
            nimg=checkpoint.nimg,
            count=count,
            seed=options.seed,
            reader_sha256=reader.sha256,
            time=time.time(),
            **fields,
        )
        try:
            checkpoint.run.write_evaluation(evaluation)
        except RunStoreError as error:  # a read-only store: the scores are printed all the same
            print(f"trainer evaluate: the scores could not be saved: {error}", file=sys.stderr)
    return 0
