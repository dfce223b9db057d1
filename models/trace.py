"""Trace a forward pass: which layers a network calls, with which tensors, and how much work they do.

The networks of a config run on PyTorch's meta device, where tensors have shapes but no values. So nothing is computed,
and no random number is drawn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.config import ModelConfig
from models.discriminator import Discriminator
from models.dropout import Dropout
from models.networks import build_discriminator, build_generator
from models.sampling import evaluating

INPUTS, OUTPUTS = ("z", "c", "images"), ("logits", "class logits")
"""Names of the inputs of both networks, and of the outputs of a discriminator."""
TITLES = {"z": "latent z", "c": "class c"}
"""Titles of the inputs whose name is too short."""

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
"""Functions of one tensor that become nodes, and their titles. Others, such as reshaping, do not."""
JOINTS = {"cat": "concatenate", "add": "add", "mul": "multiply"}
"""Titles of functions of several tensors. All of these become nodes; one without a title gets PyTorch's name."""


@dataclass(frozen=True)
class Layer:
    """A layer of a network, in the order of calls."""

    name: str
    kind: str
    """Its class and settings, such as `Conv2d 4x4 stride 2`."""
    output_shape: tuple[int, ...] | None
    """Shape for one image; None = the forward pass does not call this layer."""
    parameters: int
    """Number of trainable parameters, without those that an earlier layer shares."""
    multiply_accumulates: int
    """Multiply-accumulates in layers with weights, for one image."""


@dataclass(frozen=True)
class Node:
    """A layer, function, input or output in the graph of a forward pass."""

    role: str
    """One of `INPUTS`, `OUTPUTS`, dense, convolution, other (a layer), operation, network."""
    title: str
    lines: tuple[str, ...]
    """More lines of text."""
    shape: tuple[int, ...] | None
    """Output shape for one image; None = not shown."""


@dataclass(frozen=True)
class Network:
    """The layers of a forward pass, and its graph."""

    layers: list[Layer]
    nodes: dict[str, Node]
    edges: list[tuple[str, str]]
    """(from, to): keys of nodes, in the direction of the tensors."""

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates in layers with weights, for one image."""
        return sum(layer.multiply_accumulates for layer in self.layers)


class _Watch(TorchFunctionMode):
    """Record which layers and functions are called, and where their tensors come from."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []
        self.counted: set[nn.Parameter] = set()
        self.origins: dict[int, tuple[str, Tensor]] = {}
        """`id` of a tensor -> the node it comes from, and the tensor itself, kept so that its `id` is not reused."""
        self.inside = False
        """Whether a layer is being called; functions within a layer are not recorded."""
        self.multiply_accumulates = 0
        """Multiply-accumulates of the layer being called."""

    def add(self, key: str, node: Node, inputs: Any, outputs: Any) -> None:
        """Record a node between tensors."""
        while key in self.nodes:  # a layer that is called again
            key += "'"
        self.nodes[key] = node
        self.edges += [(start, key) for start in self.starts(inputs)]
        self.origins |= {id(tensor): (key, tensor) for tensor in _tensors(outputs)}

    def starts(self, inputs: Any) -> list[str]:
        """Return the nodes that tensors come from."""
        known = (self.origins[id(tensor)][0] for tensor in _tensors(inputs) if id(tensor) in self.origins)
        return list(dict.fromkeys(known))

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, and record it if it becomes a node."""
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        starts = [] if self.inside else self.starts([args, kwargs])
        # A result without a gradient used only the shape of its inputs, as in `new_ones` and `expand_as`.
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
        """Prepare for the call of a layer (forward pre-hook)."""
        self.inside, self.multiply_accumulates = True, 0

    def leave(self, name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Record the call of a layer (forward hook)."""
        self.inside = False
        first = _tensors(output)[0]
        shape = _shape(first)
        self.add_row(name, layer, shape, self.multiply_accumulates // len(first))
        self.add(name, Node(_role(layer), name, (_kind(layer),), shape), inputs, output)

    def add_row(self, name: str, layer: nn.Module, shape: tuple[int, ...] | None, multiply_accumulates: int) -> None:
        """Add a layer to the list."""
        new = set(layer.parameters()) - self.counted
        self.counted |= new
        self.layers.append(Layer(name, _kind(layer), shape, sum(map(Tensor.numel, new)), multiply_accumulates))

    def count(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the multiply-accumulates of a layer, or of a module within one (forward hook)."""
        if isinstance(layer, nn.Linear):
            self.multiply_accumulates += output.shape[:-1].numel() * layer.weight.numel()
        elif isinstance(layer, nn.Conv2d):  # each output sums over a window of all input channels
            self.multiply_accumulates += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.ConvTranspose2d):  # each input is added to a window of all output channels
            self.multiply_accumulates += inputs[0].numel() * layer.weight[0].numel()


def watch(network: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...] = ()) -> Network:
    """Run a network on inputs (B, ...) by name and return what it did; `outputs` names its results.

    A layer is a module that has no submodules, or parameters of its own. A discriminator with an auxiliary classifier
    also predicts the classes. The network is left as it was.
    """
    seen = _Watch()
    tensors = [tensor.detach().requires_grad_() for tensor in inputs.values()]
    for name, tensor in zip(inputs, tensors, strict=True):
        if tensor.numel():  # the class rows of an unconditional network have no columns
            seen.add(name, Node(name, TITLES.get(name, name), (), _shape(tensor)), [], tensor)
    names = dict(_layers(network))
    hooks = [module.register_forward_hook(seen.count) for module in network.modules()]
    for layer, name in names.items():
        hooks.append(layer.register_forward_pre_hook(seen.enter))
        hooks.append(layer.register_forward_hook(partial(seen.leave, name)))
    trainable = [weights for weights in network.parameters() if weights.requires_grad]
    network.requires_grad_(False)  # so that a tensor has a gradient only if it comes from the inputs
    call = network.read if isinstance(network, Discriminator) and network.has_classifier else network
    with evaluating(network), seen, torch.enable_grad():  # BatchNorm has no batch statistics for one image
        results = _tensors(call(*tensors))
    for hook in hooks:
        hook.remove()
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
    """Return the layers of a forward pass on inputs (B, ...); together they have all parameters of the network."""
    return watch(network, {f"input {k}": tensor for k, tensor in enumerate(inputs)}).layers


def watch_both(config: ModelConfig) -> tuple[Network, Network]:
    """Return the generator and the discriminator of a config."""
    with torch.device("meta"):
        images = config.group_size  # D may need several images at a time
        z, c = torch.zeros(images, config.z_dim), torch.zeros(images, config.condition_width)
        G = watch(build_generator(config), {"z": z, "c": c}, ("images",))
        shown = {"images": torch.zeros(images, *config.image_shape), "c": c}
        return G, watch(build_discriminator(config), shown, OUTPUTS)


def sizes(config: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return ((trainable parameters of G, of D), (multiply-accumulates of G, of D for one image))."""
    G, D = watch_both(config)
    return (G.parameters, D.parameters), (G.multiply_accumulates, D.multiply_accumulates)


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Return a shape as text, such as 64x7x7; "1" for a single number, "" for None."""
    return "" if shape is None else "x".join(map(str, shape)) or "1"


def mmac(part: Layer | Network) -> str:
    """Return millions of multiply-accumulates, as text with two decimals."""
    return f"{part.multiply_accumulates / 1e6:.2f}"


def _tensors(values: Any) -> list[Tensor]:
    """Return all tensors in nested arguments or results."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    return [tensor for value in values for tensor in _tensors(value)] if isinstance(values, list | tuple) else []


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape[1:])


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[nn.Module, str]]:
    """Yield each layer within a module, with its name."""
    for name, part in module.named_children():
        if next(part.children(), None) is None or next(part.parameters(recurse=False), None) is not None:
            yield part, prefix + name
        else:
            yield from _layers(part, f"{prefix}{name}.")


def _kind(layer: nn.Module) -> str:
    """Return a layer's class and settings in words."""
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


def _role(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return "convolution"
    return "dense" if isinstance(layer, nn.Linear) else "other"
