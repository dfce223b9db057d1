"""The game Real or fake?: its rounds, its players, and the page and the card of its link."""

import functools
import hashlib
import html
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from PIL import Image

from models.pictures import digest, read_note
from models.quiz import ROUNDS, Round, rounds
from models.sampling import MAX_SEED
from models.views import QuizView, read_link
from tests.browser import FORGE
from tests.test_webapp_routes import Client
from trainer import data
from webapp import catalog, game, inference
from webapp.card import HEIGHT, WIDTH

ANSWERS = "0001001010"
RESULT = f"v=1&kind=quiz&{FORGE}&seed=0&answers={ANSWERS}"


def key(run: str) -> inference.GeneratorKey:
    stored = catalog.generators(run)[-1]
    return inference.GeneratorKey(run, stored.step, stored.sha256)


@pytest.fixture
def client(site: str, served_runs: Path) -> Client:
    return Client(site, served_runs)


def test_rounds_are_a_function_of_the_seed_that_never_changes() -> None:
    first, *_, last = rounds(7, 10)
    assert first == Round(digit=2, seed=309457262, place=0.3809411331485384, side=0)
    assert last == Round(digit=8, seed=1420943751, place=0.9501295004136456, side=0)
    several = [rounds(seed, classes) for seed in (0, 1, 772, MAX_SEED) for classes in (10, 0, 3)]
    assert hashlib.sha256(repr(several).encode()).hexdigest()[:16] == "352cfba0e5f16393"
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(ValueError, match="seed must be between"):
            rounds(seed, 10)


def test_sides_and_classes_are_balanced_in_each_game_and_seeds_over_all() -> None:
    games = [rounds(seed, 10) for seed in range(400)]
    for played in games:
        assert Counter(each.side for each in played) == {0: 5, 1: 5}
        assert sorted(each.digit for each in played if each.digit is not None) == list(range(10))
        assert len({each.seed for each in played}) == ROUNDS
    for number in range(ROUNDS):  # no round gives its side away
        assert 0.4 < np.mean([played[number].side for played in games]) < 0.6
    assert abs(np.mean([each.place for played in games for each in played]) - 0.5) < 0.02
    assert max(each.seed for played in games for each in played) > 0.99 * MAX_SEED
    assert {each.digit for each in rounds(5, 0)} == {None}
    assert sorted(Counter(each.digit for each in rounds(5, 3)).values()) == [3, 3, 4]


def test_a_game_has_a_test_image_and_a_generated_picture_of_the_same_digit_in_each_round() -> None:
    played = game.play(key("pretrained/forge"), 0)
    fakes = inference.frames(key("pretrained/forge"), QuizView(seed=0))
    test = data.load_dataset(split="t10k")
    for number, each in enumerate(rounds(0, 10)):
        real, fake = played.pairs[number, each.side], played.pairs[number, 1 - each.side]
        of_digit = test.images[test.labels == each.digit, 0]
        assert (of_digit == real).all((1, 2)).any()
        assert np.array_equal(fake, fakes[number])
    assert played.real == "".join(str(each.side) for each in rounds(0, 10))
    assert played.score(played.real) == ROUNDS
    assert (played.score(ANSWERS), played.others) == (6, [("Detective", played.detective), ("Reader", played.reader)])
    assert all(0.5 <= sure <= 1 for sure in played.certainty)
    for bet, (left, right) in zip(played.reader, played.read, strict=True):
        assert (left <= right) if bet == "1" else (right <= left)


def test_without_its_discriminator_or_classes_the_reader_plays_alone() -> None:
    for run, digits in (("pretrained/mlp-cgan", set(range(10))), ("pretrained/gan", {None})):
        played = game.play(key(run), 3)
        assert set(played.digits) == digits
        assert (played.detective, played.certainty) == ("", ())
        assert played.others == [("Reader", played.reader)]


def test_there_is_no_game_without_real_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(game.NoGameError, match="learned from other pictures"):
        game.play(key("pretrained/fashion"), 0)
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setattr(data, "load_dataset", functools.partial(data.load_dataset, tmp_path))
    with pytest.raises(game.NoGameError, match="which this server lacks"):
        game.play(key("pretrained/forge"), 0)


@pytest.mark.slow
def test_the_page_of_a_result_has_scores_and_marks_and_its_card_is_a_picture(client: Client) -> None:
    link = json.loads(client.get(f"/s/link?{RESULT}").content)
    assert f"{RESULT}&px={link['px']}" in link["url"]
    played = game.play(key("pretrained/forge"), 0)
    assert link["px"] == digest(inference.frames(key("pretrained/forge"), QuizView(seed=0)))
    scores = f"6 of 10; the detective {played.score(played.detective)}, the reader {played.score(played.reader)}"
    page = client.get(link["url"].removeprefix(client.url))
    assert page.status == 200
    assert f"<h1>Real or fake? {scores}</h1>" in page.text
    assert f'<meta property="og:title" content="Real or fake? {scores}">' in page.text
    assert (page.text.count('<li class="right">'), page.text.count('<li class="wrong">')) == (6, 4)
    assert "Reproduced: the same 7,840 pixels." in page.text
    assert f'href="quiz?{FORGE}&seed=0">Play the same ten' in html.unescape(page.text)
    assert "<script" not in page.text
    card = client.get(f"/s/image.png?{RESULT}&card=1")
    assert Image.open(io.BytesIO(card.content)).size == (WIDTH, HEIGHT)
    sheet = client.get(f"/s/image.png?{RESULT}").content
    assert read_link(read_note(sheet)).px == link["px"]
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))[::4, ::4]
    assert np.array_equal(pixels[:28, :28], played.pairs[0, 0])
    assert np.array_equal(pixels[30:58, -28:], played.pairs[-1, 1])
    unplayed = client.get(f"/s?v=1&kind=quiz&{FORGE}&seed=0")
    assert "<h1>Real or fake? Ten pairs of digits</h1>" in unplayed.text
    assert '<li class="' not in unplayed.text
    assert client.get(f"/api/v1/look?{RESULT}").status == 400
