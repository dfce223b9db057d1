"""Hostile addresses and requests: every answer is in our own words and in time, and the server's memory stays flat."""

import dataclasses
import http.client
import random
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets import Subprotocol
from websockets.sync.client import connect

from tests.browser import FORGE, serve
from tests.sample_run import write_run
from webapp import frame

pytestmark = pytest.mark.slow

MAX_SECONDS = 20.0
"""Limit of one answer, also on a busy machine. Most take a tenth of a second."""
MAX_GROWTH = 200e6
"""Limit of the bytes by which the server's memory grows after the warm-up: what its caches of pictures may hold."""
FAILED = "This part of the page cannot be drawn"
"""Texts that a page shows in place of an error."""
SCRIPT = "<script>alert(1)</script>"
VALUES = (
    *("", " ", "0", "-1", "+1", "007", "1e400", "nan", "inf", "0x10", "1_000", "0.5", "1.0000000001", "٣", "\uff13"),
    *("4294967295", "4294967296", "9" * 30, "9" * 900, "a" * 900, "0-999", "9-0", "0.0", "7.7_7.7", "1.2.3.4", "1..2"),
    *(SCRIPT, '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "[x](https://evil.example)", "$x$ :red[*] <b>"),
    *("../../etc/passwd", "runs/../../etc", "runs/none", "pretrained/forge", "pretrained/gan", "/etc/passwd", "C:\\"),
    *("\x00", "\r\nSet-Cookie: a=b", "\ud7ff\U0001f600", "\u202e", "%00", "%2e%2e%2f", "{{7*7}}", "${x}", "' OR 1=1--"),
    *("12:30", "-", "2026-11-24", "#1f3fa0", "#12345g", "url(javascript:alert(1))", "0.1_1.2", "free"),
    *("None", "true", "[]", "{}", "0123456789ab", "66aa0cbdc22a", "0" * 16, "slerp", "loop", "12", "7", "3-5"),
    *("0101010101", "01010101010", "0101010102"),
)
GOOD = {
    "generate": f"v=1&kind=generate&{FORGE}&digits=7&count=1&seed=5&truncation=1",
    "interpolate": f"v=1&kind=interpolate&{FORGE}&from_digit=3&from_seed=1&to_digit=8&to_seed=2&path=slerp&frames=9",
    "quiz": f"v=1&kind=quiz&{FORGE}&seed=5&answers=0101010101",
    "training": f"{FORGE}&epoch=3&mine=7.5&link=explore?digit%3D7",
    "compare": f"{FORGE}&other_run=pretrained/writers&other_step=15000&digits=3-5&count=2&seed=5&truncation=1",
    "write": f"v=1&kind=write&{FORGE}&text=2026-11-24&style=free&seed=5&own=0.7&spacing=3&ink=blue&paper=cream",
    "explore": f"v=1&kind=explore&{FORGE}&digits=0-9&count=9&seed=5&truncation=1&digit=7&corners=5.6.7.8&x=0.5&y=0.25",
}
"""Kind of picture -> a good permalink."""
RAW = ("%", "%zz=1", "seed=%ff%fe", "%00", "&&&", "=&=", "seed[]=1", "seed=1;count=2", "?seed=1", "a" * 5000, "#")
"""Query strings that no encoder makes."""
KINDS = ("", "generate", *(page.kind for page in frame.PAGES))
FIELDS = sorted({field.name for page in frame.PAGES for field in dataclasses.fields(page.view)})
NAMES = (*FIELDS, "v", "kind", "px", "card", "download", "words", "url", "format", "maxwidth", SCRIPT, "")
ROUTES = (
    *("/s", "/s/link", "/s/image.png", "/s/animation.gif", "/s/animation.webp", "/s/animation.mp4", "/s/frames.bin"),
    *("/s/image.svg", "/embed", "/oembed", "/api/v1/look", "/api/v1/prompt", "/api/v1/samples.png"),
    *("/", "/generate", "/gallery", "/interpolate", "/training", "/compare", "/write", "/quiz", "/architecture"),
    "/train",
)
PATHS = (
    *("/g", "/s/animation.exe", "/s/..%2f..%2fetc/passwd", "/s/%00", "/gallery/..%5c..", "//evil.example/s", "/s/s/s"),
    *("/api/v1/generators/..%2f..%2fx.safetensors", "/api/v1/browser/x/..%2fasgi.py", "/static/..%2f..%2fapp.py"),
)
METHODS = ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW")
HEADERS = (
    {"Host": "evil.example"},
    {"Host": "localhost:x"},
    {"X-Forwarded-For": SCRIPT},
    {"X-Forwarded-Host": "evil.example"},
    {"If-None-Match": "*" * 2000},
    {"Accept-Encoding": "gzip;q=nan, br;q=-1, \x7f"},
    {"Range": "bytes=5-1,0-99999999999"},
    {"Cookie": "a=" + "b" * 3000},
    {"Content-Length": "5"},
)


def query(choose: random.Random, kind: str) -> str:
    """Return a hostile query string; most are good ones of a page in which one or two values are hostile."""
    if choose.random() < 0.05:
        return choose.choice(RAW)
    good = dict(parse_qsl(GOOD.get(kind, "run=pretrained/forge&step=15000&epoch=1")))
    items = good if choose.random() < 0.9 else {}
    for _ in range(choose.choice((*[1] * 8, *[2] * 4, 60))):
        items[choose.choice(NAMES if choose.random() < 0.2 else list(good))] = choose.choice(VALUES)
    twice = [item for item in items.items() if choose.random() < 0.01]
    return urlencode([*items.items(), *twice], errors="surrogatepass")


def visit(site: str, kind: str, query: str) -> list[ForwardMsg]:
    """Open a page as a browser's script does; return what the server sends until the page is complete.

    A page that finds another list of runs while it is drawn is drawn again.
    """
    url, messages = f"{site.replace('http', 'ws', 1)}/_stcore/stream", list[ForwardMsg]()
    with connect(url, subprotocols=[Subprotocol("streamlit")], open_timeout=MAX_SECONDS, max_size=None) as socket:
        request = BackMsg()
        request.rerun_script.page_name, request.rerun_script.query_string = kind, query
        socket.send(request.SerializeToString())
        while (
            not messages
            or messages[-1].script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN
            or messages[-1].WhichOneof("type") != "script_finished"
        ):
            messages.append(ForwardMsg.FromString(socket.recv(timeout=MAX_SECONDS)))
    return messages


def check_page(site: str, kind: str, query: str) -> None:
    """Check that a page is complete, in time, and without an error or a script from the address."""
    began = time.monotonic()
    messages = visit(site, kind, query)
    assert time.monotonic() - began < MAX_SECONDS, (kind, query)
    assert messages[-1].script_finished == ForwardMsg.FINISHED_SUCCESSFULLY, (kind, query)
    shown = [message.delta.new_element for message in messages if message.WhichOneof("type") == "delta"]
    assert len(shown) > 3, (kind, query)
    for element in shown:
        assert element.WhichOneof("type") != "exception", (kind, query, element)
        assert FAILED not in str(element), (kind, query)
        assert SCRIPT not in element.html.body, (kind, query)
        assert not (element.markdown.allow_html and SCRIPT in element.markdown.body), (kind, query)


def check_answer(site: str, method: str, path: str, headers: dict[str, str]) -> None:
    """Check that an answer comes in time, and is neither an error of ours nor a script from the request."""
    began, case = time.monotonic(), (method, path, headers)
    connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=MAX_SECONDS)
    try:
        connection.request(method, path, b"12345" if "Content-Length" in headers else None, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    assert time.monotonic() - began < MAX_SECONDS, case
    is_refused_format = answer.status == 501 and path.startswith("/oembed")
    assert 200 <= answer.status < 500 or is_refused_format, (case, answer.status, content)
    assert "Set-Cookie" not in answer.headers, case
    assert b"Traceback" not in content, case
    if "html" in answer.headers.get("Content-Type", ""):
        assert SCRIPT.encode() not in content, case


def page_cases(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield pages and queries."""
    choose = random.Random(seed)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield kind, query(choose, kind)


def request_cases(site: str, seed: int, count: int) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield methods, paths with queries, and headers; one of these is hostile."""
    choose = random.Random(seed)
    for number in range(count):
        kind = choose.choice(list(GOOD))
        method, path, text, headers = "GET", ROUTES[number % len(ROUTES)], GOOD[kind], {}
        match choose.randrange(10):
            case 0:
                method = choose.choice(METHODS)
            case 1:
                path = choose.choice(PATHS)
            case 2:
                headers = choose.choice(HEADERS)
            case _:
                text = query(choose, kind)
        if path == "/oembed":
            text = urlencode({"url": f"{site}/s?{text}", "maxwidth": choose.choice(VALUES)}, errors="surrogatepass")
        yield method, f"{path}?{text}", headers


def test_an_error_of_a_page_is_noticed(site: str, served_runs: Path) -> None:
    run = write_run(served_runs, "overflowing", epochs=2)
    path = Path(run.path, "epochs", "0002", "losses.json")
    path.write_text(f'{{"step": [1], "d_loss": [1{"0" * 400}], "g_loss": [1]}}')  # no float can hold it
    time.sleep(2.5)  # the list of runs is kept that long
    with pytest.raises(AssertionError, match="overflowing"):
        check_page(site, "training", "run=runs/overflowing")


def test_hostile_addresses_of_pages_are_answered_in_our_words(site: str) -> None:
    for kind, text in page_cases(seed=0, count=60):
        check_page(site, kind, text)


def test_hostile_requests_are_answered_in_our_words(site: str) -> None:
    for case in request_cases(site, seed=0, count=400):
        check_answer(site, *case)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_hostile_addresses_leave_the_servers_memory_flat(tmp_path: Path) -> None:
    with serve(tmp_path) as site:
        (server,) = [child for child in psutil.Process().children() if str(tmp_path) in child.cmdline()]
        sizes = []
        for seed in range(1, 6):
            for page_case in page_cases(seed, count=500):
                check_page(site, *page_case)
            for request_case in request_cases(site, seed, count=200):
                check_answer(site, *request_case)
            sizes.append(server.memory_info().rss)
    assert sizes[-1] - sizes[0] < MAX_GROWTH, sizes
