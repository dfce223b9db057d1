"""The phases of a training step as pure functions, and the update that follows each of them.

A phase returns one value per image. It does not know the size of the whole batch or the number of workers: `update`
sums over images and workers. So a run does not depend on the number of workers. The exception is BatchNorm, whose
statistics come from the images of one worker. Shapes: b images of this worker, B images of the whole batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.discriminator import Discriminator
from models.sampling import evaluating
from trainer.config import TrainConfig
from trainer.draws import Batch
from trainer.flat_optimizer import FlatOptimizer
from trainer.losses import LOSSES, class_loss, gradient_penalty
from trainer.workers import Share


class Terms(NamedTuple):
    """The result of a phase, with one value per image (b,)."""

    loss: Tensor
    """The loss to minimize."""
    curve: dict[str, Tensor]
    """Columns of the run's curve, by name. A column that two phases of a step return is summed over both."""
    logits: dict[str, Tensor]
    """D's logits for `real` and `fake` images, for its accuracy."""


class PenaltyWeights(NamedTuple):
    """Weights of the gradient penalties in a step; a penalty with weight 0 is not computed."""

    real: float
    """Weight of R1."""
    fake: float
    """Weight of R2."""


Phase = Callable[[TrainConfig, Discriminator, Batch, Batch, PenaltyWeights], Terms]
"""A phase of D: (config, D, real, fake, weights of the penalties) -> terms."""


def draw(config: TrainConfig, G: nn.Module, z: Tensor, c: Tensor) -> Batch:
    """Return the fakes that G draws from latents z (b, z_dim) for class rows c (b, K + A)."""
    with _products(config, z.device):
        images = G(z, c)
    return Batch(images.to(z.dtype), c)


def d_joint(config: TrainConfig, D: Discriminator, real: Batch, fake: Batch, weights: PenaltyWeights) -> Terms:
    """Return the terms of an update of D with a pass over real images and a pass over fakes."""
    _track_gradients(config, real, fake)
    # The class loss of D uses only real images, because a fake may not show its class.
    real_logits, class_logits = _read(config, D, real, classes=config.d_class_weight > 0)
    fake_logits, _ = _read(config, D, fake)
    return _d_terms(config, D, real, fake, real_logits, fake_logits, class_logits, weights)


def d_concatenated(config: TrainConfig, D: Discriminator, real: Batch, fake: Batch, weights: PenaltyWeights) -> Terms:
    """Return the terms of an update of D with one pass over real images and fakes, which share BatchNorm statistics."""
    _track_gradients(config, real, fake)
    both = Batch(torch.cat([real.images, fake.images]), torch.cat([real.c, fake.c]))
    logits, _ = _read(config, D, both)
    real_logits, fake_logits = logits.chunk(2)
    return _d_terms(config, D, real, fake, real_logits, fake_logits, None, weights)


def d_real(config: TrainConfig, D: Discriminator, real: Batch, fake: Batch, weights: PenaltyWeights) -> Terms:
    """Return the terms of the first of two updates of D, on real images."""
    logits, _ = _read(config, D, real)
    loss = _part(LOSSES[config.loss].d_real, config)(logits)
    return Terms(loss, {"d_loss": loss.detach() / 2}, {"real": _counted_logits(config, D, real, logits)})


def d_fake(config: TrainConfig, D: Discriminator, real: Batch, fake: Batch, weights: PenaltyWeights) -> Terms:
    """Return the terms of the second of two updates of D, on fakes."""
    logits, _ = _read(config, D, fake)
    loss = _part(LOSSES[config.loss].d_fake, config)(logits)
    return Terms(loss, {"d_loss": loss.detach() / 2}, {"fake": _counted_logits(config, D, fake, logits)})


D_PHASES: dict[str, tuple[Phase, ...]] = {
    "joint": (d_joint,),
    "concatenated": (d_concatenated,),
    "separate": (d_real, d_fake),
}
"""The config's `d_update` -> the phases of D in a step, in order. An update follows each phase."""


def g_phase(config: TrainConfig, D: Discriminator, real: Batch, fake: Batch) -> Terms:
    """Return the terms of the update of G, with a class loss if the recipe has one."""
    loss = LOSSES[config.loss]
    fake_logits, class_logits = _read(config, D, fake, classes=config.g_class_weight > 0)
    with torch.no_grad():  # only a loss of pairs needs real logits
        real_logits = _read(config, D, real)[0] if loss.compares_pairs else torch.zeros_like(fake_logits)
    curve = {"g_loss": loss.g(real_logits, fake_logits)}
    if class_logits is not None:
        curve["g_class_loss"] = config.g_class_weight * class_loss(class_logits, fake.c, config.model)
    return Terms(_sum(curve), curve, {})


def _d_terms(
    config: TrainConfig,
    D: Discriminator,
    real: Batch,
    fake: Batch,
    real_logits: Tensor,
    fake_logits: Tensor,
    class_logits: Tensor | None,
    weights: PenaltyWeights,
) -> Terms:
    """Return the terms of an update of D from real and fake images together."""
    curve = {"d_loss": LOSSES[config.loss].d(real_logits, fake_logits)}
    if config.gamma:
        sides = ((weights.real, real.images, real_logits), (weights.fake, fake.images, fake_logits))
        curve["penalty"] = torch.stack([weight * gradient_penalty(*side) for weight, *side in sides if weight]).sum(0)
    if class_logits is not None:
        curve["d_class_loss"] = config.d_class_weight * class_loss(class_logits, real.c, config.model)
    logits = {
        "real": _counted_logits(config, D, real, real_logits),
        "fake": _counted_logits(config, D, fake, fake_logits),
    }
    return Terms(_sum(curve), curve, logits)


def _sum(curve: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(curve.values())).sum(0)


def _part(loss: Callable[[Tensor], Tensor] | None, config: TrainConfig) -> Callable[[Tensor], Tensor]:
    if loss is None:
        raise RuntimeError(f"loss {config.loss!r} compares pairs and has no parts for real and fake images alone")
    return loss


def _track_gradients(config: TrainConfig, *batches: Batch) -> None:
    """Track gradients with respect to the images, if the recipe has a gradient penalty."""
    for batch in batches:
        batch.images.requires_grad_(bool(config.gamma))


def _counted_logits(config: TrainConfig, D: Discriminator, batch: Batch, logits: Tensor) -> Tensor:
    """Return the logits (b,) for D's accuracy: those of the training pass, or those of a pass without dropout."""
    if config.d_acc_mode == "train":
        return logits
    with evaluating(D), torch.no_grad():
        counted, _ = _read(config, D, batch)
    return counted


def _read(config: TrainConfig, D: Discriminator, batch: Batch, classes: bool = False) -> tuple[Tensor, Tensor | None]:
    """Return D's logits (b,) and, if asked for, its class logits (b, K + A), in the dtype of the images."""
    dtype = batch.images.dtype
    with _products(config, batch.images.device):
        if classes:
            logits, class_logits = D.read(*batch)
            return logits.to(dtype), class_logits.to(dtype)
        return D(*batch).to(dtype), None


def _products(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Return the context in which networks run. Losses, penalties and gradients are computed outside of it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def update(
    optimizer: FlatOptimizer, terms: Terms, share: Share, extras: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Update a network with the gradient of the mean loss over the whole batch.

    The gradient and all numbers are summed over the workers at once. Returns the mean of each column of the curve
    (scalars), the logits of the whole batch (B,), and the sum of `extras` over the workers.
    """
    numbers = {name: values.detach().sum() / share.batch_size for name, values in terms.curve.items()}
    for name, logits in terms.logits.items():
        # Each worker pads its logits with zeros to the whole batch, so that the sum over the workers has all logits.
        numbers[name] = F.pad(logits.detach(), (share.rows.start, share.batch_size - share.rows.stop))
    numbers |= extras or {}
    sums = optimizer.step(terms.loss.sum() / share.batch_size, list(numbers.values()))
    return dict(zip(numbers, sums, strict=True))


def running_statistics(networks: tuple[nn.Module, ...]) -> dict[str, Tensor]:
    """Return BatchNorm's running means and variances. Their mean over the workers is that of the whole batch."""
    return {
        f"{index}.{name}": buffer
        for index, network in enumerate(networks)
        for name, buffer in network.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    }


def add(numbers: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    """Add `more` to `numbers` in place, key by key: two updates of D in a step share a column of the curve."""
    for name, value in more.items():
        numbers[name] = numbers[name] + value if name in numbers else value
