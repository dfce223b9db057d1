"""Training on a real Ray cluster: started, stopped, killed and resumed from the command line."""

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
import torch

from models.generate import main as generate
from tests import golden
from trainer.recorder import Recorder
from trainer.run_store import Manifest, Run, open_store
from trainer.train_command import parse
from trainer.train_loop import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ["forge", "--dtype", "float64", "--limit-images", "2000", "--steps-per-epoch", "80", "--epochs", "4"]
RECIPE += ["--checkpoint-every", "20", "--model.g-widths", "8", "4", "--model.d-widths", "4", "8", "8"]


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


def losses_of(run: Run) -> dict[str, list[float]]:
    curves = [run.read_losses(epoch) for epoch in run.epochs() if epoch]
    return {name: [value for curve in curves for value in curve[name]] for name in ("step", "d_loss", "g_loss")}


@pytest.mark.timeout(600)
def test_a_run_gets_the_cpu_minutes_that_it_is_given(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    run = open_store(tmp_path / "runs").run("forge")
    recipe = [*RECIPE, "--metrics-every", "0", "--workers", "1", "--cpu-minutes"]

    def output_of(minutes: str) -> str:
        process = start(*recipe, minutes)
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        return output

    first = output_of("0.02")
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert 0 < checkpoint.step < 320
    assert checkpoint.manifest.cpu_seconds >= 60 * 0.02
    assert f"has used its 0.02 CPU-minutes, at step {checkpoint.step}." in first

    again = output_of("0.02")
    assert f"has used its 0.02 CPU-minutes, at step {checkpoint.step} of 320." in again
    assert "Ray" not in again

    assert f"Resuming run forge from step {checkpoint.step} of 320" in output_of("100")
    final = run.latest_checkpoint()
    assert final
    assert final.step == 320
    assert final.manifest.seconds > checkpoint.manifest.seconds
    assert final.manifest.cpu_seconds > checkpoint.manifest.cpu_seconds


@pytest.mark.timeout(600)
def test_a_run_on_two_workers_survives_being_stopped_and_killed(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    run = open_store(tmp_path / "runs").run("forge")

    stopped = start(*RECIPE, "--workers", "2")
    wait_for_step(stopped, run, 30)
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate(timeout=120)
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert stopped.returncode == 128 + signal.SIGINT, output
    assert f"Stopped at step {checkpoint.step} of 320" in output
    assert "-m trainer forge --dtype float64" in output
    assert run.read_progress().phase == "stopped"

    killed = start(*RECIPE, "--workers", "2")
    wait_for_step(killed, run, checkpoint.step + 50)
    kill_all(killed)
    survivor = run.latest_checkpoint()
    assert survivor
    assert survivor.step > checkpoint.step

    other = start(*RECIPE, "--workers", "2", "--seed", "7")
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 2
    assert "seed: 0, 7" in output

    resumed = start(*RECIPE, "--workers", "1")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    assert f"Resuming run forge from step {survivor.step} of 320" in output
    assert run.epochs() == [0, 1, 2, 3, 4]

    # An uninterrupted run in this process, without Ray, has the same losses.
    whole = open_store(tmp_path / "whole").run("forge")

    def report(manifest: Manifest, files: dict[str, bytes] | None) -> None:
        pass

    command = parse(RECIPE)
    torch.set_num_threads(1)
    with Recorder(whole, "") as recorder:
        train(command.config, command.upkeep, whole, report, recorder, torch.device("cpu"))
    expected, found = losses_of(whole), losses_of(run)
    assert found["step"] == expected["step"] == list(range(1, 321))
    for name in ("d_loss", "g_loss"):
        assert found[name][:100] == pytest.approx(expected[name][:100], rel=1e-8)

    again = start(*RECIPE)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert "is finished (320 steps)" in output

    final = run.latest_checkpoint()
    assert final
    file = tmp_path / "runs" / "forge" / final.name / "generator.safetensors"
    assert generate(["--generator", str(file), "--digit", "6", "--out", str(tmp_path / "six.png")]) == 0


def test_a_run_that_earlier_code_began_goes_on_with_another_upkeep(
    tmp_path: Path, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    shutil.copytree(golden.RUNS / "gan", tmp_path / "runs" / "gan")
    run = open_store(tmp_path / "runs").run("gan")
    (begun,) = run.checkpoints()
    flags = "--dtype float64 --epochs 2 --steps-per-epoch 40 --batch-size 24 --limit-images 300 --model.z-dim 8"
    flags += " --model.g-widths 8 8 4 --model.d-widths 8 8 --keep-checkpoints 5 --checkpoint-every 10 --workers 1"
    process = start("gan", *flags.split())
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert f"Resuming run gan from step {begun.step} of 80" in output
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [40, 50, 60, 70, 80]  # three by default
    expected = json.loads((golden.RESUMED / "gan.json").read_text())["curve"]
    for name, values in golden.curve_of(run).items():
        assert values == pytest.approx(expected[name], rel=1e-9), name
