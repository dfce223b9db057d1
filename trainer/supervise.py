"""The launcher's side of a training: starts the driver, shows progress, obeys signals, and outlives any fault of Ray.

The launcher has no connection to Ray, so nothing that happens to Ray can end it. When a group of workers fails, the
driver starts another one. When the driver or Ray dies, the launcher ends what is left of them and starts another one.
"""

import json
import os
import queue
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from tqdm import tqdm

from trainer.cluster import Resources, address_of_cluster
from trainer.lease import Lease, LeaseLostError
from trainer.order import Order
from trainer.processes import kill_descendants
from trainer.run_store import GENERATOR_FILE, EpochSummary, Phase, Progress, Run, RunStoreError, checkpoint_name

if TYPE_CHECKING:
    from trainer.config import TrainConfig, Upkeep

POLL_SECONDS = 0.5
"""Seconds between two reads of the progress."""
MAX_DEATHS = 3
"""How often the driver or Ray may die without progress, before the training ends."""
ABORT_SECONDS = 7.0
"""Seconds without a sign of life from the workers after which a request to stop aborts the training."""
END_SECONDS = 5.0
"""Maximum seconds that the driver has to end Ray, after the training has ended."""

MARK = "DIGITFORGE_DRIVER"
"""Environment variable that marks all processes of a driver."""

Event = dict[str, Any]
"""An event of the driver; see `trainer.driver`. Its end is the event `died`, a signal the event `signal`."""


class Driver:
    """The driver's process. A context manager: on exit the driver and all processes that it has started are killed."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._mark = secrets.token_hex(8)
        self.log = Path(tempfile.mkstemp(prefix="digitforge-driver-", suffix=".log")[1])
        """File with the driver's standard error; removed at the end unless the training failed."""
        self.keeps_log = False
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if not self.keeps_log:
            self.log.unlink(missing_ok=True)

    def send(self, line: str) -> None:
        """Write a line to the driver. If it has died, its event says so."""
        with suppress(BrokenPipeError):
            self._input.write(line + "\n")
            self._input.flush()

    def wait(self, timeout: float) -> None:
        """Wait until the driver has ended, but not longer."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def kill(self) -> None:
        """Kill the driver and all that it has started."""
        self._process.kill()
        kill_descendants(MARK, self._mark)
        self._process.wait()
        with suppress(BrokenPipeError):
            self._input.close()

    def restart(self) -> None:
        """Kill what is left of the driver, and start another one."""
        self.kill()
        self._start()

    def _start(self) -> None:
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trainer.driver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {MARK: self._mark},
                text=True,
                start_new_session=True,  # a Ctrl-C in the terminal is the launcher's to handle
            )
        if not (self._process.stdin and self._process.stdout):
            raise RuntimeError("the driver has no pipes")
        self._input = self._process.stdin
        threading.Thread(target=self._read, args=[self._process.stdout], name="driver", daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            with suppress(ValueError):
                self.events.put(json.loads(line))
        self.events.put({"event": "died"})


@dataclass(frozen=True)
class Ending:
    """How a training has ended."""

    phase: Phase | None
    """Phase of the run; None if another launch has it."""
    status: int
    """Exit status of the launcher."""
    message: str


class Training:
    """A training, from the first driver to the end."""

    def __init__(
        self, run: Run, config: "TrainConfig", upkeep: "Upkeep", order: Order, lease: Lease, driver: Driver
    ) -> None:
        self.config, self.upkeep = config, upkeep
        self.run, self.order, self.lease, self.driver, self.events = run, order, lease, driver, driver.events
        self.total_steps, self.cpu_minutes = 0, order.cpu_minutes
        self.signals: list[int] = []
        self.asked: float | None = None
        """When the workers were asked to stop."""
        self.state: Phase = "starting"
        self.note = ""
        """Why the workers start again."""
        self.told = ""
        """The last message of the workers that was printed."""
        self.logs = ""
        """Folder of Ray's logs."""
        self.deaths, self.furthest_step = 0, -1

    def connect(self) -> Resources | Ending:
        """Wait until the driver is connected to Ray; return the resources of the training, or how it has ended."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        address = address_of_cluster()
        print(f"Connecting to Ray at {address} ..." if address else "Starting Ray on this machine ...", flush=True)
        self.driver.send(self.order.to_json())
        while True:
            event = self.events.get()
            if ending := self._ending_of_signals():
                return ending
            match event["event"]:
                case "ready":
                    self.logs = event["logs"]
                    return Resources(**event["resources"])
                case "failed":
                    raise ValueError(event["message"])
                case "died":
                    self.driver.keeps_log = True
                    raise ValueError(f"Ray could not be started; {self.driver.log} says why")

    def train(self, step: int, total_steps: int, workers: int) -> int:
        """Train to the end, from a step; show progress and obey signals. Return the exit status."""
        self.total_steps = total_steps
        config = self.config
        self.starting = Progress(
            launch_id=self.order.launch_id,
            step=step,
            total_steps=total_steps,
            epochs=config.epochs,
            nimg=step * config.batch_size,
            world_size=workers,
        )
        self.driver.send("go")
        ending = None
        with tqdm(total=total_steps, unit="step", desc="starting", disable=not sys.stderr.isatty()) as bar:
            self.shown = max(self.run.epochs(), default=-1)
            while ending is None:
                event: Event | None = None
                with suppress(queue.Empty):
                    event = self.events.get(timeout=POLL_SECONDS)
                ending = self._handle(event, bar) or self._ending_of_lease() or self._ending_of_signals(bar)
                self._show(bar)
        return self._end(ending)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        self.events.put({"event": "signal"})

    def _handle(self, event: Event | None, bar: "tqdm[Any]") -> Ending | None:
        """Act on an event of the driver; return how the training has ended, or None."""
        if event is None:
            return None
        match event["event"]:
            case "group":
                if self.state == "restarting":
                    bar.write(f"{event['workers']} worker(s) train again.", file=sys.stdout)
                self.state, self.note = "training", ""
            case "waiting":
                self.note = f"Waiting: {event['message']}"
                bar.write(f"{self.note}. Ctrl-C ends this.", file=sys.stdout)
            case "fault":
                self._restarting(event["message"], bar)
            case "end":
                return self._ending_of(event["phase"], event["step"])
            case "failed":
                return Ending("failed", 1, event["message"])
            case "ready":  # of another driver
                self.logs = event["logs"]
                self.driver.send("go")
            case "died":
                return self._revive(bar)
        return None

    def _restarting(self, message: str, bar: "tqdm[Any]") -> None:
        """Say what has happened and from where the training goes on."""
        self.state, self.note = "restarting", message
        where = "the last checkpoint"
        with suppress(RunStoreError):
            found = self.run.latest_checkpoint(verify=False)
            where = f"step {found.step}" if found else "the start, for it has no checkpoint yet"
        bar.write(f"{_sentence(message)} The training goes on from {where}.", file=sys.stdout)

    def _revive(self, bar: "tqdm[Any]") -> Ending | None:
        """Start another driver, unless the last ones died without progress."""
        step = self._read_progress().step
        self.deaths = 1 if step > self.furthest_step else self.deaths + 1
        self.furthest_step = max(step, self.furthest_step)
        if self.deaths > MAX_DEATHS:
            return Ending("failed", 1, f"Ray has died {self.deaths} times without progress")
        self._restarting("Ray or its driver died (killed, crashed, or out of memory)", bar)
        self.driver.restart()
        self.driver.send(self.order.to_json())
        return None

    def _ending_of(self, phase: Phase, step: int) -> Ending:
        """Return the ending of a training that its workers have ended."""
        if phase == "finished":
            generator = f"{self.run.path}/{checkpoint_name(step)}/{GENERATOR_FILE}"
            return Ending(phase, 0, f"Finished run {self.run.name}. Generator file: {generator}")
        if not self.signals:
            used = f"Run {self.run.name} has used its {self.cpu_minutes:g} CPU-minutes, at step {step}."
            return Ending(phase, 0, used)
        return Ending(phase, 128 + self.signals[0], f"Stopped at step {step} of {self.total_steps}.")

    def _ending_of_lease(self) -> Ending | None:
        if holder := self.lease.lost_to():
            return Ending(
                None, 1, f"Run {self.run.name} has passed to {holder}; this launch has written nothing since."
            )
        return None

    def _ending_of_signals(self, bar: "tqdm[Any] | None" = None) -> Ending | None:
        """Ask the workers to stop, at the first signal; return the ending if there are none, or at the second."""
        if not self.signals:
            return None
        aborted = Ending("stopped", 128 + self.signals[0], "Aborted.")
        if len(self.signals) > 1 or self.state != "training" or bar is None:
            return aborted
        now = time.time()
        if self.asked is None:
            self.asked = now
            bar.write("Stopping after a checkpoint at the next step; once more aborts at once.", file=sys.stdout)
            try:
                self.run.request_stop(self.order.launch_id)
            except (RunStoreError, LeaseLostError) as error:
                return replace(aborted, message=f"Aborted, because the request to stop could not be stored: {error}.")
        heartbeat = self._read_progress().heartbeat or 0.0
        if now - max(self.asked, heartbeat) > ABORT_SECONDS:
            return replace(aborted, message="Aborted, because the workers do not answer.")
        return None

    def _show(self, bar: "tqdm[Any]") -> None:
        """Show progress and complete epochs. While no workers do so, write a heartbeat."""
        try:
            progress = self._read_progress()
            if self.state != "training" or progress.launch_id != self.order.launch_id:
                base = progress if progress.launch_id == self.order.launch_id else self.starting
                phase: Phase = "restarting" if self.state == "restarting" else "starting"
                self.run.write_progress(replace(base, phase=phase, message=self.note, heartbeat=time.time()))
            for epoch in self.run.epochs():
                if epoch > self.shown:
                    for line in epoch_lines(self.run, epoch, self.config.epochs, self.upkeep):
                        bar.write(line, file=sys.stdout)
                    self.shown = epoch
        except (RunStoreError, LeaseLostError):
            return  # the storage may be slow; the next read may succeed
        is_training = progress.launch_id == self.order.launch_id and progress.phase == "training"
        if is_training and progress.message and progress.message != self.told:
            self.told = progress.message
            bar.write(_sentence(self.told), file=sys.stdout)
        sys.stdout.flush()
        if progress.launch_id == self.order.launch_id:
            bar.set_description(f"{progress.phase} {self.run.name}", refresh=False)
            bar.update(progress.step - bar.n)
            bar.set_postfix_str(f"{progress.images_per_second or 0:.0f} images/s")

    def _end(self, ending: Ending) -> int:
        """End the driver, record and print how the training has ended; return the exit status."""
        if ending.phase in ("finished", "stopped") and self.state == "training":
            self.driver.wait(END_SECONDS)
        self.driver.kill()
        progress = self._read_progress()
        if ending.phase and progress.phase != ending.phase:
            base = progress if progress.launch_id == self.order.launch_id else self.starting
            message = ending.message if ending.phase == "failed" else ""
            with suppress(RunStoreError, LeaseLostError):
                self.run.write_progress(replace(base, phase=ending.phase, message=message, heartbeat=time.time()))
        again = shlex.join([Path(sys.executable).name, "-m", "trainer", *sys.argv[1:]])
        if ending.phase == "failed":
            self.driver.keeps_log = True
            print(f"Training failed: {ending.message}", file=sys.stderr)
            print(f"Logs: {self.driver.log}, and Ray's in {self.logs}", file=sys.stderr)
            print(f"The same command resumes from the last checkpoint: {again}", file=sys.stderr)
        elif ending.status == 0:
            print(ending.message)
        elif self.lease.lost_to():
            print(ending.message, file=sys.stderr)
        elif ending.message.startswith("Aborted"):
            print(f"{ending.message} The same command resumes from the last checkpoint: {again}")
        else:
            print(f"{ending.message} The same command resumes: {again}")
        return ending.status

    def _read_progress(self) -> Progress:
        """Return the progress of the run; the default if it cannot be read."""
        try:
            return self.run.read_progress()
        except RunStoreError:
            return Progress()


def _sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def epoch_lines(run: Run, epoch: int, epochs: int, upkeep: "Upkeep") -> list[str]:
    """Return the lines that the launcher prints for a complete epoch; none for epoch 0, which is before training."""
    if epoch == 0:
        return []
    summary = run.read_epoch_metrics(epoch)
    lines = [_epoch_line(summary, epochs)]
    if upkeep.print_accuracy_every and epoch % upkeep.print_accuracy_every == 0:
        lines.append(_accuracy_line(summary))
    return lines


def _epoch_line(summary: EpochSummary, epochs: int) -> str:
    line = f"epoch {summary.epoch}/{epochs}  step {summary.step}"
    line += f"  d_loss {summary.d_loss:.3f} g_loss {summary.g_loss:.3f}"
    line += f" d_acc_real {summary.d_acc_real:.3f} d_acc_fake {summary.d_acc_fake:.3f}"
    line += f"  {summary.images_per_second:.0f} images/s"
    if summary.scores and summary.floor:
        line += f"  FID {summary.scores['fid']:.2f} (real {summary.floor['fid']:.2f})"
        accuracy = summary.scores.get("label_accuracy")
        line += "" if accuracy is None else f" read as asked {accuracy:.1%}"
    return line


def _accuracy_line(summary: EpochSummary) -> str:
    real, fake = summary.d_acc_real, summary.d_acc_fake
    return f"epoch {summary.epoch}: the discriminator's accuracy is {real:.0%} on real and {fake:.0%} on fake samples"
