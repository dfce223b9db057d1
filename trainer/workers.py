"""The workers of a training: the rank of this process, and all communication between workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.host_memory import HostMemory


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
    memory: HostMemory | None = None
    """The memory that all workers share; None if they do not."""

    @classmethod
    def here(cls) -> Self:
        """Return the workers of the current process group, after `release_default_group`."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        release_default_group()
        return cls(dist.get_rank(), dist.get_world_size())

    def sharing_memory(self, device: torch.device) -> Self:
        """Return these workers with a memory that they share, if they compute on the processors of one host.

        All workers must call this.
        """
        if self.count == 1 or device.type != "cpu":
            return self
        return replace(self, memory=HostMemory.connect(self.rank, self.gather))

    def leave(self) -> None:
        """Disconnect from the shared memory, whose tensors stay usable. Workers that still wait get an error."""
        if self.memory:
            self.memory.close()

    def share(self, batch_size: int, group_size: int = 1) -> Share:
        """Return this worker's rows of a batch: whole groups, divided among the workers as evenly as possible."""
        groups = batch_size // group_size
        first, last = (groups * rank // self.count * group_size for rank in (self.rank, self.rank + 1))
        return Share(slice(first, last), batch_size)

    def part(self, size: int, group_size: int = 1) -> slice:
        """Return the part of a tensor (size,) that this worker computes: its share in shared memory, else all."""
        return self.share(size, group_size).rows if self.memory else slice(0, size)

    def zeros(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return zeros in the memory that all workers share, else in this worker's own."""
        return self.memory.tensor(shape, like.dtype) if self.memory else like.new_zeros(shape, requires_grad=False)

    def wait(self) -> None:
        """Wait until all workers have called this, if they share memory: what they wrote is visible afterwards."""
        if self.memory:
            self.memory.wait()

    def add(self, row: Tensor) -> None:
        """Sum a tensor over the workers in place; if it lies in shared memory, only wait until it can be summed there.

        PyTorch's DistributedDataParallel cannot replace this: with two networks and gradient penalties it misses
        gradients without an error.
        """
        if self.memory:
            self.memory.wait()
        elif self.count > 1:
            dist.all_reduce(row)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all workers."""
        total = tensor.clone()
        if self.count > 1:
            dist.all_reduce(total)
        return total

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all workers, by rank."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def from_rank_zero(self, value: Any) -> Any:
        """Return rank 0's value on all workers."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def check_equal(self, value: object, what: str) -> None:
        """Raise `RuntimeError` unless all workers pass the same value."""
        values = self.gather(value)
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
