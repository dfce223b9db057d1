"""`python -m models.describe forge`: print the layers of a pair of networks as tables, and draw them."""

import shutil
from pathlib import Path

import graphviz

from models.command_line import Parser, run
from models.config import ModelConfig
from models.diagram import DIAGRAMS, NO_DOT, write_diagram
from models.generator_file import load_generator
from models.networks import ALIASES, MODELS
from models.trace import Network, mmac, shape_text, watch_both

LATENTS = {"normal": "from N(0, 1)", "uniform": "from [-1, 1]"}
NAMED = MODELS | {alias: MODELS[name] for alias, name in ALIASES.items()}
"""Name on the command line -> the pair of networks."""


def latent_text(config: ModelConfig) -> str:
    """Return the latents in words, such as `64 numbers from N(0, 1)`."""
    return f"{config.z_dim} numbers {LATENTS[config.z_distribution]}"


def conditioning(config: ModelConfig) -> str:
    """Return in words how the networks take the class."""
    return config.family.conditioning if config.num_classes else "none"


def text_table(rows: list[tuple[str, ...]], numbers: int = 0) -> str:
    """Align rows as text columns; the last `numbers` columns are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = len(widths) - numbers
    lines = [
        "  ".join(
            cell.ljust(width) if k < first else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def layer_rows(network: Network) -> list[tuple[str, ...]]:
    """Return a row for each layer (name, kind, output shape, parameters, MMAC), and a row with the totals."""
    rows = [
        (layer.name, layer.kind, shape_text(layer.output_shape), f"{layer.parameters:,}", mmac(layer))
        for layer in network.layers
    ]
    return [*rows, ("total", "", "", f"{network.parameters:,}", mmac(network))]


def text(title: str, config: ModelConfig) -> str:
    """Return a headline and a table of layers for each network."""
    parts = [
        f"{title}: architecture {config.architecture}, images {shape_text(config.image_shape)}, "
        f"latent z of {latent_text(config)}, conditioning: {conditioning(config)}"
    ]
    for name, network in zip(DIAGRAMS, watch_both(config), strict=False):
        titles = (name, "kind", "output", "parameters", "MMAC")
        parts.append(text_table([titles, *layer_rows(network)], numbers=2))
    return "\n\n".join(parts)


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    parser = Parser(
        prog="python -m models.describe",
        description="Print the layers of a generator and of its discriminator. MMAC: millions of multiply-accumulates "
        "of a forward pass for one image.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", choices=NAMED, metavar="NAME", help=f"a pair of networks: {', '.join(NAMED)}")
    what.add_argument("--generator", type=Path, metavar="FILE", help="a generator.safetensors file")
    parser.add_argument(
        "--diagram", type=Path, metavar="OUT", help="also draw both networks and their training: a .png or .svg file"
    )
    options = parser.parse_args(arguments)
    picture: Path | None = options.diagram
    try:
        if picture and picture.suffix not in (".png", ".svg"):
            raise ValueError(f"--diagram must end in .png or .svg: got {str(picture)!r}")
        if picture and not shutil.which("dot"):
            raise ValueError(NO_DOT)
        config = load_generator(options.generator).config if options.generator else NAMED[options.name]
        if picture:
            write_diagram(config, picture)
    except (ValueError, graphviz.CalledProcessError) as error:
        return parser.fail(str(error))
    except OSError as error:
        return parser.fail(f"{picture}: cannot be written ({error.strerror})")
    print(text(str(options.generator or options.name), config))
    if picture:
        print(f"\nDrew {picture}")
    return 0


if __name__ == "__main__":
    run(main)
