"""The app's pictures, caches, files, charts and wording."""

import asyncio
import gc
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from models.generator_file import GeneratorFileError
from tests.sample_run import STEPS_PER_EPOCH, curve, manifest, model_config, write_checkpoint, write_run
from trainer.run_store import GENERATOR_FILE, DamagedError, Run
from webapp import asgi, catalog, charts, export, inference, picture_html, wording
from webapp.classes import Classes, plain, slug
from webapp.environment import ROUTES_VARIABLE, RUNS_VARIABLE
from webapp.view_link import encode
from webapp.views.generate import GenerateView

DIGITS = tuple(range(10))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_data.clear()
    st.cache_resource.clear()
    yield write_run(tmp_path, epochs=2)
    st.cache_data.clear()
    st.cache_resource.clear()


def key_of(epoch: int) -> inference.GeneratorKey:
    entry = next(entry for entry in catalog.generators("runs/quick-1") if entry.epoch == epoch)
    return inference.GeneratorKey("runs/quick-1", entry.step, entry.sha256)


@pytest.mark.usefixtures("run")
def test_a_picture_is_the_same_alone_and_among_others() -> None:
    many = inference.pictures(key_of(1), DIGITS, 20, 100, 0.8)
    assert many.shape == (10, 20, 28, 28)
    for digit, k in ((0, 0), (7, 3), (9, 19)):
        alone = inference.pictures(key_of(1), (digit,), 1, 100 + k, 0.8)
        assert np.array_equal(alone[0, 0], many[digit, k])


@pytest.mark.usefixtures("run")
def test_an_interpolation_begins_and_ends_with_its_ends() -> None:
    for path in ("slerp", "lerp"):
        frames = inference.interpolation(key_of(2), 3, 11, 8, 12, path, 9)
        assert frames.shape == (9, 28, 28)
        assert np.array_equal(frames[0], inference.pictures(key_of(2), (3,), 1, 11, 1.0)[0, 0])
        assert np.array_equal(frames[-1], inference.pictures(key_of(2), (8,), 1, 12, 1.0)[0, 0])
        assert len({frame.tobytes() for frame in frames}) == 9


def test_a_generator_in_memory_outlives_its_checkpoint(run: Run) -> None:
    old, new = key_of(1), key_of(2)
    before = inference.pictures(old, (4,), 2, 0, 1.0)
    run.prune_checkpoints(1)
    st.cache_data.clear()
    assert np.array_equal(inference.pictures(old, (4,), 2, 0, 1.0), before)
    st.cache_resource.clear()
    with pytest.raises(inference.GeneratorGoneError):
        inference.load(old)
    assert inference.load(new) is inference.load(new)


def test_the_same_file_in_two_places_is_one_generator(run: Run) -> None:
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    run.publish_checkpoint(manifest(7 * STEPS_PER_EPOCH), {GENERATOR_FILE: checkpoint.read(GENERATOR_FILE)})
    here, there, other = key_of(2), key_of(7), key_of(1)
    assert (here.step, there.step) == (100, 350)
    assert inference.load(here) is inference.load(there)
    assert inference.load(here) is not inference.load(other)
    drawn = inference.pictures(here, (4,), 2, 0, 1.0)
    way = inference.interpolation(here, 3, 1, 8, 2, "slerp", 5)
    shutil.rmtree(run.path)
    st.cache_resource.clear()  # the generator is gone, so pictures come from the cache
    assert np.array_equal(inference.pictures(there, (4,), 2, 0, 1.0), drawn)
    assert np.array_equal(inference.interpolation(there, 3, 1, 8, 2, "slerp", 5), way)
    with pytest.raises(inference.GeneratorGoneError):
        inference.pictures(other, (4,), 2, 0, 1.0)


def test_the_first_page_is_drawn_before_the_server_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROUTES_VARIABLE, "")
    monkeypatch.setattr(catalog, "PRETRAINED", Path(run.path, "none"))

    async def start() -> None:
        async with asgi.lifespan(asgi.app):
            pass

    asyncio.run(start())
    gc.unfreeze()
    key, view = key_of(2), GenerateView()
    shutil.rmtree(run.path)
    st.cache_resource.clear()
    assert inference.pictures(key, DIGITS, view.count, view.seed, view.truncation).shape == (10, 10, 28, 28)


def test_another_file_in_the_same_place_is_noticed(run: Run) -> None:
    old = key_of(2)
    run.storage.remove_folder(f"{run.name}/step_{2 * STEPS_PER_EPOCH:08d}")
    run.publish_checkpoint(manifest(2 * STEPS_PER_EPOCH), {GENERATOR_FILE: b"x" * 50})
    with pytest.raises(inference.GeneratorGoneError, match="replaced"):
        inference.load(old)
    st.cache_data.clear()
    with pytest.raises(GeneratorFileError, match=r"step_00000100/generator\.safetensors"):
        inference.load(key_of(2))
    write_checkpoint(run, 3, model_config())
    (Path(run.path) / "step_00000150" / "generator.safetensors").unlink()
    st.cache_data.clear()
    with pytest.raises(DamagedError, match=r"step_00000150/generator\.safetensors"):
        inference.load(key_of(3))


def frames_of(colour: bool = False) -> NDArray[np.uint8]:
    shape = (5, 28, 28, 3) if colour else (5, 28, 28)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("colour", [False, True])
def test_a_sheet_holds_every_pixel_and_its_link(colour: bool) -> None:
    frames, note = frames_of(colour), encode(GenerateView(run="runs/quick-1", step=50, seed=3))
    picture = Image.open(io.BytesIO(export.sheet(frames, 3, note, scale=2, gap=2)))
    assert picture.text[export.LINK_NOTE] == note
    pixels = np.asarray(picture)[::2, ::2]
    assert pixels.shape[:2] == (2 * 28 + 2, 3 * 28 + 2 * 2)
    assert np.array_equal(pixels[30:58, 30:58], frames[4])


def test_a_sprite_holds_the_frames_side_by_side() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(export.sprite(frames_of()))))
    assert np.array_equal(pixels[:, 56:84], frames_of()[2])


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_goes_there_and_back(kind: str) -> None:
    picture = Image.open(io.BytesIO(export.animation(frames_of(), kind, 80, scale=2)))
    assert picture.n_frames == 8
    for index, frame in ((0, 0), (4, 4), (5, 3)):
        picture.seek(index)
        assert np.array_equal(np.asarray(picture.convert("L"))[::2, ::2], frames_of()[frame])
        picture.load()
        assert picture.info["duration"] == (320 if index in (0, 4) else 80)


@pytest.mark.usefixtures("run")
def test_a_timelapse_has_every_epoch() -> None:
    sheets = [catalog.samples("runs/quick-1", 0.0, epoch) for epoch in (0, 1, 2)]
    picture = Image.open(io.BytesIO(export.timelapse(sheets, 100)))
    assert (picture.n_frames, picture.size) == (3, (560, 560))


def test_each_picture_has_its_words() -> None:
    images = np.zeros((2, 3, 28, 28), np.uint8)
    markup = picture_html.picture_rows(images, (4, 7), 10, Classes(10))
    assert markup.count("<img ") == 6
    assert 'alt="A handwritten 7, seed 12"' in markup
    assert 'alt="A handwritten digit, seed 1"' in picture_html.picture_rows(images[:1], (), 0, Classes(0))


def test_curves_of_all_epochs_are_joined_and_thinned() -> None:
    curves = [curve(epoch) for epoch in range(1, 61)]
    data = charts.joined(curves, ("step", "d_loss", "images_per_second", "penalty"))
    assert data["step"].tolist() == list(range(1, 60 * STEPS_PER_EPOCH + 1))
    assert np.isnan(data["penalty"]).all()
    x, y = charts.thinned(data["step"], data["images_per_second"])
    assert len(x) == 300  # every tenth step was measured
    assert y[0] == 1510
    x, y = charts.thinned(data["step"], data["d_loss"], points=7)
    assert len(x) == 7
    assert np.isclose(np.average(y, weights=np.diff([*np.linspace(0, 3000, 8).astype(int)])), data["d_loss"].mean())


def test_charts_stay_small_and_survive_gaps() -> None:
    curves = [curve(epoch) for epoch in range(1, 61)]
    curves[5]["d_loss"][3] = None
    for draw in (charts.losses, charts.accuracy, charts.throughput):
        figure = draw(curves, STEPS_PER_EPOCH)
        assert figure.data
        assert all(len(trace.x) <= charts.MAX_POINTS and np.isfinite(trace.y).all() for trace in figure.data)
        assert figure.data[-1].x[-1] == pytest.approx(60, abs=0.5)
        assert not draw([{"step": [], "d_loss": []}], 1).data[0].x.size
    assert charts.accuracy(curves, STEPS_PER_EPOCH).layout.shapes[0].y0 == 0.5


def test_smoothing_leaves_out_what_is_missing() -> None:
    values = np.array([1.0, np.nan, 3.0])
    assert charts.smoothed(values, 3).tolist() == [1.0, 2.0, 3.0]


def test_numbers_in_words() -> None:
    assert [wording.duration(seconds) for seconds in (0.4, 59, 75, 3599, 7500)] == [
        "0 s",
        "59 s",
        "1 min 15 s",
        "60 min",
        "2 h 5 min",
    ]
    assert [wording.count(number) for number in (936, 1404, 59_904, 4_200_000)] == ["936", "1,404", "60k", "4.2M"]
    assert Classes(10).listed((0, 1, 2, 5)) == "digits 0, 1, 2 and 5"
    assert Classes(10).listed((3,)) == "digit 3"


def test_classes_in_words() -> None:
    clothes, letters = Classes(4, ("T-shirt/top", "Bag", "$x_1$ :red[*]", "обувь")), Classes(26)
    assert clothes.listed((0, 1)) == "T-shirt/top and Bag"
    assert clothes.listed((0, 1, 2, 3)) == "all 4 classes"
    assert clothes.listed((1, 9)) == "classes 1 and 9"
    assert (clothes.picture(1), clothes.picture(None)) == ("Bag", "A generated picture")
    assert (letters.picture(17), letters.listed((3,)), letters.range) == ("Class 17", "class 3", "classes 0 to 25")
    assert letters.listed(range(2, 6)) == "classes 2 to 5"
    assert plain(clothes.name(2)) == r"\$x\_1\$ \:red\[\*\]"
    assert [slug(name) for name in clothes.names] == ["t-shirt-top", "bag", "x-1-red", ""]
    markup = picture_html.picture_rows(np.zeros((1, 1, 28, 28), np.uint8), (0,), 0, Classes(1, ('<b>"x"',)))
    assert "<b>" not in markup
    assert 'alt="&lt;b&gt;&quot;x&quot;, seed 0"' in markup
