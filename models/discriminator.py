"""Discriminator: the interface of the discriminators of all families."""

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Base class of discriminators: (images, c) -> logits, and class logits where there is an auxiliary classifier.

    Shapes: images (B, img_channels, img_size, img_size) in [-1, 1], c (B, K), logits (B,), class logits
    (B, K). K is `ModelConfig.condition_width`: columns of attributes, if any, follow those of the classes.
    """

    @property
    def has_classifier(self) -> bool:
        """Whether `read` is available."""
        return False

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        """Return logits (B,): how real each image looks for its class. There is no sigmoid."""
        raise NotImplementedError

    def read(self, images: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B,) as `forward` does, and class logits (B, K), in one pass.

        Raises `RuntimeError` without a classifier.
        """
        raise RuntimeError("this discriminator has no classifier")
