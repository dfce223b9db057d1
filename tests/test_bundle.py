"""The script of `models.bundle` draws torch's pixels: on another origin, offline and under a strict policy."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from models import bundle, pictures, writing
from models.generator_file import load_generator
from models.views import WriteView
from tests.golden import shipped_generators
from tests.test_browser_access import violations

FORGE = shipped_generators()["forge"]
PAGE, SCRIPT = "https://shop.example/", "https://cdn.example/digit-forge.js"
POLICY = f"default-src 'none'; script-src {SCRIPT}; require-trusted-types-for 'script'"
"""Without WebAssembly, without styles of the script's own, and without any further request."""


@dataclass(frozen=True)
class Made:
    """What the command has written."""

    script: Path
    rounded: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle of the shipped forge."""
    folder = tmp_path_factory.mktemp("bundle")
    files = Made(folder / "digit-forge.js", folder / "rounded.safetensors")
    options = {"--generator": FORGE, "--out": files.script, "--rounded": files.rounded}
    assert bundle.main([str(word) for option in options.items() for word in option]) == 0
    return files


def test_the_bundle_is_small_and_its_weights_are_nearly_those_of_the_generator(made: Made) -> None:
    assert made.script.stat().st_size < 1.5e6
    whole, rounded = load_generator(FORGE), load_generator(made.rounded)
    for name, weights in rounded.generator.state_dict().items():
        mantissa, _ = torch.frexp(weights)
        assert torch.equal(mantissa * 2**bundle.BITS, (mantissa * 2**bundle.BITS).round())
        torch.testing.assert_close(weights, whole.generator.state_dict()[name], rtol=2.0**-bundle.BITS, atol=0)
    view = WriteView(text="0123456789", seed=7)
    apart = pictures.frames(whole, view).astype(int) - pictures.frames(rounded, view)
    assert 0 < (apart != 0).mean() < 0.01
    assert np.abs(apart).max() == 1
    assert rounded.provenance["significant_bits"] == bundle.BITS


@pytest.mark.parametrize("name", ["fashion", "dcgan"])
def test_only_a_generator_of_digits_is_bundled(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.js"
    assert bundle.main(["--generator", str(shipped_generators()[name]), "--out", str(out)]) == 2
    assert "does not draw the ten digits" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("line", ["export default 5", 'import * as a from "./a.js"', "export { a }"])
def test_a_script_that_cannot_be_joined_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "b.js").write_text(f"const a = 1\n{line}\n")
    with pytest.raises(RuntimeError, match=r"b\.js: a bundle cannot have the line"):
        bundle.joined("b", tmp_path)


# --- In the browser


@pytest.fixture(scope="module")
def page(browser: Browser, made: Made) -> Iterator[Page]:
    """A page of another origin with the script, which reaches nothing else."""
    context = browser.new_context()
    others: list[str] = []

    def answer(route: Route) -> None:
        if route.request.url == PAGE:
            body = f'<!DOCTYPE html><title>A page</title><script src="{SCRIPT}"></script><body></body>'
            route.fulfill(body=body, content_type="text/html", headers={"Content-Security-Policy": POLICY})
        elif route.request.url == SCRIPT:
            route.fulfill(path=made.script, content_type="text/javascript")
        else:
            others.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    page = context.new_page()
    page.goto(PAGE)
    context.set_offline(True)
    yield page
    assert others == []
    context.close()


# Adds elements with these attributes to the page, and waits until each has drawn or said what is wrong.
ADD = """(all) => Promise.all(all.map((attributes) => new Promise((resolve) => {
  const element = document.createElement("digit-forge")
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  for (const event of ["load", "error"]) element.addEventListener(event, resolve, { once: true })
  document.body.append(element)
})))"""
FORGES = "digit-forge >> canvas"


def add(page: Page, *all_attributes: dict[str, Any]) -> None:
    page.evaluate("document.body.replaceChildren()")
    page.evaluate(ADD, list(all_attributes))


def colours(page: Page) -> list[np.ndarray]:
    """Return the pixels (H, W, 4) of each element's canvas."""
    sources = page.locator(FORGES).evaluate_all("all => all.map(canvas => canvas.toDataURL().split(',')[1])")
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGBA")) for source in sources]


def greys(page: Page) -> list[np.ndarray]:
    """Return the red of each element's canvas, which has no transparent pixel."""
    assert all((image[..., 3] == 255).all() for image in colours(page))
    return [image[..., 0] for image in colours(page)]


def wanted(path: Path, text: str, **values: Any) -> np.ndarray:
    view = WriteView(text=text, **values)
    return writing.written(text, pictures.frames(load_generator(path), view), view.spacing)


LIGHT = {"ink": "white", "paper": "black"}
TEXTS: list[dict[str, Any]] = [
    {"text": "2026-11-24", "seed": 7},
    {"text": "3.14", "seed": 2**32 - 1, "slant": 25.0},
    {"text": "9,8:7/6+5", "seed": 772, "thickness": 4.5, "slant": -10.0},
    {"text": "0 1", "width": 18.0},
]


@pytest.mark.slow
def test_elements_draw_the_pixels_of_torch_without_a_network(page: Page, made: Made) -> None:
    """The first elements come before the generator is loaded. The page's policy forbids WebAssembly."""
    assert page.evaluate("try { new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)) } catch { true }")
    add(page, *({"write": values["text"], **LIGHT, **values} for values in TEXTS))
    for grey, values in zip(greys(page), TEXTS, strict=True):
        np.testing.assert_array_equal(grey, wanted(made.rounded, **values))
    names = [canvas.get_attribute("aria-label") for canvas in page.get_by_role("img").all()]
    assert names == [values["text"] for values in TEXTS]
    assert page.evaluate("Object.keys(window).filter((name) => /digit|forge|module/i.test(name))") == []


@pytest.mark.slow
def test_an_element_follows_its_attributes_and_says_what_is_wrong(page: Page, made: Made) -> None:
    add(page, {"write": "12", "scale": "3", **LIGHT})
    element, alert = page.locator("digit-forge"), page.get_by_role("alert")
    size = element.bounding_box()
    assert size is not None
    assert (size["width"], size["height"]) == tuple(3 * side for side in greys(page)[0].T.shape)
    for name, value, message in (
        ("write", "12 Nov", 'write must be of digits, spaces and . , : - / +: got "N"'),
        ("write", "-", 'write must have at least one digit: got "-"'),
        ("write", "1" * 25, "write must have 1 to 24 characters: got 25"),
        ("seed", "4294967296", 'seed must be a whole number from 0 to 4294967295: got "4294967296"'),
        ("slant", "much", 'slant must be a number from -90 to 90: got "much"'),
        ("writer", "5", "this generator draws without writer"),
        ("ink", "inkish", 'ink must be a colour of CSS: got "inkish"'),
        ("scale", "0", 'scale must be above 0, at most 64: got "0"'),
    ):
        before = element.get_attribute(name)
        element.evaluate("(element, [name, value]) => element.setAttribute(name, value)", [name, value])
        expect(alert).to_have_text(f"digit-forge: {message}")
        expect(page.get_by_role("img")).to_have_count(0)
        element.evaluate("(element, [name, value]) => element.setAttribute(name, value)", [name, before or ""])
        expect(alert).to_have_count(0)
    element.evaluate("element => { element.setAttribute('write', '2026'); element.setAttribute('seed', '5') }")
    expect(page.get_by_role("img", name="2026")).to_be_visible()
    np.testing.assert_array_equal(greys(page)[0], wanted(made.rounded, "2026", seed=5))


@pytest.mark.slow
def test_ink_and_paper_are_colours_of_css(page: Page, made: Made) -> None:
    page.evaluate("document.body.style.color = 'rgb(255, 0, 0)'")
    add(page, {"write": "5"}, {"write": "5", "ink": "currentColor", "paper": "transparent"})
    level = wanted(made.rounded, "5").astype(int)
    usual, through = colours(page)
    np.testing.assert_array_equal(usual[..., :3], (255 - level)[..., None].repeat(3, 2))
    np.testing.assert_array_equal(through[..., 3], level)
    assert {tuple(pixel) for pixel in through[level == 255].tolist()} == {(255, 0, 0, 255)}


@pytest.mark.slow
def test_a_file_opened_from_the_disk_draws_with_webassembly(browser: Browser, made: Made) -> None:
    (made.script.parent / "index.html").write_text(
        '<!DOCTYPE html><html lang="en"><title>A page</title><script src="digit-forge.js"></script>'
        '<script src="digit-forge.js"></script><main><h1>Opened on</h1>'
        '<digit-forge write="7/7" seed="3" ink="white" paper="black"></digit-forge>'
        '<digit-forge write="soon"></digit-forge></main></html>'
    )
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((made.script.parent / "index.html").as_uri())
    expect(page.get_by_role("alert")).to_contain_text("write must be of digits")
    page.wait_for_function("""() => {
      const canvas = document.querySelector("digit-forge").shadowRoot.querySelector("canvas")
      return canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3] === 255
    }""")
    np.testing.assert_array_equal(colours(page)[0][..., 0], wanted(made.rounded, "7/7", seed=3))
    assert violations(page) == []
    assert problems == []
    page.close()
