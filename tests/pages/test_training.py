"""The Training page: progress, the grid of each epoch, scores and curves."""

import dataclasses
import re
import time
from pathlib import Path

import numpy as np
from streamlit.testing.v1 import AppTest

from tests.pages import address, open_app, part, refresh, words
from tests.sample_run import FLOOR, evaluation, model_config, write_epoch, write_run
from trainer.metrics import EPOCH_COUNT
from trainer.run_store import EpochSummary
from webapp import charts


def test_training_shows_figures_and_charts(runs: Path) -> None:
    write_run(runs, epochs=2, phase="training")
    app = open_app("training")
    assert "quick-1 is training: epoch 3 of 3" in words(app)
    figures = {metric.label: metric.value for metric in app.metric}
    assert figures == {
        "Epoch": "3 of 3",
        "Step": "100 of 150",
        "Images seen": "6,400",
        "Images per second": "1,500",
        "Time left": "1 min 15 s",
        "Workers": "2",
    }
    assert len(chart_titles(app)) == 3
    assert [each["alt"] for each in part(app, "epochs")] == [
        "Sample grid of quick-1, epoch 0 - before training",
        "Sample grid of quick-1, epoch 1 - step 50",
        "Sample grid of quick-1, epoch 2 - step 100",
    ]


def chart_titles(app: AppTest) -> list[str]:
    """Return the titles of the charts on a page, from top to bottom."""
    charts = part(app, "charts")
    assert all(chart["alt"].startswith(f"{chart['title']} of quick-1. ") for chart in charts)
    return [chart["title"] for chart in charts]


def score_titles(app: AppTest) -> list[str]:
    return [row["title"] for row in part(app, "scores")["rows"]]


def test_a_link_pins_the_generator_of_its_epoch(runs: Path, tmp_path: Path) -> None:
    run = write_run(runs, epochs=3, keeps_generators=True)
    sha256 = run.read_epoch_metrics(1).generator_sha256 or ""
    app = open_app("training", epoch="1")  # as links of earlier versions
    link = address(app)
    assert link == {"run": "runs/quick-1", "g": sha256[:12], "epoch": "1"}
    assert "link" not in words(app)
    alone = open_app("training", run="runs/quick-1", g=sha256[:12])
    assert (address(alone), "link" in words(alone)) == (link, False)
    run.prune_generators(1)
    again = open_app("training", **link)
    assert (address(again), part(again, "index")) == (link, 1)
    assert "link" not in words(again)
    assert address(open_app("explore", session=again))["step"] == "150"  # the other pages do not follow the epoch

    (runs / "quick-1").rename(runs / "moved")  # and another run has its name
    write_run(runs, epochs=3, keeps_generators=True, seed=1)
    kept = run.store.run("moved").read_epoch_metrics(3).generator_sha256 or ""
    refresh(app)
    found = open_app("training", **link | {"g": kept[:12]})
    assert address(found) == {"run": "runs/moved", "g": kept[:12], "epoch": "3"}
    assert "is not epoch 1 of **runs/quick-1**. It was found as epoch 3 of **runs/moved**" in words(found)
    missing = open_app("training", **link | {"g": "0123456789ab"})
    assert "`0123456789ab`, which no epoch of a run that this app can see has" in words(missing)
    assert (address(missing)["run"], address(missing)["epoch"]) == ("runs/quick-1", "1")


def test_training_has_every_epoch(runs: Path) -> None:
    write_run(runs, epochs=2)
    app = open_app("training")
    assert address(app).items() >= {"run": "runs/quick-1", "epoch": "2"}.items()
    assert part(app, "index") is None
    app = open_app("training", epoch="1")
    assert address(app)["epoch"] == "1"
    assert part(app, "index") == 1
    app = open_app("training", epoch="9")
    assert "no epoch 9. Shown instead: 2" in words(app)
    assert address(app)["epoch"] == "2"


def test_training_follows_a_live_run(runs: Path) -> None:
    run = write_run(runs, epochs=1, phase="training")
    app = open_app("training")
    assert "epoch" not in address(app)
    write_epoch(run, 2, model_config())
    app = refresh(app)
    assert "epoch" not in address(app)
    assert len(part(app, "epochs")) == 3


def test_training_of_one_grid_does_not_mention_the_slider(runs: Path) -> None:
    write_run(runs, epochs=0, phase="stopped")
    write_run(runs, "quick-2", epochs=0, phase="training")
    stopped, live = (part(open_app("training", run=f"runs/{name}"), "words") for name in ("quick-1", "quick-2"))
    assert "stopped within its first epoch" in stopped
    assert "first epoch has not ended yet" in live
    assert "slider" not in stopped + live


def test_a_picture_of_ones_own_is_in_the_link(runs: Path) -> None:
    write_run(runs, keeps_generators=True)
    app = open_app("training", epoch="2", mine="7.772")
    assert address(app).items() >= {"run": "runs/quick-1", "epoch": "2", "mine": "7.772"}.items()
    place = {"digit": 7, "corners": [772, 773, 774, 775], "x": 0.0, "y": 0.0}
    assert part(app, "picture") == {
        "plane": place, "truncation": 1.0, "asked": {}, "seed": 772, "own": {"mine": "7.772"}
    }  # fmt: skip
    assert len({each["scope"]["g"] for each in part(app, "epochs")}) == 4
    link = "explore?digit=3&corners=1.2.3.4&x=0.5&y=0.25&truncation=0.7"
    app = open_app("training", link=link)
    assert part(app, "picture")["plane"] == {"digit": 3, "corners": [1, 2, 3, 4], "x": 0.5, "y": 0.25}
    assert address(app)["link"] == link
    assert "cannot be used" in words(open_app("training", link="no link"))


def test_training_shows_the_scores_of_epochs_beside_those_of_real_digits(runs: Path) -> None:
    run = write_run(runs, epochs=3, total_epochs=5, phase="training", scored=[1, 2])
    app = open_app("training")
    by_epoch = {each["epoch"]: each for each in part(app, "epochs")}
    assert by_epoch[2]["scores"]["label_accuracy"] == "74.85%"
    assert by_epoch[2]["real"]["label_accuracy"] == "99.80%"
    assert (by_epoch[2]["scores"]["fid"], by_epoch[2]["real"]["fid"]) == ("2.310", "0.420")
    assert by_epoch[2]["count"] == EPOCH_COUNT
    assert (by_epoch[3]["scores"], by_epoch[3]["count"]) == ({}, 0)  # epoch 3 was not scored
    assert {"FID", "Label accuracy", "Precision", "Recall", "Density", "Diversity"} <= set(score_titles(app))
    assert chart_titles(app)[3:] == ["Label accuracy", "FID", "Precision, recall, density and coverage"]
    assert len(chart_titles(app)) == 6
    write_epoch(run, 4, model_config(), scored=True)
    assert part(refresh(app), "epochs")[4]["scores"]


def test_a_generator_without_classes_has_no_label_accuracy(runs: Path) -> None:
    write_run(runs, num_classes=0, scored=[1, 2, 3])
    app = open_app("training")
    assert "Label accuracy" not in score_titles(app)
    assert chart_titles(app)[3:] == ["FID", "Precision, recall, density and coverage"]


def test_training_shows_the_evaluation_of_the_newest_checkpoint(runs: Path) -> None:
    run = write_run(runs)
    run.write_evaluation(evaluation(100))
    assert not open_app("training").expander  # only an older checkpoint has an evaluation
    generated = FLOOR | {"kid": 0.001, "nearest_median": 4.4, "recall": float("nan")}
    run.write_evaluation(evaluation(150, generated=generated, floor=FLOOR | {"kid": 0, "recall": 0.9}))
    app = refresh(open_app("training"))
    assert app.expander[0].label == "A larger evaluation of epoch 3, step 150, with 10,000 digits"
    assert "Scores of 10,000 generated" in words(app)
    assert "Memorized" not in words(app)
    rows = {
        title: values for title, *values in re.findall(r"^\| ([^|]+) \| (\S+) \| (\S+) \|$", words(app), re.MULTILINE)
    }
    assert rows["Label accuracy"] == ["99.80%", "99.80%"]
    assert rows["KID"] == ["0.00100", "0.00000"]
    assert not rows.keys() & {"Recall", "Nearest training image, median"}  # not in both columns
    Path(run.path, "evaluations", "step_00000150.json").write_text("damaged")
    assert not refresh(app).expander


def test_charts_of_scores_have_real_digits_from_the_start_and_gaps_where_a_score_is_missing() -> None:
    summaries = [
        EpochSummary(epoch=epoch, step=0, nimg=0, time=0.0, scores=scores, floor=FLOOR)
        for epoch, scores in ((2, {"fid": 40.0, "label_accuracy": 0.5}), (4, {"fid": None, "label_accuracy": 0.9}))
    ]
    real, curve = charts.fid(summaries).data
    assert (list(real.x), list(real.y)) == ([0, 2, 4], [0.42] * 3)
    assert real.line.dash == "dash"
    assert list(curve.x) == [2, 4]
    assert np.array_equal(curve.y, [40.0, np.nan], equal_nan=True)
    assert charts.fid(summaries).layout.yaxis.type == "log"
    assert list(charts.label_accuracy(summaries).data[1].y) == [0.5, 0.9]
    assert [trace.name for trace in charts.neighbours(summaries).data[1::2]] == [
        "Precision",
        "Recall",
        "Density",
        "Coverage",
    ]


def test_a_silent_run_is_called_silent(runs: Path) -> None:
    write_run(runs, epochs=1, phase="training", heartbeat=time.time() - 3600)
    assert "This run has not reported for 1 h" in words(open_app("training"))


def test_a_run_that_ended_early_shows_the_command_that_continues_it(runs: Path) -> None:
    write_run(runs, epochs=1, phase="stopped")
    write_run(runs, "quick-2")
    app = open_app("training", run="runs/quick-1")
    assert app.code[0].value == f"python -m trainer quick --runs {runs} --name quick-1"
    assert not open_app("training", run="runs/quick-2").code  # it has finished


def test_a_failed_run_says_why(runs: Path) -> None:
    write_run(runs, epochs=1, phase="failed", message="d_loss is not finite at step 71")
    app = open_app("training")
    assert "The run failed" in words(app)
    assert "d_loss is not finite at step 71" in words(app)


def test_the_places_of_the_scores_are_there_before_the_first_scores(runs: Path) -> None:
    run = write_run(runs, epochs=1, phase="training", heartbeat=time.time() + 60)
    app = open_app("training")
    before = score_titles(app)
    assert "FID" in before
    assert part(app, "scores")["is_expected"]
    write_epoch(run, 2, model_config(), scored=True)
    app = refresh(app)
    assert score_titles(app) == before
    assert not part(app, "scores")["is_expected"]


def test_a_run_that_has_ended_without_scores_has_no_places_for_them(runs: Path) -> None:
    write_run(runs)
    assert not score_titles(open_app("training"))


def test_a_training_that_goes_wrong_is_told_in_words(runs: Path) -> None:
    run = write_run(runs, scored=[1, 2, 3])
    assert "has won" not in words(open_app("training"))
    summary = run.read_epoch_metrics(3)
    run.write_epoch_metrics(dataclasses.replace(summary, d_acc_real=1.0, d_acc_fake=0.998))
    assert "The discriminator has won: in epoch 3" in words(refresh(open_app("training")))
