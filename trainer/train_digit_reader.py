"""`python -m trainer.train_digit_reader`: train the digit reader, the classifier that scores all generators.

It trains on the 60,000 training images only. The test images measure the final weights once; nothing is selected by
them.
"""

import datetime
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from models.command_line import Parser
from models.digit_reader import NUM_CLASSES, WEIGHTS, DigitReader, read_digits
from models.sampling import from_uint8
from trainer import data

EPOCHS, BATCH_SIZE = 12, 128
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 0.02
WARMUP = 0.1
"""Share of all steps over which the learning rate rises; then it falls to 0 along half a cosine."""
AVERAGE = 0.998
"""Decay per step of the exponential moving average of the weights; less in trainings of few steps."""
MAX_DEGREES, MAX_SCALE, MAX_SHEAR, MAX_SHIFT = 10.0, 0.1, 0.15, 2
"""Limits of the augmentation: rotation, relative change of size, shear, and shift in pixels."""


def augment(images: Tensor, random: torch.Generator) -> Tensor:
    """Return images (B, C, H, W) in [-1, 1] with the first half rotated, scaled and sheared a little, and all shifted.

    The shift is by whole pixels, so the second half stays as sharp as the images that the reader will judge.
    """
    half = len(images) // 2

    def uniform(limit: float, count: int) -> Tensor:
        return (torch.rand(count, generator=random) * 2 - 1) * limit

    angle, shear = uniform(math.radians(MAX_DEGREES), half), uniform(MAX_SHEAR, half)
    x_scale, y_scale = 1 + uniform(MAX_SCALE, half), 1 + uniform(MAX_SCALE, half)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(half)
    x_row = torch.stack([x_scale * cos, x_scale * (shear * cos - sin), zero], 1)
    y_row = torch.stack([y_scale * sin, y_scale * (shear * sin + cos), zero], 1)
    affine = torch.stack([x_row, y_row], 1)  # (B / 2, 2, 3)
    grid = F.affine_grid(affine, [half, *images.shape[1:]], align_corners=False)
    # `grid_sample` pads with 0, and black is -1: shift the values, so that 0 is black.
    turned = F.grid_sample(images[:half] + 1, grid, align_corners=False) - 1
    images = torch.cat([turned, images[half:]])

    channels, size = images.shape[1], images.shape[-1]
    steps = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2, len(images)), generator=random)
    rows, columns = (steps + MAX_SHIFT)[..., None] + torch.arange(size)  # (B, H), (B, W)
    padded = F.pad(images, [MAX_SHIFT] * 4, value=-1.0)
    across = torch.arange(len(images))[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[*across, rows[:, None, :, None], columns[:, None, None, :]]


def batches(
    images: Tensor, labels: Tensor, epochs: int, seed: int, augmented: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all batches of a training: images (B, C, H, W) in [-1, 1] and labels (B,). The seed determines them."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=random)
        for indices in torch.split(order[: len(order) // BATCH_SIZE * BATCH_SIZE], BATCH_SIZE):
            batch = from_uint8(images[indices])
            yield augment(batch, random) if augmented else batch, labels[indices]


def train(
    images: Tensor,
    labels: Tensor,
    epochs: int,
    seed: int,
    augmented: bool = True,
    title: str = "digit reader",
    num_classes: int = NUM_CLASSES,
) -> DigitReader:
    """Train a reader on uint8 images (N, C, H, W) and labels (N,); return the moving average of its weights.

    There is no label smoothing: it would draw the features of a class together, and the metrics measure variety there.
    `title` names the training in its progress output.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = DigitReader(images.shape[-1], images.shape[1], num_classes)
    steps = max(1, len(images) // BATCH_SIZE * epochs)
    # Of few steps, the usual average would be mostly of the first weights.
    decay = min(AVERAGE, max(0.0, 1 - 3 / steps))
    average = AveragedModel(reader, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    optimizer = torch.optim.AdamW(reader.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARMUP * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    started, total = time.monotonic(), 0.0
    bar = tqdm(total=steps, unit="step", desc=title, leave=False, disable=not sys.stderr.isatty())
    for step, (batch, targets) in enumerate(batches(images, labels, epochs, seed, augmented), 1):
        loss = F.cross_entropy(reader(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(reader)
        total += loss.item()
        bar.update()
        if step % (steps // epochs or 1) == 0:
            mean, total = total / (steps // epochs), 0.0
            epoch, seconds = step * epochs // steps, time.monotonic() - started
            bar.write(f"{title}, epoch {epoch}/{epochs}: loss {mean:.4f}, {seconds:.0f} s", file=sys.stdout)
    bar.close()
    reader.load_state_dict(average.module.state_dict())
    return reader.eval().requires_grad_(False)


def weights_bytes(reader: DigitReader, provenance: dict[str, str | float]) -> bytes:
    """Return the content of a weights file."""
    weights = {name: value.contiguous() for name, value in reader.state_dict().items()}
    return safetensors.torch.save(weights, {"provenance": json.dumps(provenance, sort_keys=True)})


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m trainer.train_digit_reader", description="Train the digit reader.")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the data (default: {EPOCHS})")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=WEIGHTS, metavar="FILE", help="file to write (default: the shipped weights)"
    )
    options = parser.parse_args(arguments)
    try:
        if options.epochs < 1:
            raise ValueError(f"--epochs must be at least 1: got {options.epochs}")
        if not 0 <= options.seed < 2**32:
            raise ValueError(f"--seed must be in [0, 2^32): got {options.seed}")
        if not options.out.parent.is_dir():
            raise ValueError(f"{options.out}: cannot be written (no such folder)")
        training, test = data.load_dataset(data.MNIST, "train"), data.load_dataset(data.MNIST, "t10k")
    except ValueError as error:
        return parser.fail(str(error))
    reader = train(torch.tensor(training.images), torch.from_numpy(training.labels), options.epochs, options.seed)
    _, logits = read_digits(reader, test.images)
    accuracy = (logits.argmax(1) == torch.from_numpy(test.labels)).double().mean().item()
    content = weights_bytes(
        reader,
        {
            "command": f"python -m trainer.train_digit_reader --epochs {options.epochs} --seed {options.seed}",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "test_accuracy": accuracy,
            "torch": torch.__version__,
        },
    )
    try:
        options.out.write_bytes(content)
    except OSError as error:
        return parser.fail(f"{options.out}: cannot be written ({error.strerror})")
    print(f"Test accuracy {accuracy:.2%} on {len(test.labels)} images that were not used for training")
    print(f"Wrote {options.out}; set SHA256 in models/digit_reader.py to {hashlib.sha256(content).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
