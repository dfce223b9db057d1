"""FlatOptimizer: the optimizer of a network whose parameters lie in one tensor, of which each worker updates a part.

Workers that share memory divide the update: each sums the gradients of its part, updates the parameters there, and all
see the result. Other workers sum the whole gradient with an all-reduce and update everything. Both ways give what an
optimizer of the separate parameters would give.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainer.workers import Workers

ALIGNMENT = 16
"""Number of elements to whose multiples each parameter is aligned: 64 bytes in float32, as PyTorch aligns tensors."""
CHUNK_BYTES = 2**18
"""Size of the chunks in which a worker updates its part. Adam passes over its tensors several times: in chunks it is
1.5 times as fast, because what it reads of one fits into the cache of a core."""


class FlatOptimizer:
    """An optimizer of PyTorch for a network whose parameters are moved into one tensor `values` (n,)."""

    def __init__(
        self,
        network: nn.Module,
        make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        moments: Sequence[str],
        workers: Workers,
    ) -> None:
        """`make` returns the optimizer of parameters, and `moments` names its averages of each parameter."""
        self.network, self.workers = network, workers
        self.parameters = list(network.parameters())
        first = self.parameters[0]
        size = sum(_aligned(parameter.numel()) for parameter in self.parameters)
        self.values = workers.zeros((size,), first)
        for parameter, view in zip(self.parameters, self.views(self.values), strict=True):
            parameter.data = view.copy_(parameter.detach())
        self.moments = {name: workers.zeros((size,), first) for name in moments}
        self.chunks = _chunks(workers.part(size, ALIGNMENT), CHUNK_BYTES // first.element_size())
        """The chunks of the part that this worker updates."""
        self.own = [nn.Parameter(self.values[chunk]) for chunk in self.chunks]
        self.optimizer = make(self.own)
        self.steps = [torch.zeros((), device=first.device) for _ in self.chunks]
        """Number of updates: the same for all chunks."""
        for own, chunk, steps in zip(self.own, self.chunks, self.steps, strict=True):
            state = {name: moment[chunk] for name, moment in self.moments.items()}
            self.optimizer.state[own] = {"step": steps, **state}
        self.rows = first.new_empty(0, 0)
        """(r, n + k): the addends of the workers that share memory, in order of rank; else only this worker's."""
        workers.wait()  # a worker that is ahead must not load a checkpoint before others have set initial values

    @property
    def lr(self) -> float:
        """The learning rate."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = rate

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return the parts of a tensor (n,) that belong to the parameters, in their shapes."""
        parts = flat.split([_aligned(parameter.numel()) for parameter in self.parameters])
        pairs = zip(parts, self.parameters, strict=True)
        return [part[: parameter.numel()].view_as(parameter) for part, parameter in pairs]

    def step(self, loss: Tensor, numbers: Sequence[Tensor]) -> list[Tensor]:
        """Update the parameters with the gradient of a loss, summed over the workers.

        Returns the sum of each of the numbers over the workers. All workers must call this.
        """
        gradients = torch.autograd.grad(loss, self.parameters)
        sizes = [number.numel() for number in numbers]
        size, width = len(self.values), len(self.values) + sum(sizes)
        row = self._row(width)
        torch._foreach_copy_(self.views(row[:size]), gradients)
        for part, number in zip(row[size:].split(sizes), numbers, strict=True):
            part.copy_(number.reshape(-1))
        self.workers.add(row)
        for own, chunk in zip(self.own, self.chunks, strict=True):
            own.grad = self._sum(chunk)
        sums = self._sum(slice(size, width)).clone().split(sizes)
        self.optimizer.step()
        self.workers.wait()  # all parts are up to date, and all rows have been read
        return [total.view_as(number) for total, number in zip(sums, numbers, strict=True)]

    def state_of(self) -> dict[str, dict[str, Tensor]]:
        """Return the optimizer's state of each parameter, by the parameter's name, as the separate optimizer has it."""
        views = {name: self.views(moment) for name, moment in self.moments.items()}
        names = [name for name, _ in self.network.named_parameters()]
        return {
            parameter: {"step": self.steps[0], **{name: parts[index] for name, parts in views.items()}}
            for index, parameter in enumerate(names)
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Load the state of each parameter. Raises `KeyError` or `RuntimeError` if it does not fit."""
        for parameter, own in self.state_of().items():
            for name, tensor in own.items():
                tensor.copy_(state[parameter][name].view_as(tensor))
        for steps in self.steps:
            steps.copy_(self.steps[0])

    def _row(self, width: int) -> Tensor:
        """Return this worker's row (width,)."""
        if self.rows.shape[1] < width:
            count = self.workers.count if self.workers.memory else 1
            self.rows = self.workers.zeros((count, _aligned(width)), self.values)
        return self.rows[self.workers.rank if self.workers.memory else 0, :width]

    def _sum(self, columns: slice) -> Tensor:
        """Return the sum of these columns over the rows, in order of rank."""
        total, *others = self.rows[:, columns].unbind()
        for other in others:
            total = total + other
        return total


def _chunks(part: slice, size: int) -> list[slice]:
    """Return a part in chunks of at most `size` elements: at least one, which is empty if the part is."""
    starts = range(part.start, max(part.stop, part.start + 1), size)
    return [slice(start, min(start + size, part.stop)) for start in starts]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
