"""The Explore page: what the server gives to the browser, and what it makes of the browser's reports."""

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages import address, check, drawn, open_app, words
from tests.sample_run import write_run
from webapp import catalog
from webapp.views import explore


@pytest.mark.usefixtures("sample")
def test_explore_starts_with_a_good_seed_and_writes_its_address() -> None:
    app = open_app()
    assert address(app) == {
        "run": "runs/quick-1",
        "step": "150",
        "g": catalog.generators("runs/quick-1")[-1].sha256[:12],
        "digits": "0-9",
        "count": "10",
        "seed": str(explore.GOOD_SEED),
        "truncation": "1",
        "digit": "7",
        "corners": "772.773.774.775",
        "x": "0",
        "y": "0",
    }
    given = drawn(app)
    assert given["scope"] == {name: address(app)[name] for name in ("run", "step", "g")}
    assert given["classes"][7] == {"name": "7", "one": "a 7", "picture": "A handwritten 7"}
    assert (given["noun"], given["size"]) == ("digit", [28, 28, 1])
    assert "reads all ten of its digits well" in given["seed_help"]


@pytest.mark.usefixtures("sample")
def test_a_link_opens_the_same_pictures() -> None:
    link = {"digits": "3.7", "count": "4", "seed": "11", "truncation": "0.5", "step": "100"}
    app = open_app(**link)
    assert link.items() <= address(app).items()
    assert (address(app)["digit"], address(app)["corners"]) == ("3", "11.12.13.14")
    again = open_app(**address(app))
    assert drawn(again)["pictures"] == drawn(app)["pictures"]
    assert address(again) == address(app)
    moved = open_app(**address(app) | {"x": "0.25", "y": "0.5"})
    assert drawn(moved)["pictures"] != drawn(app)["pictures"]
    assert drawn(moved)["view"] | {"x": 0, "y": 0} == drawn(app)["view"]


def test_a_generator_without_classes_has_no_digits_to_choose(runs: Path) -> None:
    write_run(runs, "gan-1", num_classes=0)
    app = open_app(digits="3")
    assert "without classes" in words(app)
    assert drawn(app)["classes"] == []
    assert not {"digits", "digit"} & address(app).keys()
    assert not open_app("interpolate").selectbox(key="scope.run").disabled


@pytest.mark.usefixtures("sample")
def test_digits_that_the_generator_does_not_know_are_named() -> None:
    app = open_app(digits="3.55")
    assert "knows only digits 0 to 9. Left out: digit 55" in words(app)
    assert address(app)["digits"] == "3"


def report(app: AppTest, value: object) -> AppTest:
    """Run the page as after a report of the browser."""
    app.session_state[explore.KEY] = {"view": value}
    return check(app.run())


GOOD = "digits=3-5&count=2&seed=9&truncation=0.7&digit=4&corners=1.2.3.4&x=0.25&y=0.5"


@pytest.mark.usefixtures("sample")
def test_a_report_of_the_browser_becomes_the_address() -> None:
    app = open_app()
    version = drawn(app)["version"]
    app = report(app, {"version": version, "text": GOOD})
    where = {name: address(app)[name] for name in ("run", "step", "g")}
    assert address(app) == where | dict(parse_qsl(GOOD))
    assert drawn(app)["pictures"] == ""  # the browser has drawn them


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "text",
        [],
        {},
        {"version": "0"},
        {"version": "0", "text": 5},
        {"version": "other", "text": GOOD},
        {"version": "0", "text": GOOD + "&seed=10"},
        {"version": "0", "text": "seed=-1"},
        {"version": "0", "text": "digit=77"},
        {"version": "0", "text": "<script>"},
        {"version": "0", "text": "a" * 100_000},
        {"version": "0", "text": "&".join(f"a{k}=1" for k in range(500))},
    ],
)
@pytest.mark.usefixtures("sample")
def test_a_report_that_is_not_a_view_changes_nothing(value: object) -> None:
    app = open_app()
    assert drawn(app)["version"] == "0"
    before = address(app)
    assert address(report(app, value)) == before
