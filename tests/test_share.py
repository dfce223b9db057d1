"""The routes of a permalink over HTTP: the page without JavaScript, pictures, the embedded form, oEmbed, limits."""

import io
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from PIL import Image

from models.generate import main
from models.generator_file import read_generator
from models.pictures import digest, frames, read_note
from models.views import DRAWING_VIEWS, InterpolateView, read_link
from tests.browser import FORGE, serve
from tests.golden import shipped_generators
from tests.sample_run import generator_file, model_config, write_checkpoint, write_run
from tests.test_webapp_main import wait_for
from tests.test_webapp_routes import Client
from webapp.card import FOOT, MARGIN, WIDTH, card
from webapp.rendering import MAX_PER_MINUTE, ClientLimit

pytestmark = pytest.mark.slow

WAY = f"v=1&kind=interpolate&{FORGE}&from_digit=3&from_seed=1&to_digit=8&to_seed=2&path=slerp&frames=24"
WAY_PX = "6e9f1af7997aa440"
ONE = f"v=1&kind=generate&{FORGE}&digits=7&count=1&seed=5&truncation=1"
HERO = (
    f"v=1&kind=explore&{FORGE}&digits=0-9&count=10&seed=772&truncation=1&digit=7&corners=772.773.774.775&x=0.5&y=0.25"
)
TEXT = f"v=1&kind=write&{FORGE}&text=2026-11-24&seed=772&own=3.5&truncation=1&spacing=3&ink=blue&paper=cream"


@pytest.fixture
def client(site: str, served_runs: Path) -> Client:
    return Client(site, served_runs)


class Tags(HTMLParser):
    """The tags of a page, and the content of its `meta` tags by name or property."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.meta = {
            name: found.get("content", "")
            for tag, found in self.tags
            if tag == "meta" and (name := found.get("property") or found.get("name"))
        }

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def link_of(client: Client, query: str) -> dict[str, str]:
    answer = client.get(f"/s/link?{query}")
    assert answer.status == 200, answer.text
    return json.loads(answer.content)


@pytest.mark.parametrize(("query", "title"), [
    (WAY, "From a 3 to an 8"),
    (ONE, "A handwritten 7, seed 5"),
    (f"{ONE}&slant=20&thickness=3.5", "A handwritten 7, slant 20\N{DEGREE SIGN}, thickness 3.5 px, seed 5"),
    (HERO, "A handwritten 7, and more that nobody wrote"),
    (TEXT, "2026-11-24 in handwriting"),
])  # fmt: skip
def test_the_page_needs_no_script_and_unfurls(client: Client, query: str, title: str) -> None:
    permalink = link_of(client, query)
    answer = client.get(permalink["url"].removeprefix(client.url))
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    assert len(answer.content) < 60_000
    assert "<script" not in answer.text
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert re.search(r"Reproduced: the same [\d,]+ pixels\.", answer.text)
    page = Tags(answer.text)
    assert page.meta["og:title"] == title
    assert "epoch 10" in page.meta["og:description"]
    assert page.meta["twitter:card"] == "summary_large_image"
    image = page.meta["og:image"]
    assert image.startswith(client.url)
    card = client.get(image.removeprefix(client.url))
    assert card.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(card.content)).size == (1200, 630)
    hrefs = {found.get("rel", ""): found["href"] for tag, found in page.tags if tag == "link"}
    oembed = json.loads(client.get(hrefs["alternate"].removeprefix(client.url)).content)
    assert (oembed["version"], oembed["type"], oembed["title"]) == ("1.0", "rich", title)
    for tag, found in page.tags:
        source = found.get("src") or found.get("srcset") or (found["href"] if tag == "a" else "")
        if source and not source.startswith("http"):
            assert client.get(f"/{source.removeprefix('./')}").status in (200, 307), source


def test_the_digest_is_that_of_the_command_line_and_of_each_file(client: Client, tmp_path: Path) -> None:
    for query in (WAY, ONE, HERO, TEXT):
        permalink = link_of(client, query)
        assert main(["--link", permalink["url"], "--out", str(tmp_path / "x.png")]) == 0
        content = client.get(f"/s/image.png?{query}").content
        assert read_note(content).endswith(f"&px={permalink['px']}")
        assert (tmp_path / "x.png").read_bytes() == content
    assert link_of(client, WAY)["px"] == WAY_PX
    saved = client.get(f"/s/animation.gif?{TEXT}&download=1")
    assert read_link(read_note(saved.content)).px == link_of(client, TEXT)["px"]
    drawing = client.get(f"/s/image.svg?{TEXT}&download=1")
    assert drawing.headers["Content-Type"].startswith("image/svg+xml")
    assert drawing.headers["Content-Disposition"] == 'attachment; filename="written-2026-11-24.svg"'
    for kind in ("gif", "webp"):
        answer = client.get(f"/s/animation.{kind}?{WAY}&download=1")
        assert read_link(read_note(answer.content)).px == WAY_PX
        assert answer.headers["Content-Disposition"] == f'attachment; filename="interpolation-3-to-8.{kind}"'


def test_a_link_carries_a_writer_or_names_one_who_is_not_known(client: Client, served_runs: Path) -> None:
    run = write_run(served_runs, "hands", checkpoints=False)
    config = replace(model_config(), writers=3)
    write_checkpoint(run, 3, config)
    loaded = read_generator(generator_file(run, 3, config), "a file")
    query = "v=1&kind=explore&run=runs/hands&digits=7&count=1&seed=5&digit=7&corners=5.6.7.8&x=0&y=0"
    wait_for(lambda: client.get(f"/s/link?{query}").status != 404)  # the server looks for new runs every two seconds
    permalink = link_of(client, f"{query}&writer=103")
    view = read_link(permalink["url"]).view
    assert view.asked == {"writer": 103}
    assert digest(frames(loaded, view)) == permalink["px"] != link_of(client, query)["px"]
    refused = client.get(f"/s/link?{query}&writer=7")
    assert refused.status == 400
    assert "writer: cannot be chosen: this generator does not know writer 7" in refused.text
    answer = client.get(f"/api/v1/prompt?{query}&{urlencode({'words': 'by writer 106'})}")
    assert json.loads(answer.content)["values"] == {"writer": 106}
    answer = client.get(f"/api/v1/prompt?{query}&{urlencode({'words': 'by writer 7'})}")
    assert (answer.status, "does not know that writer" in answer.text) == (400, True)


def test_a_link_that_was_not_reproduced_says_so(client: Client) -> None:
    answer = client.get(f"/s?{ONE}&px={'0' * 16}")
    assert answer.status == 200
    assert "Not reproduced" in answer.text
    without = client.get(f"/s?{ONE}")
    assert f"784 pixels with the digest {link_of(client, ONE)['px']}" in without.text


def test_what_is_not_pinned_is_not_kept_for_long(client: Client) -> None:
    answer = client.get("/s/image.png?v=1&kind=generate&run=pretrained/forge&step=15000&digits=7&count=1&seed=5")
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert "g=66aa0cbdc22a" in read_note(answer.content)
    same = client.get(f"/s/image.png?{ONE}", If_None_Match=answer.headers["ETag"])
    assert (same.status, same.content) == (304, b"")


def test_only_the_embedded_form_may_be_framed_elsewhere(client: Client) -> None:
    embedded = client.get(f"/embed?{WAY}")
    assert embedded.status == 200
    assert "frame-ancestors *" in embedded.headers["Content-Security-Policy"]
    assert "<script" not in embedded.text
    for path in (f"/s?{WAY}", "/", f"/s/image.png?{ONE}", "/training"):
        assert "frame-ancestors 'self'" in client.get(path).headers["Content-Security-Policy"]


def test_another_run_of_the_same_name_is_never_shown(client: Client) -> None:
    write_run(client.runs, "mine", keeps_generators=True)
    time.sleep(2.5)  # the list of runs is kept that long
    first = link_of(client, "v=1&kind=generate&run=runs/mine&step=100&digits=3&count=2&seed=1")
    path = first["url"].removeprefix(client.url)
    before = client.get(path.replace("/s?", "/s/image.png?")).content
    (client.runs / "mine").rename(client.runs / "elsewhere")
    write_run(client.runs, "mine", keeps_generators=True, seed=1)
    moved = client.get(path)
    assert (moved.status, "Reproduced" in moved.text) == (200, True)
    shutil.rmtree(client.runs / "elsewhere")
    deadline = time.monotonic() + 60
    while (gone := client.get(path)).status != 404 and time.monotonic() < deadline:  # what was read is kept a while
        assert (gone.status, "Reproduced" in gone.text) == (200, True)
        time.sleep(0.5)
    image = client.get(path.replace("/s?", "/s/image.png?"))
    assert image.status == 404 or image.content == before


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "kind: must be one of"),
        ("v=2&kind=generate", 400, "v: must be 1"),
        ("v=1&kind=generate&seed=-1", 400, "seed: must be a whole number"),
        ("v=1&kind=generate&run=../../etc", 400, "run:"),
        ("v=1&kind=generate&digits=55", 400, "digits: must be between 0 and 9"),
        ("v=1&kind=generate&run=runs/none", 404, "the run runs/none"),
        ("v=1&kind=generate&run=pretrained/forge&step=1", 404, "step 1"),
        ("v=1&kind=generate&g=000000000000", 404, "000000000000"),
        ("v=1&kind=write&text=2o26", 400, "text: must be of digits, spaces and . , : - / +: got 'o'"),
        ("v=1&kind=write&text=7&run=pretrained/fashion", 400, "this generator does not draw the ten digits"),
        ("v=1&kind=quiz&answers=010101010", 400, "answers: must be 10 times 0 (left) or 1 (right)"),
        ("v=1&kind=quiz&seed=4294967296", 400, "seed: must be between"),
        ("v=1&kind=quiz&slant=5", 400, "slant: cannot be chosen in a quiz"),
        ("v=1&kind=quiz&run=pretrained/fashion", 404, "this generator learned from other pictures"),
        (f"v=1&kind=generate&seed={'9' * 5000}", 400, "at most 4000 characters"),
        ("&".join(f"a{k}=1" for k in range(100)), 400, "at most 50 values"),
    ],
)
def test_a_bad_link_names_the_value(client: Client, query: str, status: int, words: str) -> None:
    for path in ("/s", "/embed", "/s/image.png", "/s/link", "/api/v1/look", "/api/v1/prompt"):
        answer = client.get(f"{path}?{query}")
        assert answer.status == status, (path, answer.text)
        assert words in answer.text.replace("&#x27;", "'"), (path, answer.text)
    assert client.get(f"/s/animation.webp?{ONE}").status == 400


def test_oembed_answers_for_our_links_only(client: Client) -> None:
    for query, status in (
        ({"url": f"{client.url}/s?{ONE}"}, 200),
        ({"url": f"{client.url}/s?{ONE}", "format": "xml"}, 501),
        ({"url": f"https://evil.example/s?{ONE}"}, 404),
        ({"url": f"{client.url}/s?v=1&kind=x"}, 404),
        ({}, 404),
    ):
        assert client.get(f"/oembed?{urlencode(query)}").status == status
    small = json.loads(client.get(f"/oembed?{urlencode({'url': f'{client.url}/s?{ONE}', 'maxwidth': '200'})}").content)
    assert (small["width"], 'width="200"' in small["html"]) == (200, True)
    assert "thumbnail_url" not in small  # it would be wider


def test_a_closer_look_reads_the_digit_and_finds_its_neighbours(client: Client) -> None:
    judged = json.loads(client.get(f"/api/v1/look?{ONE}").content)
    assert len(judged["probabilities"]) == 10
    assert judged["probabilities"][7] > 0.5
    assert sum(judged["probabilities"]) == pytest.approx(1)
    distances = [each["distance"] for each in judged["nearest"]]
    assert len(distances) == 5
    assert 0 < distances[0] <= distances[1] <= distances[4]
    assert re.fullmatch(r"This picture looks more real to it than \d+ of 100 real 7s\.", judged["verdict"])
    other = json.loads(client.get(f"/api/v1/look?{MLP_CGAN.replace('explore', 'generate')}").content)
    assert "is not stored" in other["verdict"]


MLP_CGAN = "v=1&kind=explore&run=pretrained/mlp-cgan&count=10"
EXPLORE = "v=1&kind=explore&run=pretrained/forge&step=15000&count=10"


def test_a_prompt_is_read_for_the_generator_of_a_view(client: Client) -> None:
    words = {"words": "A typical seven, seed 21"}
    answer = client.get(f"/api/v1/prompt?{EXPLORE}&{urlencode(words)}")
    assert answer.status == 200
    assert json.loads(answer.content) == {
        "values": {"digit": 7, "seed": 21, "truncation": 0.5},
        "moves": [
            {"words": "typical", "control": "truncation", "setting": "0.5"},
            {"words": "seven", "control": "digit", "setting": "7"},
            {"words": "seed 21", "control": "seed", "setting": "21"},
        ],
    }


@pytest.mark.parametrize(
    ("view", "words", "message"),
    [
        (EXPLORE, "a thikc seven", "'thikc' is not known; the nearest word is 'thick'"),
        (EXPLORE, "", "the prompt asks for nothing"),
        (MLP_CGAN, "a thick seven", "'thick': this generator does not take a thickness"),
        (EXPLORE, "seed 4294967295", "seed: must be between 0 and 4294967286"),
        (EXPLORE, "x" * 300, "a prompt has at most 200 characters"),
        (EXPLORE.replace("forge&step=15000", "gan"), "a seven", "'seven': this generator draws without classes"),
        (ONE, "a seven", "A prompt changes a view of Explore only."),
    ],
)
def test_a_prompt_that_cannot_be_used_is_one_error(client: Client, view: str, words: str, message: str) -> None:
    answer = client.get(f"/api/v1/prompt?{view}&{urlencode({'words': words})}")
    assert answer.status == 400
    assert json.loads(answer.content)["error"].startswith(message)


def test_weights_and_scripts_are_immutable_and_looked_up(client: Client) -> None:
    sha256 = "66aa0cbdc22ac156c666ad52894011dd13afc863e5a69333c6dc32746e536fcc"
    answer = client.get(f"/api/v1/generators/{sha256}.safetensors", Accept_Encoding="br, zstd, gzip")
    assert answer.content == shipped_generators()["forge"].read_bytes()
    assert "immutable" in answer.headers["Cache-Control"]
    for path in (
        f"/api/v1/generators/{'0' * 64}.safetensors",
        "/api/v1/generators/..%2f..%2fetc%2fpasswd.safetensors",
        f"/api/v1/generators/{sha256[:12]}.safetensors",
        "/api/v1/browser/0123456789abcdef/artist.js",
        "/api/v1/browser/x/..%2fasgi.py",
    ):
        assert client.get(path).status in (400, 404), path


def test_too_many_requests_at_once_are_told_to_come_back(client: Client) -> None:
    def ask(seed: int) -> int:
        query = f"v=1&kind=interpolate&run=pretrained/conv-cgan&from_seed={seed}&frames=16"
        answer = client.get(f"/s/frames.bin?{query}")
        assert answer.status != 503 or answer.headers["Retry-After"] == "5"
        return answer.status

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(ask, range(40)))
    assert set(statuses) <= {200, 503}
    assert 503 in statuses
    assert client.get(f"/s/image.png?{ONE}").status in (200, 503)


def test_one_client_may_not_take_all_the_time(client: Client) -> None:
    statuses = [client.get("/s/link?v=1&kind=x", X_Forwarded_For="203.0.113.7").status for _ in range(MAX_PER_MINUTE)]
    assert set(statuses) == {400}
    answer = client.get(f"/s/image.png?{ONE}", X_Forwarded_For="203.0.113.7")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "30")
    assert client.get(f"/s/image.png?{ONE}", X_Forwarded_For="203.0.113.8").status == 200
    assert client.get(f"/s/image.png?{ONE}").status == 200


def test_the_window_of_a_client_slides() -> None:
    limit = ClientLimit()
    assert [limit.allows("203.0.113.7", 59) for _ in range(MAX_PER_MINUTE + 9)].count(True) == MAX_PER_MINUTE
    assert not limit.allows("203.0.113.7", 60)
    assert [limit.allows("203.0.113.7", 90) for _ in range(MAX_PER_MINUTE)].count(True) == MAX_PER_MINUTE // 2
    assert limit.allows("203.0.113.7", 240)
    for k in range(MAX_PER_MINUTE):
        assert limit.allows(f"2001:db8::{k:x}", 0)
    assert not limit.allows("2001:db8::ffff", 0)
    assert limit.allows("2001:db8:0:1::1", 0)


def test_the_title_of_a_link_names_its_writer(client: Client) -> None:
    text = link_of(client, "v=1&kind=write&run=pretrained/writers&text=7&writer=2154")["markdown"]
    assert text.startswith("[![7, in the hand of writer 2154](")


def test_links_begin_with_the_public_url(tmp_path: Path) -> None:
    with serve(tmp_path, "--public-url", "https://lab.example/digits") as url:
        behind = Client(url, tmp_path)
        assert link_of(behind, ONE)["url"].startswith("https://lab.example/digits/s?v=1&kind=generate&run=")
        meta = Tags(behind.get(f"/s?{ONE}").text).meta
        assert meta["og:image"].startswith("https://lab.example/digits/s/image.png?")
        query = urlencode({"url": f"https://lab.example/digits/s?{ONE}"})
        assert behind.get(f"/oembed?{query}").status == 200


def test_a_long_title_stays_on_its_card() -> None:
    pixels = np.zeros((2, 28, 28), np.uint8)
    content = card(InterpolateView(frames=2), pixels, "From an Ankle boot to a Bag over " * 20, "Drawn by forge")
    margins = np.asarray(Image.open(io.BytesIO(content)))[-FOOT:, WIDTH - MARGIN :]
    assert len(np.unique(margins.reshape(-1, 3), axis=0)) == 1


PERMALINKS = [
    line
    for line in (Path(__file__).parent / "links" / "permalinks.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("link", PERMALINKS)
def test_a_permalink_of_the_corpus_is_reproduced(link: str, tmp_path: Path) -> None:
    assert main(["--link", link, "--out", str(tmp_path / "x.png")]) == 0


def test_the_corpus_holds_every_shipped_run_and_every_kind() -> None:
    views = [read_link(link).view for link in PERMALINKS]
    assert {view.kind for view in views} == DRAWING_VIEWS.keys()
    assert {view.run for view in views} == {f"pretrained/{name}" for name in shipped_generators()}
    assert all(urlsplit(link).path == "s" for link in PERMALINKS)
