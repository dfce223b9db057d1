"""Training on a real Ray cluster, from the command line: started, stopped and resumed. Faults: tests/test_faults.py."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from models.generate import main as generate
from tests import golden
from tests.training import losses_of, train_here
from trainer.__main__ import main as train_command
from trainer.run_store import Run, open_store
from trainer.train_command import parse

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ["forge", "--dtype", "float64", "--limit-images", "2000", "--steps-per-epoch", "60", "--epochs", "4"]
RECIPE += ["--checkpoint-every", "20", "--model.g-widths", "8", "4", "--model.d-widths", "4", "8", "8"]
RECIPE += ["--metrics-every", "0"]
STEPS = 240


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """A function that starts `python -m trainer` with given arguments. At the end, remaining processes are killed."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "trainer", *arguments, "--runs", str(tmp_path / "runs")]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        if process.poll() is None:
            kill_all(process)


def kill_all(process: "subprocess.Popen[str]") -> None:
    """Send SIGKILL to a process and all its descendants."""
    family = psutil.Process(process.pid)
    for member in [family, *family.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def wait_for_step(process: "subprocess.Popen[str]", run: Run, step: int) -> None:
    deadline = time.monotonic() + 180
    while run.read_progress().step < step:
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline, f"no step {step} within 180 s"
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_a_run_on_two_workers_survives_being_stopped_and_goes_on_on_one(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_store(tmp_path / "runs").run("forge")

    stopped = start(*RECIPE, "--workers", "2")
    wait_for_step(stopped, run, 30)
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate(timeout=120)
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert stopped.returncode == 128 + signal.SIGINT, output
    assert f"Stopped at step {checkpoint.step} of {STEPS}" in output
    assert "-m trainer forge --dtype float64" in output
    assert run.read_progress().phase == "stopped"

    command = [*RECIPE, "--runs", str(tmp_path / "runs")]
    assert train_command([*command, "--workers", "2", "--seed", "7"]) == 2
    assert "seed: 0, 7" in capsys.readouterr().err

    resumed = start(*RECIPE, "--workers", "1")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    assert f"Resuming run forge from step {checkpoint.step} of {STEPS}" in output
    assert run.epochs() == [0, 1, 2, 3, 4]

    # An uninterrupted run in this process, without Ray, has the same losses.
    whole = open_store(tmp_path / "whole").run("forge")
    train_here(parse(RECIPE).config, whole)
    expected, found = losses_of(whole), losses_of(run)
    assert found["step"] == expected["step"] == list(range(1, STEPS + 1))
    for name in ("d_loss", "g_loss"):
        assert found[name][:100] == pytest.approx(expected[name][:100], rel=1e-8)

    assert train_command(command) == 0
    assert f"is finished ({STEPS} steps)" in capsys.readouterr().out

    final = run.latest_checkpoint()
    assert final
    file = tmp_path / "runs" / "forge" / final.name / "generator.safetensors"
    assert generate(["--generator", str(file), "--digit", "6", "--out", str(tmp_path / "six.png")]) == 0


def test_a_run_that_earlier_code_began_gets_its_cpu_minutes_and_goes_on_with_another_upkeep(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(golden.RUNS / "gan", tmp_path / "runs" / "gan")
    run = open_store(tmp_path / "runs").run("gan")
    (begun,) = run.checkpoints()
    flags = "gan --dtype float64 --epochs 2 --steps-per-epoch 40 --batch-size 24 --limit-images 300 --model.z-dim 8"
    flags += " --model.g-widths 8 8 4 --model.d-widths 8 8 --keep-checkpoints 5 --checkpoint-every 10 --workers 1"
    flags += " --metrics-every 0"
    command = flags.split()
    minutes = f"{begun.manifest.cpu_seconds / 60 + 0.0005:g}"

    limited = start(*command, "--cpu-minutes", minutes)
    output, _ = limited.communicate(timeout=200)
    assert limited.returncode == 0, output
    assert f"Resuming run gan from step {begun.step} of 80" in output
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert begun.step < checkpoint.step < 80
    assert checkpoint.manifest.cpu_seconds >= 60 * float(minutes)
    assert f"has used its {minutes} CPU-minutes, at step {checkpoint.step}." in output

    assert train_command([*command, "--runs", str(tmp_path / "runs"), "--cpu-minutes", minutes]) == 0
    output = capsys.readouterr().out
    assert f"has used its {minutes} CPU-minutes, at step {checkpoint.step} of 80." in output
    assert "Ray" not in output

    process = start(*command, "--cpu-minutes", "100")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert f"Resuming run gan from step {checkpoint.step} of 80" in output
    steps = {begun.step, checkpoint.step, *range(20, 81, 10)}
    assert [each.step for each in run.checkpoints()] == sorted(steps)[-5:]  # three by default
    final = run.latest_checkpoint()
    assert final
    assert final.manifest.seconds > checkpoint.manifest.seconds
    assert final.manifest.cpu_seconds > checkpoint.manifest.cpu_seconds
    expected = json.loads((golden.RESUMED / "gan.json").read_text())["curve"]
    for name, values in golden.curve_of(run).items():
        assert values == pytest.approx(expected[name], rel=1e-9), name
