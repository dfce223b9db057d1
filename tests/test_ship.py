"""`python -m trainer ship`: the copy has what showing a run needs, and no more."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from tests.sample_run import evaluation
from tests.training import mlp_config, train_on
from trainer.__main__ import main
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, open_store


def test_a_shipped_run_has_all_but_what_a_resume_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = train_on(1, (mlp_config(ema=1000), tmp_path / "runs"))
    scores = evaluation(run.checkpoints()[-1].step)
    run.write_evaluation(scores)
    for file in ("run.json", "progress.json", "epochs/0002/metrics.json"):  # add fields of another version
        path = Path(run.path, file)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"of_tomorrow": [1, 2]}))
    command = ["ship", "run", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "pretrained"), "--name", "q"]
    assert main(command) == 0
    shipped = open_store(tmp_path / "pretrained").run("q")
    assert shipped.epochs() == run.epochs() == [0, 1, 2]
    assert shipped.read_samples(2) == run.read_samples(2)
    assert shipped.read_losses(2)["d_loss"] == pytest.approx(run.read_losses(2)["d_loss"], rel=1e-3)
    assert shipped.read_run() == replace(run.read_run(), name="q")
    assert shipped.read_progress() == run.read_progress()
    assert shipped.read_epoch_metrics(2) == run.read_epoch_metrics(2)
    for record in (shipped.read_run(), shipped.read_progress(), shipped.read_epoch_metrics(2)):
        assert record.extra == {"of_tomorrow": [1, 2]}
    (checkpoint,) = shipped.checkpoints()
    original = run.latest_checkpoint()
    assert original
    assert checkpoint.manifest.files.keys() == {GENERATOR_FILE}
    assert checkpoint.read(GENERATOR_FILE) == original.read(GENERATOR_FILE)
    assert checkpoint.manifest == replace(original.manifest, files=checkpoint.manifest.files)
    assert shipped.read_evaluation(checkpoint.step) == scores
    assert all(shipped.read_epoch_generator(epoch) == run.read_epoch_generator(epoch) for epoch in (0, 1, 2))
    assert shipped.generators()[-1].sha256 == original.manifest.files[GENERATOR_FILE].sha256

    assert main([*command[:-1], "small", "--keep-generators", "1"]) == 0
    small = open_store(tmp_path / "pretrained").run("small")
    assert [small.read_epoch_generator(epoch) is not None for epoch in small.epochs()] == [False, False, True]
    assert main([*command[:-1], "none", "--keep-generators", "-1"]) == 2

    assert main([*command[:-1], "judged", "--discriminator"]) == 0
    judged = open_store(tmp_path / "pretrained").run("judged").checkpoints()[-1]
    shipped_networks, trained = (load(each.read(NETWORKS_FILE)) for each in (judged, original))
    assert shipped_networks.keys() == {name for name in trained if name.startswith("D.")}
    assert all(torch.equal(tensor, trained[name]) for name, tensor in shipped_networks.items())

    capsys.readouterr()
    assert main(command) == 2  # a shipped run is not overwritten
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*command[:1], "no-such-run", *command[2:]]) == 2
    assert "no checkpoint to ship" in capsys.readouterr().err


def test_a_shipped_run_that_is_replaced_leaves_its_generators(tmp_path: Path) -> None:
    jobs = [(mlp_config(epochs=epochs, seed=epochs), tmp_path / f"runs-{epochs}") for epochs in (2, 1)]
    older, newer = train_on(1, *jobs)
    command = ["ship", "run", "--to", str(tmp_path / "pretrained"), "--runs"]
    assert main([*command, str(tmp_path / "runs-2")]) == 0
    shipped = open_store(tmp_path / "pretrained").run("run")
    evaluated = evaluation(20)
    shipped.write_evaluation(evaluated)
    assert main([*command, str(tmp_path / "runs-1")]) == 2
    for _ in range(2):  # the second time, the newer one replaces itself
        assert main([*command, str(tmp_path / "runs-1"), "--replace"]) == 0
        assert shipped.epochs() == [0, 1]
        assert shipped.read_evaluation(20) is None
        assert [each.sha256 for each in shipped.generators()] == [each.sha256 for each in newer.generators()]
        for generator in older.generators():
            content = shipped.read_generator(shipped.archive_path(generator.sha256), generator.sha256)
            assert content == older.read_generator(generator.paths[0], generator.sha256)
    assert main([*command, str(tmp_path / "pretrained"), "--replace"]) == 2  # onto itself
    assert shipped.epochs() == [0, 1]
