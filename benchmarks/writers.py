"""`python -m benchmarks.writers --generator FILE`: how well a generator writes in the hands that it is asked for.

A reader of writers, of the architecture of the digit reader, learns from five sixths of each writer's digits, in the
order of MNIST's training images, who wrote them. It then reads the others, which it has not seen, and generated digits
of the same writers and classes, picture k with seed k. Generated digits without a writer are the control.

It also compares how each writer's digits are written in the mean: slant and thickness as standard scores of their
class. R2 is that of the means of generated digits as predictions of those of the held-out real ones; beside it stands
R2 of the digits that the reader learned from, as predictions of the same means.
"""

import copy
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import sampling
from models.attributes import AttributeTable, measure
from models.command_line import Parser
from models.digit_reader import DigitReader, read_digits
from models.generator_file import LoadedGenerator, load_generator
from trainer.data import Writers, known_writers, load_dataset
from trainer.train_digit_reader import EPOCHS, train

LEARNED = (5, 6)
"""Share of each writer's digits that the reader learns from."""
NAMES = ("slant", "thickness")


def is_learned(writers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which images (N,) the reader learns from: the first five sixths of each writer's (N,), in order."""
    learned = np.zeros(len(writers), np.bool_)
    for writer in np.unique(writers):
        own = np.flatnonzero(writers == writer)
        learned[own[: len(own) * LEARNED[0] // LEARNED[1]]] = True
    return learned


def generated(loaded: LoadedGenerator, labels: NDArray[np.int64], numbers: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return pictures (N, H, W) of classes (N,) by writers (N,), by number, NaN = anyone; picture k has seed k."""
    seeds = range(len(labels))
    c = loaded.class_rows(labels.tolist(), seeds, asked=numbers[:, None])
    return sampling.draw(loaded.generator, sampling.latents(seeds, loaded.config), c)


def accuracy(reader: DigitReader, pictures: NDArray[np.uint8], writers: NDArray[np.int64]) -> float:
    """Return the share of pictures that are read as by their writer."""
    _, logits = read_digits(reader, pictures)
    return float((logits.argmax(1) == torch.from_numpy(writers)).double().mean())


def means(scores: NDArray[np.float64], writers: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean (W, A) of scores (N, A) over the images of each writer in `known` (W,)."""
    return np.stack([scores[writers == writer].mean(0) for writer in known])


def r2(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R2 (A,) of predictions (W, A)."""
    residuals, spread = ((found - wanted) ** 2).sum(0), ((wanted - wanted.mean(0)) ** 2).sum(0)
    return np.asarray(1 - residuals / spread)


def report(loaded: LoadedGenerator, epochs: int, limit: int) -> None:
    """Train the reader and print all numbers, with the first `limit` images of MNIST; 0 = all."""
    dataset = load_dataset().head(limit)
    who: Writers = known_writers(dataset, loaded.config.writers)
    if loaded.writers != who.numbers:
        raise ValueError("this generator knows other writers than data/writers")
    images, labels, writers = dataset.images[:, 0], dataset.labels, who.indices[: len(dataset.labels)]
    learned = is_learned(writers)
    held, count = ~learned, len(who.numbers)
    numbers = np.array(who.numbers, np.float64)[writers[held]]
    # In float32, as in `trainer.evaluate`: a pixel in 100,000 that is one grey level lighter changes no result.
    fast = dataclasses.replace(loaded, generator=copy.deepcopy(loaded.generator).float())
    written, control = (generated(fast, labels[held], asked) for asked in (numbers, np.full(len(numbers), np.nan)))

    started = time.monotonic()
    inputs = torch.tensor(images[learned])[:, None], torch.from_numpy(writers[learned])
    reader = train(*inputs, epochs, seed=0, title="reader of writers", num_classes=count)
    print(f"A reader of {count} writers learned from {learned.sum():,} digits in {time.monotonic() - started:.0f} s.")
    real, drawn, anyone = (accuracy(reader, each, writers[held]) for each in (images[held], written, control))
    print(f"Read as by their writer, of {held.sum():,} digits:")
    print(f"  real, held out             {real:.2%}")
    print(f"  generated, by that writer  {drawn:.2%}  ({drawn / real:.2f} of real)" if real else "")
    print(f"  generated, by anyone       {anyone:.2%}")

    values = measure(images, NAMES)
    table = AttributeTable.fit(NAMES, values, labels, loaded.config.num_classes)
    scores = table.to_scores(values, labels)
    known = np.intersect1d(writers[learned], writers[held])
    wanted = means(scores[held], writers[held], known)
    others = means(scores[learned], writers[learned], known)
    found = means(table.to_scores(measure(written, NAMES), labels[held]), writers[held], known)
    print(f"R2 over {len(known)} writers of their means on held-out real digits:")
    for k, name in enumerate(NAMES):
        print(f"  {name:10} generated {r2(found, wanted)[k]:.3f}, their other real digits {r2(others, wanted)[k]:.3f}")


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="python -m benchmarks.writers", description="How well a generator writes in chosen hands.")
    parser.add_argument("--generator", type=Path, required=True, metavar="FILE", help="a generator with writers")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of the reader of writers (default: {EPOCHS})")
    parser.add_argument("--limit-images", type=int, default=0, help="use the first images of MNIST only (default: all)")
    options = parser.parse_args(arguments)
    try:
        loaded = load_generator(options.generator)
        if not loaded.writers:
            raise ValueError(f"{options.generator}: this generator knows no writers")
        report(loaded, options.epochs, options.limit_images)
    except ValueError as error:
        return parser.fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
