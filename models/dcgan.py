"""DCGAN at 28x28 (Radford et al. 2015, arXiv 1511.06434), without classes or with the class as one-hot maps.

Shapes: B batch, S = img_size / 4 (7 for MNIST). As in PyTorch's own example, convolutions have no bias because
BatchNorm has one; weights are drawn from N(0, .02), and BatchNorm's gains from N(1, .02).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import discriminator
from models.config import ModelConfig


class Generator(nn.Module):
    """(z, c) -> images: z and c as one pixel -> (wide, S, S) -> (narrow, 2S, 2S) -> (img_channels, 4S, 4S); tanh."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        wide, narrow = config.g_widths
        inputs = config.z_dim + config.num_classes
        self.up1 = nn.ConvTranspose2d(inputs, wide, config.img_size // 4, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.up2 = nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(narrow)
        self.up3 = nn.ConvTranspose2d(narrow, config.img_channels, 4, 2, 1, bias=False)
        _init_normal(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, z_dim), c (B, num_classes) -> (B, img_channels, img_size, img_size) in [-1, 1]."""
        x = torch.cat([z, c], 1)[..., None, None]  # (B, z_dim + num_classes, 1, 1)
        x = F.relu(self.norm1(self.up1(x)))  # (B, wide, S, S)
        x = F.relu(self.norm2(self.up2(x)))  # (B, narrow, 2S, 2S)
        return torch.tanh(self.up3(x))


class Discriminator(discriminator.Discriminator):
    """(images, c) -> logits: a map of ones or zeros per class beside the image; strided convolutions, LeakyReLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        narrow, wide = config.d_widths
        self.conv1 = nn.Conv2d(config.img_channels + config.num_classes, narrow, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.out = nn.Conv2d(wide, 1, config.img_size // 4, bias=False)
        _init_normal(self)

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        """images (B, img_channels, img_size, img_size), c (B, num_classes) -> logits (B,)."""
        maps = c[..., None, None].expand(-1, -1, *images.shape[2:])  # (B, num_classes, 4S, 4S)
        x = F.leaky_relu(self.conv1(torch.cat([images, maps], 1)), 0.2)  # (B, narrow, 2S, 2S)
        x = F.leaky_relu(self.norm2(self.conv2(x)), 0.2)  # (B, wide, S, S)
        logits: Tensor = self.out(x).flatten()
        return logits


def _init_normal(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02)
