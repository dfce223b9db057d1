"""`python -m trainer recipes`: what each recipe is, how large its networks are, and how long it trains."""

import torch
from torch import Tensor, nn

from models.command_line import Parser
from models.config import ModelConfig
from models.networks import build_discriminator, build_generator
from trainer.config import TrainConfig
from trainer.recipes import RECIPES, SOURCES
from trainer.train_loop import plan

CONDITIONING = {
    "mlp": "label through a dense layer, in G and D",
    "conv_cgan": "one-hot beside z; label plane in D",
    "dcgan": "one-hot beside z; a map per class in D",
    "forge": "gain and bias per class in G; projection in D",
}
"""Architecture -> how its networks take the class, where they take one."""
NUM_IMAGES = 60_000
"""Images that a schedule is told for: MNIST's."""
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop"}
LOSSES = {"bce": "BCE", "relativistic": "relativistic"}
TITLES = ("recipe", "conditioning", "parameters G / D", "MMAC G / D", "loss, D's update", "schedule", "source")


def multiply_accumulates(network: nn.Module, *inputs: Tensor) -> int:
    """Multiplications, each with its addition, in the layers with weights of a forward pass over these inputs."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        elif isinstance(layer, nn.Conv2d):  # each output sums over a window of all input channels
            total += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.ConvTranspose2d):  # each input is added to a window of all output channels
            total += inputs[0].numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in network.modules()]
    with torch.no_grad():
        network.eval()(*inputs)
    for hook in hooks:
        hook.remove()
    return total


def sizes(model: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """((trainable parameters of G, of D), (multiply-accumulates of G, of D for one image))."""
    G, D = build_generator(model), build_discriminator(model)
    images = model.group_size  # D may look at several together
    z, c = torch.zeros(images, model.z_dim), torch.zeros(images, model.num_classes)
    macs = multiply_accumulates(G, z, c), multiply_accumulates(D, torch.zeros(images, *model.image_shape), c)
    g_parameters, d_parameters = (sum(weights.numel() for weights in network.parameters()) for network in (G, D))
    return (g_parameters, d_parameters), (macs[0] // images, macs[1] // images)


def describe(config: TrainConfig) -> tuple[str, ...]:
    """A recipe's cells under `TITLES`."""
    parameters, macs = sizes(config.model)
    conditioning = CONDITIONING[config.model.architecture] if config.model.num_classes else "none"
    loss = LOSSES[config.loss] + (" + R1 + R2" if config.gamma else "")
    _, steps = plan(config, NUM_IMAGES)
    optimizer = f"{OPTIMIZERS[config.optimizer]} {_pair(config.g_lr, config.d_lr)}"
    if config.g_decay or config.d_decay:
        optimizer += f", decay {_pair(config.g_decay, config.d_decay)}"
    return (
        config.recipe,
        conditioning,
        " / ".join(f"{count:,}" for count in parameters),
        " / ".join(f"{count / 1e6:.1f}" for count in macs),
        f"{loss}, {config.d_update}",
        f"{steps:,} steps of {config.batch_size} in {config.epochs} epochs, {optimizer}",
        SOURCES[config.recipe],
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells in columns as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _pair(g: float, d: float) -> str:
    return f"{g:g}" if g == d else f"{g:g} / {d:g}"


def main(arguments: list[str]) -> int:
    """Run the command; the process's exit status."""
    parser = Parser(
        prog="python -m trainer recipes",
        description="List the recipes. MMAC: millions of multiply-accumulates of a forward pass for one image.",
    )
    parser.parse_args(arguments)
    print(table([TITLES, *(describe(config) for config in RECIPES.values())]))
    return 0
