"""The bookkeeping of a training: clocks, curve, scores, progress, and the decision when a checkpoint or stop is due."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from models import sampling
from models.attributes import AttributeTable
from trainer import losses, state
from trainer.config import TrainConfig, Upkeep
from trainer.endings import NotFiniteError
from trainer.metrics import EpochJudge
from trainer.recorder import Recorder
from trainer.run_store import Curve, EpochSummary, Phase

MIN_CHECKPOINT_SECONDS = 2.0
"""Minimum time since the last checkpoint for one at the end of an epoch."""
MAX_CHECKPOINT_SECONDS = 60.0
"""Maximum time between checkpoints. Longer epochs have checkpoints in between."""
GPU_LOOK_STEPS = 20
"""Steps between two calls on a GPU that read numbers, because each read waits for the GPU to finish."""


MAX_LOSS = 1e9
"""Absolute value above which a loss or a penalty counts as run away. Those of trainings that work are below 1e4."""


ASKED = {None: 0.0, "stop": 1.0, "leave": 2.0}
"""Request to the training -> the number that stands for it in `Bookkeeper.clocks`."""


@dataclass(frozen=True)
class Due:
    """Actions that are due after a step; the same on all workers."""

    checkpoint: bool = False
    stop: bool = False
    leave: bool = False
    """Whether the workers leave after the checkpoint, so that others take over."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores of the generator, on rank 0 at the end of a scored epoch; else empty."""


class Bookkeeper:
    """Keeps the clocks and the curve of a run, and reports to the recorder, which only rank 0 has.

    All workers make the same decisions, because the numbers that decide are summed over the workers.
    `generator_file` returns the content of the generator file for the current state; `table` is that of the dataset.
    """

    def __init__(
        self,
        config: TrainConfig,
        upkeep: Upkeep,
        total_steps: int,
        s: state.TrainState,
        judge: EpochJudge | None,
        recorder: Recorder | None,
        generator_file: Callable[[], bytes],
        table: AttributeTable | None = None,
        cpu_minutes: float = math.inf,
    ) -> None:
        self.config, self.upkeep, self.total_steps = config, upkeep, total_steps
        self.judge, self.recorder, self.cpu_limit = judge, recorder, 60 * cpu_minutes
        self.generator_file, self.table = generator_file, table
        self.first_step, self.seconds_before = s.step, s.seconds
        self.started = self.looked = self.saved = time.monotonic()
        self.cpu_looked = self.cpu_now = time.process_time()
        self.looked_step = s.step

    def begin(self, s: state.TrainState, num_workers: int) -> None:
        """Report the start of training, and at step 0 the sample grid of the untrained generator."""
        self._report_progress(s, "training", world_size=num_workers)
        if self.recorder and s.step == 0:
            summary = EpochSummary(epoch=0, step=0, nimg=0, time=time.time())
            grid = sampling.sample_grid(s.G_ema, self.config.model, self.table)
            self.recorder.epoch(summary, grid, None, self.generator_file())

    def clocks(self, like: Tensor) -> Tensor:
        """Return this worker's clocks (3,), to be summed over the workers.

        They are: 1 if a stop is requested, 2 if the workers are to leave, the seconds since the last checkpoint (both 0
        except on rank 0), and the seconds of processor time since the last `look`. Raises `LeaseLostError` on rank 0 if
        the run's lease is lost.
        """
        self.cpu_now = time.process_time()
        asked, since_saved = (0.0, 0.0)
        if self.recorder:
            if self.recorder.lease_lost:
                raise self.recorder.lease_lost
            asked, since_saved = ASKED[self.recorder.stop_request], time.monotonic() - self.saved
        return like.new_tensor([asked, since_saved, self.cpu_now - self.cpu_looked])

    def enter(self, s: state.TrainState, numbers: dict[str, Tensor]) -> None:
        """Write the numbers of the last step into the curve."""
        pairs = losses.LOSSES[self.config.loss].compares_pairs
        real, fake = losses.accuracy(numbers["real"], numbers["fake"], pairs)
        numbers = numbers | {"d_acc_real": real, "d_acc_fake": fake}
        zero = real.new_zeros(())
        s.curve[s.epoch_step - 1] = torch.stack([numbers.get(name, zero) for name in state.CURVE])

    def look(self, s: state.TrainState, numbers: dict[str, Tensor]) -> Due:
        """Report the run's progress, and return what is due after the last step.

        Raises `NotFiniteError` on all workers if a number of the curve is not finite.
        """
        epoch_ends, ends = s.epoch_step == len(s.curve), s.step == self.total_steps
        by_step = bool(self.upkeep.checkpoint_steps) and s.step % self.upkeep.checkpoint_steps == 0
        if s.curve.is_cuda and s.step % GPU_LOOK_STEPS and not (epoch_ends or by_step):
            return Due()
        check_finite(s, s.step - self.looked_step)
        asked, since_saved, cpu_seconds = numbers["clocks"].tolist()
        s.cpu_seconds += cpu_seconds
        s.seconds = self.seconds_before + time.monotonic() - self.started
        stop, leave = asked == ASKED["stop"] or s.cpu_seconds >= self.cpu_limit, asked == ASKED["leave"]
        scores = self._scores(s) if epoch_ends else {}
        self._count_time(s)
        self._report(s, scores)
        by_epoch = epoch_ends and not self.upkeep.checkpoint_every and since_saved >= MIN_CHECKPOINT_SECONDS
        by_time = since_saved >= (self.upkeep.checkpoint_seconds or MAX_CHECKPOINT_SECONDS)
        return Due(by_step or by_epoch or by_time or stop or leave or ends, stop or ends, leave, scores)

    def checkpoint_taken(self) -> None:
        """Restart the time since the last checkpoint."""
        self.saved = time.monotonic()

    def end(self, s: state.TrainState, is_leaving: bool) -> Phase:
        """Report and return how training ended: the run is finished, was stopped before, or the workers leave."""
        phase: Phase = "finished" if s.step >= self.total_steps else "restarting" if is_leaving else "stopped"
        self._report_progress(s, phase, eta=None if is_leaving else 0.0)
        return phase

    def _scores(self, s: state.TrainState) -> Mapping[str, float]:
        """Score the generator if this epoch is to be scored. All workers must call this."""
        epoch = s.step // len(s.curve)
        if self.judge and (epoch % self.upkeep.metrics_every == 0 or s.step == self.total_steps):
            return self.judge.score(s.G_ema)
        return {}

    def _count_time(self, s: state.TrainState) -> None:
        """Add the time since the last `look`, and write the speed of the steps since then."""
        now, steps = time.monotonic(), s.step - self.looked_step
        s.epoch_seconds += now - self.looked
        s.speed[max(0, s.epoch_step - steps) : s.epoch_step] = steps * self.config.batch_size / (now - self.looked)
        self.looked, self.looked_step, self.cpu_looked = now, s.step, self.cpu_now

    def _report(self, s: state.TrainState, scores: Mapping[str, float]) -> None:
        """Report the progress to the recorder; at the end of an epoch also its summary, sample grid and curve."""
        if s.epoch_step < len(s.curve):
            self._report_progress(s, "training")
            if self.recorder and self.recorder.wants_curve():
                self.recorder.running_curve(s.step // len(s.curve) + 1, curve_of_epoch(s))
            return
        if self.recorder:
            summary = epoch_summary(self.config, s)
            if self.judge and scores:
                summary = replace(summary, scores=scores, floor=self.judge.floor, count=self.judge.count)
                summary = replace(summary, reader_sha256=self.judge.reader_sha256)
            grid = sampling.sample_grid(s.G_ema, self.config.model, self.table)
            self.recorder.epoch(summary, grid, curve_of_epoch(s), self.generator_file())
            self._report_progress(s, "training")
            self.recorder.flush()  # before its checkpoint, because a resumed run does not write earlier epochs again
        s.epoch_seconds, self.looked = 0.0, time.monotonic()
        s.speed.fill_(torch.nan)

    def _report_progress(
        self, s: state.TrainState, phase: Phase, world_size: int | None = None, eta: float | None = None
    ) -> None:
        if not self.recorder:
            return
        size, steps, epochs = self.config.batch_size, s.step - self.first_step, self.config.epochs
        known = replace(self.recorder.progress, phase=phase, total_steps=self.total_steps, epochs=epochs)
        known = replace(known, step=s.step, nimg=s.step * size, epoch=min(s.step // len(s.curve) + 1, epochs))
        if world_size is not None:
            known = replace(known, world_size=world_size)
        if steps:
            speed = steps * size / (self.looked - self.started)
            known = replace(known, images_per_second=speed, eta=(self.total_steps - s.step) * size / speed)
        self.recorder.progress = known if eta is None else replace(known, eta=eta, cpu_seconds=s.cpu_seconds)


def check_finite(s: state.TrainState, steps: int) -> None:
    """Raise `NotFiniteError` for the first number of the curve in the last `steps` steps that is beyond `MAX_LOSS`."""
    first = max(0, s.epoch_step - steps)
    rows = s.curve[first : s.epoch_step]
    wrong = ~(rows.abs() <= MAX_LOSS)  # a NaN is wrong too
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        value, step = float(rows[row, column]), s.step - s.epoch_step + first + row + 1
        problem = f"has run away to {value:.3g}" if math.isfinite(value) else "is not finite"
        raise NotFiniteError(
            f"{state.CURVE[column]} {problem} at step {step}; try a lower learning rate or another seed"
        )


def curve_of_epoch(s: state.TrainState) -> Curve:
    """Return the curve of the current epoch, or of the one that has just ended, in the run store's form."""
    first = s.step - s.epoch_step + 1
    columns: Curve = {"step": list(range(first, s.step + 1))}
    columns |= dict(zip(state.CURVE, s.curve[: s.epoch_step].T.tolist(), strict=True))
    return columns | {"images_per_second": s.speed[: s.epoch_step].tolist()}


def epoch_summary(config: TrainConfig, s: state.TrainState) -> EpochSummary:
    """Return the summary of the epoch that has just ended: means of its curve, time and learning rates."""
    means = dict(zip(state.CURVE, s.curve.nanmean(0).tolist(), strict=True))
    return EpochSummary(
        epoch=s.step // len(s.curve),
        step=s.step,
        nimg=s.step * config.batch_size,
        time=time.time(),
        seconds=s.epoch_seconds,
        images_per_second=len(s.curve) * config.batch_size / max(s.epoch_seconds, 1e-9),
        g_lr=s.g_optimizer.lr,
        d_lr=s.d_optimizer.lr,
        **means,
    )
