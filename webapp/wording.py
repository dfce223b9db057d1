"""Numbers, names and states in words, the same on every page."""

from collections.abc import Sequence

from trainer.run_store import Phase, Progress, RunRecord, StoredGenerator
from webapp.catalog import SHIPPED, RunEntry

PHASES: dict[Phase, str] = {
    "starting": "is starting",
    "training": "is training",
    "restarting": "is restarting its workers",
    "stopped": "was stopped",
    "finished": "has finished",
    "failed": "failed",
}


def duration(seconds: float) -> str:
    """Return a duration in words, such as 45 s, 3 min 20 s or 2 h 5 min."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def seconds(number: float) -> str:
    """Return a short time to a tenth of a second, such as 0.6 s."""
    return f"{number:.1f} s"


def count(number: float) -> str:
    """Return a number in short form, such as 936, 1,404, 60k or 4.2M."""
    if number < 10_000:
        return f"{number:,.0f}"
    if number < 999_500:
        return f"{number / 1000:.0f}k"
    return f"{number / 1e6:.1f}M"


def run_name(entry: RunEntry) -> str:
    """Return a run's name for the list of runs."""
    return f"{entry.name} (shipped)" if entry.key.startswith(SHIPPED) else entry.name


def shipped(record: RunRecord) -> str:
    """Return what a shipped run is, such as `DCGAN, unconditional. Trained for 10 CPU-minutes, for comparison.`"""
    summary = (record.about or {}).get("summary") or record.recipe
    trained = record.extra.get("trained")
    trained = trained if isinstance(trained, dict) else {}
    minutes = trained.get("cpu_minutes")
    text = f"{summary[:1].upper()}{summary[1:]}."
    if not isinstance(minutes, int | float):
        return text
    part = "" if trained.get("steps") == trained.get("total_steps") else ", a part of its full length"
    return f"{text} Trained for {minutes:.0f} CPU-minutes{part}, for comparison."


def checkpoint(entry: StoredGenerator) -> str:
    """Return a checkpoint's name for the list of checkpoints."""
    if entry.step and not entry.epoch:
        return f"Step {entry.step:,}, within epoch 1"
    return f"Epoch {entry.epoch}, step {entry.step:,}"


def state(entry: RunEntry) -> str:
    """Return a run's state as a clause, such as `quick-1 is training: epoch 2 of 6`."""
    progress = entry.progress
    if entry.problem:
        return f"The progress of {entry.name} is not known"
    if progress.is_stale:
        return f"{entry.name} has not reported for {duration(progress.age or 0)}"
    text = f"{entry.name} {PHASES[progress.phase]}"
    return f"{text}: {epoch(progress)}" if progress.is_live and progress.epochs and progress.step else text


def epochs(numbers: Sequence[int]) -> str:
    """List epochs, such as `epoch 3` or `epochs 3, 4 and 7`."""
    *first, last = map(str, numbers)
    return f"epochs {', '.join(first)} and {last}" if first else f"epoch {last}"


def epoch(progress: Progress) -> str:
    """Return the epoch in words, such as `epoch 2 of 6`."""
    return f"epoch {progress.epoch} of {progress.epochs}"


def reproduced(px: str, drawn: str, number: int) -> str:
    """Return in words whether the pixels of a link were reproduced; `px` is empty for a link that does not say."""
    if not px:
        return f"{number:,} pixels with the digest {drawn}."
    if px == drawn:
        return f"Reproduced: the same {number:,} pixels."
    return f"Not reproduced: the digest of the {number:,} pixels is {drawn}, and the link says {px}."
