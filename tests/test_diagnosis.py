"""What is said about trainings that go wrong, with made-up numbers and with those of shipped runs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from trainer.run_store import EpochSummary, open_store
from webapp import diagnosis

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
REAL = {"diversity": 0.99, "recall": 0.94, "fid": 0.42}
GOOD = {"diversity": 0.9, "recall": 0.9, "fid": 0.5}


def training(*changes: dict[str, Any]) -> list[EpochSummary]:
    """Return the summaries of a healthy training, with the fields of each epoch changed."""
    healthy = EpochSummary(
        epoch=0,
        step=0,
        nimg=0,
        time=0.0,
        d_loss=0.6,
        g_loss=0.9,
        d_acc_real=0.7,
        d_acc_fake=0.7,
        scores=GOOD,
        floor=REAL,
    )
    before = EpochSummary(epoch=0, step=0, nimg=0, time=0.0)
    return [before, *(dataclasses.replace(healthy, epoch=k + 1, **change) for k, change in enumerate(changes))]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{}, {}, {}], []),
        ([{}, {"scores": {"diversity": 0.2, "recall": 0.9}}], ["Collapse: after epoch 2", "vary 20% as much"]),
        ([{}, {"scores": {"diversity": None, "recall": 0.1}}], ["Collapse", "fallen to 11%", "from 96%"]),
        ([{"scores": {"recall": 0.1}}, {"scores": {"recall": 0.12}}], []),  # at the start of a training
        ([{}, {"scores": {"diversity": 0.2}}, {}], []),  # it has recovered
        ([{}, {"d_acc_real": 0.999, "d_acc_fake": 0.995}], ["has won: in epoch 2"]),
        ([{}, {"d_acc_real": 1.0, "d_acc_fake": 1.0}, {}], ["in epoch 2", "less certain later"]),
        ([{"d_acc_real": 1.0, "d_acc_fake": 0.8}], []),
        ([{}, {"g_loss": None}], ["Diverged: in epoch 2 the loss of the generator was not finite"]),
        ([{}, {"d_loss": float("inf")}], ["Diverged: in epoch 2 the loss of the discriminator"]),
        ([{}, {}, {"d_loss": -300.0}], ["Diverging: in epoch 3", "ran away to -300"]),
        ([{}, {"g_loss": 12.0}], []),
    ],
)
def test_each_problem_is_told_in_words(changes: list[dict[str, Any]], words: list[str]) -> None:
    found = " ".join(diagnosis.findings(training(*changes)))
    assert bool(found) == bool(words)
    assert [word for word in words if word not in found] == []


def test_shipped_runs_are_healthy_but_for_the_one_whose_discriminator_won() -> None:
    found = {}
    for run in open_store(PRETRAINED).list_runs():
        found[run.name] = diagnosis.findings([run.read_epoch_metrics(epoch) for epoch in run.epochs()])
    sick = {name: texts for name, texts in found.items() if texts}
    assert list(sick) == ["mlp-cgan"]
    [text] = sick["mlp-cgan"]
    assert "has won: in epoch 2 " in text
    assert "less certain later" in text


def test_copies_of_training_images_are_told() -> None:
    name = "nearest_1st_percentile"
    [path] = (PRETRAINED / "forge" / "evaluations").glob("*.json")
    real = json.loads(path.read_text())
    assert not diagnosis.memorized(real["generated"], real["floor"])
    assert "0.30 away from them, real test images 1.29" in diagnosis.memorized({name: 0.3}, real["floor"])
    assert not diagnosis.memorized({}, real["floor"])
    copies = [{"scores": GOOD | {name: distance}, "floor": REAL | {name: 1.28}} for distance in (0.9, 0.4)]
    assert diagnosis.findings(training(copies[1], copies[0])) == []
    assert [text.partition(":")[0] for text in diagnosis.findings(training(*copies))] == ["Memorized"]
