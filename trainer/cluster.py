"""Connect to a Ray cluster, or start one on this machine, and choose the resources of a training."""

import logging
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from trainer.data import ROOT

MAX_GPUS, MAX_CPUS = "max_gpus", "max_cpus"
"""Custom resources of the head in ray_cluster.yaml: the number of GPUs and CPUs that the cluster can have in all."""
MAX_DEFAULT_WORKERS = 8
"""Maximum number of workers on CPUs if --workers is not given."""

ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave the processor to others
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers keep the folder, so relative paths stay valid
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
}
"""Environment variables of all processes of a training."""

OWN_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # this makes Ray listen on 127.0.0.1 only, on Linux too
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # Ray's default is 60; a lost GCS does not come back here
    # Processes for workers start while the rest of Ray does, and import meanwhile what takes longest.
    "RAY_preload_python_modules": "trainer.ray_worker",
}
"""Environment variables of a Ray cluster of our own on this machine."""


@dataclass(frozen=True)
class WorkerRange:
    """The numbers of workers that a training may have."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the range of `--workers`: `N`, or `MIN:MAX`; None for an empty text. Raises `ValueError`."""
        if not text:
            return None
        if not (match := re.fullmatch(r"(\d+)(?::(\d+))?", text)):
            raise ValueError(f"--workers must be a number, or MIN:MAX as in 1:8: got {text!r}")
        least, most = int(match[1]), int(match[2] or match[1])
        if not 1 <= least <= most:
            raise ValueError(f"--workers must be at least 1, and MIN at most MAX: got {text}")
        return cls(least, most)

    def __str__(self) -> str:
        return str(self.most) if self.least == self.most else f"{self.least}:{self.most}"


@dataclass(frozen=True)
class Resources:
    """The resources of a training."""

    workers: int
    """Number of workers; with `min_workers`, the largest number."""
    gpu: bool
    """Whether each worker has a GPU."""
    cpus_per_worker: int
    min_workers: int = 0
    """Smallest number of workers, if their number may change while the training runs; else 0."""

    @property
    def kind(self) -> str:
        """The resource that limits the number of workers: GPU or CPU."""
        return "GPU" if self.gpu else "CPU"

    @property
    def per_worker(self) -> dict[str, int]:
        """Resources of a worker, by Ray's names."""
        return {"CPU": self.cpus_per_worker, **({"GPU": 1} if self.gpu else {})}


def address_of_cluster() -> str:
    """Return RAY_ADDRESS, the address of an existing cluster; empty if Ray is to be started on this machine.

    Raises `ValueError` if it is the address of a dashboard.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("http"):
        raise ValueError(
            f"RAY_ADDRESS={address} is a dashboard: submit with `python -m trainer submit ... --address {address}`, or "
            "set it to the head's host:6379"
        )
    return address


def set_environment() -> None:
    """Set the environment variables of a training, before Ray is imported; all its processes inherit them.

    With a runtime_env instead, Ray would start each process twice.
    """
    os.environ |= ENVIRONMENT
    if not address_of_cluster():
        os.environ |= OWN_ENVIRONMENT | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def in_job() -> bool:
    """Return whether `ray job submit` started this process."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def connect(max_workers: int, workers: WorkerRange | None) -> Resources:
    """Connect to the cluster at RAY_ADDRESS, or start one on this machine; return the resources of the training.

    `set_environment` comes first. Raises `ValueError` if the cluster cannot be reached.
    """
    address = address_of_cluster()
    options = _options_of_existing(address) if address else _options_of_own(workers)
    import ray
    from ray.exceptions import AuthenticationError

    if not address:
        _lighten_ray()
    try:
        if address and (match := re.fullmatch(r"([^/]+):(\d+)", address)):
            # Without this check, Ray would retry for minutes if nothing answers.
            socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=10).close()
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **options)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "; check RAY_ADDRESS and RAY_AUTH_TOKEN" if address else ""
        raise ValueError(
            f"Ray at {address or 'this machine'} cannot be reached: {str(error).splitlines()[0]}{hint}"
        ) from error
    return choose_resources(ray.cluster_resources(), workers, max_workers, is_own=not address)


def _options_of_existing(address: str) -> dict[str, Any]:
    """Return the arguments of `ray.init` for the cluster at an address."""
    runtime: dict[str, Any] = {"env_vars": ENVIRONMENT}
    if not in_job():
        runtime["working_dir"] = str(ROOT)  # except files that .gitignore and .rayignore name
    return {"address": address, "runtime_env": runtime}


def _options_of_own(workers: WorkerRange | None) -> dict[str, Any]:
    """Return the arguments of `ray.init` for a cluster on this machine."""
    cpus = os.cpu_count() or 1
    return {"num_cpus": max(cpus, workers.least if workers else 1), "include_dashboard": False}


def _lighten_ray() -> None:
    """Start Ray without its autoscaler, log monitor and dashboard, which a cluster of one machine does not need.

    `ray.init` has no arguments for this; without `include_dashboard`, it starts a smaller one.
    """
    from ray._private import utils
    from ray._private.node import Node

    vars(utils)["get_dashboard_dependency_error"] = lambda: ImportError("its agent starts with fewer modules")
    for name in ("start_monitor", "start_log_monitor", "start_api_server"):
        setattr(Node, name, lambda node, **arguments: None)


def choose_resources(
    available: Mapping[str, float], workers: WorkerRange | None, max_workers: int, is_own: bool
) -> Resources:
    """Return the resources of a training in a cluster; with `is_own`, the workers share all CPUs."""
    # An autoscaled cluster may have no GPU yet; a resource of its head states how many it can add.
    gpus = max(int(available.get("GPU", 0)), int(available.get(MAX_GPUS, 0)))
    cpus = max(1, int(available.get("CPU", 1)))
    if workers is None:
        most = min(gpus or min(cpus, MAX_DEFAULT_WORKERS), max_workers)
        workers = WorkerRange(most, most)
    if is_own:  # its size does not change
        most = max(workers.least, min(workers.most, gpus or cpus))
        return Resources(most, gpus > 0, 1 if gpus else max(1, cpus // most))
    return Resources(workers.most, gpus > 0, 1, workers.least if workers.least < workers.most else 0)
