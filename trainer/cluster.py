"""Connect to a Ray cluster, or start one on this machine, and choose the resources of a training."""

import logging
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.config import TrainConfig
from trainer.data import ROOT

MAX_GPUS = "max_gpus"
"""Custom resource of the head in ray_cluster.yaml: the number of GPUs that the cluster can add on demand."""
MAX_DEFAULT_WORKERS = 8
"""Maximum number of workers on CPUs if --workers is not given."""

ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave the processor to others
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # Ray's default of 2 s delays the reports of short epochs
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers keep the folder, so relative paths stay valid
}
"""Environment variables of all processes of a training."""


@dataclass(frozen=True)
class Resources:
    """The resources of a training."""

    workers: int
    gpu: bool
    """Whether each worker has a GPU."""
    cpus_per_worker: int


def in_job() -> bool:
    """Return whether `ray job submit` started this process."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def connect(config: TrainConfig, workers: int | None) -> Resources:
    """Connect to the cluster at RAY_ADDRESS, or start one on this machine; return the resources of the training.

    Raises `ValueError` if the cluster cannot be reached.
    """
    address = os.environ.get("RAY_ADDRESS")
    if address and address.startswith("http"):
        raise ValueError(
            f"RAY_ADDRESS={address} is a dashboard: submit with `ray job submit --address {address} --working-dir . -- "
            "python -m trainer ...`, or set it to the head's host:6379"
        )
    os.environ |= ENVIRONMENT
    options = _options_of_existing(address) if address else _options_of_own(workers)
    print(f"Connecting to Ray at {address} ..." if address else "Starting Ray on this machine ...", flush=True)
    import ray
    from ray.exceptions import AuthenticationError

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
    return choose_resources(ray.cluster_resources(), workers, config.max_workers, is_own=not address)


def _options_of_existing(address: str) -> dict[str, Any]:
    """Return the arguments of `ray.init` for the cluster at an address."""
    runtime: dict[str, Any] = {"env_vars": ENVIRONMENT}
    if not in_job():
        runtime["working_dir"] = str(ROOT)  # except files that .gitignore and .rayignore name
    return {"address": address, "runtime_env": runtime}


def _options_of_own(workers: int | None) -> dict[str, Any]:
    """Set the environment for a cluster on this machine; return its arguments of `ray.init`.

    A random token protects Ray's protocol. Some other ports need no token (docs/cluster.md).
    """
    # The cluster's processes inherit this environment. With a runtime_env instead, Ray would start each process twice.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"num_cpus": max(os.cpu_count() or 1, workers or 1), "include_dashboard": False}


def choose_resources(available: Mapping[str, float], workers: int | None, max_workers: int, is_own: bool) -> Resources:
    """Return the resources of a training in a cluster; with `is_own`, the workers share all CPUs."""
    # An autoscaled cluster may have no GPU yet; a resource of its head states how many it can add.
    gpus = max(int(available.get("GPU", 0)), int(available.get(MAX_GPUS, 0)))
    cpus = max(1, int(available.get("CPU", 1)))
    if workers is None:
        workers = min(gpus or min(cpus, MAX_DEFAULT_WORKERS), max_workers)
    kind = "GPU" if gpus else "CPU"
    if workers > (now := int(available.get(kind, 0))):
        print(f"The cluster has {now} {kind}s now; waiting until it has {workers}.", flush=True)
    return Resources(workers, gpus > 0, max(1, cpus // workers) if is_own and not gpus else 1)
