"""What a run has measured: numbers with a name, a step and a time, from its curves, epochs and evaluations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.run_store import Curve, DamagedError, EpochSummary, Evaluation, MissingError, Progress, Run, RunRecord

EPOCH_FIELDS = (
    "seconds",
    "images_per_second",
    "d_loss",
    "g_loss",
    "d_acc_real",
    "d_acc_fake",
    "penalty",
    "d_class_loss",
    "g_class_loss",
    "g_lr",
    "d_lr",
)
"""Fields of `EpochSummary` that are numbers of the epoch as a whole."""


class Number(NamedTuple):
    """A finite number that was measured at a step."""

    name: str
    """`train/` and a column of the curve, `epoch/` and a field of the summary, or `scores/` or `evaluation/` and the
    name of a score."""
    step: int
    """Steps done, counted over the whole run."""
    value: float
    time: float
    """In seconds since 1970."""
    is_real: bool = False
    """Whether it is the score of real images, with which the score of the same name is to be compared."""


@dataclass(frozen=True)
class Epoch:
    """An epoch of a run, complete or under way."""

    number: int
    curve: Curve
    """Empty if the epoch has none that is readable; epoch 0 has none."""
    summary: EpochSummary | None
    """None while the epoch is under way."""
    end: float
    """When the last step of the curve was done, in seconds since 1970; an estimate while the epoch is under way."""
    seconds: float
    """Time of the steps of the curve; 0 if it is not known."""

    def numbers(self) -> Iterator[Number]:
        """Yield the numbers of the curve step by step, then those of the summary, without those that are unknown.

        The store has the time of an epoch and not of a step, so the steps are spread evenly over the epoch.
        """
        columns = {f"train/{name}": values for name, values in self.curve.items() if name != "step"}
        steps = self.curve.get("step", [])
        each = self.seconds / max(len(steps), 1)
        for row, step in enumerate(steps):
            time = self.end - each * (len(steps) - 1 - row)
            for name, values in columns.items():
                if step is not None and (value := values[row]) is not None:
                    yield Number(name, int(step), value, time)
        if summary := self.summary:
            fields = {name: getattr(summary, name) for name in EPOCH_FIELDS}
            yield from _numbers("epoch", fields, summary.step, summary.time)
            yield from _numbers("scores", summary.scores or {}, summary.step, summary.time)
            yield from _numbers("scores", summary.floor or {}, summary.step, summary.time, is_real=True)


def evaluation_numbers(evaluation: Evaluation) -> Iterator[Number]:
    """Yield the scores of an evaluation, and the label accuracy of class k as `evaluation/label_accuracy.k`."""
    for scores, is_real in ((evaluation.generated, False), (evaluation.floor, True)):
        single: dict[str, Any] = {name: value for name, value in scores.items() if not isinstance(value, list)}
        shares = scores.get("label_accuracy_per_digit")
        if isinstance(shares, list):
            single |= {f"label_accuracy.{index}": share for index, share in enumerate(shares)}
        yield from _numbers("evaluation", single, evaluation.step, evaluation.time, is_real)


@dataclass(frozen=True)
class Reading:
    """What a `Reader` has read at once."""

    run: Run
    record: RunRecord
    progress: Progress
    epochs: tuple[Epoch, ...]
    """Those that are new or may have changed since the last reading, ascending."""
    evaluations: tuple[Evaluation, ...]
    problems: tuple[str, ...]
    """What could not be read, one line each."""


class Reader:
    """Reads a run as often as it is asked, and of the epochs only those that may have changed.

    A training that resumes does its steps after the last checkpoint again. Therefore an epoch counts as settled when
    the training is in a later one, and is read again when the training is back in it or before it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._settled: set[int] = set()

    def read(self) -> Reading:
        """Return the run as it is now. Raises `RunStoreError` if it has no record or the storage does not answer."""
        record = self.run.read_run()
        progress = self.run.read_progress()  # before the epochs: what a run that has ended wrote is complete
        complete, running = self.run.epochs(), self.run.running_epoch()
        self._settled = {number for number in self._settled if number < progress.epoch}
        epochs, problems = [], []
        for number in [*complete, *([] if running is None else [running])]:
            if number in self._settled:
                continue
            try:
                summary = self.run.read_epoch_metrics(number) if number != running else None
                if summary and number < progress.epoch:
                    self._settled.add(number)
            except DamagedError as error:
                problems.append(str(error))
                continue
            try:
                curve = self.run.read_losses(number) if number else {}
                if curve and "step" not in curve:
                    raise DamagedError(f"epoch {number} of {self.run.path}: its curve has no steps")
            except DamagedError as error:
                curve = {}
                if not isinstance(error, MissingError):
                    problems.append(str(error))
            epochs.append(_epoch(number, curve, summary, progress, record))
        return Reading(self.run, record, progress, tuple(epochs), tuple(self.run.evaluations()), tuple(problems))


def _epoch(number: int, curve: Curve, summary: EpochSummary | None, progress: Progress, record: RunRecord) -> Epoch:
    if summary:
        return Epoch(number, curve, summary, summary.time, summary.seconds or 0.0)
    steps = [step for step in curve.get("step", []) if step is not None]
    speed = progress.images_per_second
    each = progress.nimg / progress.step / speed if speed and progress.step else 0.0  # seconds a step
    since = max(progress.step - max(steps, default=0), 0) * each
    end = record.started if progress.heartbeat is None else progress.heartbeat
    return Epoch(number, curve, None, end - since, each * len(steps))


def _numbers(
    group: str, values: Mapping[str, float | None], step: int, time: float, is_real: bool = False
) -> Iterator[Number]:
    for name, value in values.items():
        if value is not None:
            yield Number(f"{group}/{name}", step, value, time, is_real)
