"""What the server answers over HTTP: pages before Streamlit has loaded, unknown paths, host names, compression."""

import gzip
import hashlib
import http.client
import io
import re
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from PIL import Image

from tests.browser import serve
from tests.golden import shipped_generators
from tests.sample_run import model_config, write_epoch, write_run
from webapp import delivery, frame, shell
from webapp.asgi import is_allowed_host
from webapp.environment import HOSTS_VARIABLE, SAMPLES_ROUTE

pytestmark = pytest.mark.slow


@dataclass
class Answer:
    """What the server answers."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


@dataclass
class Client:
    """Asks the running app."""

    url: str
    runs: Path

    def get(self, path: str, **headers: str) -> Answer:
        """Ask once, without following redirects; `_` in the name of a header stands for `-`."""
        return self.ask("GET", path, **headers)

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        """Ask as `get` does, with another method."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


@pytest.fixture
def client(site: str, served_runs: Path) -> Client:
    return Client(site, served_runs)


@pytest.mark.parametrize("page", frame.PAGES, ids=lambda page: page.kind)
def test_a_page_has_its_title_and_description_before_streamlit_has_loaded(client: Client, page: frame.Page) -> None:
    answer = client.get("/" if page.kind == "explore" else f"/{page.kind}?run=runs/x")
    assert answer.status == 200
    assert re.findall("<title>(.*?)</title>", answer.text) == [f"{page.title} - DigitForge"]
    assert f'<meta name="description" content="{page.description}">' in answer.text
    assert "_stcore/agent" not in answer.text
    assert answer.headers["cache-control"] == "no-cache"


def test_the_canonical_text_of_a_view_is_a_path(client: Client) -> None:
    for kind in ("explore", "generate"):
        answer = client.get(f"/{kind}?run=runs/x&seed=7")
        assert answer.status == 307
        assert answer.headers["location"] == "./?run=runs/x&seed=7"
        assert client.get(f"/{kind}").headers["location"] == "./"


def test_a_link_of_a_page_that_was_moved_leads_there(client: Client) -> None:
    for query, location in (("?run=runs/x", "./how?part=7&run=runs/x"), ("", "./how?part=7")):
        answer = client.get(f"/architecture{query}")
        assert (answer.status, answer.headers["location"]) == (307, location)


def test_a_link_to_the_gallery_opens_training_at_its_epoch(client: Client) -> None:
    answer = client.get("/gallery?run=runs/x&epoch=3")
    assert (answer.status, answer.headers["location"]) == (307, "./training?run=runs/x&epoch=3")
    assert client.get("/gallery").headers["location"] == "./training"


@pytest.mark.parametrize(
    "path",
    ["/docs", "/no/such/page", "/wp-login.php", "/static/js/none.js", "/_stcore/metrics", "/_stcore/none", "/index"],
)
def test_a_path_that_is_not_ours_is_not_found(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 404
    assert "static/js" not in answer.text
    assert "max-age" not in (answer.headers["cache-control"] or "")
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_robots_and_icon_are_real(client: Client) -> None:
    assert client.get("/robots.txt").text.startswith("User-agent: *\n")
    assert Image.open(io.BytesIO(client.get("/favicon.ico").content)).format == "ICO"
    assert './favicon.ico"' in client.get("/").text


def test_a_generator_file_is_sent_as_it_is_and_kept_for_good(client: Client) -> None:
    content = shipped_generators()["forge"].read_bytes()
    path = f"/{delivery.weights_url(hashlib.sha256(content).hexdigest())}"
    answer = client.get(path, accept_encoding="gzip, br, zstd")
    assert (answer.status, answer.content) == (200, content)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "content-encoding" not in answer.headers
    head = client.ask("HEAD", path)
    assert (head.status, head.headers["content-length"], head.content) == (200, str(len(content)), b"")
    assert client.ask("POST", path).status == 405


def test_plotly_is_that_of_the_python_package_compressed_and_kept_for_good(client: Client) -> None:
    expected = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    answer = client.get(f"/{delivery.plotly_url()}", accept_encoding="gzip")
    assert gzip.decompress(answer.content) == expected
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    answer = client.get(f"/{delivery.plotly_url()}", accept_encoding="gzip, br, zstd")
    assert answer.headers["content-encoding"] == "zstd"
    assert len(answer.content) < 1_300_000
    assert client.get(f"/{delivery.plotly_url()}", accept_encoding="gzip, br, zstd").content == answer.content
    assert client.get(f"/{delivery.plotly_url()}", accept_encoding="identity").content == expected
    assert client.get(f"/{delivery.PLOTLY}/0.0.1.js").status == 404


@pytest.mark.parametrize("name", sorted(path.name for path in delivery.FOLDER.glob("*.js")))
def test_a_script_is_compressed_and_kept_for_good(client: Client, name: str) -> None:
    answer = client.get(f"/{delivery.scripts_url()}{name}", accept_encoding="gzip")
    script = (delivery.FOLDER / name).read_bytes()
    is_small = len(script) < 500  # too small to gain from it
    assert (answer.status, answer.content if is_small else gzip.decompress(answer.content)) == (200, script)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.ask("HEAD", f"/{delivery.scripts_url()}{name}").status == 200


@pytest.mark.parametrize(
    "path",
    [
        f"/{delivery.weights_url('0' * 64)}",
        f"/{delivery.weights_url('A' * 64)}",
        f"/{delivery.weights_url('0' * 63)}",
        f"/{delivery.weights_url('0' * 100_000)}"[:60_000],
        f"/{delivery.weights_url('..%2f' * 3)}",
        f"/{delivery.weights_url('%00')}",
        f"/{delivery.GENERATORS}",
        f"/{delivery.scripts_url()}"[:-1],
        f"/{delivery.scripts_url()}none.js",
        f"/{delivery.scripts_url()}..%2fasgi.py",
        f"/{delivery.SCRIPTS}/{'0' * 16}/artist.js",
    ],
    ids=range(11),
)
def test_what_the_browser_cannot_draw_with_is_not_found(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status in ((400, 404) if "%" in path else (404,))  # Streamlit refuses some paths itself
    assert "immutable" not in (answer.headers["cache-control"] or "")


def test_a_store_that_cannot_be_searched_is_no_missing_generator(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("no folder")
    with serve(tmp_path / "runs") as url:
        client = Client(url, tmp_path)
        answer = client.get(f"/{delivery.weights_url('0' * 64)}")
        assert answer.status == 503
        assert str(tmp_path) not in answer.text
        known = hashlib.sha256(shipped_generators()["forge"].read_bytes()).hexdigest()
        assert client.get(f"/{delivery.weights_url(known)}").status == 200


GOOD_HOSTS = [
    "localhost",
    "LOCALHOST.:80",
    "app.localhost:8501",
    "127.0.0.1:8501",
    "[::1]:8501",
    "192.168.1.7",
    "lab.example",
]
BAD_HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "evil.example:80",
    "a@localhost",
    "localhost:x",
    "127.0.0.1.evil.example",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_the_app_answers_to_its_own_names(client: Client, host: str) -> None:
    assert client.get("/healthz", host=host).status == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_the_app_does_not_answer_to_names_of_others(client: Client, host: str) -> None:
    for path in ("/", "/healthz", "/_stcore/health", "/static/js/none.js"):
        assert client.get(path, host=host).status == 403


@pytest.mark.parametrize(("host", "status"), [("lab.example", 101), ("evil.example", 403)])
def test_a_socket_is_opened_only_under_our_own_names(client: Client, host: str, status: int) -> None:
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    headers |= {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "host": host, "origin": f"http://{host}"}
    connection = http.client.HTTPConnection(urlsplit(client.url).netloc, timeout=20)
    connection.request("GET", "/_stcore/stream", headers=headers)
    assert connection.getresponse().status == status
    connection.close()


def test_any_host_name_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_allowed_host("any.example")
    assert not is_allowed_host("")
    monkeypatch.setenv(HOSTS_VARIABLE, "*")
    assert is_allowed_host("any.example")


def test_only_our_own_scripts_and_server_are_allowed(client: Client) -> None:
    policy = dict(part.split(" ", 1) for part in client.get("/").headers["content-security-policy"].split("; "))
    assert policy["connect-src"] == "'self'"
    assert all(digest in policy["script-src"] for digest in shell.script_hashes())
    assert "unsafe-inline" not in policy["script-src"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_answers_are_compressed(client: Client, encoding: str) -> None:
    script = re.findall(r'src="\.(/static/js/index\.[^"]*)"', client.get("/").text)[0]
    answer = client.get(script, accept_encoding=encoding)
    assert answer.headers["content-encoding"] == encoding
    assert len(answer.content) < 0.45 * len(client.get(script).content)
    assert client.get("/", accept_encoding=encoding).headers["content-encoding"] == encoding


def test_a_sample_grid_is_served_before_the_cached_listing_has_its_epoch(client: Client) -> None:
    run = write_run(client.runs, "listed-late", epochs=1)
    time.sleep(2.5)  # the listing of the runs is cached that long
    query = {"run": "runs/listed-late", "started": repr(run.read_run().started)}
    grids = [f"{SAMPLES_ROUTE}?{urlencode({**query, 'epoch': epoch})}" for epoch in (1, 2)]
    assert [client.get(grid).status for grid in grids] == [200, 404]
    write_epoch(run, 2, model_config())
    assert [client.get(grid).status for grid in grids] == [200, 200]


def test_a_damaged_sample_grid_is_not_served(client: Client) -> None:
    run = write_run(client.runs, "scratched", epochs=2)
    path = Path(run.path, "epochs", "0002", "samples.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    time.sleep(2.5)  # the listing of the runs is cached that long
    query = {"run": "runs/scratched", "started": repr(run.read_run().started)}
    assert client.get(f"{SAMPLES_ROUTE}?{urlencode({**query, 'epoch': '1'})}").status == 200
    answer = client.get(f"{SAMPLES_ROUTE}?{urlencode({**query, 'epoch': '2'})}")
    assert (answer.status, answer.text) == (404, "The picture of this epoch is damaged.")
