"""The workers of a training: the rank of this process, and all communication between workers."""

from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist
from torch import Tensor


class Share(NamedTuple):
    """A worker's rows of a batch that all workers share."""

    rows: slice
    batch_size: int
    """Number of rows of the whole batch."""

    @property
    def size(self) -> int:
        """Number of this worker's rows."""
        start, stop = self.rows.start, self.rows.stop
        return int(stop - start)


@dataclass(frozen=True)
class Workers:
    """This process among the workers of its process group; a process without a group is the only worker."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Self:
        """Return the workers of the current process group, after `release_default_group`."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        release_default_group()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, batch_size: int, group_size: int = 1) -> Share:
        """Return this worker's rows of a batch: whole groups, divided among the workers as evenly as possible."""
        groups = batch_size // group_size
        first, last = (groups * rank // self.count * group_size for rank in (self.rank, self.rank + 1))
        return Share(slice(first, last), batch_size)

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Sum each tensor over all workers, with one all-reduce for all of them.

        PyTorch's DistributedDataParallel cannot replace this: with two networks and gradient penalties it misses
        gradients without an error.
        """
        if self.count == 1:
            return tensors
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def from_rank_zero(self, value: Any) -> Any:
        """Return rank 0's value on all workers."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def check_equal(self, value: object, what: str) -> None:
        """Raise `RuntimeError` unless all workers pass the same value."""
        values: list[Any] = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        if any(other != value for other in values):
            raise RuntimeError(f"the workers disagree on {what}: {values}")


def release_default_group() -> None:
    """Remove the default process group from PyTorch's default arguments, so that it can be destroyed.

    `torch.distributed.nn.functional`, which the first optimizer imports, has `dist.group.WORLD` as a default argument
    of its functions. If it is imported after the group was created, as in Ray's workers, it keeps the group and its
    threads alive after `dist.destroy_process_group`, until the interpreter shuts down. A thread that still releases a
    tensor then aborts the process with "terminate called without an active exception". The default None means the same
    group: the one that exists at the call.
    """
    from torch.distributed.nn import functional

    for function in vars(functional).values():
        if isinstance(function, FunctionType) and function.__defaults__:
            defaults = (None if isinstance(value, dist.ProcessGroup) else value for value in function.__defaults__)
            function.__defaults__ = tuple(defaults)
