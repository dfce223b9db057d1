"""Differentiable augmentation (DiffAugment, Zhao et al. 2020, arXiv 2006.10738): D sees changed images only.

Real images and fakes are changed alike, at random. G gets its gradient through the change, so it learns to draw the
images as they are. With few images, D cannot learn them by heart. Each image has random numbers of its own, which
`trainer.draws` draws; all functions here are pure.

Shapes: images (B, C, H, W) in [-1, 1], numbers (B, N) uniform in [0, 1). Results may exceed [-1, 1].
"""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Change = Literal["colour", "translation", "cutout"]
NUMBERS = 7
"""Random numbers of an image: 3 for colour, 2 each for translation and cutout."""
SHIFT = 1 / 8
"""Largest shift by translation, as a share of the image's size."""
CUT = 1 / 2
"""Side of the square that cutout removes, as a share of the image's size."""


def augment(images: Tensor, numbers: Tensor, changes: Collection[Change]) -> Tensor:
    """Return the images after these changes, in the order of `Change`; `numbers` are (B, NUMBERS)."""
    if "colour" in changes:
        images = colour(images, numbers[:, :3])
    if "translation" in changes:
        images = translation(images, numbers[:, 3:5])
    if "cutout" in changes:
        images = cutout(images, numbers[:, 5:])
    return images


def colour(images: Tensor, numbers: Tensor) -> Tensor:
    """Change brightness by up to .5, then saturation by a factor of 0 to 2, then contrast by one of .5 to 1.5.

    numbers (B, 3): one for each, in this order.
    """
    brightness, saturation, contrast = numbers.to(images)[..., None, None, None].unbind(1)
    brightness, saturation, contrast = brightness - 0.5, 2 * saturation, contrast + 0.5
    # All three at once. Saturation moves a pixel away from its grey, contrast away from the mean, which keeps both.
    grey = images.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    rest = contrast * (1 - saturation) * grey + (1 - contrast) * mean + brightness
    return contrast * saturation * images + rest


def translation(images: Tensor, numbers: Tensor) -> Tensor:
    """Shift by whole pixels, up to `SHIFT` of the size up or down and to either side; what is uncovered is 0.

    numbers (B, 2): one for each direction.
    """
    size = images.shape[-1]
    limit = round(SHIFT * size)
    first = 2 * limit - (numbers * (2 * limit + 1)).long()  # in float64: in float32, a number near 1 could become 1
    rows, columns = (first[..., None] + torch.arange(size, device=images.device)).unbind(1)  # (B, size)
    pixels = (rows[:, :, None] * (size + 2 * limit) + columns[:, None, :]).flatten(1)  # (B, size^2), in padded images
    padded = F.pad(images, [limit] * 4).flatten(2)
    return padded.gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).view(images.shape)


def cutout(images: Tensor, numbers: Tensor) -> Tensor:
    """Set a square to 0 whose centre is anywhere in the image and whose side is `CUT` of the size.

    numbers (B, 2): the row and the column of the centre.
    """
    size = images.shape[-1]
    side = round(CUT * size)
    first = (numbers * (size + 1 - side % 2)).long() - side // 2
    place = torch.arange(size, device=images.device) - first[..., None]  # (B, 2, size)
    within = (place >= 0) & (place < side)
    return images * ~(within[:, 0, :, None] & within[:, 1, None, :])[:, None]
