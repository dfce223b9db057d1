"""`python -m models.describe`: complete tables, correct edges of diagrams, and one-line messages for mistakes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from models.config import ModelConfig
from models.describe import main
from models.diagram import DIAGRAMS, dot_source
from models.generator_file import generator_bytes
from models.networks import MODELS, build_discriminator, build_generator
from models.trace import Network, layers, sizes, watch, watch_both

SMALL = ModelConfig(architecture="forge", z_dim=6, g_widths=(8, 4), d_widths=(4, 8, 8))


def count_parameters(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def into(network: Network, node: str) -> set[str]:
    """Return the titles of the nodes with an edge to this node."""
    return {network.nodes[start].title for start, end in network.edges if network.nodes[end].title == node}


# --- Tables


@pytest.mark.parametrize("name", MODELS)
def test_tables_have_every_parameter(name: str) -> None:
    for network, build in zip(watch_both(MODELS[name]), (build_generator, build_discriminator), strict=True):
        assert sum(layer.parameters for layer in network.layers) == count_parameters(build(MODELS[name]))
        assert all(layer.output_shape is not None for layer in network.layers)


def test_the_classics_have_the_parameters_of_their_sources() -> None:
    assert sizes(MODELS["conv-cgan"])[0] == (1_363_521, 1_090_001)
    assert sizes(MODELS["mlp-cgan"])[0] == (1_516_636, 943_537)


def test_rows_come_in_the_order_of_calls_with_shapes_and_work() -> None:
    G, D = watch_both(MODELS["conv-cgan"])
    rows = {layer.name: layer for layer in G.layers}
    assert list(rows)[:4] == ["fc", "norms.0", "convs.0", "norms.1"]
    first = rows["convs.0"]
    assert (first.kind, first.output_shape) == ("SameConvTranspose2d 5x5 stride 2", (128, 14, 14))
    assert first.parameters == 128 * 128 * 25 + 128
    assert first.multiply_accumulates == 49 * 128 * 128 * 25
    assert rows["norms.0"].output_shape == (128, 7, 7)
    assert [layer.output_shape for layer in D.layers if layer.name == "convs.2"] == [(128, 4, 4)]
    rows = {layer.name: layer for layer in watch_both(SMALL)[0].layers}
    assert rows["embed"].kind == "Linear without bias"
    assert rows["norm1"].parameters == 2 * 10 * 8


class Odd(nn.Module):
    """A module with a parameter, a submodule with one, a layer that is called twice, and a layer that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.attention = nn.MultiheadAttention(4, 1)
        self.twice = nn.Linear(4, 4)
        self.never = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 4) -> (B, 4)."""
        x = self.twice(torch.relu(self.twice(x)))
        return self.attention(x, x, x)[0] * self.scale.sum()


def test_parameters_outside_of_called_layers_are_counted_once() -> None:
    network = Odd()
    rows = layers(network, torch.zeros(2, 4))
    assert [(row.name, row.parameters) for row in rows] == [
        ("twice", 20),
        ("twice", 0),
        ("attention", 4 * 16 + 4 * 4),
        ("never", 10),
        ("outside of layers", 3),
    ]
    assert sum(row.parameters for row in rows) == count_parameters(network)
    assert [row.output_shape for row in rows[3:]] == [None, None]
    assert [row.multiply_accumulates for row in rows[:2]] == [16, 16]


def test_looking_at_a_network_leaves_it_as_it_was() -> None:
    network = build_generator(MODELS["dcgan"]).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    watch(network, {"z": torch.zeros(1, 100), "c": torch.zeros(1, 0)})
    watch_both(MODELS["gan"])
    assert network.training
    assert all(weights.requires_grad for weights in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


# --- Diagrams


def test_edges_are_those_of_the_forward_pass() -> None:
    G, D = watch_both(MODELS["forge"])
    assert into(G, "concatenate") == {"latent z", "embed"}
    assert into(G, "embed") == {"class c"}
    assert into(G, "conv2") == {"ReLU"}
    assert all(into(G, f"norm{k}") >= {"class c"} for k in (1, 2, 3, 4))
    assert into(G, "norm1") == {"class c", "fc"}
    assert into(D, "multiply") == {"LeakyReLU 0.2", "projection"}
    assert into(D, "add") == {"out", "sum"}
    assert into(D, "logits") == {"add"}
    G, D = watch_both(MODELS["onehot-cdcgan"])
    assert into(G, "concatenate") == {"latent z", "class c"}
    assert into(D, "concatenate") == {"images", "repeat"}


@pytest.mark.parametrize("name", MODELS)
def test_diagrams_name_each_layer_and_the_class_only_where_it_is_used(name: str) -> None:
    config = MODELS[name]
    for which, network in zip(DIAGRAMS, watch_both(config), strict=False):
        source = dot_source(config, (which,))
        assert all(f"<B>{layer.name}</B>" in source for layer in network.layers)
        assert all(layer.kind in source for layer in network.layers)
    for which in DIAGRAMS:
        assert ("class c" in dot_source(config, (which,))) == bool(config.num_classes)
    assert dot_source(config).count("subgraph") == 3


def test_no_edge_from_a_class_of_which_only_the_length_is_used() -> None:
    """Without classes, forge replaces the class by ones, and uses only the number of latents for them."""
    G, _ = watch_both(ModelConfig(**vars(SMALL) | {"num_classes": 0}))
    assert into(G, "norm1") == {"fc"}


def test_no_edge_from_a_tensor_of_which_only_the_shape_is_used() -> None:
    class Lent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Parameter(torch.ones(4))
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.start.expand_as(x))

    assert into(watch(Lent(), {"x": torch.zeros(3, 4)}), "fc") == set()


def test_source_needs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert dot_source(SMALL).startswith("digraph")


# --- The command


def test_the_command_prints_both_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conv-cgan"]) == 0
    header, generator, discriminator = capsys.readouterr().out.strip().split("\n\n")
    assert header.startswith("conv-cgan: architecture conv_cgan, images 1x28x28, latent z of 100 numbers from [-1, 1]")
    assert "conditioning: one-hot beside z" in header
    assert generator.splitlines()[0].split() == ["generator", "kind", "output", "parameters", "MMAC"]
    assert generator.splitlines()[-1].split() == ["total", "1,363,521", "101.67"]
    assert discriminator.splitlines()[-1].split() == ["total", "1,090,001", "19.22"]


def test_the_networks_of_every_recipe_are_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert [main([name]) for name in ("forge", "quick")] == [0, 0]
    printed = capsys.readouterr().out
    forge, _, quick = printed.partition("quick: ")
    assert forge == f"forge: {quick}"


def test_a_closed_pipe_ends_the_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "models.describe", "forge"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_generator_file_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "generator.safetensors"
    path.write_bytes(generator_bytes(build_generator(SMALL), SMALL, {"run": "test"}))
    assert main(["--generator", str(path)]) == 0
    assert f"{count_parameters(build_generator(SMALL)):,}" in capsys.readouterr().out


@pytest.mark.usefixtures("dot_path")
@pytest.mark.parametrize("name", ["forge", "dropout-dcgan"])
def test_pictures_are_drawn(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png, svg = tmp_path / "networks.png", tmp_path / "networks.svg"
    assert [main([name, "--diagram", str(path)]) for path in (png, svg)] == [0, 0], capsys.readouterr().err
    with Image.open(png) as picture:
        assert min(picture.size) > 500
        assert picture.convert("L").getextrema() <= (100, 255)
    words = "".join(ElementTree.parse(svg).getroot().itertext())
    assert all(word in words for word in ("Generator", "Discriminator", "Adversarial", "conv1", "1x28x28"))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diagram", "x.gif", "forge"], "--diagram must end in .png or .svg: got 'x.gif'"),
        (["--generator", "missing"], "missing: cannot be read"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("dot_path")
def test_a_picture_that_cannot_be_written_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    test_mistakes_get_one_line(
        ["--diagram", "no/such/folder/x.svg", "forge"], "no/such/folder/x.svg: cannot be written", capsys
    )


@pytest.mark.parametrize("arguments", [["fogre"], [], ["forge", "--generator", "x"]])
def test_wrong_names_list_the_known_ones(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1
    assert arguments != ["fogre"] or all(name in error for name in (*MODELS, "quick"))


def test_without_dot_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["forge", "--diagram", str(tmp_path / "x.png")]) == 2
    said = capsys.readouterr()
    assert "apt-get install graphviz" in said.err
    assert said.out == ""
