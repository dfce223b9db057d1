"""Pull the plug: the same training twice, one of them undisturbed, and how much their curves and weights differ.

Both runs have the same config, seed and number of workers. A worker of the second one is killed while it trains, so it
goes back to its last checkpoint and does some steps again. If it resumes exactly, nothing differs.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.run_store import NETWORKS_FILE, Curve, Run
from webapp.trainings import Launch

RECIPE = "quick"
OPTIONS = (
    *("--limit-images", "6000", "--epochs", "8", "--steps-per-epoch", "50", "--checkpoint-every", "20"),
    *("--metrics-every", "0", "--model.g-widths", "16", "8", "--model.d-widths", "8", "16", "16"),
)
"""A short training of small networks: about 20 s on two free cores, long enough to pull the plug."""
UNDISTURBED = "-undisturbed"
NAME = re.compile(rf"plug-([1-9][0-9]{{0,6}})(?:{UNDISTURBED})?")
NOT_COMPARED = ("step", "images_per_second")
"""Columns of a curve that are not results."""


def launches(number: int) -> tuple[Launch, Launch]:
    """Return the undisturbed training, and the one that is struck."""
    struck = f"plug-{number}"
    return Launch(RECIPE, struck + UNDISTURBED, options=OPTIONS), Launch(RECIPE, struck, options=OPTIONS)


def newest(names: Iterable[str]) -> int:
    """Return the highest number in these names of runs; 0 if none belongs to a demonstration."""
    return max((int(match[1]) for match in map(NAME.fullmatch, names) if match), default=0)


@dataclass(frozen=True)
class Comparison:
    """The steps that two runs have in common, and the largest difference of any number of their curves."""

    steps: int
    columns: int
    largest: float


def compare(undisturbed: Sequence[Curve], struck: Sequence[Curve]) -> Comparison:
    """Compare the curves of two runs step by step, in all columns but the speed. A missing value equals another."""
    from webapp.charts import joined  # late: Plotly is large

    names = sorted({name for curve in undisturbed for name in curve} - set(NOT_COMPARED))
    one, other = joined(undisturbed, ["step", *names]), joined(struck, ["step", *names])
    steps, first, second = np.intersect1d(one["step"], other["step"], return_indices=True)
    largest = 0.0
    for name in names if len(steps) else ():
        a, b = one[name][first], other[name][second]
        difference = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    return Comparison(len(steps), len(names), largest)


def same_weights(undisturbed: Run, struck: Run) -> bool | None:
    """Return whether both runs end with the same file of weights, to the last bit; None if one has not ended."""
    runs = (undisturbed, struck)
    if any(run.read_progress().phase != "finished" for run in runs):
        return None
    ends = [run.latest_checkpoint(verify=False) for run in runs]
    one, other = [(end.step, end.manifest.files.get(NETWORKS_FILE)) if end else (0, None) for end in ends]
    return one == other if one[1] and other[1] else None
