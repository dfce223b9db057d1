"""RECIPES: one named TrainConfig for each system, with its source."""

from dataclasses import replace

from models.networks import MODELS
from trainer.config import TrainConfig

FORGE = TrainConfig(
    recipe="forge",
    epochs=10,
    steps_per_epoch=250,
    batch_size=64,
    loss="relativistic",
    gamma=1.0,
    penalties="alternate",
    d_class_weight=1.0,
    g_class_weight=0.5,
    g_fakes="same",
    g_lr=2e-3,
    d_lr=2e-3,
    beta1=0.0,
    beta2=0.99,
    lr_warmup=500,
    lr_decay="cosine",
    ema=30_000,
    model=MODELS["forge"],
)
"""Our own: relativistic loss with gradient penalties on real images and fakes in turn (after Huang et al. 2024, R3GAN,
arXiv 2501.05441, which has both at once), projection discriminator, spread of a class's images in D, auxiliary
classifier in D (Odena et al. 2016, arXiv 1610.09585), layer normalization in G, EMA. 160,000 images in five minutes
on two cores: 299 s (285 to 347 in three seeds), label accuracy 99.5 %, FID 4.0 x floor, coverage .90
(real: .954); 98.9 % and 5 x floor after 169 s (144 to 182). docs/speedrun.md has these figures and their command,
docs/forge.md how the settings were found."""

QUICK = replace(FORGE, recipe="quick", epochs=12, steps_per_epoch=80, lr_warmup=250, lr_decay="none", ema=10_000)
"""`forge` for an audience: 61,000 images in 134 s on two cores, with a new picture every 5,100. Label accuracy 99.3 %,
FID 7 x floor, coverage .85 (real: .954), by `python -m trainer evaluate`, one seed. Over so short a run, a learning
rate that falls costs more than it gives: docs/forge.md, section 7."""

FORGE_BEST = replace(
    FORGE,
    recipe="forge-best",
    epochs=10,
    steps_per_epoch=0,
    lr_warmup=1000,
    penalties="both",
    g_fakes="fresh",
    model=MODELS["forge-best"],
)
"""`forge` at its full length, without what `forge` saves for each image: 600,000 images in 32 CPU-minutes on a 2-core
machine; `pretrained/forge` is its run, which was trained so.
Label accuracy 99.8 %, FID 1.03 x floor, coverage .925 (real: .954), by `python -m trainer evaluate`; one seed."""

MLP_CGAN = TrainConfig(
    recipe="mlp-cgan",
    epochs=20,
    steps_per_epoch=50,
    batch_size=128,
    loss="bce",
    sampling="random",
    d_update="separate",
    d_fakes_mode="eval",
    g_labels="uniform",
    g_lr=2e-4,
    d_lr=2e-4,
    beta1=0.5,
    beta2=0.999,
    adam_eps=1e-7,
    model=MODELS["mlp-cgan"],
)
"""The classic dense conditional GAN in Keras' manner. From the source: the layers, BCE, Adam, batch and latent, 1000
steps of one random batch each; in a step, fakes drawn in inference mode, D updated on the real images and then on
fakes with their labels, G on fresh latents with uniformly random labels. A choice: 50 steps are an epoch of the run
store."""

CONV_CGAN = TrainConfig(
    recipe="conv-cgan",
    epochs=80,
    steps_per_epoch=500,
    batch_size=64,
    loss="bce",
    sampling="random",
    d_update="concatenated",
    d_fakes_mode="eval",
    d_fakes_labels="uniform",
    g_labels="uniform",
    optimizer="rmsprop",
    g_lr=1e-4,
    d_lr=2e-4,
    g_decay=3e-8,
    d_decay=6e-8,
    beta1=0.0,
    beta2=0.9,
    adam_eps=1e-7,
    model=MODELS["conv-cgan"],
)
"""The convolutional conditional GAN of a book on Keras (Atienza, Advanced Deep Learning with Keras, chapter 4). From
the source: the layers, latents, BCE, RMSprop with its decay and half of both for G, 40,000 steps with a grid every
500; in a step, one update of D on 64 real images and 64 fakes with random labels of their own, drawn in inference
mode, and one of G. RMSprop's rho of .9 is Keras' default. No choices of ours but the fixed grid: 10 pictures of each
digit, not 16 in all. At first both losses fall near 0 (for some 400 steps in a narrower trial): G's
moving averages lag, so D sees other fakes than those that G is trained on."""

DCGAN = TrainConfig(
    recipe="dcgan",
    epochs=50,
    batch_size=128,
    loss="bce",
    g_lr=2e-4,
    d_lr=2e-4,
    beta1=0.5,
    beta2=0.999,
    model=MODELS["dcgan"],
)
"""Unconditional DCGAN. From the source: transposed convolutions with BatchNorm and ReLU from 100 normal numbers, tanh;
strided convolutions with BatchNorm and LeakyReLU, one probability; BCE and Adam. Choices, after Radford et al. 2015 and
PyTorch's own example: batch 128, 2e-4 with beta1 .5, weights from N(0, .02), no biases, one update of D from a real and
a fake batch that are normalized each by itself. Choices of our own: the layers' sizes at 28x28, 50 epochs, and fresh
latents for G's update."""

ONEHOT_CDCGAN = replace(DCGAN, recipe="onehot-cdcgan", model=MODELS["onehot-cdcgan"])
"""`dcgan` with classes. From the source: one-hot labels beside the latent, and as ten maps beside the image. Choices:
those of `dcgan`, and fakes that carry the labels of the real batch."""

GAN = TrainConfig(
    recipe="gan",
    epochs=100,
    batch_size=256,
    print_accuracy_every=10,
    loss="bce",
    sampling="random",
    d_batch="halves",
    d_update="concatenated",
    d_acc_mode="eval",
    g_labels="uniform",
    g_lr=2e-4,
    d_lr=2e-4,
    beta1=0.5,
    beta2=0.999,
    adam_eps=1e-7,
    model=MODELS["gan"],
)
"""Unconditional GAN. The source names 100 epochs and D's accuracy every 10 of them, but no layers: these, and all
else, are those of the well-known Keras tutorial on a GAN for MNIST from scratch (Brownlee, Machine Learning Mastery).
An epoch is 60,000 / 256 steps; in each, images drawn at random, one update of D on 128 real images and 128 fakes, and
one of G on 256. A choice: the accuracy, without dropout, is the mean of the epoch, not that of 100 images at its
end."""

DROPOUT_DCGAN = replace(
    GAN,
    recipe="dropout-dcgan",
    d_update="separate",
    model=MODELS["dropout-dcgan"],
)
"""Unconditional GAN with dropout. From the source: images scaled to [0, 1], a foundation of 128x7x7 that
Conv2DTranspose enlarges, two strided 'same' convolutions with dropout after each, D updated on a half batch of real
images (1) and then on one of fakes (0), 100 epochs. Choices: widths that halve in G (128, 64, 32) and double in D (64,
128), and all else as in `gan`."""

RECIPES = {
    config.recipe: config
    for config in (FORGE, QUICK, FORGE_BEST, MLP_CGAN, CONV_CGAN, DCGAN, ONEHOT_CDCGAN, GAN, DROPOUT_DCGAN)
}

SUMMARIES = {
    "forge": "our own: good digits in minutes",
    "quick": "our own, short: a pleasing demo in about two minutes",
    "forge-best": "our own, at its full length and with nothing saved",
    "mlp-cgan": "the classic dense conditional GAN",
    "conv-cgan": "the classic convolutional conditional GAN",
    "dcgan": "DCGAN, unconditional",
    "onehot-cdcgan": "DCGAN with one-hot classes",
    "gan": "the classic GAN of the Keras tutorial, unconditional",
    "dropout-dcgan": "its narrower sibling, with real and fake images in updates of their own",
}
"""One line about each recipe, for `--help`."""

SOURCES = {
    "forge": "our own",
    "quick": "our own",
    "forge-best": "our own",
    "mlp-cgan": "Mirza and Osindero 2014 (arXiv 1411.1784), dense, in Keras' manner",
    "conv-cgan": "Atienza, Advanced Deep Learning with Keras, chapter 4",
    "dcgan": "Radford et al. 2015 (arXiv 1511.06434), at 28x28",
    "onehot-cdcgan": "the same, with one-hot classes",
    "gan": "Goodfellow et al. 2014 (arXiv 1406.2661), as in Brownlee's Keras tutorial",
    "dropout-dcgan": "Radford et al. 2015, in Keras' manner with dropout",
}
"""Where each recipe comes from; what of it is a choice, its docstring says."""
