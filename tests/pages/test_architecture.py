"""The Architecture page: the networks of a run."""

import dataclasses
from pathlib import Path

import pytest

from models.diagram import DIAGRAMS, dot_source
from models.networks import MODELS
from models.trace import sizes
from tests.pages import address, check, open_app, words
from tests.sample_run import run_record, write_run
from trainer.run_store import open_store


@pytest.mark.parametrize("name", MODELS)
def test_architecture_shows_the_networks_of_every_recipe_before_the_first_checkpoint(runs: Path, name: str) -> None:
    config = MODELS[name]
    open_store(runs).run("run-1").create(run_record(recipe=name, config={"model": dataclasses.asdict(config)}))
    app = open_app("architecture")
    assert address(app) == {"run": "runs/run-1"}
    figures = {metric.label: metric.value for metric in app.metric}
    (g, d), _ = sizes(config)
    assert figures["Generator"].startswith(f"{g:,} parameters")
    assert figures["Discriminator"].startswith(f"{d:,} parameters")
    assert (figures["Class"] == "none") == (config.num_classes == 0)
    diagrams = [chart.proto.spec for chart in app.get("graphviz_chart")]
    assert diagrams == [dot_source(config, (which,)) for which in DIAGRAMS]
    assert [f"{size:,}" in table.value.to_string() for size, table in zip((g, d), app.table, strict=True)] == [
        True,
        True,
    ]


def test_architecture_follows_the_chosen_run(runs: Path) -> None:
    write_run(runs)
    write_run(runs, "gan-1", num_classes=0)
    app = open_app("architecture", run="runs/gan-1")
    assert "The networks of gan-1" in words(app)
    app.selectbox(key="scope.run").set_value("runs/quick-1")
    assert "The networks of quick-1" in words(check(app.run()))
    assert address(app) == {"run": "runs/quick-1"}


def test_a_model_of_another_version_is_named(runs: Path) -> None:
    open_store(runs).run("run-1").create(run_record(config={"model": {"architecture": "of tomorrow"}}))
    assert "The networks are not known" in words(open_app("architecture"))


def test_architecture_tells_about_the_recipe_where_the_record_does(runs: Path) -> None:
    about = {"summary": "a *starry* summary", "source": "a source", "notes": "two [links](https://example.org)"}
    record = run_record(recipe="of-mine", config={"model": dataclasses.asdict(MODELS["forge"])}, about=about)
    open_store(runs).run("run-1").create(record)
    app = open_app("architecture")
    assert app.expander[0].label == "About the recipe of-mine"
    assert "A \\*starry\\* summary" in words(app)  # a record may be a stranger's: no Markdown of it is rendered
    assert "Two \\[links\\]" in words(app)
    assert "Source: a source" in words(app)
    open_store(runs).run("run-2").create(run_record(config={"model": dataclasses.asdict(MODELS["forge"])}))
    assert not open_app("architecture", run="runs/run-2").expander
