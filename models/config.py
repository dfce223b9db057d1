"""ModelConfig: the settings of a generator and its discriminator, in a form that fits into a file's metadata."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from models.attributes import ATTRIBUTES

if TYPE_CHECKING:
    from models.families import Family

FAMILY_OPTIONS = ("g_gain", "d_kernel", "dropout", "classifier", "attributes", "writers")
"""Fields that not every family supports; see `Family.options`."""
MAX_WRITER = 10**6
"""Limit of the number by which a writer is known."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings of a pair of networks. Raises `ValueError` that names the first invalid field."""

    architecture: str
    """Family of networks, such as mlp or forge: a name in `models.families.FAMILIES`."""
    z_dim: int
    """Length of a latent vector."""
    z_distribution: Literal["normal", "uniform"] = "normal"
    """Distribution of each number of a latent: N(0, 1), or uniform on [-1, 1]."""
    num_classes: int = 10
    """Number of classes to condition on; 0 = unconditional."""
    attributes: tuple[str, ...] = ()
    """Attributes to condition on beside the class, such as slant: names in `models.attributes.ATTRIBUTES`."""
    writers: int = 0
    """Number of writers to condition on beside the class. A picture has one of them, or none."""
    img_size: int = 28
    """Height and width of an image in pixels."""
    img_channels: int = 1
    """1 = grey, 3 = RGB."""
    g_widths: tuple[int, ...]
    """Widths of the generator's layers, from the latent to the image."""
    d_widths: tuple[int, ...]
    """Widths of the discriminator's layers, from the image to the logit."""
    d_kernel: int = 4
    """Kernel size of D's second convolution in forge, 3 or 4; this layer does most of D's work."""
    g_gain: float = 1.0
    """G's images in forge are this multiple of a tanh, clamped to [-1, 1]. Above 1, they reach black exactly."""
    std_group: int = 0
    """Images of one class over which D computes the minibatch standard deviation; 0 = D sees each image alone."""
    dropout: float = 0.0
    """Probability that D drops a feature in training; 0 = no dropout."""
    classifier: bool = False
    """Whether D also predicts the class of an image (auxiliary classifier)."""

    def __post_init__(self) -> None:
        for name in ("z_dim", "img_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1: got {getattr(self, name)}")
        if self.num_classes < 0:
            raise ValueError(f"model.num_classes must not be negative: got {self.num_classes}")
        if self.img_channels not in (1, 3):
            raise ValueError(f"model.img_channels must be 1 or 3: got {self.img_channels}")
        for name in ("g_widths", "d_widths"):
            widths = getattr(self, name)
            if not widths or min(widths) < 1:
                raise ValueError(f"model.{name} must be positive widths: got {widths}")
        if not 1 <= self.g_gain <= 2:
            raise ValueError(f"model.g_gain must be in [1, 2]: got {self.g_gain}")
        if self.std_group < 0:
            raise ValueError(f"model.std_group must not be negative: got {self.std_group}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1): got {self.dropout}")
        if self.d_kernel not in (3, 4):
            raise ValueError(f"model.d_kernel must be 3 or 4: got {self.d_kernel}")
        if self.writers < 0:
            raise ValueError(f"model.writers must not be negative: got {self.writers}")
        if self.writers and self.attributes:
            raise ValueError(f"model.writers and model.attributes exclude each other: got {self.attributes}")
        for option in ("classifier", "attributes", "writers"):
            if getattr(self, option) and not self.num_classes:
                raise ValueError(f"model.{option} needs classes: got model.num_classes 0")
        if len(set(self.attributes)) < len(self.attributes) or set(self.attributes) - set(ATTRIBUTES):
            raise ValueError(
                f"model.attributes must be different ones of {', '.join(ATTRIBUTES)}: got {self.attributes}"
            )
        self._check_family()

    def _check_family(self) -> None:
        """Raise `ValueError` for what this family of networks does not support."""
        family = self.family
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in FAMILY_OPTIONS and field.name not in family.options and value != field.default:
                raise ValueError(f"model.{field.name} must be {field.default} for {self.architecture}: got {value}")
        if self.num_classes and not family.conditioning:
            raise ValueError(f"model.num_classes must be 0 for {self.architecture}: got {self.num_classes}")
        if self.img_size % family.size_divisor:
            raise ValueError(
                f"model.img_size must be divisible by {family.size_divisor} for {self.architecture}: "
                f"got {self.img_size}"
            )
        for name, widths, counts in (
            ("g_widths", self.g_widths, family.g_widths),
            ("d_widths", self.d_widths, family.d_widths),
        ):
            if counts and len(widths) not in counts:
                needed = " or ".join(map(str, counts))
                raise ValueError(f"model.{name} needs {needed} widths for {self.architecture}: got {widths}")

    @property
    def family(self) -> Family:
        """The row of `models.families.FAMILIES` for this architecture."""
        from models.families import FAMILIES  # not at the top: the networks of that table import this module

        if self.architecture not in FAMILIES:
            raise ValueError(f"model.architecture must be one of {', '.join(FAMILIES)}: got {self.architecture!r}")
        return FAMILIES[self.architecture]

    @property
    def condition_width(self) -> int:
        """Number of columns of a class row c: a one-hot class, and scores of attributes or a one-hot writer."""
        return self.num_classes + len(self.attributes) + self.writers

    @property
    def asks(self) -> tuple[str, ...]:
        """Names of what can be asked for beside the class: the attributes, or a writer."""
        return ("writer",) if self.writers else self.attributes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.img_channels, self.img_size, self.img_size

    @property
    def group_size(self) -> int:
        """Number of images of the global batch that must stay together on one worker."""
        return max(self.std_group, 1)

    @property
    def has_batch_norm(self) -> bool:
        """Whether the networks normalize by batch statistics in training."""
        return self.family.has_batch_norm

    def to_json(self) -> str:
        """Return one line of JSON with every field."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Make a config from its fields. Raises `ValueError` for an unknown, missing or invalid one."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown model field {unknown[0]!r}")
        tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        try:
            return cls(**{**fields, **tuples})
        except TypeError as error:
            raise ValueError(f"model config: {error}") from error
