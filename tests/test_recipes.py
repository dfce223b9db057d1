"""Classic recipes against numbers worked out by hand from their sources, and learning with every recipe's networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.networks import build_discriminator, build_generator
from models.sampling import one_hot
from models.trace import sizes
from tests.sample_run import run_record
from tests.training import losses_of, tiny, train_on
from trainer import draws, losses, state, steps, train_loop
from trainer.flat_optimizer import FlatOptimizer
from trainer.recipes import RECIPES
from trainer.run_store import EpochSummary, open_store
from trainer.supervise import epoch_lines
from trainer.workers import Workers


def conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> int:
    """Return the number of parameters of a convolution or transposed convolution."""
    return inputs * outputs * kernel**2 + (outputs if bias else 0)


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def norm(channels: int) -> int:
    """Return the number of trainable parameters of BatchNorm: gain and bias."""
    return 2 * channels


PARAMETERS = {
    "mlp-cgan": (
        # label 10 -> 100 beside z; BatchNorm after each hidden layer
        linear(10, 100)
        + linear(200, 256)
        + linear(256, 512)
        + linear(512, 1024)
        + linear(1024, 784)
        + norm(256)
        + norm(512)
        + norm(1024),
        # label 10 -> 784 beside the image
        linear(10, 784) + linear(1568, 512) + linear(512, 256) + linear(256, 1),
    ),
    "conv-cgan": (
        # z 100 and one-hot 10 -> 7x7x128; BatchNorm before each 5x5 transposed convolution, to 128, 64, 32 and 1
        linear(110, 7 * 7 * 128)
        + (norm(128) + conv(128, 128, 5))
        + (norm(128) + conv(128, 64, 5))
        + (norm(64) + conv(64, 32, 5))
        + (norm(32) + conv(32, 1, 5)),
        # label 10 -> a plane of 28x28 beside the image; 28 -> 14 -> 7 -> 4 -> 4 pixels
        linear(10, 784)
        + conv(2, 32, 5)
        + conv(32, 64, 5)
        + conv(64, 128, 5)
        + conv(128, 256, 5)
        + linear(4 * 4 * 256, 1),
    ),
    "dcgan": (
        conv(100, 256, 7, bias=False) + norm(256) + conv(256, 128, 4, bias=False) + norm(128) + conv(128, 1, 4, False),
        conv(1, 64, 4, bias=False) + conv(64, 128, 4, bias=False) + norm(128) + conv(128, 1, 7, bias=False),
    ),
    "onehot-cdcgan": (
        # the same, with 10 more numbers beside z, and 10 more maps beside the image
        conv(110, 256, 7, bias=False) + norm(256) + conv(256, 128, 4, bias=False) + norm(128) + conv(128, 1, 4, False),
        conv(11, 64, 4, bias=False) + conv(64, 128, 4, bias=False) + norm(128) + conv(128, 1, 7, bias=False),
    ),
    "gan": (
        linear(100, 7 * 7 * 128) + conv(128, 128, 4) + conv(128, 128, 4) + conv(128, 1, 7),
        conv(1, 64, 3) + conv(64, 64, 3) + linear(7 * 7 * 64, 1),  # 28 -> 14 -> 7 pixels
    ),
    "dropout-dcgan": (
        linear(100, 7 * 7 * 128) + conv(128, 64, 4) + conv(64, 32, 4) + conv(32, 1, 7),
        conv(1, 64, 3) + conv(64, 128, 3) + linear(7 * 7 * 128, 1),
    ),
}
"""Recipe -> trainable parameters of G and D, layer by layer as in the source."""

TOTALS = {
    "mlp-cgan": (1_516_636, 943_537),
    "conv-cgan": (1_363_521, 1_090_001),
    "dcgan": (1_781_504, 138_624),
    "onehot-cdcgan": (1_906_944, 148_864),
    "gan": (1_164_289, 40_705),
    "dropout-dcgan": (798_977, 80_769),
}

# Channels and pixels after each layer with weights, in the order of the forward pass.
G_SHAPES = {
    "mlp-cgan": [(100,), (256,), (512,), (1024,), (784,)],
    "conv-cgan": [(6272,), (128, 14, 14), (64, 28, 28), (32, 28, 28), (1, 28, 28)],
    "dcgan": [(256, 7, 7), (128, 14, 14), (1, 28, 28)],
    "onehot-cdcgan": [(256, 7, 7), (128, 14, 14), (1, 28, 28)],
    "gan": [(6272,), (128, 14, 14), (128, 28, 28), (1, 28, 28)],
    "dropout-dcgan": [(6272,), (64, 14, 14), (32, 28, 28), (1, 28, 28)],
}
D_SHAPES = {
    "mlp-cgan": [(784,), (512,), (256,), (1,)],
    "conv-cgan": [(784,), (32, 14, 14), (64, 7, 7), (128, 4, 4), (256, 4, 4), (1,)],
    "dcgan": [(64, 14, 14), (128, 7, 7), (1, 1, 1)],
    "onehot-cdcgan": [(64, 14, 14), (128, 7, 7), (1, 1, 1)],
    "gan": [(64, 14, 14), (64, 7, 7), (1,)],
    "dropout-dcgan": [(64, 14, 14), (128, 7, 7), (1,)],
}


def layer_shapes(network: nn.Module, *inputs: Tensor) -> tuple[list[tuple[int, ...]], Tensor]:
    """Return the shape after each layer with weights, without the batch, and the output of the network."""
    shapes: list[tuple[int, ...]] = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda layer, inputs, output: shapes.append(tuple(output.shape[1:])))
    return shapes, network(*inputs)


@pytest.mark.parametrize("recipe", PARAMETERS)
def test_a_classic_has_the_layers_and_parameters_of_its_source(recipe: str) -> None:
    model = RECIPES[recipe].config.model
    G, D = build_generator(model), build_discriminator(model)
    counts = tuple(sum(parameter.numel() for parameter in network.parameters()) for network in (G, D))
    assert counts == PARAMETERS[recipe] == TOTALS[recipe]
    c = one_hot([1, 2], model.num_classes)
    g_shapes, images = layer_shapes(G, torch.randn(2, 100), c)
    d_shapes, logits = layer_shapes(D, images, c)
    assert (g_shapes, tuple(images.shape)) == (G_SHAPES[recipe], (2, 1, 28, 28))
    assert (d_shapes, tuple(logits.shape)) == (D_SHAPES[recipe], (2,))


MULTIPLY_ACCUMULATES = {
    # A dense layer has one multiply-accumulate per weight.
    "mlp-cgan": (
        10 * 100 + 200 * 256 + 256 * 512 + 512 * 1024 + 1024 * 784,
        10 * 784 + 1568 * 512 + 512 * 256 + 256,
    ),
    # A transposed convolution has one per weight and input pixel (7x7, 14x14, 28x28, 28x28), a convolution one per
    # weight and output pixel (14x14, 7x7, 4x4, 4x4).
    "conv-cgan": (
        110 * 6272 + 25 * (49 * 128 * 128 + 196 * 128 * 64 + 784 * 64 * 32 + 784 * 32),
        10 * 784 + 25 * (196 * 2 * 32 + 49 * 32 * 64 + 16 * 64 * 128 + 16 * 128 * 256) + 4096,
    ),
    "dcgan": (
        49 * 100 * 256 + 16 * (49 * 256 * 128 + 196 * 128),
        16 * (196 * 64 + 49 * 64 * 128) + 49 * 128,
    ),
    "onehot-cdcgan": (
        49 * 110 * 256 + 16 * (49 * 256 * 128 + 196 * 128),
        16 * (196 * 11 * 64 + 49 * 64 * 128) + 49 * 128,
    ),
    "gan": (
        100 * 6272 + 16 * (49 * 128 * 128 + 196 * 128 * 128) + 784 * 49 * 128,
        9 * (196 * 64 + 49 * 64 * 64) + 3136,
    ),
    "dropout-dcgan": (
        100 * 6272 + 16 * (49 * 128 * 64 + 196 * 64 * 32) + 784 * 49 * 32,
        9 * (196 * 64 + 49 * 64 * 128) + 6272,
    ),
}


@pytest.mark.parametrize("recipe", MULTIPLY_ACCUMULATES)
def test_the_work_for_an_image_is_that_of_its_layers(recipe: str) -> None:
    parameters, macs = sizes(RECIPES[recipe].config.model)
    assert parameters == TOTALS[recipe]
    assert macs == MULTIPLY_ACCUMULATES[recipe]


def test_the_keras_recipes_draw_and_judge_images_in_0_to_1_at_their_edge() -> None:
    for recipe in ("conv-cgan", "gan", "dropout-dcgan"):
        model = RECIPES[recipe].config.model
        G, D = build_generator(model).eval(), build_discriminator(model).eval()
        last = [layer for layer in G.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1]
        first = next(layer for layer in D.modules() if isinstance(layer, nn.Conv2d))
        assert last.bias is not None
        nn.init.constant_(last.bias, -1e4)  # a sigmoid of 0 is black
        c = one_hot([0], model.num_classes)
        images = G(torch.randn(1, 100), c)
        assert images.unique().tolist() == [-1]
        seen: list[Tensor] = []
        first.register_forward_hook(lambda layer, inputs, output, seen=seen: seen.append(inputs[0][:, :1]))
        D(images, c), D(-images, c)
        assert [image.unique().tolist() for image in seen] == [[0], [1]], recipe


def a_few_images(model: ModelConfig) -> Tensor:
    return torch.rand(8, *model.image_shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def follow(loss: Tensor, optimizer: FlatOptimizer) -> None:
    """Update a network with the loss (b,) of a batch, as training does."""
    steps.update(optimizer, steps.Terms(loss, {}, {}), Workers().share(len(loss)))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_overfits_a_tiny_batch(recipe: str) -> None:
    """D learns to distinguish 8 images from 8 fakes. Then D is fixed, and G learns to draw fakes that D accepts."""
    config = tiny(recipe, g_lr=3e-3, d_lr=3e-3)
    s = state.new_state(config, 1, torch.device("cpu"))
    loss = losses.LOSSES[config.loss]
    z, c = torch.randn(8, 8, generator=torch.Generator().manual_seed(2)), one_hot([3] * 4 + [8] * 4, 10)
    classes = config.model.num_classes
    c = torch.cat([c[:, :classes], torch.zeros(8, config.model.condition_width - classes)], 1)
    real_images, fake_images = a_few_images(config.model), s.G(z, c).detach()
    for _ in range(60):
        d_loss, class_loss = loss.d(s.D(real_images, c), s.D(fake_images, c)), torch.zeros(8)
        if config.d_class_weight:
            class_loss = losses.class_loss(s.D.read(real_images, c)[1], c, config.model)
        follow(d_loss + class_loss, s.d_optimizer)
    assert d_loss.mean() < 0.05
    assert class_loss.mean() < 0.05
    s.D.eval()
    real_logits = s.D(real_images, c).detach()
    before = loss.g(real_logits, s.D(s.G(z, c), c)).mean()
    for _ in range(60):
        follow(loss.g(real_logits, s.D(s.G(z, c), c)), s.g_optimizer)
    assert loss.g(real_logits, s.D(s.G(z, c), c)).mean() < before / 4


@pytest.mark.usefixtures("writers")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_changes_only_the_network_that_it_should(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(recipe)
    states: list[state.TrainState] = []
    new_state, update = state.new_state, steps.update
    order: list[str] = []

    def weights(network: nn.Module) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    def watched_state(*arguments: Any) -> state.TrainState:
        states.append(new_state(*arguments))
        return states[0]

    def watched_update(optimizer: FlatOptimizer, *rest: Any) -> dict[str, Tensor]:
        (s,) = states
        network, other = (s.G, s.D) if optimizer is s.g_optimizer else (s.D, s.G)
        order.append("G" if network is s.G else "D")
        mine, others = weights(network), weights(other)
        numbers = update(optimizer, *rest)
        assert torch.equal(weights(other), others)
        assert not torch.equal(weights(network), mine)
        return numbers

    monkeypatch.setattr(state, "new_state", watched_state)
    monkeypatch.setattr(steps, "update", watched_update)
    train_on(1, (config, tmp_path))
    a_step = ["D", "D", "G"] if config.d_update == "separate" else ["D", "G"]
    assert order == a_step * 2


def test_one_pass_over_both_halves_is_the_loss_of_two_passes(tmp_path: Path) -> None:
    configs = [tiny("conv-cgan", d_update=kind, dtype="float64") for kind in ("joint", "concatenated")]
    joint, concatenated = (losses_of(train_on(1, (config, tmp_path / config.d_update))[0]) for config in configs)
    assert concatenated["d_loss"] == pytest.approx(joint["d_loss"], rel=1e-9)  # no BatchNorm in D
    configs = [tiny("dcgan", d_update=kind) for kind in ("joint", "concatenated")]
    joint, concatenated = (losses_of(train_on(1, (c, tmp_path / f"bn-{c.d_update}"))[0]) for c in configs)
    assert abs(concatenated["d_loss"][0] - joint["d_loss"][0]) > 1e-3  # one BatchNorm pass over both


@pytest.mark.parametrize("recipe", ["forge", "onehot-cdcgan"])  # without and with BatchNorm
def test_the_same_fakes_are_those_of_the_same_latents(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [tiny(recipe, g_fakes=kind, dtype="float64") for kind in ("same", "fresh")]
    same, fresh = (losses_of(train_on(1, (config, tmp_path / config.g_fakes))[0]) for config in configs)
    assert same["d_loss"][0] == fresh["d_loss"][0]
    assert same["g_loss"] != fresh["g_loss"]
    monkeypatch.setattr(draws, "G_LATENTS", draws.D_LATENTS)
    assert losses_of(train_on(1, (configs[1], tmp_path / "drawn twice"))[0]) == same


def test_penalties_in_turn_are_each_twice_as_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    penalized: list[tuple[bool, float]] = []
    gradient_penalty = losses.gradient_penalty

    def watched(images: Tensor, logits: Tensor) -> Tensor:
        penalties = gradient_penalty(images, logits)
        levels = (images + 1) * 127.5
        is_real = torch.allclose(levels, levels.round(), rtol=0, atol=1e-6)  # only real digits are whole grey levels
        penalized.append((is_real, penalties.mean().item()))
        return penalties

    monkeypatch.setattr(steps, "gradient_penalty", watched)
    for kind, real in (("both", [True, False] * 2), ("alternate", [True, False])):
        penalized.clear()
        config = tiny("forge", penalties=kind, gamma=0.5, dtype="float64")
        found = losses_of(train_on(1, (config, tmp_path / kind))[0])["penalty"]
        assert [is_real for is_real, _ in penalized] == real
        means = [mean for _, mean in penalized]
        expected = means if kind == "alternate" else [(means[0] + means[1]) / 2, (means[2] + means[3]) / 2]
        assert found == pytest.approx([0.5 * mean for mean in expected], rel=1e-9)


def test_rmsprop_is_that_of_keras() -> None:
    config = tiny("conv-cgan", g_lr=0.1)
    s = state.new_state(config, 1, torch.device("cpu"))
    bias = s.G.fc.bias
    assert isinstance(bias, Tensor)
    for _ in range(2):
        follow((2 * bias).sum()[None] + 0 * sum(p.sum() for p in s.G.parameters()), s.g_optimizer)
    # The mean of squares is .1 * 2^2, then .9 * .4 + .1 * 2^2 = .76; each step is lr * 2 / (root + eps).
    expected = -0.1 * 2 / (0.4**0.5 + 1e-7) - 0.1 * 2 / (0.76**0.5 + 1e-7)
    torch.testing.assert_close(bias.detach(), torch.full_like(bias, expected))


def test_learning_rates_decay_with_time_as_in_keras() -> None:
    g_lr, d_lr = train_loop.learning_rates(RECIPES["conv-cgan"].config, 40_000, 40_000)
    assert (g_lr, d_lr) == pytest.approx((1e-4 / (1 + 3e-8 * 40_000), 2e-4 / (1 + 6e-8 * 40_000)), rel=1e-12)
    assert train_loop.learning_rates(RECIPES["gan"].config, 123, 1000) == (2e-4, 2e-4)


def test_lengths_are_those_of_the_sources() -> None:
    assert {name: train_loop.plan(RECIPES[name].config, 60_000) for name in TOTALS} == {
        "mlp-cgan": (50, 1000),
        "conv-cgan": (500, 40_000),
        "dcgan": (468, 50 * 468),
        "onehot-cdcgan": (468, 50 * 468),
        "gan": (234, 100 * 234),
        "dropout-dcgan": (234, 100 * 234),
    }
    assert (RECIPES["gan"].config.d_batch_size, RECIPES["conv-cgan"].config.d_batch_size) == (128, 64)


def test_our_own_recipes_differ_in_schedule_and_generator_only() -> None:
    schedule = {"recipe", "epochs", "steps_per_epoch", "lr_warmup", "lr_decay", "ema", "gamma_end"}
    generator = {"model.attributes", "model.g_widths", "model.g_gain"}
    others = {"forge-best": schedule | generator, "writers": schedule | generator | {"model.writers"}}
    for name, fields in (others | {"quick": schedule}).items():
        assert {line.split(":")[0] for line in RECIPES["forge"].config.differences(RECIPES[name].config)} <= fields
    lengths = [train_loop.plan(RECIPES[name].config, 60_000)[1] for name in ("quick", "forge", "forge-best")]
    assert lengths == sorted(lengths)


def test_gan_prints_the_accuracy_in_per_cent_every_ten_epochs(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("gan")
    run.create(run_record())
    numbers = {"d_loss": 0.7, "g_loss": 0.7, "d_acc_real": 0.514, "d_acc_fake": 0.7, "images_per_second": 1.0}
    summary = EpochSummary(epoch=0, step=0, nimg=0, time=0.0, **numbers)
    for epoch in range(21):
        run.write_epoch_metrics(replace(summary, epoch=epoch, step=epoch))
    lines = [line for epoch in run.epochs() for line in epoch_lines(run, epoch, 20, RECIPES["gan"].upkeep)]
    assert lines[0] == ("epoch 1/20  step 1  d_loss 0.700 g_loss 0.700 d_acc_real 0.514 d_acc_fake 0.700  1 images/s")
    assert [line for line in lines if "accuracy" in line] == [
        f"epoch {epoch}: the discriminator's accuracy is 51% on real and 70% on fake samples" for epoch in (10, 20)
    ]


def test_no_classic_averages_its_weights() -> None:
    assert all(RECIPES[name].config.ema == 0 for name in TOTALS)
