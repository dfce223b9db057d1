"""The Compare page: which two generators are compared, and what is said when one is missing."""

from pathlib import Path

from tests.pages import address, open_app, part, words
from tests.sample_run import write_run


def test_an_early_epoch_of_the_same_run_is_compared_first(runs: Path) -> None:
    write_run(runs, keeps_generators=True, scored=[1, 3])
    app = open_app("compare")
    titles = [side["title"] for side in part(app, "sides")]
    assert titles == ["quick-1, epoch 3, step 150", "quick-1, epoch 1, step 50"]
    assert part(app, "charts") == []
    assert "Both are of the same run" in words(app)
    [fid] = [row for row in part(app, "scores") if row["title"] == "FID"]
    assert fid["values"] == ["1.680", "4.200", "0.420"]
    link = address(app)
    assert {"g", "other_g", "digits", "seed"} < link.keys()
    assert part(open_app("compare", **link), "sides") == part(app, "sides")


def test_two_runs_have_their_curves_over_each_other_and_the_difference(runs: Path) -> None:
    write_run(runs, scored=[1, 2, 3])
    write_run(runs, "quick-2", epochs=2, seed=1, scored=[1, 2], num_classes=4)
    app = open_app("compare", run="runs/quick-1", other_run="runs/quick-2", digits="2-7")
    assert part(app, "classes") == ["0", "1", "2", "3"]
    assert "Not both generators can draw 4, 5, 6, 7" in words(app)
    assert address(app)["digits"] == "2.3"
    [fid] = [chart for chart in part(app, "charts") if chart["name"] == "fid"]
    first, second, difference = fid["figure"]["data"]
    assert [trace["name"] for trace in fid["figure"]["data"]] == ["quick-1", "quick-2", "Difference"]
    assert (first["x"], second["x"], difference["x"]) == ([1, 2, 3], [1, 2], [1, 2])
    assert difference["y"] == [0, 0]


def test_a_second_generator_that_is_nowhere_is_never_replaced(runs: Path) -> None:
    write_run(runs)
    app = open_app("compare", other_run="runs/quick-1", other_step="50", other_g="0123456789ab")
    assert "The second generator of this link is not in any run" in words(app)
    assert address(app)["other_g"] == "0123456789ab"
    assert not app.get("bidi_component")
