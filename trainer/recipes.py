"""RECIPES: one named TrainConfig for each system, with its source."""

from dataclasses import replace

from models.config import ModelConfig
from trainer.config import TrainConfig

FORGE = TrainConfig(
    recipe="forge",
    epochs=14,
    batch_size=64,
    loss="relativistic",
    gamma=1.0,
    g_lr=2e-3,
    d_lr=2e-3,
    beta1=0.0,
    beta2=0.99,
    lr_warmup=1000,
    lr_decay="cosine",
    ema=30_000,
    model=ModelConfig(architecture="forge", z_dim=64, g_widths=(64, 32), d_widths=(32, 64, 128), std_group=4),
)
"""Our own: relativistic loss with both gradient penalties (Huang et al. 2024, R3GAN, arXiv 2501.05441), projection
discriminator, spread of a class's images in D, layer normalization in G, EMA."""

QUICK = replace(FORGE, recipe="quick", epochs=12, steps_per_epoch=100, lr_warmup=50, ema=5_000)
"""`forge` for an audience: 77,000 images, with a new picture every 6,400."""

MLP_CGAN = TrainConfig(
    recipe="mlp-cgan",
    epochs=20,
    steps_per_epoch=50,
    batch_size=128,
    loss="bce",
    d_update="separate",
    d_fakes_mode="eval",
    g_labels="uniform",
    g_lr=2e-4,
    d_lr=2e-4,
    beta1=0.5,
    beta2=0.999,
    adam_eps=1e-7,
    model=ModelConfig(architecture="mlp", z_dim=100, g_widths=(256, 512, 1024), d_widths=(512, 256)),
)
"""The classic dense conditional GAN in Keras' manner: 1000 steps, D on 128 real images and then on 128 fakes."""

RECIPES = {config.recipe: config for config in (FORGE, QUICK, MLP_CGAN)}

SUMMARIES = {
    "forge": "our own, at its full length",
    "quick": "our own, short: a pleasing demo in minutes",
    "mlp-cgan": "the classic dense conditional GAN",
}
"""One line about each recipe, for `--help`."""
