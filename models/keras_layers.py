"""Layers that compute what Keras' layers do: padding 'same', BatchNorm settings, and initial weights."""

from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """Convolution with Keras' padding 'same': n pixels become ceil(n / stride), whatever the kernel.

    The window of the last output pixel ends (out - 1) * stride + kernel - n pixels past the image. Keras pads half of
    these pixels before the image and the rest after it. Kernel 5, stride 2, 28 pixels: 13 * 2 + 5 - 28 = 3, so 1 on the
    left and top, 2 on the right and bottom; 7 pixels: 3 * 2 + 5 - 7 = 4, so 2 and 2. Kernel 3, stride 2, 28 pixels:
    1, so 0 and 1. PyTorch pads equally on both sides, which shifts the image by a pixel for even sizes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = (max(((n - 1) // stride) * stride + kernel - n, 0) for n in x.shape[2:])
        return super().forward(F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution with Keras' padding 'same': n pixels become n * stride.

    It is the transpose of a 'same' convolution from n * stride to n pixels, whose padding is kernel - stride. So of the
    (n - 1) * stride + kernel output pixels, Keras crops (kernel - stride) // 2 in front and the rest behind: 1 and 1
    for kernel 4 and stride 2, 1 and 2 for kernel 5 and stride 2, 2 and 2 for kernel 5 and stride 1. PyTorch crops the
    number in front on both sides; `forward` cuts off the pixel that may be left.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, (kernel - stride) // 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x (B, C, H, W) -> (B, outputs, H * stride, W * stride)."""
        height, width = (n * self.stride[0] for n in x.shape[2:])
        return super().forward(x, output_size)[..., :height, :width]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a BatchNorm2d with Keras' defaults: eps 1e-3, momentum .99 (PyTorch counts momentum the other way)."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def init_glorot(network: nn.Module) -> None:
    """Set the weights of all dense and convolution layers as Keras does: Glorot-uniform, biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def same_size(size: int, strides: int) -> int:
    """Return what `strides` 'same' convolutions of stride 2 make of `size` pixels."""
    for _ in range(strides):
        size = (size + 1) // 2
    return size
