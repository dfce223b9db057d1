"""The frame around all pages: choice of run and checkpoint, notices, and invalid links."""

import json
import time
from pathlib import Path

import pytest
import streamlit as st

from models.generator_file import generator_bytes
from tests.pages import KINDS, address, check, drawn, html, open_app, refresh, words
from tests.sample_run import (
    STEPS_PER_EPOCH,
    generator,
    manifest,
    model_config,
    run_record,
    write_checkpoint,
    write_run,
)
from trainer.run_store import GENERATOR_FILE, Progress, Run, open_store
from webapp.environment import RUNS_VARIABLE


def test_shipped_runs_come_first_until_the_visitor_chooses(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "pretrained", "forge")
    write_run(runs, "quick-1", epochs=1, phase="training")
    app = open_app()
    assert address(app)["run"] == "pretrained/forge"
    assert any("quick-1 is training: epoch 2 of 3" in link.proto.label for link in app.get("page_link"))
    app.selectbox(key="scope.run").set_value("runs/quick-1")
    check(app.run())
    assert address(app)["run"] == "runs/quick-1"
    assert app.selectbox(key="scope.step").value == -1  # the newest checkpoint is followed


def test_the_best_shipped_run_is_the_first_of_them_and_the_others_say_what_they_are(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "pretrained", "forge")
    about = {"summary": "the classic GAN"}
    trained = {"steps": 126, "total_steps": 23400, "cpu_minutes": 10.1}
    for name in ("zoo", "bare"):
        run = write_run(tmp_path / "pretrained", name)
        record = run.read_run()
        path = Path(run.path) / "run.json"
        values = {**record.to_json(), "about": about, "trained": trained} if name == "zoo" else record.to_json()
        path.write_text(json.dumps(values))
    write_run(runs, "quick-1")
    app = open_app()
    assert app.selectbox(key="scope.run").options[:2] == ["quick-1", "forge (shipped)"]
    assert "CPU-minutes" not in words(app)
    assert "The classic GAN. Trained for 10 CPU-minutes, a part of its full length, for comparison." in words(
        open_app(run="pretrained/zoo")
    )
    assert "Quick." in words(open_app("training", run="pretrained/bare"))


def test_a_checkpoint_within_the_first_epoch_is_not_of_epoch_0(runs: Path) -> None:
    run = write_run(runs, epochs=0, phase="stopped")
    content = generator_bytes(generator(1, model_config()), model_config(), {})
    run.publish_checkpoint(manifest(26), {GENERATOR_FILE: content})
    assert open_app().selectbox(key="scope.step").options == ["Step 26, within epoch 1"]


def test_a_live_run_is_followed_unless_pinned(runs: Path) -> None:
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
    assert address(open_app("interpolate", session=app))["step"] == "100"


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
    assert drawn(refresh(app))["pictures"]


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
    st.cache_resource.clear()  # removes the generator from memory, but not the listing
    assert "no longer exists" in words(check(app.run()))


def damage(run: Run, epoch: int) -> None:
    path = Path(run.path) / f"step_{epoch * STEPS_PER_EPOCH:08d}" / "generator.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["explore", "interpolate"])
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
    assert drawn(app)["pictures"]


HOSTILE = [
    ("explore", {"seed": "inf"}),
    ("explore", {"seed": "1e400"}),
    ("explore", {"seed": "NaN"}),
    ("explore", {"count": "999999999"}),
    ("explore", {"count": "-1"}),
    ("explore", {"truncation": "1e400"}),
    ("explore", {"digits": "0-999"}),
    ("explore", {"digits": "<script>alert(1)</script>"}),
    ("explore", {"run": "../../../etc/passwd"}),
    ("explore", {"run": "runs/../../etc"}),
    ("explore", {"step": "99999999999999999999"}),
    ("interpolate", {"path": "../x"}),
    ("interpolate", {"frames": "1"}),
    ("interpolate", {"frames": "1000000"}),
    ("training", {"epoch": "-1"}),
    ("training", {"epoch": "nan"}),
    ("training", {"mine": "7.5_8.6"}),
    ("training", {"link": "explore?seed=nan"}),
    ("compare", {"other_run": "../x"}),
    ("compare", {"other_g": "zz", "count": "11"}),
    ("training", {"no_such": "x" * 5000}),
    ("how", {"layer": "0"}),
    ("how", {"part": "0"}),
    ("how", {"part": "9"}),
    ("how", {"part": "nan"}),
    ("how", {"seed": "4294967296"}),
    ("how", {"digit": "-1"}),
    ("how", {"epoch": "1e400"}),
    ("explore", {"seed": "", "count": "", "digits": ""}),
]


@pytest.mark.usefixtures("sample")
@pytest.mark.parametrize(("kind", "query"), HOSTILE, ids=str)
def test_hostile_addresses_are_named_and_harmless(kind: str, query: dict[str, str]) -> None:
    app = open_app(kind, **query)
    assert "cannot be used" in words(app) or "Left out" in words(app)
    assert not query.items() & address(app).items()


@pytest.mark.usefixtures("sample")
def test_a_bad_link_says_what_is_wrong_and_what_is_shown_instead() -> None:
    app = open_app(count="99", seed="7")
    assert r"**count** must be between 1 and 20\: got 99. Shown instead\: 10." in words(app)
    assert address(app)["seed"] == "7"
