"""`python -m trainer RECIPE ...`: train a recipe, or resume a run. Other commands: recipes, fetch, evaluate, ship."""

import contextlib
import dataclasses
import importlib
import io
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from models.command_line import run
from trainer.config import TrainConfig, Upkeep
from trainer.data import MNIST, ROOT
from trainer.recipes import RECIPES

COMMANDS = {
    "recipes": ("trainer.list_recipes", "lists the recipes"),
    "fetch": ("trainer.fetch", "gets other data than MNIST"),
    "evaluate": ("trainer.evaluate", "scores the generator of a run"),
    "ship": ("trainer.ship", "copies a finished run into pretrained/"),
}
"""Commands beside the recipes: the module whose `main(arguments)` runs each, and what it does."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train a recipe with Ray Train. The same command again resumes; the first Ctrl-C stops after a checkpoint."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """Settings that determine the run."""
    upkeep: Annotated[Upkeep, tyro.conf.arg(name="")]
    """Settings that may change when a run is resumed."""
    workers: int | None = None
    """Number of processes that share each batch; default: one for each GPU, or else for each CPU (8 at most)."""
    runs: str = "runs"
    """Folder, or URI such as s3://bucket/runs, in which runs are kept."""
    name: str = ""
    """Name of the run; default: the recipe's."""
    extend: bool = False
    """Allow --epochs to be larger than the existing run's."""
    cpu_minutes: float | None = None
    """Stop, after a checkpoint, when all workers over all launches of the run have used this many CPU-minutes."""
    dry_run: bool = False
    """Print the resolved settings, and do nothing."""


def parse(arguments: list[str]) -> Command:
    """Return the command that the arguments spell; raise `ValueError` with one line about what is wrong with them."""
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
    """Return a dataset's folder relative to the repository if it is in it; a job's repository is elsewhere."""
    folder = folder.expanduser().resolve()
    if folder == MNIST:
        return ""
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _one_line(box: str) -> str:
    """Return the message alone of a box that tyro draws: a title, the message and hints, with rules between them."""
    lines = [line.strip(" \u2500\u2502\u256d\u256e\u256f\u2570-+|") for line in box.splitlines()[1:]]
    message = " ".join("\n".join(lines).strip().split("\n\n")[0].split())
    return f"{message} (see --help)"


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; return the process's exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        module, _ = COMMANDS[arguments[0]]
        return int(importlib.import_module(module).main(arguments[1:]))
    try:
        return train(parse(arguments))
    except ValueError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 2


def train(command: Command) -> int:
    """Launch the training of a command; return the process's exit status. Raises `ValueError`."""
    if command.workers is not None:
        command.config.check_workers(command.workers)
    if command.cpu_minutes is not None and not command.cpu_minutes > 0:  # a NaN is invalid too
        raise ValueError(f"--cpu-minutes must be greater than 0: got {command.cpu_minutes:g}")
    if command.dry_run:
        print(json.dumps(command.config.to_dict() | dataclasses.asdict(command.upkeep), indent=2))
        return 0
    from trainer.launch import launch  # takes seconds to import: not for a mistyped flag

    return launch(
        command.config,
        command.upkeep,
        command.workers,
        command.runs,
        command.name or command.config.recipe,
        command.extend,
        math.inf if command.cpu_minutes is None else command.cpu_minutes,
    )


if __name__ == "__main__":
    run(main)
