"""`python -m trainer RECIPE ...`: the flags of a training, and its launch."""

import contextlib
import dataclasses
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from trainer.cluster import WorkerRange
from trainer.commands import COMMANDS
from trainer.config import TrainConfig, Upkeep
from trainer.data import MNIST, ROOT
from trainer.recipes import RECIPES
from trainer.supervise import Driver


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train a recipe with Ray Train. The same command resumes the run; the first Ctrl-C stops it after a checkpoint."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """Settings that determine the run."""
    upkeep: Annotated[Upkeep, tyro.conf.arg(name="")]
    """Settings that may change when a run is resumed."""
    workers: str = ""
    """Number of processes that share each batch, or MIN:MAX if it may change with the size of the cluster; default: one
    per GPU, or without GPUs one per CPU (at most 8)."""
    runs: str = "runs"
    """Folder or URI of the runs, for example s3://bucket/runs."""
    name: str = ""
    """Name of the run; default: the recipe's."""
    extend: bool = False
    """Lengthen an existing run to a larger --epochs."""
    cpu_minutes: float | None = None
    """Stop after a checkpoint once the run has used this many CPU-minutes, summed over workers and launches."""
    dry_run: bool = False
    """Print the settings and exit."""


def parse(arguments: list[str]) -> Command:
    """Return the command given by the arguments; raise `ValueError` with a one-line message if they are invalid."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in RECIPES:
        raise ValueError(
            f"unknown recipe {arguments[0]!r}; choose from: {', '.join(RECIPES)} (or {', '.join(COMMANDS)})"
        )
    defaults = {name: Command(config=recipe.config, upkeep=recipe.upkeep) for name, recipe in RECIPES.items()}
    summaries = {name: recipe.summary for name, recipe in RECIPES.items()}
    others = "; ".join(f"`{name}` {what}" for name, (_, what) in COMMANDS.items())
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            command: Command = tyro.cli(
                tyro.extras.subcommand_type_from_defaults(defaults, summaries),
                args=arguments,
                prog="python -m trainer",
                description=f"Train a recipe. Other commands, each with its own --help: {others}.",
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code:
            raise ValueError(_one_line(message.getvalue())) from None
        raise
    if command.config.dataset:
        dataset = _portable(Path(command.config.dataset))
        return dataclasses.replace(command, config=dataclasses.replace(command.config, dataset=dataset))
    return command


def _portable(folder: Path) -> str:
    """Return the path of a dataset's folder, relative to the repository if inside it: other nodes have it elsewhere."""
    folder = folder.expanduser().resolve()
    if folder == MNIST:
        return ""
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _one_line(box: str) -> str:
    """Return only the message from a box that tyro prints (a title, the message and hints, separated by lines)."""
    lines = [line.strip(" \u2500\u2502\u256d\u256e\u256f\u2570-+|") for line in box.splitlines()[1:]]
    message = " ".join("\n".join(lines).strip().split("\n\n")[0].split())
    return f"{message} (see --help)"


def train(command: Command, driver: Driver | None = None) -> int:
    """Launch a training, with a driver that starts already; return the exit status.

    Raises `ValueError` for invalid settings.
    """
    workers = WorkerRange.parse(command.workers)
    if workers:
        command.config.check_workers(workers.most)
    if command.cpu_minutes is not None and not command.cpu_minutes > 0:  # a NaN is invalid too
        raise ValueError(f"--cpu-minutes must be greater than 0: got {command.cpu_minutes:g}")
    if command.dry_run:
        print(json.dumps(command.config.to_dict() | dataclasses.asdict(command.upkeep), indent=2))
        return 0
    from trainer.launch import launch  # late: takes seconds to import, so mistyped flags are reported first

    return launch(
        command.config,
        command.upkeep,
        workers,
        command.runs,
        command.name or command.config.recipe,
        command.extend,
        math.inf if command.cpu_minutes is None else command.cpu_minutes,
        driver,
    )
