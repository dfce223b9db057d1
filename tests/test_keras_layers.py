"""Padding as in Keras, against values worked out by hand, and dropout masks that workers share."""

import pytest
import torch
from torch import nn

from models.dropout import Dropout, SharedMasks, share_masks
from models.keras_layers import SameConv2d, SameConvTranspose2d, batch_norm, init_glorot, same_size


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "before"),
    [
        (5, 2, 28, 1),  # 13 * 2 + 5 - 28 = 3 pixels: 1 before, 2 after
        (5, 2, 7, 2),  # 3 * 2 + 5 - 7 = 4
        (5, 1, 28, 2),
        (3, 2, 28, 0),  # 13 * 2 + 3 - 28 = 1: 0 before, 1 after
        (3, 2, 7, 1),
        (7, 1, 28, 3),
    ],
)
def test_a_convolution_pads_less_before_than_after(kernel: int, stride: int, size: int, before: int) -> None:
    conv = SameConv2d(1, 1, kernel, stride)
    for tap in (0, kernel - 1):
        with torch.no_grad():
            conv.weight.zero_()[0, 0, tap, tap] = 1
            conv.bias.zero_()
        x = torch.rand(1, 1, size, size)
        out = conv(x)[0, 0]
        assert out.shape == (-(-size // stride),) * 2
        for row in range(len(out)):
            source = row * stride + tap - before  # the pixel under this tap; 0 outside of the image
            expected = x[0, 0, source, source] if 0 <= source < size else 0
            assert out[row, row] == expected


@pytest.mark.parametrize(("kernel", "stride", "before"), [(5, 2, 1), (4, 2, 1), (5, 1, 2), (3, 2, 0)])
def test_a_transposed_convolution_crops_less_before_than_after(kernel: int, stride: int, before: int) -> None:
    conv = SameConvTranspose2d(1, 1, kernel, stride)
    nn.init.zeros_(conv.bias)
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 0, 0] = 1
    out = conv(x)[0, 0]
    assert out.shape == (7 * stride,) * 2
    torch.testing.assert_close(out[: kernel - before, : kernel - before], conv.weight[0, 0, before:, before:])


@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (4, 2), (5, 1), (3, 2)])
def test_it_is_the_transpose_of_the_convolution(kernel: int, stride: int) -> None:
    conv = SameConv2d(2, 3, kernel, stride).double()
    transposed = SameConvTranspose2d(3, 2, kernel, stride).double()
    with torch.no_grad():
        transposed.weight.copy_(conv.weight)
        conv.bias.zero_()
        transposed.bias.zero_()
    x, y = torch.rand(1, 2, 28, 28).double(), torch.rand(1, 3, 28 // stride, 28 // stride).double()
    torch.testing.assert_close((conv(x) * y).sum(), (x * transposed(y)).sum())


def test_initial_weights_and_batch_norm_are_those_of_keras() -> None:
    conv, linear = SameConv2d(3, 8, 5), nn.Linear(30, 20)
    init_glorot(nn.Sequential(conv, linear))
    # Uniform within sqrt(6 / (inputs + outputs)), where inputs and outputs of a convolution include its kernel size.
    for layer, limit in ((conv, (6 / (3 * 25 + 8 * 25)) ** 0.5), (linear, (6 / 50) ** 0.5)):
        assert layer.bias is not None
        assert 0.9 * limit < layer.weight.abs().max() <= limit
        assert not layer.bias.any()
    assert (batch_norm(4).eps, batch_norm(4).momentum) == (1e-3, 0.01)
    assert (same_size(28, 1), same_size(28, 2), same_size(28, 3)) == (14, 7, 4)


def shared(seed: int, batch_size: int, rows: list[int]) -> SharedMasks:
    return SharedMasks(torch.Generator().manual_seed(seed), batch_size, torch.tensor(rows))


def test_workers_drop_the_same_features_as_one_alone() -> None:
    network = nn.Sequential(Dropout(0.4), nn.Flatten(), Dropout(0.4))
    x = torch.rand(6, 3, 4, 4)
    share_masks(network, shared(5, 6, list(range(6))))
    whole = network(x), network(x)  # the second pass has masks of its own
    assert not torch.equal(*whole)
    for rows in ([0, 1], [2, 3, 4, 5]):
        share_masks(network, shared(5, 6, rows))
        assert torch.equal(network(x[rows]), whole[0][rows])
        assert torch.equal(network(x[rows]), whole[1][rows])


def test_dropout_keeps_the_mean_and_is_off_in_evaluation() -> None:
    network = nn.Sequential(Dropout(0.4))
    x = torch.ones(100, 1000)
    share_masks(network, shared(0, 100, list(range(100))))
    out = network(x)
    assert (out == 0).float().mean() == pytest.approx(0.4, abs=0.01)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert torch.equal(network.eval()(x), x)
    assert 0.38 < (nn.Sequential(Dropout(0.4))(x) == 0).float().mean() < 0.42  # without sharing
