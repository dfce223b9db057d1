"""Memory that the workers of one host share, and the point where they wait for each other.

Workers exchange some megabytes in each step. Between processes of one host, shared memory does this several times
faster than the network stack. The memory has no name in the file system, and the sockets have abstract names, so the
kernel frees both when the last worker ends, however it ends.
"""

import hmac
import math
import mmap
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

WAIT_SECONDS = 30.0
"""Seconds after which a worker that does not answer counts as lost."""


class HostMemory:
    """Shared memory of the workers of one host. All workers must call the same methods in the same order."""

    def __init__(self, rank: int, peers: dict[int, socket.socket]) -> None:
        self.rank, self.peers = rank, peers
        for peer in peers.values():
            peer.settimeout(WAIT_SECONDS)

    @classmethod
    def connect(cls, rank: int, gather: Callable[[Any], list[Any]]) -> Self | None:
        """Connect all workers with each other; return None on all of them if they are not on one host with Linux.

        `gather` returns the values of all workers, by rank.
        """
        if sys.platform != "linux":
            return None
        name, secret = f"\0digitforge-{secrets.token_hex(16)}", secrets.token_bytes(32)
        peers: dict[int, socket.socket] = {}
        with _socket() as listener:
            listener.bind(name)
            listener.listen(socket.SOMAXCONN)
            others = gather((name, secret))
            # An abstract name is known only on its host, so connections succeed if and only if all are on one host.
            try:
                for other in range(rank):
                    peers[other] = _socket()
                    peers[other].connect(others[other][0])
                    peers[other].send(others[other][1] + rank.to_bytes(4))
                connected = True
            except OSError:
                connected = False
            if not all(gather(connected)):
                for peer in peers.values():
                    peer.close()
                return None
            while len(peers) < len(others) - 1:  # the connections of the other ranks are in the queue already
                peer, _ = listener.accept()
                peer.settimeout(WAIT_SECONDS)
                hello = peer.recv(len(secret) + 4)
                if hmac.compare_digest(hello[: len(secret)], secret):
                    peers[int.from_bytes(hello[len(secret) :])] = peer
                else:  # not a worker: every process of the host can see the name
                    peer.close()
        return cls(rank, peers)

    def tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a new tensor of zeros that all workers see. Raises `RuntimeError` as `wait` does."""
        size = math.prod(shape) * dtype.itemsize
        if self.rank == 0:
            file = os.memfd_create("digitforge")
            os.posix_fallocate(file, 0, size)
            for other, peer in self.peers.items():
                with _answers(other):
                    socket.send_fds(peer, [b"\0"], [file])
        else:
            with _answers(0):
                _, files, *_ = socket.recv_fds(self.peers[0], 1, 1)
                if not files:
                    raise ConnectionResetError
            file = files[0]
        try:
            return torch.frombuffer(mmap.mmap(file, size), dtype=dtype).view(*shape)
        finally:
            os.close(file)

    def wait(self) -> None:
        """Wait until all workers have called this. Each sees what the others wrote before.

        Raises `RuntimeError` when a worker has ended, or has not answered for `WAIT_SECONDS`.
        """
        for other, peer in self.peers.items():
            with _answers(other):
                peer.send(b"\0")
        for other, peer in self.peers.items():
            with _answers(other):
                if not peer.recv(1):
                    raise ConnectionResetError

    def close(self) -> None:
        """Close the connections. Tensors stay usable."""
        for peer in self.peers.values():
            peer.close()


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@contextmanager
def _answers(rank: int) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise RuntimeError(f"worker {rank} has not answered for {WAIT_SECONDS:.0f} s") from error
    except OSError as error:
        raise RuntimeError(f"worker {rank} has ended") from error
