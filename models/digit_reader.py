"""The digit reader: a small classifier of MNIST digits, used by the metrics and by the app to read generated digits.

No generator is trained with it, so none can learn to exploit its errors. Its weights come from
`python -m trainer.train_digit_reader`, which trains on the 60,000 training images only. Other datasets have readers of
the same architecture, of their own size, channels and classes (`trainer/readers.py`).
"""

import hashlib
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from models.sampling import from_uint8

WEIGHTS = Path(__file__).resolve().with_suffix(".safetensors")
"""The shipped weights, located from this file because Ray changes the working directory."""
SHA256 = "57e049bc83bbbff4aad0553c1ce3a3891b039fa5ea45916c2479d29cf77dae58"
"""SHA-256 of the shipped weights. Metrics such as FID are comparable only if this is the same."""
_FIX = "restore it with `git checkout -- models/digit_reader.safetensors`"

IMG_SIZE, NUM_CLASSES, NUM_FEATURES = 28, 10, 128
MIN_IMG_SIZE = 8
"""Height and width, in pixels, of the smallest images that a reader reads."""
MIN_UNPADDED = 24
"""Below this image size the last convolutions are padded, because they would leave nothing of the image."""
MAX_MAP = 4
"""Maximum height and width of the feature maps at the end; those of larger images are pooled."""
READ_BATCH = 250
"""Images of one forward pass. With twice as many, memory is returned to the system each time, which is slower."""


class DigitReader(nn.Module):
    """images -> non-negative features -> logits.

    Shapes: B batch, images (B, C, H, W) in [-1, 1], features (B, 128), logits (B, K); MNIST's are C = 1, H = W = 28,
    K = 10, and the comments show its sizes. Raises `ValueError` for images below `MIN_IMG_SIZE`.
    """

    def __init__(self, img_size: int = IMG_SIZE, img_channels: int = 1, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        if img_size < MIN_IMG_SIZE:
            raise ValueError(f"a reader reads images of at least {MIN_IMG_SIZE} pixels: got {img_size}")
        self.img_size, self.img_channels, self.num_classes = img_size, img_channels, num_classes
        padding = 0 if img_size >= MIN_UNPADDED else 1
        map_size = min(MAX_MAP, img_size // 4 - 4 + 4 * padding)
        self.conv1 = nn.Conv2d(img_channels, 24, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 96, 3, padding=padding, bias=False)
        self.norm3 = nn.BatchNorm2d(96)
        self.conv4 = nn.Conv2d(96, 96, 3, padding=padding, bias=False)
        self.norm4 = nn.BatchNorm2d(96)
        self.fc = nn.Linear(96 * map_size**2, NUM_FEATURES, bias=False)
        self.norm5 = nn.BatchNorm1d(NUM_FEATURES)
        self.out = nn.Linear(NUM_FEATURES, num_classes)
        # The channels-last layout is nearly twice as fast on a CPU.
        convert_conv2d_weight_memory_format(self, torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> (B, 128)."""
        x = images.contiguous(memory_format=torch.channels_last)
        # Pooling before normalization is as accurate and a third faster.
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2)))  # (B, 24, 14, 14)
        x = F.relu(self.norm2(F.max_pool2d(self.conv2(x), 2)))  # (B, 48, 7, 7)
        x = F.relu(self.norm3(self.conv3(x)))  # (B, 96, 5, 5)
        x = F.relu(self.norm4(self.conv4(x)))  # (B, 96, 3, 3)
        if x.shape[-1] > MAX_MAP:
            x = F.adaptive_max_pool2d(x, MAX_MAP)
        return F.relu(self.norm5(self.fc(x.flatten(1))))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> logits (B, K)."""
        logits: Tensor = self.out(self.features(images))
        return logits


def load_digit_reader(path: Path = WEIGHTS, sha256: str = SHA256) -> DigitReader:
    """Load the reader with its shipped weights, frozen and in evaluation mode.

    Raises `ValueError` for a file that cannot be read or whose SHA-256 is not `sha256`.
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


@torch.inference_mode()
def read_digits(reader: DigitReader, images: NDArray[np.uint8] | Tensor) -> tuple[Tensor, Tensor]:
    """Return the features (N, 128) and logits (N, K) of pictures on the CPU.

    Pictures are bytes, as the data are: a generator's output is rounded before it is judged. They are uint8 (N, H, W),
    (N, C, H, W) or, in colour, (N, H, W, C). Raises `ValueError` for another type.
    """
    # `torch.tensor` copies an array, which may be read-only; torch has no read-only tensors.
    pictures = images if isinstance(images, Tensor) else torch.tensor(images)
    shape = reader.img_channels, reader.img_size, reader.img_size
    if pictures.shape[1:] == (*shape[1:], shape[0]) != shape:
        pictures = pictures.movedim(3, 1)
    pictures = pictures.reshape(-1, *shape)
    if pictures.dtype != torch.uint8:
        raise ValueError(f"pictures must be uint8: got {pictures.dtype}")
    device = reader.out.weight.device
    features = [torch.empty(0, NUM_FEATURES)]
    for part in torch.split(pictures, READ_BATCH):
        features.append(reader.features(from_uint8(part.to(device))).cpu())
    joined = torch.cat(features)
    return joined, F.linear(joined, reader.out.weight.cpu(), reader.out.bias.cpu())
