"""The Generate page: pictures of chosen digits."""

from pathlib import Path

import pytest

from tests.pages import address, check, html, open_app, words
from tests.sample_run import write_run
from webapp import catalog


@pytest.mark.usefixtures("sample")
def test_generate_shows_every_digit_and_writes_its_address() -> None:
    app = open_app()
    assert html(app).count("<img ") == 100
    assert 'alt="A handwritten 7, seed 3"' in html(app)
    assert address(app) == {
        "run": "runs/quick-1",
        "step": "150",
        "g": catalog.generators("runs/quick-1")[-1].sha256[:12],
        "digits": "0-9",
        "count": "10",
        "seed": "0",
        "truncation": "1",
    }


@pytest.mark.usefixtures("sample")
def test_a_link_opens_the_same_pictures() -> None:
    app = open_app(digits="3.7", count="4", seed="11", truncation="0.5", step="100")
    assert app.pills(key="generate.digits").value == [3, 7]
    assert app.slider(key="generate.truncation").value == 0.5
    again = open_app(**address(app))
    assert html(again) == html(app)
    assert html(app).count("<img ") == 8
    assert "A handwritten 3, seed 14" in html(app)


@pytest.mark.usefixtures("sample")
def test_widgets_change_pictures_and_address() -> None:
    app = open_app()
    app.pills(key="generate.digits").set_value([7])
    app.slider(key="generate.count").set_value(3)
    app.text_input(key="generate.seed").set_value("42")
    check(app.run())
    assert html(app).count("<img ") == 3
    assert address(app)["digits"] == "7"
    assert address(app)["seed"] == "42"
    app.button(key="generate.roll").click()
    check(app.run())
    assert address(app)["seed"] == app.text_input(key="generate.seed").value
    app.button(key="generate.all").click()
    assert address(check(app.run()))["digits"] == "0-9"


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1e3", "inf", "", "٣", "9" * 10])
@pytest.mark.usefixtures("sample")
def test_an_invalid_seed_is_named_and_the_last_one_stays(seed: str) -> None:
    app = open_app(seed="5")
    app.text_input(key="generate.seed").set_value(seed)
    check(app.run())
    assert "Still shown: seed 5" in words(app)
    assert address(app)["seed"] == "5"


def test_a_generator_without_classes_has_no_digits_to_choose(runs: Path) -> None:
    write_run(runs, "gan-1", num_classes=0)
    app = open_app(digits="3")
    assert "without labels" in words(app)
    assert not app.pills
    assert html(app).count("<img ") == 10
    assert "digits" not in address(app)
    assert not open_app("interpolate").selectbox(key="scope.run").disabled


@pytest.mark.usefixtures("sample")
def test_digits_that_the_generator_does_not_know_are_named() -> None:
    app = open_app(digits="3.55")
    assert "knows only digits 0 to 9. Left out: digit 55" in words(app)
    assert address(app)["digits"] == "3"
    assert "no digit 77. Shown instead: 3" in words(open_app("interpolate", from_digit="77"))


@pytest.mark.usefixtures("sample")
def test_choosing_a_digit_moves_no_other_control() -> None:
    app = open_app()
    assert app.button(key="generate.all").disabled
    before = [widget.key for widget in [*app.button, *app.slider, *app.text_input]]
    app = check(app.pills(key="generate.digits").set_value([7]).run())
    assert not app.button(key="generate.all").disabled
    assert [widget.key for widget in [*app.button, *app.slider, *app.text_input]] == before
