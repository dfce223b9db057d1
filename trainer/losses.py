"""Losses of D and G as pure functions of logits, with one value per image.

Logits are (B,). Real and fake logits at the same index belong to images of the same class.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.config import ModelConfig


class Loss(NamedTuple):
    """The losses of D and of G, each (real_logits, fake_logits) -> (B,)."""

    d: Callable[[Tensor, Tensor], Tensor]
    g: Callable[[Tensor, Tensor], Tensor]
    d_real: Callable[[Tensor], Tensor] | None = None
    """D's loss on real images alone: logits -> (B,). None for a loss that compares pairs of logits."""
    d_fake: Callable[[Tensor], Tensor] | None = None
    """D's loss on fake images alone. `d` is the mean of `d_real` and `d_fake`."""

    @property
    def compares_pairs(self) -> bool:
        """Whether the loss depends on real and fake logits only through their difference."""
        return self.d_real is None or self.d_fake is None


def bce_d_real(real_logits: Tensor) -> Tensor:
    """Return -log sigmoid(D(x)) -> (B,)."""
    return F.softplus(-real_logits)


def bce_d_fake(fake_logits: Tensor) -> Tensor:
    """Return -log(1 - sigmoid(D(G(z)))) -> (B,)."""
    return F.softplus(fake_logits)


def bce_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the mean of both parts of the binary cross-entropy (Goodfellow et al. 2014, eq. 1) -> (B,)."""
    return (bce_d_real(real_logits) + bce_d_fake(fake_logits)) / 2


def bce_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -log sigmoid(D(G(z))), the non-saturating form (Goodfellow et al. 2014, sec. 3) -> (B,)."""
    return F.softplus(-fake_logits)


def relativistic_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -log sigmoid(D(x) - D(G(z))) of each pair (Jolicoeur-Martineau 2018, arXiv 1807.00734) -> (B,)."""
    return F.softplus(fake_logits - real_logits)


def relativistic_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -log sigmoid(D(G(z)) - D(x)) of each pair -> (B,)."""
    return F.softplus(real_logits - fake_logits)


LOSSES = {
    "bce": Loss(bce_d, bce_g, bce_d_real, bce_d_fake),
    "relativistic": Loss(relativistic_d, relativistic_g),
}
"""Name -> loss. To add a loss, add a row; recipes name it in `loss`."""


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """Return |dD(x)/dx|^2 of each image -> (B,).

    On real images this is R1, on fakes R2 (Mescheder et al. 2018, arXiv 1801.04406).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def class_cross_entropy(class_logits: Tensor, c: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of class logits (B, K) and class rows c (B, K).

    Odena et al. 2016 (arXiv 1610.09585).
    """
    return F.cross_entropy(class_logits, c, reduction="none")


SCORE_LIMIT = 3.0
"""Attributes that are further out count as being there, so that no odd image dominates a loss."""


WRITER_WEIGHT = 0.1
"""Weight of the cross-entropy of writers beside that of classes, which is several times smaller at first."""


def class_loss(class_logits: Tensor, c: Tensor, model: ModelConfig) -> Tensor:
    """Return the loss (B,) of class logits (B, K) for class rows c (B, K), where K is `model.condition_width`.

    It is the cross-entropy of the classes, plus the mean squared error of the scores of the attributes or a tenth of
    the cross-entropy of the writers, 0 for an image without a writer.
    """
    num_classes = model.num_classes
    loss = class_cross_entropy(class_logits[:, :num_classes], c[:, :num_classes])
    if model.writers:
        return loss + WRITER_WEIGHT * class_cross_entropy(class_logits[:, num_classes:], c[:, num_classes:])
    if c.shape[1] == num_classes:
        return loss
    wanted = c[:, num_classes:].clamp(-SCORE_LIMIT, SCORE_LIMIT)
    return loss + (class_logits[:, num_classes:] - wanted).square().mean(1)


def accuracy(real_logits: Tensor, fake_logits: Tensor, compares_pairs: bool) -> tuple[Tensor, Tensor]:
    """Return (d_acc_real, d_acc_fake): the shares of real and of fake images that D classifies correctly.

    The threshold is a logit of 0. A loss that compares pairs determines logits only up to a constant, so with
    `compares_pairs` the threshold is the median logit of the other kind of images. Logits are (B,), results scalars.
    """
    zero = real_logits.new_zeros(())
    above, below = (fake_logits.median(), real_logits.median()) if compares_pairs else (zero, zero)
    return (real_logits > above).to(real_logits).mean(), (fake_logits < below).to(fake_logits).mean()
