"""ModelConfig: what a generator and its discriminator are, in a form that fits a file's metadata."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, Self

WIDTHS = {"conv_cgan": (4, 4), "dcgan": (2, 2), "dropout_gan": (3, 2), "forge": (2, 3)}
"""Architectures with a fixed number of layers: how many g_widths and d_widths each has. All of them work at a quarter
of an image's size and double it twice."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a pair of networks; `ValueError` names the field that does not fit."""

    architecture: Literal["mlp", "conv_cgan", "dcgan", "dropout_gan", "forge"]
    """Family of networks: the module of that name in `models`."""
    z_dim: int
    """Length of a latent vector."""
    z_distribution: Literal["normal", "uniform"] = "normal"
    """Latents are drawn from N(0, 1), or uniformly from [-1, 1]."""
    num_classes: int = 10
    """Classes to condition on; 0 = unconditional."""
    img_size: int = 28
    """Height and width of an image in pixels."""
    img_channels: int = 1
    """1 = grey, 3 = RGB."""
    g_widths: tuple[int, ...]
    """Widths of the generator's layers, from the latent to the image."""
    d_widths: tuple[int, ...]
    """Widths of the discriminator's layers, from the image to the logit."""
    d_kernel: int = 4
    """Height and width of the windows of forge's second convolution in D, 3 or 4: most of D's work is in it."""
    std_group: int = 0
    """Images of one class whose spread D sees (minibatch standard deviation); 0 = D sees each image alone."""
    dropout: float = 0.0
    """Share of its features that D drops in training; 0 = none."""
    classifier: bool = False
    """Whether D also reads the class of an image (auxiliary classifier)."""

    def __post_init__(self) -> None:
        for field in ("z_dim", "img_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"model.{field} must be at least 1: got {getattr(self, field)}")
        if self.num_classes < 0:
            raise ValueError(f"model.num_classes must not be negative: got {self.num_classes}")
        if self.img_channels not in (1, 3):
            raise ValueError(f"model.img_channels must be 1 or 3: got {self.img_channels}")
        for field in ("g_widths", "d_widths"):
            widths = getattr(self, field)
            if not widths or min(widths) < 1:
                raise ValueError(f"model.{field} must be positive widths: got {widths}")
        if self.std_group < 0:
            raise ValueError(f"model.std_group must not be negative: got {self.std_group}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1): got {self.dropout}")
        if self.dropout and self.architecture != "dropout_gan":
            raise ValueError(f"model.dropout must be 0 for {self.architecture}: got {self.dropout}")
        if self.num_classes and self.architecture == "dropout_gan":
            raise ValueError(f"model.num_classes must be 0 for dropout_gan: got {self.num_classes}")
        if self.classifier and (self.architecture != "forge" or not self.num_classes):
            raise ValueError(
                f"model.classifier needs the architecture forge and classes: got {self.architecture} with "
                f"{self.num_classes}"
            )
        if self.d_kernel not in ((3, 4) if self.architecture == "forge" else (4,)):
            allowed = "3 or 4" if self.architecture == "forge" else f"4 for {self.architecture}"
            raise ValueError(f"model.d_kernel must be {allowed}: got {self.d_kernel}")
        if self.architecture in WIDTHS:
            if self.img_size % 4:
                raise ValueError(f"model.img_size must be divisible by 4 for {self.architecture}: got {self.img_size}")
            for field, count in zip(("g_widths", "d_widths"), WIDTHS[self.architecture], strict=True):
                widths = getattr(self, field)
                if len(widths) != count:
                    raise ValueError(f"model.{field} needs {count} widths for {self.architecture}: got {widths}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.img_channels, self.img_size, self.img_size

    @property
    def group_size(self) -> int:
        """Images of the global batch that must stay together on one worker."""
        return max(self.std_group, 1)

    @property
    def has_batch_norm(self) -> bool:
        """Whether the networks normalize by the statistics of a whole batch, of which one image has none."""
        return self.architecture in ("mlp", "conv_cgan", "dcgan")

    def to_json(self) -> str:
        """One line of JSON with every field."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The config of these fields; an unknown, missing or unfit one is a `ValueError`."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown model field {unknown[0]!r}")
        tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        try:
            return cls(**{**fields, **tuples})
        except TypeError as error:
            raise ValueError(f"model config: {error}") from error
