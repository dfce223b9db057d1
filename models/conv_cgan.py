"""Convolutional networks of the classic conditional MNIST GAN in Keras: 5x5 kernels, label plane, sigmoid at the end.

Shapes: B batch, S = img_size / 4 (7 for MNIST). The source's images are in [0, 1]: G's output and D's input are mapped
here, at the networks' edge.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import ModelConfig
from models.keras_layers import SameConv2d, SameConvTranspose2d, batch_norm, init_glorot, same_size

KERNEL = 5


class Generator(nn.Module):
    """(z, c) -> images: z and c -> (foundation, S, S); BatchNorm and ReLU before each of four transposed convolutions.

    `g_widths` are the foundation's channels and those after the first three, of which the first two double the size.
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
        x = self.fc(torch.cat([z, c], 1)).unflatten(1, (-1, self.base, self.base))
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.relu(norm(x)))  # (B, ., 2S, 2S), (B, ., 4S, 4S), (B, ., 4S, 4S), (B, img_channels, 4S, 4S)
        return torch.sigmoid(x) * 2 - 1


class Discriminator(nn.Module):
    """(images, c) -> logits: the label as a plane beside the image; LeakyReLU before each convolution, even the first.

    All convolutions but the last halve the size.
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
            plane = self.embed(c).unflatten(1, (1, self.config.img_size, self.config.img_size))
            x = torch.cat([x, plane], 1)
        for conv in self.convs:
            x = conv(F.leaky_relu(x, 0.2))
        return self.out(x.flatten(1))[:, 0]
