"""The documentation against the code: the diagram's arrows, the map of files, paths, links and commands."""

import importlib.util
import re
import shlex
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tests.imports import ROOT, imports_in, is_within, modules_of
from trainer.commands import COMMANDS
from trainer.train_command import parse

PACKAGES = ("models", "trainer", "webapp")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
README = (ROOT / "README.md").read_text()

WRITTEN = ("data/cifar10", "data/fashion", "data/usps", "data/writers", "data/stripes", "runs/")
"""Paths in the documents that commands write."""
EXAMPLES = (
    "models/linear.py",
    "tests/golden/curves/forge-plain.json",
    "tests/pages/test_truncation.py",
    "webapp/views/truncation.py",
)
"""Files that the examples in CONTRIBUTING.md add."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def drawn() -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Return the nodes of the diagram, ID -> dotted name of its module, and the arrows as pairs of these names."""
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", ARCHITECTURE, re.DOTALL)
    nodes: dict[str, str] = {}
    package = ""
    for line in diagram.splitlines():
        if found := re.fullmatch(r" *subgraph (\w+)", line):
            package = found[1]
        elif found := re.fullmatch(r" *(\w+)\[([\w/]+)\.py\]", line):
            nodes[found[1]] = f"{package}.{found[2].replace('/', '.')}"
    arrows = [(nodes[a], nodes[b]) for a, b in re.findall(r"(\w+) --> (\w+)", diagram)]
    assert len(arrows) == len(set(arrows))
    return nodes, set(arrows)


def test_the_diagram_has_the_imports_of_its_modules_and_no_others() -> None:
    nodes, arrows = drawn()
    files = {module: path for package in PACKAGES for module, path in modules_of(package).items()}
    imports = {module: imports_in(files[module].read_text(), module) for module in nodes.values()}
    pairs = permutations(nodes.values(), 2)
    assert arrows == {(a, b) for a, b in pairs if any(is_within(imported, (b,)) for imported in imports[a])}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_has_every_module_once(package: str) -> None:
    listed = re.findall(rf"^\| `({package}/\S+)` \| .+ \|$", ARCHITECTURE, re.MULTILINE)
    assert listed == sorted(listed)
    assert listed == sorted(name(path) for path in modules_of(package).values())


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    folders = "models|trainer|webapp|tests|tools|benchmarks|docs|pretrained|data|notebooks|deploy"
    paths = re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w/?|(?<![\w./-])\.github/[\w./-]*\w", document.read_text())
    missing = {path for path in paths if not path.startswith((*WRITTEN, *EXAMPLES)) and not (ROOT / path).exists()}
    assert missing == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_relative_links_of_a_document_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    relative = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_modules_that_a_document_runs_exist(document: Path) -> None:
    for module in set(re.findall(r"python -m ([\w.]+)", document.read_text())):
        spec = importlib.util.find_spec(module)
        assert spec, module
        assert spec.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__"), module


def trainer_commands() -> list[str]:
    """Return the commands in the README's blocks that train a recipe, without what precedes the recipe."""
    text = "\n".join(re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    commands = [command.strip() for command in re.findall(r"python -m trainer (.*)", text)]
    return [command for command in commands if command.split()[0] not in COMMANDS and "--help" not in command]


@pytest.mark.parametrize("command", trainer_commands())
def test_the_trainer_accepts_the_commands_of_the_readme(command: str) -> None:
    arguments = shlex.split(command, comments=True)
    assert parse(arguments).config.recipe == arguments[0]


def test_the_readme_draws_digits_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(snippet, namespace)
    pictures = namespace["pictures"]
    assert isinstance(pictures, np.ndarray)
    assert pictures.shape == (8, 28, 28)
    assert pictures.dtype == np.uint8


def test_make_has_the_targets_that_documents_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE))
        assert named <= targets | ({"browser", "dot"} if document.name == "CHANGELOG.md" else set()), document


def test_messages_that_the_readme_explains_are_those_of_the_code() -> None:
    section = README.partition("## Troubleshooting")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    messages = {message for row in rows for message in re.findall(r"`([^`]+)`", row)} - {"No space left on device"}
    sources = [path for folder in (*PACKAGES, "tools") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(path.read_text() for path in [*sources, ROOT / "Makefile"])
    assert len(messages) > 8
    assert [message for message in messages if message not in text] == []
