"""The networks of this project: most channels at 7x7, conditioning by gain and bias in G and by projection in D.

G normalizes each image by itself. Only D looks at several images together, in small groups of fixed size and one class.
So results do not depend on how a batch is split over workers, and there are no running statistics.

Shapes: B batch, g images of a group, C channels, S = img_size / 4 (7 for MNIST). Layer normalization: Ba et al. 2016
(arXiv 1607.06450). Minibatch standard deviation: Karras et al. 2017 (arXiv 1710.10196), sec. 3. Projection
discriminator: Miyato and Koyama 2018 (arXiv 1802.05637). Auxiliary classifier: Odena et al. 2016 (arXiv 1610.09585).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import discriminator
from models.config import ModelConfig

FEATURES = 64
"""Length of the feature vector that D projects onto the class."""
HAND = 32
"""Length of the vector that stands for a writer."""
HAND_STD = 0.3
"""Standard deviation of its first values, which tells writers apart from the start."""


class ClassLayerNorm(nn.Module):
    """Layer normalization of each image over (C, H, W), with a gain and a bias per class and channel.

    Each unit of a further column of c adds to them.
    """

    def __init__(self, channels: int, num_classes: int, further: int = 0) -> None:
        super().__init__()
        rows = max(num_classes, 1)
        self.gain = nn.Parameter(torch.cat([torch.ones(rows, channels), torch.zeros(further, channels)]))
        self.bias = nn.Parameter(torch.zeros(rows + further, channels))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B, C, H, W), c (B, rows of the gain) -> (B, C, H, W)."""
        gain, bias = c @ self.gain, c @ self.bias  # (B, C)
        return torch.addcmul(bias[..., None, None], F.layer_norm(x, x.shape[1:]), gain[..., None, None])


class Hands(nn.Linear):
    """A linear map from the one-hot writer in a class row to `HAND` columns; without a writer, they are 0."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.writers, HAND, bias=False)
        self.others = config.condition_width - config.writers
        nn.init.normal_(self.weight, std=HAND_STD)

    def forward(self, c: Tensor) -> Tensor:
        """c (B, K + writers) -> (B, K + HAND)."""
        return torch.cat([c[:, : self.others], F.linear(c[:, self.others :], self.weight)], 1)


def embedded_width(config: ModelConfig) -> int:
    """Return the number of columns of a class row in which a writer has `HAND` columns."""
    return config.condition_width + (HAND - config.writers if config.writers else 0)


class Generator(nn.Module):
    """(z, c) -> images: z and class embedding -> (C7, S, S) -> (C14, 2S, 2S) -> (img_channels, 4S, 4S) in [-1, 1].

    With a third width, there are as many channels at full size before the image.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        wide, narrow, *fine = config.g_widths
        self.base = config.img_size // 4
        classes = config.num_classes
        further = embedded_width(config) - classes
        self.hands = Hands(config) if config.writers else None
        self.embed = nn.Linear(classes + further, config.z_dim, bias=False) if classes else None
        self.fc = nn.Linear(config.z_dim * (2 if classes else 1), wide * self.base**2)
        self.norm1 = ClassLayerNorm(wide, classes, further)
        self.conv1 = nn.Conv2d(wide, wide, 3, padding=1)
        self.norm2 = ClassLayerNorm(wide, classes, further)
        self.up1 = nn.ConvTranspose2d(wide, narrow, 4, 2, 1)
        self.norm3 = ClassLayerNorm(narrow, classes, further)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.norm4 = ClassLayerNorm(narrow, classes, further)
        self.up2 = nn.ConvTranspose2d(narrow, fine[0] if fine else config.img_channels, 4, 2, 1)
        self.norm5 = ClassLayerNorm(fine[0], classes, further) if fine else None
        self.conv3 = nn.Conv2d(fine[0], config.img_channels, 3, padding=1) if fine else None
        # At full scale the last layer saturates tanh from the start: images are black and there is no gradient for
        # minutes.
        last = self.up2 if self.conv3 is None else self.conv3
        with torch.no_grad():
            last.weight.mul_(0.5)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, z_dim), c (B, condition_width) -> (B, img_channels, img_size, img_size) in [-1, 1]."""
        if self.hands is not None:
            c = self.hands(c)
        if self.embed is None:
            c = z.new_ones(len(z), 1)
        else:
            z = torch.cat([z, self.embed(c)], 1)
        x = torch.unflatten(self.fc(z), 1, (-1, self.base, self.base))  # (B, C7, S, S)
        x = F.relu(self.norm1(x, c))
        x = F.relu(self.norm2(self.conv1(x), c))
        x = F.relu(self.norm3(self.up1(x), c))  # (B, C14, 2S, 2S)
        x = F.relu(self.norm4(self.conv2(x), c))
        x = self.up2(x)
        if self.norm5 is not None and self.conv3 is not None:
            x = self.conv3(F.relu(self.norm5(x, c)))  # (B, img_channels, 4S, 4S)
        return torch.clamp(self.config.g_gain * torch.tanh(x), -1, 1)


class Discriminator(discriminator.Discriminator):
    """(images, c) -> logits. Without normalization, which would distort the gradient penalties."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        first, second, third = config.d_widths
        self.conv1 = nn.Conv2d(config.img_channels, first, 4, 2, 1)
        self.conv2 = nn.Conv2d(first, second, config.d_kernel, 2, 1)
        self.conv3 = nn.Conv2d(second, third, 3, 2, 1)
        final = (config.img_size // 4 + 1) // 2
        spread = third if config.std_group else 0
        self.fc = nn.Linear(third * final**2 + spread, FEATURES)
        self.out = nn.Linear(FEATURES, 1)
        self.hands = Hands(config) if config.writers else None
        self.projection = nn.Linear(embedded_width(config), FEATURES, bias=False) if config.num_classes else None
        self.classifier = nn.Linear(FEATURES, config.condition_width) if config.classifier else None

    @property
    def has_classifier(self) -> bool:
        """Whether the config asked for a classifier."""
        return self.classifier is not None

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        """images (B, img_channels, img_size, img_size), c (B, condition_width) -> logits (B,)."""
        return self._logits(self._features(images), c)

    def read(self, images: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, img_channels, img_size, img_size), c (B, condition_width) -> logits (B,), class logits (B, K).

        K is condition_width: after the logits of the classes come the predicted scores of the attributes, or logits of
        the writers. They do not depend on c. Raises `RuntimeError` without a classifier.
        """
        if self.classifier is None:
            return super().read(images, c)
        features = self._features(images)
        return self._logits(features, c), self.classifier(features)

    def _features(self, images: Tensor) -> Tensor:
        """images -> features (B, FEATURES)."""
        x = F.leaky_relu(self.conv1(images), 0.2)  # (B, C14, 2S, 2S)
        x = F.leaky_relu(self.conv2(x), 0.2)  # (B, C7, S, S)
        x = F.leaky_relu(self.conv3(x), 0.2)  # (B, C4, ceil(S / 2), ceil(S / 2))
        features = x.flatten(1)
        if self.config.std_group:
            features = torch.cat([features, self._spread(x)], 1)
        return F.leaky_relu(self.fc(features), 0.2)

    def _logits(self, features: Tensor, c: Tensor) -> Tensor:
        """features (B, FEATURES), c (B, condition_width) -> logits (B,): a linear term and the projection on c."""
        logits: Tensor = self.out(features)[:, 0]
        if self.projection is not None:
            columns = c if self.hands is None else self.hands(c)
            logits = logits + (features * self.projection(columns)).sum(1)
        return logits

    def _spread(self, x: Tensor) -> Tensor:
        """Return the standard deviation (B, C) of the spatial mean of x (B, C, H, W) within each group of g images."""
        groups = torch.unflatten(x.mean((2, 3)), 0, (-1, self.config.std_group))  # (B / g, g, C)
        std = torch.sqrt(groups.var(1, correction=0) + 1e-8)
        return std.repeat_interleave(self.config.std_group, 0)
