"""A training over a real network: nodes of Ray in network namespaces, with cables that are pulled."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks import chaos
from trainer.run_store import Run, open_store

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(900)]

STEPS = 300
LIMIT = "tbf rate 20mbit burst 64kb latency 400ms"
"""The rate of a slow network, for `tc`."""
RECIPE = [*chaos.RECIPE[:-4], "--checkpoint-every", "20", "--steps-per-epoch", "100", "--epochs", str(STEPS // 100)]


class Network:
    """Hosts on one switch, each a network namespace with an address of its own. Host 0 is the head of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tag = folder, secrets.token_hex(2)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment |= {"OMP_WAIT_POLICY": "PASSIVE", "RAY_USAGE_STATS_ENABLED": "0", "HOME": str(folder)}
        self.environment |= {"DIGITFORGE_FAULTS": str(folder), "PYTHONPATH": str(chaos.ROOT / "tests" / "injector")}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}

    def host(self, number: int) -> str:
        """Return the name of a host's namespace; -1 is the switch."""
        return f"df{self.tag}-{'switch' if number < 0 else number}"

    def address(self, number: int) -> str:
        """Return the address of a host."""
        return f"10.77.0.{number + 1}"

    def build(self, hosts: int) -> None:
        """Make the switch and the hosts."""
        ip("netns", "add", self.host(-1))
        self.run(-1, "ip", "link", "add", "bridge", "type", "bridge")
        self.run(-1, "ip", "link", "set", "bridge", "up")
        for number in range(hosts):
            ip("netns", "add", self.host(number))
            port = f"port{number}"
            self.run(-1, "ip", "link", "add", port, "type", "veth", "peer", "eth0", "netns", self.host(number))
            self.run(-1, "ip", "link", "set", port, "master", "bridge", "up")
            self.run(number, "ip", "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self.run(number, "ip", "link", "set", device, "up")

    def run(self, number: int, *command: str) -> None:
        """Run a command on a host."""
        subprocess.run(["ip", "netns", "exec", self.host(number), *command], check=True, capture_output=True)

    def start(self, number: int, *command: str) -> "subprocess.Popen[str]":
        """Start a command on a host."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.host(number), *command],
            cwd=chaos.ROOT,
            env=self.environment | {"RAY_ADDRESS": f"{self.address(0)}:6379"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def start_ray(self, number: int) -> None:
        """Start the node of Ray on a host: the head without processors for workers, or a node with one."""
        command = ["ray", "start", f"--node-ip-address={self.address(number)}", "--block"]
        if number == 0:
            command += ["--head", "--port=6379", "--num-cpus=0", f"--temp-dir={self.folder / 'ray'}"]
            command += ["--include-dashboard=false"]
        else:
            command += [f"--address={self.address(0)}:6379", "--num-cpus=1"]
        log = (self.folder / f"node{number}.log").open("wb")
        self.nodes[number] = subprocess.Popen(
            ["ip", "netns", "exec", self.host(number), *command],
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in (text := Path(log.name).read_text()):
            assert self.nodes[number].poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)

    def pull_cable(self, number: int) -> None:
        """Cut a host off."""
        self.run(-1, "ip", "link", "set", f"port{number}", "down")

    def plug_cable_in(self, number: int) -> None:
        """Connect a host again."""
        self.run(-1, "ip", "link", "set", f"port{number}", "up")

    def remove(self) -> None:
        """End all processes on the hosts, and remove these."""
        names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        for name in [line.split()[0] for line in names.splitlines() if line.startswith(f"df{self.tag}-")]:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True).stdout
            for pid in pids.split():
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(int(pid)).kill()
            ip("netns", "delete", name)
        for node in self.nodes.values():
            node.wait()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    """A head and two nodes with a processor each."""
    # Not in pytest's folder, because the paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        network = Network(Path(folder))
        try:
            network.build(3)
        except (OSError, subprocess.CalledProcessError) as error:
            network.remove()
            if os.environ.get("CI"):
                pytest.fail(f"network namespaces cannot be made: {error}")
            pytest.skip(f"network namespaces cannot be made: {error}")
        try:
            for number in range(3):
                network.start_ray(number)
            yield network
        finally:
            network.remove()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return chaos.train_undisturbed(tmp_path_factory.mktemp("undisturbed"), STEPS)


def train(network: Network, runs: Path, workers: str) -> "tuple[subprocess.Popen[str], Run]":
    command = [sys.executable, "-m", "trainer", *RECIPE, "--workers", workers, "--runs", str(runs)]
    return network.start(0, *command), open_store(runs).run("forge")


def wait_for_step(process: "subprocess.Popen[str]", run: Run, step: int) -> None:
    deadline = time.monotonic() + 240
    while chaos.step_of(run) < step:
        assert process.poll() is None, process.communicate()[0]
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no step {step}: {process.communicate()[0]}")
        time.sleep(0.1)


def assert_equal(run: Run, undisturbed: Run) -> None:
    """Compare the losses; the number of workers may have changed, so they agree up to rounding."""
    for epoch in range(1, STEPS // 100 + 1):
        mine, others = run.read_losses(epoch), undisturbed.read_losses(epoch)
        for name in ("step", "d_loss", "g_loss"):
            assert mine[name] == pytest.approx(others[name], rel=1e-6), (name, epoch)


@pytest.mark.parametrize("seconds", [5, 30, 120])
def test_a_cable_that_is_pulled_costs_time_and_nothing_else(
    network: Network, undisturbed: Run, tmp_path: Path, seconds: int
) -> None:
    process, run = train(network, tmp_path, "1:2")
    wait_for_step(process, run, 60)
    network.pull_cable(2)
    time.sleep(seconds)
    network.plug_cable_in(2)
    time.sleep(5)
    if network.nodes[2].poll() is not None:  # the cluster has given the node up, and so it has ended
        network.start_ray(2)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert_equal(run, undisturbed)
    if seconds == 5:
        assert "goes on from" not in output


def test_a_slow_network_only_slows_a_training_down(network: Network, undisturbed: Run, tmp_path: Path) -> None:
    network.run(
        2, *["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "20mbit", "burst", "64kb", "latency", "400ms"]
    )
    process, run = train(network, tmp_path, "2")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "goes on from" not in output
    assert_equal(run, undisturbed)


def test_a_node_that_joins_makes_one_worker_two(network: Network, undisturbed: Run, tmp_path: Path) -> None:
    network.nodes.pop(2).send_signal(signal.SIGTERM)
    time.sleep(5)
    (network.folder / "0-40-wait").touch()
    process, run = train(network, tmp_path, "1:2")
    wait_for_step(process, run, 40)
    assert run.read_progress().world_size == 1
    network.start_ray(2)
    time.sleep(20)  # Ray Train looks for new nodes every 15 s
    (network.folder / "40.go").touch()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "2 worker(s) train again" in output
    assert_equal(run, undisturbed)


def test_a_lost_node_is_waited_for_where_the_training_cannot_go_on_without_it(
    network: Network, undisturbed: Run, tmp_path: Path
) -> None:
    process, run = train(network, tmp_path, "2")
    wait_for_step(process, run, 60)
    network.nodes.pop(2).send_signal(signal.SIGKILL)
    for pid in subprocess.check_output(["ip", "netns", "pids", network.host(2)], text=True).split():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(int(pid)).kill()
    deadline = time.monotonic() + 120
    while not (message := run.read_progress().message).startswith("Waiting: "):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, message
        time.sleep(0.2)
    time.sleep(60)  # longer than what a training waits for that has not begun
    network.start_ray(2)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "2 worker(s) train again" in output
    assert_equal(run, undisturbed)


DRAIN = """
import sys, ray
from ray._raylet import GcsClient
ray.init(address=sys.argv[1], logging_level="ERROR")
(node,) = [node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] == sys.argv[2] and node["Alive"]]
print(GcsClient(address=sys.argv[1]).drain_node(node, 2, "a test", int(sys.argv[3])))
"""
"""Drains the node with an address: 2 is the reason `preemption`, the number its deadline in milliseconds since 1970."""


def test_a_node_that_is_about_to_be_taken_away_costs_no_step(
    network: Network, undisturbed: Run, tmp_path: Path
) -> None:
    process, run = train(network, tmp_path, "1:2")
    wait_for_step(process, run, 60)
    deadline = str(int(1000 * (time.time() + 60)))
    drain = network.start(0, sys.executable, "-c", DRAIN, f"{network.address(0)}:6379", network.address(2), deadline)
    assert "True" in drain.communicate(timeout=60)[0]
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    (line,) = [line for line in output.splitlines() if "goes on from" in line]
    assert line.startswith("The workers have left after a checkpoint")
    assert_equal(run, undisturbed)


def test_more_workers_than_the_cluster_has_are_an_error_within_a_minute(network: Network, tmp_path: Path) -> None:
    begun = time.monotonic()
    process, _ = train(network, tmp_path, "3")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Training failed: the cluster has 2 CPUs, and the training needs 3" in output, output
    assert time.monotonic() - begun < 90  # 60 on a machine with nothing else to do


def test_ctrl_c_ends_a_wait_for_nodes(network: Network, tmp_path: Path) -> None:
    process, _ = train(network, tmp_path, "3")
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Waiting: "):
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
