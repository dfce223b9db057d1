"""The benchmarks: what they count, choose and write. Their trainings are the trainer's own."""

import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import attributes, recipes, scaling, scaling_model, speedrun, throughput, timed_runs, writers
from benchmarks.scaling_model import Costs, Link
from tests.golden import shipped_generators
from tests.sample_run import manifest, run_record
from trainer.run_store import GENERATOR_FILE, Progress, Run, open_store


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
    machine = {"processor": "a processor", "cpus": 2, "torch": "2", "date": "2026-11-29"}
    measured = {"command": "cmd", "machine": machine, "forge": forges, "classics": classics, "profile": {"all": 1.0}}
    text = "\n".join(speedrun.report(measured | {"speed": {"reached": 50, "per_image": 9e7, "ceiling": 200}}))
    assert "| label accuracy 97.0%, FID 15 x floor | 100 (90 to 110) | 200 (180 to 220) | 1,000 |" in text
    assert "FID 5 x floor (2 of 3 seeds) | 175 (150 to 200) | 350 (300 to 400) | 1,000 |" in text
    assert "| whole training | 300 | 600 | 2,000 |" in text
    assert "90 MFLOP per image:\n25% of the 200 GFLOP/s" in text
    assert "| `gan` | - | 900.0 | 60 | none |" in text


def record(number: int, times: list[float], **fields: Any) -> dict[str, Any]:
    scores = {"nimg": 1000, "label_accuracy": 0.99, "fid_ratio": 4.0, "two_sample": 0.89}
    seeds = [{"seed": seed, "cpu_seconds": time, **scores} for seed, time in enumerate(times)]
    machine = {"processor": "a processor", "cpus": 2, "torch": "2", "date": "2026-11-29"}
    about = {"number": number, "cause": "a cause", "training": ["forge", "--epochs", "8"], "workers": 2}
    return {**about, "machine": machine, "rule": {"a": 1}, "seeds": seeds, **fields}


def test_the_p_value_is_that_of_the_exact_rank_sum_test() -> None:
    first, second = [1.0, 2, 3, 4, 5], [6.0, 7, 8, 9, 10]
    assert speedrun.p_value(first, second) == pytest.approx(1 / 252)
    assert speedrun.p_value(second, first) == 1
    assert speedrun.p_value([1.0, 2, 3, 4, 6], [5.0, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert speedrun.p_value([1.0, 2, 3, 4, 7], [5.0, 6, 8, 9, 10]) == pytest.approx(4 / 252)
    assert speedrun.p_value([1.0, 1], [1.0, 1]) == 1
    assert speedrun.p_value([1.0], [math.inf]) == 1 / 2
    assert speedrun.p_value([math.inf, 1.0], [math.inf, 2.0]) == 3 / 6  # ties count half


def test_a_record_needs_the_rule_five_seeds_the_goal_and_a_lower_time() -> None:
    first, faster = record(1, [500, 501, 502, 503, 504]), record(2, [400, 410, 420, 430, 440])
    assert speedrun.objections(first, None, {"a": 1}) == []
    assert speedrun.objections(faster, first, {"a": 1}) == []
    assert speedrun.objections(first, None, {"a": 2}) == ["judged by another rule"]
    assert speedrun.objections(record(2, [400, 401]), first, {"a": 1}) == ["2 of 5 seeds", "p = 0.048 against record 1"]
    assert speedrun.objections(record(2, [400, 410, 420, 430, 502.5]), first, {"a": 1}) == [
        "p = 0.028 against record 1"
    ]
    moved = faster | {"machine": first["machine"] | {"processor": "another"}}
    assert "another processor than record 1" in speedrun.objections(moved, first, {"a": 1})[0]
    faster["seeds"][3]["two_sample"] = 0.91
    assert speedrun.objections(faster, None, {"a": 1}) == ["goal missed with seed 3"]


def test_a_measurement_that_does_not_stand_is_passed_over() -> None:
    records = [record(1, [500, 501, 502, 503, 504]), record(2, [1, 2]), record(3, [400, 410, 420, 430, 440])]
    rows = speedrun.judged_records(records, {"a": 1})
    assert [found for _, _, found in rows] == [[], ["2 of 5 seeds", "p = 0.048 against record 1"], []]
    text = "\n".join(speedrun.record_lines(rows))
    assert "| 1 | `forge --epochs 8` | 502 (500 to 504) | 1,000 | 99.00% | 4.00 | 0.890 | - | yes | a cause |" in text
    assert "| 0.048 | no: 2 of 5 seeds; p = 0.048 against record 1 | a cause |" in text
    assert "| 0.004 | yes | a cause |" in text


def test_the_committed_page_is_drawn_from_the_committed_figures() -> None:
    docs = timed_runs.ROOT / "docs"
    assert speedrun.document(docs)[0] == (docs / "speedrun.md").read_text()


def test_a_record_names_the_recipe_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert speedrun.main(["record", "1", "--cause", "none", "--out", str(tmp_path), "--", "no-recipe"]) == 2
    assert "benchmarks.speedrun record: name a recipe after --: one of forge" in capsys.readouterr().err


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


LINK = Link("a link", latency=20e-6, bandwidth=1e9)
NOISE = np.sort(np.random.default_rng(0).lognormal(0, 0.1, 500))
COSTS = Costs(fixed=5e-3, image=1e-3, draw=2e-6, d_bytes=1e6, g_bytes=2e6, bytes_per_image=8.0, noise=NOISE)
STEADY = replace(COSTS, noise=np.ones(1))


def test_one_worker_waits_for_nobody() -> None:
    found = scaling_model.terms(STEADY, LINK, workers=1, batch=64)
    assert found["latency"] == found["transfer"] == found["stragglers"] == 0
    assert scaling_model.step_seconds(STEADY, LINK, 1, 64) == pytest.approx(64e-3 + 5e-3 + 128e-6)


def test_without_costs_beside_the_images_the_speed_grows_with_the_workers() -> None:
    perfect = replace(STEADY, fixed=0.0, draw=0.0)
    instant = Link("instant", latency=0.0, bandwidth=math.inf)
    alone = scaling_model.step_seconds(perfect, instant, 1, 4096)
    assert scaling_model.step_seconds(perfect, instant, 1024, 4096) == pytest.approx(alone / 1024)


@pytest.mark.parametrize("reduction", [scaling_model.ring, scaling_model.tree])
def test_a_sum_sends_all_bytes_but_the_workers_own_twice(reduction: scaling_model.Reduction) -> None:
    _, transfer = reduction(LINK, 8, 1e6)
    assert transfer == pytest.approx(2 * 7 / 8 * 1e6 / LINK.bandwidth)
    assert reduction(LINK, 1, 1e6) == (0, 0)


def test_latencies_grow_with_the_workers_in_a_ring_and_with_their_logarithm_in_a_tree() -> None:
    assert scaling_model.ring(LINK, 1024, 0.0)[0] == pytest.approx(2046 * LINK.latency)
    assert scaling_model.tree(LINK, 1024, 0.0)[0] == pytest.approx(20 * LINK.latency)


def test_the_slowest_of_many_workers_is_the_expected_maximum() -> None:
    assert scaling_model.slowest(NOISE, 1) == pytest.approx(NOISE.mean())
    assert scaling_model.slowest(np.array([1.0, 2.0]), 3) == pytest.approx(1 + 7 / 8)
    drawn = np.random.default_rng(1).choice(NOISE, (20_000, 16)).max(1)
    assert scaling_model.slowest(NOISE, 16) == pytest.approx(drawn.mean(), rel=0.01)


@pytest.mark.parametrize("reduction", [scaling_model.ring, scaling_model.tree])
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_the_simulation_agrees_with_the_model(workers: int, reduction: scaling_model.Reduction) -> None:
    costs = replace(COSTS, noise=NOISE / NOISE.mean())
    simulated = scaling_model.simulate(costs, LINK, workers, 512, steps=300, seed=0, reduction=reduction)
    assert scaling_model.step_seconds(costs, LINK, workers, 512, reduction) == pytest.approx(simulated, rel=0.02)


def test_latencies_that_vary_make_a_step_longer_than_the_model_says() -> None:
    varying = scaling_model.simulate(STEADY, LINK, 64, 512, steps=20, seed=0, varying=True)
    assert varying > scaling_model.simulate(STEADY, LINK, 64, 512, steps=20, seed=0)


def record_of(costs: Costs, link: Link) -> dict[str, Any]:
    """Return what `benchmarks.scaling` would write on a machine with these costs."""

    def result(speed: float) -> dict[str, float]:
        times = {"first_step": 3.0, "cpu_seconds_to_first_step": 3.0, "cpu_seconds_per_image": 1e-3}
        return {"images_per_second": speed, "checkpoint_pause": 0.02, "checkpoint_cost": 0.03} | times

    speed = 64 / costs.work(1, 64)
    two = 64 / scaling_model.step_seconds(costs, link, 2, 64)
    return {
        "command": "a command",
        "machine": {"processor": "a processor", "cpus": 2, "torch": "2", "date": "2026-11-28", "load": 0.1},
        "batch_size": 64,
        "payloads": {name: getattr(costs, name) for name in ("d_bytes", "g_bytes", "bytes_per_image")},
        "costs": {"optimizers": 1e-3, "progress_write": 1e-3},
        "sums": [{"bytes": n, "seconds": sum(scaling_model.ring(link, 2, n))} for n in (4, 1e5, 1e7)],
        "draws": [{"batch": n, "seconds": 1e-4 + costs.draw * n} for n in (64, 1024)],
        "sweep": [{"batch": n, "seconds": costs.work(1, n)} for n in (4, 16, 64, 256)],
        "noise": list(costs.noise),
        "steps_after_checkpoint": 20,
        "rounds": [{name: result(two if "," in name else speed) for name in scaling.VARIANTS}],
    }


def test_figures_from_a_machine_in_use_say_so() -> None:
    record = record_of(STEADY, LINK)
    assert "was in use" not in scaling_model.measured_table(record)
    record["machine"]["load"] = 3.0
    assert "was in use" in scaling_model.measured_table(record)


def test_the_fit_recovers_the_costs_of_a_machine() -> None:
    costs, link = scaling_model.fit(record_of(COSTS, LINK))
    for name in ("fixed", "image", "draw"):
        assert getattr(costs, name) == pytest.approx(getattr(COSTS, name))
    assert (link.latency, link.bandwidth) == (pytest.approx(LINK.latency), pytest.approx(LINK.bandwidth))


def test_two_workers_are_predicted_from_what_one_process_and_single_sums_take() -> None:
    record = record_of(STEADY, LINK)
    for name, speed in (("one process", 1000.0), ("two independent", 2000.0)):
        record["rounds"][0][name]["images_per_second"] = speed
    seen, predicted = scaling_model.two_workers(record)
    assert predicted == pytest.approx(seen)
    record["rounds"][0]["two independent"]["images_per_second"] = 1000.0  # a machine with one core
    assert scaling_model.two_workers(record)[1] > 1.8 * seen


def test_the_best_interval_loses_the_least_and_the_simulation_agrees() -> None:
    checkpoint, restart, mtbf = 0.5, 20.0, 3600.0
    best = scaling_model.best_interval(checkpoint, mtbf)
    lost = scaling_model.slowdown(best, checkpoint, restart, mtbf)
    assert all(scaling_model.slowdown(best * factor, checkpoint, restart, mtbf) > lost for factor in (0.8, 1.25))
    assert scaling_model.simulate_failures(best, checkpoint, restart, mtbf, 300_000, 0) == pytest.approx(lost, rel=2e-3)


def test_the_tables_are_written_between_their_marks(tmp_path: Path) -> None:
    document = tmp_path / "scaling.md"
    document.write_text("before\n<!-- table: one -->\nold\n<!-- end -->\nafter\n")
    scaling_model.write_tables(document, {"one": r"new \1"})
    assert document.read_text() == "before\n<!-- table: one -->\n\nnew \\1\n\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="has no table 'two'"):
        scaling_model.write_tables(document, {"two": ""})


@pytest.mark.parametrize("name", scaling_model.TABLES)
def test_the_tables_of_the_document_are_those_of_its_record(name: str) -> None:
    folder = scaling.ROOT / "docs"
    text, record = (folder / "scaling.md").read_text(), json.loads((folder / "scaling.json").read_text())
    assert f"<!-- table: {name} -->" in text
    if name != "simulation":  # takes half a minute
        assert scaling_model.TABLES[name](record) in text


def test_steps_get_their_times_from_durations_and_progress() -> None:
    durations = np.array([2.0, 1.0, 1.0, 1.0])
    seen = [Progress(), Progress(step=1, heartbeat=103.0), Progress(step=3, heartbeat=104.5), Progress(step=4)]
    assert scaling.step_ends(durations, seen) == pytest.approx([102.75, 103.75, 104.75, 105.75])
    with pytest.raises(RuntimeError, match="use more --steps"):
        scaling.step_ends(durations, seen[:1])


@pytest.mark.slow
def test_one_process_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WARM_UP", "AFTER"):
        monkeypatch.setattr(scaling, name, 10)
    trainings = scaling.variants(tmp_path, steps=40)["one process"]
    result = scaling.measured(trainings, steps=40)
    assert len(result["step_seconds"][0]) == 40
    assert result["images_per_second"] == pytest.approx(64 * 40 / sum(result["step_seconds"][0]))
    assert 0 < result["first_step"] < result["first_step"] + 64 * 60 / result["images_per_second"]
    assert 0 < result["cpu_seconds_per_image"] * result["images_per_second"] < 1.5  # one thread, and the recorder's


def test_a_training_that_fails_is_reported(tmp_path: Path) -> None:
    trainings = scaling.Trainings([[str(scaling.CHILD), "no-recipe", "3", str(tmp_path)]], [str(tmp_path)])
    with pytest.raises(RuntimeError, match=r"(?s)no-recipe.* failed:.*KeyError"):
        scaling.watch(trainings)


def test_a_reader_of_writers_learns_from_the_first_five_sixths_of_each_writers_digits() -> None:
    by = np.array([0] * 6 + [1, 2] * 7)
    learned = writers.is_learned(by)
    assert [int(learned[by == writer].sum()) for writer in range(3)] == [5, 5, 5]
    assert not learned[[5, 16, 17, 18, 19]].any()  # the last of each


def test_r2_is_1_for_the_means_themselves_and_0_for_the_mean_of_all() -> None:
    scores, by = np.array([[1.0, 0], [3, 2], [4, 4], [8, 8]]), np.array([0, 0, 2, 2])
    means = writers.means(scores, by, np.array([0, 2]))
    assert means.tolist() == [[2, 1], [6, 6]]
    assert writers.r2(means, means).tolist() == [1, 1]
    assert writers.r2(np.tile(means.mean(0), (2, 1)), means).tolist() == [0, 0]
    assert writers.r2(means + 1, means).tolist() == pytest.approx([1 - 2 / 8, 1 - 2 / 12.5])


def test_the_benchmark_of_attributes_measures_a_generator_that_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    shipped = shipped_generators()
    assert attributes.main(["--generator", str(shipped["forge"]), "--limit-images", "60"]) == 0
    text = capsys.readouterr().out
    slant, thickness, width = (float(value) for value in re.findall(r"^  \w+ +(-?\d\.\d{3})$", text, re.MULTILINE))
    assert min(slant, thickness, width) > 0.8
    (own,) = re.findall(r"^  slant +slant ([+-]\d\.\d\d), ", text, re.MULTILINE)
    assert 0.5 < float(own) < 1.5
    assert len(re.findall(r"-2 \d+\.\d\d%, \+2 \d+\.\d\d%$", text, re.MULTILINE)) == 3
    assert attributes.main(["--generator", str(shipped["mlp-cgan"])]) == 2
    assert "has no attributes" in capsys.readouterr().err
