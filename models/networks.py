"""From a ModelConfig to its networks."""

from torch import nn

from models import conv_cgan, dcgan, dropout_gan, forge, mlp
from models.config import ModelConfig

FAMILIES = {"mlp": mlp, "conv_cgan": conv_cgan, "dcgan": dcgan, "dropout_gan": dropout_gan, "forge": forge}


def build_generator(config: ModelConfig) -> nn.Module:
    """A new generator: (z (B, z_dim), c (B, num_classes)) -> images (B, C, H, W) in [-1, 1]."""
    return FAMILIES[config.architecture].Generator(config)


def build_discriminator(config: ModelConfig) -> nn.Module:
    """A new discriminator: (images (B, C, H, W) in [-1, 1], c (B, num_classes)) -> logits (B,)."""
    return FAMILIES[config.architecture].Discriminator(config)
