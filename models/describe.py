"""`python -m models.describe forge`: the layers of a pair of networks as tables and as a diagram.

Both are found by running the networks and watching which layer is called with which tensor, on PyTorch's meta device:
it has shapes but no numbers, so that nothing is computed and no random number is drawn.
"""

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import graphviz
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.command_line import Parser
from models.config import ModelConfig
from models.discriminator import Discriminator
from models.dropout import Dropout
from models.generator_file import load_generator
from models.networks import ALIASES, MODELS, build_discriminator, build_generator

LATENTS = {"normal": "from N(0, 1)", "uniform": "from [-1, 1]"}
DIAGRAMS = ("generator", "discriminator", "adversarial")
NO_DOT = (
    "there is no program `dot`, which draws the diagram; install Graphviz: apt-get install graphviz "
    "(brew install graphviz on a Mac)"
)

INPUTS, OUTPUTS = ("z", "c", "images"), ("logits", "class logits")
"""Of a generator or of a discriminator."""
TITLES = {"z": "latent z", "c": "class c"}
"""Of inputs and outputs that are not called by their names alone."""

OPERATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "mean": "mean",
    "var": "variance",
    "sqrt": "square root",
    "sum": "sum",
    "expand": "repeat",
}
"""Functions of one tensor that a diagram shows; of the others, such as reshaping, it shows none."""
JOINTS = {"cat": "concatenate", "add": "add", "mul": "multiply"}
"""Functions of several tensors; a diagram shows every one, an unknown one by PyTorch's name."""

INK, QUIET, LINE = "#1d2430", "#566072", "#8490a3"
"""Of names, of their small print, and of edges, which are seen on white and on black."""
CLASS_EDGE = {"color": "#d98324", "weight": "0"}
"""The class enters from the side: what it enters stays in line."""
FILLS = {
    "z": "#fff1bd",
    "c": "#ffdcb0",
    "images": "#cdeedd",
    "logits": "#ffd3da",
    "class logits": "#ffd3da",
    "dense": "#d6e4ff",
    "convolution": "#e2dafb",
    "network": "#d6e4ff",
    "operation": "#ffffff",
    "other": "#e6eaf0",
}
FONT = "Helvetica,Arial,sans-serif"


@dataclass(frozen=True)
class Layer:
    """A row of a table: a layer, in the order of calls."""

    name: str
    kind: str
    """Its class and what it was made with, such as `Conv2d 4x4 stride 2`."""
    output_shape: tuple[int, ...] | None
    """For one image; None = the forward pass does not call it."""
    parameters: int
    """Trainable ones, without those that a row above has."""
    multiply_accumulates: int
    """Multiplications, each with its addition, in layers with weights, for one image."""


@dataclass(frozen=True)
class Node:
    """A box of a diagram."""

    fill: str
    """A key of `FILLS`."""
    title: str
    lines: tuple[str, ...]
    shape: tuple[int, ...] | None
    """Of what comes out, for one image; None = not said here."""


@dataclass(frozen=True)
class Network:
    """What a forward pass shows of a network."""

    layers: list[Layer]
    nodes: dict[str, Node]
    edges: list[tuple[str, str]]
    """(from, to): keys of nodes, as the tensors went."""

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_accumulates(self) -> int:
        """Multiplications, each with its addition, in the layers with weights, for one image."""
        return sum(layer.multiply_accumulates for layer in self.layers)


class _Watch(TorchFunctionMode):
    """Notes the layers and functions that are called, and where their tensors come from."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []
        self.counted: set[nn.Parameter] = set()
        self.origins: dict[int, tuple[str, Tensor]] = {}
        """`id` of a tensor -> the node it comes from, and the tensor, so that no other one gets its id."""
        self.inside = False
        """Whether a layer is being called: what it does is its own affair."""
        self.multiply_accumulates = 0
        """Of the layer being called."""

    def add(self, key: str, node: Node, inputs: Any, outputs: Any) -> None:
        """Note a node between tensors."""
        while key in self.nodes:  # a layer that is called again
            key += "'"
        self.nodes[key] = node
        self.edges += [(start, key) for start in self.starts(inputs)]
        self.origins |= {id(tensor): (key, tensor) for tensor in _tensors(outputs)}

    def starts(self, inputs: Any) -> list[str]:
        """The nodes that tensors come from."""
        known = (self.origins[id(tensor)][0] for tensor in _tensors(inputs) if id(tensor) in self.origins)
        return list(dict.fromkeys(known))

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch, and note it where a diagram shows it."""
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        starts = [] if self.inside else self.starts([args, kwargs])
        # Without a gradient it took nothing but a shape, as `new_ones` and `expand_as` do.
        results = [tensor for tensor in _tensors(output) if tensor.requires_grad]
        if not starts or not results:
            return output
        name = function.__name__
        if len(starts) > 1 or name in OPERATIONS:
            title = JOINTS.get(name, name) if len(starts) > 1 else OPERATIONS[name]
            if "negative_slope" in kwargs:
                title += f" {kwargs['negative_slope']:g}"
            self.add(
                f"{name} {len(self.nodes)}", Node("operation", title, (), _shape(results[0])), [args, kwargs], results
            )
        else:
            self.origins |= {id(tensor): (starts[0], tensor) for tensor in results}
        return output

    def enter(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before a layer is called."""
        self.inside, self.multiply_accumulates = True, 0

    def leave(self, name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """After a layer was called."""
        self.inside = False
        first = _tensors(output)[0]
        shape = _shape(first)
        self.add_row(name, layer, shape, self.multiply_accumulates // len(first))
        self.add(name, Node(_fill(layer), name, (_kind(layer),), shape), inputs, output)

    def add_row(self, name: str, layer: nn.Module, shape: tuple[int, ...] | None, multiply_accumulates: int) -> None:
        """Add a row to the table."""
        new = set(layer.parameters()) - self.counted
        self.counted |= new
        self.layers.append(Layer(name, _kind(layer), shape, sum(map(Tensor.numel, new)), multiply_accumulates))

    def count(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the work of a layer, or of a part of one."""
        if isinstance(layer, nn.Linear):
            self.multiply_accumulates += output.numel() * layer.in_features
        elif isinstance(layer, nn.Conv2d):  # each output sums over a window of all input channels
            self.multiply_accumulates += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.ConvTranspose2d):  # each input is added to a window of all output channels
            self.multiply_accumulates += inputs[0].numel() * layer.weight[0].numel()


def watch(network: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...] = ()) -> Network:
    """Run a network over inputs (B, ...), which have names as its outputs have, and say what it did.

    A layer is a module that has no parts, or weights of its own. A discriminator with an auxiliary classifier also
    reads the classes.
    """
    seen = _Watch()
    tensors = [tensor.detach().requires_grad_() for tensor in inputs.values()]
    for name, tensor in zip(inputs, tensors, strict=True):
        if tensor.numel():  # the classes of a network without any have no columns
            seen.add(name, Node(name, TITLES.get(name, name), (), _shape(tensor)), [], tensor)
    names = dict(_layers(network))
    hooks = [module.register_forward_hook(seen.count) for module in network.modules()]
    for layer, name in names.items():
        hooks.append(layer.register_forward_pre_hook(seen.enter))
        hooks.append(layer.register_forward_hook(partial(seen.leave, name)))
    was_training, trainable = network.training, [weights for weights in network.parameters() if weights.requires_grad]
    network.eval()  # one image has no batch statistics
    network.requires_grad_(False)  # so that gradients tell what comes from the inputs
    call = network.read if isinstance(network, Discriminator) and network.has_classifier else network
    with seen, torch.enable_grad():
        results = _tensors(call(*tensors))
    for hook in hooks:
        hook.remove()
    network.train(was_training)
    for weights in trainable:
        weights.requires_grad_()
    for name, tensor in zip(outputs, results, strict=False):
        seen.add(name, Node(name, TITLES.get(name, name), (), _shape(tensor)), tensor, [])
    for layer, name in names.items():
        if not seen.counted.issuperset(layer.parameters()):
            seen.add_row(name, layer, None, 0)
    if not seen.counted.issuperset(network.parameters()):
        seen.add_row("outside of layers", network, None, 0)
    return Network(seen.layers, seen.nodes, seen.edges)


def layers(network: nn.Module, *inputs: Tensor) -> list[Layer]:
    """The layers of a forward pass over these inputs (B, ...); together they have all parameters of the network."""
    return watch(network, {f"input {k}": tensor for k, tensor in enumerate(inputs)}).layers


def describe(config: ModelConfig) -> tuple[Network, Network]:
    """The generator and the discriminator of a config."""
    with torch.device("meta"):
        images = config.group_size  # D may look at several together
        z, c = torch.zeros(images, config.z_dim), torch.zeros(images, config.num_classes)
        G = watch(build_generator(config), {"z": z, "c": c}, ("images",))
        shown = {"images": torch.zeros(images, *config.image_shape), "c": c}
        return G, watch(build_discriminator(config), shown, OUTPUTS)


def sizes(config: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """((trainable parameters of G, of D), (multiply-accumulates of G, of D for one image))."""
    G, D = describe(config)
    return (G.parameters, D.parameters), (G.multiply_accumulates, D.multiply_accumulates)


def latent(config: ModelConfig) -> str:
    """The latents in words."""
    return f"{config.z_dim} numbers {LATENTS[config.z_distribution]}"


def conditioning(config: ModelConfig) -> str:
    """How the networks take the class, in words."""
    return config.family.conditioning if config.num_classes else "none"


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Such as 64x7x7, 1 for a single number, and nothing where there is no output."""
    return "" if shape is None else "x".join(map(str, shape)) or "1"


def table(rows: list[tuple[str, ...]], numbers: int = 0) -> str:
    """Rows of cells in columns as wide as they need; the last columns, so many, are numbers."""
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


def text(title: str, config: ModelConfig) -> str:
    """All that can be read of a pair of networks without a picture."""
    parts = [
        f"{title}: architecture {config.architecture}, images {shape_text(config.image_shape)}, "
        f"latent z of {latent(config)}, conditioning: {conditioning(config)}"
    ]
    for name, network in zip(DIAGRAMS, describe(config), strict=False):
        titles = (name, "kind", "output", "parameters", "MMAC")
        parts.append(table([titles, *layer_rows(network)], numbers=2))
    return "\n\n".join(parts)


def layer_rows(network: Network) -> list[tuple[str, ...]]:
    """Name, kind, output shape, parameters and MMAC of each layer, and their totals."""
    rows = [
        (layer.name, layer.kind, shape_text(layer.output_shape), f"{layer.parameters:,}", mmac(layer))
        for layer in network.layers
    ]
    return [*rows, ("total", "", "", f"{network.parameters:,}", mmac(network))]


def mmac(part: Layer | Network) -> str:
    """Millions of multiply-accumulates."""
    return f"{part.multiply_accumulates / 1e6:.2f}"


def diagram(config: ModelConfig, which: tuple[str, ...] = DIAGRAMS) -> graphviz.Digraph:
    """One of the diagrams, or several side by side."""
    G, D = describe(config)
    graph = graphviz.Digraph("networks")
    graph.attr(fontname=FONT, fontsize="15", fontcolor=INK, bgcolor="transparent")
    graph.attr(nodesep="0.3", ranksep="0.32", pad="0.15")
    graph.attr("node", fontname=FONT, fontsize="11", fontcolor=INK, color=LINE, style="filled,rounded", shape="box")
    graph.attr("node", margin="0.16,0.1", height="0.3")
    graph.attr("edge", color=LINE, arrowsize="0.7", penwidth="1.2")
    for name in which:
        with graph.subgraph(name=name if len(which) == 1 else f"cluster {name}") as part:
            if len(which) > 1:
                part.attr(label=name.capitalize(), style="rounded", color="#d5dae3", margin="14")
            if name == "adversarial":
                _draw(part, name, *_adversarial(config, G, D))
            else:
                network = G if name == "generator" else D
                _draw(part, name, *_joined(network))
    return graph


def dot_source(config: ModelConfig, which: tuple[str, ...] = DIAGRAMS) -> str:
    """The diagrams in Graphviz's language, which needs no Graphviz."""
    return diagram(config, which).source


def _draw(graph: graphviz.Digraph, prefix: str, nodes: dict[str, Node], edges: list[tuple[str, str]]) -> None:
    used = {key for edge in edges for key in edge}
    for key, node in nodes.items():
        if key in used:
            small = "".join(f'<BR/><FONT COLOR="{QUIET}">{escape(line)}</FONT>' for line in node.lines)
            if node.shape is not None:
                small += f"<BR/>{shape_text(node.shape)}"
            graph.node(f"{prefix} {key}", f"<<B>{escape(node.title)}</B>{small}>", fillcolor=FILLS.get(node.fill, ""))
    for start, end in edges:
        graph.edge(f"{prefix} {start}", f"{prefix} {end}", **(CLASS_EDGE if start == "c" else {"color": LINE}))


def _joined(network: Network) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Nodes and edges, where a function that alone takes what one node gives is written into that node's box."""
    nodes, edges = dict(network.nodes), list(network.edges)
    for key, node in network.nodes.items():
        starts = [start for start, end in edges if end == key]
        if node.fill != "operation" or len(starts) != 1:
            continue
        before = nodes[starts[0]]
        if before.fill in INPUTS or [start for start, _ in edges].count(starts[0]) > 1:
            continue
        if before.fill == "operation":
            joined = replace(before, title=f"{before.title}, {node.title}", shape=node.shape)
        else:
            joined = replace(before, lines=(*before.lines, node.title), shape=node.shape)
        nodes[starts[0]] = joined
        del nodes[key]
        edges.remove((starts[0], key))
        edges = [(starts[0] if start == key else start, end) for start, end in edges]
    return nodes, edges


def _adversarial(config: ModelConfig, G: Network, D: Network) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Nodes and edges of the two networks in training."""
    image = config.image_shape
    nodes = {
        "z": Node("z", TITLES["z"], (), (config.z_dim,)),
        "c": Node("c", TITLES["c"], (), (config.num_classes,)),
        "G": Node("network", "generator G", _size(G), None),
        "real": Node("images", "real images", (), image),
        "fake": Node("images", "fake images", (), image),
        "D": Node("network", "discriminator D", _size(D), None),
    }
    edges = [("z", "G"), ("G", "fake"), ("real", "D"), ("fake", "D")]
    edges += [("c", name) for name, network in (("G", G), ("D", D)) if "c" in (start for start, _ in network.edges)]
    for name in OUTPUTS:
        if name in D.nodes:
            nodes[name] = D.nodes[name]
            edges.append(("D", name))
    return nodes, edges


def _size(network: Network) -> tuple[str, ...]:
    return f"{network.parameters:,} parameters", f"{mmac(network)} MMAC"


def _tensors(values: Any) -> list[Tensor]:
    """All tensors in nested arguments or results."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    return [tensor for value in values for tensor in _tensors(value)] if isinstance(values, list | tuple) else []


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape[1:])


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[nn.Module, str]]:
    """Each layer within a module, with its name."""
    for name, part in module.named_children():
        if next(part.children(), None) is None or next(part.parameters(recurse=False), None) is not None:
            yield part, prefix + name
        else:
            yield from _layers(part, f"{prefix}{name}.")


def _kind(layer: nn.Module) -> str:
    """A layer's class and what it was made with."""
    words = [type(layer).__name__]
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        words.append("x".join(map(str, layer.kernel_size)))
        if layer.stride[0] > 1:
            words.append(f"stride {layer.stride[0]}")
    if isinstance(layer, Dropout):
        words.append(f"{layer.share:g}")
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is None:
        words.append("without bias")
    return " ".join(words)


def _fill(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return "convolution"
    return "dense" if isinstance(layer, nn.Linear) else "other"


def draw(config: ModelConfig, path: Path) -> None:
    """Write all diagrams as one picture, whole or not at all."""
    graph = diagram(config)
    graph.attr(bgcolor="#ffffff", dpi="144" if path.suffix == ".png" else "72")
    partial_path = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(partial_path, "xb") as file:
            file.write(graph.pipe(path.suffix[1:]))
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Run the command; the process's exit status."""
    parser = Parser(
        prog="python -m models.describe",
        description="Print the layers of a generator and of its discriminator. MMAC: millions of multiply-accumulates "
        "of a forward pass for one image.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "name", nargs="?", choices=[*MODELS, *ALIASES], metavar="NAME", help=f"a recipe: {', '.join(MODELS)}"
    )
    what.add_argument("--generator", type=Path, metavar="FILE", help="a generator.safetensors file")
    parser.add_argument(
        "--diagram", type=Path, metavar="OUT", help="also draw both, and how they train: a .png or .svg"
    )
    options = parser.parse_args(arguments)
    picture: Path | None = options.diagram
    try:
        if picture and picture.suffix not in (".png", ".svg"):
            raise ValueError(f"--diagram must end in .png or .svg: got {str(picture)!r}")
        if picture and not shutil.which("dot"):
            raise ValueError(NO_DOT)
        config = (
            load_generator(options.generator).config
            if options.generator
            else MODELS[ALIASES.get(options.name, options.name)]
        )
        print(text(str(options.generator or options.name), config))
        if picture:
            draw(config, picture)
            print(f"\nDrew {picture}")
    except (ValueError, graphviz.CalledProcessError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{picture}: cannot be written ({error.strerror})")
    return 0


def _fail(message: str) -> int:
    print(f"describe: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
