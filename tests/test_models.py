"""Networks: their shapes and sizes, and inputs that must not influence the output."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models.config import ModelConfig
from models.networks import build_discriminator, build_generator
from models.sampling import one_hot
from trainer.recipes import RECIPES

PRETRAINED = Path(__file__).parent.parent / "pretrained"
SMALL = {"z_dim": 6, "g_widths": (8, 4), "d_widths": (4, 8, 8)}


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "config",
    [
        *(recipe.config.model for recipe in RECIPES.values()),
        ModelConfig(architecture="forge", img_size=32, img_channels=3, std_group=4, **SMALL),
        ModelConfig(architecture="forge", num_classes=0, **SMALL),
        ModelConfig(architecture="forge", g_gain=1.1, **SMALL | {"g_widths": (8, 4, 3)}),
        ModelConfig(architecture="forge", attributes=("slant", "width"), classifier=True, **SMALL),
        ModelConfig(architecture="forge", writers=3, **SMALL),
        ModelConfig(architecture="mlp", num_classes=0, **SMALL),
        ModelConfig(architecture="mlp", img_size=16, num_classes=3, **SMALL),
        ModelConfig(architecture="conv_cgan", num_classes=0, **SMALL | {"g_widths": (8,) * 4, "d_widths": (4,) * 4}),
        ModelConfig(architecture="dcgan", img_size=32, img_channels=3, **SMALL | {"d_widths": (4, 8)}),
        ModelConfig(
            architecture="dropout_gan", img_size=32, num_classes=0, z_dim=6, g_widths=(8,) * 3, d_widths=(4, 8)
        ),
    ],
    ids=str,
)
def test_networks_draw_and_judge_images_of_their_config(config: ModelConfig) -> None:
    generator, discriminator = build_generator(config), build_discriminator(config)
    c = one_hot([k % max(config.num_classes, 1) for k in range(8)], config.num_classes)
    c = torch.cat([c, torch.randn(8, config.condition_width - config.num_classes)], 1)
    images = generator(torch.randn(8, config.z_dim), c)
    assert images.shape == (8, *config.image_shape)
    assert images.abs().max() <= 1
    logits = discriminator(images, c)
    assert logits.shape == (8,)
    if config.classifier:
        logits, class_logits = discriminator.read(images, c)
        assert (logits.shape, class_logits.shape) == ((8,), (8, config.condition_width))
        logits = logits + class_logits.sum(1)
    logits.sum().backward()
    for network in (generator, discriminator):
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_writer_changes_the_picture_and_the_judgement_and_nobody_is_all_zeros() -> None:
    config = ModelConfig(architecture="forge", writers=3, **SMALL)
    generator, discriminator = build_generator(config), build_discriminator(config)
    z, c = torch.randn(1, 6).repeat(4, 1), torch.cat([one_hot([3] * 4, 10), torch.eye(4)[:, 1:]], 1)
    with torch.no_grad():
        images = generator(z, c)
        logits = discriminator(images[:1].repeat(4, 1, 1, 1), c)
        assert len(images.unique(dim=0)) == len(logits.unique()) == 4
        generator.hands.weight.zero_()  # 32 numbers a writer: without them, every hand is anyone's
        assert torch.equal(generator(z, c)[1:], images[:1].repeat(3, 1, 1, 1))


def test_mlp_has_the_parameters_of_its_source() -> None:
    config = RECIPES["mlp-cgan"].config.model
    # label 10 -> 100; 200 -> 256 -> 512 -> 1024 -> 784; gain and bias of three BatchNorms
    g = (10 * 100 + 100) + (200 * 256 + 256) + (256 * 512 + 512) + (512 * 1024 + 1024) + (1024 * 784 + 784)
    g += 2 * (256 + 512 + 1024)
    # label 10 -> 784; 1568 -> 512 -> 256 -> 1
    d = (10 * 784 + 784) + (1568 * 512 + 512) + (512 * 256 + 256) + (256 + 1)
    assert (g, d) == (1_516_636, 943_537)
    assert (count_parameters(build_generator(config)), count_parameters(build_discriminator(config))) == (g, d)


def test_forge_has_the_parameters_of_its_layers() -> None:
    config = RECIPES["forge"].config.model
    wide, narrow = config.g_widths
    first, second, third = config.d_widths
    g = 10 * 64 + (128 * wide * 49 + wide * 49)  # class embedding; z and embedding -> 7x7
    g += (wide * wide * 9 + wide) + (wide * narrow * 16 + narrow) + (narrow * narrow * 9 + narrow) + (narrow * 16 + 1)
    g += 2 * 10 * (2 * wide + 2 * narrow)  # gain and bias of each class in four norms
    d = (first * 16 + first) + (first * second * 9 + second) + (second * third * 9 + third)
    d += ((third * 4 * 4 + third) * 64 + 64) + (64 + 1) + 10 * 64  # and the spread of the group; logit; projection
    d += 64 * 10 + 10  # classifier
    assert (count_parameters(build_generator(config)), count_parameters(build_discriminator(config))) == (g, d)


def test_forge_draws_each_image_by_itself() -> None:
    generator = build_generator(RECIPES["forge"].config.model).train()
    z, c = torch.randn(8, 64), one_hot(range(8), 10)
    torch.testing.assert_close(generator(z, c)[3:5], generator(z[3:5], c[3:5]))


def test_forge_judges_an_image_by_its_own_group_only() -> None:
    config = RECIPES["forge"].config.model
    discriminator = build_discriminator(config)
    images, c = torch.rand(8, *config.image_shape), one_hot([3] * 8, 10)
    logits = discriminator(images, c)
    images[4:] = -images[4:]
    changed = discriminator(images, c)
    torch.testing.assert_close(changed[:4], logits[:4])
    assert not torch.equal(changed[4:], logits[4:])
    images[3] = 0
    assert not torch.equal(discriminator(images, c)[:3], logits[:3])


def test_forge_reads_a_class_in_the_image_and_not_in_what_it_is_told() -> None:
    config = RECIPES["forge"].config.model
    discriminator = build_discriminator(config)
    images, threes, eights = torch.rand(8, *config.image_shape), one_hot([3] * 8, 10), one_hot([8] * 8, 10)
    assert discriminator.has_classifier
    logits, class_logits = discriminator.read(images, threes)
    assert torch.equal(logits, discriminator(images, threes))
    assert torch.equal(class_logits, discriminator.read(images, eights)[1])
    assert not torch.equal(class_logits[4:], discriminator.read(-images, threes)[1][4:])
    without = build_discriminator(dataclasses.replace(config, classifier=False))
    assert count_parameters(discriminator) - count_parameters(without) == 64 * 10 + 10
    assert without(images, threes).shape == (8,)


def test_a_discriminator_without_a_classifier_cannot_read() -> None:
    models = [RECIPES[name].config.model for name in ("mlp-cgan", "conv-cgan", "dcgan", "dropout-dcgan")]
    for config in [*models, dataclasses.replace(RECIPES["forge"].config.model, classifier=False)]:
        discriminator = build_discriminator(config)
        images, c = torch.rand(4, *config.image_shape), one_hot([3] * 4, config.num_classes)
        assert not discriminator.has_classifier
        with pytest.raises(RuntimeError, match="has no classifier"):
            discriminator.read(images, c)


def test_the_class_changes_the_picture_and_the_judgement() -> None:
    for recipe in RECIPES.values():
        model = recipe.config.model
        if not model.num_classes:
            continue
        generator, discriminator = build_generator(model).eval(), build_discriminator(model)
        z = torch.randn(4, model.z_dim)
        others = torch.zeros(4, model.condition_width - model.num_classes)
        threes, eights = (torch.cat([one_hot([label] * 4, 10), others], 1) for label in (3, 8))
        images = generator(z, threes)
        assert not torch.allclose(images, generator(z, eights))
        assert not torch.allclose(discriminator(images, threes), discriminator(images, eights))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"z_dim": 0}, "model.z_dim must be at least 1: got 0"),
        ({"num_classes": -1}, "model.num_classes"),
        ({"img_channels": 2}, "model.img_channels must be 1 or 3: got 2"),
        ({"img_size": 30}, "model.img_size must be divisible by 4"),
        ({"g_widths": (8,)}, "model.g_widths needs 2 or 3 widths"),
        ({"g_gain": 0.9}, r"model.g_gain must be in \[1, 2\]: got 0.9"),
        ({"d_widths": (8, 0, 8)}, "model.d_widths"),
        ({"std_group": -1}, "model.std_group"),
        ({"dropout": 1.0}, "model.dropout must be in"),
        ({"dropout": 0.5}, "model.dropout must be 0.0 for forge: got 0.5"),
        ({"architecture": "conv_cgan"}, "model.g_widths needs 4 widths for conv_cgan"),
        ({"architecture": "dropout_gan"}, "model.num_classes must be 0 for dropout_gan: got 10"),
        ({"architecture": "forged"}, "model.architecture must be one of mlp, .*forge: got 'forged'"),
        ({"d_kernel": 5}, "model.d_kernel must be 3 or 4: got 5"),
        ({"d_kernel": 3, "architecture": "mlp"}, "model.d_kernel must be 4 for mlp: got 3"),
        ({"attributes": ("slant",), "num_classes": 0}, "model.attributes needs classes: got model.num_classes 0"),
        ({"attributes": ("slant", "slant")}, "model.attributes must be different ones of slant, thickness, width"),
        ({"attributes": ("weight",)}, "model.attributes must be different ones of slant, thickness, width"),
        ({"architecture": "mlp", "attributes": ("slant",)}, r"model.attributes must be \(\) for mlp"),
        ({"writers": -1}, "model.writers must not be negative: got -1"),
        ({"writers": 3, "num_classes": 0}, "model.writers needs classes: got model.num_classes 0"),
        ({"writers": 3, "attributes": ("slant",)}, "model.writers and model.attributes exclude each other"),
        ({"writers": 3, "architecture": "mlp"}, "model.writers must be 0 for mlp: got 3"),
        ({"classifier": True, "num_classes": 0}, "model.classifier needs classes: got model.num_classes 0"),
        ({"classifier": True, "architecture": "mlp"}, "model.classifier must be False for mlp: got True"),
    ],
)
def test_a_config_that_fits_no_network_names_the_field(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**({"architecture": "forge"} | SMALL | fields))


def test_each_family_trains_with_batch_norm_only_if_it_says_so() -> None:
    for name, recipe in RECIPES.items():
        model = recipe.config.model
        networks = build_generator(model), build_discriminator(model)
        layers = [module for network in networks for module in network.modules()]
        has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in layers)
        assert model.has_batch_norm == has_batch_norm, name


def test_the_records_of_shipped_runs_are_read_unchanged() -> None:
    records = [json.loads(path.read_text())["config"]["model"] for path in PRETRAINED.glob("*/run.json")]
    assert len(records) > 5
    for record in records:
        assert record.items() <= json.loads(ModelConfig.from_dict(record).to_json()).items()


def test_a_config_survives_json_and_refuses_unknown_fields() -> None:
    config = RECIPES["forge"].config.model
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config
    with pytest.raises(ValueError, match="bogus"):
        ModelConfig.from_dict(json.loads(config.to_json()) | {"bogus": 1})
