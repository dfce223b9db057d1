"""RECIPES: a table of everything that can be trained.

A recipe has a TrainConfig with its networks, its source, and notes on what is taken from the source and what is a
choice. `python -m trainer recipes` lists the recipes, `python -m trainer NAME` trains one.
"""

from dataclasses import dataclass, field, replace

from models.networks import MODELS
from trainer.config import TrainConfig, Upkeep


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named config, with its source and notes."""

    summary: str
    """One line for the command line's help."""
    source: str
    """Where the system comes from."""
    notes: str
    """What is taken from the source, what is a choice, and what was measured. Line breaks have no meaning."""
    config: TrainConfig
    upkeep: Upkeep = field(default_factory=Upkeep)


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

GAN = TrainConfig(
    recipe="gan",
    epochs=100,
    batch_size=256,
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

_ROWS = (
    Recipe(
        summary="the main recipe: good digits in minutes",
        source="this project, after Huang et al. 2024 (R3GAN, arXiv 2501.05441)",
        notes="""
        Relativistic loss with gradient penalties on real images and on fakes in turn (R3GAN applies both in each step),
        projection discriminator, standard deviation within groups of one class in D, auxiliary classifier in D (Odena
        et al. 2016, arXiv 1610.09585), layer normalization in G, EMA. 160,000 images in 299 s on two cores (285 to 347
        in three seeds): label accuracy 99.5 %, FID 4.0 times that of real digits, coverage .90 (real digits: .954). It
        reaches 98.9 % and 5 times the FID of real digits after 169 s (144 to 182). docs/speedrun.md has these figures
        and their command; docs/forge.md records how the settings were found.
        """,
        config=FORGE,
    ),
    Recipe(
        summary="a short form of forge, for a demo of about two minutes",
        source="`forge` with a shorter schedule",
        notes="""
        61,000 images in 134 s on two cores, with a sample grid every 5,100 images. Label accuracy 99.3 %, FID 7 times
        that of real digits, coverage .85 (real digits: .954), by `python -m trainer evaluate`, one seed. The learning
        rate is constant after the warm-up: a falling rate costs quality in a run this short (docs/forge.md, section
        7).
        """,
        config=replace(
            FORGE, recipe="quick", epochs=12, steps_per_epoch=80, lr_warmup=250, lr_decay="none", ema=10_000
        ),
    ),
    Recipe(
        summary="a long form of forge, with a larger G",
        source="`forge` with a longer schedule and a larger G; attributes after Castro et al. 2019 (arXiv 1809.10780)",
        notes="""
        960,000 images. G has 16 channels at full size before the image, and its output reaches black exactly. Slant,
        thickness and width are conditions beside the class, and the auxiliary classifier reads them, too. The gradient
        penalty falls to a tenth. docs/forge.md, section 9, has the trials that led there.
        """,
        config=replace(
            FORGE,
            recipe="forge-best",
            steps_per_epoch=1500,
            lr_warmup=1000,
            gamma_end=0.1,
            model=MODELS["forge-best"],
        ),
    ),
    Recipe(
        summary="forge with the writer of a digit as a condition",
        source="`forge-best` with the writers of MNIST's digits (Yadav and Bottou 2019, QMNIST, arXiv 1905.10498)",
        notes="""
        960,000 images. Beside the class, the networks know which of 539 people wrote a training digit, in half of the
        images; from the others, they learn to write as anyone. A writer is a vector of 32 numbers, and D's classifier
        reads the writer, too. Needs data/writers, which `python -m trainer fetch writers` makes.
        """,
        config=replace(
            FORGE,
            recipe="writers",
            steps_per_epoch=1500,
            lr_warmup=1000,
            gamma_end=0.1,
            model=MODELS["writers"],
        ),
    ),
    Recipe(
        summary="forge for CIFAR-10: small colour pictures of things and animals",
        source="`forge` at 32x32 in colour, with the augmentation of Zhao et al. 2020 (DiffAugment, arXiv 2006.10738)",
        notes="""
        CIFAR-10 has 50,000 images of ten kinds of things and animals, 32x32 in colour. The networks are those of
        `forge`, wider. D sees each image, real or fake, with its colours changed, shifted and with a square cut out,
        so that it does not learn the images by heart. Needs data/cifar10, which `python -m trainer fetch cifar10`
        makes. docs/cifar.md has trials and a grid.
        """,
        config=replace(
            FORGE,
            recipe="forge-cifar",
            epochs=20,
            steps_per_epoch=500,
            dataset="data/cifar10",
            gamma=0.1,
            augment=("colour", "translation", "cutout"),
            model=MODELS["forge-cifar"],
        ),
    ),
    Recipe(
        summary="the classic dense conditional GAN",
        source="Mirza and Osindero 2014 (arXiv 1411.1784), dense, in Keras' manner",
        notes="""
        From the source: the layers, BCE, Adam, batch size and latent, and 1,000 steps of one random batch each. In a
        step, G draws fakes in inference mode. D is updated on the real images, then on fakes with the same labels. G is
        updated on fresh latents with uniformly random labels. A choice: an epoch of the run store is 50 steps.
        """,
        config=TrainConfig(
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
        ),
    ),
    Recipe(
        summary="the classic convolutional conditional GAN",
        source="Atienza, Advanced Deep Learning with Keras, chapter 4",
        notes="""
        From the source: the layers, latents, BCE, RMSprop, its learning rate and decay (both halved for G), and 40,000
        steps with a grid every 500. In a step, D has one update on 64 real images and 64 fakes. The fakes have random
        labels of their own and are drawn in inference mode. Then G has one update. RMSprop's rho of .9 is Keras'
        default. The only choice is the fixed grid: 10 pictures of each digit instead of 16 pictures. At first both
        losses fall near 0 (for about 400 steps in a narrower trial): BatchNorm's moving averages in G lag, so that D
        sees other fakes than those that G is trained on.
        """,
        config=TrainConfig(
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
        ),
    ),
    Recipe(
        summary="DCGAN, unconditional",
        source="Radford et al. 2015 (arXiv 1511.06434), at 28x28",
        notes="""
        From the source: in G, transposed convolutions with BatchNorm and ReLU from 100 normal numbers, then tanh; in D,
        strided convolutions with BatchNorm and LeakyReLU, then one probability; BCE and Adam. Choices, after the paper
        and PyTorch's DCGAN example: batch 128, learning rate 2e-4 with beta1 .5, weights from N(0, .02), no biases, and
        one update of D from a real and a fake batch that are normalized separately. Choices of this project: the sizes
        of the layers at 28x28, 50 epochs, and fresh latents for G's update.
        """,
        config=DCGAN,
    ),
    Recipe(
        summary="DCGAN with one-hot classes",
        source="Radford et al. 2015 (arXiv 1511.06434), with one-hot classes",
        notes="""
        `dcgan` with classes. From the source: one-hot labels are appended to the latent, and to the image as ten maps.
        Choices: those of `dcgan`, and that fakes have the labels of the real batch.
        """,
        config=replace(DCGAN, recipe="onehot-cdcgan", model=MODELS["onehot-cdcgan"]),
    ),
    Recipe(
        summary="the classic GAN of the Keras tutorial, unconditional",
        source="Goodfellow et al. 2014 (arXiv 1406.2661), as in Brownlee's Keras tutorial",
        notes="""
        The source names 100 epochs, and D's accuracy every 10 epochs, but no layers. The layers and everything else are
        those of the Keras tutorial on a GAN for MNIST from scratch (Brownlee, Machine Learning Mastery). An epoch is
        60,000 / 256 steps. In a step, images are drawn at random, D has one update on 128 real images and 128 fakes,
        and G has one update on 256 fakes. A choice: the accuracy, without dropout, is the mean over the epoch, not that
        of 100 images at its end.
        """,
        config=GAN,
        upkeep=Upkeep(print_accuracy_every=10),
    ),
    Recipe(
        summary="a narrower form of gan, with real and fake images in separate updates",
        source="Radford et al. 2015, in Keras' manner with dropout",
        notes="""
        From the source: images scaled to [0, 1]; in G, a first layer of 128x7x7 that Conv2DTranspose enlarges; in D,
        two strided 'same' convolutions, each followed by dropout; an update of D on a half batch of real images (target
        1), then one on a half batch of fakes (target 0); 100 epochs. Choices: widths that halve in G (128, 64, 32) and
        double in D (64, 128), and everything else as in `gan`.
        """,
        config=replace(GAN, recipe="dropout-dcgan", d_update="separate", model=MODELS["dropout-dcgan"]),
        upkeep=Upkeep(print_accuracy_every=10),
    ),
)

RECIPES = {recipe.config.recipe: recipe for recipe in _ROWS}
"""Name -> recipe, in the order of all lists."""
