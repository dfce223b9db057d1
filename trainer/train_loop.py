"""The training loop: one function from the first step to the last, the same mathematics on any number of workers.

`batch_size` is global. A step's images, latents and labels are functions of (seed, step), and each worker takes its
slice of them; gradients and logits are summed over all workers by one all-reduce for each update of a network.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from models import sampling
from models.config import ModelConfig
from models.dropout import SharedMasks, share_masks
from trainer import data, losses, state
from trainer.config import TrainConfig
from trainer.metrics import EpochJudge
from trainer.recorder import Recorder
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE, Curve, EpochSummary, Manifest, Phase, Run

LEAST_SECONDS, MOST_SECONDS = 2.0, 60.0
"""Between checkpoints: those of shorter epochs are skipped, and in longer epochs there is one by the clock."""
GRID_SEEDS = 10
"""Pictures of each class in an epoch's sample grid, with seeds 0, 1, ...; an unconditional net draws 100 seeds."""

Report = Callable[[Manifest, dict[str, bytes] | None], None]
"""(a checkpoint's manifest, its files on rank 0 and None elsewhere): all workers call it at the same steps."""


class NotFiniteError(RuntimeError):
    """A loss became infinite or not a number."""


def plan(config: TrainConfig, num_images: int) -> tuple[int, int]:
    """(steps_per_epoch, total_steps) of a run on so many images."""
    steps_per_epoch = config.steps_per_epoch or max(1, num_images // config.batch_size)
    return steps_per_epoch, steps_per_epoch * config.epochs


def load_images(config: TrainConfig) -> data.Dataset:
    """The training images of a run; `ValueError` if the networks are not made for them."""
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
    if not len(data.epoch_order(dataset.labels, model.group_size, config.seed, 0)):
        raise ValueError(f"no class has {model.group_size} images, which the networks compare: raise --limit-images")
    return dataset


def worker_slice(batch_size: int, group_size: int, rank: int, world_size: int) -> slice:
    """A worker's part of a batch: whole groups, spread as evenly as they go."""
    groups = batch_size // group_size
    return slice(groups * rank // world_size * group_size, groups * (rank + 1) // world_size * group_size)


def train(
    config: TrainConfig,
    run: Run,
    report: Report,
    recorder: Recorder | None,
    device: torch.device,
    cpu_minutes: float = math.inf,
) -> None:
    """Train a run to its end, from the newest checkpoint that verifies, in this process and its process group.

    `recorder` is rank 0's, and None elsewhere; when it hears a request to stop, training ends at the next step, after a
    checkpoint; likewise when all workers, over all sittings of the run, have used `cpu_minutes`. Raises
    `NotFiniteError` on all workers at once.
    """
    distributed = dist.is_available() and dist.is_initialized()
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
    model, batch_size, dtype = config.model, config.batch_size, getattr(torch, config.dtype)
    loss = losses.LOSSES[config.loss]

    # Data: all images in memory on the device, in bytes.
    dataset = load_images(config)
    images = torch.tensor(dataset.images, device=device)
    steps_per_epoch, total_steps = plan(config, len(images))
    d_batch_size = config.d_batch_size
    steps_per_pass = max(1, len(images) // d_batch_size)
    part = worker_slice(batch_size, model.group_size, rank, world_size)
    d_part = worker_slice(d_batch_size, model.group_size, rank, world_size)
    share = (part.stop - part.start) / batch_size

    # State: the newest checkpoint that verifies, or else the first weights.
    s = state.new_state(config, steps_per_epoch, device)
    resume_step = _from_rank_zero(newest_intact_step(run) if rank == 0 else 0, distributed)
    if resume_step and (checkpoint := run.checkpoint(resume_step)):
        files = (GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE)
        state.load_checkpoint_files(s, {name: checkpoint.read(name) for name in files})
    _check_equal_weights(s, distributed)

    if recorder:
        epoch = min(s.step // steps_per_epoch + 1, config.epochs)
        recorder.progress = replace(
            recorder.progress,
            phase="training",
            step=s.step,
            total_steps=total_steps,
            epoch=epoch,
            epochs=config.epochs,
            nimg=s.step * batch_size,
            world_size=world_size,
        )
        if s.step == 0:
            recorder.epoch(EpochSummary(epoch=0, step=0, nimg=0, time=time.time()), sample_grid(s.G_ema, model), None)
    clock = tick = saved = time.monotonic()
    cpu_tick, seconds_before = time.process_time(), s.seconds
    tick_step = s.step
    speed: list[float | None] = [None] * steps_per_epoch
    order_pass, order = -1, np.empty(0, np.int64)
    judge = EpochJudge(model, device) if config.metrics_every and EpochJudge.can_judge(dataset, model) else None

    while s.step < total_steps:
        # This step's real images, their classes, and the learning rates.
        if config.sampling == "random":
            indices = data.random_batch(len(images), config.seed, s.step, d_batch_size)[d_part]
        else:
            this_pass, pass_step = divmod(s.step, steps_per_pass)
            if this_pass != order_pass:
                order = data.epoch_order(dataset.labels, model.group_size, config.seed, this_pass)
                order_pass = this_pass
            indices = data.batch_of_step(order, pass_step, d_batch_size)[d_part]
        real_images = sampling.from_uint8(images[torch.from_numpy(indices).to(device)], dtype)
        c = class_rows(torch.from_numpy(dataset.labels[indices]), model, device, dtype)
        rates = learning_rates(config, s.step, total_steps)
        for optimizer, rate in zip((s.g_optimizer, s.d_optimizer), rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate

        # D step: raise the logits of real images, lower those of fakes.
        fake_c = c
        if config.d_fakes_labels == "uniform":
            fake_c = random_classes(config, data.D_LABELS, s.step, d_part, device)
        s.G.train(config.d_fakes_mode == "train")
        with torch.set_grad_enabled(config.g_fakes == "same"):
            drawn = s.G(random_latents(config, data.D_LATENTS, s.step, d_part, device), fake_c)
        fake_images = drawn.detach()
        s.G.train()
        if model.dropout:
            share_masks(s.D, dropout_masks(config, data.D_DROPOUT, s.step, d_part, device))
        if config.gamma:
            real_images.requires_grad_()
            fake_images.requires_grad_()
        now = time.monotonic()
        cpu_now = time.process_time()
        clocks = [recorder.stop_requested, now - saved] if recorder else [0, 0]
        flags = real_images.new_tensor([*clocks, cpu_now - cpu_tick])
        penalty, class_loss = real_images.new_zeros(()), real_images.new_zeros(())
        if config.d_update != "separate":
            if config.d_class_weight:  # D learns to read from real images only: fakes may not show what they should
                real_logits, class_logits = s.D.read(real_images, c)
                class_losses = losses.class_cross_entropy(class_logits, c)
                class_loss = config.d_class_weight * class_losses.sum() / d_batch_size
                fake_logits = s.D(fake_images, fake_c)
            elif config.d_update == "joint":
                real_logits, fake_logits = s.D(real_images, c), s.D(fake_images, fake_c)
            else:
                real_logits, fake_logits = s.D(torch.cat([real_images, fake_images]), torch.cat([c, fake_c])).chunk(2)
            d_loss = loss.d(real_logits, fake_logits).sum() / d_batch_size
            if config.gamma:
                sides = [(real_images, real_logits), (fake_images, fake_logits)]
                if config.penalties == "alternate":
                    sides = [sides[s.step % 2]]
                penalties = [losses.gradient_penalty(*side).sum() / d_batch_size for side in sides]
                penalty = config.gamma * torch.stack(penalties).mean()
            real_logits = logits_to_count(config, s.D, real_images, c, real_logits)
            fake_logits = logits_to_count(config, s.D, fake_images, fake_c, fake_logits)
            numbers = [flags, d_loss, penalty, _scattered(real_logits, d_part, d_batch_size)]
            numbers.append(_scattered(fake_logits, d_part, d_batch_size))
            numbers = update(d_loss + penalty + class_loss, s.D, s.d_optimizer, numbers, distributed)
            flags, d_loss, penalty, real_logits, fake_logits = numbers
        else:
            real_logits = s.D(real_images, c)
            d_loss_real = losses.bce_d_real(real_logits).sum() / d_batch_size
            real_logits = logits_to_count(config, s.D, real_images, c, real_logits)
            numbers = [flags, d_loss_real, _scattered(real_logits, d_part, d_batch_size)]
            flags, d_loss_real, real_logits = update(d_loss_real, s.D, s.d_optimizer, numbers, distributed)
            fake_logits = s.D(fake_images, fake_c)
            d_loss_fake = losses.bce_d_fake(fake_logits).sum() / d_batch_size
            fake_logits = logits_to_count(config, s.D, fake_images, fake_c, fake_logits)
            numbers = [d_loss_fake, _scattered(fake_logits, d_part, d_batch_size)]
            d_loss_fake, fake_logits = update(d_loss_fake, s.D, s.d_optimizer, numbers, distributed)
            d_loss = (d_loss_real + d_loss_fake) / 2
        d_acc_real, d_acc_fake = losses.accuracy(real_logits, fake_logits, config.loss == "relativistic")

        # G step: raise the logits of fakes.
        if config.g_labels == "uniform":
            c = random_classes(config, data.G_LABELS, s.step, part, device)
        if config.g_fakes == "same":
            fake_images = drawn
        else:
            fake_images = s.G(random_latents(config, data.G_LATENTS, s.step, part, device), c)
        if model.dropout:
            share_masks(s.D, dropout_masks(config, data.G_DROPOUT, s.step, part, device))
        class_loss = fake_images.new_zeros(())
        if config.g_class_weight:
            fake_logits, class_logits = s.D.read(fake_images, c)
            class_losses = losses.class_cross_entropy(class_logits, c)
            class_loss = config.g_class_weight * class_losses.sum() / batch_size
        else:
            fake_logits = s.D(fake_images, c)
        with torch.no_grad():  # the other losses do not look at real images
            real_logits = s.D(real_images, c) if config.loss == "relativistic" else torch.zeros_like(fake_logits)
        g_loss = loss.g(real_logits, fake_logits).sum() / batch_size
        statistics = [*running_statistics(s.G), *running_statistics(s.D)]
        numbers = [g_loss, *(buffer * share for buffer in statistics)]
        g_loss, *averages = update(g_loss + class_loss, s.G, s.g_optimizer, numbers, distributed)
        for buffer, average in zip(statistics, averages, strict=True):
            buffer.copy_(average.view_as(buffer))
        if config.ema:
            # Early on, half-lives grow with the run, or the first weights would stay in the average for long.
            half_life = min(config.ema, s.step * batch_size / 20)
            state.update_ema(s, half_life, batch_size)

        # Keep the books. On a GPU, looking at a number waits for it: only every 20 steps.
        row = s.step % steps_per_epoch
        s.curve[row] = torch.stack([d_loss, g_loss, d_acc_real, d_acc_fake, penalty]).view(-1)
        s.step += 1
        epoch_ends, ends = s.step % steps_per_epoch == 0, s.step == total_steps
        due = bool(config.checkpoint_every) and s.step % config.checkpoint_every == 0
        if device.type == "cuda" and s.step % 20 and not epoch_ends and not due:
            continue
        _check_finite(s.curve[: row + 1], s.step - row)
        stop, since_saved, cpu_seconds = flags.tolist()
        cpu_tick = cpu_now
        s.cpu_seconds += cpu_seconds
        s.seconds = seconds_before + time.monotonic() - clock
        used_up = s.cpu_seconds >= 60 * cpu_minutes
        due = due or (epoch_ends and not config.checkpoint_every and since_saved >= LEAST_SECONDS)
        due = due or since_saved >= MOST_SECONDS or bool(stop) or used_up or ends
        epoch = (s.step - 1) // steps_per_epoch + 1
        scores: dict[str, float] = {}
        if judge and epoch_ends and (epoch % config.metrics_every == 0 or ends):
            scores = judge.score(s.G_ema)

        if recorder:
            now = time.monotonic()
            s.epoch_seconds += now - tick
            rate = (s.step - tick_step) * batch_size / (now - tick)
            speed[max(0, row - (s.step - tick_step) + 1) : row + 1] = [rate] * min(s.step - tick_step, row + 1)
            mean_rate = (s.step - resume_step) * batch_size / (now - clock)
            recorder.progress = replace(
                recorder.progress,
                step=s.step,
                epoch=epoch,
                nimg=s.step * batch_size,
                images_per_second=mean_rate,
                eta=(total_steps - s.step) * batch_size / mean_rate,
            )
            tick, tick_step = now, s.step
            if epoch_ends:
                summary = epoch_summary(config, s, epoch, rates)
                if judge and scores:
                    summary = replace(summary, scores=scores, floor=judge.reference.floor)
                curve = curve_records(s.curve, s.step - steps_per_epoch, speed)
                recorder.epoch(summary, sample_grid(s.G_ema, model), curve)
                s.epoch_seconds, speed, tick = 0.0, [None] * steps_per_epoch, time.monotonic()
                recorder.flush()  # before its checkpoint: a resumed run does not look back at an epoch
            elif recorder.wants_curve():
                recorder.running_curve(epoch, curve_records(s.curve[: row + 1], s.step - row - 1, speed[: row + 1]))

        if due:
            _check_equal_weights(s, distributed)
            manifest = Manifest(
                step=s.step,
                epoch=s.step // steps_per_epoch,
                nimg=s.step * batch_size,
                world_size=world_size,
                seconds=s.seconds,
                cpu_seconds=s.cpu_seconds,
                fid=scores.get("fid"),
            )
            provenance = {"run": run.name, "recipe": config.recipe, "step": s.step, "data": dataset.sha256}
            provenance |= {"epoch": manifest.epoch, "nimg": manifest.nimg, "world_size": world_size}
            content = state.checkpoint_files(s, config, provenance, dataset.class_names) if rank == 0 else None
            report(manifest, content)
            saved = time.monotonic()
        if stop or used_up:
            break

    if recorder:
        phase: Phase = "finished" if s.step >= total_steps else "stopped"
        recorder.progress = replace(recorder.progress, phase=phase, eta=0.0, cpu_seconds=s.cpu_seconds)


def newest_intact_step(run: Run) -> int:
    """The step of the newest checkpoint that verifies, 0 without one; damaged newer ones are set aside."""
    for checkpoint in reversed(run.checkpoints()):
        if checkpoint.is_intact():
            return checkpoint.step
        run.set_aside(checkpoint)
    return 0


def update(
    loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, numbers: list[Tensor], distributed: bool
) -> list[Tensor]:
    """One step of a network along the gradient of the workers' summed losses; returns `numbers`, summed likewise.

    All travel in one flat all-reduce. There is no DDP wrapper: with two networks and gradient penalties it misses
    gradients without a word.
    """
    parameters = list(network.parameters())
    tensors = [*torch.autograd.grad(loss, parameters), *(number.detach() for number in numbers)]
    if distributed:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        tensors = [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
    for parameter, gradient in zip(parameters, tensors, strict=False):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad()
    return tensors[len(parameters) :]


def random_latents(config: TrainConfig, purpose: int, step: int, part: slice, device: torch.device) -> Tensor:
    """This worker's rows (part, z_dim) of the latents that all workers draw for a step."""
    stream = data.random_stream(config.seed, purpose, step)
    shape = (config.batch_size, config.model.z_dim)
    normal = config.model.z_distribution == "normal"
    z = stream.standard_normal(shape) if normal else stream.uniform(-1, 1, shape)
    return torch.from_numpy(z[part]).to(device, getattr(torch, config.dtype))


def random_classes(config: TrainConfig, purpose: int, step: int, part: slice, device: torch.device) -> Tensor:
    """This worker's rows (part, num_classes) of the uniformly random classes that all workers draw for a step."""
    stream = data.random_stream(config.seed, purpose, step)
    labels = stream.integers(0, max(config.model.num_classes, 1), config.batch_size)[part]
    return class_rows(torch.from_numpy(labels), config.model, device, getattr(torch, config.dtype))


def dropout_masks(config: TrainConfig, purpose: int, step: int, part: slice, device: torch.device) -> SharedMasks:
    """The masks that all workers draw for a step, pass after pass, and this worker's rows of them."""
    seed = int(data.random_stream(config.seed, purpose, step).integers(2**63))
    batch_size = config.d_batch_size if purpose == data.D_DROPOUT else config.batch_size
    rows = torch.arange(part.start, part.stop, device=device)
    if purpose == data.D_DROPOUT and config.d_update == "concatenated":
        batch_size, rows = 2 * batch_size, torch.cat([rows, batch_size + rows])
    return SharedMasks(torch.Generator(device).manual_seed(seed), batch_size, rows)


def logits_to_count(config: TrainConfig, D: nn.Module, images: Tensor, c: Tensor, logits: Tensor) -> Tensor:
    """The logits (B,) by which D's accuracy is measured: those of its training pass, or those without dropout."""
    if config.d_acc_mode == "train":
        return logits
    with sampling.evaluating(D), torch.no_grad():
        logits = D(images, c)
    return logits


def class_rows(labels: Tensor, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Labels (B,) as one-hot rows (B, num_classes); (B, 0) for an unconditional net."""
    if not model.num_classes:
        return torch.zeros(len(labels), 0, device=device, dtype=dtype)
    return F.one_hot(labels, model.num_classes).to(device, dtype)


def learning_rates(config: TrainConfig, step: int, total_steps: int) -> tuple[float, float]:
    """(G's, D's) at a step: a linear rise, then level or half a cosine down to 0; over 1 + decay * step (Keras)."""
    factor = min(1.0, (step + 1) / (config.lr_warmup + 1))
    if config.lr_decay == "cosine":
        factor *= 0.5 + 0.5 * math.cos(math.pi * step / total_steps)
    return config.g_lr * factor / (1 + config.g_decay * step), config.d_lr * factor / (1 + config.d_decay * step)


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances of a network's BatchNorms, which workers average."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]


def sample_grid(generator: nn.Module, model: ModelConfig) -> bytes:
    """An epoch's picture as PNG: a row for each class, a column for each seed; the same latents every epoch."""
    device = next(generator.parameters()).device
    dtype = next(generator.parameters()).dtype
    classes = max(model.num_classes, 1)
    columns = GRID_SEEDS
    seeds = list(range(columns)) * classes if model.num_classes else list(range(columns**2))
    labels = [label for label in range(classes) for _ in range(columns)] if model.num_classes else [0] * len(seeds)
    z, c = sampling.latents(seeds, model), sampling.one_hot(labels, model.num_classes)
    images = sampling.draw(generator, z.to(device, dtype), c.to(device, dtype))
    return sampling.to_png(sampling.image_grid(images, columns))


def curve_records(curve: Tensor, first_step: int, speed: list[float | None]) -> Curve:
    """Rows of the curve as losses.json has them: an array per column, `step` counting from 1."""
    columns: Curve = {"step": list(range(first_step + 1, first_step + 1 + len(curve)))}
    columns |= {name: values for name, values in zip(state.CURVE, curve.T.tolist(), strict=True)}
    return columns | {"images_per_second": speed}


def epoch_summary(config: TrainConfig, s: state.TrainState, epoch: int, rates: tuple[float, float]) -> EpochSummary:
    """What metrics.json says of an epoch: the means of its curve, its length, the learning rates at its end."""
    means = dict(zip(state.CURVE, s.curve.mean(0).tolist(), strict=True))
    images_per_second = len(s.curve) * config.batch_size / max(s.epoch_seconds, 1e-9)
    return EpochSummary(
        epoch=epoch,
        step=s.step,
        nimg=s.step * config.batch_size,
        time=time.time(),
        seconds=s.epoch_seconds,
        images_per_second=images_per_second,
        g_lr=rates[0],
        d_lr=rates[1],
        **means,
    )


def _scattered(logits: Tensor, part: slice, batch_size: int) -> Tensor:
    """This worker's logits in their place among zeros (batch_size,): summed over workers, all logits."""
    return F.pad(logits.detach(), (part.start, batch_size - part.stop))


def _check_finite(curve: Tensor, first_step: int) -> None:
    finite = curve.isfinite()
    if not bool(finite.all()):
        row, column = (~finite).nonzero()[0].tolist()
        raise NotFiniteError(
            f"{state.CURVE[column]} is not finite at step {first_step + row}; try a lower learning rate or another seed"
        )


def _from_rank_zero(value: int, distributed: bool) -> int:
    values = [value]
    if distributed:
        dist.broadcast_object_list(values)
    return values[0]


def _check_equal_weights(s: state.TrainState, distributed: bool) -> None:
    if distributed:
        digests: list[str] = [""] * dist.get_world_size()
        dist.all_gather_object(digests, state.weights_digest(s))
        assert len(set(digests)) == 1, f"workers disagree on the weights at step {s.step}: {digests}"
