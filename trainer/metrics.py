"""How good generated digits are, as the digit reader sees them, and what real digits score in their place: the floor.

Label accuracy alone says little: one perfect picture of each digit has all of it. FID, coverage and recall see what is
missing. All numbers hold for one reader only: with the features of another net they are others.

Shapes: N pictures, uint8 (N, 28, 28); F features kept; features (N, F), each feature of mean 0 and variance 1 over the
training images. FID: Heusel et al. 2017 (arXiv 1706.08500). KID: Binkowski et al. 2018 (1801.01401). Precision and
recall: Kynkaanniemi et al. 2019 (1904.06991). Density and coverage: Naeem et al. 2020 (2002.09797).
"""

import functools
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from models import sampling
from models.config import ModelConfig
from models.digit_reader import IMG_SIZE, NUM_CLASSES, SHA256, DigitReader, load_digit_reader, read_digits
from models.generator_file import read_metadata
from trainer import data

NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""
LEAST_ACTIVE = 0.01
"""Features active on a smaller share of the training images are dropped: z-scored, a few pictures would rule them."""
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
EPOCH_COUNT = 2000
"""Pictures that are scored at the end of an epoch, while a run trains."""
REFERENCE = Path(__file__).with_name("reference.safetensors")
"""What those pictures are compared with, so that a training need not read all real digits before it starts."""
CHUNK = 250
"""Rows of a distance matrix that are computed at once: with many more, memory goes back to the system each time."""


class _Given(nn.Module):
    """What torchmetrics takes for a feature extractor, where the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def feature_scale(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(kept, mean, std) of raw training features (N, all): which ones are kept, bool (all,), and how they spread."""
    kept = (features > 0).double().mean(0) >= LEAST_ACTIVE
    chosen = features[:, kept].double()
    return kept, chosen.mean(0), chosen.std(0)


def confusion(labels: Tensor, read: Tensor, num_classes: int = NUM_CLASSES) -> Tensor:
    """How often a class was asked for (row) and read (column): counts (C, C)."""
    return torch.bincount(labels * num_classes + read, minlength=num_classes**2).view(num_classes, num_classes)


def label_accuracy(counts: Tensor) -> tuple[float, list[float]]:
    """The share that was read as asked, over all and for each class; NaN for a class never asked for."""
    hits = counts.diagonal().double()
    return (hits.sum() / counts.sum()).item(), (hits / counts.sum(1)).tolist()


def frechet_distance(features: Tensor, real_features: Tensor) -> float:
    """FID: between the Gaussians with the means and covariances of features (N, F) and (M, F); 0 = the same."""
    metric = FrechetInceptionDistance(feature=_Given(features.shape[1]))
    metric.update(real_features.double(), real=True)
    metric.update(features.double(), real=False)
    return metric.compute().item()


def kernel_distance(features: Tensor, real_features: Tensor, seed: int = 0) -> float:
    """KID: the mean over random subsets of features (N, F) and (M, F); about 0, and it may be below, for the same."""
    size = min(KID_SUBSET_SIZE, len(features), len(real_features))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features, which are small here
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(_Given(features.shape[1]), subsets=KID_SUBSETS, subset_size=size)
        metric.update(real_features.float(), real=True)
        metric.update(features.float(), real=False)
        mean, _ = metric.compute()
    return mean.item()


def neighbour_radii(features: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """The distance (N,) from each of features (N, F) to its k-th nearest other one; `ValueError` if there are fewer."""
    if len(features) <= k:
        raise ValueError(f"{k} neighbours need at least {k + 1} pictures: got {len(features)}")
    # The nearest one is itself. (topk takes an eighth of the time of kthvalue.)
    nearest = [torch.cdist(rows, features).topk(k + 1, 1, largest=False).values for rows in features.split(CHUNK)]
    return torch.cat(nearest)[:, k]


def neighbour_scores(features: Tensor, real_features: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """`precision`, `recall`, `density` and `coverage` of features (N, F) against (M, F).

    A picture's ball reaches to its k-th nearest neighbour of its own kind. Precision: generated ones in any real ball;
    recall: real ones in any generated ball; density: real balls around a generated one, over k; coverage: real balls
    with a generated one in them.
    """
    features, real_features = features.double(), real_features.double()
    radii, real_radii = neighbour_radii(features, k), neighbour_radii(real_features, k)
    precise = torch.zeros(len(features), dtype=torch.bool)
    recalled, covered, balls = 0, 0, 0
    for rows, row_radii in zip(real_features.split(CHUNK), real_radii.split(CHUNK), strict=True):
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
    """The variance (C,) of features (N, F) within each class, summed over features; 0 for fewer than two pictures."""
    members = [features[labels == label].double() for label in range(num_classes)]
    return torch.stack([m.var(0).sum() if len(m) > 1 else torch.zeros((), dtype=torch.float64) for m in members])


def nearest_distances(pictures: Tensor, others: Tensor) -> Tensor:
    """The distance (N,) from each of uint8 pictures (N, ...) to the nearest of others (M, ...).

    L2 over pixels, black = 0 and white = 1.
    """
    x, y = (images.flatten(1).float() / 255 for images in (pictures, others))
    squares = y.square().sum(1)
    found = []
    for rows in x.split(CHUNK):
        best, indices = torch.full((len(rows),), torch.inf), torch.zeros(len(rows), dtype=torch.int64)
        for start in range(0, len(y), 10 * CHUNK):
            part = slice(start, start + 10 * CHUNK)
            least, at = torch.addmm(squares[part], rows, y[part].T, alpha=-2).min(1)
            indices = torch.where(least < best, at + start, indices)
            best = torch.minimum(least, best)
        found.append((rows - y[indices]).square().sum(1).sqrt())  # again, for the short way is inexact near 0
    return torch.cat(found)


@dataclass(frozen=True)
class Reading:
    """Pictures uint8 (N, 28, 28), their scaled features (N, F), and the digits (N,) that the reader sees in them."""

    pictures: Tensor
    features: Tensor
    read: Tensor

    def __getitem__(self, indices: Tensor) -> "Reading":
        return Reading(self.pictures[indices], self.features[indices], self.read[indices])


class Judge:
    """The digit reader, and the real digits that it compares generated ones with."""

    def __init__(self, reader: DigitReader, training: data.Dataset, test: data.Dataset) -> None:
        """Look at all real digits: seconds for the 70,000 of MNIST."""
        raw, logits = read_digits(reader, training.images)
        self.reader = reader
        self.kept, self.mean, self.std = feature_scale(raw)
        self.training = self._reading(training.images[:, 0], raw, logits)
        self.training_labels = torch.from_numpy(training.labels)
        self.test = self.look(test.images[:, 0])
        self.test_labels = torch.from_numpy(test.labels)

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """How frequent each digit is among the training images."""
        return (torch.bincount(self.training_labels, minlength=NUM_CLASSES) / len(self.training_labels)).numpy()

    def look(self, pictures: NDArray[np.uint8]) -> Reading:
        """Read pictures, uint8 (N, 28, 28)."""
        return self._reading(pictures, *read_digits(self.reader, pictures))

    def score(self, reading: Reading, labels: Tensor | None = None) -> dict[str, float]:
        """The scores of N generated pictures whose classes are as frequent as among the training images.

        FID, KID, diversity and the nearest image compare with all training images, the others with N test images.
        `labels` are the classes asked for; None, for a generator without classes, takes those read.
        """
        test = self._test_sample(len(reading.read))
        return self._scores(reading, reading.read if labels is None else labels, reading, self.test[test])

    def floor(self, count: int) -> dict[str, float]:
        """What N real pictures score: test images, and N training images where N test images are the measure."""
        test = self._test_sample(count)
        training = _sample(len(self.training.read), count)
        return self._scores(self.test[test], self.test_labels[test], self.training[training], self.test[test])

    def score_labels(self, reading: Reading, labels: Tensor) -> dict[str, Any]:
        """Whether pictures are read as asked; for generated ones `labels` are uniform."""
        counts = confusion(labels, reading.read)
        overall, per_digit = label_accuracy(counts)
        return {"label_accuracy": overall, "label_accuracy_per_digit": per_digit, "confusion": counts.tolist()}

    def floor_labels(self, count: int) -> dict[str, Any]:
        """The same for N test images."""
        test = self._test_sample(count)
        return self.score_labels(self.test[test], self.test_labels[test])

    def _reading(self, pictures: NDArray[np.uint8], raw: Tensor, logits: Tensor) -> Reading:
        scaled = ((raw[:, self.kept] - self.mean) / self.std).float()
        return Reading(torch.tensor(pictures), scaled, logits.argmax(1))

    def _scores(self, reading: Reading, labels: Tensor, rivals: Reading, test: Reading) -> dict[str, float]:
        """Scores of a reading against the training images, and of `rivals` against as many test images."""
        nearest = nearest_distances(reading.pictures, self.training.pictures).double()
        real_variance = class_variances(self.training.features, self.training_labels).mean()
        return {
            "fid": frechet_distance(reading.features, self.training.features),
            "kid": kernel_distance(reading.features, self.training.features),
            **neighbour_scores(rivals.features, test.features),
            "diversity": (class_variances(reading.features, labels).mean() / real_variance).item(),
            "nearest_1st_percentile": nearest.quantile(0.01).item(),
            "nearest_median": nearest.median().item(),
        }

    def _test_sample(self, count: int) -> Tensor:
        if not NEIGHBOURS < count <= len(self.test.read):
            raise ValueError(f"count must be in {NEIGHBOURS + 1}..{len(self.test.read)}, the test images: got {count}")
        return _sample(len(self.test.read), count)


@functools.cache
def mnist_judge() -> Judge:
    """The judge with all of MNIST, made once in a process."""
    return Judge(load_digit_reader(), data.load_dataset(split="train"), data.load_dataset(split="t10k"))


@dataclass(frozen=True)
class Reference:
    """The real digits, as far as scores of `EPOCH_COUNT` pictures need them: sums over training features, and so many
    test features. `python -m trainer.metrics` makes the file."""

    tensors: dict[str, Tensor]
    """kept (128,), mean, std, sum (F,), outer_sum (F, F), count, variance, and test_features (EPOCH_COUNT, F)."""
    shares: NDArray[np.float64]
    floor: dict[str, float]

    @classmethod
    def load(cls, path: Path = REFERENCE) -> "Reference":
        """Read the shipped file; `ValueError` if it was made with another digit reader."""
        content = path.read_bytes()
        made = json.loads(read_metadata(content)["reference"])
        if made["reader_sha256"] != SHA256:
            raise ValueError(f"{path}: was made with another digit reader; make it again: python -m trainer.metrics")
        return cls(safetensors.torch.load(content), np.array(made["shares"]), made["floor"])

    def score(self, raw: Tensor, read: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Scores of raw features (EPOCH_COUNT, 128), read as digits (EPOCH_COUNT,), asked for as often as in training.

        Label accuracy is the mean over digits, as if they were asked for equally often; without labels there is none.
        """
        t = self.tensors
        features = (raw[:, t["kept"]] - t["mean"]) / t["std"]
        # Rank 0 scores alone: without being told, torchmetrics would wait for the other workers.
        fid = FrechetInceptionDistance(feature=_Given(features.shape[1]), sync_on_compute=False)
        fid.real_features_sum, fid.real_features_cov_sum = t["sum"], t["outer_sum"]
        fid.real_features_num_samples = t["count"]
        fid.update(features.double(), real=False)
        variance = class_variances(features, read if labels is None else labels).mean()
        scores = {
            "fid": fid.compute().item(),
            **neighbour_scores(features, t["test_features"]),
            "diversity": (variance / t["variance"]).item(),
        }
        if labels is not None:
            scores["label_accuracy"] = float(np.mean(label_accuracy(confusion(labels, read))[1]))
        return scores


def make_reference(judge: Judge, path: Path = REFERENCE) -> None:
    """Write what `Reference` reads."""
    features = judge.training.features.double()
    test = judge._test_sample(EPOCH_COUNT)
    tensors = {
        "kept": judge.kept,
        "mean": judge.mean,
        "std": judge.std,
        "sum": features.sum(0),
        "outer_sum": features.T @ features,
        "count": torch.tensor(len(features)),
        "variance": class_variances(features, judge.training_labels).mean(),
        "test_features": judge.test.features[test],
    }
    floor = judge.floor(EPOCH_COUNT) | {"label_accuracy": judge.floor_labels(EPOCH_COUNT)["label_accuracy"]}
    names = ("fid", "precision", "recall", "density", "coverage", "diversity", "label_accuracy")
    made = {"reader_sha256": SHA256, "shares": judge.class_shares.tolist(), "floor": {n: floor[n] for n in names}}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    path.write_bytes(safetensors.torch.save(contiguous, {"reference": json.dumps(made)}))


class EpochJudge:
    """Scores a generator while it trains: few pictures, always of the same latents, drawn and read by all workers."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self.reference, self.reader = Reference.load(), load_digit_reader().to(device)
        labels = frequent_labels(EPOCH_COUNT, self.reference.shares)
        self.labels = torch.tensor(labels) if config.num_classes else None
        self.z = sampling.latents(range(EPOCH_COUNT), config)
        self.c = sampling.one_hot(labels, config.num_classes)

    @staticmethod
    def can_judge(dataset: data.Dataset, config: ModelConfig) -> bool:
        """Whether these are MNIST's images, which alone the digit reader knows, drawn as they are."""
        is_mnist = all(data.MNIST_SHA256.get(name) == sha256 for name, sha256 in dataset.sha256.items())
        return is_mnist and config.image_shape == (1, IMG_SIZE, IMG_SIZE) and config.num_classes in (0, NUM_CLASSES)

    def score(self, generator: nn.Module) -> dict[str, float]:
        """The scores, on rank 0 (elsewhere empty); all workers call it at the same step."""
        distributed = dist.is_available() and dist.is_initialized()
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        part = slice(EPOCH_COUNT * rank // world_size, EPOCH_COUNT * (rank + 1) // world_size)
        weights = next(generator.parameters())
        pictures = sampling.draw(generator, self.z[part].to(weights), self.c[part].to(weights))
        raw, logits = read_digits(self.reader, pictures)
        read = torch.zeros(EPOCH_COUNT, raw.shape[1] + 1)
        read[part, :-1], read[part, -1] = raw, logits.argmax(1).float()
        if distributed:
            shared = read.to(weights.device)
            dist.all_reduce(shared)
            read = shared.cpu()
        return self.reference.score(read[:, :-1], read[:, -1].long(), self.labels) if rank == 0 else {}


def uniform_labels(count: int, num_classes: int = NUM_CLASSES) -> list[int]:
    """Each class as often as the next: 0, 1, 2, ... in turn."""
    return [i % num_classes for i in range(count)]


def frequent_labels(count: int, shares: NDArray[np.float64]) -> list[int]:
    """As many of each class as its share says, in ascending order; largest remainders get what rounding leaves."""
    exact = shares * count
    counts = np.floor(exact).astype(int)
    short = np.argsort(counts - exact, kind="stable")[: count - counts.sum()]
    counts[short] += 1
    return [label for label, times in enumerate(counts) for _ in range(times)]


def _sample(total: int, count: int) -> Tensor:
    """Always the same `count` of `total` indices, picked at random: MNIST's first test images are its easiest."""
    return torch.from_numpy(np.random.RandomState(0).permutation(total)[:count])


if __name__ == "__main__":
    make_reference(mnist_judge())
