"""Unconditional networks as in Keras examples: G upsamples a dense layer's output, D has dropout; no normalization.

Shapes: B batch, S = img_size / 4 (7 for MNIST). The sources have images in [0, 1]. Here G maps its output from [0, 1]
to [-1, 1], and D maps its input back. The class rows c have no columns.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import discriminator
from models.config import ModelConfig
from models.dropout import Dropout
from models.keras_layers import SameConv2d, SameConvTranspose2d, init_glorot, same_size


class Generator(nn.Module):
    """(z, c) -> images: z -> (foundation, S, S) -> (., 2S, 2S) -> (., 4S, 4S) -> (img_channels, 4S, 4S); sigmoid."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        foundation, middle, last = config.g_widths
        self.base = config.img_size // 4
        self.fc = nn.Linear(config.z_dim, foundation * self.base**2)
        self.up1 = SameConvTranspose2d(foundation, middle, 4, 2)
        self.up2 = SameConvTranspose2d(middle, last, 4, 2)
        self.out = SameConv2d(last, config.img_channels, 7)
        init_glorot(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, z_dim), c (B, 0) -> (B, img_channels, img_size, img_size) in [-1, 1]."""
        x = torch.unflatten(F.leaky_relu(self.fc(z), 0.2), 1, (-1, self.base, self.base))
        x = F.leaky_relu(self.up1(x), 0.2)  # (B, middle, 2S, 2S)
        x = F.leaky_relu(self.up2(x), 0.2)  # (B, last, 4S, 4S)
        return torch.sigmoid(self.out(x)) * 2 - 1


class Discriminator(discriminator.Discriminator):
    """(images, c) -> logits: two strided convolutions, each with LeakyReLU and dropout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.d_widths
        self.conv1 = SameConv2d(config.img_channels, first, 3, 2)
        self.dropout1 = Dropout(config.dropout)
        self.conv2 = SameConv2d(first, second, 3, 2)
        self.dropout2 = Dropout(config.dropout)
        self.out = nn.Linear(second * same_size(config.img_size, 2) ** 2, 1)
        init_glorot(self)

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        """images (B, img_channels, img_size, img_size), c (B, 0) -> logits (B,)."""
        x = self.dropout1(F.leaky_relu(self.conv1((images + 1) / 2), 0.2))  # (B, first, 2S, 2S)
        x = self.dropout2(F.leaky_relu(self.conv2(x), 0.2))  # (B, second, S, S)
        logits: Tensor = self.out(x.flatten(1))[:, 0]
        return logits
