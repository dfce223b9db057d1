"""The order of all tests, and fixtures for the programs that some of them need."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tools.programs import MissingProgramError, find_chromium, find_dot

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Ray lowers the priority of its workers. Beside other tests they would hardly run, and reach the time limits.
os.environ |= {"RAY_worker_niceness": "0"}
if "PYTEST_XDIST_WORKER" in os.environ:
    # The processes of `make test` share the cores. More threads would wait for each other, and OpenMP waits actively.
    os.environ["OMP_NUM_THREADS"] = "1"

# No deadline: durations vary widely when tests share the cores with a training.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.hookimpl(trylast=True)  # after tests were left out by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fast tests first, so that simple mistakes show within seconds, then slow ones, module by module.

    `make test` runs three processes, because many tests wait. Starting the modules with the longest time limits first
    makes all end at about the same time. The tests of a module stay together, because they share a browser.
    """
    limits: dict[str, float] = {}
    for item in items:
        timeout = item.get_closest_marker("timeout")
        module = item.nodeid.partition("::")[0]
        limits[module] = max(limits.get(module, 0), timeout.args[0] if timeout else 0)

    def order(item: pytest.Item) -> tuple[bool, float]:
        return item.get_closest_marker("slow") is not None, -limits[item.nodeid.partition("::")[0]]

    items.sort(key=order)


def found(find: Callable[[], str]) -> str:
    """Return the path of a program. If it is missing, skip the test; under CI, fail, because a skip goes unnoticed."""
    try:
        return find()
    except MissingProgramError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def own_main_module() -> Iterator[None]:
    """Restore `__main__`, which Streamlit's test runner replaces, because spawned processes import it by its path."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def writers() -> Iterator[Path]:
    """The folder of as many made-up writers as the recipe `writers` knows, where `trainer.data` finds them."""
    from tests.training import made_up_writers  # late: it imports torch

    with made_up_writers() as folder:
        yield folder


@pytest.fixture(scope="module")
def s3_uri() -> Iterator[str]:
    """The URI of a bucket on a local S3 server, with `{prefix}` to fill in."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # otherwise the client sends requests outside
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        server = ThreadedMotoServer("127.0.0.1", 0)
        server.start()
        host, port = server.get_host_and_port()
        options = {"scheme": "http", "endpoint_override": f"{host}:{port}", "region": "us-east-1"}
        S3FileSystem(**options, allow_bucket_creation=True).create_dir("digits")
        yield "s3://digits/{prefix}?" + "&".join(f"{key}={value}" for key, value in options.items())
        server.stop()


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The path of the browser for tests."""
    return found(find_chromium)


@pytest.fixture(scope="session")
def dot_path() -> str:
    """The path of Graphviz's `dot`, for tests that draw diagrams."""
    return found(find_dot)


@pytest.fixture(scope="session")
def served_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of `site`, with one finished run, quick-1. Tests add runs of other names, and none that is trained."""
    from tests.sample_run import write_run  # late: it imports torch

    runs = tmp_path_factory.mktemp("served")
    write_run(runs, scored=[1, 2, 3])
    return runs


@pytest.fixture(scope="session")
def site(served_runs: Path) -> Iterator[str]:
    """The URL of the app, served as `make demo` serves it. Its start takes seconds, so the tests share it."""
    from tests.browser import serve

    with serve(served_runs, "--allow-host", "lab.example") as url:
        yield url


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> "Iterator[Browser]":
    """A running Chromium."""
    from playwright.sync_api import expect, sync_playwright  # late: most test sessions need no browser

    expect.set_options(timeout=20_000)  # the machine may be busy with a training
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium_path, args=arguments)
        yield browser
        browser.close()
