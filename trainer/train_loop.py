"""The training loop: one function from the first step to the last, with the same mathematics on any number of workers.

A step draws its batch (`trainer.draws`) and runs phases of D and G (`trainer.steps`). An update of a network follows
each phase. Draws are functions of (seed, step), phases are pure functions that return one value per image, and only
updates sum over images and workers. The bookkeeping (`trainer.bookkeeping`) does not influence the mathematics.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from models.dropout import share_masks
from trainer import state, steps, verification
from trainer.bookkeeping import Bookkeeper, Due
from trainer.config import TrainConfig, Upkeep
from trainer.draws import Batch, Draws, load_images
from trainer.readers import epoch_judge
from trainer.recorder import Recorder
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE, Manifest, Phase, Run
from trainer.workers import Workers

Report = Callable[[Manifest, dict[str, bytes] | None], None]
"""(manifest of a checkpoint, its files on rank 0 or None on other ranks). All workers call it at the same steps."""


def train(
    config: TrainConfig,
    upkeep: Upkeep,
    run: Run,
    report: Report,
    recorder: Recorder | None,
    device: torch.device,
    cpu_minutes: float = math.inf,
) -> Phase:
    """Train a run in this process and its process group, from its newest intact checkpoint if there is one.

    `recorder` is None on all workers except rank 0. Training ends early, after a checkpoint, when the recorder finds a
    request to stop or to leave, or when the workers have used `cpu_minutes` of processor time, summed over all
    launches. Returns `finished`, `stopped` or `restarting` (to leave).
    Raises `NotFiniteError` on all workers if a loss is not finite or runs away.
    """
    workers = Workers.here().sharing_memory(device)
    dataset = load_images(config)
    steps_per_epoch, total_steps = plan(config, len(dataset.images))
    draws = Draws(config, dataset, device, workers)
    s = state.new_state(config, steps_per_epoch, device, workers)
    record = partial(next_step, config, s, draws, total_steps)
    resumed = resume(s, run, workers, record)
    if recorder:
        recorder.progress = replace(recorder.progress, message=resumed)
    if upkeep.compile:
        state.compile_networks(s, config)
    judge = epoch_judge(config.model, dataset, device) if upkeep.metrics_every else None
    workers.check_equal(judge.reader_sha256 if judge else "", "the reader of the data")
    generator_file = partial(state.generator_file, s, config, run.name, dataset, workers.count)
    books = Bookkeeper(config, upkeep, total_steps, s, judge, recorder, generator_file, dataset.table, cpu_minutes)
    books.begin(s, workers.count)
    due = Due()

    while s.step < total_steps:
        state.set_learning_rates(s, *learning_rates(config, s.step, total_steps))
        real = draws.real(s.step)

        # G draws fakes for D.
        z, c = draws.d_inputs(s.step, real.c)
        s.G.train(config.d_fakes_mode == "train")
        with torch.set_grad_enabled(config.g_fakes == "same"):
            fake = steps.draw(config, s.G, z, c)
        s.G.train()

        # D step: raise the logits of real images and lower those of fakes.
        share_masks(s.D, draws.d_masks(s.step))
        seen = draws.seen_by_d(s.step, real, Batch(fake.images.detach(), fake.c))
        numbers: dict[str, Tensor] = {}
        weights = penalty_weights(config, s.step, total_steps)
        for phase in steps.D_PHASES[config.d_update]:
            terms = phase(config, s.D, *seen, weights)
            steps.add(numbers, steps.update(s.d_optimizer, terms, draws.d_share))

        # G step: raise the logits of fakes. Its update also sums the clocks of the bookkeeping over the workers, and
        # averages BatchNorm's running statistics, weighted by the workers' shares of the batch.
        if config.g_fakes == "fresh":
            z, c = draws.g_inputs(s.step, real.c)
            fake = steps.draw(config, s.G, z, c)
        share_masks(s.D, draws.g_masks(s.step))
        terms = steps.g_phase(config, s.D, *draws.seen_for_g(s.step, real, fake))
        statistics = steps.running_statistics((s.G, s.D)) if workers.count > 1 else {}
        extras = {name: values * (draws.g_share.size / config.batch_size) for name, values in statistics.items()}
        extras["clocks"] = books.clocks(like=real.images)
        steps.add(numbers, steps.update(s.g_optimizer, terms, draws.g_share, extras))
        for name, values in statistics.items():
            values.copy_(numbers[name])
        if config.ema:
            state.update_ema(s, config)
        s.step += 1

        # Bookkeeping, and a checkpoint if one is due.
        books.enter(s, numbers)
        due = books.look(s, numbers)
        if due.checkpoint:
            workers.check_equal(state.weights_digest(s), f"the weights at step {s.step}")
            report(*checkpoint(config, s, workers, due.scores, generator_file, record))
            books.checkpoint_taken()
        if due.stop or due.leave:
            break

    ending = books.end(s, due.leave)
    workers.leave()
    return ending


def plan(config: TrainConfig, num_images: int) -> tuple[int, int]:
    """Return (steps_per_epoch, total_steps) of a run on this number of images."""
    steps_per_epoch = config.steps_per_epoch or max(1, num_images // config.batch_size)
    return steps_per_epoch, steps_per_epoch * config.epochs


def learning_rates(config: TrainConfig, step: int, total_steps: int) -> tuple[float, float]:
    """Return the learning rates (of G, of D) at a step.

    They rise linearly, then stay constant or fall to 0 along half a cosine. Keras' decay divides them by
    1 + decay * step.
    """
    factor = min(1.0, (step + 1) / (config.lr_warmup + 1))
    if config.lr_decay == "cosine":
        factor *= 0.5 + 0.5 * math.cos(math.pi * step / total_steps)
    return config.g_lr * factor / (1 + config.g_decay * step), config.d_lr * factor / (1 + config.d_decay * step)


def penalty_weights(config: TrainConfig, step: int, total_steps: int) -> steps.PenaltyWeights:
    """Return the weights of R1 and R2 at a step: half of gamma each, or all of it for one of them in turn."""
    gamma = config.gamma
    if config.gamma_end:
        gamma *= (config.gamma_end / gamma) ** (0.5 - 0.5 * math.cos(math.pi * step / total_steps))
    if config.penalties == "both":
        return steps.PenaltyWeights(gamma / 2, gamma / 2)
    return steps.PenaltyWeights(0.0, gamma) if step % 2 else steps.PenaltyWeights(gamma, 0.0)


def next_step(config: TrainConfig, s: state.TrainState, draws: Draws, total_steps: int) -> verification.Record:
    """Return what the next step will read, for `trainer.verification`."""
    return verification.record(s, draws, learning_rates(config, s.step, total_steps), total_steps)


def resume(s: state.TrainState, run: Run, workers: Workers, record: Callable[[], verification.Record]) -> str:
    """Load the newest intact checkpoint of a run into a new state, if there is one. All workers must call this.

    Returns what was verified, in one line. Damaged checkpoints that are newer are set aside. `record` returns what the
    next step will read: `ResumeError` is raised if it is not what the checkpoint says, `RuntimeError` if the workers
    disagree.
    """
    recorded: verification.Record = {}
    step = workers.from_rank_zero(newest_intact_step(run) if workers.rank == 0 else 0)
    if step and (found := run.checkpoint(step)):
        recorded = state.load_checkpoint_files(
            s, {name: found.read(name) for name in (GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE)}
        )
    own = record()
    for part, value in own.items():
        workers.check_equal(value, f"the {part} at step {s.step}")
    line = verification.compare(s.step, recorded, own) if recorded else ""
    if line and workers.rank == 0:
        print(line, flush=True)
    return line


def newest_intact_step(run: Run) -> int:
    """Return the step of the newest intact checkpoint, or 0; set damaged checkpoints that are newer aside."""
    for candidate in reversed(run.checkpoints()):
        if candidate.is_intact():
            return candidate.step
        run.set_aside(candidate)
    return 0


def checkpoint(
    config: TrainConfig,
    s: state.TrainState,
    workers: Workers,
    scores: Mapping[str, float],
    generator_file: Callable[[], bytes],
    record: Callable[[], verification.Record],
) -> tuple[Manifest, dict[str, bytes] | None]:
    """Return the manifest of a checkpoint of this state, and the content of its files (None except on rank 0)."""
    manifest = Manifest(
        step=s.step,
        epoch=s.step // len(s.curve),
        nimg=s.step * config.batch_size,
        world_size=workers.count,
        seconds=s.seconds,
        cpu_seconds=s.cpu_seconds,
        fid=scores.get("fid"),
    )
    if workers.rank > 0:
        return manifest, None
    return manifest, state.checkpoint_files(s, generator_file(), record())
