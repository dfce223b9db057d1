"""The driver: a child process of the launcher. It has the connection to Ray, and Ray Train's controller runs in it.

The launcher writes an `Order` to its standard input, as one line of JSON, and a line `go` after the event `ready`. The
driver writes events to its standard output, one JSON object a line, each with its `time`:

    ready       resources, logs     connected to Ray; waits for `go`
    waiting     message             the cluster lacks resources that it may still get
    group       workers             a group of this many workers trains
    fault       message             the group has failed or leaves; another one starts
    end         phase, step         the training is finished or was stopped
    failed      message             the training cannot go on

If Ray or this process dies, the launcher starts another driver. If the launcher dies, the driver reads the end of its
input and ends, with all processes that it has started.

It does not import PyTorch, which takes a second or two.
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO

from trainer.cluster import address_of_cluster, connect, set_environment
from trainer.order import Order
from trainer.processes import adopt_orphans, kill_descendants


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
    _leave_signals_to_launcher()
    # Libraries print to the standard output. Events have a copy of it; all else goes to the standard error.
    events = Events(os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    set_environment()
    from trainer import ray_train  # Ray is imported while the launcher loads the data

    if not (line := sys.stdin.readline()):
        return 0
    order = Order.from_json(line)
    try:
        resources = connect(order.max_workers, order.workers)
        _leave_signals_to_launcher()  # again, because Ray has set a handler
        events.send("ready", resources=asdict(resources), logs=ray_train.logs_of_ray())
        if not sys.stdin.readline():
            return 0
        threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()
        if not address_of_cluster():
            threading.Thread(target=_end_with_ray, name="ray", daemon=True).start()
        ray_train.run(order, resources, events.send)
    except ValueError as error:
        events.send("failed", message=str(error))
    finally:
        ray_train.disconnect()
        kill_descendants()
    return 0


def _leave_signals_to_launcher() -> None:
    """Ignore SIGTERM and SIGINT: whoever stops a job sends them to all of its processes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not SIG_IGN, which the processes of Ray would inherit.
        signal.signal(number, lambda number, frame: None)


def _end_with_ray() -> None:
    """End this process when Ray has died. The launcher starts another one."""
    from trainer import ray_train

    ray_train.wait_for_death_of_ray()
    os._exit(1)


def _end_with_launcher() -> None:
    """Wait for the end of the standard input, then end this process and all that it has started."""
    sys.stdin.read()
    kill_descendants()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
