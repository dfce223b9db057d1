"""The Interpolate page: what the server gives to the browser, and what it makes of the browser's reports."""

import base64
import zlib
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from tests.pages import address, check, drawn, open_app, words
from tests.sample_run import write_run
from webapp import catalog
from webapp.views import interpolate

LINK = {"from_digit": "2", "from_seed": "8", "to_digit": "5", "to_seed": "9", "path": "lerp", "frames": "12"}


@pytest.mark.usefixtures("sample")
def test_interpolate_opens_from_its_link() -> None:
    app = open_app("interpolate", run="runs/quick-1", step="100", **LINK)
    g = catalog.generators("runs/quick-1")[1].sha256[:12]
    assert address(app) == {"run": "runs/quick-1", "step": "100", "g": g, **LINK}
    assert drawn(app)["stops"] == [{"digit": 2, "seed": 8}, {"digit": 5, "seed": 9}]
    assert len(zlib.decompress(base64.b64decode(drawn(app)["pictures"]))) == 12 * 28 * 28


@pytest.mark.usefixtures("sample")
def test_all_values_of_a_link_are_kept() -> None:
    link = LINK | {"via": "7.1_0.2", "frame": "30", "play": "once", "fps": "20"}
    app = open_app("interpolate", **link)
    assert link.items() <= address(app).items()
    assert [stop["digit"] for stop in drawn(app)["stops"]] == [2, 7, 0, 5]


@pytest.mark.usefixtures("sample")
def test_a_digit_that_the_generator_does_not_know_is_named() -> None:
    app = open_app("interpolate", from_digit="77", via="55.3")
    assert "no digit 77. Shown instead: 3" in words(app)
    assert "no digit 55. Shown instead: 0" in words(app)
    assert address(app)["from_digit"] == "3"


def test_a_generator_without_classes_has_seeds_only(runs: Path) -> None:
    write_run(runs, "gan-1", num_classes=0)
    app = open_app("interpolate", from_digit="3", via="5.7")
    assert "without classes" in words(app)
    assert address(app)["via"] == "7"
    assert [stop["digit"] for stop in drawn(app)["stops"]] == [None, None, None]


@pytest.mark.usefixtures("sample")
def test_a_report_of_the_browser_becomes_the_address() -> None:
    app = open_app("interpolate")
    text = "from_digit=1&from_seed=2&to_digit=3&to_seed=4&path=slerp&frames=5&via=6.7&frame=3"
    app.session_state[interpolate.KEY] = {"view": {"version": drawn(app)["version"], "text": text}}
    check(app.run())
    assert dict(parse_qsl(text)).items() <= address(app).items()
    before = address(app)
    for bad in ("frames=1", "via=9.9.9", "from_digit=77", "path=spiral", "x=1"):
        app.session_state[interpolate.KEY] = {"view": {"version": drawn(app)["version"], "text": bad}}
        assert address(check(app.run())) == before
