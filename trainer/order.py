"""Order: what a driver and its workers are to train. It does not import PyTorch, so that the driver starts fast."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from trainer.cluster import WorkerRange
from trainer.lease import fenced
from trainer.run_store import Run, open_store


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be trained."""

    config: dict[str, Any]
    """The TrainConfig as plain values."""
    upkeep: dict[str, Any]
    """The Upkeep as plain values."""
    runs: str
    """Folder or URI of the runs."""
    name: str
    launch_id: str
    token: int
    """Token of the run's lease."""
    workers: WorkerRange | None
    max_workers: int
    """Largest number of workers that a batch can be divided among."""
    cpu_minutes: float

    def to_json(self) -> str:
        """Return the order as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the order in a line."""
        fields = json.loads(line)
        return cls(**fields | {"workers": WorkerRange(**fields["workers"]) if fields["workers"] else None})

    def open_run(self) -> Run:
        """Return the run, for a writer that has its lease."""
        return fenced(open_store(self.runs).run(self.name), self.token)
