"""`python -m trainer recipes`: what each recipe is, how large its networks are, and how long it trains."""

from models.command_line import Parser
from models.describe import conditioning, text_table
from models.trace import sizes
from trainer.config import TrainConfig
from trainer.recipes import RECIPES, SOURCES
from trainer.train_loop import plan

NUM_IMAGES = 60_000
"""Images that a schedule is told for: MNIST's."""
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop"}
LOSSES = {"bce": "BCE", "relativistic": "relativistic"}
TITLES = ("recipe", "conditioning", "parameters G / D", "MMAC G / D", "loss, D's update", "schedule", "source")


def describe(config: TrainConfig) -> tuple[str, ...]:
    """A recipe's cells under `TITLES`."""
    parameters, macs = sizes(config.model)
    loss = LOSSES[config.loss] + (" + R1 + R2" if config.gamma else "")
    _, steps = plan(config, NUM_IMAGES)
    optimizer = f"{OPTIMIZERS[config.optimizer]} {_pair(config.g_lr, config.d_lr)}"
    if config.g_decay or config.d_decay:
        optimizer += f", decay {_pair(config.g_decay, config.d_decay)}"
    return (
        config.recipe,
        conditioning(config.model),
        " / ".join(f"{count:,}" for count in parameters),
        " / ".join(f"{count / 1e6:.1f}" for count in macs),
        f"{loss}, {config.d_update}",
        f"{steps:,} steps of {config.batch_size} in {config.epochs} epochs, {optimizer}",
        SOURCES[config.recipe],
    )


def _pair(g: float, d: float) -> str:
    return f"{g:g}" if g == d else f"{g:g} / {d:g}"


def main(arguments: list[str]) -> int:
    """Run the command; the process's exit status."""
    parser = Parser(
        prog="python -m trainer recipes",
        description="List the recipes. MMAC: millions of multiply-accumulates of a forward pass for one image.",
    )
    parser.parse_args(arguments)
    print(text_table([TITLES, *(describe(config) for config in RECIPES.values())]))
    return 0
