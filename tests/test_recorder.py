"""The recorder writes in the background: in order, again after a failure, and without delaying the training."""

import hashlib
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sample_run import run_record
from trainer import recorder as recorder_module
from trainer.recorder import Recorder
from trainer.run_store import Curve, EpochSummary, Progress, Run, open_store


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a new run, and shorten the waits of the recorder."""
    monkeypatch.setattr(recorder_module, "INTERVAL", 0.05)
    run = open_store(tmp_path).run("forge")
    run.create(run_record())
    return run


def summary(epoch: int) -> EpochSummary:
    return EpochSummary(epoch=epoch, step=epoch, nimg=epoch, time=0.0)


def test_all_is_written_when_a_flush_returns(run: Run) -> None:
    curve: Curve = {"step": [1, 2], "d_loss": [0.5, 0.25]}
    with Recorder(run, "a launch") as recorder:
        recorder.progress = Progress(phase="training", step=2, launch_id="a launch")
        recorder.epoch(summary(0), b"before", None, b"weights 0")
        recorder.epoch(summary(1), b"after", curve, b"weights 1")
        recorder.flush()
        assert run.epochs() == [0, 1]
        assert (run.read_samples(0), run.read_samples(1), run.read_losses(1)) == (b"before", b"after", curve)
        assert [run.read_epoch_generator(epoch) for epoch in (0, 1)] == [b"weights 0", b"weights 1"]
        assert run.read_epoch_metrics(1).generator_sha256 == hashlib.sha256(b"weights 1").hexdigest()
        progress = run.read_progress()
        assert (progress.phase, progress.step, progress.launch_id) == ("training", 2, "a launch")
        recorder.running_curve(2, curve)
        assert not recorder.wants_curve()
        recorder.flush()
        assert run.running_epoch() == 2
    assert progress.heartbeat
    assert (run.read_progress().heartbeat or 0) > progress.heartbeat


def test_what_the_storage_refused_is_written_once_it_accepts_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    obstacle = Path(run.path, "epochs")
    obstacle.write_text("a file where a folder must be")
    with Recorder(run, "a launch") as recorder:
        for epoch in range(3):
            recorder.epoch(summary(epoch), b"png", None, b"weights")
        monkeypatch.setattr(recorder_module, "PATIENCE", 0.5)
        start = time.monotonic()
        recorder.flush()
        assert 0.5 <= time.monotonic() - start < 5
        assert obstacle.is_file()
        obstacle.unlink()
        monkeypatch.setattr(recorder_module, "PATIENCE", 60)
        recorder.flush()
        assert run.epochs() == [0, 1, 2]
    (complaint,) = capsys.readouterr().out.splitlines()
    assert re.search(r"forge/epochs/0000/samples\.png: cannot be written .* will try again", complaint)


def test_an_error_in_the_training_is_recorded(run: Run) -> None:
    recorder = Recorder(run, "a launch")
    recorder.progress = Progress(phase="training", step=7)
    with pytest.raises(ZeroDivisionError), recorder:
        raise ZeroDivisionError("first line\nsecond line")
    progress = run.read_progress()
    assert (progress.phase, progress.message, progress.step) == ("restarting", "ZeroDivisionError: first line", 7)


def test_only_a_request_to_stop_this_launch_is_noticed(run: Run) -> None:
    run.request_stop("another launch")
    with Recorder(run, "a launch") as recorder:
        recorder.flush()
        assert not recorder.stop_request
        run.request_stop("a launch")
        recorder.flush()
        assert recorder.stop_request


@pytest.mark.parametrize(
    ("keep", "kept"), [(0, [0, 1, 2, 3, 4, 5]), (1, [2, 5]), (2, [2, 4, 5]), (4, [2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])]
)
def test_generators_are_kept_for_the_newest_epochs_and_the_best(run: Run, keep: int, kept: list[int]) -> None:
    fids = (None, 9.0, 4.0, None, 7.0, 8.0)
    for first, last in ((0, 3), (3, 6)):  # the second recorder is that of a resumed run
        with Recorder(run, "a launch", keep) as recorder:
            for epoch in range(first, last):
                scored = replace(summary(epoch), scores=fids[epoch] and {"fid": fids[epoch]})
                recorder.epoch(scored, b"png", None, f"weights {epoch}".encode())
                recorder.flush()
    assert run.epochs() == [0, 1, 2, 3, 4, 5]
    assert [epoch for epoch in run.epochs() if run.read_epoch_generator(epoch)] == kept
    assert [generator.epoch for generator in run.generators()] == kept


def test_a_damaged_summary_does_not_stop_the_recorder(run: Run) -> None:
    with Recorder(run, "a launch", 1) as recorder:
        recorder.epoch(summary(0), b"png", None, b"weights 0")
        recorder.flush()
        Path(run.path, "epochs/0000/metrics.json").write_text("{}")
    with Recorder(run, "a launch", 1) as recorder:
        recorder.epoch(summary(1), b"png", None, b"weights 1")
        recorder.flush()
    assert run.epochs() == [0, 1]
