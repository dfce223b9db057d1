"""Views drawn by a generator: the pixels, their digest, and the files that hold them and their link."""

import dataclasses
import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from models import pictures
from models.config import ModelConfig
from models.generator_file import LoadedGenerator, generator_bytes, read_generator
from models.networks import build_generator
from models.sampling import to_png
from models.view_link import ViewError
from models.views import ExploreView, GenerateView, InterpolateView, Permalink

CONFIG = ModelConfig(architecture="forge", z_dim=6, g_widths=(8, 4), d_widths=(4, 8, 8))


def generator(config: ModelConfig = CONFIG) -> LoadedGenerator:
    torch.manual_seed(0)
    return read_generator(generator_bytes(build_generator(config), config, {"step": 7}), "a file")


LOADED = generator()


def test_a_picture_is_the_same_alone_and_among_others() -> None:
    many = pictures.frames(LOADED, GenerateView(count=20, seed=100, truncation=0.8)).reshape(10, 20, 28, 28)
    for digit, k in ((0, 0), (7, 3), (9, 19)):
        alone = pictures.frames(LOADED, GenerateView(digits=(digit,), count=1, seed=100 + k, truncation=0.8))
        assert np.array_equal(alone[0], many[digit, k])


@pytest.mark.parametrize("path", ["slerp", "lerp"])
def test_an_interpolation_visits_its_stops(path: str) -> None:
    view = InterpolateView(from_digit=3, from_seed=11, via=((5, 4),), to_digit=8, to_seed=12, path=path, frames=9)
    way = pictures.frames(LOADED, view)
    assert way.shape == (17, 28, 28)
    for frame, digit, seed in ((0, 3, 11), (8, 5, 4), (16, 8, 12)):
        assert np.array_equal(way[frame], pictures.frames(LOADED, GenerateView(digits=(digit,), count=1, seed=seed))[0])
    assert len({frame.tobytes() for frame in way}) == 17
    first_leg = dataclasses.replace(view, via=(), to_digit=5, to_seed=4)
    assert np.array_equal(pictures.frames(LOADED, first_leg), way[:9])


def test_the_corners_of_the_plane_are_the_pictures_of_their_seeds() -> None:
    view = ExploreView(digits=(2,), count=3, seed=5, digit=7, corners=(1, 22, 333, 4444))
    for x, y, seed in ((0.0, 0.0, 1), (1.0, 0.0, 22), (0.0, 1.0, 333), (1.0, 1.0, 4444)):
        drawn = pictures.frames(LOADED, dataclasses.replace(view, x=x, y=y))
        assert drawn.shape == (4, 28, 28)
        assert np.array_equal(drawn[0], pictures.frames(LOADED, GenerateView(digits=(7,), count=1, seed=seed))[0])
        assert np.array_equal(drawn[1:], pictures.frames(LOADED, GenerateView(digits=(2,), count=3, seed=5)))


def test_the_plane_keeps_the_length_of_its_corners() -> None:
    corners = torch.tensor([[3.0, 0, 0], [0, 4, 0], [0, 0, 5], [0, 6, 0]]).double()
    assert pictures.plane(corners, 0.5, 0.5).norm().item() == pytest.approx(4.5)
    assert pictures.plane(torch.zeros(4, 3).double(), 0.5, 0.5).tolist() == [0, 0, 0]


def test_pixels_do_not_depend_on_threads() -> None:
    view, threads = GenerateView(count=5), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = pictures.digest(pictures.frames(LOADED, view))
        torch.set_num_threads(4)
        assert pictures.digest(pictures.frames(LOADED, view)) == one
    finally:
        torch.set_num_threads(threads)


def test_a_generator_without_classes_draws_one_row() -> None:
    loaded = generator(dataclasses.replace(CONFIG, num_classes=0))
    assert pictures.frames(loaded, GenerateView(count=4)).shape == (4, 28, 28)
    assert pictures.frames(loaded, ExploreView(count=4, x=0.5)).shape == (5, 28, 28)
    assert pictures.frames(loaded, InterpolateView(frames=5, via=((None, 3),))).shape == (9, 28, 28)
    with pytest.raises(ViewError):
        pictures.frames(loaded, GenerateView(digits=(1,)))


def frames_of(colour: bool = False) -> pictures.Pixels:
    shape = (5, 28, 28, 3) if colour else (5, 28, 28)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("colour", [False, True])
def test_a_sheet_holds_every_pixel_and_its_link(colour: bool) -> None:
    note = Permalink(GenerateView(run="runs/quick-1", step=50, seed=3)).text
    content = pictures.sheet(frames_of(colour), 3, note, scale=2, gap=2)
    pixels = np.asarray(Image.open(io.BytesIO(content)))[::2, ::2]
    assert pixels.shape[:2] == (2 * 28 + 2, 3 * 28 + 2 * 2)
    assert np.array_equal(pixels[30:58, 30:58], frames_of(colour)[4])
    assert pictures.read_note(content) == note


def test_the_hero_stands_beside_its_grid() -> None:
    view = ExploreView(digits=(1, 2), count=2)
    content = pictures.picture(view, frames_of(), "note")
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (232, 8 * 28 + 24 + 232)
    assert np.array_equal(pixels[4:228:8, 0:224:8], frames_of()[0])
    assert np.array_equal(pixels[120::4, 248 + 120 :: 4], frames_of()[4])


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_goes_there_and_back_and_holds_its_link(kind: str) -> None:
    content = pictures.animation(frames_of(), kind, "s?v=1", 80, scale=2)
    picture = Image.open(io.BytesIO(content))
    assert picture.n_frames == 8
    assert picture.info["loop"] == 0
    for index, frame in ((0, 0), (4, 4), (5, 3)):
        picture.seek(index)
        assert np.array_equal(np.asarray(picture.convert("L"))[::2, ::2], frames_of()[frame])
        picture.load()
        assert picture.info["duration"] == (320 if index in (0, 4) else 80)
    assert pictures.read_note(content) == "s?v=1"


@pytest.mark.parametrize(("play", "number", "loop"), [("loop", 5, 0), ("once", 5, 1)])
def test_an_animation_plays_as_its_view_says(play: str, number: int, loop: int) -> None:
    view = InterpolateView(frames=5, play=play, fps=20)
    picture = Image.open(io.BytesIO(pictures.file_of(view, frames_of(), "webp", "")))
    assert (picture.n_frames, picture.info["loop"]) == (number, loop)
    picture.seek(1)
    picture.load()
    assert picture.info["duration"] == 50


@pytest.mark.parametrize("colour", [False, True])
def test_a_video_shows_every_frame_and_holds_its_link(colour: bool) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    view = InterpolateView(frames=5, play="once", fps=20)
    grey = np.linspace(0, 255, 5).astype(np.uint8)[:, None, None]
    frames = np.broadcast_to(grey[..., None] if colour else grey, frames_of(colour).shape)
    with av.open(io.BytesIO(pictures.file_of(view, frames, "mp4", "s?v=1"))) as video:
        assert video.metadata["comment"] == "s?v=1"
        assert video.streams.video[0].average_rate == 20
        shown = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    indices = [0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 4]
    assert len(shown) == len(indices)
    for picture, index in zip(shown, indices, strict=True):
        assert np.abs(picture.astype(int) - int(grey[index, 0, 0])).max() <= 3


def test_a_video_without_pyav_is_a_value_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"digitforge\[video\]"):
        pictures.file_of(InterpolateView(frames=5), frames_of(), "mp4", "")


def test_a_file_without_a_link_is_a_value_error() -> None:
    for content in (b"", b"GIF89a", to_png(frames_of()[0])):
        with pytest.raises(ValueError, match="picture"):
            pictures.read_note(content)
    with pytest.raises(ValueError, match="makes png and no gif"):
        pictures.file_of(GenerateView(), frames_of(), "gif", "")
