"""Dropout whose masks are drawn for the global batch, so that they do not depend on the number of workers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class SharedMasks:
    """The source of a worker's masks: each mask is drawn for `batch_size` images, and the worker uses `rows` (B,)."""

    generator: torch.Generator
    batch_size: int
    rows: Tensor


class Dropout(nn.Module):
    """Zero features with probability `share` in training, and scale the others by 1 / (1 - share)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.masks: SharedMasks | None = None
        """None = draw masks from PyTorch's global generator, as `nn.Dropout` does."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...) -> (B, ...)."""
        if not self.training or self.masks is None:
            return F.dropout(x, self.share, self.training)
        whole = torch.empty(self.masks.batch_size, *x.shape[1:], device=x.device)
        kept = whole.bernoulli_(1 - self.share, generator=self.masks.generator)[self.masks.rows]
        return x * kept / (1 - self.share)


def share_masks(network: nn.Module, masks: SharedMasks | None) -> None:
    """Let all dropout layers of a network draw their masks, one after the other, from `masks` from now on.

    None lets each layer draw its own masks.
    """
    for module in network.modules():
        if isinstance(module, Dropout):
            module.masks = masks
