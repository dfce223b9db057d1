"""Train under faults, and compare the result with an undisturbed training: `python -m benchmarks.chaos --faults 30`.

Faults, ranks and steps are drawn by seed. Most faults strike in a worker, by the injector of the tests; the others are
done here, to the launcher, to the files of the run, or by a second launch. The training must end as the undisturbed one
does: with the same curve and the same weights, to the last bit. The result is one JSON record per fault.
"""

import argparse
import json
import os
import platform
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from models.command_line import run as run_command
from tests.injector.sitecustomize import KINDS
from trainer.run_store import NETWORKS_FILE, Run, open_store

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ["forge", "--dtype", "float64", "--limit-images", "2000", "--model.g-widths", "8", "4"]
RECIPE += ["--model.d-widths", "4", "8", "8", "--metrics-every", "0", "--workers", "2", "--checkpoint-every", "20"]
SPACING = 40
"""Steps between two faults."""
TIME_LIMIT = 180.0
"""Seconds after which a fault without recovery fails the benchmark."""


@dataclass
class Fault:
    """One fault, and what came of it."""

    kind: str
    rank: int | None
    """The worker that it strikes; None if it is not a worker."""
    step: int
    struck: float = 0.0
    """When it struck, in seconds since 1970; later in seconds since the start."""
    detected_after: float | None = None
    """Seconds until the launcher said so; None if nothing had to be said."""
    training_after: float | None = None
    """Seconds until steps were trained again; None if training did not stop."""
    steps_redone: int = 0


class Launch:
    """A running launcher, with its lines and their times."""

    def __init__(self, runs: Path, name: str, steps: int, faults: Path | None) -> None:
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        if faults:
            environment |= {"DIGITFORGE_FAULTS": str(faults), "PYTHONPATH": str(ROOT / "tests" / "injector")}
        epochs = ["--steps-per-epoch", "100", "--epochs", str(steps // 100)]
        self.command = [sys.executable, "-m", "trainer", *RECIPE, *epochs, "--runs", str(runs), "--name", name]
        self.environment = environment
        self.start()

    def start(self) -> None:
        """Start the launcher; again, after it has ended."""
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.lines: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self.text: list[str] = []
        assert self.process.stdout
        threading.Thread(target=self._read, args=[self.process.stdout], daemon=True).start()

    def stop(self) -> None:
        """End the training, if it still runs, with all that it has started."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.text.append(line)
            self.lines.put((time.time(), line.rstrip()))

    def wait(self, timeout: float) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(timeout)


Release = Callable[[], None]
"""Lets the workers go on, which wait at the step of the fault."""


def kill_launcher(launch: Launch, run: Run, release: Release) -> None:
    """Kill the launcher alone. The driver ends by itself."""
    launch.process.kill()
    launch.process.wait()
    release()


def stop_launcher(launch: Launch, run: Run, release: Release) -> None:
    """Ask the launcher to stop, as a cluster does."""
    launch.process.send_signal(signal.SIGTERM)
    release()
    launch.wait(60)


def interrupt_launcher(launch: Launch, run: Run, release: Release) -> None:
    """Press Ctrl-C."""
    launch.process.send_signal(signal.SIGINT)
    release()
    launch.wait(60)


def abort_launcher(launch: Launch, run: Run, release: Release) -> None:
    """Press Ctrl-C twice."""
    launch.process.send_signal(signal.SIGINT)
    time.sleep(0.15)
    launch.process.send_signal(signal.SIGINT)
    launch.wait(60)
    release()


def launch_again(launch: Launch, run: Run, release: Release) -> None:
    """Start the same training a second time, which must be refused."""
    again = subprocess.run(launch.process.args, cwd=ROOT, capture_output=True, text=True, timeout=120)
    release()
    if again.returncode != 2 or "is being trained" not in again.stderr:
        raise RuntimeError(f"a second launch was not refused: {again.stdout}{again.stderr}")


def tear_progress(launch: Launch, run: Run, release: Release) -> None:
    """Leave half of progress.json."""
    path = Path(run.path) / "progress.json"
    path.write_bytes(path.read_bytes()[:40])
    release()


def damage_checkpoint(launch: Launch, run: Run, release: Release) -> None:
    """Change a byte of the newest checkpoint, and kill a worker, so that it would be read."""
    checkpoint = run.latest_checkpoint()
    if checkpoint:
        path = Path(run.path) / checkpoint.name / NETWORKS_FILE
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    workers = [each for each in psutil.Process(launch.process.pid).children(recursive=True) if is_worker(each)]
    workers[0].kill()
    release()


def is_worker(process: psutil.Process) -> bool:
    """Return whether a process is a worker of a training."""
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


def remove_storage(launch: Launch, run: Run, release: Release) -> None:
    """Take the folder of the run away for 8 seconds."""
    path = Path(run.path)
    aside = path.with_name(f".{path.name}-away")
    path.rename(aside)
    release()
    time.sleep(8)
    aside.rename(path)


OUTSIDE: dict[str, tuple[Callable[[Launch, Run, Release], None], bool]] = {
    "launcher": (kill_launcher, True),
    "sigterm": (stop_launcher, True),
    "ctrl-c": (interrupt_launcher, True),
    "abort": (abort_launcher, True),
    "second launch": (launch_again, False),
    "torn progress": (tear_progress, False),
    "damaged checkpoint": (damage_checkpoint, False),
    "storage away": (remove_storage, False),
}
"""Kind -> (what it does, whether the launcher ends and the same command is given again)."""


def plan(count: int, seed: int) -> list[Fault]:
    """Draw the faults: every kind before one comes again, in random order, each on a random rank."""
    generator, faults = random.Random(seed), list[Fault]()
    while len(faults) < count:
        kinds = [*KINDS, *OUTSIDE]
        generator.shuffle(kinds)
        for kind in kinds[: count - len(faults)]:
            step = SPACING * (len(faults) + 1) + generator.randrange(SPACING // 2)
            faults.append(Fault(kind, generator.randrange(2) if kind in KINDS else None, step))
    return faults


def train_undisturbed(runs: Path, steps: int) -> Run:
    """Train without faults."""
    launch = Launch(runs, "undisturbed", steps, None)
    if launch.wait(1800):
        raise RuntimeError("".join(launch.text))
    return open_store(runs).run("undisturbed")


def train_under_faults(runs: Path, steps: int, faults: list[Fault], folder: Path) -> Run:
    """Train while the faults strike, and complete their records."""
    for fault in faults:
        for name in files_of(fault):
            (folder / name).touch()
    run = open_store(runs).run("disturbed")
    launch = Launch(runs, "disturbed", steps, folder)
    try:
        for number, fault in enumerate(faults, 1):
            suffer(fault, launch, run, folder)
            told = "-" if fault.detected_after is None else f"{fault.detected_after:5.1f}"
            again = "-" if fault.training_after is None else f"{fault.training_after:5.1f}"
            print(f"{number:3} {fault.kind:20} step {fault.step:5}  told {told}  trains {again}", flush=True)
        if launch.wait(600):
            raise RuntimeError("".join(launch.text))
    finally:
        launch.stop()
    return run


def files_of(fault: Fault) -> list[str]:
    """Return the files by which the injector strikes, or holds all workers while something else does."""
    if fault.kind in KINDS:
        return [f"{fault.rank}-{fault.step}-{fault.kind}"]
    return [f"{rank}-{fault.step}-wait" for rank in (0, 1)]


def suffer(fault: Fault, launch: Launch, run: Run, folder: Path) -> None:
    """Wait until a fault has struck and training goes on; start the launcher again if the fault has ended it."""
    marks = [folder / f"{name}.struck" for name in files_of(fault)]
    while not launch.lines.empty():  # what was said of earlier faults
        launch.lines.get()
    wait_until(lambda: all(mark.exists() and mark.read_text() for mark in marks), launch, fault)
    fault.struck = float(marks[0].read_text()) if fault.kind in KINDS else time.time()
    restarts = fault.kind in OUTSIDE and OUTSIDE[fault.kind][1]
    if fault.kind in OUTSIDE:
        OUTSIDE[fault.kind][0](launch, run, (folder / f"{fault.step}.go").touch)
        if restarts:
            fault.detected_after = time.time() - fault.struck
            launch.start()
    needs_restart = restarts or fault.kind not in ("slow", "second launch", "torn progress", "storage away")
    resumed, started = None, None
    deadline = time.monotonic() + TIME_LIMIT
    while needs_restart and started is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no recovery from {fault}:\n{''.join(launch.text)}")
        with suppress(queue.Empty):
            moment, line = launch.lines.get(timeout=0.1)
            words = line.split()
            if "The training goes on from step" in line:
                resumed = int(words[-1].rstrip("."))
                fault.detected_after = moment - fault.struck
            elif line.startswith("Resuming run"):
                resumed = started = int(words[words.index("step") + 1].rstrip(","))
            elif line.endswith("train again."):
                started = resumed
    if started is not None:
        fault.steps_redone = max(0, fault.step - started)
        since = time.time()
        wait_until(lambda: trains(run, since), launch, fault)
        fault.training_after = time.time() - fault.struck


def trains(run: Run, since: float) -> bool:
    """Return whether workers have written progress since a time."""
    with suppress(ValueError):
        progress = run.read_progress()
        return progress.phase in ("training", "finished") and (progress.heartbeat or 0) > since
    return False


def step_of(run: Run) -> int:
    """Return the step of the run; 0 if its progress cannot be read."""
    with suppress(ValueError):
        return run.read_progress().step
    return 0


def wait_until(condition: Callable[[], bool], launch: Launch, fault: Fault) -> None:
    """Wait until a condition holds; raise `RuntimeError` if it does not in time, or the launcher ends."""
    deadline = time.monotonic() + TIME_LIMIT
    while not condition():
        if time.monotonic() > deadline or launch.process.poll() not in (None, 0):
            raise RuntimeError(f"waiting for {fault}:\n{''.join(launch.text)}")
        time.sleep(0.05)


def differences(run: Run, other: Run) -> list[str]:
    """Return in what two runs differ: curves of epochs, and files of the last checkpoint."""
    found = []
    for epoch in sorted({*run.epochs(), *other.epochs()} - {0}):
        mine, others = run.read_losses(epoch), other.read_losses(epoch)
        found += [
            f"{name} of epoch {epoch}"
            for name in mine
            if name != "images_per_second" and mine[name] != others.get(name)
        ]
    last, other_last = run.latest_checkpoint(), other.latest_checkpoint()
    if not (last and other_last and last.step == other_last.step):
        return [*found, "the last checkpoint"]
    return found + ["weights"] * (last.read(NETWORKS_FILE) != other_last.read(NETWORKS_FILE))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=30, help="number of faults (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="seed of kinds, ranks and steps (default: 0)")
    parser.add_argument("--out", type=Path, help="JSON file for the records")
    return parser.parse_args(arguments)


def main(words: list[str]) -> int:
    """Run the benchmark; return 0 if the disturbed run equals the undisturbed one."""
    arguments = parse(words)
    faults = plan(arguments.faults, arguments.seed)
    steps = -(-(faults[-1].step + SPACING) // 100) * 100
    started = time.time()
    with tempfile.TemporaryDirectory() as temporary:
        runs, folder = Path(temporary) / "runs", Path(temporary) / "faults"
        folder.mkdir()
        undisturbed = train_undisturbed(runs, steps)
        disturbed = train_under_faults(runs, steps, faults, folder)
        wrong = differences(disturbed, undisturbed)
    for fault in faults:
        fault.struck = round(fault.struck - started, 2)
    print(f"{len(faults)} faults of {len({fault.kind for fault in faults})} kinds in {time.time() - started:.0f} s:")
    print(f"  {'differs in ' + ', '.join(wrong) if wrong else 'curve and weights are equal to the last bit'}")
    if arguments.out:
        about = {"command": f"python -m benchmarks.chaos --faults {arguments.faults} --seed {arguments.seed}"}
        about |= {"date": time.strftime("%Y-%m-%d"), "machine": f"{os.cpu_count()} cores, {platform.machine()}"}
        record = {**about, "steps": steps, "equal": not wrong, "faults": [asdict(fault) for fault in faults]}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    run_command(main)
