"""Scores of generated digits, and the same scores of real digits: the floor.

Most are computed on the digit reader's features, and depend on it: another network's features give other values. Label
accuracy alone is not enough: a generator with one perfect picture of each digit reaches 100 %. FID, coverage and recall
measure variety. Such features ignore faint grey and single pixels, which a few figures of the pixels alone count. The
two-sample test asks a new classifier, which has no reason to ignore anything.

Shapes: N pictures, uint8 (N, 28, 28); F features kept; features (N, F), each scaled to mean 0 and variance 1 over the
training images. FID: Heusel et al. 2017 (arXiv 1706.08500). KID: Binkowski et al. 2018 (1801.01401). Precision and
recall: Kynkaanniemi et al. 2019 (1904.06991). Density and coverage: Naeem et al. 2020 (2002.09797). Two-sample test:
Lopez-Paz and Oquab 2017 (1610.06545).
"""

import functools
import json
import math
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format
from torchmetrics.image.kid import poly_mmd
from tqdm import tqdm

from models import sampling
from models.attributes import AttributeTable
from models.config import ModelConfig
from models.digit_reader import NUM_CLASSES, SHA256, DigitReader, load_digit_reader, read_digits
from models.generator_file import read_metadata
from trainer import data
from trainer.workers import Workers

NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""
MIN_ACTIVE = 0.01
"""Minimum share of training images on which a kept feature is active: scaled, a rarer one would outweigh the others."""
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
HAZE = (1, 5)
"""Grey levels, first and last, of pixels that look black and are not."""
TWO_SAMPLE_COUNT = 12_000
"""Number of generated pictures, and of real ones, in the two-sample test."""
TWO_SAMPLE_NOISE = {"two_sample_0": 0.0, "two_sample_01": 0.1, "two_sample_03": 0.3}
"""Score -> standard deviation of the Gaussian noise on all pictures of a two-sample test; black = 0, white = 1."""
TWO_SAMPLE_SEEDS = 3
"""Classifiers of one two-sample test. They differ in their first weights, order, noise and held-out pictures."""
TWO_SAMPLE_HELD_OUT = 6
"""One in so many pictures is held out of a classifier's training, and measures it."""
TWO_SAMPLE_EPOCHS, TWO_SAMPLE_BATCH = 6, 128
TWO_SAMPLE_RATE, TWO_SAMPLE_DECAY = 3e-3, 0.02
"""Highest learning rate, and weight decay, of AdamW."""
EPOCH_COUNT = 2000
"""Number of pictures scored at the end of an epoch during training."""
REFERENCE = Path(__file__).with_name("reference.safetensors")
"""Statistics of the real digits for those scores, so that a training need not read all real digits at its start."""
MAX_COMPARISONS = 4e10
"""Limit of the pixels that are compared for the distance to training images at the end of an epoch: 2 s on one core."""
CHUNK = 250
"""Rows of a distance matrix computed at once. With many more, the allocator returns memory to the system each time."""


def feature_scale(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which of the raw training features (N, all) to keep, bool (all,), and their mean and std (F,)."""
    kept = (raw > 0).double().mean(0) >= MIN_ACTIVE
    chosen = raw[:, kept].double()
    return kept, chosen.mean(0), chosen.std(0)


def confusion(labels: Tensor, digits: Tensor, num_classes: int = NUM_CLASSES) -> Tensor:
    """Return counts (C, C): how often class `row` was requested and `column` was read."""
    return torch.bincount(labels * num_classes + digits, minlength=num_classes**2).view(num_classes, num_classes)


def label_accuracy(counts: Tensor) -> tuple[float, list[float]]:
    """Return the share of pictures read as requested, overall and per class, from the counts (C, C) of `confusion`.

    The share of a class that was never requested is NaN.
    """
    hits = counts.diagonal().double()
    return (hits.sum() / counts.sum()).item(), (hits / counts.sum(1)).tolist()


def balanced_label_accuracy(labels: Tensor, digits: Tensor, num_classes: int = NUM_CLASSES) -> float:
    """Return the mean over classes of their label accuracy: each class counts the same, however frequent it is.

    Classes that were never requested are left out.
    """
    shares = label_accuracy(confusion(labels, digits, num_classes))[1]
    return float(np.mean([share for share in shares if not math.isnan(share)]))


class Gaussian(NamedTuple):
    """A normal distribution of features: mean (F,) and covariance (F, F), float64."""

    mean: Tensor
    covariance: Tensor


def fit_gaussian(features: Tensor) -> Gaussian:
    """Return the mean and the covariance of features (N, F)."""
    features = features.double()
    return Gaussian(features.mean(0), features.T.cov())


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Frechet distance of two Gaussians (FID): 0 if they are equal."""
    # The trace of the square root of a product is the sum of the square roots of its eigenvalues, which are real and
    # nonnegative up to rounding.
    root_trace = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()
    traces = a.covariance.trace() + b.covariance.trace() - 2 * root_trace
    return float((a.mean - b.mean).square().sum() + traces)


def kernel_distance(features: Tensor, real_features: Tensor, seed: int = 0) -> float:
    """Return KID: the squared maximum mean discrepancy (MMD) of features (N, F) and (M, F), averaged over subsets.

    It is about 0 for samples of the same distribution, and can be negative.
    """
    size = min(KID_SUBSET_SIZE, len(features), len(real_features))
    random = torch.Generator().manual_seed(seed)
    distances = []
    for _ in range(KID_SUBSETS):
        real, generated = (
            part[torch.randperm(len(part), generator=random)[:size]].float() for part in (real_features, features)
        )
        distances.append(poly_mmd(real, generated))
    return torch.stack(distances).mean().item()


def neighbour_radii(features: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the distance (N,) from each row of features (N, F) to its k-th nearest other row.

    Raise `ValueError` if there are too few rows.
    """
    if len(features) <= k:
        raise ValueError(f"{k} neighbours need at least {k + 1} pictures: got {len(features)}")
    # k + 1, because the nearest row is the row itself. topk takes an eighth of the time of kthvalue.
    nearest = [
        torch.cdist(rows, features).topk(k + 1, 1, largest=False).values for rows in torch.split(features, CHUNK)
    ]
    return torch.cat(nearest)[:, k]


def neighbour_scores(features: Tensor, real_features: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Return `precision`, `recall`, `density` and `coverage` of generated features (N, F) against real ones (M, F).

    The ball of a picture reaches to its k-th nearest neighbour among the pictures of its own kind, real or generated.
    Precision: share of generated pictures inside any real ball. Recall: share of real pictures inside any generated
    ball. Density: mean number of real balls that contain a generated picture, divided by k. Coverage: share of real
    balls that contain a generated picture.
    """
    features, real_features = features.double(), real_features.double()
    radii, real_radii = neighbour_radii(features, k), neighbour_radii(real_features, k)
    precise = torch.zeros(len(features), dtype=torch.bool)
    recalled, covered, balls = 0, 0, 0
    for rows, row_radii in zip(torch.split(real_features, CHUNK), torch.split(real_radii, CHUNK), strict=True):
        distances = torch.cdist(rows, features)  # (CHUNK, N)
        in_real = distances <= row_radii[:, None]
        precise |= in_real.any(0)
        covered += int(in_real.any(1).sum())
        balls += int(in_real.sum())
        recalled += int((distances <= radii).any(1).sum())
    return {
        "precision": precise.double().mean().item(),
        "recall": recalled / len(real_features),
        "density": balls / (k * len(features)),
        "coverage": covered / len(real_features),
    }


def class_variances(features: Tensor, labels: Tensor, num_classes: int = NUM_CLASSES) -> Tensor:
    """Return the variance (C,) of features (N, F) within each class, summed over features.

    It is 0 for a class with fewer than two pictures.
    """
    members = [features[labels == label].double() for label in range(num_classes)]
    return torch.stack([m.var(0).sum() if len(m) > 1 else torch.zeros((), dtype=torch.float64) for m in members])


def nearest_distances(pictures: Tensor, others: Tensor) -> Tensor:
    """Return the distance (N,) from each of the uint8 pictures (N, ...) to the nearest of others (M, ...).

    The distance is L2 over pixels, with black = 0 and white = 1.
    """
    x, y = (images.flatten(1).float() / 255 for images in (pictures, others))
    squares = y.square().sum(1)
    found = []
    for rows in torch.split(x, CHUNK):
        best, indices = rows.new_full((len(rows),), torch.inf), rows.new_zeros(len(rows), dtype=torch.int64)
        for start in range(0, len(y), 10 * CHUNK):
            part = slice(start, start + 10 * CHUNK)
            least, at = torch.addmm(squares[part], rows, y[part].T, alpha=-2).min(1)
            indices = torch.where(least < best, at + start, indices)
            best = torch.minimum(least, best)
        found.append((rows - y[indices]).square().sum(1).sqrt())  # the expanded square above is inexact near 0
    return torch.cat(found)


def nearest_of_class(
    pictures: Tensor, digits: Tensor, training: data.Dataset, device: torch.device | None = None
) -> Tensor:
    """Return the distance (N,) from each of the uint8 pictures (N, ...) to the nearest training image of its class.

    `digits` (N,) are the classes that the reader sees in the pictures: a copy of an image is read as its class. As
    `nearest_distances`, on `device`, but with as many times less work as there are classes. The distance is inf where
    there is no image of the class.
    """
    found = torch.full((len(pictures),), torch.inf)
    for digit in digits.unique().tolist():
        chosen, images = digits == digit, training.images[training.labels == digit]
        if len(images):
            found[chosen] = nearest_distances(pictures[chosen].to(device), _as_drawn(images).to(device)).cpu()
    return found


def nearest_percentile(distances: Tensor) -> float:
    """Return the first percentile of the distances (N,) to the nearest training image."""
    return distances.double().quantile(0.01).item()


def pixel_rows(pictures: Tensor) -> Tensor:
    """Return what `pixel_scores` needs of each of the uint8 pictures, (N, H, W) or (N, H, W, 3): float64 (N, 5).

    The columns are the share of pixels that are exactly 0, the share in `HAZE`, the number of lone pixels, and the row
    and column of the centre of mass, from the middle of the picture. A pixel is lone if it is not 0 and the up to 8
    pixels around it are. The centre of a black picture is its middle. The value of a pixel in colour is that of its
    brightest channel.
    """
    x = (pictures if pictures.ndim == 3 else pictures.amax(3)).double()
    around = F.conv2d(x[:, None], x.new_ones(1, 1, 3, 3), padding=1)[:, 0]
    lone = ((x > 0) & (around == x)).sum((1, 2))
    haze = (x >= HAZE[0]) & (x <= HAZE[1])
    mass = x.sum((1, 2)).clamp(min=1)
    across = [torch.arange(size) - (size - 1) / 2 for size in x.shape[1:]]
    centre = [(x.sum(2 - axis) * across[axis]).sum(1) / mass for axis in (0, 1)]
    return torch.stack([(x == 0).double().mean((1, 2)), haze.double().mean((1, 2)), lone.double(), *centre], 1)


def pixel_scores(rows: Tensor) -> dict[str, float]:
    """Return the scores of the pixels alone, from the rows (N, 5) of `pixel_rows`.

    `centring` is the standard deviation of the centre of mass in pixels: the root of the mean variance of its row and
    its column. MNIST's makers centred each digit by its centre of mass.
    """
    black, haze, lone = rows[:, :3].double().mean(0).tolist()
    centring = rows[:, 3:].double().var(0).mean().sqrt().item()
    return {"black": black, "haze": haze, "lone_pixels": lone, "centring": centring}


def two_real_samples(labels: Tensor, real_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return indices (N,), (N,) of real pictures that have the given labels (N,): always the same, all different.

    `real_labels` (M,) are those of all real pictures. Raise `ValueError` if a class has too few.
    """
    order, twice = _sample(len(real_labels), len(real_labels)), torch.cat([labels, labels])
    chosen = torch.empty_like(twice)
    for label in labels.unique().tolist():
        places, members = torch.nonzero(twice == label)[:, 0], order[real_labels[order] == label]
        if len(members) < len(places):
            raise ValueError(f"{len(places)} real pictures of class {label} are needed: there are {len(members)}")
        chosen[places] = members[: len(places)]
    first, second = chosen.chunk(2)
    return first, second


class TwoSampleClassifier(nn.Module):
    """Pictures and their classes -> logits of being real.

    Shapes: B batch, images (B, C, H, W) in [-1, 1], classes (B,), logits (B,). The first convolution keeps the full
    resolution and nothing is pooled, so that single pixels count. The class enters as in a projection discriminator.
    """

    def __init__(self, img_size: int, img_channels: int, num_classes: int) -> None:
        super().__init__()
        sizes = [
            (img_channels, 32, 1),
            (32, 32, 2),
            (32, 64, 1),
            (64, 64, 2),
            (64, 128, 2),
        ]  # channels in and out, stride
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, stride, 1, bias=False) for i, o, stride in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in sizes)
        self.fc = nn.Linear(128 * math.ceil(img_size / 8) ** 2, 64, bias=False)
        self.norm = nn.BatchNorm1d(64)  # without it, all features can die, and the classifier guesses
        self.out = nn.Linear(64, 1)
        self.embed = nn.Embedding(num_classes, 64)
        nn.init.zeros_(self.embed.weight)  # what gives all classes away is learnt sooner from signs that agree
        convert_conv2d_weight_memory_format(self, torch.channels_last)  # faster on a CPU

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """images (B, C, H, W) in [-1, 1], classes (B,) -> logits (B,)."""
        x = images.contiguous(memory_format=torch.channels_last)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.1, inplace=True)
        features = F.leaky_relu(self.norm(self.fc(x.flatten(1))), 0.1)
        logits: Tensor = self.out(features)[:, 0] + (features * self.embed(classes)).sum(1)
        return logits


def told_apart(generated: Tensor, real: Tensor, classes: Tensor, noise: float, seed: int, title: str = "") -> float:
    """Return how often a new classifier rightly tells which pictures are real: .5 = it can only guess.

    `generated` and `real` are uint8, (N, H, W) or (N, H, W, 3), and picture i of both has class i of `classes` (N,).
    The classifier learns from five sixths of them; the accuracy is that on the others. All have Gaussian noise of
    standard deviation `noise` (white = 1), drawn anew each time. The seed determines the result. `title` is shown with
    the progress.
    """
    random = torch.Generator().manual_seed(seed)
    count, images = len(classes), channels_first(torch.cat([generated, real]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = TwoSampleClassifier(images.shape[-1], images.shape[1], int(classes.max()) + 1)
    is_real = torch.arange(2 * count) >= count
    order = torch.randperm(count, generator=random)
    parts = order.tensor_split([count - count // TWO_SAMPLE_HELD_OUT])
    learn, held_out = (torch.cat([part, count + part]) for part in parts)

    def logits(indices: Tensor) -> Tensor:
        x = sampling.from_uint8(images[indices])
        x = x + 2 * noise * torch.randn(x.shape, generator=random)  # from black, -1, to white, 1, it is 2
        answer: Tensor = classifier(x, classes[indices % count])
        return answer

    steps = TWO_SAMPLE_EPOCHS * -(-len(learn) // TWO_SAMPLE_BATCH)
    optimizer = torch.optim.AdamW(classifier.parameters(), TWO_SAMPLE_RATE, weight_decay=TWO_SAMPLE_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, TWO_SAMPLE_RATE, steps, pct_start=0.2)
    with tqdm(total=steps, unit="step", desc=title, leave=False, disable=not sys.stderr.isatty()) as bar:
        for _ in range(TWO_SAMPLE_EPOCHS):
            for part in learn[torch.randperm(len(learn), generator=random)].split(TWO_SAMPLE_BATCH):
                loss = F.binary_cross_entropy_with_logits(logits(part), is_real[part].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
    classifier.eval()
    with torch.inference_mode():
        right = [(logits(part) > 0) == is_real[part] for part in held_out.split(CHUNK)]
    return torch.cat(right).double().mean().item()


def two_sample(generated: Tensor, real: Tensor, classes: Tensor) -> dict[str, float]:
    """Return the mean of `told_apart` over seeds 0, 1, ... at each noise, with its name; print lines of progress."""
    scores = {}
    for name, noise in TWO_SAMPLE_NOISE.items():
        accuracies = []
        for seed in range(TWO_SAMPLE_SEEDS):
            title = f"Two-sample test, noise {noise}, classifier {seed + 1}/{TWO_SAMPLE_SEEDS}"
            started = time.monotonic()
            accuracies.append(told_apart(generated, real, classes, noise, seed, title))
            print(f"{title}: right {accuracies[-1]:.1%}, {time.monotonic() - started:.0f} s", flush=True)
        scores[name] = float(np.mean(accuracies))
    return scores


@dataclass(frozen=True)
class Reading:
    """Pictures uint8 (N, 28, 28), their scaled features (N, F), and the digits (N,) that the reader sees in them."""

    pictures: Tensor
    features: Tensor
    digits: Tensor

    def __getitem__(self, indices: Tensor) -> "Reading":
        return Reading(self.pictures[indices], self.features[indices], self.digits[indices])


@dataclass(frozen=True)
class RealStatistics:
    """The statistics of the real digits that FID, the neighbour scores and diversity compare with."""

    kept: Tensor
    """Which of the reader's features are used: bool (128,)."""
    mean: Tensor
    """Mean (F,) of the kept raw training features."""
    std: Tensor
    """Standard deviation (F,) of the kept raw training features."""
    sum: Tensor
    """Sum (F,) of the scaled training features."""
    outer_sum: Tensor
    """Sum (F, F) of the outer products of the scaled training features with themselves."""
    count: Tensor
    """Number of training images."""
    variance: Tensor
    """Variance of the scaled training features within a class: summed over features, mean over classes."""
    test_features: Tensor
    """Scaled features (M, F) of test images."""
    num_classes: Tensor = field(default_factory=lambda: torch.tensor(NUM_CLASSES))
    """Number of classes."""

    @classmethod
    def measure(cls, raw: Tensor, labels: Tensor, raw_test: Tensor) -> Self:
        """Compute the statistics from the raw features (N, 128) and labels (N,) of training images, and test images."""
        kept, mean, std = feature_scale(raw)
        features, test_features = (_scaled(part, kept, mean, std) for part in (raw, raw_test))
        classes, wide = labels.max() + 1, features.double()
        variance, count = class_variances(features, labels, int(classes)).mean(), torch.tensor(len(wide))
        return cls(kept, mean, std, wide.sum(0), wide.T @ wide, count, variance, test_features, classes)

    def scaled(self, raw: Tensor) -> Tensor:
        """Return the kept ones of the raw features (N, 128), scaled (N, F)."""
        return _scaled(raw, self.kept, self.mean, self.std)

    def gaussian(self) -> Gaussian:
        """Return the Gaussian of the training features."""
        mean = self.sum / self.count
        return Gaussian(mean, (self.outer_sum - self.count * mean.outer(mean)) / (self.count - 1))

    def sample_test(self, count: int) -> Tensor:
        """Return `count` indices of test images, always the same; `ValueError` if there are not that many."""
        total = len(self.test_features)
        if not NEIGHBOURS < count <= total:
            raise ValueError(f"count must be in {NEIGHBOURS + 1}..{total}, the test images: got {count}")
        return _sample(total, count)

    def score(self, features: Tensor, labels: Tensor, rivals: Tensor | None = None) -> dict[str, float]:
        """Return FID, the neighbour scores and the diversity of N pictures, given scaled features (N, F), labels (N,).

        FID and diversity compare with the training images, the neighbour scores with N test images. `rivals` (N, F)
        replace `features` in the neighbour scores: test images cannot be compared with themselves.
        """
        test_features = self.test_features[self.sample_test(len(features))]
        return {
            "fid": frechet_distance(fit_gaussian(features), self.gaussian()),
            **neighbour_scores(features if rivals is None else rivals, test_features),
            "diversity": (class_variances(features, labels, int(self.num_classes)).mean() / self.variance).item(),
        }


class Judge:
    """The digit reader, or that of another dataset, and all real images that generated ones are compared with."""

    def __init__(
        self, reader: DigitReader, training: data.Dataset, test: data.Dataset, reader_sha256: str = SHA256
    ) -> None:
        """Read all real images, which takes seconds for the 70,000 of MNIST."""
        self.reader_sha256, self.data_sha256 = reader_sha256, training.sha256 | test.sha256
        raw, logits = read_digits(reader, training.images)
        raw_test, test_logits = read_digits(reader, test.images)
        self.reader, self.training_set = reader, training
        self.training_labels, self.test_labels = torch.from_numpy(training.labels), torch.from_numpy(test.labels)
        self.real = RealStatistics.measure(raw, self.training_labels, raw_test)
        self.training = Reading(_as_drawn(training.images), self.real.scaled(raw), logits.argmax(1))
        self.test = Reading(_as_drawn(test.images), self.real.test_features, test_logits.argmax(1))

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """The frequency of each class among the training images."""
        counts = torch.bincount(self.training_labels, minlength=self.reader.num_classes)
        return (counts / len(self.training_labels)).numpy()

    def read(self, pictures: NDArray[np.uint8]) -> Reading:
        """Read pictures, uint8 (N, H, W), or (N, H, W, 3)."""
        raw, logits = read_digits(self.reader, pictures)
        return Reading(torch.tensor(pictures), self.real.scaled(raw), logits.argmax(1))

    def score(self, reading: Reading, labels: Tensor | None = None) -> dict[str, float]:
        """Return the scores of N generated pictures whose classes are as frequent as among the training images.

        FID, KID, diversity and the nearest image compare with all training images, the others with N test images.
        `labels` are the requested classes; None, for an unconditional generator, takes the digits that were read.
        """
        scores = self.real.score(reading.features, reading.digits if labels is None else labels)
        return scores | pixel_scores(pixel_rows(reading.pictures)) | self._compare_with_training(reading)

    def floor(self, count: int) -> dict[str, float]:
        """Return the same scores of N test images.

        In the comparison with N test images, N training images take their place.
        """
        test = self.test[self.real.sample_test(count)]
        return self.epoch_floor(count) | self._compare_with_training(test)

    def epoch_floor(self, count: int) -> dict[str, float]:
        """Return those scores of the floor that epochs have too.

        The nearest training image of each picture is looked for in its class only. The first percentile is the same to
        all digits for MNIST's test images.
        """
        indices = self.real.sample_test(count)
        training = self.training[_sample(len(self.training.digits), count)]
        scores = self.real.score(self.test.features[indices], self.test_labels[indices], rivals=training.features)
        nearest = nearest_of_class(self.test.pictures[indices], self.test.digits[indices], self.training_set)
        scores |= {"nearest_1st_percentile": nearest_percentile(nearest)}
        return scores | pixel_scores(pixel_rows(self.test.pictures[indices]))

    def score_labels(self, reading: Reading, labels: Tensor) -> dict[str, Any]:
        """Return label accuracy and confusion; for generated pictures the requested `labels` are uniform."""
        counts = confusion(labels, reading.digits, self.reader.num_classes)
        overall, per_digit = label_accuracy(counts)
        return {"label_accuracy": overall, "label_accuracy_per_digit": per_digit, "confusion": counts.tolist()}

    def floor_labels(self, count: int) -> dict[str, Any]:
        """Return the same for N test images."""
        indices = self.real.sample_test(count)
        return self.score_labels(self.test[indices], self.test_labels[indices])

    def two_sample(self, generated: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Return the two-sample test of generated pictures, uint8 (N, H, W[, 3]), against as many training images.

        `labels` (N,) are the requested classes, and the training images have the same. None, for an unconditional
        generator, compares with a sample of all training images, and shows the classifiers no class.
        """
        if labels is None:
            chosen, labels = _sample(len(self.training_labels), len(generated)), torch.tensor([0] * len(generated))
        else:
            chosen, _ = two_real_samples(labels, self.training_labels)
        return two_sample(generated, self.training.pictures[chosen], labels)

    def two_sample_floor(self, count: int = TWO_SAMPLE_COUNT) -> dict[str, float]:
        """Return the same of `count` training images against others of the same classes, all equally frequent."""
        labels = torch.tensor(uniform_labels(count, self.reader.num_classes))
        first, second = two_real_samples(labels, self.training_labels)
        return two_sample(self.training.pictures[first], self.training.pictures[second], labels)

    def _compare_with_training(self, reading: Reading) -> dict[str, float]:
        nearest = nearest_distances(reading.pictures, self.training.pictures).double()
        return {
            "kid": kernel_distance(reading.features, self.training.features),
            "nearest_1st_percentile": nearest_percentile(nearest),
            "nearest_median": nearest.median().item(),
        }


@functools.cache
def mnist_judge() -> Judge:
    """Return the judge with all of MNIST; a process makes it once."""
    return Judge(load_digit_reader(), data.load_dataset(split="train"), data.load_dataset(split="t10k"))


@dataclass(frozen=True)
class Reference:
    """What the scores of `EPOCH_COUNT` pictures, or of as many as there are test images, need to know of real ones.

    `python -m trainer.metrics` makes the shipped file, which is MNIST's.
    """

    real: RealStatistics
    """With the features of as many test images."""
    class_shares: NDArray[np.float64]
    """The frequency of each class among the training images."""
    floor: dict[str, float]

    @classmethod
    def measure(cls, judge: Judge) -> Self:
        """Compute it from all real images."""
        count = min(EPOCH_COUNT, len(judge.test_labels))
        test_features = judge.real.test_features[judge.real.sample_test(count)]
        floor = judge.epoch_floor(count)
        floor["label_accuracy"] = judge.floor_labels(count)["label_accuracy"]
        return cls(replace(judge.real, test_features=test_features), judge.class_shares, floor)

    @classmethod
    def load(cls, path: Path = REFERENCE) -> Self:
        """Read the shipped file; `ValueError` if it was made with another digit reader."""
        content = path.read_bytes()
        made = json.loads(read_metadata(content)["reference"])
        if made["reader_sha256"] != SHA256:
            raise ValueError(f"{path}: was made with another digit reader; make it again: python -m trainer.metrics")
        real = RealStatistics(**safetensors.torch.load(content))
        return cls(real, np.array(made["shares"]), made["floor"])


def make_reference(judge: Judge, path: Path = REFERENCE) -> None:
    """Write the file that `Reference.load` reads."""
    reference = Reference.measure(judge)
    made = {"reader_sha256": SHA256, "shares": reference.class_shares.tolist(), "floor": reference.floor}
    contiguous = {name: tensor.contiguous() for name, tensor in vars(reference.real).items()}
    path.write_bytes(safetensors.torch.save(contiguous, {"reference": json.dumps(made)}))


class EpochJudge:
    """Scores a generator during training: `EPOCH_COUNT` pictures of fixed latents, spread over all workers.

    `reader` and `reference` are those of the run's data; by default, MNIST's. With the images of `training`, the
    distance to the nearest of them is a score too, unless there are so many that it would take too long.
    """

    def __init__(
        self,
        config: ModelConfig,
        device: torch.device,
        table: AttributeTable | None = None,
        reader: DigitReader | None = None,
        reference: Reference | None = None,
        reader_sha256: str = SHA256,
        training: data.Dataset | None = None,
    ) -> None:
        self.reference, self.reader = reference or Reference.load(), (reader or load_digit_reader()).to(device)
        self.reader_sha256, self.count = reader_sha256, len(self.reference.real.test_features)
        self.training = training if training and self._is_quick(training) else None
        labels = frequent_labels(self.count, self.reference.class_shares)
        self.labels = torch.tensor(labels) if config.num_classes else None
        seeds = range(self.count)
        self.z = sampling.latents(seeds, config)
        self.c = sampling.class_rows(labels, sampling.attribute_draws(seeds, config), config, table)

    def _is_quick(self, training: data.Dataset) -> bool:
        """Return whether pictures can be compared with all training images of their class, and with a floor."""
        work = self.count * training.images.size / training.num_classes
        return "nearest_1st_percentile" in self.reference.floor and work <= MAX_COMPARISONS

    @property
    def floor(self) -> dict[str, float]:
        """The scores of as many real digits."""
        return self.reference.floor

    def score(self, generator: nn.Module) -> dict[str, float]:
        """Return the scores on rank 0, and {} on other workers. All workers must call it at the same step."""
        workers = Workers.here()
        part = workers.share(self.count).rows
        weights = next(generator.parameters())
        pictures = sampling.draw(generator, self.z[part].to(weights), self.c[part].to(weights))
        raw, logits = read_digits(self.reader, pictures)
        drawn, digits = torch.from_numpy(pictures), logits.argmax(1)
        columns = [raw, digits[:, None], pixel_rows(drawn)]
        if self.training:
            nearest = nearest_of_class(drawn, digits.cpu(), self.training, weights.device)
            columns.append(nearest[:, None])
        read = torch.zeros(self.count, sum(column.shape[1] for column in columns))
        read[part] = torch.cat(columns, 1).float()
        read = workers.sum(read.to(weights.device))
        if workers.rank:
            return {}
        raw, digit, pixels, *distances = read.cpu().split([column.shape[1] for column in columns], 1)
        features, digits = self.reference.real.scaled(raw), digit[:, 0].long()
        scores = self.reference.real.score(features, digits if self.labels is None else self.labels)
        scores |= pixel_scores(pixels)
        for column in distances:
            scores["nearest_1st_percentile"] = nearest_percentile(column[:, 0])
        if self.labels is not None:
            scores["label_accuracy"] = balanced_label_accuracy(self.labels, digits, self.reader.num_classes)
        return scores


def uniform_labels(count: int, num_classes: int = NUM_CLASSES) -> list[int]:
    """Return `count` labels 0, 1, 2, ... in turn."""
    return [i % num_classes for i in range(count)]


def frequent_labels(count: int, shares: NDArray[np.float64]) -> list[int]:
    """Return `count` labels, ascending, with these shares of the classes; rounding is by largest remainder."""
    exact = shares * count
    counts = np.floor(exact).astype(int)
    short = np.argsort(counts - exact, kind="stable")[: count - counts.sum()]
    counts[short] += 1
    return [label for label, times in enumerate(counts) for _ in range(times)]


def _sample(total: int, count: int) -> Tensor:
    """Return a fixed random sample of indices. MNIST's first test images would be its easiest ones."""
    return torch.from_numpy(np.random.RandomState(0).permutation(total)[:count])


def channels_first(pictures: Tensor) -> Tensor:
    """Return pictures as generators draw them, (N, H, W) or (N, H, W, 3), as (N, C, H, W)."""
    return pictures[:, None] if pictures.ndim == 3 else pictures.movedim(3, 1)


def _as_drawn(images: NDArray[np.uint8]) -> Tensor:
    """Return a dataset's images (N, C, H, W) in the form in which generators draw: (N, H, W), or (N, H, W, 3)."""
    return torch.tensor(images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1))


def _scaled(raw: Tensor, kept: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((raw[:, kept] - mean) / std).float()


if __name__ == "__main__":
    make_reference(mnist_judge())
