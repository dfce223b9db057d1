"""The generator in JavaScript, in a real Chromium: the same pixels as the server's, to the last bit."""

import base64
import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from models import pictures, sampling
from models.attributes import AttributeTable, measure
from models.config import ModelConfig
from models.generator_file import LoadedGenerator, generator_bytes, load_generator, read_generator
from models.networks import build_generator
from models.sampling import MAX_SEED
from models.views import ExploreView, GenerateView, InterpolateView
from tests.golden import shipped_generators
from trainer.data import load_dataset
from webapp import delivery
from webapp.drawing import MAX_MMAC, multiply_accumulates

pytestmark = pytest.mark.slow

SMALL = [
    name
    for name, path in shipped_generators().items()
    if multiply_accumulates(load_generator(path).config) <= MAX_MMAC * 1e6
]
"""Shipped generators that the browser draws itself."""

# Makes window.draw(job), which returns the pixels of a job in base64.
START = """async ([scripts, url]) => {
  const { Artist } = await import(scripts + "artist.js")
  window.artist?.close()
  window.artist = new Artist(url)
  await window.artist.ready
  window.draw = async (job, lane = "x") => {
    const { pixels } = await window.artist.draw(job, lane)
    let text = ""
    for (let k = 0; k < pixels.length; k += 8192) text += String.fromCharCode(...pixels.subarray(k, k + 8192))
    return btoa(text)
  }
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(f"{site}/healthz")
    yield page
    page.close()


def start(page: Page, site: str, url: str) -> None:
    """Load a generator in the page."""
    page.evaluate(START, [f"{site}/{delivery.scripts_url()}", url])


def start_shipped(page: Page, site: str, name: str) -> None:
    """Load a shipped generator in the page, from the server."""
    start(page, site, f"{site}/{delivery.weights_url(_sha256(shipped_generators()[name]))}")


def start_with(page: Page, site: str, content: bytes, url: str = "test.safetensors") -> None:
    """Load a generator in the page from this content, which takes the place of the server's answer."""
    page.route(f"{site}/{url}", lambda route: route.fulfill(body=content))
    try:
        start(page, site, f"{site}/{url}")
    finally:
        page.unroute(f"{site}/{url}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def draw(page: Page, job: dict[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(page.evaluate("job => window.draw(job)", job)), np.uint8)


def differences(page: Page, loaded: LoadedGenerator, jobs: list[tuple[dict[str, Any], Any]]) -> int:
    """Return how many pixels of jobs differ from those of the views beside them."""
    return sum(int((draw(page, job) != pixels.reshape(-1)).sum()) for job, pixels in jobs)


def stop(digit: int | None, seed: int) -> dict[str, int | None]:
    return {"digit": digit, "seed": seed}


@pytest.mark.parametrize("grids", [1, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", SMALL)
def test_a_shipped_generator_draws_the_servers_pixels(page: Page, site: str, name: str, grids: int) -> None:
    """Draw 20 pictures, 5 ways and about one point of a plane for each grid."""
    loaded = load_generator(shipped_generators()[name])
    start_shipped(page, site, name)
    choose = random.Random(name)
    classes = loaded.config.num_classes
    assert differences(page, loaded, [_grid(loaded, choose) for _ in range(grids)]) == 0
    digits = [choose.randrange(classes) if classes else None for _ in range(5 * grids + 2)]
    jobs = []
    for k in range(5 * grids):
        number = 3 if k % 5 == 0 else 2
        stops = [(digits[k + n], choose.randrange(MAX_SEED)) for n in range(number)]
        (from_digit, from_seed), *via, (to_digit, to_seed) = stops
        view = InterpolateView(
            from_digit=from_digit,
            from_seed=from_seed,
            to_digit=to_digit,
            to_seed=to_seed,
            via=tuple(via),
            path=("slerp", "lerp")[k % 2],
            frames=2 + k % 4,
        )
        job = {"path": {"stops": [stop(*each) for each in stops], "kind": view.path, "frames": view.frames}}
        jobs.append((job, pictures.frames(loaded, view)))
    assert differences(page, loaded, jobs) == 0
    jobs = []
    for digit in digits[: 2 + grids]:
        a, b, c, d = (choose.randrange(MAX_SEED) for _ in range(4))
        x, y, truncation = (choose.randrange(101) / 100 for _ in range(3))
        view = ExploreView(count=1, seed=a, digit=digit, corners=(a, b, c, d), x=x, y=y, truncation=truncation)
        view = replace(view, digits=None if digit is None else (digit,))
        plane = {"digit": digit, "corners": [a, b, c, d], "x": x, "y": y}
        jobs.append(({"plane": plane, "truncation": truncation}, pictures.frames(loaded, view)[0]))
    assert differences(page, loaded, jobs) == 0


def _grid(loaded: LoadedGenerator, choose: random.Random) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Return a job of 20 pictures, and their pixels."""
    seed, truncation = choose.randrange(MAX_SEED - 20), choose.randrange(101) / 100
    classes = loaded.config.num_classes
    digits = tuple(sorted(choose.sample(range(classes), 4))) if classes else None
    view = GenerateView(digits=digits, count=5 if digits else 20, seed=seed, truncation=truncation)
    shown = [stop(digit, seed + k) for digit in digits or (None,) for k in range(view.count)]
    pixels = pictures.frames(loaded, view)
    assert len(pixels) == 20
    return {"pictures": shown, "truncation": truncation}, pixels


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "forge", "g_widths": (8, 6), "d_widths": (4, 8, 8), "num_classes": 0},
        {"architecture": "forge", "g_widths": (8, 6, 5), "d_widths": (4, 8, 8), "g_gain": 1.1},
        {"architecture": "forge", "g_widths": (8, 6), "d_widths": (4, 8, 8), "img_size": 32, "img_channels": 3},
        {"architecture": "conv_cgan", "g_widths": (8, 8, 6, 5), "d_widths": (4, 8, 8, 8), "z_distribution": "uniform"},
        {"architecture": "mlp", "g_widths": (9, 7), "d_widths": (8,), "num_classes": 0, "img_channels": 3},
        {"architecture": "dropout_gan", "g_widths": (8, 7, 5), "d_widths": (4, 4), "num_classes": 0, "img_size": 16},
    ],
    ids=lambda fields: "-".join(map(str, (fields["architecture"], fields.get("img_channels", 1)))),
)
def test_networks_of_other_shapes_draw_the_same_pixels(page: Page, site: str, fields: dict[str, Any]) -> None:
    config = ModelConfig(**({"z_dim": 10} | fields))
    torch.manual_seed(0)
    generator = build_generator(config)
    for name, buffer in generator.named_buffers():  # running statistics as after a training
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    content = generator_bytes(generator, config, {"run": "test"})
    loaded = read_generator(content, "a file")
    start_with(page, site, content)
    digits = (0, 3) if config.num_classes else None
    view = GenerateView(digits=digits, count=3, seed=5, truncation=0.85)
    shown = [stop(digit, 5 + k) for digit in digits or (None,) for k in range(3)]
    assert differences(page, loaded, [({"pictures": shown, "truncation": 0.85}, pictures.frames(loaded, view))]) == 0


def test_a_writer_is_drawn_as_on_the_server(page: Page, site: str) -> None:
    config = ModelConfig(architecture="forge", z_dim=9, g_widths=(8, 6), d_widths=(4, 8, 8), writers=5)
    torch.manual_seed(0)
    generator = build_generator(config)
    for k in range(1, 5):
        torch.nn.init.normal_(generator.get_parameter(f"norm{k}.gain"), 1, 0.5)
    content = generator_bytes(generator, config, {"run": "test"}, writers=(2154, 0, 7, 300, 12))
    loaded = read_generator(content, "a file")
    start_with(page, site, content)
    asks: list[dict[str, Any]] = [{}, {"writer": 2154}, {"writer": 0}, {"writer": 12}]
    jobs: list[tuple[dict[str, Any], Any]] = []
    for asked in asks:
        view = GenerateView(digits=tuple(range(10)), count=3, seed=5, truncation=0.85, **asked)
        shown = [stop(digit, 5 + k) for digit in range(10) for k in range(3)]
        jobs.append(({"pictures": shown, "truncation": 0.85, "asked": asked}, pictures.frames(loaded, view)))
        hero = ExploreView(digits=(7,), count=1, digit=7, corners=(1, 2, 3, 4), x=0.3, y=0.6, **asked)
        plane = {"digit": 7, "corners": [1, 2, 3, 4], "x": 0.3, "y": 0.6}
        jobs.append(({"plane": plane, "truncation": 1, "asked": asked}, pictures.frames(loaded, hero)[0]))
        way = InterpolateView(from_digit=3, from_seed=1, to_digit=8, to_seed=2, frames=7, **asked)
        job = {"path": {"stops": [stop(3, 1), stop(8, 2)], "kind": "slerp", "frames": 7}, "asked": asked}
        jobs.append((job, pictures.frames(loaded, way)))
    assert len({pixels.tobytes() for _, pixels in jobs}) == len(jobs)
    assert differences(page, loaded, jobs) == 0
    for wrong, message in (({"writer": 5}, "does not know writer 5"), ({"slant": 20}, "draws without slant")):
        with pytest.raises(Exception, match=message):
            draw(page, {"pictures": [stop(7, 5)], "truncation": 1, "asked": wrong})
    damaged = content.replace(b'"writers":"[2154, 0, 7, 300, 12]"', b'"writers":"[2154, 0, 7, 300]"    ', 1)
    with pytest.raises(Exception, match="the file does not name its writers"):
        start_with(page, site, damaged)
    start_shipped(page, site, "forge")
    with pytest.raises(Exception, match="this generator draws without writer"):
        draw(page, {"pictures": [stop(7, 5)], "truncation": 1, "asked": {"writer": 5}})


def test_attributes_are_drawn_from_seeds_and_as_asked_for(page: Page, site: str) -> None:
    """Also beyond the table, and with every set of attributes that is asked for."""
    names = ("slant", "thickness", "width")
    config = ModelConfig(architecture="forge", z_dim=9, g_widths=(8, 6), d_widths=(4, 8, 8), attributes=names)
    dataset = load_dataset().head(3000)
    table = AttributeTable.fit(names, measure(dataset.images[:, 0], names), dataset.labels, 10)
    torch.manual_seed(0)
    generator = build_generator(config)
    for k in range(1, 5):
        torch.nn.init.normal_(generator.get_parameter(f"norm{k}.gain"), 1, 0.5)
    content = generator_bytes(generator, config, {"run": "test"}, table=table)
    loaded = read_generator(content, "a file")
    start_with(page, site, content)
    asks: list[dict[str, float]] = [
        {},
        {"slant": 20.0},
        {"width": 14.25, "thickness": 3.5},
        {"width": 90, "slant": -50},
    ]
    asks += [dict(zip(names, (-12.5, 2.4, 17.0), strict=True))]
    jobs: list[tuple[dict[str, Any], Any]] = []
    for asked, truncation in product(asks, (1.0, 0.85, 0.0)):
        view = GenerateView(digits=tuple(range(10)), count=3, seed=5, truncation=truncation, **asked)
        shown = [stop(digit, 5 + k) for digit in range(10) for k in range(3)]
        jobs.append(({"pictures": shown, "truncation": truncation, "asked": asked}, pictures.frames(loaded, view)))
        hero = ExploreView(digits=(7,), count=1, digit=7, corners=(1, 2, 3, 4), x=0.3, y=0.6, **asked)
        hero = replace(hero, truncation=truncation)
        plane = {"digit": 7, "corners": [1, 2, 3, 4], "x": 0.3, "y": 0.6}
        job = {"plane": plane, "truncation": truncation, "asked": asked}
        jobs.append((job, pictures.frames(loaded, hero)[0]))
    for asked, path in product(asks, ("slerp", "lerp")):
        way = InterpolateView(from_digit=3, from_seed=1, to_digit=8, to_seed=2, frames=5, path=path, **asked)
        job = {"path": {"stops": [stop(3, 1), stop(8, 2)], "kind": path, "frames": 5}, "asked": asked}
        jobs.append((job, pictures.frames(loaded, way)))
    assert len({pixels.tobytes() for _, pixels in jobs}) == len(jobs)
    assert differences(page, loaded, jobs) == 0
    start_shipped(page, site, "mlp-cgan")
    with pytest.raises(Exception, match="this generator draws without slant"):
        draw(page, {"pictures": [stop(7, 5)], "truncation": 1, "asked": {"slant": 20}})


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_latents_are_numpys(page: Page, site: str, distribution: str) -> None:
    config = ModelConfig(
        architecture="mlp", z_dim=101, z_distribution=distribution, g_widths=(8,), d_widths=(8,), num_classes=0
    )
    script = """async ([scripts, seeds, distribution]) => {
      const { latent } = await import(scripts + "random.js")
      return seeds.map((seed) => [...latent(seed, 101, distribution)])
    }"""
    seeds = [0, 1, 42, 2**31, MAX_SEED, *[random.Random(0).randrange(MAX_SEED) for _ in range(20)]]
    found = page.evaluate(script, [f"{site}/{delivery.scripts_url()}", seeds, distribution])
    assert found == sampling.latents(seeds, config).tolist()


def test_points_between_latents_are_the_servers(page: Page, site: str) -> None:
    """Also where no arc is defined: for zero, equal, opposite and nearly parallel latents."""
    config = load_generator(shipped_generators()["forge"]).config
    a, b, c, d = sampling.latents([1, 2, 3, MAX_SEED], config).double()
    nearly = a + 1e-6 * b
    pairs = [(a, b), (c, d), (a, a), (a, -a), (a, 2 * a), (a, nearly), (a * 0, b), (a, b * 0), (a * 0, b * 0)]
    planes = [(a, b, c, d), (a, a, a, a), (a, -a, a, -a), (a * 0, a * 0, a * 0, a * 0)]
    places = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5), (0.125, 0.7)]
    shares = [0.0, 0.001, 0.25, 0.5, 0.7, 1.0]
    script = """async ([scripts, pairs, planes, places, shares]) => {
      const { lerp, plane, slerp, truncate } = await import(scripts + "latents.js")
      const doubles = (rows) => rows.map((row) => Float64Array.from(row))
      return [
        ...pairs.flatMap((pair) => shares.flatMap((t) => [slerp(...doubles(pair), t), lerp(...doubles(pair), t)])),
        ...planes.flatMap((corners) => places.map(([x, y]) => plane(doubles(corners), x, y))),
        ...shares.map((t) => truncate(Float64Array.from(pairs[0][0]), t)),
      ].map((z) => [...z])
    }"""
    wanted = [between(*pair, t) for pair in pairs for t in shares for between in (sampling.slerp, sampling.lerp)]
    wanted += [sampling.plane(torch.stack(corners), x, y) for corners in planes for x, y in places]
    wanted += [sampling.truncate(a, t) for t in shares]
    values = [[[z.tolist() for z in group] for group in groups] for groups in (pairs, planes)]
    found = page.evaluate(script, [f"{site}/{delivery.scripts_url()}", *values, places, shares])
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), torch.stack(wanted), rtol=0, atol=1e-13)


def test_a_picture_takes_less_time_than_the_same_arithmetic_in_plain_loops(page: Page, site: str) -> None:
    """The least time of several counts, because the machine may be busy."""
    start_shipped(page, site, "dcgan")
    million = multiply_accumulates(load_generator(shipped_generators()["dcgan"]).config) // 10**6
    script = """async ([scripts, million]) => {
      const { dense } = await import(scripts + "layers.js")
      const layer = dense(new Float64Array(1e6).fill(0.5), null, 1000, 1000)
      const x = new Float64Array(1000).fill(0.5)
      const [picture, loops] = [[], []]
      for (let seed = 0; seed < 20; seed++) {
        const start = performance.now()
        await artist.draw({ pictures: [{ digit: null, seed }], truncation: 1 }, "x")
        const between = performance.now()
        for (let k = 0; k < million; k++) layer(x)
        picture.push(between - start)
        loops.push(performance.now() - between)
      }
      return [Math.min(...picture), Math.min(...loops)]
    }"""
    picture, loops = page.evaluate(script, [f"{site}/{delivery.scripts_url()}", million])
    assert picture < 0.8 * loops


SEVENS = "const sevens = (count, seed) => Array.from({ length: count }, (_, k) => ({ digit: 7, seed: seed + k }))"


def test_a_later_job_of_a_lane_replaces_the_one_before(page: Page, site: str) -> None:
    start_shipped(page, site, "forge")
    script = f"""async () => {{
      {SEVENS}
      const many = (seed) => artist.draw({{ pictures: sevens(100, seed), truncation: 1 }}, "grid")
      const order = []
      const note = (name) => (pictures) => order.push(pictures ? name : name + " replaced")
      const jobs = [many(0).then(note("first grid")), many(9).then(note("grid"))]
      await new Promise((resolve) => setTimeout(resolve, 30))
      const plane = {{ digit: 7, corners: [1, 2, 3, 4], x: 0.5, y: 0.5 }}
      jobs.push(artist.draw({{ plane, truncation: 1 }}, "hero").then(note("hero")))
      await Promise.all(jobs)
      return order
    }}"""
    assert page.evaluate(script) == ["first grid replaced", "hero", "grid"]


def test_jobs_may_come_before_the_generator_and_end_with_the_thread(page: Page, site: str) -> None:
    script = f"""async ([scripts, url]) => {{
      {SEVENS}
      const {{ Artist }} = await import(scripts + "artist.js")
      const artist = new Artist(url)
      const first = await artist.draw({{ pictures: sevens(2, 5), truncation: 1 }}, "strip")
      const grid = artist.draw({{ pictures: sevens(100, 0), truncation: 1 }}, "grid")
      await new Promise((resolve) => setTimeout(resolve, 30))
      artist.close()
      const late = artist.draw({{ pictures: sevens(1, 0), truncation: 1 }}, "late")
      return [first.count, first.pixels.length, await grid, await late]
    }}"""
    url = f"{site}/{delivery.weights_url(_sha256(shipped_generators()['forge']))}"
    assert page.evaluate(script, [f"{site}/{delivery.scripts_url()}", url]) == [2, 2 * 28 * 28, None, None]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"pictures": [stop(7, 2**32)], "truncation": 1}, "seed must be between 0 and 4294967295"),
        ({"pictures": [stop(7, -1)], "truncation": 1}, "seed must be"),
        ({"pictures": [stop(10, 5)], "truncation": 1}, "class must be between 0 and 9: got 10"),
        ({"pictures": [stop(None, 5)], "truncation": 1}, "class must be"),
        ({"pictures": [stop(7, 5)], "truncation": 1.01}, "truncation must be between 0 and 1"),
        ({"pictures": [stop(7, 5)]}, "truncation must be"),
    ],
)
def test_a_job_that_cannot_be_drawn_fails_and_the_next_one_is_drawn(
    page: Page, site: str, job: dict[str, Any], message: str
) -> None:
    start_shipped(page, site, "forge")
    with pytest.raises(Exception, match=message):
        draw(page, job)
    assert len(draw(page, {"pictures": [stop(7, 5)], "truncation": 1})) == 28 * 28


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:100], "no safetensors file, or a damaged one"),
        (lambda content: b"", "no safetensors file, or a damaged one"),
        (lambda content: b"\xff" * 1000, "no safetensors file, or a damaged one"),
        (lambda content: content[:-1000], "cut off"),
        (lambda content: content.replace(b"digitforge-generator-1", b"digitforge-generator-9"), "no generator file"),
        (lambda content: content.replace(b'"conv1.bias"', b'"conv9.bias"'), "has no tensor conv1.bias"),
        (lambda content: content.replace(b'\\"forge\\"', b'\\"other\\"'), "family other"),
        (lambda content: content.replace(b'z_dim\\": 64', b'z_dim\\": 63'), "numbers where"),
    ],
    ids=("header", "empty", "noise", "end", "format", "tensor", "family", "size"),
)
def test_a_file_that_cannot_be_used_is_named(page: Page, site: str, change: Any, message: str) -> None:
    content = shipped_generators()["forge"].read_bytes()
    assert change(content) != content
    with pytest.raises(Exception, match=message):
        start_with(page, site, change(content))


def test_a_generator_that_is_damaged_on_its_way_is_refused(page: Page, site: str) -> None:
    with pytest.raises(Exception, match="404"):
        start(page, site, f"{site}/{delivery.weights_url('0' * 64)}")
    path = shipped_generators()["forge"]
    content = path.read_bytes()
    with pytest.raises(Exception, match="damaged on its way"):
        start_with(page, site, content[:-1] + bytes([content[-1] ^ 1]), delivery.weights_url(_sha256(path)))
