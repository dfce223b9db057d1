"""Clusters: the file for `ray up`, and jobs on a local head that runs as docs/cluster.md says."""

import contextlib
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import streamlit as st
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from streamlit.testing.v1 import AppTest

from trainer.__main__ import main as train_command
from trainer.cluster import MAX_CPUS, MAX_GPUS, Resources, WorkerRange, choose_resources, connect
from trainer.run_store import Run, open_store
from webapp.environment import RUNS_VARIABLE

ROOT = Path(__file__).resolve().parent.parent
HEAD = "ray start --head --dashboard-host=127.0.0.1 --num-cpus=2 --block"
SUBMIT = "python -m trainer submit"
PLAIN_SUBMIT = "ray job submit --working-dir . -- python -m trainer"
"""The commands of docs/cluster.md that start a head and submit a training."""
RECIPE = ["forge", "--limit-images", "2000", "--steps-per-epoch", "60", "--model.g-widths", "8", "4"]
RECIPE += ["--model.d-widths", "4", "8", "8", "--metrics-every", "0"]


@pytest.fixture
def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    return config


def start_commands(config: dict[str, Any]) -> list[str]:
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


def test_ray_accepts_the_cluster_and_refuses_a_misspelt_one(cluster: dict[str, Any]) -> None:
    misspelt = deepcopy(cluster) | {"idle_timeout_minute": cluster["idle_timeout_minutes"]}
    validate_config(prepare_config(cluster))
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(misspelt))


def test_the_cluster_requires_the_token(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(deepcopy(cluster))  # adds Ray's defaults for what the file does not set
    assert len(start_commands(prepared)) == 2
    for command in start_commands(prepared):
        assert command.startswith("RAY_AUTH_MODE=token ")
    assert "-e RAY_AUTH_MODE=token" in prepared["docker"]["run_options"]
    assert prepared["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in prepared["head_start_ray_commands"][-1]
    for file in ("ray_cluster.yaml", "docs/cluster.md"):
        assert "0.0.0.0" not in (ROOT / file).read_text()


def test_the_cluster_has_the_pinned_ray_and_nothing_of_rays_dangerous_defaults(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(deepcopy(cluster))
    pin = re.search(r"^ray\[.*\]==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pin
    for image in (prepared["docker"]["head_image"], prepared["docker"]["worker_image"]):
        assert image.startswith(f"rayproject/ray:{pin[1]}-py311-")
    commands = [command for name in prepared if name.endswith("_commands") for command in prepared[name]]
    assert not [command for command in commands if "wheel" in command or "nightly" in command]
    mounted = {remote: local for remote, local in prepared["file_mounts"].items() if local == "requirements.txt"}
    assert [f"-r {remote}" in prepared["setup_commands"][0] for remote in mounted] == [True]
    for node_type in prepared["available_node_types"].values():
        for field in ("ImageId", "SecurityGroupIds", "IamInstanceProfile"):
            assert "FILL-IN" in str(node_type["node_config"][field])


def test_a_training_asks_for_what_the_cluster_can_add(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head, gpu, cpu = types["head"]["resources"], types["gpu_worker"], types["cpu_worker"]
    most = {
        MAX_GPUS: gpu["max_workers"] * gpu["resources"]["GPU"],
        MAX_CPUS: cpu["max_workers"] * cpu["resources"]["CPU"],
    }
    assert head == {"CPU": 0, **most}
    assert gpu["max_workers"] + cpu["max_workers"] <= cluster["max_workers"]

    two, three, range_ = WorkerRange(2, 2), WorkerRange(3, 3), WorkerRange(1, 8)
    assert choose_resources(head, None, 64, is_own=False) == Resources(4, True, 1)
    assert choose_resources({"CPU": 0}, three, 64, is_own=False) == Resources(3, False, 1)
    assert choose_resources({"CPU": 8, "GPU": 2, MAX_GPUS: 4}, two, 64, is_own=False) == Resources(2, True, 1)
    assert choose_resources({"CPU": 8}, two, 64, is_own=True) == Resources(2, False, 4)
    assert choose_resources({"CPU": 16}, None, 5, is_own=False) == Resources(5, False, 1)
    assert choose_resources({"CPU": 16}, range_, 64, is_own=False) == Resources(8, False, 1, min_workers=1)
    assert choose_resources({"CPU": 4}, range_, 64, is_own=True) == Resources(4, False, 1)


@dataclass(frozen=True)
class Head:
    """A cluster of one node on this machine, with the environment for its clients."""

    address: str
    dashboard: str
    environment: dict[str, str]
    folder: Path

    def run(self, command: str, *arguments: str, **variables: str | None) -> "subprocess.Popen[str]":
        """Start a command in the repository, with environment variables set, or unset if None."""
        environment = {name: value for name, value in (self.environment | variables).items() if value is not None}
        return subprocess.Popen(
            [*shlex.split(command), *arguments],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def output(self, command: str, *arguments: str, **variables: str | None) -> tuple[str, int]:
        """Run a command to its end; return its output and exit status."""
        process = self.run(command, *arguments, **variables)
        output, _ = process.communicate(timeout=240)
        return output, process.returncode

    def ask(self, path: str, token: str = "", method: str = "GET") -> int:
        """Send a request to the dashboard; return its HTTP status, or 0 if nothing listens."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            request = urllib.request.Request(f"{self.dashboard}{path}", headers=headers, method=method)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:  # nothing listens yet
            return 0

    @property
    def token(self) -> str:
        return self.environment["RAY_AUTH_TOKEN"]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """The documented head, with its own ports, folder and token to keep it apart from other clusters of the machine."""
    # Not in pytest's folder, because the paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        environment |= {"HOME": folder, "OMP_WAIT_POLICY": "PASSIVE", "RAY_USAGE_STATS_ENABLED": "0"}
        environment["RAY_worker_niceness"] = "0"  # as in conftest.py
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        port, dashboard, agent, client = free_ports(4)
        environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
        head = Head(f"127.0.0.1:{port}", environment["RAY_API_SERVER_ADDRESS"], environment, Path(folder) / "ray")
        own = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        own += [f"--ray-client-server-port={client}", f"--temp-dir={head.folder}"]
        log = Path(folder) / "head.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*shlex.split(HEAD), *own],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + 120
            while head.ask("/api/jobs/", head.token) != 200:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield head
        finally:
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()


def verified(runs: Path, name: str) -> tuple[Run, int]:
    """Return a run, and the step of its newest checkpoint, whose files must be intact."""
    run = open_store(runs).run(name)
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    return run, checkpoint.step


def first_line(process: "subprocess.Popen[str]", start: str) -> str:
    """Return the first line of a process's output that begins so, without the beginning."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith(start):
            return line.removeprefix(start).strip()
    raise AssertionError(f"no line begins with {start!r}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_submitted_training_stops_on_request_goes_on_when_submitted_again_and_is_seen_in_the_app(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    command = [*RECIPE, "--epochs", "2", "--runs", str(runs)]

    first = head.run(SUBMIT, *command, "--workers", "1", "--no-wait")
    job, follow = first_line(first, "Submitted as ").rstrip("."), first_line(first, "  follow it: ")
    assert first.wait(timeout=30) == 0
    run, deadline = open_store(runs).run("forge"), time.monotonic() + 240
    while not (run.exists() and run.read_progress().step):
        assert time.monotonic() < deadline, head.output(follow)
        time.sleep(0.2)
    log = head.run(follow)
    assert head.ask(f"/api/jobs/{job}/stop", head.token, "POST") == 200  # the request of `ray job stop`
    output, _ = log.communicate(timeout=120)
    _, step = verified(runs, "forge")
    assert f"Stopped at step {step} of 120" in output
    assert "was stopped" in output

    # On two workers, by the plain command that stands for a submission.
    monkeypatch.chdir(ROOT)
    assert train_command(["submit", *command, "--workers", "2", "--address", head.dashboard, "--dry-run"]) == 0
    plain = next(line for line in capsys.readouterr().out.splitlines() if "ray job" in line)
    output, status = head.output(plain)
    assert status == 0, output
    assert f"Resuming run forge from step {step} of 120" in output
    assert "2 worker(s) with 1 CPU each" in output
    assert verified(runs, "forge")[1] == 120

    # The job received the code and the data, and nothing else.
    packages = list(head.folder.glob("session_latest/runtime_resources/working_dir_files/_ray_pkg_*/"))
    assert packages
    for package in packages:
        top = {path.name for path in package.iterdir()}
        assert top == {"data", "models", "requirements.txt", "trainer"}

    monkeypatch.setenv(RUNS_VARIABLE, str(runs))
    st.cache_data.clear()
    app = AppTest.from_file(str(ROOT / "webapp" / "app.py"), default_timeout=60)
    app.query_params["run"] = "runs/forge"
    app.run()
    assert not app.exception
    assert not app.error
    assert app.selectbox(key="scope.run").value == "runs/forge"
    assert app.selectbox(key="scope.step").value == 120


@pytest.mark.slow
def test_a_job_that_fails_gives_its_exit_status_and_one_line(head: Head, tmp_path: Path) -> None:
    (tmp_path / "forge").mkdir()
    (tmp_path / "forge" / "run.json").write_text("{}")
    output, status = head.output(SUBMIT, *RECIPE, "--runs", str(tmp_path))
    assert status == 2, output
    assert "run.json" in next(line for line in output.splitlines() if line.startswith("trainer: "))
    assert re.search(r"^Job forge-\d{8}-\d{6} failed", output, re.MULTILINE)
    assert "Traceback" not in output


@pytest.mark.slow
def test_ctrl_c_in_a_submission_leaves_the_job_and_says_how_to_follow_and_stop_it(head: Head, tmp_path: Path) -> None:
    submission = head.run(SUBMIT, *RECIPE, "--workers", "1", "--epochs", "2000", "--runs", str(tmp_path))
    job = first_line(submission, "Submitted as ").rstrip(".")
    submission.send_signal(signal.SIGINT)
    output, _ = submission.communicate(timeout=30)
    assert submission.returncode == 130
    assert "The job goes on" in output
    (stop,) = re.findall(r"stop it: +(.*)", output)
    output, status = head.output(stop)
    assert status == 0, output
    assert f"Job '{job}' was stopped" in output


@pytest.mark.slow
def test_ray_address_reaches_the_cluster_without_a_job(head: Head, tmp_path: Path) -> None:
    command = [*RECIPE, "--steps-per-epoch", "10", "--epochs", "2", "--workers", "1", "--runs", str(tmp_path)]
    training = head.run("python -m trainer", *command, RAY_ADDRESS=head.address)
    output, _ = training.communicate(timeout=240)
    assert training.returncode == 0, output
    assert f"Connecting to Ray at {head.address}" in output
    assert verified(tmp_path, "forge")[1] == 20


@pytest.mark.slow
def test_without_the_right_token_there_is_one_clear_line(head: Head, tmp_path: Path) -> None:
    assert head.ask("/api/jobs/") == 401
    assert head.ask("/api/jobs/", "wrong") == 403
    command = ["--epochs", "1", "--runs", str(tmp_path)]
    train = head.run("python -m trainer", *RECIPE, *command, RAY_ADDRESS=head.address, RAY_AUTH_TOKEN=None)
    processes = {
        "requires its token: put it into RAY_AUTH_TOKEN": head.run(SUBMIT, *RECIPE, *command, RAY_AUTH_TOKEN=None),
        "refuses the token: the cluster's own must be in RAY_AUTH_TOKEN": head.run(
            SUBMIT, *RECIPE, *command, RAY_AUTH_TOKEN="ab" * 32
        ),
        "no authentication token was found": train,
    }
    for message, process in processes.items():
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 2, output
        assert message in output.splitlines()[-1]
        assert output.splitlines()[-1].startswith("trainer")
        assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_an_address_where_no_ray_answers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [nobody] = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{nobody}")
    with pytest.raises(ValueError, match=f"Ray at 127.0.0.1:{nobody} cannot be reached: .*; check RAY_ADDRESS"):
        connect(8, None)
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{nobody}")
    assert train_command([*RECIPE, "--runs", str(tmp_path / "runs")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"trainer: RAY_ADDRESS=http://127.0.0.1:{nobody} is a dashboard")
    assert not list(tmp_path.iterdir())


def test_the_documented_commands_are_those_that_are_tested() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    for command in (HEAD, SUBMIT, PLAIN_SUBMIT):
        assert f"\n{command}" in text
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for block in blocks[:2]:
        assert "RAY_AUTH_MODE=token" in block
