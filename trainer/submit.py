"""`python -m trainer submit RECIPE ... --address URL`: train on a cluster as a Ray job, and follow its log."""

import asyncio
import contextlib
import dataclasses
import io
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.command_line import Parser
from trainer import data
from trainer.data import ROOT
from trainer.run_store import check_run_name
from trainer.train_command import Command, parse, train

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "RAY_API_SERVER_ADDRESS"
"""Environment variable with the dashboard's URL. Ray obeys it even where `--address` says otherwise."""
IGNORE_GITIGNORE = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"
"""Environment variable that makes Ray apply .rayignore alone if it is 1."""
JOB_ENVIRONMENT = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
"""Environment of the job: a stopped training has a minute for its last checkpoint, instead of Ray's 3 s."""

MAX_PACKAGE = 100 << 20
"""Maximum size in bytes of what travels with a job: what a dashboard of Ray 2.60 accepts."""
WARN_PACKAGE = 50 << 20
"""Size in bytes above which the largest files are named."""
SECONDS_TO_ANSWER = 10


@dataclass(frozen=True)
class Submission:
    """A job that trains."""

    address: str
    """URL of the cluster's dashboard."""
    identifier: str
    """Ray's submission ID."""
    arguments: tuple[str, ...]
    """Arguments of `python -m trainer` in the job."""
    ignores_gitignore: bool = False
    """Whether files travel that .rayignore allows but .gitignore names."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables that Ray's client needs besides those that are set."""
        wanted = {ADDRESS: self.address} if os.environ.get(ADDRESS) or os.environ.get("RAY_ADDRESS") else {}
        wanted |= {IGNORE_GITIGNORE: "1"} if self.ignores_gitignore else {}
        return {name: value for name, value in wanted.items() if os.environ.get(name) != value}

    def entrypoint(self) -> str:
        """Return the command that the job runs."""
        return shlex.join(["python", "-m", "trainer", *self.arguments])

    def line(self) -> str:
        """Return the plain command that submits this job."""
        folder = "." if Path.cwd() == ROOT else str(ROOT)
        options = ["--submission-id", self.identifier, "--working-dir", folder]
        options += ["--runtime-env-json", json.dumps({"env_vars": JOB_ENVIRONMENT})]
        return f"{self._ray('submit')} {shlex.join(options)} -- {self.entrypoint()}"

    def advice(self) -> str:
        """Return the commands that follow and stop the job, one a line."""
        follow, stop = f"{self._ray('logs')} --follow {self.identifier}", f"{self._ray('stop')} {self.identifier}"
        return f"  follow it: {follow}\n  stop it:   {stop}"

    def _ray(self, command: str) -> str:
        variables = "".join(f"{name}={shlex.quote(value)} " for name, value in self.environment().items())
        return f"{variables}ray job {command} --address {shlex.quote(self.address)}"


def check_training(arguments: list[str]) -> Command:
    """Return the training that the arguments ask for; raise `ValueError` if a job cannot run it."""
    command = parse(arguments)
    with contextlib.redirect_stdout(io.StringIO()):
        train(dataclasses.replace(command, dry_run=True))  # checks the settings
    check_run_name(command.name or command.config.recipe)
    if not (Path(command.runs).is_absolute() or "://" in command.runs):
        raise ValueError(
            "--runs must be an absolute path that all nodes share, or a URI, since the folder of a job is temporary: "
            f"got {command.runs!r}"
        )
    if not (ROOT / command.config.dataset).is_dir():
        raise ValueError(f"--dataset: {command.config.dataset} is not a folder")
    if command.config.model.writers:
        data.load_writers(data.WRITERS)
    return command


def with_dataset(arguments: Sequence[str], dataset: str) -> tuple[str, ...]:
    """Return the arguments with this value of --dataset, where they have one."""
    changed = list(arguments)
    for index, argument in enumerate(arguments):
        if argument.startswith("--dataset="):
            changed[index] = f"--dataset={dataset}"
        elif argument == "--dataset":
            changed[index + 1] = dataset
    return tuple(changed)


def check_address(address: str | None) -> str:
    """Return the URL of a dashboard, without a slash at its end; raise `ValueError` if it is none."""
    if not address:
        raise ValueError(f"--address is missing: the URL of the cluster's dashboard, which {ADDRESS} can hold too")
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"--address must be the URL of a dashboard, such as http://127.0.0.1:8265: got {address!r}")
    return address.rstrip("/")


def packed_files(ignores_gitignore: bool) -> dict[str, int]:
    """Return the files that travel with a job, path -> bytes, as Ray packs them."""
    from ray._private.runtime_env.packaging import create_package  # Ray has no public function for this

    logging.getLogger("ray").setLevel(logging.ERROR)  # it would log each ignored folder
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "package.zip")
        create_package(str(ROOT), package, include_gitignore=not ignores_gitignore)
        with zipfile.ZipFile(package) as archive:
            return {file.filename: file.file_size for file in archive.infolist() if not file.is_dir()}


def files_with_data(dataset: str, has_writers: bool = False) -> tuple[dict[str, int], bool]:
    """Return the files that travel with a job, and whether .gitignore must be ignored for the data to be among them.

    The data are the dataset and, with `has_writers`, the writers of MNIST's digits. Raises `ValueError` if a dataset
    within the repository cannot travel.
    """
    needed = [dataset or "data/mnist", *(["data/writers"] if has_writers else [])]
    needed = [f"{folder}/" for folder in needed if not Path(folder).is_absolute()]
    ignores = os.environ.get(IGNORE_GITIGNORE) == "1"
    for attempt in dict.fromkeys((ignores, True)):
        files = packed_files(attempt)
        if all(any(name.startswith(folder) for name in files) for folder in needed):
            return files, attempt
    raise ValueError(
        f"--dataset: {dataset} does not travel with a job: name it in .rayignore, beside data/mnist, or put it at the "
        "same absolute path on all nodes"
    )


def check_size(files: Mapping[str, int]) -> None:
    """Warn if much travels with a job; raise `ValueError` if it is more than a dashboard accepts."""
    total = sum(files.values())
    largest = sorted(files, key=lambda name: -files[name])[:3]
    named = ", ".join(f"{name} ({files[name] / 2**20:.1f} MiB)" for name in largest)
    size = f"{len(files)} files with {total / 2**20:.1f} MiB travel with the job"
    if total > MAX_PACKAGE:
        raise ValueError(f"{size}, and a dashboard accepts {MAX_PACKAGE >> 20} MiB. The largest: {named}")
    print(f"{size}." if total <= WARN_PACKAGE else f"Warning: {size}. The largest: {named}")


def check_cluster(address: str) -> None:
    """Raise `ValueError` if no dashboard answers, or if it requires a token and RAY_AUTH_MODE is not set."""
    try:
        with urllib.request.urlopen(f"{address}/api/authentication_mode", timeout=SECONDS_TO_ANSWER) as answer:
            mode = json.load(answer)["authentication_mode"]
    except (KeyError, TypeError, json.JSONDecodeError, urllib.error.HTTPError) as error:
        raise ValueError(f"{address} is not the dashboard of a Ray cluster; check --address or {ADDRESS}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"nobody answers at {address} ({reason}); check --address or {ADDRESS}, and whether the cluster and the "
            "SSH tunnel to it (`ray dashboard`) run"
        ) from error
    if mode != "token":
        print("Warning: this cluster requires no token. Whoever reaches it can run anything on it.", flush=True)
    elif os.environ.get("RAY_AUTH_MODE") != "token":
        raise ValueError("the cluster requires its token: set RAY_AUTH_MODE=token")


def connect(address: str) -> "JobSubmissionClient":
    """Return a client of the cluster's jobs; raise `ValueError` if it cannot be reached or refuses the token."""
    check_cluster(address)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        where = "RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"
        wrong = "Authentication failed" in error.message
        problem = "refuses the token: the cluster's own must be in" if wrong else "requires its token: put it into"
        raise ValueError(f"the cluster {problem} {where}") from error
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{address} cannot be used: {str(error).splitlines()[0]}") from error


def submit(client: "JobSubmissionClient", submission: Submission) -> None:
    """Send the package and start the job; raise `ValueError` if the cluster refuses it."""
    try:
        client.submit_job(
            entrypoint=submission.entrypoint(),
            submission_id=submission.identifier,
            runtime_env={"working_dir": str(ROOT), "env_vars": JOB_ENVIRONMENT},
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(f"the cluster did not take the job: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def noted_interrupts() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event instead of raising `KeyboardInterrupt`, which a callback or an import can swallow."""
    interrupted = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda number, frame: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def follow(client: "JobSubmissionClient", submission: Submission, interrupted: threading.Event) -> int:
    """Print the job's log until it ends; return the exit status of its command.

    Raises `KeyboardInterrupt` soon after `interrupted` is set.
    """
    import aiohttp
    from ray.job_submission import JobStatus

    async def print_log() -> None:
        async for lines in client.tail_job_logs(submission.identifier):
            print(lines, end="", flush=True)

    async def print_log_until_interrupted() -> None:
        log = asyncio.create_task(print_log())
        while not (await asyncio.wait({log}, timeout=0.2))[0]:
            if interrupted.is_set():
                raise KeyboardInterrupt
        await log

    try:
        asyncio.run(print_log_until_interrupted())
        job = client.get_job_info(submission.identifier)
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"The connection to the job is lost ({reason}). If its cluster lives, it goes on:\n{submission.advice()}")
        return 1
    if not job.status.is_terminal():
        print(f"The log has ended, but the job is {job.status}:\n{submission.advice()}")
        return 1
    outcome = {JobStatus.SUCCEEDED: "succeeded", JobStatus.STOPPED: "was stopped; the same command resumes its run"}
    print(f"Job {submission.identifier} {outcome.get(job.status, f'failed: {job.message}')}")
    failed = int(job.status != JobStatus.SUCCEEDED)
    return failed if job.driver_exit_code is None else int(job.driver_exit_code)


def is_submitted(client: "JobSubmissionClient", submission: Submission) -> bool:
    """Return whether the cluster has the job; True if it does not answer."""
    try:
        return any(job.submission_id == submission.identifier for job in client.list_jobs())
    except (RuntimeError, OSError):
        return True


def run(submission: Submission, waits: bool) -> int:
    """Submit the job and, with `waits`, follow it; return the exit status. Raises `ValueError` if it is not taken."""
    os.environ |= submission.environment()
    client = connect(submission.address)
    try:
        submit(client, submission)
        with noted_interrupts() as interrupted:
            print(f"Submitted as {submission.identifier}.", flush=True)
            if waits:
                return follow(client, submission, interrupted)
            print(submission.advice())
            return 0
    except KeyboardInterrupt:
        submitted = is_submitted(client, submission)
        print(f"\nThe job goes on:\n{submission.advice()}" if submitted else "\nNothing was submitted.", flush=True)
        return 130


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process: that of the training, unless `--no-wait`."""
    parser = Parser(
        prog="python -m trainer submit",
        usage="%(prog)s RECIPE [flags of a training] --runs URI [--address URL] [--no-wait] [--dry-run]",
        description="Check the settings of a training, print the `ray job submit` line that trains it on a cluster, "
        "run it, and follow the job's log. Flags of a training: python -m trainer RECIPE --help.",
        allow_abbrev=False,
    )
    parser.add_argument("--address", metavar="URL", help=f"the cluster's dashboard (default: {ADDRESS})")
    parser.add_argument("--no-wait", action="store_true", help="do not follow the job's log")
    parser.add_argument("--dry-run", action="store_true", help="check and print, but send nothing")
    options, training = parser.parse_known_args(arguments)
    try:
        command = check_training(training)
        address = check_address(options.address or os.environ.get(ADDRESS))
        files, ignores_gitignore = files_with_data(command.config.dataset, command.config.model.writers > 0)
        submission = Submission(
            address=address,
            identifier=f"{command.name or command.config.recipe}-{time.strftime('%Y%m%d-%H%M%S')}",
            arguments=with_dataset(training, command.config.dataset),
            ignores_gitignore=ignores_gitignore,
        )
        check_size(files)
        print(submission.line(), flush=True)
        return 0 if options.dry_run else run(submission, waits=not options.no_wait)
    except ValueError as error:
        print(f"trainer submit: {error}", file=sys.stderr)
        return 2
