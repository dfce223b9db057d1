"""The rounds of the game Real or fake?, in which a real and a generated picture stand side by side."""

from dataclasses import dataclass

import numpy as np

from models.sampling import MAX_SEED

ROUNDS = 10


@dataclass(frozen=True)
class Round:
    """The pictures of one round."""

    digit: int | None
    """Class of both pictures; None: the generator has no classes, and the real picture is of any class."""
    seed: int
    """Seed of the generated picture."""
    place: float
    """Place of the real picture among the N of the class, in [0, 1): it is number floor(place * N)."""
    side: int
    """Side of the real picture: 0 = left, 1 = right."""


def rounds(seed: int, num_classes: int) -> tuple[Round, ...]:
    """Return the `ROUNDS` rounds of a game, a function of its seed in [0, 2^32) and the number of classes alone.

    They come from `numpy.random.RandomState`, whose stream is frozen (NEP 19). The real picture is on each side equally
    often. No class comes again before all others have come. Raises `ValueError` for another seed.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be between 0 and {MAX_SEED}: got {seed}")
    random = np.random.RandomState(seed)
    sides = random.permutation([0, 1] * (ROUNDS // 2)).tolist()
    seeds = random.randint(0, MAX_SEED + 1, ROUNDS, dtype=np.int64).tolist()
    places = random.random_sample(ROUNDS).tolist()
    digits: list[int | None] = [] if num_classes else [None] * ROUNDS
    while len(digits) < ROUNDS:
        digits += random.permutation(num_classes).tolist()
    rows = zip(digits[:ROUNDS], seeds, places, sides, strict=True)
    return tuple(Round(digit, seed, place, side) for digit, seed, place, side in rows)
