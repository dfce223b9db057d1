"""Latents of seeds, class mixes and pictures: reproducible, alone or in a batch."""

import copy
import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from models import sampling
from models.config import ModelConfig
from models.networks import build_generator

CONFIG = ModelConfig(architecture="forge", z_dim=6, g_widths=(8, 4), d_widths=(4, 8, 8))


def test_the_latent_of_a_seed_is_frozen() -> None:
    z = sampling.latent(42, CONFIG)
    expected = np.round(np.random.RandomState(42).standard_normal(6) * 4096) / 4096
    assert z.tolist() == expected.tolist()
    assert (z * 4096 == (z * 4096).round()).all()
    long = ModelConfig(architecture="mlp", z_dim=64, g_widths=(8,), d_widths=(8,))
    digest = hashlib.sha256(sampling.latent(7, long).numpy().tobytes()).hexdigest()
    assert digest == "c0cf2a50b2787fc2807f13a810463837ab19e915b23788dd54230be4351ea1e5"


def test_uniform_latents_stay_within_minus_one_and_one() -> None:
    config = ModelConfig(architecture="mlp", z_dim=500, z_distribution="uniform", g_widths=(8,), d_widths=(8,))
    z = sampling.latents(range(20), config)
    assert -1 <= z.min() < -0.99
    assert 0.99 < z.max() <= 1


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_outside_32_bits_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed must be between 0 and 4294967295: got {seed}"):
        sampling.latent(seed, CONFIG)


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    generator = build_generator(CONFIG).eval()
    z, c = sampling.latents(range(37), CONFIG), sampling.one_hot([k % 10 for k in range(37)], 10)
    together = sampling.draw(generator, z, c)
    assert together.shape == (37, 28, 28)
    assert together.dtype == np.uint8
    for k in (0, 15, 16, 36):
        assert (sampling.draw(generator, z[k : k + 1], c[k : k + 1])[0] == together[k]).all()
    backwards = sampling.draw(generator, z.flip(0), c.flip(0))
    assert (backwards[::-1] == together).all()


def test_a_generator_draws_in_evaluation_mode_and_gets_its_modes_back() -> None:
    config = ModelConfig(architecture="mlp", z_dim=6, g_widths=(8,), d_widths=(8,))
    generator = build_generator(config).train()
    frozen = generator.get_submodule("norms.0").eval()
    z, c = sampling.latents(range(5), config), sampling.one_hot([0] * 5, 10)
    running_mean = generator.get_buffer("norms.0.running_mean").clone()
    expected = sampling.draw(copy.deepcopy(generator).eval(), z, c)
    assert (sampling.draw(generator, z, c) == expected).all()
    assert torch.equal(generator.get_buffer("norms.0.running_mean"), running_mean)
    assert generator.training
    assert not frozen.training
    with sampling.evaluating(generator):
        assert not any(module.training for module in generator.modules())
    with pytest.raises(RuntimeError, match="shapes"):
        sampling.draw(generator, z[:, 1:], c)
    assert generator.training
    assert not frozen.training


def test_colour_pictures_have_their_channels_last() -> None:
    config = ModelConfig(
        architecture="forge", z_dim=6, img_size=32, img_channels=3, g_widths=(8, 4), d_widths=(4, 8, 8)
    )
    images = sampling.draw(build_generator(config).eval(), sampling.latents([1], config), sampling.one_hot([1], 10))
    assert images.shape == (1, 32, 32, 3)
    assert sampling.image_grid(images, 2).shape == (32, 64, 3)


def test_bytes_survive_the_way_to_minus_one_and_one_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    inside = sampling.from_uint8(values)
    assert inside.shape == values.shape
    assert (inside.min(), inside.max()) == (-1, 1)
    assert (sampling.to_uint8(inside) == values.numpy()[:, 0]).all()
    assert sampling.to_uint8(torch.full((1, 1, 1, 1), 7.0)).item() == 255


def test_slerp_keeps_to_the_arc() -> None:
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.equal(sampling.slerp(a, b, 0.0), a)
    torch.testing.assert_close(sampling.slerp(a, b, 1.0), b)
    half = sampling.slerp(a, b, 0.5)
    torch.testing.assert_close(half, torch.tensor([2.0, 2.0]) / 2**0.5)  # 45 degrees, length 2
    assert sampling.lerp(a, b, 0.5).tolist() == [1.5, 0.5]


@pytest.mark.parametrize(("a", "b"), [([1.0, 0.0], [2.0, 0.0]), ([1.0, 0.0], [-1.0, 0.0]), ([0.0, 0.0], [1.0, 1.0])])
def test_slerp_without_an_arc_takes_the_line(a: list[float], b: list[float]) -> None:
    start, end = torch.tensor(a), torch.tensor(b)
    assert torch.equal(sampling.slerp(start, end, 0.25), sampling.lerp(start, end, 0.25))


def test_truncation_scales_the_latent() -> None:
    z = sampling.latents([1, 2], CONFIG)
    assert torch.equal(sampling.truncate(z, 0.5), z / 2)
    for truncation in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="truncation must be between 0 and 1"):
            sampling.truncate(z, truncation)


def test_classes_outside_the_generator_are_refused() -> None:
    assert sampling.one_hot([1, 0], 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert sampling.one_hot([5, 7], 0).shape == (2, 0)
    with pytest.raises(ValueError, match="class must be between 0 and 9: got 11"):
        sampling.one_hot([11], 10)


def test_a_grid_reads_row_by_row() -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    grid = sampling.image_grid(images, 2)
    assert grid[::2, ::2].tolist() == [[0, 1], [2, 0]]
    picture = Image.open(io.BytesIO(sampling.to_png(grid, scale=3)))
    assert picture.size == (12, 12)
    assert np.array(picture)[::6, ::6].tolist() == [[0, 1], [2, 0]]
