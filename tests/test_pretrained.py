"""The shipped runs: complete, small, and as good as the README says."""

import json
from pathlib import Path

import pytest
import torch

from models.digit_reader import load_digit_reader
from models.generate import generate
from models.generator_file import read_generator
from models.sampling import from_uint8
from trainer.config import TrainConfig
from trainer.recipes import RECIPES
from trainer.run_store import Run, open_store

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
RUNS = open_store(PRETRAINED).list_runs()


def test_there_is_one_of_each_system_and_all_are_small() -> None:
    names = {run.name for run in RUNS}
    others = {"quick", "forge-best", "forge-cifar"}  # other lengths of `forge`, and data that cannot be shipped
    assert names == RECIPES.keys() - others | {"fashion"}
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()) < 80e6


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_shipped_run_is_whole(run: Run) -> None:
    record = run.read_run()
    config = TrainConfig.from_dict(dict(record.config))
    assert config.recipe in RECIPES
    assert run.epochs() == list(range(run.epochs()[-1] + 1))
    for epoch in run.epochs():
        assert run.read_samples(epoch).startswith(b"\x89PNG")
        assert epoch == 0 or len(run.read_losses(epoch)["d_loss"]) == record.steps_per_epoch
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert run.read_progress().step == checkpoint.step
    assert checkpoint.step == record.total_steps or checkpoint.manifest.cpu_seconds >= 600
    assert read_generator(checkpoint.read("generator.safetensors"), run.name).config == config.model


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_types_of_the_store_hold_all_that_a_shipped_run_says(run: Run) -> None:
    (checkpoint,) = run.checkpoints()
    evaluation = run.read_evaluation(checkpoint.step)
    assert evaluation
    records = {
        "run.json": run.read_run(),
        "progress.json": run.read_progress(),
        f"{checkpoint.name}/MANIFEST.json": checkpoint.manifest,
        f"evaluations/{checkpoint.name}.json": evaluation,
        **{f"epochs/{epoch:04d}/metrics.json": run.read_epoch_metrics(epoch) for epoch in run.epochs()},
    }
    for file, record in records.items():
        assert json.loads(Path(run.path, file).read_text()) == json.loads(json.dumps(record.to_json()))
        assert record.extra.keys() <= {"trained"}  # no longer written


def test_forge_draws_the_digits_that_are_asked_for() -> None:
    checkpoint = open_store(PRETRAINED).run("forge").latest_checkpoint()
    assert checkpoint
    loaded = read_generator(checkpoint.read("generator.safetensors"), "forge")
    images, labels = generate(loaded, list(range(10)), count=100, seed=0, truncation=1.0)
    with torch.inference_mode():
        read = load_digit_reader()(from_uint8(torch.from_numpy(images)[:, None])).argmax(1)
    assert (read.numpy() == labels).mean() >= 0.99
