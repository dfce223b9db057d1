"""A fault injector. Python imports this module at its start when its folder is in PYTHONPATH.

Each file `<rank>-<step>-<kind>` in the folder DIGITFORGE_FAULTS is a fault. When the worker of this rank begins this
step, it renames the file to `<rank>-<step>-<kind>.struck`, writes the time into it, and strikes. `KINDS` lists the
kinds. One more kind, `wait`, holds the worker until the file `<step>.go` exists, so that something else can strike.
"""

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

MODULE = "trainer.draws"
"""The module whose `Draws.real(step)` the training loop calls first in each step."""


def kill_relative(name: str) -> None:
    """Kill the process of Ray with this name in its command line: an ancestor, or an ancestor's child."""
    import psutil

    for parent in psutil.Process().parents():
        for process in (parent, *parent.children()):
            if name in " ".join(process.cmdline()):
                process.kill()
                time.sleep(60)  # this worker is about to be killed as well


def hold_the_gil() -> None:
    ctypes.PyDLL(None).sleep(3600)  # a function of PyDLL keeps the lock while it runs


def break_the_group() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()


def fail() -> None:
    raise RuntimeError("an injected error")


KINDS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "error": fail,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "gil": hold_the_gil,
    "hang": lambda: threading.Event().wait(),
    "collective": break_the_group,
    "driver": lambda: kill_relative("trainer.driver"),
    "raylet": lambda: kill_relative("raylet/raylet"),
    "gcs": lambda: kill_relative("gcs_server"),
    "agent": lambda: kill_relative("runtime_env"),
    "slow": lambda: time.sleep(8),
}
"""Kind of a fault -> what it does in the worker's training thread. `driver` holds Ray Train's controller too."""


def wait_for_the_test(step: int) -> None:
    go = Path(os.environ["DIGITFORGE_FAULTS"]) / f"{step}.go"
    while not go.exists():
        time.sleep(0.02)


def strike(step: int) -> None:
    """Strike if a fault for this worker and step is due."""
    rank = 0
    if (dist := sys.modules.get("torch.distributed")) and dist.is_initialized():
        rank = dist.get_rank()
    for path in Path(os.environ["DIGITFORGE_FAULTS"]).glob(f"{rank}-{step}-*"):
        if path.suffix != ".struck":
            path.rename(path.with_suffix(".struck")).write_text(str(time.time()))
            kind = path.name.split("-")[2]
            wait_for_the_test(step) if kind == "wait" else KINDS[kind]()


def inject(module: ModuleType) -> None:
    """Let `Draws.real` strike first."""
    draw = module.Draws.real

    def real(self: Any, step: int) -> Any:
        strike(step)
        return draw(self, step)

    module.Draws.real = real


class Finder(importlib.abc.MetaPathFinder):
    """Finds `MODULE` as usual, and injects the faults after it was loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_inject(module: ModuleType) -> None:
                execute(module)
                inject(module)

            spec.loader.exec_module = execute_and_inject  # type: ignore[method-assign]
        return spec


if os.environ.get("DIGITFORGE_FAULTS"):
    sys.meta_path.insert(0, Finder())
