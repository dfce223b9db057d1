"""The functions that Ray runs on each worker: joining the process group, and the training loop."""

import ipaddress
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import torch
import torch.distributed as dist

from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import TrainConfig, Upkeep
from trainer.endings import LeavingError
from trainer.host_memory import WAIT_SECONDS
from trainer.order import Order
from trainer.recorder import Recorder
from trainer.run_store import Manifest
from trainer.train_loop import train
from trainer.workers import Workers

JOIN_SECONDS = 60
"""Maximum seconds that a worker waits for the others to join the group."""


@dataclass(frozen=True)
class Meeting:
    """Where the workers of a group meet: rank 0 listens on this address and port."""

    host: str
    port: int
    handle: int
    """File descriptor of the listening socket in the process of rank 0."""


def invite() -> Meeting:
    """Listen on the address of this node, as rank 0; return the meeting for all workers."""
    import ray

    host = ray.util.get_node_ip_address()
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    return Meeting(host, listener.getsockname()[1], listener.detach())


def join(meeting: Meeting, rank: int, count: int, backend: str) -> None:
    """Join the process group of all workers. PyTorch's own way would listen on all network interfaces."""
    import ray

    if dist.is_initialized():
        dist.destroy_process_group()
    os.environ["GLOO_SOCKET_IFNAME"] = _interface_of(ray.util.get_node_ip_address())
    store = dist.TCPStore(
        meeting.host,
        meeting.port,
        count,
        is_master=rank == 0,
        timeout=timedelta(seconds=JOIN_SECONDS),
        master_listen_fd=meeting.handle if rank == 0 else None,
        use_libuv=True,
    )
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timedelta(seconds=WAIT_SECONDS))


def _interface_of(address: str) -> str:
    """Return the name of the network interface with this address."""
    wanted = ipaddress.ip_address(address)
    for name, entries in psutil.net_if_addrs().items():
        found = [each.address.partition("%")[0] for each in entries if each.family in (socket.AF_INET, socket.AF_INET6)]
        if wanted in map(ipaddress.ip_address, found):
            return name
    raise RuntimeError(f"no network interface has the address {address}")


def train_on_worker(order: Order, threads: int) -> dict[str, Any] | None:
    """Train as ordered on a worker of Ray, with this number of threads.

    Returns on rank 0 how the training ended, as `phase` and `step` of its progress; None on the others.
    """
    config, upkeep = TrainConfig.from_dict(order.config), Upkeep(**order.upkeep)
    run = order.open_run()
    torch.set_num_threads(threads)
    # TF32 on GPUs that have it
    torch.set_float32_matmul_precision("highest" if config.precision == "full" else "high")
    torch.backends.cudnn.allow_tf32 = config.precision != "full"
    workers = Workers.here()
    with ExitStack() as stack:
        recorder, writer = None, None
        if workers.rank == 0:
            recorder = stack.enter_context(Recorder(run, order.launch_id, upkeep.keep_generators))
            writer = stack.enter_context(CheckpointWriter(run, upkeep))

        def report(manifest: Manifest, files: dict[str, bytes] | None) -> None:
            if writer and files:
                writer.store(manifest, files)

        phase = train(config, upkeep, run, report, recorder, _device(), order.cpu_minutes)
        if writer:
            writer.flush()
        if phase == "restarting":
            workers.from_rank_zero(None)  # all wait for the checkpoint, because Ray ends all when the first one ends
            raise LeavingError("the workers have stored a checkpoint and left")
    return {"phase": phase, "step": recorder.progress.step} if recorder else None


def _device() -> torch.device:
    """Return the device of this worker."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    from ray.train.torch import get_device

    device: torch.device = get_device()
    return device
