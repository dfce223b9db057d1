"""Damaged files and storage that fails: each page says what it cannot read, and shows everything else."""

import json
from pathlib import Path

import pytest

from tests.pages import KINDS, drawn, open_app, part, words
from tests.sample_run import write_run
from trainer.run_store import Run


def epoch_file(run: Run, epoch: int, name: str) -> Path:
    return Path(run.path, "epochs", f"{epoch:04d}", name)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("content", ["damaged", "{}", '{"epoch": 2, "step": Infinity, "nimg": 0, "time": 0}'])
def test_a_damaged_summary_costs_only_its_own_epoch(runs: Path, content: str) -> None:
    run = write_run(runs, scored=[1, 2, 3])
    epoch_file(run, 2, "metrics.json").write_text(content)
    app = open_app("training")
    assert "The summary of epoch 2 is damaged" in words(app)
    epochs = part(app, "epochs")
    assert [each["label"] for each in epochs[1:3]] == ["Epoch 1 - step 50", "Epoch 2 - step not known"]
    assert [bool(each["scores"]) for each in epochs] == [False, True, False, True]
    assert len(part(app, "charts")) == 6


def test_a_score_that_is_no_number_costs_only_its_own_epoch(runs: Path) -> None:
    run = write_run(runs, scored=[1, 2, 3])
    path = epoch_file(run, 3, "metrics.json")
    summary = json.loads(path.read_text())
    summary["scores"]["fid"] = "low"
    path.write_text(json.dumps(summary))
    app = open_app("training")
    assert [bool(each["scores"]) for each in part(app, "epochs")] == [False, True, True, False]
    assert len(part(app, "charts")) == 6


def test_damaged_curves_leave_a_gap(runs: Path) -> None:
    run = write_run(runs)
    for epoch in (1, 2):
        epoch_file(run, epoch, "losses.json").write_text("[1, 2")
    app = open_app("training")
    assert "The record of the steps of epochs 1 and 2 is damaged, so the curves have a gap." in words(app)
    assert len(part(app, "charts")) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_progress_file_does_not_hide_the_run(runs: Path, kind: str) -> None:
    run = write_run(runs)
    Path(run.path, "progress.json").write_text("{")
    app = open_app(kind, run="runs/quick-1")
    assert r"The progress of quick-1 is not known\: runs/quick-1/progress.json" in words(app)
    assert "not here" not in words(app)
    assert kind != "explore" or drawn(app)["pictures"]


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1, "recipe": 7}'])
def test_a_run_with_a_damaged_record_is_named(runs: Path, content: str) -> None:
    write_run(runs)
    Path(write_run(runs, "other").path, "run.json").write_text(content)
    (runs / "no-run").mkdir()
    for app in (open_app("training"), open_app("training", run="runs/other")):
        assert "run.json of runs/other is damaged, so this run cannot be shown." in words(app)
        assert "no-run" not in words(app)


def test_storage_that_fails_gets_our_notice_without_a_server_path(runs: Path) -> None:
    run = write_run(runs)
    path = epoch_file(run, 2, "metrics.json")
    path.unlink()
    path.mkdir()
    Path(path, "x").touch()
    losses = epoch_file(run, 2, "losses.json")
    losses.unlink()
    losses.mkdir()
    samples = epoch_file(run, 3, "samples.png")
    samples.unlink()
    samples.mkdir()
    app = open_app("training")
    assert "The run cannot be read" in words(app)
    assert "runs/quick-1/epochs/000" in words(app)
    assert str(runs) not in words(app)
    assert app.button(key="notice.retry")
