"""The workers of a training: their shares of a batch, their checks, and the end of gloo's threads."""

import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.training import UNSCORED, mlp_config, spawn
from trainer.run_store import open_store
from trainer.train_loop import train
from trainer.workers import Workers

WORLD_SIZE = 2


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 6])
def test_workers_share_a_batch_in_whole_groups(world_size: int) -> None:
    slices = [Workers(rank, world_size).share(24, 4).rows for rank in range(world_size)]
    assert [slices[0].start, slices[-1].stop] == [0, 24]
    assert all(a.stop == b.start for a, b in pairwise(slices))
    assert all(part.stop > part.start and part.start % 4 == 0 for part in slices)


def _disagree(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD_SIZE)
    workers = Workers.here()
    workers.check_equal("the same", "a value")
    with pytest.raises(RuntimeError, match=r"the workers disagree on a rank: \[0, 1\]"):
        workers.check_equal(rank, "a rank")
    assert workers.from_rank_zero(rank) == 0
    assert workers.sum(torch.tensor([1.0, rank])).tolist() == [2, 1]
    dist.destroy_process_group()


@pytest.mark.slow
def test_workers_that_disagree_are_told(tmp_path: Path) -> None:
    spawn(_disagree, WORLD_SIZE, tmp_path)


def gloo_threads() -> list[str]:
    """Return the names of this process's threads that belong to gloo."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def _train_and_leave(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD_SIZE)
    torch.set_num_threads(1)
    config, run = mlp_config(epochs=1, steps_per_epoch=3), open_store(folder).run("run")
    train(config, UNSCORED, run, lambda manifest, files: None, None, torch.device("cpu"))
    assert gloo_threads(), "no thread has the name of a gloo thread, so this test would prove nothing"
    dist.destroy_process_group()
    deadline = time.monotonic() + 5  # a thread that was joined stays in /proc for a moment
    while gloo_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not gloo_threads(), "a thread that outlives its group can abort the process when the interpreter shuts down"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_outlives_the_process_group(tmp_path: Path) -> None:
    spawn(_train_and_leave, WORLD_SIZE, tmp_path)
