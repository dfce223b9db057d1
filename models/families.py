"""FAMILIES: the families of networks, one row each.

To add a family, write a module with a `Generator` and a `Discriminator` that take a `ModelConfig`, and add its row.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from models import conv_cgan, dcgan, dropout_gan, forge, mlp
from models.config import ModelConfig
from models.discriminator import Discriminator


@dataclass(frozen=True, kw_only=True)
class Family:
    """The networks of a family and what they require of a `ModelConfig`."""

    generator: Callable[[ModelConfig], nn.Module]
    discriminator: Callable[[ModelConfig], Discriminator]
    conditioning: str
    """How the networks take the class, in words for tables; empty = the family is unconditional only."""
    g_widths: tuple[int, ...] = ()
    """Numbers of widths that `g_widths` may have; empty = any number."""
    d_widths: tuple[int, ...] = ()
    """Numbers of widths that `d_widths` may have; empty = any number."""
    size_divisor: int = 1
    """`img_size` must be divisible by this."""
    has_batch_norm: bool = False
    """Whether training needs batch statistics, which a single image does not have."""
    options: tuple[str, ...] = ()
    """Which of `models.config.FAMILY_OPTIONS` the networks support; the others must keep their defaults."""


FAMILIES = {
    "mlp": Family(
        generator=mlp.Generator,
        discriminator=mlp.Discriminator,
        conditioning="label through a dense layer, in G and D",
        has_batch_norm=True,
    ),
    "conv_cgan": Family(
        generator=conv_cgan.Generator,
        discriminator=conv_cgan.Discriminator,
        conditioning="one-hot beside z; label plane in D",
        g_widths=(4,),
        d_widths=(4,),
        size_divisor=4,
        has_batch_norm=True,
    ),
    "dcgan": Family(
        generator=dcgan.Generator,
        discriminator=dcgan.Discriminator,
        conditioning="one-hot beside z; a map per class in D",
        g_widths=(2,),
        d_widths=(2,),
        size_divisor=4,
        has_batch_norm=True,
    ),
    "dropout_gan": Family(
        generator=dropout_gan.Generator,
        discriminator=dropout_gan.Discriminator,
        conditioning="",
        g_widths=(3,),
        d_widths=(2,),
        size_divisor=4,
        options=("dropout",),
    ),
    "forge": Family(
        generator=forge.Generator,
        discriminator=forge.Discriminator,
        conditioning="gain and bias per class in G; projection in D, which also reads the class",
        g_widths=(2, 3),
        d_widths=(3,),
        size_divisor=4,
        options=("g_gain", "d_kernel", "classifier", "attributes", "writers"),
    ),
}
"""`ModelConfig.architecture` -> its family."""
