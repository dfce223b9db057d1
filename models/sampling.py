"""From seeds and classes to pictures: latents, class mixes, interpolation, truncation, grids.

A picture is a function of (generator, seed, class mix, truncation) alone: latents come from a frozen random stream, and
every forward pass has the same padded shape, so that neighbours in a batch cannot change a pixel.
"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import ModelConfig

MAX_SEED = 2**32 - 1
FORWARD_BATCH = 16
"""Images of one forward pass: a fixed shape, because other shapes may round differently."""


def latent(seed: int, config: ModelConfig) -> Tensor:
    """The latent (z_dim,) of a seed in [0, 2^32).

    From `numpy.random.RandomState`, whose stream is frozen (NEP 19), rounded to multiples of 2^-12 so that any
    implementation of it agrees to the last bit.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be between 0 and {MAX_SEED}: got {seed}")
    random = np.random.RandomState(seed)
    normal = config.z_distribution == "normal"
    z = random.standard_normal(config.z_dim) if normal else random.uniform(-1, 1, config.z_dim)
    return torch.from_numpy((np.round(z * 4096) / 4096).astype(np.float32))


def latents(seeds: Sequence[int], config: ModelConfig) -> Tensor:
    """The latents (N, z_dim) of N seeds."""
    return torch.stack([latent(seed, config) for seed in seeds])


def truncate(z: Tensor, truncation: float) -> Tensor:
    """z scaled toward 0: 1 = as drawn, 0 = the class's average picture; less varied, more typical."""
    if not 0 <= truncation <= 1:
        raise ValueError(f"truncation must be between 0 and 1: got {truncation}")
    return z * truncation


def lerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The straight line from a (t = 0) to b (t = 1), both (D,)."""
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The arc from a (t = 0) to b (t = 1), both (D,); the length changes evenly (Shoemake 1985; White 2016).

    Points of a straight line between two normal latents are shorter than nearly all that G was trained on. Parallel,
    opposite and zero vectors have no arc of their own, and take the line.
    """
    length_a, length_b = a.norm(), b.norm()
    if length_a == 0 or length_b == 0:
        return lerp(a, b, t)
    angle = torch.arccos((a @ b / (length_a * length_b)).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return lerp(a, b, t)
    direction = (torch.sin((1 - t) * angle) * a / length_a + torch.sin(t * angle) * b / length_b) / torch.sin(angle)
    return direction * (length_a + (length_b - length_a) * t)


def one_hot(labels: Sequence[int], num_classes: int) -> Tensor:
    """Class rows (N, num_classes) of N labels; (N, 0) for an unconditional net, whatever the labels."""
    if not num_classes:
        return torch.zeros(len(labels), 0)
    for label in labels:
        if not 0 <= label < num_classes:
            raise ValueError(f"class must be between 0 and {num_classes - 1}: got {label}")
    return F.one_hot(torch.tensor(labels, dtype=torch.int64), num_classes).float()


@torch.inference_mode()
def draw(generator: nn.Module, z: Tensor, c: Tensor) -> NDArray[np.uint8]:
    """Pictures of latents z (N, z_dim) and class rows c (N, num_classes): uint8 (N, H, W), or (N, H, W, 3)."""
    images = []
    for z_part, c_part in zip(z.split(FORWARD_BATCH), c.split(FORWARD_BATCH), strict=True):
        missing = FORWARD_BATCH - len(z_part)
        padded = generator(F.pad(z_part, (0, 0, 0, missing)), F.pad(c_part, (0, 0, 0, missing)))
        images.append(to_uint8(padded[: len(z_part)]))
    return np.concatenate(images)


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Images (N, C, H, W) in [-1, 1] as uint8 (N, H, W), or (N, H, W, 3); what is outside is clamped."""
    pixels = ((images.detach().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def from_uint8(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images as values in [-1, 1]; the other direction of `to_uint8`."""
    return images.to(dtype) / 127.5 - 1


def image_grid(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images (N, H, W[, 3]) row by row in one picture (rows * H, columns * W[, 3]); empty cells are black."""
    rows = -(-len(images) // columns)
    height, width, *channels = images.shape[1:]
    cells = np.zeros((rows * columns, height, width, *channels), np.uint8)
    cells[: len(images)] = images
    cells = cells.reshape(rows, columns, height, width, *channels).swapaxes(1, 2)
    return cells.reshape(rows * height, columns * width, *channels)


def to_png(image: NDArray[np.uint8], scale: int = 1) -> bytes:
    """A picture (H, W[, 3]) as a PNG file, each pixel drawn as a square of `scale` pixels."""
    picture = Image.fromarray(image)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


GRID_SEEDS = 10
"""Pictures of each class in a sample grid, with seeds 0, 1, ...; a generator without classes draws 100 seeds."""


def sample_grid(generator: nn.Module, config: ModelConfig) -> bytes:
    """Draw a PNG with a row for each class and a column for each seed, always of the same latents."""
    weights = next(generator.parameters())
    classes = max(config.num_classes, 1)
    seeds = list(range(GRID_SEEDS)) * classes if config.num_classes else list(range(GRID_SEEDS**2))
    labels = [label for label in range(classes) for _ in range(len(seeds) // classes)]
    z, c = latents(seeds, config), one_hot(labels, config.num_classes)
    training = generator.training
    generator.eval()
    images = draw(generator, z.to(weights), c.to(weights))
    generator.train(training)
    return to_png(image_grid(images, GRID_SEEDS))
