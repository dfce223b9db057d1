"""The Compare page: which two generators are compared, and what is said when one is missing."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pages import address, open_app, part, words
from tests.sample_run import BATCH_SIZE, write_run
from webapp import charts


def decoded(values: dict[str, Any]) -> NDArray[np.float32]:
    """Return an array from Plotly's JSON."""
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])


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


def test_curves_of_the_steps_of_two_runs_share_an_axis_of_images_and_stay_small(runs: Path) -> None:
    write_run(runs, epochs=40, scored=[1])
    write_run(runs, "quick-2", epochs=2, seed=1)
    app = open_app("compare", run="runs/quick-1", other_run="runs/quick-2")
    curves = [chart for chart in part(app, "charts") if chart["name"] in charts.STEPS]
    assert [chart["name"] for chart in curves] == list(charts.STEPS)
    for chart in curves:
        layout = chart["figure"]["layout"]
        places = [decoded(trace["x"]) for trace in chart["figure"]["data"]]
        first, _, second, _, difference = places
        assert layout["xaxis"]["title"]["text"] == "Images seen"
        assert first[-1] == pytest.approx(2000 * BATCH_SIZE, rel=0.01)
        assert second[-1] == pytest.approx(100 * BATCH_SIZE, rel=0.05)
        assert difference.tolist() == second.tolist()
        assert max(map(len, places)) <= charts.COMPARED_POINTS
        assert len(json.dumps(chart)) < 15_000


def test_a_curve_is_averaged_in_equal_parts_and_gaps_stay_gaps() -> None:
    x, y = np.array([1.0, 2, 3, 8, 10]), np.array([1.0, 3, np.nan, 5, 7])
    assert np.array_equal(charts.binned(x, y, 10, 5), [1, 3, np.nan, np.nan, 6], equal_nan=True)
    assert np.isnan(charts.binned(x[:0], y[:0], 0, 5)).all()


def test_a_second_generator_that_is_nowhere_is_never_replaced(runs: Path) -> None:
    write_run(runs)
    app = open_app("compare", other_run="runs/quick-1", other_step="50", other_g="0123456789ab")
    assert "The second generator of this link is not in any run" in words(app)
    assert address(app)["other_g"] == "0123456789ab"
    assert not app.get("bidi_component")
