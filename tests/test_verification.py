"""A resumed run verifies, before its first step, what the step will read."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from models.generator_file import read_metadata
from tests.training import FORGE, UNSCORED, KilledError, dropout_config, forge_config, losses_of, train_here, train_on
from trainer import draws
from trainer.config import TrainConfig
from trainer.run_store import GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE, Run, open_store

EVERY_4_STEPS = replace(UNSCORED, checkpoint_every=4)
VERIFIED = "verified at step 4: batch, learning rates, random streams, weights, average of G, optimizers"


def killed_at_4(config: TrainConfig, folder: Path) -> Run:
    run = open_store(folder).run("run")
    with pytest.raises(KilledError):
        train_here(config, run, die_at=4, upkeep=EVERY_4_STEPS)
    return run


def rewrite(run: Run, file: str, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Publish the newest checkpoint again, with one file changed and a manifest that fits."""
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    files = {name: checkpoint.read(name) for name in (GENERATOR_FILE, NETWORKS_FILE, RESUME_FILE)}
    tensors, metadata = safetensors.torch.load(files[file]), read_metadata(files[file])
    change(tensors, metadata)
    files[file] = safetensors.torch.save(tensors, metadata)
    run.set_aside(checkpoint)
    run.publish_checkpoint(checkpoint.manifest, files)


@pytest.mark.parametrize(
    "config",
    [forge_config(), dropout_config(), forge_config(latents="counter", precision="bf16")],
    ids=["forge", "dropout", "counter"],
)
def test_a_resume_says_what_it_has_verified(
    tmp_path: Path, config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run = killed_at_4(config, tmp_path)
    assert "verified" not in capsys.readouterr().out
    train_here(config, run)
    assert VERIFIED in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"seed": 1}, "batch: .*random streams: "),
        ({"g_lr": 2e-3}, "learning rates: .*0.002, "),
        ({"lr_warmup": 100}, "learning rates: "),
        ({"limit_images": 299}, "batch: "),
        ({"latents": "counter"}, "random streams: "),
        ({"model": replace(FORGE, z_distribution="uniform")}, "random streams: "),
    ],
    ids=["seed", "rate", "warm-up", "images", "counter", "latents"],
)
def test_other_settings_are_found(tmp_path: Path, fields: dict[str, Any], parts: str) -> None:
    run = killed_at_4(forge_config(lr_decay="none"), tmp_path)
    with pytest.raises(ValueError, match=f"after step 4 would not be the one that the checkpoint announces: {parts}"):
        train_here(forge_config(lr_decay="none", **fields), run)


def test_an_order_of_the_images_that_another_version_draws_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed_at_4(forge_config(), tmp_path)
    order = draws.epoch_order
    monkeypatch.setattr(draws, "epoch_order", lambda *arguments: np.roll(order(*arguments), 1))
    with pytest.raises(
        ValueError, match=r"announces: batch: [0-9a-f]{64} recorded, [0-9a-f]{64} now; random streams: "
    ):
        train_here(forge_config(), run)


def test_dropout_masks_that_another_version_draws_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = killed_at_4(dropout_config(), tmp_path)
    monkeypatch.setattr(draws, "G_DROPOUT", 99)
    with pytest.raises(ValueError, match="announces: random streams: "):
        train_here(dropout_config(), run)


@pytest.mark.parametrize(
    ("file", "tensor", "part"),
    [
        (NETWORKS_FILE, "G.fc.bias", "weights"),
        (NETWORKS_FILE, "D.out.weight", "weights"),
        (GENERATOR_FILE, "fc.bias", "average of G"),
        (RESUME_FILE, "d_optimizer.out.weight.exp_avg_sq", "optimizers"),
        (RESUME_FILE, "g_optimizer.fc.bias.exp_avg", "optimizers"),
    ],
)
def test_a_changed_tensor_is_found(tmp_path: Path, file: str, tensor: str, part: str) -> None:
    run = killed_at_4(forge_config(), tmp_path)

    def change(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
        tensors[tensor].view(-1)[-1] += 1e-3

    rewrite(run, file, change)
    with pytest.raises(ValueError, match=f"announces: {part}: [0-9a-f]{{64}} recorded, [0-9a-f]{{64}} now$"):
        train_here(forge_config(), run)


def test_a_longer_training_has_another_schedule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = killed_at_4(forge_config(), tmp_path)
    train_here(forge_config(epochs=3), run)
    assert VERIFIED.replace(" learning rates,", "") in capsys.readouterr().out.splitlines()
    assert len(losses_of(run)["step"]) == 45


def test_a_checkpoint_of_an_earlier_version_has_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = killed_at_4(forge_config(), tmp_path)
    rewrite(run, RESUME_FILE, lambda _, metadata: metadata.pop("verification") and None)
    train_here(forge_config(), run)
    assert "verified" not in capsys.readouterr().out
    (whole,) = train_on(1, (forge_config(), tmp_path / "whole"))
    assert losses_of(run) == losses_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("latents", ["numpy", "counter"])
def test_the_record_does_not_depend_on_the_number_of_workers_or_threads(tmp_path: Path, latents: str) -> None:
    config = forge_config(dtype="float64", latents=latents)
    torch.set_num_threads(2)
    killed_at_4(config, tmp_path / "alone")
    train_on(2, (config, tmp_path / "alone"))  # raises an error if the workers find another record
    (together,) = train_on(2, (replace(config, epochs=1, steps_per_epoch=4), tmp_path / "together"))
    (alone,) = train_on(1, (replace(config, epochs=1, steps_per_epoch=4), tmp_path / "one"))
    records = []
    for each in (alone, together):
        checkpoint = each.latest_checkpoint()
        assert checkpoint
        records.append(json.loads(read_metadata(checkpoint.read(RESUME_FILE))["verification"]))
    for name in ("batch", "total steps", "learning rates", "random streams"):
        assert records[0][name] == records[1][name]
