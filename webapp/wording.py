"""Numbers and states in words, the same on every page."""

from models.scores import Score
from trainer.run_store import Phase, Progress
from webapp.catalog import CheckpointEntry, RunEntry

PHASES: dict[Phase, str] = {
    "starting": "is starting",
    "training": "is training",
    "stopped": "was stopped",
    "finished": "is finished",
    "failed": "failed",
}


def score_title(score: Score) -> str:
    """Return a score's title with a capital letter, such as `Label accuracy`."""
    return score.title[0].upper() + score.title[1:]


def duration(seconds: float) -> str:
    """Such as 45 s, 3 min 20 s, 2 h 5 min."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: float) -> str:
    """Such as 936, 1,404, 60k or 4.2M."""
    if number < 10_000:
        return f"{number:,.0f}"
    if number < 999_500:
        return f"{number / 1000:.0f}k"
    return f"{number / 1e6:.1f}M"


def run_name(entry: RunEntry) -> str:
    """As the list of runs shows it."""
    return f"{entry.name} (shipped)" if entry.key.startswith("pretrained/") else entry.name


def checkpoint(entry: CheckpointEntry) -> str:
    """As the list of checkpoints shows it."""
    return f"Epoch {entry.epoch}, step {entry.step:,}"


def state(entry: RunEntry) -> str:
    """A sentence such as `quick-1 is training: epoch 2 of 6`."""
    progress = entry.progress
    if progress.is_stale:
        return f"{entry.name} has been silent for {duration(progress.age or 0)}"
    text = f"{entry.name} {PHASES[progress.phase]}"
    return f"{text}: {epoch(progress)}" if progress.is_live and progress.epochs and progress.step else text


def epoch(progress: Progress) -> str:
    """Such as `epoch 2 of 6`."""
    return f"epoch {progress.epoch} of {progress.epochs}"
