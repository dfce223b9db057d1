"""Every page of the app, and every page that stands in for one, as Streamlit's own test runner sees them."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from models.diagram import DIAGRAMS, dot_source
from models.networks import MODELS
from models.trace import sizes
from tests.sample_run import (
    FLOOR,
    STEPS_PER_EPOCH,
    evaluation,
    model_config,
    run_record,
    write_checkpoint,
    write_epoch,
    write_run,
)
from trainer.metrics import EPOCH_COUNT
from trainer.run_store import EpochSummary, Progress, Run, open_store
from webapp import catalog, charts
from webapp.environment import RUNS_VARIABLE

APP = str(Path(__file__).resolve().parent.parent / "webapp" / "app.py")
KINDS = ("generate", "interpolate", "gallery", "training", "architecture")

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of runs, beside an empty one of shipped runs."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    monkeypatch.setattr(catalog, "PRETRAINED", tmp_path / "pretrained")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run, which no test changes."""
    runs = tmp_path_factory.mktemp("written")
    write_run(runs)
    return runs


@pytest.fixture
def sample(runs: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app sees one finished run, quick-1."""
    monkeypatch.setenv(RUNS_VARIABLE, str(written))


def open_app(kind: str = "generate", **query: str) -> AppTest:
    """The page of a kind as opened by a link."""
    app = AppTest.from_file(APP, default_timeout=30)
    app._page_hash = "" if kind == "generate" else calc_hash(kind)
    for name, value in query.items():
        app.query_params[name] = value
    return check(app.run())


def check(app: AppTest) -> AppTest:
    assert not app.exception, [error.message for error in app.exception]
    return app


def words(app: AppTest) -> str:
    """All text on a page."""
    found = [*app.header, *app.subheader, *app.markdown, *app.caption, *app.warning, *app.error, *app.code, *app.info]
    return "\n".join(str(element.value) for element in found)


def html(app: AppTest) -> str:
    return "\n".join(str(element.proto.body) for element in app.get("html"))


def address(app: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def refresh(app: AppTest) -> AppTest:
    """Another run of the script, after what it remembers for a moment has expired."""
    st.cache_data.clear()
    return check(app.run())


# --- Generate


@pytest.mark.usefixtures("sample")
def test_generate_shows_every_digit_and_writes_its_address() -> None:
    app = open_app()
    assert html(app).count("<img ") == 100
    assert 'alt="A handwritten 7, seed 3"' in html(app)
    assert address(app) == {
        "run": "runs/quick-1",
        "step": "150",
        "digits": "0-9",
        "count": "10",
        "seed": "0",
        "truncation": "1",
    }


@pytest.mark.usefixtures("sample")
def test_a_link_opens_the_same_pictures() -> None:
    app = open_app(digits="3.7", count="4", seed="11", truncation="0.5", step="100")
    assert app.pills(key="generate.digits").value == [3, 7]
    assert app.slider(key="generate.truncation").value == 0.5
    again = open_app(**address(app))
    assert html(again) == html(app)
    assert html(app).count("<img ") == 8
    assert "A handwritten 3, seed 14" in html(app)


@pytest.mark.usefixtures("sample")
def test_widgets_change_pictures_and_address() -> None:
    app = open_app()
    app.pills(key="generate.digits").set_value([7])
    app.slider(key="generate.count").set_value(3)
    app.text_input(key="generate.seed").set_value("42")
    check(app.run())
    assert html(app).count("<img ") == 3
    assert address(app)["digits"] == "7"
    assert address(app)["seed"] == "42"
    app.button(key="generate.roll").click()
    check(app.run())
    assert address(app)["seed"] == app.text_input(key="generate.seed").value
    app.button(key="generate.all").click()
    assert address(check(app.run()))["digits"] == "0-9"


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1e3", "inf", "", "٣", "9" * 10])
@pytest.mark.usefixtures("sample")
def test_a_seed_that_is_none_is_named_and_the_last_one_stays(seed: str) -> None:
    app = open_app(seed="5")
    app.text_input(key="generate.seed").set_value(seed)
    check(app.run())
    assert "shown is still 5" in words(app)
    assert address(app)["seed"] == "5"


def test_a_generator_without_classes_has_no_digits_to_choose(runs: Path) -> None:
    write_run(runs, "gan-1", num_classes=0)
    app = open_app(digits="3")
    assert "without labels" in words(app)
    assert not app.pills
    assert html(app).count("<img ") == 10
    assert "digits" not in address(app)
    assert not open_app("interpolate").selectbox(key="scope.run").disabled


@pytest.mark.usefixtures("sample")
def test_digits_that_the_generator_does_not_know_are_named() -> None:
    app = open_app(digits="3.55")
    assert "digits 0 to 9 only; digit 55 left out" in words(app)
    assert address(app)["digits"] == "3"
    assert "no digit 77; shown instead: 3" in words(open_app("interpolate", from_digit="77"))


# --- Interpolate


@pytest.mark.usefixtures("sample")
def test_interpolate_opens_from_its_link() -> None:
    link = {"from_digit": "2", "from_seed": "8", "to_digit": "5", "to_seed": "9", "path": "lerp", "frames": "12"}
    app = open_app("interpolate", run="runs/quick-1", step="100", **link)
    assert address(app) == {"run": "runs/quick-1", "step": "100", **link}
    assert app.selectbox(key="interpolate.to.digit").value == 5
    app.text_input(key="interpolate.to.seed").set_value("nonsense")
    assert "shown is still 9" in words(check(app.run()))
    app.button(key="interpolate.from.roll").click()
    assert address(check(app.run()))["from_seed"] != "8"


# --- Gallery


def test_gallery_has_every_epoch(runs: Path) -> None:
    write_run(runs, epochs=2)
    app = open_app("gallery")
    assert address(app) == {"run": "runs/quick-1", "epoch": "2"}
    assert address(open_app("gallery", epoch="1"))["epoch"] == "1"
    app = open_app("gallery", epoch="9")
    assert "**epoch** 9 is not there" in words(app)
    assert address(app)["epoch"] == "2"


def test_gallery_follows_a_living_run(runs: Path) -> None:
    run = write_run(runs, epochs=1, phase="training")
    app = open_app("gallery")
    assert "epoch" not in address(app)
    write_epoch(run, 2, model_config())
    assert "epoch" not in address(refresh(app))


def test_gallery_of_one_grid_speaks_of_no_slider(runs: Path) -> None:
    write_run(runs, epochs=0, phase="stopped")
    write_run(runs, "quick-2", epochs=0, phase="training")
    app = open_app("gallery", run="runs/quick-1")
    assert "stopped within its first epoch" in words(app)
    assert "slider" not in words(app)
    app = open_app("gallery", run="runs/quick-2")
    assert "first epoch has not ended yet" in words(app)
    assert "slider" not in words(app)


# --- Training


def test_training_shows_figures_and_charts(runs: Path) -> None:
    write_run(runs, epochs=2, phase="training")
    app = open_app("training")
    assert "quick-1 is training: epoch 3 of 3" in words(app)
    figures = {metric.label: metric.value for metric in app.metric}
    assert figures == {
        "Epoch": "3 of 3",
        "Step": "100 of 150",
        "Images seen": "6,400",
        "Images per second": "1,500",
        "Time left": "1 min 15 s",
        "Workers": "2",
    }
    assert len(app.get("plotly_chart")) == 3
    assert "Sample grid of quick-1, epoch 2" in html(app)


def chart_titles(app: AppTest) -> list[str]:
    """Of the charts on a page, from top to bottom."""
    alts = [chart.proto.alt for chart in app.get("plotly_chart")]
    return [alt.partition(" of quick-1")[0] for alt in alts]


def test_training_shows_the_scores_of_epochs_beside_those_of_real_digits(runs: Path) -> None:
    run = write_run(runs, epochs=3, total_epochs=5, phase="training", scored=[1, 2])
    app = open_app("training")
    assert "How good the digits are** after epoch 2" in words(app)  # epoch 3 was not scored
    assert f"Of {EPOCH_COUNT:,} generated digits" in words(app)
    figures = {metric.label: (metric.value, metric.delta) for metric in app.metric}
    assert figures["Label accuracy"] == ("74.85%", "real 99.80%")
    assert figures["FID"] == ("2.310", "real 0.420")
    assert {"Precision", "Recall", "Density", "Coverage", "Diversity"} <= figures.keys()
    assert chart_titles(app)[:3] == ["Label accuracy", "FID", "Precision, recall, density and coverage"]
    assert len(chart_titles(app)) == 6
    write_epoch(run, 4, model_config(), scored=True)
    assert "after epoch 4" in words(refresh(app))


def test_a_generator_without_classes_has_no_label_accuracy(runs: Path) -> None:
    write_run(runs, num_classes=0, scored=[1, 2, 3])
    app = open_app("training")
    assert "Label accuracy" not in {metric.label for metric in app.metric}
    assert chart_titles(app)[:2] == ["FID", "Precision, recall, density and coverage"]


def test_training_shows_the_evaluation_of_the_newest_checkpoint(runs: Path) -> None:
    run = write_run(runs)
    run.write_evaluation(evaluation(100))
    assert not open_app("training").table  # of an older one
    generated = FLOOR | {"kid": 0.001, "nearest_median": 4.4, "recall": float("nan")}
    run.write_evaluation(evaluation(150, generated=generated, floor=FLOOR | {"kid": 0, "recall": 0.9}))
    app = refresh(open_app("training"))
    assert "**Evaluation** - epoch 3, step 150" in words(app)
    assert "Of 10,000 generated digits" in words(app)
    rows = {score: values for score, *values in app.table[0].value.itertuples(index=False)}
    assert rows["Label accuracy"] == ["99.80%", "99.80%"]
    assert rows["KID"] == ["0.00100", "0.00000"]
    assert not rows.keys() & {"Recall", "Nearest training image, median"}  # not known of both
    Path(run.path, "evaluations", "step_00000150.json").write_text("damaged")
    assert not refresh(app).table


def test_charts_of_scores_have_the_floor_from_the_start_and_gaps_where_a_score_is_missing() -> None:
    summaries = [
        EpochSummary(epoch=epoch, step=0, nimg=0, time=0.0, scores=scores, floor=FLOOR)
        for epoch, scores in ((2, {"fid": 40.0, "label_accuracy": 0.5}), (4, {"fid": None, "label_accuracy": 0.9}))
    ]
    floor, curve = charts.fid(summaries).data
    assert (list(floor.x), list(floor.y)) == ([0, 2, 4], [0.42] * 3)
    assert floor.line.dash == "dash"
    assert list(curve.x) == [2, 4]
    assert np.array_equal(curve.y, [40.0, np.nan], equal_nan=True)
    assert charts.fid(summaries).layout.yaxis.type == "log"
    assert list(charts.label_accuracy(summaries).data[1].y) == [0.5, 0.9]
    assert [trace.name for trace in charts.neighbours(summaries).data[1::2]] == [
        "Precision",
        "Recall",
        "Density",
        "Coverage",
    ]


def test_a_silent_run_is_called_silent(runs: Path) -> None:
    write_run(runs, epochs=1, phase="training", heartbeat=time.time() - 3600)
    assert "Nothing has been heard of this run for 1 h" in words(open_app("training"))


def test_a_failed_run_says_why(runs: Path) -> None:
    write_run(runs, epochs=1, phase="failed", message="d_loss is not finite at step 71")
    app = open_app("training")
    assert "The run failed" in words(app)
    assert "d_loss is not finite at step 71" in words(app)


# --- Architecture


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


# --- The frame


def test_shipped_runs_come_first_until_the_visitor_chooses(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "pretrained", "forge")
    write_run(runs, "quick-1", epochs=1, phase="training")
    app = open_app()
    assert address(app)["run"] == "pretrained/forge"
    assert any("quick-1 is training: epoch 2 of 3" in link.proto.label for link in app.get("page_link"))
    app.selectbox(key="scope.run").set_value("runs/quick-1")
    check(app.run())
    assert address(app)["run"] == "runs/quick-1"
    assert app.selectbox(key="scope.step").value == -1  # follows the newest


def test_a_living_run_is_followed_unless_pinned(runs: Path) -> None:
    run = write_run(runs, epochs=1, phase="training")
    app, pinned = open_app(), open_app(step=str(STEPS_PER_EPOCH))
    assert address(app)["step"] == str(STEPS_PER_EPOCH)
    write_checkpoint(run, 2, model_config())
    assert address(refresh(app))["step"] == str(2 * STEPS_PER_EPOCH)
    assert address(refresh(pinned))["step"] == str(STEPS_PER_EPOCH)


@pytest.mark.usefixtures("sample")
def test_a_chosen_checkpoint_holds_on_every_page() -> None:
    app = open_app()
    app.selectbox(key="scope.step").set_value(100)
    assert address(check(app.run()))["step"] == "100"
    app.query_params.clear()
    app._page_hash = calc_hash("interpolate")
    assert address(check(app.run()))["step"] == "100"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("sample")
def test_a_run_that_is_not_here(kind: str) -> None:
    app = open_app(kind, run="runs/never", step="5")
    assert "This run is not here" in words(app)
    assert not app.query_params or address(app)["run"] == "runs/never"
    app.button(key="notice.run").click()
    assert address(check(app.run()))["run"] == "runs/quick-1"


@pytest.mark.parametrize("kind", KINDS)
def test_no_run_at_all(runs: Path, kind: str) -> None:
    app = open_app(kind)
    assert "No run yet" in words(app)
    assert f"make train RECIPE=quick RUNS={runs}" in words(app)
    write_run(runs)
    assert "No run yet" not in words(refresh(app))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_has_just_started(runs: Path, kind: str) -> None:
    run = open_store(runs).run("quick-1")
    run.create(run_record())
    text = words(open_app(kind))
    assert "quick-1" in text
    assert "start" in text
    run.write_progress(Progress(phase="training", step=3, total_steps=150, heartbeat=time.time(), epochs=3))
    st.cache_data.clear()
    assert "quick-1" in words(open_app(kind))


def test_a_started_run_gives_way_to_its_first_checkpoint(runs: Path) -> None:
    run = write_run(runs, epochs=0, phase="training")
    app = open_app()
    assert "has just started" in words(app)
    write_checkpoint(run, 1, model_config())
    assert html(refresh(app)).count("<img ") == 100


def test_a_run_that_ended_before_its_first_checkpoint(runs: Path) -> None:
    write_run(runs, epochs=0, phase="failed", message="out of memory")
    text = words(open_app())
    assert "has no checkpoint" in text
    assert "out of memory" in text


@pytest.mark.usefixtures("sample")
def test_a_checkpoint_that_is_gone_is_not_replaced_silently() -> None:
    app = open_app(step="120", seed="9")
    assert "no longer exists" in words(app)
    assert "<img" not in html(app)
    app.button(key="notice.checkpoint").click()
    check(app.run())
    assert address(app)["step"] == "100"
    assert address(app)["seed"] == "9"


def test_a_checkpoint_pruned_between_listing_and_reading(runs: Path) -> None:
    run = write_run(runs)
    app = open_app(step="50")
    run.prune_checkpoints(1)
    st.cache_resource.clear()  # the generator is no longer in memory, the listing still is
    assert "no longer exists" in words(check(app.run()))


def damage(run: Run, epoch: int) -> None:
    path = Path(run.path) / f"step_{epoch * STEPS_PER_EPOCH:08d}" / "generator.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["generate", "interpolate"])
def test_a_damaged_checkpoint_is_named_and_the_previous_good_one_offered(runs: Path, kind: str) -> None:
    run = write_run(runs)
    damage(run, 3)
    damage(run, 2)
    app = open_app(kind)
    assert "This checkpoint is damaged" in words(app)
    assert "step_00000150/generator.safetensors" in words(app)
    assert "<img" not in html(app)
    app.button(key="notice.checkpoint").click()
    assert address(check(app.run()))["step"] == "50"


def test_no_good_checkpoint_at_all(runs: Path) -> None:
    run = write_run(runs, epochs=1, total_epochs=1)
    damage(run, 1)
    assert "No other checkpoint of this run" in words(open_app())


@pytest.mark.parametrize("place", ["s3:/", "nowhere://x/y", "file"])
def test_runs_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "file") if place == "file" else place)
    app = open_app()
    assert "Runs cannot be listed" in words(app)
    assert "No run yet" in words(app)
    write_run(tmp_path / "pretrained", "forge")
    app = refresh(app)
    assert "Runs cannot be listed" in words(app)
    assert html(app).count("<img ") == 100


HOSTILE = [
    ("generate", {"seed": "inf"}),
    ("generate", {"seed": "1e400"}),
    ("generate", {"seed": "NaN"}),
    ("generate", {"count": "999999999"}),
    ("generate", {"count": "-1"}),
    ("generate", {"truncation": "1e400"}),
    ("generate", {"digits": "0-999"}),
    ("generate", {"digits": "<script>alert(1)</script>"}),
    ("generate", {"run": "../../../etc/passwd"}),
    ("generate", {"run": "runs/../../etc"}),
    ("generate", {"step": "99999999999999999999"}),
    ("interpolate", {"path": "../x"}),
    ("interpolate", {"frames": "1"}),
    ("interpolate", {"frames": "1000000"}),
    ("gallery", {"epoch": "-1"}),
    ("gallery", {"epoch": "nan"}),
    ("training", {"no_such": "x" * 5000}),
    ("architecture", {"layer": "0"}),
    ("generate", {"seed": "", "count": "", "digits": ""}),
]


@pytest.mark.usefixtures("sample")
@pytest.mark.parametrize(("kind", "query"), HOSTILE, ids=str)
def test_hostile_addresses_are_named_and_harmless(kind: str, query: dict[str, str]) -> None:
    app = open_app(kind, **query)
    assert "unusable value" in words(app) or "left out" in words(app)
    assert not query.items() & address(app).items()


@pytest.mark.usefixtures("sample")
def test_a_bad_link_says_what_is_wrong_and_what_is_shown_instead() -> None:
    app = open_app(count="99", seed="7")
    assert "**count** must be between 1 and 20: got 99. Shown instead: 10." in words(app)
    assert address(app)["seed"] == "7"
