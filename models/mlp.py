"""Dense networks of the classic conditional MNIST GAN, with the initial weights and BatchNorm settings of Keras."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import discriminator
from models.config import ModelConfig
from models.keras_layers import init_glorot


class Generator(nn.Module):
    """(z, c) -> images: class embedding of length z_dim beside z; hidden layers with LeakyReLU and BatchNorm; tanh."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        classes, z_dim = config.num_classes, config.z_dim
        self.embed = nn.Linear(classes, z_dim) if classes else None
        widths = [z_dim * (2 if classes else 1), *config.g_widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        # Keras' defaults: eps 1e-3, momentum .99 (PyTorch counts momentum the other way).
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, eps=1e-3, momentum=0.01) for width in config.g_widths)
        self.out = nn.Linear(widths[-1], config.img_channels * config.img_size**2)
        init_glorot(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, z_dim), c (B, num_classes) -> (B, img_channels, img_size, img_size) in [-1, 1]."""
        x = z if self.embed is None else torch.cat([z, self.embed(c)], 1)
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = norm(F.leaky_relu(linear(x), 0.2))
        return torch.unflatten(torch.tanh(self.out(x)), 1, self.config.image_shape)


class Discriminator(discriminator.Discriminator):
    """(images, c) -> logits: class embedding as long as the image, beside the pixels; hidden layers with LeakyReLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        pixels = config.img_channels * config.img_size**2
        self.embed = nn.Linear(config.num_classes, pixels) if config.num_classes else None
        widths = [pixels * (2 if config.num_classes else 1), *config.d_widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(widths[-1], 1)
        init_glorot(self)

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        """images (B, img_channels, img_size, img_size), c (B, num_classes) -> logits (B,)."""
        x = images.flatten(1)
        if self.embed is not None:
            x = torch.cat([x, self.embed(c)], 1)
        for linear in self.hidden:
            x = F.leaky_relu(linear(x), 0.2)
        logits: Tensor = self.out(x)[:, 0]
        return logits
