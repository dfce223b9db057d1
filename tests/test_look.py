"""A closer look at one picture: the verdict of the discriminator of an own run."""

import re
import shutil
from pathlib import Path

import pytest
import streamlit as st

from models.views import ExploreView, GenerateView
from tests import golden
from webapp import catalog, inference
from webapp.environment import RUNS_VARIABLE
from webapp.look import look


@pytest.mark.parametrize("name", ["forge", "conv-cgan", "gan"])
def test_the_discriminator_of_an_own_run_is_asked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(golden.RUNS / name, tmp_path / name)
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_data.clear()
    st.cache_resource.clear()
    stored = catalog.generators(f"runs/{name}")[-1]
    key = inference.GeneratorKey(f"runs/{name}", stored.step, stored.sha256)
    digits = (3,) if inference.load(key).config.num_classes else None
    judged = look(key, GenerateView(digits=digits, count=1, seed=5))
    kind = "real 3s" if digits else "real digits"
    assert re.fullmatch(rf"This picture looks more real to it than \d+ of 100 {kind}\.", judged["verdict"])
    assert len(judged["probabilities"]) == 10
    assert judged["reader"] == ""
    hero = look(key, ExploreView(digits=digits, count=1, seed=5, digit=digits[0] if digits else None))
    assert hero["px"] == judged["px"]  # the hero starts at the picture of its first seed
