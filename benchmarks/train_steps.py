"""Train the first steps of a recipe as one of several workers, without Ray, with the code that PYTHONPATH names.

`benchmarks.throughput` and `benchmarks.scaling` start this file as a program. Throughput does so for code of any
revision: so it may use only names that the revisions have in common, and `train_recipe` is the one place that allows
for their differences.
"""

import argparse
import inspect
import os
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from trainer.recipes import RECIPES
from trainer.recorder import Recorder
from trainer.run_store import Run, open_store
from trainer.train_loop import train


def train_recipe(
    recipe: str, steps: int, run: Run, recorder: Recorder | None, batch_size: int | None, checkpoint_every: int
) -> None:
    """Train one epoch of `steps` steps, without scores. Checkpoints are made in memory and not written."""
    arguments: dict[str, Any] = {"run": run, "recorder": recorder, "device": torch.device("cpu")}
    arguments["report"] = lambda *_: None
    parameters, entry = inspect.signature(train).parameters, RECIPES[recipe]
    # Later revisions wrap a recipe's config in an object, and pass the bookkeeping options separately as `upkeep`.
    config: Any = getattr(entry, "config", entry)
    config = replace(config, epochs=1, steps_per_epoch=steps, batch_size=batch_size or config.batch_size)
    if "upkeep" in parameters:
        arguments["upkeep"] = parameters["upkeep"].annotation(metrics_every=0, checkpoint_every=checkpoint_every)
    else:
        config = replace(config, metrics_every=0)
    train(config=config, **arguments)


def main() -> None:
    """Run one worker, whose rank is given or that of torchrun's environment. Rank 0 records the curve of the run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("steps", type=int)
    parser.add_argument("runs")
    parser.add_argument("rank", type=int, nargs="?", default=os.environ.get("RANK", 0))
    parser.add_argument("workers", type=int, nargs="?", default=os.environ.get("WORLD_SIZE", 1))
    parser.add_argument("--batch-size", type=int, help="default: the recipe's")
    parser.add_argument("--checkpoint-every", type=int, default=0, help="0 (default) = at the end")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    elif options.workers > 1:
        rendezvous = f"file://{options.runs}/rendezvous"
        dist.init_process_group("gloo", init_method=rendezvous, rank=options.rank, world_size=options.workers)
    run = open_store(options.runs).run("run")
    extent = (options.batch_size, options.checkpoint_every)
    if options.rank == 0:
        with Recorder(run, "throughput") as recorder:
            train_recipe(options.recipe, options.steps, run, recorder, *extent)
    else:
        train_recipe(options.recipe, options.steps, run, None, *extent)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
