"""Convolutional networks of the classic conditional MNIST GAN in Keras: 5x5 kernels, label plane, sigmoid output.

Shapes: B batch, S = img_size / 4 (7 for MNIST). The source has images in [0, 1]. Here G maps its output from [0, 1] to
[-1, 1], and D maps its input back.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import discriminator
from models.config import ModelConfig
from models.keras_layers import SameConv2d, SameConvTranspose2d, batch_norm, init_glorot, same_size

KERNEL = 5


class Generator(nn.Module):
    """(z, c) -> images: a dense layer to (g_widths[0], S, S), then four transposed convolutions.

    BatchNorm and ReLU come before each convolution. `g_widths` are the channels before each convolution; the first two
    convolutions double height and width.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.base = config.img_size // 4
        widths = [*config.g_widths, config.img_channels]
        self.fc = nn.Linear(config.z_dim + config.num_classes, widths[0] * self.base**2)
        self.norms = nn.ModuleList(batch_norm(width) for width in config.g_widths)
        self.convs = nn.ModuleList(
            SameConvTranspose2d(a, b, KERNEL, stride)
            for (a, b), stride in zip(pairwise(widths), (2, 2, 1, 1), strict=True)
        )
        init_glorot(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, z_dim), c (B, num_classes) -> (B, img_channels, img_size, img_size) in [-1, 1]."""
        x = torch.unflatten(self.fc(torch.cat([z, c], 1)), 1, (-1, self.base, self.base))
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.relu(norm(x)))  # (B, ., 2S, 2S), (B, ., 4S, 4S), (B, ., 4S, 4S), (B, img_channels, 4S, 4S)
        return torch.sigmoid(x) * 2 - 1


class Discriminator(discriminator.Discriminator):
    """(images, c) -> logits: a label plane beside the image; LeakyReLU before each convolution, even the first.

    All convolutions but the last halve height and width.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.num_classes, config.img_size**2) if config.num_classes else None
        widths = [config.img_channels + (1 if config.num_classes else 0), *config.d_widths]
        last = len(config.d_widths) - 1
        self.convs = nn.ModuleList(
            SameConv2d(a, b, KERNEL, 1 if k == last else 2) for k, (a, b) in enumerate(pairwise(widths))
        )
        self.out = nn.Linear(widths[-1] * same_size(config.img_size, last) ** 2, 1)
        init_glorot(self)

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        """images (B, img_channels, img_size, img_size), c (B, num_classes) -> logits (B,)."""
        x = (images + 1) / 2
        if self.embed is not None:
            plane = torch.unflatten(self.embed(c), 1, (1, self.config.img_size, self.config.img_size))
            x = torch.cat([x, plane], 1)
        for conv in self.convs:
            x = conv(F.leaky_relu(x, 0.2))
        logits: Tensor = self.out(x.flatten(1))[:, 0]
        return logits
