"""The driver: a child process of the launcher. It has the connection to Ray, and Ray Train's controller runs in it.

The launcher writes an `Order` to its standard input, as one line of JSON, and a line `go` after the event `ready`. The
driver writes events to its standard output, one JSON object a line, each with its `time`:

    ready       resources, logs     connected to Ray; waits for `go`
    waiting     message             the cluster lacks resources that it may still get
    group       pids, hosts         a group of workers trains
    fault       message             the group has failed or leaves; another one starts
    end         phase, step         the training is finished or was stopped
    failed      message             the training cannot go on

If Ray or this process dies, the launcher starts another driver. If the launcher dies, the driver reads the end of its
input and ends, with all processes that it has started.
"""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self, TextIO

from trainer.cluster import WorkerRange, connect, set_environment
from trainer.config import TrainConfig, Upkeep
from trainer.lease import fenced
from trainer.processes import adopt_orphans, kill_descendants
from trainer.run_store import open_store


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the driver is to train."""

    config: TrainConfig
    upkeep: Upkeep
    runs: str
    """Folder or URI of the runs."""
    name: str
    launch_id: str
    token: int
    """Token of the run's lease."""
    workers: WorkerRange | None
    cpu_minutes: float

    def to_json(self) -> str:
        """Return the order as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the order in a line."""
        fields = json.loads(line)
        fields["config"] = TrainConfig.from_dict(fields["config"])
        fields["upkeep"] = Upkeep(**fields["upkeep"])
        fields["workers"] = WorkerRange(**fields["workers"]) if fields["workers"] else None
        return cls(**fields)


class Events:
    """Writes events to the launcher."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, event: str, **values: Any) -> None:
        """Write one event. It does not matter if the launcher has died: this process ends then."""
        with suppress(BrokenPipeError):
            self._stream.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
            self._stream.flush()


def main() -> int:
    """Train as ordered on the standard input; return the exit status."""
    adopt_orphans()
    # Libraries print to the standard output. Events have a copy of it; all else goes to the standard error.
    events = Events(os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    set_environment()
    # Ray is imported here, while the launcher loads the data.
    from trainer import ray_train
    from trainer.ray_worker import Settings

    if not (line := sys.stdin.readline()):
        return 0
    order = Order.from_json(line)
    try:
        resources = connect(order.config, order.workers)
        events.send("ready", resources=asdict(resources), logs=ray_train.logs_of_ray())
        if not sys.stdin.readline():
            return 0
        threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()
        settings = Settings(
            config=order.config,
            upkeep=order.upkeep,
            run=fenced(open_store(order.runs).run(order.name), order.token),
            launch_id=order.launch_id,
            threads=resources.cpus_per_worker,
            cpu_minutes=order.cpu_minutes,
        )
        ray_train.run(settings, resources, events.send)
    except ValueError as error:
        events.send("failed", message=str(error))
    finally:
        ray_train.disconnect()
        kill_descendants()
    return 0


def _end_with_launcher() -> None:
    """Wait for the end of the standard input, then end this process and all that it has started."""
    sys.stdin.read()
    kill_descendants()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
