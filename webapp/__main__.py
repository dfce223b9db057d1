"""Serve the app; with `--train RECIPE` also train, and with `--allow-training` let the page Train do so.

A training is a child process that ends with the app.
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from models.command_line import Parser
from trainer.run_store import RunStoreError, open_store, valid_run_name
from webapp.environment import HOSTS_VARIABLE, PUBLIC_URL_VARIABLE, RUNS_VARIABLE
from webapp.training_child import REFUSED, TrainingChild, choose_run_name
from webapp.trainings import TRAININGS, Launch

ROOT = Path(__file__).resolve().parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 2
"""Time for open connections when the server ends."""
PUBLIC_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~%/-]*)?")
"""Form of a URL without a query, a user, or characters that would have to be escaped."""


def main() -> int:
    """Serve until a signal ends it; return the exit code."""
    options = _parser().parse_args()
    runs = options.runs if "://" in options.runs else os.path.abspath(os.path.expanduser(options.runs))
    os.environ[RUNS_VARIABLE] = runs
    names = [*os.environ.get(HOSTS_VARIABLE, "").split(","), options.host, socket.gethostname(), *options.allow_host]
    os.environ[HOSTS_VARIABLE] = ",".join(name for name in names if name)
    os.environ[PUBLIC_URL_VARIABLE] = options.public_url
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        print(
            f"webapp: cannot serve on {options.host}:{options.port} ({error.strerror or error}). Another app may be "
            "running there; choose another port, as in `make demo PORT=8600` or `python -m webapp --port 8600`",
            file=sys.stderr,
        )
        return 1
    if options.allow_training and (not _is_loopback(listener) or options.allow_host or options.public_url):
        print(
            "webapp: --allow-training serves this machine alone: it needs a --host such as 127.0.0.1 or localhost, and "
            "goes with neither --allow-host nor --public-url",
            file=sys.stderr,
        )
        listener.close()
        return 2
    TRAININGS.is_allowed = options.allow_training
    say("Starting DigitForge ...")
    if not _is_loopback(listener):
        say("Warning: there is no password. Everyone who can reach this machine can use the app and see every run.")
    os.chdir(ROOT)  # Streamlit reads its settings there, and Python finds the trainer
    Demo(_url(listener), runs, options.train).run(sockets=[listener])
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m webapp", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine only)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name to answer to besides localhost and IP addresses, such as that of a proxy; may be given again",
    )
    parser.add_argument(
        "--public-url",
        type=_public_url,
        default=os.environ.get(PUBLIC_URL_VARIABLE, ""),
        metavar="URL",
        help="URL under which visitors reach the app, for the links that it hands out "
        f"(default: {PUBLIC_URL_VARIABLE}, or the host name of each request)",
    )
    parser.add_argument(
        "--port", type=_port, default=os.environ.get("PORT", "8501"), help="default: PORT, or 8501; 0 = any free one"
    )
    parser.add_argument(
        "--runs", default=os.environ.get("RUNS") or "runs", help="folder or URI of the runs (default: RUNS, or runs)"
    )
    parser.add_argument("--train", type=_recipe, metavar="RECIPE", help="also train this recipe on two workers")
    parser.add_argument(
        "--allow-training",
        action="store_true",
        help="show the page Train, which starts and stops trainings; only for visitors on this machine",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535: got {text!r}")
    return int(text)


def _public_url(text: str) -> str:
    """Return a URL with a slash at its end; an empty text stays empty."""
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port, or the brackets of an IPv6 address
        is_good = False
    if text and not (is_good and PUBLIC_URL.fullmatch(text)):
        raise argparse.ArgumentTypeError(
            f"a public URL has a scheme, a host and perhaps a path, such as https://lab.example/digits: got {text!a}"
        )
    return text.rstrip("/") + "/" if text else ""


def _recipe(text: str) -> str:
    if not valid_run_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a recipe's name; `python -m trainer --help` lists them")
    return text


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that no other program takes the port while the app starts. Raises `OSError`."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # With an explicit protocol, asyncio turns off Nagle's algorithm, which would delay each answer by 40 ms.
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    names = {"127.0.0.1": "localhost", "0.0.0.0": "localhost", "::": "localhost", "::1": "localhost"}
    return f"http://{names.get(host, f'[{host}]' if ':' in host else host)}:{port}"


def _is_loopback(listener: socket.socket) -> bool:
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def say(text: str) -> None:
    """Print a text, unless the terminal is closed."""
    with suppress(OSError):
        print(text, flush=True)


class Demo(uvicorn.Server):
    """The server, and the training beside it, if there is one."""

    def __init__(self, url: str, runs: str, recipe: str | None) -> None:
        super().__init__(
            uvicorn.Config(
                "webapp.asgi:app",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                server_header=False,
            )
        )
        self._url, self._runs, self._recipe = url, runs, recipe
        self._watching: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal, then end the training."""
        with self.capture_signals():
            try:
                await self._serve(sockets)
            finally:
                if self._watching:
                    self._watching.cancel()
                if log := TRAININGS.close(say):
                    say(f"The training has ended; its output is in {log}")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Print the app's URL as soon as it answers, and start the training."""
        await super().startup(sockets)
        if self.started:
            say(f"\n  DigitForge is running at {self._url}\n  Ctrl-C ends it.\n")
            if self._recipe:
                await self._start_training(self._recipe)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle `SIGNALS` with `handle_exit`. Unlike uvicorn, do not raise them again, so that the exit code is 0."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the server. On a second signal, do not wait for it."""
        if self.should_exit:
            self.force_exit = True
            TRAININGS.hurry()
        self.should_exit = True

    async def _start_training(self, recipe: str, resume: bool = True) -> None:
        try:
            store = open_store(self._runs)
            name = await asyncio.to_thread(choose_run_name, store, recipe, resume)
            resumes = resume and await asyncio.to_thread(store.run(name).exists)
            training = TRAININGS.start([Launch(recipe, name)], self._runs).child
        except (RunStoreError, OSError, ValueError) as error:
            say(f"The training could not be started: {error}")
            return
        say(f"Training {name} on two workers, at low priority; its output goes to {training.log}")
        self._watching = asyncio.create_task(self._watch_training(recipe, name, resumes, training))

    async def _watch_training(self, recipe: str, name: str, resumes: bool, training: TrainingChild) -> None:
        while training.exit_code() is None:
            await asyncio.sleep(0.5)
        if self.should_exit:
            return
        if training.exit_code() == REFUSED and resumes:  # perhaps the recipe has changed since
            training.stop(say)
            say(f"{name} cannot be resumed, so a new run takes its place. {training.last_lines(1)}")
            await self._start_training(recipe, resume=False)
        elif training.exit_code() == 0:
            say(f"The training of {name} is complete; the app keeps running. Ctrl-C ends it.")
        else:
            say(
                f"The training of {name} ended with exit code {training.exit_code()}; the app keeps running. "
                f"The last lines of {training.log}:\n\n{training.last_lines()}\n"
            )


if __name__ == "__main__":
    sys.exit(main())
