"""The digit reader: a small classifier of MNIST digits, the eye of the metrics and of the app's verdicts.

It judges generators and is never trained through, so that none of them learns to please it. Its weights come from
`python -m trainer.train_digit_reader`, which sees the 60,000 training images only.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from models.generator_file import read_metadata
from models.sampling import from_uint8

WEIGHTS = Path(__file__).resolve().with_suffix(".safetensors")
"""The shipped weights; found from this file, because Ray changes the working directory."""
SHA256 = "57e049bc83bbbff4aad0553c1ce3a3891b039fa5ea45916c2479d29cf77dae58"
"""Of the shipped weights: FID and the metrics beside it compare only where this is the same."""

IMG_SIZE, NUM_CLASSES, NUM_FEATURES = 28, 10, 128
READ_BATCH = 250
"""Images of one forward pass; with twice as many, memory goes back to the system each time and takes longer."""


class DigitReader(nn.Module):
    """images -> logits, by way of features that are 0 or positive.

    Shapes: B batch, images (B, 1, 28, 28) in [-1, 1], features (B, 128), logits (B, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 96, 3, bias=False)
        self.norm3 = nn.BatchNorm2d(96)
        self.conv4 = nn.Conv2d(96, 96, 3, bias=False)
        self.norm4 = nn.BatchNorm2d(96)
        self.fc = nn.Linear(96 * 3 * 3, NUM_FEATURES, bias=False)
        self.norm5 = nn.BatchNorm1d(NUM_FEATURES)
        self.out = nn.Linear(NUM_FEATURES, NUM_CLASSES)
        # Channels last: nearly twice as fast on a CPU.
        convert_conv2d_weight_memory_format(self, torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """images (B, 1, 28, 28) in [-1, 1] -> (B, 128)."""
        x = images.contiguous(memory_format=torch.channels_last)
        # Pooled before it is normalized: as good, and a third faster.
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2)))  # (B, 24, 14, 14)
        x = F.relu(self.norm2(F.max_pool2d(self.conv2(x), 2)))  # (B, 48, 7, 7)
        x = F.relu(self.norm3(self.conv3(x)))  # (B, 96, 5, 5)
        x = F.relu(self.norm4(self.conv4(x)))  # (B, 96, 3, 3)
        return F.relu(self.norm5(self.fc(x.flatten(1))))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 1, 28, 28) in [-1, 1] -> logits (B, 10)."""
        return self.out(self.features(images))


def load_digit_reader(path: Path = WEIGHTS, sha256: str = SHA256) -> DigitReader:
    """The reader with its shipped weights, frozen and in evaluation mode.

    Raises `ValueError` for a file that is not there or not the one that this version was measured with.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); {_FIX}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: SHA-256 {found} is not the digit reader's {sha256}; {_FIX}")
    reader = DigitReader()
    reader.load_state_dict(safetensors.torch.load(content))
    return reader.eval().requires_grad_(False)


def read_provenance(path: Path = WEIGHTS) -> dict[str, str | float]:
    """Where weights come from: the command, its date, and the accuracy on the test images."""
    try:
        return json.loads(read_metadata(path.read_bytes())["provenance"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: no digit reader's weights ({error}); {_FIX}") from error


@torch.inference_mode()
def read_digits(reader: DigitReader, images: NDArray[np.uint8] | Tensor) -> tuple[Tensor, Tensor]:
    """Read pictures, uint8 (N, 28, 28) or (N, 1, 28, 28): their features (N, 128) and logits (N, 10), on the CPU.

    Pictures come as bytes, because that is how the data are: what a generator draws is rounded before it is judged.
    """
    # A copy where they are an array, for that may be of read-only memory, which torch does not know.
    pictures = images if isinstance(images, Tensor) else torch.tensor(images)
    pictures = pictures.reshape(-1, 1, IMG_SIZE, IMG_SIZE)
    assert pictures.dtype == torch.uint8, f"pictures must be uint8: got {pictures.dtype}"
    device = reader.out.weight.device
    features = [torch.empty(0, NUM_FEATURES)]
    for part in pictures.split(READ_BATCH):
        features.append(reader.features(from_uint8(part.to(device))).cpu())
    joined = torch.cat(features)
    return joined, F.linear(joined, reader.out.weight.cpu(), reader.out.bias.cpu())


_FIX = "restore it with `git checkout -- models/digit_reader.safetensors`"
