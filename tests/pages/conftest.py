"""Fixtures of the tests of pages: stores of runs for the app, and empty caches."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from tests.sample_run import write_run
from webapp import catalog
from webapp.environment import RUNS_VARIABLE


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of runs for the app, which has no shipped runs either."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    monkeypatch.setattr(catalog, "PRETRAINED", tmp_path / "pretrained")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read-only store with one finished run."""
    runs = tmp_path_factory.mktemp("written")
    write_run(runs)
    return runs


@pytest.fixture
def sample(runs: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the app see one finished run, quick-1."""
    monkeypatch.setenv(RUNS_VARIABLE, str(written))
