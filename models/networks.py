"""MODELS: named pairs of networks; and from a ModelConfig to its networks."""

from dataclasses import replace

from torch import nn

from models.config import ModelConfig
from models.discriminator import Discriminator

_FORGE = ModelConfig(
    architecture="forge", z_dim=64, g_widths=(64, 32), d_widths=(32, 64, 128), d_kernel=3, std_group=4, classifier=True
)
_DCGAN = ModelConfig(architecture="dcgan", z_dim=100, num_classes=0, g_widths=(256, 128), d_widths=(64, 128))
_GAN = ModelConfig(
    architecture="dropout_gan", z_dim=100, num_classes=0, g_widths=(128, 128, 128), d_widths=(64, 64), dropout=0.4
)

MODELS = {
    "forge": _FORGE,
    "forge-best": replace(_FORGE, attributes=("slant", "thickness", "width"), g_widths=(64, 32, 16), g_gain=1.5),
    "writers": replace(_FORGE, writers=539, g_widths=(64, 32, 16), g_gain=1.5),
    "forge-cifar": replace(
        _FORGE, z_dim=128, img_size=32, img_channels=3, g_widths=(96, 32, 16), d_widths=(32, 96, 192)
    ),
    "mlp-cgan": ModelConfig(architecture="mlp", z_dim=100, g_widths=(256, 512, 1024), d_widths=(512, 256)),
    "conv-cgan": ModelConfig(
        architecture="conv_cgan",
        z_dim=100,
        z_distribution="uniform",
        g_widths=(128, 128, 64, 32),
        d_widths=(32, 64, 128, 256),
    ),
    "dcgan": _DCGAN,
    "onehot-cdcgan": replace(_DCGAN, num_classes=10),
    "gan": _GAN,
    "dropout-dcgan": replace(_GAN, g_widths=(128, 64, 32), d_widths=(64, 128)),
}
"""Named pairs of networks. A recipe in `trainer.recipes` refers to its pair by name; several may share one."""

ALIASES = {"quick": "forge"}
"""Other names that `python -m models.describe` accepts -> the name in `MODELS`."""


def build_generator(config: ModelConfig) -> nn.Module:
    """Return a new generator: (z (B, z_dim), c (B, condition_width)) -> images (B, C, H, W) in [-1, 1]."""
    return config.family.generator(config)


def build_discriminator(config: ModelConfig) -> Discriminator:
    """Return a new discriminator: (images (B, C, H, W) in [-1, 1], c (B, condition_width)) -> logits (B,)."""
    return config.family.discriminator(config)
