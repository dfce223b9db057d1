"""The Interpolate page: the way from one picture to another."""

import pytest

from tests.pages import address, check, open_app, words
from webapp import catalog


@pytest.mark.usefixtures("sample")
def test_interpolate_opens_from_its_link() -> None:
    link = {"from_digit": "2", "from_seed": "8", "to_digit": "5", "to_seed": "9", "path": "lerp", "frames": "12"}
    app = open_app("interpolate", run="runs/quick-1", step="100", **link)
    g = catalog.generators("runs/quick-1")[1].sha256[:12]
    assert address(app) == {"run": "runs/quick-1", "step": "100", "g": g, **link}
    assert app.selectbox(key="interpolate.to.digit").value == 5
    app.text_input(key="interpolate.to.seed").set_value("nonsense")
    assert "Still shown: seed 9" in words(check(app.run()))
    app.button(key="interpolate.from.roll").click()
    assert address(check(app.run()))["from_seed"] != "8"
