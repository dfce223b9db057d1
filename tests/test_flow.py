"""The flow model beside `forge`: known velocities and their paths, its training, and its page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import flow
from benchmarks.timed_runs import ROOT
from models import sampling

TINY = flow.Settings(narrow=4, wide=8, blocks=1, steps=3, batch_size=4)


class ToOneImage(nn.Module):
    """The velocities, and mean velocities, of a flow whose only image is `target`."""

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.target = target

    def forward(self, x_t: Tensor, t: Tensor, r: Tensor, c: Tensor) -> Tensor:
        return (self.target - x_t) / (1 - t)[:, None, None, None]


class Clock(nn.Module):
    """A mean velocity that is t everywhere, and so changes by 1 a unit of time."""

    def forward(self, x_t: Tensor, t: Tensor, r: Tensor, c: Tensor) -> Tensor:
        return t[:, None, None, None].expand_as(x_t)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_straight_flow_arrives_in_any_number_of_steps(steps: int) -> None:
    target = torch.rand(1, 28, 28)
    z, c = sampling.latents(range(3), flow.CONFIG), sampling.one_hot([1, 2, 3], 10)
    images = flow.Sampler(ToOneImage(target), steps)(z, c)
    torch.testing.assert_close(images, target.expand(3, 1, 28, 28), rtol=0, atol=1e-5)


def test_guidance_moves_away_from_what_has_no_class() -> None:
    class OfClass(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, r: Tensor, c: Tensor) -> Tensor:
            return c.sum(1)[:, None, None, None].expand_as(x_t) + 1

    z, c = torch.zeros(1, 28 * 28), sampling.one_hot([1], 10)
    assert flow.Sampler(OfClass(), 2)(z, c).unique().tolist() == [2]
    assert flow.Sampler(OfClass(), 2, guidance=3)(z, c).unique().tolist() == [4]  # 1 + 3 * (2 - 1)


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_the_loss_of_the_true_velocities_is_0(mean: float) -> None:
    target = torch.rand(1, 28, 28)
    settings = replace(TINY, mean=mean)
    value = flow.loss(ToOneImage(target), settings, 0, target.expand(4, 1, 28, 28), torch.zeros(4, 10))
    assert value.item() < 1e-6


def test_the_target_of_a_mean_velocity_has_its_change_along_the_path() -> None:
    x, settings = torch.rand(4, 1, 28, 28), replace(TINY, mean=1.0, time_mean=0.0)
    noise = flow.normal(settings, flow.NOISE, 7, *x.shape)
    t, r, _ = flow.normal(settings, flow.TIMES, 7, 3, 4).unbind()
    t, r = torch.sigmoid(torch.minimum(t, r)), torch.sigmoid(torch.maximum(t, r))
    errors = (t - (r - t) - (x - noise).flatten(1).T).square().mean(0)  # u - (v + (r - t) * du/dt), du/dt = 1
    wanted = (errors / (errors + 1e-3)).mean()
    assert flow.loss(Clock(), settings, 7, x, torch.zeros(4, 10)).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_average_follows_closely_at_first() -> None:
    average, weight = torch.zeros(1), torch.ones(1)
    assert flow.averaged(0.999, average, weight, 1).item() == pytest.approx(1 - 2 / 11)
    assert flow.averaged(0.999, average, weight, 10**6).item() == pytest.approx(0.001, rel=1e-3)


def test_a_training_is_a_function_of_its_settings_and_is_kept(tmp_path: Path) -> None:
    first, cpu_seconds = flow.load_or_train(TINY, tmp_path / "flow.safetensors")
    again, _ = flow.train(TINY)
    kept, kept_seconds = flow.load_or_train(TINY, tmp_path / "flow.safetensors")
    for name, weight in first.state_dict().items():
        assert weight.equal(again.state_dict()[name])
        assert weight.equal(kept.state_dict()[name])
    assert kept_seconds == cpu_seconds > 0
    other, _ = flow.train(replace(TINY, seed=1))
    assert not other.state_dict()["last.weight"].equal(first.state_dict()["last.weight"])
    with pytest.raises(ValueError, match="trained with other settings"):
        flow.load_or_train(replace(TINY, seed=1), tmp_path / "flow.safetensors")


def test_the_page_has_the_table_of_the_committed_figures() -> None:
    record = json.loads((ROOT / "docs" / "flow.json").read_text())
    assert flow.table(record) in (ROOT / "docs" / "flow.md").read_text()
    assert len(record["rows"]) == sum(map(len, flow.WAYS.values())) + 1  # and `forge`
