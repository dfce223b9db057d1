"""Draw the graph of both networks, and of their training, with Graphviz."""

from dataclasses import replace
from html import escape
from pathlib import Path

import graphviz

from models.config import ModelConfig
from models.files import written_whole
from models.trace import INPUTS, OUTPUTS, TITLES, Network, Node, mmac, shape_text, watch_both

DIAGRAMS = ("generator", "discriminator", "adversarial")
NO_DOT = (
    "the program `dot`, which draws the diagram, is not installed; install Graphviz: apt-get install graphviz "
    "(brew install graphviz on a Mac)"
)

INK, QUIET, LINE = "#1d2430", "#566072", "#8490a3"
"""Colors of titles, of small text, and of edges; edges must be visible on white and on black."""
CLASS_EDGE = {"color": "#d98324", "weight": "0"}
"""Weight 0 lets the class enter from the side, so that the other nodes stay in line."""
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
"""Role of a node -> its color."""
FONT = "Helvetica,Arial,sans-serif"


def diagram(config: ModelConfig, which: tuple[str, ...] = DIAGRAMS) -> graphviz.Digraph:
    """Return one of `DIAGRAMS`, or several side by side."""
    G, D = watch_both(config)
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
    """Return the diagrams in Graphviz's language. This does not need Graphviz's programs."""
    return str(diagram(config, which).source)


def write_diagram(config: ModelConfig, path: Path) -> None:
    """Write all diagrams as one picture, .png or .svg. Raises `graphviz.CalledProcessError` if `dot` fails."""
    graph = diagram(config)
    graph.attr(bgcolor="#ffffff", dpi="144" if path.suffix == ".png" else "72")
    with written_whole(path) as file:
        file.write(graph.pipe(path.suffix[1:]))


def _draw(graph: graphviz.Digraph, prefix: str, nodes: dict[str, Node], edges: list[tuple[str, str]]) -> None:
    """Add nodes and edges to a graph; `prefix` tells nodes of several diagrams apart."""
    used = {key for edge in edges for key in edge}
    for key, node in nodes.items():
        if key in used:
            small = "".join(f'<BR/><FONT COLOR="{QUIET}">{escape(line)}</FONT>' for line in node.lines)
            if node.shape is not None:
                small += f"<BR/>{shape_text(node.shape)}"
            graph.node(f"{prefix} {key}", f"<<B>{escape(node.title)}</B>{small}>", fillcolor=FILLS.get(node.role, ""))
    for start, end in edges:
        graph.edge(f"{prefix} {start}", f"{prefix} {end}", **(CLASS_EDGE if start == "c" else {"color": LINE}))


def _joined(network: Network) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Return nodes and edges with fewer nodes: a function is written into the node before it if it is alone there."""
    nodes, edges = dict(network.nodes), list(network.edges)
    for key, node in network.nodes.items():
        starts = [start for start, end in edges if end == key]
        if node.role != "operation" or len(starts) != 1:
            continue
        before = nodes[starts[0]]
        if before.role in INPUTS or [start for start, _ in edges].count(starts[0]) > 1:
            continue
        if before.role == "operation":
            joined = replace(before, title=f"{before.title}, {node.title}", shape=node.shape)
        else:
            joined = replace(before, lines=(*before.lines, node.title), shape=node.shape)
        nodes[starts[0]] = joined
        del nodes[key]
        edges.remove((starts[0], key))
        edges = [(starts[0] if start == key else start, end) for start, end in edges]
    return nodes, edges


def _adversarial(config: ModelConfig, G: Network, D: Network) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Return nodes and edges of both networks in training, each network as one node."""
    image = config.image_shape
    nodes = {
        "z": Node("z", TITLES["z"], (), (config.z_dim,)),
        "c": Node("c", TITLES["c"], (), (config.condition_width,)),
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
