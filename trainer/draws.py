"""The random draws of a step as functions of (seed, step, purpose): images, latents, classes, masks, augmentation.

Each worker draws for the whole batch and takes its own rows, so the draws do not depend on the number of workers. The
latents of `counter_normal` do not depend on it either, but a worker draws its own rows only.
Shapes: b images of this worker, K num_classes (0 = unconditional), A attributes, C, H and W of an image.
"""

import copy
import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models import sampling
from models.attributes import AttributeTable, measure
from models.config import ModelConfig
from models.dropout import SharedMasks
from trainer import data
from trainer.augmentation import NUMBERS, augment
from trainer.config import TrainConfig
from trainer.workers import Share, Workers

ORDER, D_LATENTS, G_LATENTS, G_LABELS, IMAGES, D_LABELS, D_DROPOUT, G_DROPOUT, WRITERS = range(9)
D_REAL_CHANGES, D_FAKE_CHANGES, G_REAL_CHANGES, G_FAKE_CHANGES = range(9, 13)
"""Purposes of random streams. Runs depend on these numbers: append new ones at the end, never reorder them."""
NAMED = 0.5
"""Share of the images whose writer the networks see. From the others they learn to write as anyone."""


class Batch(NamedTuple):
    """Images (b, C, H, W) in [-1, 1] and their class rows c (b, K + A)."""

    images: Tensor
    c: Tensor


def random_stream(seed: int, purpose: int, index: int) -> np.random.Generator:
    """Return the random generator of a purpose. `index` is the step, or the epoch for `ORDER`."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose << 48 | index]))


def counter_words(counters: Tensor, key: tuple[int, int]) -> Tensor:
    """Return the random words (..., 4) that belong to counters (..., 4) under a key: all in [0, 2^32), in int64.

    Philox4x32-10 (Salmon et al. 2011): a function of counters and key alone, with the same result on every device.
    """
    mask = 0xFFFFFFFF
    k0, k1 = key
    a, b, c, d = counters.unbind(-1)
    for _ in range(10):
        # The products are below 2^64. Beyond 2^63 they are negative here, but their lower 64 bits are right.
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32 & mask) ^ b ^ k0, q & mask, (p >> 32 & mask) ^ d ^ k1, p & mask
        k0, k1 = k0 + 0x9E3779B9 & mask, k1 + 0xBB67AE85 & mask
    return torch.stack([a, b, c, d], -1)


def counter_normal(seed: int, purpose: int, step: int, rows: slice, width: int, device: torch.device) -> Tensor:
    """Return standard normal numbers (b, width) in float64 for rows of a batch, computed on the device.

    Each number is a function of (seed, purpose, step, row, column) alone. Devices differ in the last bits of logarithm
    and cosine. Two numbers come from each block of words (Box and Muller 1958).
    """
    row, pair = torch.meshgrid(
        torch.arange(rows.start, rows.stop, device=device), torch.arange((width + 1) // 2, device=device), indexing="ij"
    )
    counters = torch.stack([pair, row, torch.full_like(row, step), torch.full_like(row, purpose)], -1)
    words = counter_words(counters, (seed, 0))
    u, v = ((words[..., i] << 20 | words[..., i + 1] >> 12).double() / 2**52 for i in (0, 2))  # in [0, 1)
    radius, angle = torch.sqrt(-2 * torch.log(1 - u)), 2 * math.pi * v
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1).flatten(1)[:, :width]


def epoch_order(labels: NDArray[np.int64], group: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits the images: indices (M,).

    With `group` > 1 the order consists of groups of `group` images of one class, for networks that compare images of
    a class. Images of a class that do not fill a group are left out; each epoch leaves out different ones.
    """
    random = random_stream(seed, ORDER, epoch)
    order = random.permutation(len(labels))
    if group <= 1:
        return order
    runs = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        runs.append(members[: len(members) // group * group].reshape(-1, group))
    return random.permutation(np.concatenate(runs)).reshape(-1)


def batch_of_step(order: NDArray[np.int64], step: int, batch_size: int) -> NDArray[np.int64]:
    """Return the indices (batch_size,) of the batch at a step of an epoch; the order repeats after its end."""
    return order[np.arange(step * batch_size, (step + 1) * batch_size) % len(order)]


def load_images(config: TrainConfig) -> data.Dataset:
    """Load the training images of a run; raise `ValueError` if they do not fit the networks."""
    dataset = data.load_dataset(data.ROOT / config.dataset if config.dataset else data.MNIST)
    model, channels, height, width = config.model, *dataset.images.shape[1:]
    if height != width or channels not in (1, 3):
        raise ValueError(
            f"the images are {channels}x{height}x{width} (channels, height, width), but the networks draw squares in "
            "grey or RGB only: convert the data"
        )
    if dataset.images.shape[1:] != model.image_shape:
        raise ValueError(
            f"the images are {channels}x{height}x{width} (channels, height, width), but the networks draw "
            f"{'x'.join(map(str, model.image_shape))}: set --model.img-channels {channels} --model.img-size {height}"
        )
    if model.num_classes not in (0, dataset.num_classes):
        raise ValueError(
            f"the data have {dataset.num_classes} classes (labels 0 to {dataset.num_classes - 1}), but "
            f"--model.num-classes is {model.num_classes}: set it to {dataset.num_classes}"
        )
    dataset = dataset.head(config.limit_images)
    if not len(epoch_order(dataset.labels, model.group_size, config.seed, 0)):
        raise ValueError(f"no class has {model.group_size} images, which the networks compare: raise --limit-images")
    if model.writers:
        return dataclasses.replace(dataset, writers=data.known_writers(dataset, model.writers))
    return measured(dataset, model) if model.attributes else dataset


def measured(dataset: data.Dataset, model: ModelConfig) -> data.Dataset:
    """Return the dataset with the table and the scores of the attributes that a model takes."""
    pictures = dataset.images[:, 0] if model.img_channels == 1 else dataset.images.transpose(0, 2, 3, 1)
    values = measure(pictures, model.attributes)
    table = AttributeTable.fit(model.attributes, values, dataset.labels, model.num_classes)
    return dataclasses.replace(dataset, table=table, scores=table.to_scores(values, dataset.labels))


class Draws:
    """The draws of a run for one worker: its rows of each batch."""

    def __init__(self, config: TrainConfig, dataset: data.Dataset, device: torch.device, workers: Workers) -> None:
        self.config, self.labels = config, dataset.labels
        self.device, self.dtype = device, getattr(torch, config.dtype)
        self.table, self.scores, self.writers = dataset.table, dataset.scores, dataset.writers
        self.images = torch.tensor(dataset.images, device=device)  # all images, as bytes
        self.d_share = workers.share(config.d_batch_size, config.model.group_size)
        """This worker's rows of a batch of D."""
        self.g_share = workers.share(config.batch_size, config.model.group_size)
        """This worker's rows of a batch of G."""
        self._pass, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Return the indices (d_batch_size,) of a step's real images over all workers."""
        config, size = self.config, self.config.d_batch_size
        if config.sampling == "random":
            return random_stream(config.seed, IMAGES, step).integers(0, len(self.labels), size)
        number, batch = divmod(step, max(1, len(self.labels) // size))
        if number != self._pass:
            self._pass = number
            self._order = epoch_order(self.labels, config.model.group_size, config.seed, number)
        return batch_of_step(self._order, batch, size)

    def first_values(self, step: int) -> dict[str, Any]:
        """Return the first values that the random streams of a step give for the whole batch, in JSON.

        Latents are rounded to 6 digits, so that they do not depend on the processor.
        """
        whole = copy.copy(self)
        whole.d_share, whole.g_share = (Share(slice(0, n), n) for _, n in (self.d_share, self.g_share))
        values: dict[str, Any] = {}
        real = whole.real(step)
        for name, (z, c), masks in (
            ("D", whole.d_inputs(step, real.c), whole.d_masks(step)),
            ("G", whole.g_inputs(step, real.c), whole.g_masks(step)),
        ):
            latents = [round(value, 6) for value in z[0, :4].tolist()]
            classes = c[:8, : self.config.model.num_classes].argmax(1).tolist() if c.shape[1] else []
            values[name] = {"latents": latents, "classes": classes, "masks": masks and masks.generator.initial_seed()}
        if self.config.augment:
            values["changes"] = self._changes(D_REAL_CHANGES, step, whole.d_share)[0].tolist()
        return values

    def real(self, step: int) -> Batch:
        """Return the real images of a step, their classes and their attributes."""
        indices = self.indices(step)[self.d_share.rows]
        images = sampling.from_uint8(self.images[torch.from_numpy(indices).to(self.device)], self.dtype)
        c = self._class_rows(self.labels[indices])
        if self.writers:
            return Batch(images, torch.cat([c, self._writer_columns(step, self.writers.indices[indices])], 1))
        if self.scores is None:
            return Batch(images, c)
        return Batch(images, torch.cat([c, torch.from_numpy(self.scores[indices]).to(c)], 1))

    def d_inputs(self, step: int, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents (b, z_dim) and class rows (b, K + A) of the fakes for D; `c` is that of the real images."""
        if self.config.d_fakes_labels == "uniform":
            c = self._uniform_classes(D_LABELS, step, self.d_share)
        return self._latents(D_LATENTS, step, self.d_share), c

    def g_inputs(self, step: int, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents (b, z_dim) and class rows (b, K + A) of the fakes for G; `c` is that of the real images."""
        if self.config.g_labels == "uniform":
            c = self._uniform_classes(G_LABELS, step, self.g_share)
        return self._latents(G_LATENTS, step, self.g_share), c

    def seen_by_d(self, step: int, real: Batch, fake: Batch) -> tuple[Batch, Batch]:
        """Return the real images and the fakes as D sees them in its own update: augmented, if the recipe says so."""
        share = self.d_share
        return self._augmented(D_REAL_CHANGES, step, share, real), self._augmented(D_FAKE_CHANGES, step, share, fake)

    def seen_for_g(self, step: int, real: Batch, fake: Batch) -> tuple[Batch, Batch]:
        """Return the real images and the fakes as D sees them in G's update; gradients flow back to the fakes."""
        return (
            self._augmented(G_REAL_CHANGES, step, self.d_share, real),
            self._augmented(G_FAKE_CHANGES, step, self.g_share, fake),
        )

    def d_masks(self, step: int) -> SharedMasks | None:
        """Return the dropout masks of D's update; None for networks without dropout."""
        passes = 2 if self.config.d_update == "concatenated" else 1
        return self._masks(D_DROPOUT, step, self.d_share, passes)

    def g_masks(self, step: int) -> SharedMasks | None:
        """Return the dropout masks of G's update; None for networks without dropout."""
        return self._masks(G_DROPOUT, step, self.g_share, 1)

    def _augmented(self, purpose: int, step: int, share: Share, batch: Batch) -> Batch:
        if not self.config.augment:
            return batch
        return Batch(augment(batch.images, self._changes(purpose, step, share), self.config.augment), batch.c)

    def _changes(self, purpose: int, step: int, share: Share) -> Tensor:
        """Return the random numbers (b, NUMBERS), in float64, of the augmentation of this worker's rows."""
        numbers = random_stream(self.config.seed, purpose, step).random((share.batch_size, NUMBERS))
        return torch.from_numpy(numbers[share.rows]).to(self.device)

    def _latents(self, purpose: int, step: int, share: Share) -> Tensor:
        config = self.config
        if config.latents == "counter":
            drawn = counter_normal(config.seed, purpose, step, share.rows, config.model.z_dim, self.device)
            return drawn.to(self.dtype)
        stream = random_stream(config.seed, purpose, step)
        shape = (config.batch_size, config.model.z_dim)
        normal = config.model.z_distribution == "normal"
        z = stream.standard_normal(shape) if normal else stream.uniform(-1, 1, shape)
        return torch.from_numpy(z[share.rows]).to(self.device, self.dtype)

    def _uniform_classes(self, purpose: int, step: int, share: Share) -> Tensor:
        stream = random_stream(self.config.seed, purpose, step)
        labels = stream.integers(0, max(self.config.model.num_classes, 1), self.config.batch_size)
        return self._class_rows(labels[share.rows])

    def _class_rows(self, labels: NDArray[np.int64]) -> Tensor:
        """Return labels (b,) as one-hot rows (b, K); (b, 0) for unconditional networks."""
        count = self.config.model.num_classes
        rows = F.one_hot(torch.from_numpy(labels), count) if count else torch.zeros(len(labels), 0)
        return rows.to(self.device, self.dtype)

    def _writer_columns(self, step: int, writers: NDArray[np.int64]) -> Tensor:
        """Return one-hot writers (b, writers) of this worker's rows; half of the rows, drawn at random, are 0."""
        named = random_stream(self.config.seed, WRITERS, step).random(self.config.d_batch_size) < NAMED
        rows = F.one_hot(torch.from_numpy(writers), self.config.model.writers)
        return rows.to(self.device, self.dtype) * torch.from_numpy(named[self.d_share.rows]).to(self.device)[:, None]

    def _masks(self, purpose: int, step: int, share: Share, passes: int) -> SharedMasks | None:
        if not self.config.model.dropout:
            return None
        seed = int(random_stream(self.config.seed, purpose, step).integers(2**63))
        rows = torch.arange(share.rows.start, share.rows.stop, device=self.device)
        rows = torch.cat([number * share.batch_size + rows for number in range(passes)])
        generator = torch.Generator(self.device).manual_seed(seed)
        return SharedMasks(generator, passes * share.batch_size, rows)
