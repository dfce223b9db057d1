"""Dropout whose masks are drawn for the batch that workers share, so that they do not depend on how many these are."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class SharedMasks:
    """Where a worker's masks come from: each is drawn for `batch_size` images, and `rows` (B,) of it are its own."""

    generator: torch.Generator
    batch_size: int
    rows: Tensor


class Dropout(nn.Module):
    """Zeroes a share of the features in training, and scales the others so that their mean stays."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.masks: SharedMasks | None = None
        """None = masks of its own, as in any net that is not trained by several workers."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...) -> (B, ...)."""
        if not self.training or self.masks is None:
            return F.dropout(x, self.share, self.training)
        whole = torch.empty(self.masks.batch_size, *x.shape[1:], device=x.device)
        kept = whole.bernoulli_(1 - self.share, generator=self.masks.generator)[self.masks.rows]
        return x * kept / (1 - self.share)


def share_masks(network: nn.Module, masks: SharedMasks) -> None:
    """Let a network's dropout layers take their masks from there, one after the other, from the next pass on."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.masks = masks
