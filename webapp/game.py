"""The game Real or fake?: the pictures of its rounds, and which of them each player takes for real."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from models import sampling
from models.digit_reader import read_digits
from models.generator_file import LoadedGenerator
from models.quiz import ROUNDS, Round, rounds
from models.views import QuizView
from trainer import data
from webapp import inference, look

NO_DETECTIVE = f"The detective does not play: the discriminator of this checkpoint is not stored. {look.STORED}"


class NoGameError(ValueError):
    """There are no real pictures to put beside those of a generator."""


@dataclass(frozen=True)
class Game:
    """Pictures and bets. A bet is the side that a player takes for real, 0 = left and 1 = right."""

    digits: tuple[int | None, ...]
    """Class of each round; None: of no class."""
    pairs: NDArray[np.uint8]
    """Left and right picture of each round (ROUNDS, 2, H, W)."""
    real: str
    """The side of the real picture in each round."""
    detective: str
    """The bets of the discriminator: it bets on the picture with the higher logit. Empty if it is not stored."""
    certainty: tuple[float, ...]
    """The discriminator's probability that its bet is right, from .5 to 1: the sigmoid of the difference of logits."""
    reader: str
    """The bets of the digit reader: it bets on the picture that it reads more surely as a digit of the class."""
    read: tuple[tuple[float, float], ...]
    """The reader's probabilities that the left and the right picture are of the class; without one, of any digit."""

    @property
    def others(self) -> list[tuple[str, str]]:
        """Names and bets of the players besides the visitor."""
        players = (("Detective", self.detective), ("Reader", self.reader))
        return [(name, bets) for name, bets in players if bets]

    def score(self, bets: str) -> int:
        """Return how many bets are right."""
        return sum(self.is_right(bets))

    def is_right(self, bets: str) -> list[bool]:
        """Return whether each bet is right; empty for no bets."""
        return [bet == side for bet, side in zip(bets, self.real, strict=bool(bets))]


@st.cache_data(max_entries=256, show_spinner=False)
def play(key: inference.GeneratorKey, seed: int) -> Game:
    """Return the game of a seed against a generator. Raises `NoGameError` and what `inference.load` raises."""
    loaded = inference.load(key)
    if not look.draws_mnist(loaded):
        raise NoGameError("The real digits of this game are MNIST's, and this generator learned from other pictures.")
    played = rounds(seed, loaded.config.num_classes)
    fakes = inference.frames(key, QuizView(seed=seed))
    reals = np.stack([_real(each) for each in played])
    sides = np.array([each.side for each in played])[:, None, None]
    pairs = np.stack([np.where(sides == side, reals, fakes) for side in (0, 1)], 1)
    labels = [each.digit for each in played]
    detective, certainty = _detective(key, loaded, pairs, labels)
    reader, read = _reader(pairs, labels)
    return Game(tuple(labels), pairs, _text(sides), detective, certainty, reader, read)


def _text(sides: NDArray[np.integer]) -> str:
    return "".join(map(str, sides.ravel().tolist()))


@st.cache_resource(show_spinner=False)
def _test_images() -> data.Dataset:
    """Return MNIST's test images, which no network here has learned from."""
    try:
        return data.load_dataset(split="t10k")
    except (data.DatasetError, OSError):
        raise NoGameError("The real digits of this game are MNIST's test images, which this server lacks.") from None


def _real(each: Round) -> NDArray[np.uint8]:
    """Return the real picture (H, W) of a round."""
    test = _test_images()
    of_class = np.flatnonzero(test.labels == each.digit if each.digit is not None else test.labels >= 0)
    picture: NDArray[np.uint8] = test.images[of_class[int(each.place * len(of_class))], 0]
    return picture


@torch.inference_mode()
def _detective(
    key: inference.GeneratorKey, loaded: LoadedGenerator, pairs: NDArray[np.uint8], labels: list[int | None]
) -> tuple[str, tuple[float, ...]]:
    """Return the discriminator's bets and how sure it is of each; empty without one.

    A discriminator that compares the images of a group gets both pictures of a round in one group, as often as needed.
    Both losses that it may have learned with make the sigmoid of the difference of two logits the probability that the
    first of two images is the real one, if one of them is.
    """
    D = look.partner(key)
    if D is None:
        return "", ()
    places = np.arange(max(loaded.config.group_size, 2)) % 2
    images = torch.from_numpy(pairs[:, places].reshape(-1, 1, *pairs.shape[2:]))
    rows = look.condition_rows(loaded, images, [label or 0 for label in labels for _ in places])
    logits = D(sampling.from_uint8(images), rows).double().reshape(ROUNDS, len(places))
    difference = logits[:, 1] - logits[:, 0]
    return _text((difference > 0).int().numpy()), tuple(torch.sigmoid(difference.abs()).tolist())


def _reader(pairs: NDArray[np.uint8], labels: list[int | None]) -> tuple[str, tuple[tuple[float, float], ...]]:
    """Return the digit reader's bets, and how surely it reads the left and the right picture."""
    _, logits = read_digits(look.reader(), pairs.reshape(-1, *pairs.shape[2:]))
    every = torch.log_softmax(logits.double(), 1).reshape(ROUNDS, 2, -1)
    own = [each.max(1).values if label is None else each[:, label] for each, label in zip(every, labels, strict=True)]
    logs = torch.stack(own)  # (ROUNDS, 2); near 1, logarithms still differ where probabilities do not
    read = [(left, right) for left, right in logs.exp().tolist()]
    return _text((logs[:, 1] > logs[:, 0]).int().numpy()), tuple(read)
