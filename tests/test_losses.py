"""Losses against values worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch

from tests.training import FORGE
from trainer import losses

REAL, FAKE = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, -3.0])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_bce_is_the_cross_entropy_of_real_as_1_and_fake_as_0() -> None:
    expected = [(softplus(-r) + softplus(f)) / 2 for r, f in zip(REAL.tolist(), FAKE.tolist(), strict=True)]
    assert losses.bce_d(REAL, FAKE).tolist() == pytest.approx(expected)
    assert losses.bce_g(REAL, FAKE).tolist() == pytest.approx([softplus(-f) for f in FAKE.tolist()])


def test_relativistic_losses_see_only_the_difference_of_a_pair() -> None:
    assert losses.relativistic_d(REAL, FAKE).tolist() == pytest.approx([softplus(-1), softplus(2), softplus(-3)])
    assert losses.relativistic_g(REAL, FAKE).tolist() == pytest.approx([softplus(1), softplus(-2), softplus(3)])
    torch.testing.assert_close(losses.relativistic_d(REAL + 7, FAKE + 7), losses.relativistic_d(REAL, FAKE))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_in_two_parts_is_their_mean_and_another_compares_pairs(name: str) -> None:
    loss = losses.LOSSES[name]
    if loss.d_real and loss.d_fake:
        assert not loss.compares_pairs
        torch.testing.assert_close(loss.d(REAL, FAKE), (loss.d_real(REAL) + loss.d_fake(FAKE)) / 2)
    else:
        assert loss.compares_pairs
        torch.testing.assert_close(loss.d(REAL + 7, FAKE + 7), loss.d(REAL, FAKE))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_falls_when_logits_move_in_its_networks_favour(name: str) -> None:
    loss = losses.LOSSES[name]
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    real_gradient, fake_gradient = torch.autograd.grad(loss.d(real, fake).sum(), (real, fake))
    assert (real_gradient <= 0).all()  # a hinge is flat beyond its margin
    assert (real_gradient < 0).any()
    assert (fake_gradient >= 0).all()
    assert (fake_gradient > 0).any()
    (fake_gradient,) = torch.autograd.grad(loss.g(real, fake).sum(), fake)
    assert (fake_gradient < 0).all()


def test_gradient_penalty_is_the_squared_gradient_of_each_image() -> None:
    images = torch.rand(3, 1, 2, 2, requires_grad=True)
    weights = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    logits = (images * weights).sum((1, 2, 3)) * torch.tensor([1.0, 2.0, 0.0])
    squared = float(weights.square().sum())
    assert losses.gradient_penalty(images, logits).tolist() == pytest.approx([squared, 4 * squared, 0])


def test_class_cross_entropy_is_the_log_of_what_the_right_class_got() -> None:
    class_logits, c = torch.tensor([[1.0, 1.0], [0.0, math.log(3)]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert losses.class_cross_entropy(class_logits, c).tolist() == pytest.approx([math.log(2), math.log(4 / 3)])


def test_class_loss_adds_the_squared_error_of_attributes() -> None:
    class_logits, c = torch.tensor([[1.0, 1.0, 0.5, -1.0]]), torch.tensor([[1.0, 0.0, 1.5, -9.0]])
    model = replace(FORGE, num_classes=2, attributes=("slant", "width"))
    assert losses.class_loss(class_logits, c, model).tolist() == pytest.approx([math.log(2) + (1 + 4) / 2])
    model = replace(model, attributes=())
    assert losses.class_loss(class_logits[:, :2], c[:, :2], model).tolist() == pytest.approx([math.log(2)])


def test_class_loss_adds_a_tenth_of_the_cross_entropy_of_a_writer_who_is_named() -> None:
    class_logits = torch.tensor([[1.0, 1.0, 0.0, math.log(2), 0.0]]).repeat(2, 1)
    c = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    found = losses.class_loss(class_logits, c, replace(FORGE, num_classes=2, writers=3)).tolist()
    assert found == pytest.approx([math.log(2) + 0.1 * math.log(2), math.log(2)])


def test_accuracy_counts_logits_on_the_right_side() -> None:
    real, fake = torch.tensor([3.0, 2.0, -1.0, 4.0]), torch.tensor([-1.0, 1.0, 2.5, -2.0])
    assert [float(share) for share in losses.accuracy(real, fake, compares_pairs=False)] == [0.75, 0.5]
    # With an even count, the median is the lower middle value: 2 for real logits, -1 for fake ones.
    assert [float(share) for share in losses.accuracy(real, fake, compares_pairs=True)] == [0.75, 0.75]
    shifted = losses.accuracy(real + 100, fake + 100, compares_pairs=True)
    assert [float(share) for share in shifted] == [0.75, 0.75]
