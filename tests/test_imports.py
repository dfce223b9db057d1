"""The rules for imports between models/, trainer/ and webapp/, and for the libraries that imports may load."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.imports import ROOT, imports_in, is_within, modules_of

OURS = ("models", "trainer", "webapp")
SHARED = ("trainer.run_store", "trainer.data")
"""The modules of the trainer that the web app may use."""

ALLOWED = {"models": ("models",), "trainer": ("trainer", "models"), "webapp": ("webapp", "models", *SHARED)}
"""Package -> packages and modules of this project that its files may import."""
FORBIDDEN = {"models": {"ray", "streamlit"}, "trainer": {"streamlit"}, "webapp": {"ray"}}
"""Package -> libraries that neither its files nor anything they import may load."""
ACT_WHEN_IMPORTED = ("__main__", "webapp.app")
"""Programs, and the script of Streamlit. They are only read as text, because importing them runs them."""

# Prints the modules that are loaded after importing those named in argv, and side effects of the imports.
# Entries of sys.modules without a spec were added by compiled code and come from no file.
PROBE = """
import importlib, os, sys, threading
modules = sys.argv[1:]
sys.argv[1:] = ["--no-such-option"]
for module in modules:
    importlib.import_module(module)
print(*[name for name, module in sys.modules.items() if getattr(module, "__dict__", {}).get("__spec__")])
print(*[thread.name for thread in threading.enumerate() if thread is not threading.main_thread()], *os.listdir())
"""


@cache
def loaded_by(*modules: str, folder: Path) -> frozenset[str]:
    """Return all modules loaded after importing these in a new process; fail if importing has side effects."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *modules],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *_, loaded, effects = done.stdout.split("\n")[:-1]
    assert not effects, f"importing {modules} started threads or wrote files: {effects}"
    return frozenset(loaded.split())


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b as c\ndef f(): from trainer import launch, data\nfrom . import views\nfrom ..d import e"
    absolute = {"a.b", "trainer.launch", "trainer.data"}
    assert imports_in(source, "webapp.parts.x") == absolute | {"webapp.parts.views", "webapp.d.e"}
    assert imports_in(source, "webapp.parts", is_package=True) == absolute | {"webapp.parts.views", "webapp.d.e"}
    assert is_within("trainer.data.MNIST", SHARED)
    assert not is_within("trainer.data_extra", SHARED)
    assert not is_within("trainer", SHARED)


@pytest.mark.parametrize("package", OURS)
def test_each_file_imports_only_what_its_package_may(package: str) -> None:
    for module, path in modules_of(package).items():
        for name in sorted(imports_in(path.read_text(), module, path.name == "__init__.py")):
            if name.partition(".")[0] in (*OURS, "tests", "benchmarks"):
                assert is_within(name, ALLOWED[package]), f"{path.relative_to(ROOT)} imports {name}"
            assert not is_within(name, tuple(FORBIDDEN[package])), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", OURS)
def test_importing_a_package_loads_only_what_it_may(package: str, empty: Path) -> None:
    modules = [name for name in modules_of(package) if not name.endswith(ACT_WHEN_IMPORTED)]
    loaded = loaded_by(*modules, folder=empty)
    assert set(modules) <= loaded
    assert not loaded & FORBIDDEN[package]
    of_ours = {name for name in loaded if is_within(name, OURS)}
    if package == "webapp":
        of_ours -= loaded_by(*SHARED, folder=empty)  # the shared modules may load what they need
    assert {name for name in of_ours if not is_within(name, ALLOWED[package])} == set()


def test_the_run_store_is_readable_without_torch_ray_or_streamlit(empty: Path) -> None:
    loaded = loaded_by("trainer.run_store", folder=empty)
    assert "trainer.run_store" in loaded
    assert not loaded & {"torch", "ray", "streamlit"}


def test_the_data_need_numpy_alone(empty: Path) -> None:
    roots = {name.partition(".")[0] for name in loaded_by("trainer.data", folder=empty)}
    own = {"trainer", "models"}
    assert {name for name in roots - sys.stdlib_module_names if not name.startswith("_")} == {"numpy", *own}
