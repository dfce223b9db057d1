"""What the numbers of a training say about its health, in words: collapse, divergence, a discriminator that has won."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from trainer.run_store import EpochSummary, Scores
from webapp import wording

COLLAPSED_DIVERSITY = 0.4
"""Share of the diversity of real images below which a generator counts as collapsed. Trainings that went well were at
0.6 or more after their first epoch."""
COLLAPSED_RECALL = 0.25
"""Share of the recall of real images below which a generator counts as collapsed, if it had at least twice as much
before: at the start of a training recall is low because the pictures are poor."""
WON = 0.99
"""Accuracy of the discriminator, on real and on generated pictures, from which it counts as having won: it then has
little left to learn, and the gradient that it gives the generator vanishes. The shipped `mlp-cgan` was there in its
second epoch, and its generator has only slowly recovered."""
RUNAWAY = 10.0
"""Factor between the mean loss of an epoch and the median of those before from which a loss counts as running away."""
RUNAWAY_LOSS = 20.0
"""Least size of a loss that is running away. A GAN's losses are around 1; while D wins, G's may reach 10."""
COPIES = 0.5
"""Share of the distance from real images to their nearest training image below which generated ones count as copies."""


def findings(epochs: Sequence[EpochSummary]) -> list[str]:
    """Return one text for each problem in the epochs of a run, ascending; none for a healthy training."""
    scored = [epoch for epoch in epochs if epoch.scores and epoch.floor]
    memory = memorized(scored[-1].scores or {}, scored[-1].floor or {}) if scored else ""
    return [text for text in (_diverged(epochs), _won(epochs), _collapsed(epochs), memory) if text]


def memorized(generated: Mapping[str, object], real: Mapping[str, object]) -> str:
    """Return a text if scores show that the generator copies training images; empty if not, or not known."""
    name = "nearest_1st_percentile"
    distance, expected = generated.get(name), real.get(name)
    if not isinstance(distance, float | int) or not isinstance(expected, float | int):
        return ""
    if not distance < COPIES * expected:
        return ""
    return (
        f"Memorized: the pictures closest to the training images are {distance:.2f} away from them, real test images "
        f"{expected:.2f}. The generator copies training images instead of drawing its own."
    )


def _collapsed(epochs: Sequence[EpochSummary]) -> str:
    scored = [(epoch.epoch, epoch.scores, epoch.floor) for epoch in epochs if epoch.scores and epoch.floor]
    if not scored:
        return ""
    number, scores, real = scored[-1]
    diversity, recall = (_share(scores, real, name) for name in ("diversity", "recall"))
    before = [share for _, each, whole in scored[:-1] if (share := _share(each, whole, "recall")) is not None]
    if diversity is not None and diversity < COLLAPSED_DIVERSITY:
        what = f"pictures of the same class vary {diversity:.0%} as much as real ones"
    elif recall is not None and recall < COLLAPSED_RECALL and max(before, default=0.0) >= 2 * recall:
        what = f"recall has fallen to {recall:.0%} of that of real images, from {max(before):.0%}"
    else:
        return ""
    return (
        f"Collapse: after epoch {number}, {what}. The generator draws a few pictures again and again, because the "
        "discriminator accepts them. A lower learning rate or a stronger gradient penalty helps; an earlier epoch may "
        "be better."
    )


def _share(scores: Scores, real: Scores, name: str) -> float | None:
    """Return a score as a share of that of real images; None if it is not known."""
    value, whole = scores.get(name), real.get(name)
    return value / whole if value is not None and whole else None


def _won(epochs: Sequence[EpochSummary]) -> str:
    known = [(epoch.epoch, epoch.d_acc_real, epoch.d_acc_fake) for epoch in epochs]
    won = [number for number, *both in known if all(value is not None and value >= WON for value in both)]
    if not won:
        return ""
    trained = [number for number, real, _ in known if real is not None]
    text = (
        f"The discriminator has won: in {wording.epochs(won)} it was right about at least {WON:.0%} of the real and of "
        "the generated pictures. The generator then gets hardly any gradient to learn from."
    )
    return text if won[-1] == trained[-1] else f"{text} It was less certain later."


def _diverged(epochs: Sequence[EpochSummary]) -> str:
    for name, network in (("d_loss", "discriminator"), ("g_loss", "generator")):
        # Without its accuracy an epoch had no steps; with it, a missing loss was not finite.
        trained = [(epoch.epoch, getattr(epoch, name)) for epoch in epochs if epoch.d_acc_real is not None]
        before: list[float] = []
        for number, loss in trained:
            if loss is None or not math.isfinite(loss):
                return f"Diverged: in epoch {number} the loss of the {network} was not finite. {_CURE}"
            if before and abs(loss) > max(RUNAWAY * median(before), RUNAWAY_LOSS):
                return f"Diverging: in epoch {number} the loss of the {network} ran away to {loss:.3g}. {_CURE}"
            before.append(abs(loss))
    return ""


_CURE = "Lower learning rates or another seed help."
