"""`python -m trainer recipes`: list each recipe with its networks, their sizes and its schedule."""

import json
import textwrap

from models.command_line import Parser
from models.describe import conditioning, text_table
from models.trace import sizes
from trainer.config import TrainConfig
from trainer.recipes import RECIPES, Recipe
from trainer.train_loop import plan

NUM_IMAGES = 60_000
"""Number of training images that the stated schedules assume: those of MNIST."""
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop"}
LOSS_TITLES = {"bce": "BCE", "relativistic": "relativistic"}
PENALTIES = {"both": " + R1 + R2", "alternate": " + R1 or R2 in turn"}
TITLES = ("recipe", "conditioning", "parameters G / D", "MMAC G / D", "loss, D's update", "schedule", "source")


def cells(recipe: Recipe) -> tuple[str, ...]:
    """Return a recipe's cells under `TITLES`."""
    config = recipe.config
    parameters, macs = sizes(config.model)
    return (
        config.recipe,
        conditioning(config.model),
        " / ".join(f"{count:,}" for count in parameters),
        " / ".join(f"{count / 1e6:.1f}" for count in macs),
        loss_text(config),
        schedule_text(config),
        recipe.source,
    )


def loss_text(config: TrainConfig) -> str:
    """Return the loss, the penalties, D's update and whether D sees augmented images, in words."""
    loss = LOSS_TITLES.get(config.loss, config.loss)
    augmented = ", augmented" if config.augment else ""
    return f"{loss}{PENALTIES[config.penalties] if config.gamma else ''}, {config.d_update}{augmented}"


def schedule_text(config: TrainConfig) -> str:
    """Return the length of a run on `NUM_IMAGES` images, the optimizer and the learning rates in words."""
    _, steps = plan(config, NUM_IMAGES)
    optimizer = f"{OPTIMIZERS[config.optimizer]} {_pair(config.g_lr, config.d_lr)}"
    if config.g_decay or config.d_decay:
        optimizer += f", decay {_pair(config.g_decay, config.d_decay)}"
    return f"{steps:,} steps of {config.batch_size} in {config.epochs} epochs, {optimizer}"


def long_text(recipe: Recipe) -> str:
    """Return a recipe's cells and notes as text."""
    rows = list(zip(TITLES[1:], cells(recipe)[1:], strict=True))
    width = max(len(title) for title, _ in rows)
    lines = [f"{recipe.config.recipe}: {recipe.summary}", *(f"  {title:{width}}  {cell}" for title, cell in rows)]
    notes = textwrap.fill(" ".join(recipe.notes.split()), 100, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, "", notes])


def json_text() -> str:
    """Return the summary and the largest number of workers of each recipe, by its name, as JSON."""
    rows = {
        name: {"summary": recipe.summary, "max_workers": recipe.config.max_workers} for name, recipe in RECIPES.items()
    }
    return json.dumps(rows, indent=2)


def _pair(g: float, d: float) -> str:
    return f"{g:g}" if g == d else f"{g:g} / {d:g}"


def main(arguments: list[str]) -> int:
    """Run the command; return the process's exit status."""
    parser = Parser(
        prog="python -m trainer recipes",
        description="List the recipes. MMAC: millions of multiply-accumulates of a forward pass for one image.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--long", action="store_true", help="also print each recipe's notes")
    form.add_argument("--names", action="store_true", help="print only the names, one per line")
    form.add_argument(
        "--json", action="store_true", help="print names, summaries and the largest numbers of workers, as JSON"
    )
    options = parser.parse_args(arguments)
    if options.names:
        print("\n".join(RECIPES))
    elif options.json:
        print(json_text())
    elif options.long:
        print("\n\n".join(long_text(recipe) for recipe in RECIPES.values()))
    else:
        print(text_table([TITLES, *(cells(recipe) for recipe in RECIPES.values())]))
    return 0
