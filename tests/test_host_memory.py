"""The memory that workers of one host share: right sums, an error when a worker ends or hangs, nothing left behind."""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.training import forge_config, spawn
from trainer import flat_optimizer, host_memory
from trainer.flat_optimizer import FlatOptimizer
from trainer.state import update_by_adam, update_by_rmsprop
from trainer.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory needs Linux")


def joined(rank: int, count: int, folder: Path) -> Workers:
    """Join a process group; return its workers, who share memory."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=count)
    workers = Workers.here().sharing_memory(torch.device("cpu"))
    assert workers.memory
    return workers


class Net(nn.Module):
    """Parameters of odd sizes: 0-dimensional, one element, and a size that no number of workers divides."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(5)
        for index, shape in enumerate([(), (1,), (7, 11), (3, 5, 23)]):
            values = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)
            self.register_parameter(f"weight{index}", nn.Parameter(values))

    def losses(self, step: int) -> Tensor:
        """Return a loss for each of 12 images, whose gradients differ from step to step."""
        random = torch.Generator().manual_seed(step)
        terms = []
        for parameter in self.parameters():
            images = torch.randn(12, parameter.numel(), generator=random, dtype=torch.float64).to(parameter)
            terms.append((images @ parameter.reshape(-1)).square())
        return torch.stack(terms).sum(0)


@patch.object(flat_optimizer, "CHUNK_BYTES", 512)  # so that a worker updates several chunks
def descend(workers: Workers, dtype: torch.dtype, name: str) -> list[Tensor]:
    """Take five steps; return the parameters, the optimizer's averages, and the sums of the numbers of each step."""
    net = Net(dtype)
    if name == "adam":
        update = partial(update_by_adam, forge_config(beta1=0.5, beta2=0.9))
        optimizer = FlatOptimizer(net, update, ("exp_avg", "exp_avg_sq"), 0.01, workers)
    else:
        optimizer = FlatOptimizer(net, partial(update_by_rmsprop, forge_config()), ("square_avg",), 0.01, workers)
    rows, numbers = workers.share(12).rows, []
    for step in range(5):
        losses = net.losses(step)[rows]
        # A step with more numbers than those before needs more memory.
        mine = [losses.detach().sum(), torch.full((step + 1, 40), workers.rank + 0.5, dtype=dtype)]
        numbers += optimizer.step(losses.sum() / 12, mine)
    moments = [tensor.clone() for state in optimizer.state_of().values() for tensor in state.values()]
    return [parameter.detach().clone() for parameter in net.parameters()] + moments + numbers


CASES = [(dtype, name) for dtype in (torch.float32, torch.float64) for name in ("adam", "rmsprop")]


def _descend(rank: int, count: int, folder: Path) -> None:
    workers = joined(rank, count, folder)
    results = [descend(workers, *case) for case in CASES]
    again = [descend(workers, *case) for case in CASES]
    over_gloo = [descend(replace(workers, memory=None), *case) for case in CASES]
    torch.save((results, again, over_gloo), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_workers_take_the_steps_that_one_takes(tmp_path: Path, count: int) -> None:
    """Each worker updates a part of the parameters, and all see the whole, the averages and the sums."""
    if count == 1:
        results = [descend(Workers(), *case) for case in CASES]
        for (dtype, name), found in zip(CASES, results, strict=True):
            net = Net(dtype)
            own = list(net.parameters())
            optimizer = torch.optim.Adam(own, 0.01, (0.5, 0.9)) if name == "adam" else torch.optim.RMSprop(own, 0.01)
            for step in range(5):
                optimizer.zero_grad()
                (net.losses(step).sum() / 12).backward()
                optimizer.step()
            assert all(torch.equal(a, b) for a, b in zip(own, found, strict=False)), "PyTorch's optimizer, to the bit"
        return
    alone = [descend(Workers(), *case) for case in CASES]
    before = set(Path("/dev/shm").iterdir())
    spawn(_descend, count, count, tmp_path)
    assert set(Path("/dev/shm").iterdir()) <= before
    of_ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(count)]
    for number, (dtype, _) in enumerate(CASES):
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        in_memory = [results[number] for results, *_ in of_ranks] + [again[number] for _, again, _ in of_ranks]
        over_gloo = [results[number] for *_, results in of_ranks]
        for results in (in_memory, over_gloo):
            for tensors in zip(*results, strict=True):
                assert all(torch.equal(tensors[0], other) for other in tensors), "on every worker, every time"
            weights_and_moments, numbers = results[0][:-10], results[0][-10:]
            for found, expected in zip(weights_and_moments, alone[number][:-10], strict=True):
                torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
            for found, expected in zip(numbers[::2], alone[number][-10::2], strict=True):
                torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
            for step, found in enumerate(numbers[1::2]):
                assert found.tolist() == [[sum(rank + 0.5 for rank in range(count))] * 40] * (step + 1)


def _lose_a_worker(rank: int, count: int, folder: Path, how: str) -> None:
    # A worker that has ended is noticed without a limit of time; with one, a busy machine could look like it.
    seconds = host_memory.WAIT_SECONDS if how == "has ended" else 2.0
    with patch.object(host_memory, "WAIT_SECONDS", seconds):
        workers = joined(rank, count, folder)
        workers.wait()
        if rank == 1:
            (folder / "pid").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL if how == "has ended" else signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(RuntimeError, match=f"worker 1 {how}"):
            workers.wait()
        (folder / f"{rank}.seconds").write_text(str(time.monotonic() - started))
        if rank == 0:  # the other one is told by the end of this one, or waits as long
            while len(list(folder.glob("*.seconds"))) < count - 1:
                time.sleep(0.01)
            with suppress(ProcessLookupError):  # it has ended, and what forked it knows
                os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    os._exit(0)  # the process group has lost a member: leaving it in order would wait for the member


@pytest.mark.slow
@pytest.mark.parametrize(("how", "bound"), [("has ended", 2), ("has not answered for 2 s", 10)])
def test_a_lost_worker_is_an_error_on_the_others(tmp_path: Path, how: str, bound: float) -> None:
    before = set(Path("/dev/shm").iterdir())
    processes = spawn(_lose_a_worker, 3, 3, tmp_path, how, join=False).processes
    for process in processes:  # not with `join` of the spawned: it would end the others as soon as one has ended
        process.join(120)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL, 0]
    for rank in (0, 2):
        assert float((tmp_path / f"{rank}.seconds").read_text()) < bound
    assert set(Path("/dev/shm").iterdir()) <= before


def _meet(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    alone = Workers.here().sharing_memory(torch.device("cuda"))
    assert alone.memory is None, "memory of the host is not that of a GPU"
    gather = alone.gather
    with patch.object(Workers, "gather", lambda self, value: [_elsewhere(each) for each in gather(value)]):
        assert Workers.here().sharing_memory(torch.device("cpu")).memory is None, "on two hosts"
    workers = Workers.here().sharing_memory(torch.device("cpu"))
    assert workers.memory
    if rank == 1:
        workers.memory.close()
    else:
        with pytest.raises(RuntimeError, match="worker 1 has ended"):
            workers.wait()
    dist.destroy_process_group()


def _elsewhere(value: object) -> object:
    """Return the name of a socket as the workers of another host know it: nobody listens there."""
    return (f"{value[0]} elsewhere", value[1]) if isinstance(value, tuple) else value


@pytest.mark.slow
def test_only_workers_of_one_host_share_memory(tmp_path: Path) -> None:
    spawn(_meet, 2, tmp_path)
