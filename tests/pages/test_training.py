"""The Training page: progress, scores and curves."""

import time
from pathlib import Path

import numpy as np
from streamlit.testing.v1 import AppTest

from tests.pages import html, open_app, refresh, words
from tests.sample_run import FLOOR, evaluation, model_config, write_epoch, write_run
from trainer.metrics import EPOCH_COUNT
from trainer.run_store import EpochSummary
from webapp import charts


def test_training_shows_figures_and_charts(runs: Path) -> None:
    write_run(runs, epochs=2, phase="training")
    app = open_app("training")
    assert "quick-1 is training: epoch 3 of 3" in words(app)
    figures = {metric.label: metric.value for metric in app.metric if metric.value != "-"}
    assert figures == {
        "Epoch": "3 of 3",
        "Step": "100 of 150",
        "Images seen": "6,400",
        "Images per second": "1,500",
        "Time left": "1 min 15 s",
        "Workers": "2",
    }
    assert len(app.get("plotly_chart")) == 3
    assert "Sample grid of quick-1, epoch 2" in html(app)


def chart_titles(app: AppTest) -> list[str]:
    """Return the titles of the charts on a page, from top to bottom."""
    alts = [chart.proto.alt for chart in app.get("plotly_chart")]
    return [alt.partition(" of quick-1")[0] for alt in alts]


def test_training_shows_the_scores_of_epochs_beside_those_of_real_digits(runs: Path) -> None:
    run = write_run(runs, epochs=3, total_epochs=5, phase="training", scored=[1, 2])
    app = open_app("training")
    assert "How good the digits are** after epoch 2" in words(app)  # epoch 3 was not scored
    assert f"Scores of {EPOCH_COUNT:,} generated digits" in words(app)
    figures = {metric.label: (metric.value, metric.delta) for metric in app.metric}
    assert figures["Label accuracy"] == ("74.85%", "real 99.80%")
    assert figures["FID"] == ("2.310", "real 0.420")
    assert {"Precision", "Recall", "Density", "Coverage", "Diversity"} <= figures.keys()
    assert chart_titles(app)[3:] == ["Label accuracy", "FID", "Precision, recall, density and coverage"]
    assert len(chart_titles(app)) == 6
    write_epoch(run, 4, model_config(), scored=True)
    assert "after epoch 4" in words(refresh(app))


def test_a_generator_without_classes_has_no_label_accuracy(runs: Path) -> None:
    write_run(runs, num_classes=0, scored=[1, 2, 3])
    app = open_app("training")
    assert "Label accuracy" not in {metric.label for metric in app.metric}
    assert chart_titles(app)[3:] == ["FID", "Precision, recall, density and coverage"]


def test_training_shows_the_evaluation_of_the_newest_checkpoint(runs: Path) -> None:
    run = write_run(runs)
    run.write_evaluation(evaluation(100))
    assert not open_app("training").table  # only an older checkpoint has an evaluation
    generated = FLOOR | {"kid": 0.001, "nearest_median": 4.4, "recall": float("nan")}
    run.write_evaluation(evaluation(150, generated=generated, floor=FLOOR | {"kid": 0, "recall": 0.9}))
    app = refresh(open_app("training"))
    assert "**Evaluation** - epoch 3, step 150" in words(app)
    assert "Scores of 10,000 generated" in words(app)
    rows = {score: values for score, *values in app.table[0].value.itertuples(index=False)}
    assert rows["Label accuracy"] == ["99.80%", "99.80%"]
    assert rows["KID"] == ["0.00100", "0.00000"]
    assert not rows.keys() & {"Recall", "Nearest training image, median"}  # not in both columns
    Path(run.path, "evaluations", "step_00000150.json").write_text("damaged")
    assert not refresh(app).table


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
    before = [metric.label for metric in app.metric]
    assert "the first scores come at the end of an epoch" in words(app)
    assert {metric.value for metric in app.metric if metric.label in ("FID", "Recall")} == {"-"}
    write_epoch(run, 2, model_config(), scored=True)
    app = refresh(app)
    assert [metric.label for metric in app.metric] == before
    assert "-" not in {metric.value for metric in app.metric}


def test_a_run_that_has_ended_without_scores_has_no_places_for_them(runs: Path) -> None:
    write_run(runs)
    assert "How good the digits are" not in words(open_app("training"))
