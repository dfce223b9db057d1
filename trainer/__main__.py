"""`python -m trainer RECIPE ...`: train a recipe, or go on with a run. Also: recipes, fetch, evaluate, ship."""

import contextlib
import dataclasses
import io
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from trainer.config import TrainConfig
from trainer.data import MNIST, ROOT
from trainer.recipes import RECIPES, SUMMARIES


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train a recipe with Ray Train. The same command again resumes; the first Ctrl-C stops after a checkpoint."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """The recipe's settings."""
    workers: int | None = None
    """Processes that share each batch; default: one for each GPU, or else for each CPU (8 at most)."""
    runs: str = "runs"
    """Folder, or URI such as s3://bucket/runs, in which runs are kept."""
    name: str = ""
    """Name of the run; default: the recipe's."""
    extend: bool = False
    """Allow --epochs to be larger than the existing run's."""
    cpu_minutes: float | None = None
    """Stop, after a checkpoint, when all workers over all sittings of the run have used so many; default: its end."""
    dry_run: bool = False
    """Print the resolved config, and do nothing."""


def parse(arguments: list[str]) -> Command:
    """The command that the arguments spell; what is wrong with them is a `ValueError` of one line."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in RECIPES:
        raise ValueError(
            f"unknown recipe {arguments[0]!r}; choose from: {', '.join(RECIPES)} (or recipes, fetch, evaluate, ship)"
        )
    commands = {name: Command(config=config) for name, config in RECIPES.items()}
    kind = tyro.extras.subcommand_type_from_defaults(commands, SUMMARIES)
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            command: Command = tyro.cli(
                kind,
                args=arguments,
                prog="python -m trainer",
                description="Train a recipe. Beside the recipes there are `recipes`, which tells what they are, "
                "`fetch`, which gets other data than MNIST, `evaluate RUN`, which scores a run, and `ship RUN`, which "
                "copies it into pretrained/; each has its own --help.",
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
    # Ray changes the working directory, and a job's repository is another folder on every node and in every job.
    folder = folder.expanduser().resolve()
    if folder == MNIST:
        return ""
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def _one_line(box: str) -> str:
    # The library draws a box, or less of one where the terminal has no such characters: a title, a message, and hints,
    # with rules between them. Only the message is wanted.
    lines = [line.strip(" \u2500\u2502\u256d\u256e\u256f\u2570-+|") for line in box.splitlines()[1:]]
    message = " ".join("\n".join(lines).strip().split("\n\n")[0].split())
    return f"{message} (see --help)"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the process's exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Ray and torch take seconds to import: not for a mistyped flag.
    if arguments[:1] == ["evaluate"]:
        from trainer import evaluate

        return evaluate.main(arguments[1:])
    if arguments[:1] == ["ship"]:
        from trainer import ship

        return ship.main(arguments[1:])
    if arguments[:1] == ["fetch"]:
        from trainer import fetch

        return fetch.main(arguments[1:])
    if arguments[:1] == ["recipes"]:
        from trainer import list_recipes

        return list_recipes.main(arguments[1:])
    try:
        command = parse(arguments)
        if command.workers is not None:
            command.config.check_workers(command.workers)
        if command.cpu_minutes is not None and not command.cpu_minutes > 0:  # nor is a NaN
            raise ValueError(f"--cpu-minutes must be greater than 0: got {command.cpu_minutes:g}")
        if command.dry_run:
            print(json.dumps(command.config.to_dict(), indent=2))
            return 0
        from trainer.launch import launch

        return launch(
            command.config,
            command.workers,
            command.runs,
            command.name or command.config.recipe,
            command.extend,
            math.inf if command.cpu_minutes is None else command.cpu_minutes,
        )
    except ValueError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
