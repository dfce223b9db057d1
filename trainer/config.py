"""TrainConfig, which determines a run's mathematics, and Upkeep, which does not.

The same TrainConfig gives the same run, wherever and on however many workers it trains. A run resumes with the same
TrainConfig and any Upkeep.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import tyro

from models.config import ModelConfig
from trainer.augmentation import Change
from trainer.losses import LOSSES

if TYPE_CHECKING:
    LossName = str
else:  # the command line offers the names of LOSSES
    LossName = tyro.extras.literal_type_from_choices(list(LOSSES))


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """How a run is stored, scored and reported. Raises `ValueError` with the field and its value if one is invalid."""

    metrics_every: int = 1
    """Score the generator every N epochs, if there is a reader of its data (MNIST, or `train-reader`); 0 = never."""
    print_accuracy_every: int = 0
    """Print D's accuracy on real and fake images every N epochs; 0 = never."""
    checkpoint_every: int | str = 0
    """Steps between checkpoints, counted from the start of the run; or minutes, as in `5min`; 0 = a checkpoint at the
    end of each epoch, and each minute in longer ones."""
    keep_checkpoints: int = 3
    """Number of checkpoints to keep: the newest ones. The one with the lowest FID is kept as well."""
    keep_generators: int = 0
    """Number of epochs whose generators to keep: the newest ones. The one of the epoch with the lowest FID is kept as
    well. 0 = keep the generators of all epochs and of all removed checkpoints, so that no link to them breaks."""
    compile: bool = False
    """Compile the networks with `torch.compile`, which needs a C++ compiler and takes about a minute at each start.
    Results differ in the last bits. D stays as it is in recipes with a gradient penalty, whose second derivatives the
    compiler does not support."""

    def __post_init__(self) -> None:
        _check_at_least(self, 0, "metrics_every", "print_accuracy_every", "keep_generators")
        _check_at_least(self, 1, "keep_checkpoints")
        if isinstance(self.checkpoint_every, int):
            _check_at_least(self, 0, "checkpoint_every")
        elif not self.checkpoint_seconds:
            raise ValueError(f"checkpoint_every must be steps, or minutes as in 5min: got {self.checkpoint_every!r}")

    @property
    def checkpoint_steps(self) -> int:
        """Steps between checkpoints; 0 if they are not counted in steps."""
        return self.checkpoint_every if isinstance(self.checkpoint_every, int) else 0

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds between checkpoints; 0 if they are not counted in minutes."""
        match = re.fullmatch(r"(\d+\.?\d*)min", str(self.checkpoint_every))
        return 60 * float(match[1]) if match else 0.0


UPKEEP_FIELDS = frozenset(field.name for field in dataclasses.fields(Upkeep))
"""Names of the fields of `Upkeep`. In run.json files of earlier versions they are fields of the config."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What to train and how. Raises `ValueError` with the field and its value if one is invalid."""

    recipe: Annotated[str, tyro.conf.Suppress]
    """Name of the recipe that this config comes from."""
    epochs: int
    """Number of epochs."""
    batch_size: int
    """Global batch size: fakes in each update of G, summed over workers."""
    limit_images: int = 0
    """Train on the first N images only; 0 = all."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, the latents, the random classes and the augmentation."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of weights and arithmetic. In float64, runs on different numbers of workers agree to about 1e-8."""
    precision: Literal["tf32", "full", "bf16"] = "tf32"
    """Precision of the networks' products. tf32: in TF32 on GPUs that have it, elsewhere as dtype says. full: as dtype
    says. bf16: matrix products and convolutions in bfloat16; weights, gradients, losses and optimizers stay in
    float32."""
    latents: Literal["numpy", "counter"] = "numpy"
    """Random numbers of the latents: those of NumPy, which each worker draws for the whole batch and copies to its
    device, or those of `trainer.draws.counter_normal`, which it draws on its device for its own rows."""
    dataset: str = ""
    """Folder of IDX files, raw or .gz (`train-images-idx3-ubyte` etc.); empty = the MNIST of the repository. A folder
    inside the repository is stored as a relative path, so that it is valid on every node."""
    steps_per_epoch: int = 0
    """Number of steps in an epoch; 0 = one pass over the images. A sample grid is drawn at the end of each epoch."""

    loss: LossName
    """Loss of D and G: a key of `trainer.losses.LOSSES`."""
    gamma: float = 0.0
    """Weight of the zero-centered gradient penalties R1 (on real images) and R2 (on fakes); 0 = no penalty."""
    gamma_end: float = 0.0
    """`gamma` at the end of the run, to which its logarithm falls along half a cosine; 0 = constant."""
    penalties: Literal["both", "alternate"] = "both"
    """Apply the mean of both penalties in each step, or R1 and R2 in turn."""
    augment: tuple[Change, ...] = ()
    """Random changes of all images that D sees, real and fake, against a D that learns few images by heart: colour,
    translation, cutout (`trainer.augmentation`). Penalties are on D's gradient with respect to the changed images."""
    d_class_weight: float = 0.0
    """Weight of the class loss in D's loss: the cross-entropy of D's class logits on real images, and the squared error
    of the attributes that it reads there; 0 = no class loss."""
    g_class_weight: float = 0.0
    """Weight of the class loss in G's loss: the same on fakes; 0 = no class loss."""
    sampling: Literal["epoch", "random"] = "epoch"
    """How real images are chosen: in passes over the shuffled data, or drawn with replacement."""
    d_batch: Literal["whole", "halves"] = "whole"
    """Images in an update of D: batch_size real images and batch_size fakes, or half of each."""
    d_update: Literal["joint", "separate", "concatenated"] = "joint"
    """How D is updated in a step. joint: one update from a pass over real images and a pass over fakes. separate: an
    update after each of these passes. concatenated: one update from one pass over both, which share BatchNorm's
    statistics."""
    d_acc_mode: Literal["train", "eval"] = "train"
    """How D's accuracy is measured: on the logits of the training pass, or in an extra pass without dropout."""
    d_fakes_mode: Literal["train", "eval"] = "train"
    """Mode of G when it draws fakes for D: BatchNorm with the batch's statistics, or with the running ones."""
    d_fakes_labels: Literal["real", "uniform"] = "real"
    """Classes of the fakes for D: those of the real images, or uniformly random ones."""
    g_labels: Literal["real", "uniform"] = "real"
    """Classes of the fakes in G's update: those of the real images, or uniformly random ones."""
    g_fakes: Literal["fresh", "same"] = "fresh"
    """Fakes in G's update: newly drawn, or the same as in D's update, which saves a forward pass of G."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Optimizer of both networks."""
    g_lr: float
    """Learning rate of G."""
    d_lr: float
    """Learning rate of D."""
    g_decay: float = 0.0
    """The learning rate of G is divided by 1 + g_decay * step."""
    d_decay: float = 0.0
    """The learning rate of D is divided by 1 + d_decay * step."""
    beta1: float
    """Decay of Adam's first moment; 0 for RMSprop, which has none."""
    beta2: float
    """Decay of the second moment; for RMSprop this is rho (`alpha` in PyTorch)."""
    adam_eps: float = 1e-8
    """Epsilon of Adam or RMSprop."""
    lr_warmup: int = 0
    """Steps over which the learning rates rise linearly from 0."""
    lr_decay: Literal["none", "cosine"] = "none"
    """Schedule of the learning rates after the warm-up: constant, or half a cosine down to 0 at the end of the run."""
    ema: int = 0
    """Half-life, in images, of the exponential moving average of G's weights; 0 = no average."""

    model: ModelConfig
    """The networks."""

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_batches()
        self._check_losses()
        self._check_fakes()

    def _check_ranges(self) -> None:
        _check_at_least(self, 1, "epochs", "batch_size")
        _check_at_least(self, 0, "limit_images", "steps_per_epoch", "lr_warmup", "ema")
        _check_at_least(self, 0, "gamma", "gamma_end", "d_class_weight", "g_class_weight", "g_decay", "d_decay")
        for name in ("g_lr", "d_lr", "adam_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0: got {getattr(self, name)}")
        if self.gamma_end and not self.gamma:
            raise ValueError(f"gamma_end needs gamma: got gamma {self.gamma}, gamma_end {self.gamma_end}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1): got {getattr(self, name)}")
        if len(set(self.augment)) < len(self.augment) or set(self.augment) - set(get_args(Change)):
            raise ValueError(f"augment must be different ones of {', '.join(get_args(Change))}: got {self.augment}")
        if self.precision == "bf16" and self.dtype != "float32":
            raise ValueError(f"precision 'bf16' needs dtype 'float32': got {self.dtype!r}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2^32): got {self.seed}")
        if self.latents == "counter" and self.model.z_distribution != "normal":
            raise ValueError(f"latents 'counter' are normal: got model.z_distribution {self.model.z_distribution!r}")
        if self.optimizer == "rmsprop" and self.beta1:
            raise ValueError(f"beta1 must be 0 for rmsprop: got {self.beta1}")

    def _check_batches(self) -> None:
        group = self.model.group_size
        if self.batch_size % group:
            raise ValueError(
                f"batch_size must be a multiple of the {group} images that the networks compare: got {self.batch_size}"
            )
        if self.d_batch == "halves" and self.batch_size % (2 * group):
            raise ValueError(f"batch_size must be even for d_batch 'halves', in whole groups: got {self.batch_size}")
        if self.sampling == "random" and group > 1:
            raise ValueError("sampling must be 'epoch' for networks that compare images of a class: got 'random'")

    def _check_losses(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}: got {self.loss!r}")
        pairs = LOSSES[self.loss].compares_pairs
        if self.model.classifier != bool(self.d_class_weight) or (self.g_class_weight and not self.d_class_weight):
            raise ValueError(
                "model.classifier, d_class_weight and g_class_weight go together: got "
                f"{self.model.classifier}, {self.d_class_weight} and {self.g_class_weight}"
            )
        if self.d_class_weight and self.d_update != "joint":
            raise ValueError(f"d_class_weight needs d_update 'joint': got {self.d_update!r}")
        if self.d_update == "separate" and (pairs or self.gamma):
            raise ValueError(
                f"d_update 'separate' needs a loss without pairs or penalties: got {self.loss}, gamma {self.gamma}"
            )
        if self.model.asks and "uniform" in (self.g_labels, self.d_fakes_labels):
            raise ValueError(
                f"model.{'writers' if self.model.writers else 'attributes'} need g_labels and d_fakes_labels 'real': "
                f"got {self.g_labels!r} and {self.d_fakes_labels!r}"
            )
        if pairs and "uniform" in (self.g_labels, self.d_fakes_labels):
            raise ValueError(
                f"loss {self.loss!r} compares images of one class, so g_labels and d_fakes_labels must be 'real': "
                f"got {self.g_labels!r} and {self.d_fakes_labels!r}"
            )

    def _check_fakes(self) -> None:
        if self.d_batch == "halves" and self.g_labels == "real":
            raise ValueError("g_labels must be 'uniform' for d_batch 'halves', whose real images are fewer: got 'real'")
        if self.g_fakes == "same":
            shared = {"d_batch": "whole", "d_fakes_mode": "train", "d_fakes_labels": "real", "g_labels": "real"}
            for name, value in shared.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} must be {value!r} for g_fakes 'same': got {getattr(self, name)!r}")

    @property
    def d_batch_size(self) -> int:
        """Number of real images in an update of D, summed over workers; the number of fakes is the same."""
        return self.batch_size if self.d_batch == "whole" else self.batch_size // 2

    @property
    def max_workers(self) -> int:
        """Largest possible number of workers: each needs at least a group of images, and at least two for BatchNorm."""
        return self.d_batch_size // max(self.model.group_size, 2 if self.model.has_batch_norm else 1)

    def check_workers(self, workers: int) -> None:
        """Raise `ValueError` unless a batch can be divided among this number of workers."""
        if workers < 1:
            raise ValueError(f"--workers must be at least 1: got {workers}")
        if workers > self.max_workers:
            raise ValueError(f"--batch-size {self.batch_size} feeds at most {self.max_workers} workers: got {workers}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON and for Ray."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Return the config with these fields; raise `ValueError` if one is unknown, missing or invalid.

        Fields that have moved to `Upkeep` since earlier versions are ignored.
        """
        fields = {name: value for name, value in fields.items() if name not in UPKEEP_FIELDS}
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown config field {unknown[0]!r}")
        tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        try:
            return cls(**{**fields, **tuples, "model": ModelConfig.from_dict(fields["model"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"train config: {error}") from error

    def differences(self, other: "TrainConfig") -> list[str]:
        """Return one line `field: this value, other value` for each field that differs."""
        mine, others = _flat(self), _flat(other)
        return [f"{name}: {mine[name]!r}, {others[name]!r}" for name in mine if mine[name] != others[name]]


def _flat(config: TrainConfig) -> dict[str, Any]:
    """Return all fields by name. Fields of the model are named `model.NAME`."""
    fields = config.to_dict()
    model = fields.pop("model")
    return fields | {f"model.{name}": value for name, value in model.items()}


def _check_at_least(settings: TrainConfig | Upkeep, minimum: int, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value >= minimum:  # a NaN is invalid too
            problem = "must not be negative" if minimum == 0 else f"must be at least {minimum}"
            raise ValueError(f"{name} {problem}: got {value}")
