"""The app's pictures, caches, files, charts and wording."""

import asyncio
import dataclasses
import gc
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from PIL import Image

from models.generator_file import GeneratorFileError
from models.views import GenerateView, InterpolateView
from tests.sample_run import STEPS_PER_EPOCH, curve, manifest, model_config, write_checkpoint, write_run
from trainer.run_store import GENERATOR_FILE, DamagedError, Run
from webapp import asgi, catalog, charts, export, inference, wording
from webapp.classes import Classes, plain, slug
from webapp.environment import ROUTES_VARIABLE, RUNS_VARIABLE
from webapp.views import explore

FOURS = GenerateView(digits=(4,), count=2)
WAY = InterpolateView(from_digit=3, to_digit=8, frames=5)


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


def test_a_generator_in_memory_outlives_its_checkpoint(run: Run) -> None:
    old, new = key_of(1), key_of(2)
    before = inference.frames(old, FOURS)
    run.prune_checkpoints(1)
    st.cache_data.clear()
    assert np.array_equal(inference.frames(old, FOURS), before)
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
    drawn = inference.frames(here, FOURS)
    way = inference.frames(here, WAY)
    shutil.rmtree(run.path)
    st.cache_resource.clear()  # the generator is gone, so pictures come from the cache
    assert np.array_equal(inference.frames(there, FOURS), drawn)
    assert np.array_equal(inference.frames(there, dataclasses.replace(WAY, run="runs/other", step=350)), way)
    with pytest.raises(inference.GeneratorGoneError):
        inference.frames(other, FOURS)


def test_the_first_page_is_drawn_before_the_server_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROUTES_VARIABLE, "")
    monkeypatch.setattr(catalog, "PRETRAINED", Path(run.path, "none"))

    async def start() -> None:
        async with asgi.lifespan(asgi.app):
            pass

    asyncio.run(start())
    gc.unfreeze()
    key, view = key_of(2), explore.START.explicit(10)
    shutil.rmtree(run.path)
    st.cache_resource.clear()
    assert inference.frames(key, view).shape == (101, 28, 28)


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


@pytest.mark.usefixtures("run")
def test_a_timelapse_has_every_epoch() -> None:
    sheets = [catalog.samples("runs/quick-1", 0.0, epoch) for epoch in (0, 1, 2)]
    picture = Image.open(io.BytesIO(export.timelapse(sheets, 100)))
    assert (picture.n_frames, picture.size) == (3, (560, 560))


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
