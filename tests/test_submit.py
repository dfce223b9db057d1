"""`python -m trainer submit` before anything is sent; tests/test_cluster.py sends jobs to a cluster."""

import http.server
import json
import shlex
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainer import data, submit
from trainer.__main__ import main
from trainer.data import WRITER_INDICES, WRITER_NUMBERS
from trainer.submit import ADDRESS, IGNORE_GITIGNORE, check_size, files_with_data

ROOT = Path(__file__).resolve().parent.parent
DRY = ["--runs", "s3://bucket/runs", "--address", "http://127.0.0.1:8265", "--dry-run"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ADDRESS, IGNORE_GITIGNORE, "RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the repository's ignore files and data of three datasets, which stands for the repository."""
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, tmp_path)
    for dataset in ("mnist", "fashion", "stripes"):
        (tmp_path / "data" / dataset).mkdir(parents=True)
        (tmp_path / "data" / dataset / "train-images-idx3-ubyte").write_bytes(b"12345")
    monkeypatch.setattr(submit, "ROOT", tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Submit with these arguments; return the words of the plain command that it prints."""
    assert main(["submit", *arguments]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "ray job submit" in line)
    return shlex.split(line)


def test_the_plain_command_is_printed_with_every_flag_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    training = ["forge", "--workers", "4", "--name", "try-1", "--model.g-widths", "8", "4", "--extend"]
    words = printed(capsys, *training, *DRY)
    assert words[:5] == ["ray", "job", "submit", "--address", "http://127.0.0.1:8265"]
    assert words[5] == "--submission-id"
    assert words[6].startswith("try-1-20")
    assert words[7:10] == ["--working-dir", ".", "--runtime-env-json"]
    assert json.loads(words[10]) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}
    assert words[11:] == ["--", "python", "-m", "trainer", *training, "--runs", "s3://bucket/runs"]


def test_the_plain_command_does_the_same_in_another_folder_and_beside_another_address(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ADDRESS, "http://elsewhere:8265")  # Ray prefers it to --address
    words = printed(capsys, "forge", *DRY, "--dataset", str(ROOT / "data" / "mnist"))
    assert words[0] == f"{ADDRESS}=http://127.0.0.1:8265"
    assert words[words.index("--working-dir") + 1] == str(ROOT)
    assert words[words.index("--dataset") + 1] == ""


def test_the_address_may_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, "https://cluster:8265/")
    words = printed(capsys, "forge", "--runs", "/shared/runs", "--dry-run")
    assert words[words.index("--address") + 1] == "https://cluster:8265"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["forge", "--worker", "2", *DRY], "--worker"),
        (["frog", *DRY], "unknown recipe 'frog'"),
        (["forge", "--workers", "99", *DRY], "workers: got 99"),
        (["forge", *DRY, "--name", "../x"], "'../x' cannot be the name of a run"),
        (["forge", *DRY, "--dataset", "nowhere"], "--dataset: nowhere is not a folder"),
        (["forge", *DRY, "--dataset", "docs"], "--dataset: docs does not travel with a job"),
        (["forge", *DRY, "--runs", "runs"], "--runs must be an absolute path"),
        (["forge", "--address", "http://127.0.0.1:8265"], "--runs must be an absolute path"),
        (["forge", "--runs", "/runs"], f"--address is missing: the URL of the cluster's dashboard, which {ADDRESS}"),
        (["forge", *DRY, "--address", "127.0.0.1:8265"], "--address must be the URL of a dashboard"),
        (["forge", *DRY, "--address", "ray://127.0.0.1:10001"], "--address must be the URL of a dashboard"),
    ],
)
def test_a_mistake_is_reported_in_one_line_before_anything_is_sent(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("trainer submit: ")
    assert message in line


def test_fetched_data_travel_when_they_are_trained_on(copy: Path) -> None:
    assert files_with_data("") == ({"data/mnist/train-images-idx3-ubyte": 5}, False)
    files, ignores_gitignore = files_with_data("data/fashion")
    assert "data/fashion/train-images-idx3-ubyte" in files
    assert ignores_gitignore
    with pytest.raises(ValueError, match=r"--dataset: data/stripes does not travel with a job: name it in \.rayignore"):
        files_with_data("data/stripes")
    with (copy / ".rayignore").open("a") as file:
        file.write("!/data/stripes\n")
    assert "data/stripes/train-images-idx3-ubyte" in files_with_data("data/stripes")[0]


def test_the_writers_travel_when_a_recipe_needs_them(copy: Path) -> None:
    files = {f"data/writers/{name}": 5 for name in (WRITER_INDICES, WRITER_NUMBERS)}
    (copy / "data" / "writers").mkdir()
    for name in files:
        (copy / name).write_bytes(b"12345")
    assert files_with_data("") == ({"data/mnist/train-images-idx3-ubyte": 5}, False)
    packed, ignores_gitignore = files_with_data("", has_writers=True)
    assert files.items() <= packed.items()
    assert ignores_gitignore


def test_the_writers_must_be_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(data, "WRITERS", tmp_path / "writers")
    assert main(["submit", "writers", *DRY]) == 2
    assert "writers, which is missing: download" in capsys.readouterr().err


def test_a_large_package_is_announced_and_one_that_no_dashboard_accepts_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_size({"data/x": 50 << 20})
    assert capsys.readouterr().out == "1 files with 50.0 MiB travel with the job.\n"
    files = {"a": 1 << 20, "b": 20 << 20, "c": 25 << 20, "d": 14 << 20}
    check_size(files)
    assert capsys.readouterr().out == (
        "Warning: 4 files with 60.0 MiB travel with the job. The largest: c (25.0 MiB), b (20.0 MiB), d (14.0 MiB)\n"
    )
    with pytest.raises(ValueError, match=r"5 files with 110\.0 MiB .* accepts 100 MiB\. The largest: e \(50\.0 MiB\)"):
        check_size(files | {"e": 50 << 20})


@contextmanager
def dashboard(status: int, body: str) -> Iterator[str]:
    """Serve an answer to every request on this machine; yield the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, '{"authentication_mode": "token"}', "the cluster requires its token: set RAY_AUTH_MODE=token"),
        (404, "", "is not the dashboard of a Ray cluster; check --address"),
        (200, "<html>", "is not the dashboard of a Ray cluster; check --address"),
        (200, "[]", "is not the dashboard of a Ray cluster; check --address"),
    ],
)
def test_an_answer_of_another_kind_is_explained_in_one_line(
    status: int, body: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with dashboard(status, body) as address:
        assert main(["submit", "forge", "--runs", "/runs", "--address", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_closed_port_is_named_with_what_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert main(["submit", "forge", "--runs", "/runs", "--address", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"trainer submit: nobody answers at {address} (")
    assert "check --address or RAY_API_SERVER_ADDRESS" in line


def test_a_job_refuses_a_folder_that_would_vanish_with_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # as in a job that the plain command submitted
    assert main(["forge", "--runs", "runs"]) == 2
    assert "trainer: --runs must be an absolute path or a URI in a job" in capsys.readouterr().err
