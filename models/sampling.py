"""From seeds and classes to pictures: latents, interpolation, truncation, class rows, drawing, grids.

A picture is a function of (generator, seed, class row, truncation) alone. Latents come from a frozen random stream, and
the generator runs in evaluation mode.

Pictures that people see and send are drawn in float64. In float32, the last bits depend on the kind of processor, the
number of threads and the shape of the batch, and about one pixel in 100,000 becomes one grey level lighter or darker.
In float64, the differences are far too small to reach a pixel, so a link gives the same pixels everywhere.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from models.attributes import AttributeTable
from models.config import ModelConfig

MAX_SEED = 2**32 - 1
FORWARD_BATCH = 16
"""Images of one forward pass."""


def latent(seed: int, config: ModelConfig) -> Tensor:
    """Return the latent (z_dim,) of a seed in [0, 2^32).

    It is drawn from `numpy.random.RandomState`, whose stream is frozen (NEP 19), and rounded to multiples of 2^-12, so
    that all implementations of that stream agree to the last bit. Raises `ValueError` for another seed.
    """
    z, _ = _numbers(seed, config)
    return torch.from_numpy(_rounded(z).astype(np.float32))  # exact in float32, too


def attribute_draws(seeds: Sequence[int], config: ModelConfig) -> NDArray[np.float64]:
    """Return the numbers (N,) in [0, 1) that determine the attributes of N seeds: those after the latent's."""
    return np.array([_numbers(seed, config)[1].random_sample() for seed in seeds])


def _numbers(seed: int, config: ModelConfig) -> tuple[NDArray[np.float64], np.random.RandomState]:
    """Return the latent of a seed before rounding, and the stream after it."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be between 0 and {MAX_SEED}: got {seed}")
    random = np.random.RandomState(seed)
    normal = config.z_distribution == "normal"
    return random.standard_normal(config.z_dim) if normal else random.uniform(-1, 1, config.z_dim), random


def _rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(numbers * 4096) / 4096


def latents(seeds: Sequence[int], config: ModelConfig) -> Tensor:
    """Return the latents (N, z_dim) of N seeds."""
    return torch.stack([latent(seed, config) for seed in seeds])


def truncate(z: Tensor, truncation: float) -> Tensor:
    """Return z scaled toward 0: 1 = as drawn, less = less varied and more typical, 0 = one picture per class.

    Raises `ValueError` for a truncation outside [0, 1].
    """
    if not 0 <= truncation <= 1:
        raise ValueError(f"truncation must be between 0 and 1: got {truncation}")
    return z * truncation


def lerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Return the point (D,) at t of the straight line from a (D,) at t = 0 to b (D,) at t = 1."""
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Return the point (D,) at t of the arc from a (D,) at t = 0 to b (D,) at t = 1 (Shoemake 1985; White 2016).

    The length changes linearly from that of a to that of b. On a straight line between two normal latents the points
    in the middle are shorter than nearly all latents that G was trained on. Parallel, opposite and zero vectors define
    no arc: for these the result is `lerp`.
    """
    length_a, length_b = a.norm(), b.norm()
    if length_a == 0 or length_b == 0:
        return lerp(a, b, t)
    angle = torch.arccos((a @ b / (length_a * length_b)).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return lerp(a, b, t)
    direction = (torch.sin((1 - t) * angle) * a / length_a + torch.sin(t * angle) * b / length_b) / torch.sin(angle)
    point: Tensor = direction * (length_a + (length_b - length_a) * t)
    return point


def corner_weights(x: float, y: float) -> Tensor:
    """Return the weights (4,) of the corners at (0, 0), (1, 0), (0, 1) and (1, 1) at a point (x, y) of [0, 1]^2."""
    return torch.tensor([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], dtype=torch.float64)


def plane(corners: Tensor, x: float, y: float) -> Tensor:
    """Return the point (D,) at (x, y) in [0, 1]^2 between corners (4, D) at (0, 0), (1, 0), (0, 1) and (1, 1).

    It is the weighted mean of the corners, scaled to the weighted mean of their lengths for the reason given in
    `slerp`. If the mean is 0, the result is 0.
    """
    weights = corner_weights(x, y).to(corners)
    mean: Tensor = (weights[:, None] * corners).sum(0)
    length = mean.norm()
    return mean * ((weights * corners.norm(dim=1)).sum() / length) if length > 0 else mean


def one_hot(labels: Sequence[int], num_classes: int) -> Tensor:
    """Return class rows (N, num_classes) of N labels; (N, 0) for an unconditional network, whatever the labels.

    Raises `ValueError` for a label outside 0..num_classes - 1.
    """
    if not num_classes:
        return torch.zeros(len(labels), 0)
    for label in labels:
        if not 0 <= label < num_classes:
            raise ValueError(f"class must be between 0 and {num_classes - 1}: got {label}")
    return F.one_hot(torch.tensor(labels, dtype=torch.int64), num_classes).float()


def class_rows(
    labels: Sequence[int],
    draws: NDArray[np.float64],
    config: ModelConfig,
    table: AttributeTable | None,
    truncation: float = 1.0,
    asked: NDArray[np.float64] | None = None,
) -> Tensor:
    """Return class rows (N, K + A) of N labels: one-hot, and the scores of the attributes if the networks have any.

    Columns of writers are 0, which is none of them. The scores come from `draws` (N,) of `attribute_draws`; for `asked`
    and `truncation` see `AttributeTable.draw`.
    """
    rows = F.pad(one_hot(labels, config.num_classes), (0, config.writers))
    if table is None:
        return rows
    scores = table.draw(draws, np.array(labels, np.int64), asked, truncation)
    return torch.cat([rows, torch.from_numpy(scores).float()], 1)  # multiples of 2^-12 are exact in float32


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set a network to evaluation mode for the block, and each of its modules back to its own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.inference_mode()
def draw(generator: nn.Module, z: Tensor, c: Tensor) -> NDArray[np.uint8]:
    """Return pictures of latents z (N, z_dim) and class rows c (N, K + A): uint8 (N, H, W), or (N, H, W, 3).

    The generator runs in evaluation mode, whatever mode it is in, and in the type of its weights. In float32 each pass
    has the same shape, because other shapes may round differently.
    """
    weights = next(generator.parameters(), z)
    images = []
    with evaluating(generator):
        for z_part, c_part in zip(torch.split(z, FORWARD_BATCH), torch.split(c, FORWARD_BATCH), strict=True):
            missing = 0 if weights.dtype == torch.float64 else FORWARD_BATCH - len(z_part)
            rows = [F.pad(part.to(weights), (0, 0, 0, missing)) for part in (z_part, c_part)]
            images.append(to_uint8(generator(*rows)[: len(z_part)]))
    return np.concatenate(images)


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Return images (N, C, H, W) in [-1, 1] as uint8 (N, H, W), or (N, H, W, 3); values outside are clamped."""
    pixels = ((images.detach().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def from_uint8(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 images of any shape, such as (N, C, H, W), as values in [-1, 1] of the same shape."""
    return images.to(dtype) / 127.5 - 1


def image_grid(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return images (N, H, W[, 3]), row by row, as one picture (rows * H, columns * W[, 3]); empty cells are black."""
    rows = -(-len(images) // columns)
    height, width, *channels = images.shape[1:]
    cells = np.zeros((rows * columns, height, width, *channels), np.uint8)
    cells[: len(images)] = images
    cells = cells.reshape(rows, columns, height, width, *channels).swapaxes(1, 2)
    return cells.reshape(rows * height, columns * width, *channels)


def to_png(image: NDArray[np.uint8], scale: int = 1) -> bytes:
    """Return a picture (H, W[, 3]) as the bytes of a PNG file, with each pixel drawn as scale x scale pixels."""
    picture = Image.fromarray(image)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


GRID_SEEDS = 10
"""Pictures of each class in a sample grid, with seeds 0, 1, ...; a generator without classes draws 100 seeds."""


def sample_grid(generator: nn.Module, config: ModelConfig, table: AttributeTable | None = None) -> bytes:
    """Draw a PNG with a row for each class and a column for each seed, always of the same latents."""
    classes = max(config.num_classes, 1)
    seeds = list(range(GRID_SEEDS)) * classes if config.num_classes else list(range(GRID_SEEDS**2))
    labels = [label for label in range(classes) for _ in range(len(seeds) // classes)]
    z, c = latents(seeds, config), class_rows(labels, attribute_draws(seeds, config), config, table)
    return to_png(image_grid(draw(generator, z, c), GRID_SEEDS))
