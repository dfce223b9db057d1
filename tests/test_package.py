"""The package, what travels with a job, and the files for contributors: they agree, and settings are valid."""

import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "trainer", "webapp")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(name: str) -> set[str]:
    """Return the lines of a requirements file, without comments."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {line for line in lines if line}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that pip builds from a copy of the repository."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("out")
    pinned = [path.name for path in ROOT.glob("requirements*.txt")]
    for name in ("pyproject.toml", *pinned, "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=copy, check=True, capture_output=True, timeout=120)
    (path,) = out.iterdir()
    return zipfile.ZipFile(path)


def test_the_package_needs_what_the_requirements_files_pin(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    needed = set(metadata.get_all("Requires-Dist", []))
    assert {line for line in needed if ";" not in line} == requirements("requirements.txt")
    for extra in ("dev", "export", "onnx", "video"):
        marked = {line.partition(";")[0].strip() for line in needed if f'extra == "{extra}"' in line}
        assert marked == requirements(f"requirements-{extra}.txt")
    assert requirements("requirements-onnx.txt") <= requirements("requirements-dev.txt")  # so that its tests run


def test_the_package_has_every_file_of_its_three_packages(wheel: zipfile.ZipFile) -> None:
    files = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*")}
    wanted = {name for name in files if (ROOT / name).is_file() and "__pycache__" not in name}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == wanted


TRAVELLING_SUFFIXES = {".py", ".safetensors", ".gz", ".md"}
"""Suffixes of the tracked files of models/, trainer/ and data/, all of which travel with a job."""
STAYING = {
    "id_rsa", "server.pem", "credentials.json", ".aws/credentials", ".ssh/id_ed25519", ".netrc",
    ".kaggle/kaggle.json", ".ray/auth_token", "auth_token", ".env", ".env.local", ".envrc", "secrets.toml",
    ".streamlit/secrets.toml", "terraform.tfstate", "ray_cluster.local.yaml", "nohup.out", "core.1234", "big.bin",
    ".git/config", ".venv/bin/python", "venv/bin/python", "env/bin/python", "my-runs/forge/run.json",
    "runs/forge/run.json", "pretrained/forge/run.json", "wandb/run.log", "notebooks/tour.ipynb", "deploy/token",
    "__pycache__/x.pyc", "trainer/.env", "trainer/auth_token", "trainer/core.1", "trainer/.aws/credentials",
    "trainer/key.pem", "trainer/secrets.toml", "trainer/own.safetensors", "trainer/__pycache__/launch.pyc",
    "models/id_rsa", "models/.netrc", "models/.ssh/id_ed25519", "models/venv/lib/x.py", "data/secret.key",
    "data/huge.npz", "data/id_rsa", "data/auth_token.gz", "data/own/id_rsa", "data/own/train-images-idx3-ubyte.gz",
    "data/mnist/id_rsa", "data/mnist/.env", "data/mnist/keys.gz", "data/mnist/x/id_rsa", "data/fashion/id_rsa",
}  # fmt: skip
"""Secrets, environments, runs and large files as they lie about in a working copy."""
FETCHED = {"data/fashion/train-images-idx3-ubyte.gz", "data/fashion/classes.txt", "data/usps/t10k-labels-idx1-ubyte"}
"""Files of `python -m trainer fetch`, which .gitignore names."""


@pytest.mark.parametrize("obeys_gitignore", [True, False])
def test_a_job_takes_along_the_code_and_the_data_and_nothing_else(tmp_path: Path, obeys_gitignore: bool) -> None:
    project, package = tmp_path / "project", tmp_path / "package.zip"
    folders = ("models", "trainer", "data/mnist")
    files = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.*")}
    travelling = {name for name in files if Path(name).suffix in TRAVELLING_SUFFIXES} | {"requirements.txt"}
    for name in {*travelling, *STAYING, *FETCHED}:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, project)
    create_package(str(project), package, include_gitignore=obeys_gitignore)  # what `ray job submit` calls
    packed = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert packed == (travelling if obeys_gitignore else travelling | FETCHED)


@pytest.mark.parametrize("name", PROJECT["scripts"])
def test_console_scripts_name_functions_that_need_no_arguments(name: str) -> None:
    main = EntryPoint(name, PROJECT["scripts"][name], "console_scripts").load()
    assert len(main.__defaults__ or ()) == main.__code__.co_argcount


def test_the_version_is_that_of_the_newest_changes_and_of_the_citation() -> None:
    newest = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert newest.groups() == (PROJECT["version"], str(citation["date-released"]))
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_make_accepts_the_versions_of_python_that_the_package_does() -> None:
    accepted = re.search(
        r"not \((\d+), (\d+)\) <= sys.version_info < \((\d+), (\d+)\)", (ROOT / "Makefile").read_text()
    )
    assert accepted
    assert PROJECT["requires-python"] == ">={}.{},<{}.{}".format(*accepted.groups())


@pytest.mark.parametrize(
    "path",
    [".pre-commit-config.yaml", "CITATION.cff", *(str(p.relative_to(ROOT)) for p in ROOT.glob(".github/**/*.yml"))],
)
def test_settings_are_valid_yaml(path: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / path).read_text()), dict)


def test_ci_runs_targets_that_make_has() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert {word for step in steps for word in step.removeprefix("make ").split()} <= targets
    assert {"make lint", "make test-fast", "make test", "make test-long"} == set(steps)


def test_pre_commit_runs_the_ruff_that_is_pinned() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = (repo for repo in hooks if repo["repo"].endswith("/ruff-pre-commit"))
    assert f"ruff=={ruff['rev'].removeprefix('v')}" in requirements("requirements-dev.txt")
