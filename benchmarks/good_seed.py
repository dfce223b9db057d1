"""`python -m benchmarks.good_seed`: find the seed with which the Explore page starts.

The digit reader reads `COUNT` pictures of each digit from each seed on. The best seed is the one whose most doubtful
picture is read as its digit with the highest probability; a short one among the best is easier to remember.
"""

import numpy as np
import torch

from benchmarks.timed_runs import ROOT
from models.digit_reader import NUM_CLASSES, load_digit_reader, read_digits
from models.generator_file import load_generator
from models.pictures import frames
from models.views import MAX_COUNT, GenerateView

SEEDS = 3000
COUNT = 10


def probabilities() -> np.ndarray:
    """Return the probability (NUM_CLASSES, SEEDS) with which each picture is read as its digit."""
    [path] = ROOT.glob("pretrained/forge/step_*/generator.safetensors")
    loaded, reader = load_generator(path), load_digit_reader()
    found = np.zeros((NUM_CLASSES, SEEDS))
    for start in range(0, SEEDS, MAX_COUNT):
        pictures = frames(loaded, GenerateView(count=MAX_COUNT, seed=start))
        read = torch.softmax(read_digits(reader, pictures)[1].double(), 1).reshape(NUM_CLASSES, MAX_COUNT, NUM_CLASSES)
        found[:, start : start + MAX_COUNT] = torch.diagonal(read, dim1=0, dim2=2).T
    return found


def main() -> None:
    """Print the best seeds, and the lowest probability among the `COUNT` pictures of each digit from there on."""
    lowest = probabilities().min(0)
    scores = {seed: lowest[seed : seed + COUNT].min() for seed in range(SEEDS - COUNT)}
    for seed, score in sorted(scores.items(), key=lambda item: -item[1])[:20]:
        print(f"{seed:5} {score:.5f}")


if __name__ == "__main__":
    main()
