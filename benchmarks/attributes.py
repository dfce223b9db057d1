"""`python -m benchmarks.attributes --generator FILE`: how well a generator draws slant, thickness and width as asked.

It draws a picture for each real test digit, of its class and with its attributes; picture k has seed k. R2 is that of
the attributes measured in these pictures, as predictions of those of the real digits. The pictures are drawn again with
one attribute moved by one standard unit of the class and the others kept, which shows how far each of them moves in the
mean. Last, only one attribute is asked for, two units from the median, and the others follow from the seed: are the
digits still read as asked?
"""

import copy
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.writers import r2
from models import sampling
from models.attributes import AttributeTable, measure
from models.command_line import Parser
from models.digit_reader import load_digit_reader, read_digits
from models.generator_file import LoadedGenerator, load_generator
from trainer.data import MNIST, MNIST_SHA256, load_dataset
from trainer.readers import is_of

Floats = NDArray[np.float64]


def drawn(
    loaded: LoadedGenerator, table: AttributeTable, labels: NDArray[np.int64], scores: Floats
) -> NDArray[np.uint8]:
    """Return pictures (N, H, W) of classes (N,) with attributes of these scores (N, A); picture k has seed k."""
    seeds = range(len(labels))
    c = loaded.class_rows(labels.tolist(), seeds, asked=table.to_values(scores, labels))
    return sampling.draw(loaded.generator, sampling.latents(seeds, loaded.config), c)


def moved(scores: Floats, column: int, units: float) -> Floats:
    """Return scores (N, A) with those of one attribute moved."""
    step = np.zeros(scores.shape[1])
    step[column] = units
    return scores + step


def report(loaded: LoadedGenerator, table: AttributeTable, limit: int) -> None:
    """Print all numbers, for the first `limit` test digits of MNIST; 0 = all."""
    dataset, reader = load_dataset(MNIST, "t10k").head(limit), load_digit_reader()
    labels, wanted = dataset.labels, measure(dataset.images[:, 0], table.names)
    # In float32, as in `trainer.evaluate`: a pixel in 100,000 that is one grey level lighter changes no result.
    fast = dataclasses.replace(loaded, generator=copy.deepcopy(loaded.generator).float())
    scores = table.to_scores(wanted, labels)

    def accuracy(pictures: NDArray[np.uint8]) -> float:
        _, logits = read_digits(reader, pictures)
        return float((logits.argmax(1) == torch.from_numpy(labels)).double().mean())

    pictures = drawn(fast, table, labels, scores)
    found = measure(pictures, table.names)
    print(f"Asked for the attributes of {len(labels):,} real test digits: {accuracy(pictures):.2%} are read as asked.")
    print("R2 of the measured attributes:")
    for name, value in zip(table.names, r2(found, wanted), strict=True):
        print(f"  {name:10} {value:.3f}")

    print("One attribute moved by 1 unit. Mean change of what is measured, in units:")
    before = table.to_scores(found, labels)
    for column, name in enumerate(table.names):
        pictures = drawn(fast, table, labels, moved(scores, column, 1.0))
        change = (table.to_scores(measure(pictures, table.names), labels) - before).mean(0)
        print(f"  {name:10} " + ", ".join(f"{other} {by:+.2f}" for other, by in zip(table.names, change, strict=True)))

    print("Only one attribute asked for, 2 units from the median of the class; read as asked:")
    for column, name in enumerate(table.names):
        shares = []
        for units in (-2.0, 2.0):
            extreme = np.full(scores.shape, np.nan)
            extreme[:, column] = units
            shares.append(f"{units:+.0f} {accuracy(drawn(fast, table, labels, extreme)):.2%}")
        print(f"  {name:10} {', '.join(shares)}")


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="python -m benchmarks.attributes", description="How well a generator draws as asked.")
    parser.add_argument("--generator", type=Path, required=True, metavar="FILE", help="a generator with attributes")
    parser.add_argument("--limit-images", type=int, default=0, help="use the first test digits only (default: all)")
    options = parser.parse_args(arguments)
    try:
        loaded = load_generator(options.generator)
        if not loaded.table:
            raise ValueError(f"{options.generator}: this generator has no attributes")
        if not is_of(MNIST_SHA256, loaded.provenance.get("data")):
            raise ValueError(f"{options.generator}: this generator was trained on other data than MNIST")
        report(loaded, loaded.table, options.limit_images)
    except ValueError as error:
        return parser.fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
