"""The Gallery page: the sample grid of every epoch."""

from pathlib import Path

from tests.pages import address, open_app, refresh, words
from tests.sample_run import model_config, write_epoch, write_run


def test_gallery_has_every_epoch(runs: Path) -> None:
    write_run(runs, epochs=2)
    app = open_app("gallery")
    assert address(app) == {"run": "runs/quick-1", "epoch": "2"}
    assert address(open_app("gallery", epoch="1"))["epoch"] == "1"
    app = open_app("gallery", epoch="9")
    assert "no epoch 9. Shown instead: 2" in words(app)
    assert address(app)["epoch"] == "2"


def test_gallery_follows_a_live_run(runs: Path) -> None:
    run = write_run(runs, epochs=1, phase="training")
    app = open_app("gallery")
    assert "epoch" not in address(app)
    write_epoch(run, 2, model_config())
    assert "epoch" not in address(refresh(app))


def test_gallery_of_one_grid_does_not_mention_the_slider(runs: Path) -> None:
    write_run(runs, epochs=0, phase="stopped")
    write_run(runs, "quick-2", epochs=0, phase="training")
    app = open_app("gallery", run="runs/quick-1")
    assert "stopped within its first epoch" in words(app)
    assert "slider" not in words(app)
    app = open_app("gallery", run="runs/quick-2")
    assert "first epoch has not ended yet" in words(app)
    assert "slider" not in words(app)
