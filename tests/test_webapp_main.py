"""`python -m webapp` as a process: its messages, invalid input, and that it leaves no processes running."""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sample_run import being_trained, run_record, write_run
from trainer.recipes import RECIPES
from trainer.run_store import Progress, open_store
from webapp import training_child
from webapp.__main__ import main
from webapp.environment import HOSTS_VARIABLE, PUBLIC_URL_VARIABLE, RUNS_VARIABLE
from webapp.training_child import TrainingChild, choose_run_name

ROOT = Path(__file__).resolve().parent.parent


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "webapp", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "abc"], "a port is a number from 0 to 65535"),
        (["--port", "70000"], "a port is a number from 0 to 65535"),
        (["--train", "../forge"], "is not a recipe's name"),
        (["--host", "no.such.host.invalid"], "cannot serve on no.such.host.invalid"),
        (["--colour", "red"], "unrecognized arguments"),
        (["--public-url", "lab.example"], "a public URL has a scheme"),
        (["--public-url", "https://lab.example/?a=1"], "a public URL has a scheme"),
        (["--public-url", "https://user@lab.example"], "a public URL has a scheme"),
        (["--public-url", "https://lab.example:x"], "a public URL has a scheme"),
        (["--allow-training", "--port", "0", "--host", "0.0.0.0"], "--allow-training serves this machine alone"),
        (["--allow-training", "--port", "0", "--allow-host", "lab.example"], "goes with neither --allow-host nor"),
        (["--allow-training", "--port", "0", "--public-url", "https://lab.example"], "nor --public-url"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (RUNS_VARIABLE, HOSTS_VARIABLE, PUBLIC_URL_VARIABLE):
        monkeypatch.setenv(name, "")  # main sets them
    monkeypatch.setattr(sys, "argv", ["webapp", *arguments])
    try:
        status: object = main()
    except SystemExit as end:
        status = end.code
    assert status in (1, 2)
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.err.count("\n") == 1
    assert not streams.out


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start(PORT=port)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"127.0.0.1:{port}" in output
    assert "--port" in output
    assert len(output.strip().splitlines()) == 1


# --- Serving


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "warnings", "end"), [("127.0.0.1", 0, signal.SIGINT), ("0.0.0.0", 1, signal.SIGHUP)], ids=["own", "all"]
)
def test_it_serves_says_where_and_whether_others_can_reach_it_and_ends(
    tmp_path: Path, host: str, warnings: int, end: signal.Signals
) -> None:
    write_run(tmp_path, epochs=1, total_epochs=1)
    process = start("--host", host, "--port", "0", "--runs", str(tmp_path))
    try:
        *before, url = lines_until_url(process)
        assert len([line for line in before if "no password" in line]) == warnings
        headers = answer(f"{url}/healthz").headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        check_samples_route(url, open_store(tmp_path).run("quick-1").read_run().started)
    finally:
        process.send_signal(end)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_training_that_fails_shows_why_and_the_app_goes_on(tmp_path: Path) -> None:
    process = start("--port", "0", "--runs", str(tmp_path), "--train", "no-such-recipe")
    try:
        url = url_of(process)
        assert process.stdout
        output = next(line for line in process.stdout if "exit code" in line)
        assert answer(f"{url}/healthz").status == 200
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=30)
    assert "no-such-recipe-1" in output
    assert "no-such-recipe" in rest  # from the last lines of the trainer's output
    assert process.returncode == 0


@pytest.mark.slow
def test_a_run_that_the_trainer_refuses_to_go_on_with_gets_a_successor(tmp_path: Path) -> None:
    config = dataclasses.replace(RECIPES["quick"].config, g_lr=0.5)
    run = open_store(tmp_path).run("quick-1")
    run.create(run_record(config=config.to_dict()))
    run.write_progress(Progress(phase="stopped"))
    before = run.read_run()
    process = start("--port", "0", "--runs", str(tmp_path), "--train", "quick")
    try:
        url_of(process)
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Training quick-2 on two workers" in line:
                break
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert "Training quick-1 on two workers" in lines[-3]
    assert re.search("quick-1 cannot be resumed, .* exists with another config .g_lr: 0.5", lines[-2])
    assert process.returncode == 0
    assert run.read_run() == before


def lines_until_url(process: "subprocess.Popen[str]") -> list[str]:
    """Return the lines that the process prints until the app answers, and in place of the last one the URL in it."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        if found := re.search(r"http://localhost:\d+", line):
            return [*lines, found[0]]
        lines.append(line)
    raise AssertionError("it ended without an address")


def url_of(process: "subprocess.Popen[str]") -> str:
    """Return the URL that the process prints as soon as the app answers."""
    return lines_until_url(process)[-1]


def answer(url: str):
    return urllib.request.urlopen(url, timeout=10)


def check_samples_route(url: str, started: float) -> None:
    good = f"run=runs/quick-1&started={started!r}&epoch=1"
    with answer(f"{url}/api/v1/samples.png?{good}") as response:
        assert response.read().startswith(b"\x89PNG")
        assert "immutable" in response.headers["Cache-Control"]
    for bad in ("run=runs/../quick-1", "run=/etc/passwd", "epoch=../1", "epoch=01", "epoch=7", "started=1"):
        name = bad.partition("=")[0]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            answer(f"{url}/api/v1/samples.png?{re.sub(rf'{name}=[^&]*', bad, good)}")


# --- The training in a child process


def child(tmp_path: Path, script: str) -> TrainingChild:
    """Start a script in place of a training. It creates the file `ready` when it has started."""
    head = f"import os, pathlib, signal, subprocess, sys, time\nready = pathlib.Path({str(tmp_path / 'ready')!r})\n"
    return TrainingChild([sys.executable, "-c", head + script], tmp_path / "child.log")


WAIT = "ready.touch()\nwhile True: time.sleep(0.05)\n"


def wait_ready(tmp_path: Path) -> None:
    wait_for((tmp_path / "ready").exists)


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_child_gets_one_interrupt_and_time_to_end(tmp_path: Path, said: list[str]) -> None:
    script = (
        "signals = []\n"
        "signal.signal(signal.SIGINT, lambda number, _: signals.append(number))\n"
        "ready.touch()\n"
        "while not signals: time.sleep(0.02)\n"
        "time.sleep(0.5)\n"
        "waiting, own_session = os.environ['OMP_WAIT_POLICY'], os.getsid(0) == os.getpid()\n"
        "print('checkpoint written', len(signals), os.nice(0), waiting, own_session)"
    )
    training = child(tmp_path, script)
    wait_ready(tmp_path)
    training.stop(said.append)
    assert training.exit_code() == 0
    expected = f"checkpoint written 1 {os.nice(0) + training_child.NICENESS} PASSIVE True"
    assert training.last_lines(1) == expected
    assert len(said) == 1


def test_a_child_that_was_asked_to_stop_is_not_asked_again(tmp_path: Path, said: list[str]) -> None:
    script = (
        "signals = []\n"
        "signal.signal(signal.SIGINT, lambda number, _: signals.append(number))\n"
        "ready.touch()\n"
        "while not signals: time.sleep(0.02)\n"
        "time.sleep(1)\n"
        "print('trainer: stopped after', len(signals), 'signal')\n"
        "print('more')"
    )
    training = child(tmp_path, script)
    wait_ready(tmp_path)
    training.interrupt()
    training.interrupt()
    training.stop(said.append)
    assert training.exit_code() == 0
    assert training.reason() == "trainer: stopped after 1 signal"
    assert training.workers() == []


def test_a_child_that_ignores_signals_is_killed_with_its_children(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_child, "STAGES", ((signal.SIGINT, 0.2), (signal.SIGTERM, 0.2), (signal.SIGKILL, 5.0)))
    script = (
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "own_group = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], process_group=0)\n"
        "print(own_group.pid, flush=True)\n" + WAIT
    )
    training = child(tmp_path, script)
    wait_ready(tmp_path)
    grandchild = int(training.last_lines(1))
    training.stop(said.append)
    assert training.exit_code() == -signal.SIGKILL
    wait_for(lambda: not is_running(grandchild))


def test_processes_that_a_crashed_child_leaves_are_killed(tmp_path: Path, said: list[str]) -> None:
    script = (
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(left.pid, flush=True)\n"
        "raise SystemExit('no such recipe')"
    )
    training = child(tmp_path, script)
    wait_for(lambda: training.exit_code() is not None)
    assert training.exit_code() == 1
    pid, reason = training.last_lines(2).splitlines()
    assert reason == "no such recipe"
    training.stop(said.append)
    wait_for(lambda: not is_running(int(pid)))
    assert not said


def test_a_second_request_ends_the_wait_for_the_child(tmp_path: Path, said: list[str]) -> None:
    training = child(tmp_path, "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAIT)
    wait_ready(tmp_path)
    before = signal.signal(signal.SIGALRM, lambda *_: training.hurry())
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        began = time.monotonic()
        training.stop(said.append)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 10  # not the 20 s of the first stage
    assert training.exit_code() == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from webapp.training_child import TrainingChild\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"training = TrainingChild(command, Path({str(tmp_path / 'log')!r}))\n"
        "print(training.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(pid))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("phases", "name"),
    [
        ({}, "quick-1"),
        ({"quick-1": ("finished", 0)}, "quick-2"),
        ({"quick-1": ("stopped", 0)}, "quick-1"),
        ({"quick-1": ("failed", 0)}, "quick-1"),
        ({"quick-1": ("training", 3600)}, "quick-1"),  # killed long ago
        ({"quick-1": ("training", 0)}, "quick-1"),  # killed a moment ago
        ({"quick-1": ("stopped", 0), "quick-2": ("finished", 0)}, "quick-3"),
        ({"quick-2": ("finished", 0), "quick-10": ("stopped", 0), "forge": ("stopped", 0)}, "quick-10"),
        ({"quick-x": ("stopped", 0), "quick-01": ("stopped", 0)}, "quick-1"),
        ({"quick-1": (None, 0)}, "quick-1"),
    ],
)
def test_a_demo_resumes_what_is_unfinished(store: Path, phases: dict[str, tuple], name: str) -> None:
    for run_name, (phase, age) in phases.items():
        run = open_store(store).run(run_name)
        run.create(run_record())
        if phase:
            run.write_progress(Progress(phase=phase, heartbeat=time.time() - age))
    assert choose_run_name(open_store(store), "quick") == name


def test_a_demo_starts_a_new_run_in_place_of_one_that_cannot_go_on(store: Path) -> None:
    open_store(store).run("quick-3").create(run_record())
    assert choose_run_name(open_store(store), "quick") == "quick-3"
    assert choose_run_name(open_store(store), "quick", resume=False) == "quick-4"


def test_a_demo_leaves_a_run_alone_that_another_one_trains(store: Path) -> None:
    run = open_store(store).run("quick-1")
    run.create(run_record())
    with being_trained(run):
        assert choose_run_name(open_store(store), "quick") == "quick-2"
