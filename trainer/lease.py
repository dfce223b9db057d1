"""The lease of a run: at most one launch at a time writes a run.

    <run>/lease.json    the token of the lease, and the launch that has it
    <run>/.lock         on a disk: locked by the launcher that has the lease, as long as its process lives
    <run>/.fence        on a disk: locked during each write, and while the lease passes to another launch

A launch takes the lease before it starts Ray. Each lease has a token, one higher than that of the lease before. All
writes to the run check it, so a training that was cut off from the storage, and comes back after another launch has
taken over, cannot write over its successor.

On a disk, `flock` makes this exact. A bucket has no locks: there the launcher renews lease.json by conditional writes,
and a launch may take the lease over when it was not renewed for `LEASE_SECONDS`. A write that was checked just before
may still arrive just after. Records carry the token, so readers can tell: see `Run.checkpoints`.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from trainer.run_store import Run, RunStoreError
from trainer.storage import JSON, DamagedError, MissingError, Storage

if TYPE_CHECKING:
    from obstore.store import GCSStore, RetryConfig, S3Config, S3Store

LEASE_FILE, LOCK_FILE, FENCE_FILE = "lease.json", ".lock", ".fence"

RENEW_SECONDS = 3.0
"""Seconds between two renewals in a bucket."""
LEASE_SECONDS = 15.0
"""Seconds without a renewal after which another launch may take the lease over in a bucket."""
FENCE_SECONDS = 20.0
"""Maximum seconds to wait for a write of the last lease that has not returned."""


class RunBusyError(ValueError):
    """The lease of the run belongs to another launch."""


class LeaseLostError(RuntimeError):
    """The lease has passed to another launch; nothing more may be written."""


@dataclass(frozen=True)
class LeaseRecord:
    """lease.json: who has the lease."""

    token: int
    launch_id: str
    holder: str
    """The process, for people: `process 71 on host`."""
    renewed: float
    """Seconds since 1970, by the holder's clock."""
    is_released: bool = False
    """Whether the holder has given the lease back. On a disk it stays False, since the lock says that."""

    @classmethod
    def from_json(cls, values: JSON) -> Self:
        """Return the record with these values. Damaged ones count as a released lease with a token above all others."""
        token = values.get("token")
        return cls(
            token=token if isinstance(token, int) else int(time.time()),
            launch_id=str(values.get("launch_id", "")),
            holder=str(values.get("holder", "another process")),
            renewed=float(values.get("renewed", 0)),
            is_released=bool(values.get("is_released", True)),
        )


NEVER = LeaseRecord(0, "", "nobody", 0.0, True)
"""The lease of a run that nobody has trained yet."""


@dataclass(frozen=True)
class FencedStorage(Storage):
    """A storage that writes only while a run's lease has this token. Else it raises `LeaseLostError`."""

    folder: str = ""
    """Folder of the run, relative to the root."""

    @contextmanager
    def writing(self, path: str, verb: str = "written") -> Iterator[None]:
        """Check the lease, and on a disk keep others from taking it until the write has returned."""
        with super().writing(path, verb):
            if not self.is_local:
                self._check()
                yield
                return
            handle = os.open(self.full_path(f"{self.folder}/{FENCE_FILE}"), os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH)
                self._check()
                yield
            finally:
                os.close(handle)

    def _check(self) -> None:
        found = read_lease(self, self.folder)
        if found.token != self.token:
            raise LeaseLostError(f"run {self.folder} has passed to {found.holder}")


def fenced(run: Run, token: int) -> Run:
    """Return the run for a writer that has the lease with this token."""
    storage = FencedStorage(run.storage.fs, run.storage.root, token=token, folder=run.name)
    return replace(run, store=replace(run.store, storage=storage))


def read_lease(storage: Storage, folder: str) -> LeaseRecord:
    """Return the lease of the run in a folder of the storage; raises `MissingError` if there is none."""
    return LeaseRecord.from_json(storage.read_json(f"{folder}/{LEASE_FILE}"))


def take_lease(run: Run, launch_id: str, say: Callable[[str], None]) -> "Lease":
    """Take the lease of a run, which need not exist yet; raise `RunBusyError` if another launch has it.

    `say` shows a line to the user when this has to wait.
    """
    record = LeaseRecord(0, launch_id, f"process {os.getpid()} on {socket.gethostname()}", time.time())
    return DiskLease(run, record) if run.storage.is_local else BucketLease(run, record, say)


class Lease(ABC):
    """The lease of a run, from `take_lease` to `release`."""

    record: LeaseRecord

    @property
    def token(self) -> int:
        """Number of this lease."""
        return self.record.token

    def lost_to(self) -> str:
        """Return the holder that has taken the lease over; an empty string if nobody has."""
        return ""

    @abstractmethod
    def release(self, forget: bool = False) -> None:
        """Give the lease back, so that the next launch need not wait.

        With `forget`, no run was created: on a disk, the files of the lease are removed too.
        """


class DiskLease(Lease):
    """The lease of a run on a disk: the lock of a file, which the system releases when this process ends."""

    def __init__(self, run: Run, record: LeaseRecord) -> None:
        self._folder = Path(run.path)
        self._lock = self._open(LOCK_FILE)
        try:
            if not _lock_within(self._lock, 0):
                raise RunBusyError(_busy(run, _last_lease(run)))
            if not self._is_in_place():  # a launch that created no run has removed it meanwhile
                raise RunBusyError(f"run {run.name}: another launch of it has just ended; try again")
            fence = self._open(FENCE_FILE)
            try:
                if not _lock_within(fence, FENCE_SECONDS):
                    raise RunBusyError(
                        f"run {run.name}: a process of its last training hangs in a write; end it, then try again"
                    )
                self.record = replace(record, token=_next_token(run, _last_lease(run)))
                run.storage.write(f"{run.name}/{LEASE_FILE}", _encode(self.record))
            finally:
                os.close(fence)
        except BaseException:
            os.close(self._lock)
            raise

    def release(self, forget: bool = False) -> None:
        """Unlock the file; with `forget`, remove it before, and the folder if nothing else is in it."""
        with suppress(OSError):
            for name in (LEASE_FILE, FENCE_FILE, LOCK_FILE) if forget else ():
                (self._folder / name).unlink()
            if forget:
                self._folder.rmdir()
        os.close(self._lock)

    def _open(self, name: str) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ValueError(
                f"{self._folder}: cannot be written ({error.strerror}); check the disk and its rights"
            ) from error

    def _is_in_place(self) -> bool:
        """Return whether the locked file is still the one with its name."""
        try:
            return os.path.samestat(os.fstat(self._lock), os.stat(self._folder / LOCK_FILE))
        except FileNotFoundError:
            return False


class BucketLease(Lease):
    """The lease of a run in a bucket: an object that a thread renews by conditional writes."""

    def __init__(self, run: Run, record: LeaseRecord, say: Callable[[str], None]) -> None:
        self._run, self._lost_to = run, ""
        self._bucket, self._key = open_bucket(run.storage, f"{run.name}/{LEASE_FILE}")
        found, tag = self._get()
        if not found.is_released:
            say(f"The last lease of run {run.name} was not released; watching it for up to {LEASE_SECONDS:.0f} s ...")
            deadline = time.monotonic() + LEASE_SECONDS
            while time.monotonic() < deadline:
                time.sleep(0.5)
                now, new_tag = self._get()
                if now.is_released:
                    found, tag = now, new_tag
                    break
                if new_tag != tag:
                    raise RunBusyError(_busy(run, now))
        self.record = replace(record, token=_next_token(run, found))
        self._tag = tag
        if not self._put(self.record):
            raise RunBusyError(_busy(run, self._get()[0]))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def lost_to(self) -> str:
        """Return the holder that has taken the lease over; an empty string if nobody has."""
        return self._lost_to

    def release(self, forget: bool = False) -> None:
        """End the renewals, and mark the lease as released if the storage answers."""
        self._ended.set()
        self._thread.join(RENEW_SECONDS)
        with suppress(RunStoreError):
            if not self._lost_to:
                self._put(replace(self.record, renewed=time.time(), is_released=True))

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with suppress(RunStoreError):  # the storage does not answer: nobody can take the lease there either
                if not self._put(replace(self.record, renewed=time.time())):
                    found, tag = self._get()
                    if found.launch_id != self.record.launch_id:
                        self._lost_to = found.holder
                        return
                    self._tag = tag  # the write before arrived, but not its answer

    def _get(self) -> tuple[LeaseRecord, str | None]:
        """Return the lease in the bucket and the tag of its object."""
        import obstore
        from obstore.exceptions import BaseError, NotFoundError

        try:
            answer = obstore.get(self._bucket, self._key)
            values, tag = json.loads(bytes(answer.bytes())), answer.meta["e_tag"]
        except (FileNotFoundError, NotFoundError):
            return NEVER, None
        except ValueError:  # not JSON
            return LeaseRecord.from_json({}), answer.meta["e_tag"]
        except BaseError as error:
            raise _unanswered(self._run, error) from error
        return LeaseRecord.from_json(values if isinstance(values, dict) else {}), tag

    def _put(self, record: LeaseRecord) -> bool:
        """Write the lease if it is still the one that was seen last; return whether it was."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            answer = obstore.put(
                self._bucket, self._key, _encode(record), mode={"e_tag": self._tag} if self._tag else "create"
            )
        except (AlreadyExistsError, PreconditionError):
            return False
        except BaseError as error:
            raise _unanswered(self._run, error) from error
        self._tag = answer["e_tag"]
        return True


def open_bucket(storage: Storage, path: str) -> "tuple[S3Store | GCSStore, str]":
    """Return the bucket of a storage, for conditional writes, and the key of a path; pyarrow has no such writes."""
    from datetime import timedelta

    from obstore.store import GCSStore, S3Store

    bucket, _, key = storage.full_path(path).partition("/")
    retries: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
    if storage.fs.type_name == "gcs":
        return GCSStore(bucket, retry_config=retries), key
    if storage.fs.type_name != "s3":
        raise ValueError(f"{storage.root}: a training needs a local path, s3:// or gs://")
    _, (options,) = storage.fs.__reduce__()  # as pickle does it: pyarrow has no other way to read the options
    settings: dict[str, Any] = {"region": options["region"], "access_key_id": options["access_key"]}
    settings |= {"secret_access_key": options["secret_key"], "session_token": options["session_token"]}
    if options["endpoint_override"]:
        settings["endpoint"] = f"{options['scheme']}://{options['endpoint_override']}"
    return S3Store(
        bucket,
        config=cast("S3Config", {name: value for name, value in settings.items() if value}),
        client_options={"allow_http": options["scheme"] == "http", "timeout": timedelta(seconds=5)},
        retry_config=retries,
        credential_provider=None if options["access_key"] else _boto3_credentials(),
    ), key


def _boto3_credentials() -> Any:
    """Return boto3's credentials, which know profiles, if it is installed; else the environment or the instance."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    except (ImportError, ValueError):
        return None


def _lock_within(handle: int, seconds: float) -> bool:
    """Lock a file for this process alone; return False if another process still has it locked after this time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise ValueError(
                    f"the disk of --runs has no file locks ({error.strerror}); choose another place, or a bucket"
                ) from error
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def _last_lease(run: Run) -> LeaseRecord:
    try:
        return read_lease(run.storage, run.name)
    except MissingError:
        return NEVER
    except DamagedError:
        return LeaseRecord.from_json({})


def _next_token(run: Run, last: LeaseRecord) -> int:
    """Return a token above that of the last lease, and above those of all checkpoints, which may outlive the lease."""
    return max([last.token, *(checkpoint.manifest.token or 0 for checkpoint in run.checkpoints())]) + 1


def _busy(run: Run, record: LeaseRecord) -> str:
    return f"run {run.name} is being trained by {record.holder}: stop that one, or choose another --name"


def _unanswered(run: Run, error: Exception) -> RunStoreError:
    first = str(error).split("\n", 1)[0][:200]
    return RunStoreError(
        f"{run.path}/{LEASE_FILE}: the bucket does not answer ({first}); check it and the access rights"
    )


def _encode(record: LeaseRecord) -> bytes:
    return json.dumps(asdict(record)).encode()
