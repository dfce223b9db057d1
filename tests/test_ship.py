"""`python -m trainer ship`: a run small enough to be given away."""

from pathlib import Path

import pytest

from tests.training import mlp_config, train_on
from trainer.__main__ import main
from trainer.run_store import open_store
from trainer.state import GENERATOR_FILE


def test_a_shipped_run_has_all_but_what_a_resume_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = train_on(1, (mlp_config(ema=1000), tmp_path / "runs"))
    run.write_evaluation(run.checkpoints()[-1].step, {"generated": {"fid": 1.0}})
    command = ["ship", "run", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "pretrained"), "--name", "q"]
    assert main(command) == 0
    shipped = open_store(tmp_path / "pretrained").run("q")
    assert shipped.epochs() == run.epochs() == [0, 1, 2]
    assert shipped.read_samples(2) == run.read_samples(2)
    assert shipped.read_losses(2)["d_loss"] == pytest.approx(run.read_losses(2)["d_loss"], rel=1e-3)
    assert shipped.read_run()["config"] == run.read_run()["config"]
    (checkpoint,) = shipped.checkpoints()
    original = run.latest_checkpoint()
    assert original
    assert checkpoint.manifest["files"].keys() == {GENERATOR_FILE}
    assert checkpoint.read(GENERATOR_FILE) == original.read(GENERATOR_FILE)
    assert (checkpoint.step, checkpoint.epoch, checkpoint.nimg) == (original.step, original.epoch, original.nimg)
    assert shipped.read_evaluation(checkpoint.step) == {"generated": {"fid": 1.0}}
    trained = shipped.read_run()["trained"]
    assert trained["length"] == "its own full length"
    assert trained["steps"] == trained["total_steps"] == original.step

    capsys.readouterr()
    assert main(command) == 2  # a shipped run is not overwritten
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*command[:1], "no-such-run", *command[2:]]) == 2
    assert "no checkpoint to ship" in capsys.readouterr().err
