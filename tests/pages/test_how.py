"""The page How it works: what the parts of its story show of a run, and what they say when something is missing."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from models.diagram import DIAGRAMS, dot_source
from models.networks import MODELS
from models.trace import sizes
from tests import golden
from tests.pages import address, check, open_app, words
from tests.sample_run import run_record, write_run
from trainer.run_store import open_store

NETWORKS = "7"
PARTS = {"players": "1", "epochs": "2", "step": "3", "courtroom": "4", "curves": "5", "failures": "6"}


def content(app: AppTest) -> dict[str, Any]:
    """Return the content of the part that is shown, as its component gets it."""
    [data] = [json.loads(each.proto.json) for each in app.get("bidi_component") if "glossary" in each.proto.json]
    found: dict[str, Any] = data["content"]
    return found


def test_a_run_with_its_discriminator_fills_each_part(runs: Path) -> None:
    shutil.copytree(golden.RUNS / "forge", runs / "forge")
    shown = {name: content(open_app("how", part=part, digit="3", seed="5")) for name, part in PARTS.items()}
    assert not [name for name, part in shown.items() if "missing" in part]
    assert len(shown["players"]["latent"]) == 8
    assert [epoch["epoch"] for epoch in shown["epochs"]["epochs"]] == [0]
    assert shown["step"]["improved"] > shown["step"]["after"][1]
    assert len(shown["courtroom"]["reals"]) == 100
    assert shown["failures"]["failures"]


def test_a_run_without_its_discriminator_says_so_and_tells_the_rest(runs: Path) -> None:
    write_run(runs, scored=[1, 2, 3])
    shown = {name: content(open_app("how", part=part)) for name, part in PARTS.items()}
    assert [name for name, part in shown.items() if "missing" in part] == ["step", "courtroom"]
    assert "The detective of this run is not stored" in shown["step"]["missing"]
    assert shown["players"]["fake"]
    assert [epoch["scores"]["fid"] is None for epoch in shown["epochs"]["epochs"]] == [True, False, False, False]
    assert set(shown["curves"]["curves"]) == {"d_acc_real", "d_acc_fake", "d_loss", "g_loss"}


def test_a_run_without_a_generator_or_with_a_damaged_one_says_so(runs: Path) -> None:
    write_run(runs, epochs=0, phase="starting")
    run = write_run(runs, "quick-2", epochs=1)
    Path(run.path, "step_00000050", "generator.safetensors").write_bytes(b"damaged")
    app = open_app("how", run="runs/quick-1")
    assert "no generator yet" in words(app)
    assert "needs a generator" in content(app)["missing"]
    assert "damaged" in content(open_app("how", run="runs/quick-2"))["missing"]


def test_a_run_of_other_classes_takes_the_place_of_a_digit_that_it_lacks(runs: Path) -> None:
    write_run(runs, num_classes=3)
    assert address(open_app("how"))["digit"] == "2"
    app = open_app("how", digit="9")
    assert "do not know class 9" in words(app)
    assert address(app)["digit"] == "2"
    write_run(runs, "gan-1", num_classes=0)
    assert "digit" not in address(open_app("how", run="runs/gan-1"))


@pytest.mark.parametrize("name", MODELS)
def test_architecture_shows_the_networks_of_every_recipe_before_the_first_checkpoint(runs: Path, name: str) -> None:
    config = MODELS[name]
    open_store(runs).run("run-1").create(run_record(recipe=name, config={"model": dataclasses.asdict(config)}))
    app = open_app("how", part=NETWORKS)
    assert address(app).items() >= {"run": "runs/run-1", "part": "7"}.items()
    figures = {metric.label: metric.value for metric in app.metric}
    (g, d), _ = sizes(config)
    assert figures["Generator"].startswith(f"{g:,} parameters")
    assert figures["Discriminator"].startswith(f"{d:,} parameters")
    assert (figures["Class"] == "none") == (config.num_classes == 0)
    diagrams = [chart.proto.spec for chart in app.get("graphviz_chart")]
    assert diagrams == [dot_source(config, (which,)) for which in DIAGRAMS]
    assert [f"{size:,}" in table.value.to_string() for size, table in zip((d, g), app.table, strict=True)] == [
        True,
        True,
    ]


def test_architecture_follows_the_chosen_run(runs: Path) -> None:
    write_run(runs)
    write_run(runs, "gan-1", num_classes=0)
    app = open_app("how", run="runs/gan-1", part=NETWORKS)
    assert "none" in [metric.value for metric in app.metric]
    app.selectbox(key="scope.run").set_value("runs/quick-1")
    assert "none" not in [metric.value for metric in check(app.run()).metric]
    assert address(app).items() >= {"run": "runs/quick-1", "part": "7"}.items()


def test_a_model_of_another_version_is_named(runs: Path) -> None:
    open_store(runs).run("run-1").create(run_record(config={"model": {"architecture": "of tomorrow"}}))
    assert "The networks are not known" in words(open_app("how", part=NETWORKS))


def test_architecture_tells_about_the_recipe_where_the_record_does(runs: Path) -> None:
    about = {"summary": "a *starry* summary", "source": "a source", "notes": "two [links](https://example.org)"}
    record = run_record(recipe="of-mine", config={"model": dataclasses.asdict(MODELS["forge"])}, about=about)
    open_store(runs).run("run-1").create(record)
    app = open_app("how", part=NETWORKS)
    assert app.expander[0].label == "About the recipe of-mine"
    assert "A \\*starry\\* summary" in words(app)  # a record may be a stranger's: no Markdown of it is rendered
    assert "Two \\[links\\]" in words(app)
    assert "Source: a source" in words(app)
    open_store(runs).run("run-2").create(run_record(config={"model": dataclasses.asdict(MODELS["forge"])}))
    assert not open_app("how", run="runs/run-2", part=NETWORKS).expander
