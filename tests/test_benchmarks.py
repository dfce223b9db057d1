"""The benchmarks: what they count, choose and write. Their trainings are the trainer's own."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import recipes, speedrun, throughput, timed_runs
from tests.sample_run import manifest, run_record
from trainer.run_store import GENERATOR_FILE, Run, open_store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a checkpoint every 30 CPU-seconds."""
    run = open_store(tmp_path).run("mlp-cgan-0")
    run.create(run_record(recipe="mlp-cgan"))
    for step in range(1, 9):
        run.publish_checkpoint(manifest(step, seconds=20.0 * step, cpu_seconds=30.0 * step), {GENERATOR_FILE: b""})
    return run


def test_a_run_counts_up_to_the_checkpoint_that_used_up_its_time(run: Run) -> None:
    assert [checkpoint.step for checkpoint in timed_runs.within(run, 1.9)] == [1, 2, 3, 4]
    assert len(timed_runs.within(run, 100)) == 8


def test_checkpoints_are_chosen_evenly_and_the_last_one_always(run: Run) -> None:
    checkpoints = run.checkpoints()
    assert [checkpoint.step for checkpoint in timed_runs.spread(checkpoints, 4)] == [2, 4, 6, 8]
    assert timed_runs.spread(checkpoints, 100) == checkpoints


def result(recipe: str, seed: int, fid: float) -> dict[str, Any]:
    conditional = recipe != "gan"
    scores = {"fid": fid, "fid_ratio": fid / 0.1, "precision": 0.9, "recall": 0.8}
    scores |= {"label_accuracy": 0.97, "density": 0.9, "coverage": 0.9} if conditional else {}
    curve = [
        {"cpu_seconds": 60.0 * k, "fid": fid * 3 / k} | ({"label_accuracy": 0.9} if conditional else {})
        for k in (1, 2, 3)
    ]
    floor = {name: 0.95 for name in ("label_accuracy", "precision", "recall", "density", "coverage")} | {"fid": 0.1}
    return {
        "recipe": recipe,
        "seed": seed,
        "nimg": 1000,
        "cpu_seconds": 180.0,
        "curve": curve,
        "final": scores,
        "floor": floor,
    }


def test_the_table_has_medians_ranges_and_the_floor() -> None:
    rows = recipes.table([result("forge", 0, 0.2), result("forge", 1, 0.4), result("gan", 0, 5.0)]).splitlines()
    assert rows[2].startswith(
        "| `forge` | 1,000 | 180 | 97.0% (97.0% to 97.0%) | 0.30 (0.20 to 0.40) | 3.0 (2.0 to 4.0)"
    )
    assert rows[3] == "| `gan` | 1,000 | 180 | - | 5.00 | 50.0 | 0.900 | 0.800 | - | - |"
    assert rows[4].startswith("| real digits (the floor) |  |  | 95.0% | 0.10 | 1.0 |")


def test_the_chart_has_a_line_for_each_run_and_one_name_for_each_recipe() -> None:
    figure = recipes.chart(
        [result("forge", 0, 0.2), result("forge", 1, 0.4), result("gan", 0, 5.0)], {"label_accuracy": 0.998, "fid": 0.4}
    )
    assert [trace.name for trace in figure.data] == ["forge", "forge", "forge", "forge", "gan"]  # gan: FID alone
    assert [trace.name for trace in figure.data if trace.showlegend] == ["forge", "gan"]


def test_a_goal_needs_label_accuracy_and_fid() -> None:
    goal = speedrun.Goal(0.97, 15)
    assert goal.is_met({"label_accuracy": 0.97, "fid_ratio": 15.0})
    assert not goal.is_met({"label_accuracy": 0.99, "fid_ratio": 15.1})
    assert not goal.is_met({"label_accuracy": 0.96, "fid_ratio": 1.0})
    assert not goal.is_met({"fid_ratio": 1.0})


def point(seconds: float, nimg: int = 1000) -> dict[str, float]:
    return {"seconds": seconds, "cpu_seconds": 2 * seconds, "nimg": nimg, "label_accuracy": 0.5, "fid_ratio": 90.0}


def test_the_report_has_medians_and_says_who_did_not_get_there() -> None:
    final = point(300, 2000) | {"coverage": 0.9, "recall": 0.8}
    reached = ([point(100), point(150)], [point(90), point(200)], [point(110)])
    forges = [{"seed": seed, "reached": points, "final": final} for seed, points in enumerate(reached)]
    classics = [{"recipe": "gan", "reached": [], "final": {"fid_ratio": 900.0, "cpu_seconds": 60.0}}]
    text = speedrun.report(forges, classics, {"reached": 50, "per_image": 9e7, "ceiling": 200}, {"all": 1.0}, "cmd")
    assert "| label accuracy 97.0%, FID 15 x floor | 100 (90 to 110) | 200 (180 to 220) | 1,000 |" in text
    assert "FID 5 x floor (2 of 3 seeds) | 175 (150 to 200) | 350 (300 to 400) | 1,000 |" in text
    assert "| whole training | 300 | 600 | 2,000 |" in text
    assert "90 MFLOP per image:\n25% of the 200 GFLOP/s" in text
    assert "| `gan` | - | 900.0 | 60 | none |" in text


def test_operations_of_a_product_and_of_its_gradients_are_counted() -> None:
    a, b = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7, requires_grad=True)
    with speedrun._Flops() as flops:
        (a @ b).sum().backward()
    assert flops.total == 3 * (2 * 3 * 5 * 7)


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_a_revision_is_checked_out_for_as_long_as_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "ROOT", tmp_path)
    git(tmp_path, "init")
    (tmp_path / "file").write_text("old")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "old")
    (tmp_path / "file").write_text("new")
    with throughput.checked_out("HEAD") as tree:
        assert (tree / "file").read_text() == "old"
    assert not tree.exists()
    with pytest.raises(ValueError, match=r"--against none: .*none"), throughput.checked_out("none"):
        pass


@pytest.mark.slow
def test_the_speed_of_this_tree_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "WARM_UP", 2)
    assert throughput.images_per_second(throughput.ROOT, "mlp-cgan", steps=4, workers=2) > 0


def test_the_measured_code_is_that_of_the_tree_and_its_failure_is_reported(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").write_text("raise RuntimeError('code of another tree')")
    with pytest.raises(RuntimeError, match="code of another tree"):
        throughput.images_per_second(tmp_path, "mlp-cgan", steps=4, workers=2)
