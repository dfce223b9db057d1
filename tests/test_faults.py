"""Faults: each kind on its own, and how a training ends that cannot go on. `benchmarks.chaos` has the kinds."""

import contextlib
import os
import random
import secrets
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks import chaos
from benchmarks.chaos import Fault
from tests.injector.sitecustomize import KINDS
from tests.training import train_on
from trainer.run_store import Run, open_store
from trainer.train_command import parse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MARK = "DIGITFORGE_TEST"
"""Environment variable that all processes of a launch inherit, so that those that it leaves behind are found."""


class Launch:
    """A launcher with its output, and its processes."""

    def __init__(self, runs: Path | str, *arguments: str, **environment: str) -> None:
        self.mark = secrets.token_hex(8)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer", *chaos.RECIPE, *arguments, "--runs", str(runs)],
            cwd=chaos.ROOT,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", MARK: self.mark, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def output(self, timeout: float = 300) -> str:
        """Wait for the end; return what was printed."""
        output, _ = self.process.communicate(timeout=timeout)
        return output

    def left(self) -> list[psutil.Process]:
        """Return the processes of the launch that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def wait_for_step(launch: Launch, run: Run, step: int) -> None:
    deadline = time.monotonic() + 180
    while chaos.step_of(run) < step:
        assert launch.process.poll() is None, launch.output()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training of 100 steps without faults, on two workers and without Ray."""
    command = parse([*chaos.RECIPE, "--steps-per-epoch", "100", "--epochs", "1"])
    (run,) = train_on(2, (command.config, tmp_path_factory.mktemp("undisturbed") / "runs"), upkeep=command.upkeep)
    return run


def test_a_training_under_faults_equals_the_undisturbed_one(undisturbed: Run, tmp_path: Path) -> None:
    faults = [Fault("torn progress", None, 25), Fault("driver", 1, 45), Fault("launcher", None, 65)]
    faults.append(Fault("damaged checkpoint", None, 85))  # after it, a worker is killed
    (tmp_path / "faults").mkdir()
    disturbed = chaos.train_under_faults(tmp_path, 100, faults, tmp_path / "faults")
    assert chaos.differences(disturbed, undisturbed) == []
    assert [fault.steps_redone < 45 for fault in faults] == [True] * len(faults)


@pytest.mark.chaos
@pytest.mark.parametrize("kind", [*KINDS, *chaos.OUTSIDE])
def test_each_kind_of_fault_is_survived(kind: str, undisturbed: Run, tmp_path: Path) -> None:
    fault = Fault(kind, 1 if kind in KINDS else None, 50)
    (tmp_path / "faults").mkdir()
    disturbed = chaos.train_under_faults(tmp_path, 100, [fault], tmp_path / "faults")
    assert chaos.differences(disturbed, undisturbed) == []
    assert fault.steps_redone <= (0 if kind in ("sigterm", "ctrl-c") else 44)  # a request to stop loses nothing
    assert (fault.training_after or 0) < 120


def test_a_loss_that_is_not_finite_ends_the_training_in_one_line(tmp_path: Path) -> None:
    flags = ["--dtype", "float32", "--g-lr", "1e30", "--d-lr", "1e30", "--steps-per-epoch", "50", "--workers", "1"]
    launch = Launch(tmp_path, *flags)
    output = launch.output()
    assert launch.process.returncode == 1
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("Training failed: ")]
    assert "at step" in line
    progress = open_store(tmp_path).run("forge").read_progress()
    assert progress.phase == "failed"
    assert "at step" in progress.message
    assert not launch.left()


@pytest.mark.parametrize(
    "seconds", [2.0, pytest.param(5.0, marks=pytest.mark.chaos), pytest.param(8.0, marks=pytest.mark.chaos)]
)
def test_ctrl_c_before_the_first_step_ends_at_once_and_leaves_nothing(tmp_path: Path, seconds: float) -> None:
    launch = Launch(tmp_path, "--epochs", "50")
    time.sleep(seconds)
    pressed = time.monotonic()
    launch.process.send_signal(signal.SIGINT)
    output = launch.output(60)
    assert launch.process.returncode in (130, -signal.SIGINT), output  # by the signal itself while it still imports
    assert time.monotonic() - pressed < 15  # 10 on a machine with nothing else to do
    assert "Traceback" not in output
    assert not launch.left()


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_every_end_of_the_launcher_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    run = open_store(tmp_path).run("forge")
    launch = Launch(tmp_path, "--epochs", "200")
    wait_for_step(launch, run, 20)
    launch.process.send_signal(number)
    output = launch.output(60)
    deadline = time.monotonic() + 10
    while (left := launch.left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
    if number != signal.SIGKILL:
        assert launch.process.returncode == 128 + number
        assert f"Stopped at step {run.read_progress().step}" in output


@pytest.mark.chaos
def test_a_second_launch_is_refused_at_any_moment(tmp_path: Path) -> None:
    """Fifty moments: while the first one starts, trains, recovers, is stopped, and starts again."""
    chance = random.Random(0)
    (tmp_path / "faults").mkdir()
    for step in range(50, 2000, 150):
        (tmp_path / "faults" / f"{chance.randrange(2)}-{step}-{chance.choice(['kill', 'error', 'driver'])}").touch()
    injector = {"DIGITFORGE_FAULTS": str(tmp_path / "faults"), "PYTHONPATH": str(chaos.ROOT / "tests" / "injector")}
    first = Launch(tmp_path, "--epochs", "200", **injector)
    lease = tmp_path / "forge" / "lease.json"
    while not lease.exists():
        assert first.process.poll() is None, first.output()
        time.sleep(0.01)
    for moment in range(50):
        time.sleep(chance.uniform(0, 2))
        second = Launch(tmp_path, "--epochs", "200")
        output = second.output(60)
        assert second.process.returncode == 2, (moment, output)
        assert "run forge is being trained by process" in output
        assert len(output.splitlines()) == 1
        assert not second.left()
        if moment == 25:
            first.process.send_signal(signal.SIGINT)
            first.output(60)
            first = Launch(tmp_path, "--epochs", "200", **injector)
            time.sleep(5)
    first.process.send_signal(signal.SIGINT)
    assert "Stopped at step" in first.output(60)
    run = open_store(tmp_path).run("forge")
    steps = [step for epoch in run.epochs() if epoch for step in run.read_losses(epoch)["step"]]
    assert steps == list(range(1, len(steps) + 1))


def fill(disk: Path) -> None:
    """Write a file until the disk is full."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


@pytest.mark.chaos
def test_a_full_disk_ends_in_one_line_and_the_training_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(disk)], capture_output=True).returncode:
        if os.environ.get("CI"):
            pytest.fail("a small disk cannot be mounted")
        pytest.skip("mounting a small disk needs root")
    try:
        run = open_store(disk / "runs").run("forge")
        launch = Launch(disk / "runs", "--steps-per-epoch", "100", "--epochs", "20")
        wait_for_step(launch, run, 30)
        fill(disk)
        output = launch.output(300)
        assert launch.process.returncode == 1
        assert "No space left on device" in output
        assert "Traceback" not in output
        (disk / "filler").unlink()
        again = Launch(disk / "runs", "--steps-per-epoch", "100", "--epochs", "20")
        wait_for_step(again, run, 200)
        again.process.send_signal(signal.SIGINT)
        assert "Resuming run forge from step" in again.output()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


class Way(socketserver.ThreadingTCPServer):
    """A TCP proxy to a server. It can refuse connections, or take them and stay silent."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.server = server
        self.fault = ""


class _Connection(socketserver.BaseRequestHandler):
    server: Way

    def handle(self) -> None:
        with socket.create_connection(self.server.server) as far:
            threading.Thread(target=self.carry, args=[far, self.request], daemon=True).start()
            self.carry(self.request, far)

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := b"" if self.server.fault == "refused" else source.recv(1 << 16):
                while self.server.fault == "silent":
                    time.sleep(0.1)
                if self.server.fault:
                    break
                target.sendall(content)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def way(s3_uri: str) -> Iterator[tuple[Way, str]]:
    """A proxy to the S3 server, and the URI of a run store behind it."""
    address = s3_uri.split("endpoint_override=")[1].split("&")[0]
    host, port = address.split(":")
    with Way((host, int(port))) as way:
        threading.Thread(target=way.serve_forever, daemon=True).start()
        uri = s3_uri.replace(address, f"127.0.0.1:{way.server_address[1]}")
        yield way, uri.format(prefix=f"{secrets.token_hex(8)}/runs")
        way.shutdown()


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["silent", "refused"])
def test_a_bucket_that_fails_for_a_minute_delays_checkpoints_and_loses_nothing(
    fault: str, way: tuple[Way, str], tmp_path: Path
) -> None:
    proxy, uri = way
    flags = ["--steps-per-epoch", "100", "--epochs", "4"]
    command = parse([*chaos.RECIPE, *flags])
    (undisturbed,) = train_on(2, (command.config, tmp_path / "runs"), upkeep=command.upkeep)
    run = open_store(uri).run("forge")
    launch = Launch(uri, *flags)
    wait_for_step(launch, run, 60)
    proxy.fault = fault
    time.sleep(60)
    proxy.fault = ""
    output = launch.output()
    assert launch.process.returncode == 0, output
    assert "Traceback" not in output
    assert "goes on from" not in output
    assert chaos.differences(run, undisturbed) == []
