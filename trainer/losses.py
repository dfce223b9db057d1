"""Losses as pure functions of logits, one value per image, so that any slice of a batch can be summed and weighted.

Logits are (B,); real and fake ones at the same place belong to the same class.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Loss(NamedTuple):
    """A game: D's loss and G's loss, each (real_logits, fake_logits) -> (B,)."""

    d: Callable[[Tensor, Tensor], Tensor]
    g: Callable[[Tensor, Tensor], Tensor]


def bce_d_real(real_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x)) -> (B,)."""
    return F.softplus(-real_logits)


def bce_d_fake(fake_logits: Tensor) -> Tensor:
    """-log(1 - sigmoid(D(G(z)))) -> (B,)."""
    return F.softplus(fake_logits)


def bce_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The mean of both parts of the binary cross-entropy (Goodfellow et al. 2014, eq. 1) -> (B,)."""
    return (bce_d_real(real_logits) + bce_d_fake(fake_logits)) / 2


def bce_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), the non-saturating form (Goodfellow et al. 2014, sec. 3) -> (B,)."""
    return F.softplus(-fake_logits)


def relativistic_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x) - D(G(z))), pair by pair (Jolicoeur-Martineau 2018, arXiv 1807.00734) -> (B,)."""
    return F.softplus(fake_logits - real_logits)


def relativistic_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z)) - D(x)), pair by pair -> (B,)."""
    return F.softplus(real_logits - fake_logits)


LOSSES = {"bce": Loss(bce_d, bce_g), "relativistic": Loss(relativistic_d, relativistic_g)}


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """|dD(x)/dx|^2 of each image -> (B,): R1 on real images, R2 on fakes (Mescheder et al. 2018, arXiv 1801.04406)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def class_cross_entropy(class_logits: Tensor, c: Tensor) -> Tensor:
    """Cross-entropy (B,) of class logits (B, num_classes) for class rows c (Odena et al. 2016, arXiv 1610.09585)."""
    return F.cross_entropy(class_logits, c, reduction="none")


def accuracy(real_logits: Tensor, fake_logits: Tensor, relativistic: bool) -> tuple[Tensor, Tensor]:
    """(d_acc_real, d_acc_fake): the shares of real and of fake images that D judges rightly.

    The threshold is 0; for relativistic losses, which do not see a shift of all logits, it is the median of the other
    side.
    """
    if relativistic:
        above, below = fake_logits.median(), real_logits.median()
    else:
        above = below = real_logits.new_zeros(())
    return (real_logits > above).to(real_logits).mean(), (fake_logits < below).to(fake_logits).mean()
