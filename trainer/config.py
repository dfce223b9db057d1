"""TrainConfig: everything that a run's mathematics depends on, and nothing else.

Where and on how many workers a run trains is not part of it: the same config gives the same run.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import tyro

from models.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What to train and how; `ValueError` names the field that does not fit and its value."""

    recipe: Annotated[str, tyro.conf.Suppress]
    """Name of the recipe that this config comes from."""
    epochs: int
    """Length of the run."""
    batch_size: int
    """Images of one step over all workers together: those that G draws for its own update."""
    limit_images: int = 0
    """Train on the first so many images only; 0 = all."""
    seed: int = 0
    """Of the initial weights, the order of the images, the latents and the labels."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of weights and arithmetic; float64 proves that the number of workers does not matter."""
    dataset: str = ""
    """Folder of IDX files (raw or .gz), `train-images-idx3-ubyte` and so on; empty = the embedded MNIST. A folder in
    the repository is kept relative to it, so that it means the same on every node."""
    steps_per_epoch: int = 0
    """Steps of an epoch, at whose end a sample grid is drawn; 0 = as many as batches make up the data."""
    print_accuracy_every: int = 0
    """Epochs between two lines that tell D's accuracy on real and on fake images in per cent; 0 = none."""
    metrics_every: int = 1
    """Epochs between two scores of the generator, where the digit reader can judge it; 0 = none."""
    checkpoint_every: int = 0
    """Steps between checkpoints, counted from the start; 0 = at the end of each epoch."""
    keep_checkpoints: int = 3
    """Checkpoints to keep, the newest ones; the one of the lowest FID stays as well."""

    loss: Literal["bce", "relativistic"]
    """Pair of losses in `trainer.losses`."""
    gamma: float = 0.0
    """Weight of the zero-centered gradient penalties on real and fake images (R1 + R2); 0 = none."""
    penalties: Literal["both", "alternate"] = "both"
    """Both penalties in each step, or one at a time, twice as heavy: R1, R2, R1 and so on."""
    d_class_weight: float = 0.0
    """Weight in D's loss of the cross-entropy of the classes that D reads in real images; 0 = D reads none."""
    g_class_weight: float = 0.0
    """Weight in G's loss of the cross-entropy of the classes that D reads in fakes."""
    sampling: Literal["epoch", "random"] = "epoch"
    """Real images of a step: the next ones of a pass over the data in random order, or drawn with replacement."""
    d_batch: Literal["whole", "halves"] = "whole"
    """D learns in a step from batch_size real images and as many fakes, or from half as many of each."""
    d_update: Literal["joint", "separate", "concatenated"] = "joint"
    """D's update: one from a pass over real images and a pass over fakes, one after each, or one from a single pass
    over both, where BatchNorm sees them together."""
    d_acc_mode: Literal["train", "eval"] = "train"
    """How D's accuracy is measured: as D trains, or in a pass of its own in evaluation mode, without dropout."""
    d_fakes_mode: Literal["train", "eval"] = "train"
    """How G draws the fakes that D learns from: with the batch's statistics, or with the running ones."""
    d_fakes_labels: Literal["real", "uniform"] = "real"
    """Classes of the fakes that D learns from: those of the real images, or uniformly random ones."""
    g_labels: Literal["real", "uniform"] = "real"
    """Classes that G draws for its own update: those of the real images, or uniformly random ones."""
    g_fakes: Literal["fresh", "same"] = "fresh"
    """Fakes of G's own update: newly drawn, or the same that D has just learned from, which saves a pass of G."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Of both networks."""
    g_lr: float
    """G's learning rate."""
    d_lr: float
    """D's learning rate."""
    g_decay: float = 0.0
    """G's learning rate is divided by 1 + g_decay * step."""
    d_decay: float = 0.0
    """D's learning rate is divided by 1 + d_decay * step."""
    beta1: float
    """Adam's decay of the first moment; 0 for RMSprop, which has none."""
    beta2: float
    """Decay of the second moment, which is RMSprop's rho."""
    adam_eps: float = 1e-8
    """Epsilon of Adam, and of RMSprop."""
    lr_warmup: int = 0
    """Steps over which the learning rates rise from 0."""
    lr_decay: Literal["none", "cosine"] = "none"
    """How the learning rates fall from there to the end of the run."""
    ema: int = 0
    """Half-life in images of the running average of G's weights; 0 = none."""

    model: ModelConfig
    """The networks."""

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size", "keep_checkpoints"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1: got {getattr(self, field)}")
        counts = ("limit_images", "steps_per_epoch", "print_accuracy_every", "metrics_every", "checkpoint_every")
        weights = ("gamma", "d_class_weight", "g_class_weight", "g_decay", "d_decay")
        for field in (*counts, *weights, "lr_warmup", "ema"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must not be negative: got {getattr(self, field)}")
        for field in ("g_lr", "d_lr", "adam_eps"):
            if getattr(self, field) <= 0:
                raise ValueError(f"{field} must be greater than 0: got {getattr(self, field)}")
        for field in ("beta1", "beta2"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{field} must be in [0, 1): got {getattr(self, field)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2^32): got {self.seed}")
        if self.optimizer == "rmsprop" and self.beta1:
            raise ValueError(f"beta1 must be 0 for rmsprop: got {self.beta1}")
        if self.batch_size % self.model.group_size:
            raise ValueError(
                f"batch_size must be a multiple of the {self.model.group_size} images that the networks compare: "
                f"got {self.batch_size}"
            )
        if self.model.classifier != bool(self.d_class_weight) or (self.g_class_weight and not self.d_class_weight):
            raise ValueError(
                "model.classifier, d_class_weight and g_class_weight go together: got "
                f"{self.model.classifier}, {self.d_class_weight} and {self.g_class_weight}"
            )
        if self.d_class_weight and self.d_update != "joint":
            raise ValueError(f"d_class_weight needs d_update 'joint': got {self.d_update!r}")
        if self.d_batch == "halves" and self.batch_size % (2 * self.model.group_size):
            raise ValueError(f"batch_size must be even for d_batch 'halves', in whole groups: got {self.batch_size}")
        if self.d_batch == "halves" and self.g_labels == "real":
            raise ValueError("g_labels must be 'uniform' for d_batch 'halves', whose real images are fewer: got 'real'")
        if self.sampling == "random" and self.model.group_size > 1:
            raise ValueError("sampling must be 'epoch' for networks that compare images of a class: got 'random'")
        if self.d_update == "separate" and (self.loss == "relativistic" or self.gamma):
            raise ValueError(
                f"d_update 'separate' needs a loss without pairs or penalties: got {self.loss}, gamma {self.gamma}"
            )
        if self.loss == "relativistic" and "uniform" in (self.g_labels, self.d_fakes_labels):
            raise ValueError(
                "loss 'relativistic' compares images of one class, so g_labels and d_fakes_labels must be 'real': "
                f"got {self.g_labels!r} and {self.d_fakes_labels!r}"
            )
        if self.g_fakes == "same":
            shared = {"d_batch": "whole", "d_fakes_mode": "train", "d_fakes_labels": "real", "g_labels": "real"}
            for field, value in shared.items():
                if getattr(self, field) != value:
                    raise ValueError(f"{field} must be {value!r} for g_fakes 'same': got {getattr(self, field)!r}")

    @property
    def d_batch_size(self) -> int:
        """Real images, and as many fakes, that D learns from in a step over all workers together."""
        return self.batch_size if self.d_batch == "whole" else self.batch_size // 2

    @property
    def most_workers(self) -> int:
        """Workers that a batch can be spread over: each needs a group of images, and BatchNorm two images."""
        return self.d_batch_size // max(self.model.group_size, 2 if self.model.has_batch_norm else 1)

    def check_workers(self, workers: int) -> None:
        """`ValueError` unless a batch can be spread over so many workers."""
        if workers < 1:
            raise ValueError(f"--workers must be at least 1: got {workers}")
        if workers > self.most_workers:
            raise ValueError(f"--batch-size {self.batch_size} feeds at most {self.most_workers} workers: got {workers}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and Ray carry them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The config of these fields; an unknown, missing or unfit one is a `ValueError`."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown config field {unknown[0]!r}")
        try:
            return cls(**{**fields, "model": ModelConfig.from_dict(fields["model"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"train config: {error}") from error

    def differences(self, other: "TrainConfig") -> list[str]:
        """One line `field: mine, other's` for each field that differs."""

        def flat(config: TrainConfig) -> dict[str, Any]:
            fields = config.to_dict()
            model = fields.pop("model")
            return fields | {f"model.{name}": value for name, value in model.items()}

        mine, others = flat(self), flat(other)
        return [f"{name}: {mine[name]!r}, {others[name]!r}" for name in mine if mine[name] != others[name]]
