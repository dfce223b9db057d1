"""The page Real or fake?: what the server gives to the browser, and when answers hold."""

from pathlib import Path

import pytest

from tests.pages import address, check, drawn, open_app, words
from tests.sample_run import write_run
from webapp import catalog


@pytest.mark.usefixtures("sample")
def test_a_game_and_its_result_have_a_link() -> None:
    app = open_app("quiz")
    assert address(app) == {
        "run": "runs/quick-1",
        "step": "150",
        "g": catalog.generators("runs/quick-1")[-1].sha256[:12],
        "seed": "0",
    }
    given = drawn(app)
    assert sorted(given["things"]) == [f"{digit}s" for digit in range(10)]
    assert (len(given["real"]), given["answers"], given["size"]) == (10, "", [28, 28, 1])
    assert given["no_detective"].startswith("The detective does not play")
    result = open_app("quiz", **address(app) | {"seed": "5", "answers": "0101010101"})
    assert (drawn(result)["seed"], drawn(result)["answers"]) == (5, "0101010101")
    assert address(result)["answers"] == "0101010101"
    assert drawn(result)["pictures"] != given["pictures"]


@pytest.mark.usefixtures("sample")
def test_answers_hold_for_the_generator_that_drew_the_pictures() -> None:
    app = open_app("quiz", run="runs/quick-1", seed="5", answers="0101010101")
    before = drawn(app)
    app.selectbox(key="scope.step").set_value(100)
    check(app.run())
    assert (address(app)["seed"], address(app)["step"]) == ("5", "100")
    assert "answers" not in address(app)
    assert drawn(app)["answers"] == ""
    assert drawn(app)["version"] != before["version"]
    assert drawn(app)["real"] == before["real"]


@pytest.mark.usefixtures("sample")
def test_an_invalid_answer_in_a_link_is_named() -> None:
    app = open_app("quiz", answers="01", slant="5")
    assert "answers" in words(app)
    assert "slant" in words(app)
    assert address(app).keys() == {"run", "step", "g", "seed"}


def test_a_generator_of_other_pictures_has_no_game(runs: Path) -> None:
    write_run(runs, "three", num_classes=3)
    app = open_app("quiz")
    assert "this generator learned from other pictures. Choose another run to play." in words(app)
    assert address(app)["run"] == "runs/three"
