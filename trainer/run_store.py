"""The run store: the one door between what trains (it writes) and what shows (it reads), on a disk or in a bucket.

    <runs>/<run>/run.json              what runs; rewritten only to lengthen it
    <runs>/<run>/progress.json         rewritten every few seconds
    <runs>/<run>/stop.json             asks one launch to end
    <runs>/<run>/epochs/0007/          samples.png, losses.json and, last, metrics.json: the epoch exists when it does
    <runs>/<run>/step_00006566/        a checkpoint: its files and, last, MANIFEST.json, which names and hashes them
    <runs>/<run>/evaluations/          step_00006566.json: scores of a checkpoint, which they outlive

A run has one writer, which publishes its checkpoints in ascending steps, and any number of readers. On a disk, files
and checkpoints are staged under another name, synced and renamed; in a bucket, where nothing can be renamed but each
upload is atomic, the manifest is uploaded last. Either way a checkpoint without its manifest does not exist.
"""

import hashlib
import json
import math
import operator
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.fs
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

FORMAT = 1
"""Of run.json and of the manifests; a reader refuses a newer one."""

RUN, PROGRESS, STOP, MANIFEST = "run.json", "progress.json", "stop.json", "MANIFEST.json"
SAMPLES, LOSSES, METRICS = "samples.png", "losses.json", "metrics.json"

RUN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
EPOCH_FOLDER = re.compile(r"([0-9]{4}|[1-9][0-9]{4,})")
STEP_FOLDER = re.compile(r"step_([0-9]{8}|[1-9][0-9]{8,})")
STAGE_FOLDER = re.compile(r"\.stage-step_([0-9]+)-.*")

CHUNK = 8 << 20  # bytes; in a bucket each chunk is a request of its own


class RunStoreError(ValueError):
    """Something in the store, or on the way to it, cannot be used; the message names the path and what to do."""


class DamagedError(RunStoreError):
    """The storage answers, but what it holds is not what was written."""


class MissingError(DamagedError):
    """The storage answers, but the file is not there."""


def valid_run_name(name: str) -> bool:
    """Whether a run may have this name."""
    return RUN_NAME.fullmatch(name) is not None


def check_run_name(name: str) -> None:
    """Raise `RunStoreError` unless a run may have this name."""
    if not valid_run_name(name):
        raise RunStoreError(
            f"{name!r} cannot be the name of a run; use 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first"
        )


def open_store(path_or_uri: str | Path) -> "RunStore":
    """Open a folder of runs: a local path, or any URI that pyarrow opens (file, s3, gs); nothing is created.

    Raises `RunStoreError` for a URI that cannot be opened and for a local path that is not a folder.
    """
    text = str(path_or_uri)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):  # one slash, for pathlib makes s3:/bucket of s3://bucket
        try:
            fs, root = FileSystem.from_uri(text)
        except (pyarrow.ArrowException, ImportError, OSError, ValueError) as error:
            raise RunStoreError(
                f"{_one_line(text)}: cannot be opened ({_one_line(error)}); "
                "use a local path or a URI such as s3://bucket/runs?region=eu-central-1"
            ) from error
        fs = _impatient(fs)
    else:
        fs, root = LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    store = RunStore(fs, root)
    if not root:
        raise RunStoreError(f"{_one_line(text)}: names no bucket; use a URI such as s3://bucket/runs")
    if store.is_local and os.path.exists(root) and not os.path.isdir(root):
        raise RunStoreError(f"{root}: is not a folder; choose another place for the runs")
    return store


def _impatient(fs: FileSystem) -> FileSystem:
    """The same filesystem, but one that reports a dead server within seconds, not minutes."""
    if fs.type_name not in ("s3", "gcs"):
        return fs
    rebuild, (options,) = fs.__reduce__()  # as pickle does it, because a URI has no words for these options
    if fs.type_name == "gcs":
        return rebuild(options | {"retry_time_limit": options["retry_time_limit"] or timedelta(seconds=20)})
    retries = pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=3)
    return rebuild(options | {"connect_timeout": 3, "retry_strategy": retries})


@dataclass(frozen=True)
class RunStore:
    """A folder, or a prefix in a bucket, of runs. Every file operation on it is one of the methods below."""

    fs: FileSystem = field(hash=False)  # pyarrow's have no hash
    root: str

    @property
    def is_local(self) -> bool:
        """Whether files can be synced and renamed."""
        return isinstance(self.fs, LocalFileSystem)

    def run(self, name: str) -> "Run":
        """The run of this name, whether it exists or not; raises `RunStoreError` for a name that no run may have."""
        return Run(self, name)

    def list_runs(self) -> list["Run"]:
        """The runs with a readable run.json, newest start first; a folder that does not exist has none."""
        found = []
        for info in self._list(self.root):
            if info.type == FileType.Directory and valid_run_name(info.base_name):
                run = Run(self, info.base_name)
                with suppress(RunStoreError):  # one bad run must not hide the others
                    started = run.read_run().get("started")
                    found.append((started if isinstance(started, int | float) else 0, run.name, run))
        bucket = self.root.split("/")[0]
        if not found and not self.is_local and not self._has(bucket):  # a missing bucket lists like an empty one
            raise RunStoreError(f"{self.root}: there is no bucket {bucket!r}; create it or correct its name")
        return [run for _, _, run in sorted(found, key=lambda entry: entry[:2], reverse=True)]

    @contextmanager
    def _errors(self, path: str, verb: str) -> Iterator[None]:
        """Turn the filesystem's errors, which can be pages long, into ours."""
        try:
            yield
        except OSError as error:
            raise RunStoreError(
                f"{path}: cannot be {verb} ({_one_line(error)}); check the storage and the access rights"
            ) from error

    def _has(self, path: str) -> bool:
        with self._errors(path, "read"):
            return self.fs.get_file_info(path).type != FileType.NotFound

    def _list(self, path: str, recursive: bool = False) -> list[pyarrow.fs.FileInfo]:
        with self._errors(path, "listed"):
            return self.fs.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive))

    def _chunks(self, path: str) -> Iterator[bytes]:
        with self._errors(path, "read"):
            try:
                file = self.fs.open_input_file(path)
            except FileNotFoundError as error:
                raise MissingError(f"{path}: is not there; check the name, or wait until it is written") from error
            with file:
                while chunk := file.read(CHUNK):
                    yield chunk

    def _read(self, path: str) -> bytes:
        return b"".join(self._chunks(path))

    def _read_json(self, path: str) -> dict[str, Any]:
        for pause in (0.02, 0.08, 0.0):
            data = self._read(path)
            with suppress(ValueError):
                if isinstance(value := json.loads(data), dict):
                    return value
            time.sleep(pause)  # a file being replaced in a bucket may come with the size of the old one
        raise DamagedError(f"{path}: is damaged ({len(data)} bytes that are no JSON object); remove it")

    def _put(self, path: str, source: bytes | Path) -> dict[str, Any]:
        """Write a new file in place, down to the disk; returns its entry in a manifest."""
        size, sha256 = 0, hashlib.sha256()
        with self._errors(path, "written"):
            if self.is_local:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") if self.is_local else self.fs.open_output_stream(path, compression=None) as out:
                for chunk in _chunks_of(source):
                    out.write(chunk)
                    size += len(chunk)
                    sha256.update(chunk)
                if self.is_local:
                    out.flush()
                    os.fsync(out.fileno())
        return {"bytes": size, "sha256": sha256.hexdigest()}

    def _write(self, path: str, data: bytes) -> None:
        """Write or replace a file: whoever reads meanwhile gets the old bytes or the new ones."""
        if not self.is_local:
            self._put(path, data)
            return
        folder, name = os.path.split(path)
        stage = f"{folder}/.{name}-{uuid.uuid4().hex}"
        try:
            self._put(stage, data)
            self._rename(stage, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(stage)
            raise

    def _rename(self, path: str, new_path: str) -> None:
        """Give a file, or a folder where none is, its final name, and make the name durable. On a disk only."""
        with self._errors(new_path, "written"):
            os.replace(path, new_path)
            _sync_folder(os.path.dirname(new_path))

    def _remove(self, folder: str) -> None:
        """Delete a folder, if it is there: its manifest first, so that half of it is never taken for a checkpoint."""
        with self._errors(folder, "removed"):
            with suppress(FileNotFoundError):
                self.fs.delete_file(f"{folder}/{MANIFEST}")
            with suppress(FileNotFoundError):
                self.fs.delete_dir(folder)


@dataclass(frozen=True)
class Run:
    """One run of a store. Readers raise `MissingError` for what is not written, `DamagedError` for what is broken."""

    store: RunStore
    name: str

    def __post_init__(self) -> None:
        check_run_name(self.name)

    @property
    def path(self) -> str:
        """Its folder, within the store's filesystem."""
        return f"{self.store.root}/{self.name}"

    def exists(self) -> bool:
        """Whether its run.json is there."""
        return self.store._has(f"{self.path}/{RUN}")

    def read_run(self) -> dict[str, Any]:
        """What `create` wrote."""
        return self._read_with_format(RUN)

    def read_progress(self) -> dict[str, Any] | None:
        """What `write_progress` wrote last; None before it did."""
        try:
            return self.store._read_json(f"{self.path}/{PROGRESS}")
        except MissingError:
            return None

    def is_being_trained(self, watch: float = 3.0) -> bool:
        """Whether somebody trains this run: its heartbeat, where it is recent, goes on within `watch` seconds.

        The last heartbeat of a training that was killed may be recent too.
        """

        def heartbeat() -> float:
            progress = self.read_progress() or {}
            return progress.get("heartbeat") or 0.0 if progress.get("phase") in ("starting", "training") else 0.0

        last = heartbeat()
        deadline = time.monotonic() + watch
        while time.time() - last < 30 and time.monotonic() < deadline:
            if heartbeat() > last:
                return True
            time.sleep(0.2)
        return False

    def epochs(self) -> list[int]:
        """The complete epochs, ascending."""
        return sorted(epoch for epoch, files in self._epoch_files().items() if METRICS in files)

    def running_epoch(self) -> int | None:
        """The epoch that has losses already and is newer than all complete ones."""
        files = self._epoch_files()
        complete = max((epoch for epoch in files if METRICS in files[epoch]), default=-1)
        return max((epoch for epoch in files if LOSSES in files[epoch] and epoch > complete), default=None)

    def read_epoch_metrics(self, epoch: int) -> dict[str, Any]:
        """The summary of a complete epoch."""
        return self.store._read_json(self._epoch_path(epoch, METRICS))

    def read_losses(self, epoch: int) -> dict[str, list[Any]]:
        """The curve of an epoch, which may still run: arrays of equal length, with None for what was not finite."""
        return self.store._read_json(self._epoch_path(epoch, LOSSES))

    def read_samples(self, epoch: int) -> bytes:
        """The sample grid of an epoch, a PNG."""
        return self.store._read(self._epoch_path(epoch, SAMPLES))

    def read_evaluation(self, step: int) -> dict[str, Any] | None:
        """What `write_evaluation` wrote last for a checkpoint; None before it did."""
        try:
            return self.store._read_json(self._evaluation_path(step))
        except MissingError:
            return None

    def checkpoints(self) -> list["Checkpoint"]:
        """The checkpoints with a readable manifest, ascending by step; their files are not verified here."""
        found, steps = [], None
        while steps != (listed := self._steps()):  # again if meanwhile one was published and another one pruned
            found, steps = [checkpoint for step in listed if (checkpoint := self.checkpoint(step))], listed
        return found

    def checkpoint(self, step: int) -> "Checkpoint | None":
        """The checkpoint of a step; None without a readable manifest. Raises for a manifest of a newer format."""
        path = f"{checkpoint_name(step)}/{MANIFEST}"
        try:
            manifest = self._read_with_format(path)
            _check_manifest(manifest, step, f"{self.path}/{path}")
        except DamagedError:
            return None
        return Checkpoint(self, manifest["step"], manifest)

    def latest_checkpoint(self, verify: bool = True) -> "Checkpoint | None":
        """The newest checkpoint whose files are all intact; without `verify`, the newest one listed.

        Raises if the storage does not answer: an older checkpoint would be the wrong one.
        """
        left = self.checkpoints()
        while left:
            checkpoint = left.pop()
            if not verify or checkpoint.is_intact():
                return checkpoint
            if self.checkpoint(checkpoint.step) is None:  # pruned while it was read, so there is a newer one
                left = self.checkpoints()
        return None

    def create(self, fields: Mapping[str, Any]) -> None:
        """Write run.json, once; `started`, in seconds since 1970, is now unless given."""
        if self.exists():
            raise RunStoreError(f"{self.path}: this run exists; resume it or choose another name")
        fields = {"started": time.time(), **fields, "format": FORMAT, "name": self.name}
        self.store._write(f"{self.path}/{RUN}", _to_json(fields))

    def extend(self, fields: Mapping[str, Any]) -> None:
        """Replace these fields of run.json: a run that goes on longer than was planned."""
        self.store._write(f"{self.path}/{RUN}", _to_json({**self.read_run(), **fields}))

    def request_stop(self, launch_id: str) -> None:
        """Ask the training of this launch to end after a checkpoint; later launches do not hear it."""
        self.store._write(f"{self.path}/{STOP}", _to_json({"launch_id": launch_id}))

    def stop_requested(self, launch_id: str) -> bool:
        """Whether this launch was asked to end."""
        try:
            return self.store._read_json(f"{self.path}/{STOP}").get("launch_id") == launch_id
        except MissingError:
            return False

    def write_progress(self, fields: Mapping[str, Any]) -> None:
        """Replace progress.json."""
        self.store._write(f"{self.path}/{PROGRESS}", _to_json(fields))

    def write_samples(self, epoch: int, png: bytes) -> None:
        """Write the sample grid of an epoch, a PNG."""
        self.store._write(self._epoch_path(epoch, SAMPLES), png)

    def write_losses(self, epoch: int, curve: Mapping[str, Sequence[Any]]) -> None:
        """Write or replace the curve of an epoch: arrays of equal length."""
        self.store._write(self._epoch_path(epoch, LOSSES), _to_json(curve))

    def write_epoch_metrics(self, epoch: int, fields: Mapping[str, Any]) -> None:
        """Write the summary of an epoch, after all else: it completes the epoch."""
        self.store._write(self._epoch_path(epoch, METRICS), _to_json(fields))

    def write_evaluation(self, step: int, fields: Mapping[str, Any]) -> None:
        """Write or replace the scores of a checkpoint."""
        self.store._write(self._evaluation_path(step), _to_json(fields))

    def publish_checkpoint(
        self, step: int, files: Mapping[str, bytes | Path], fields: Mapping[str, Any]
    ) -> "Checkpoint":
        """Publish files, by name, as the checkpoint of a step; `fields` has at least `epoch`, `nimg` and `world_size`.

        An intact checkpoint of this step is kept and returned, a damaged one is set aside. After an error nothing has
        been published, and the same call may be repeated.
        """
        step, final = _count(step, "step"), f"{self.path}/{checkpoint_name(step)}"
        manifest = {**fields, "format": FORMAT, "step": step, "files": dict(files)}
        _check_manifest(manifest, step, final)
        if existing := self.checkpoint(step):
            if existing.is_intact():
                return existing
            self.set_aside(existing)
        self.store._remove(final)  # a folder without a manifest: what a killed writer left in a bucket

        local = self.store.is_local
        stage = f"{self.path}/.stage-{checkpoint_name(step)}-{uuid.uuid4().hex}" if local else final
        try:
            manifest["files"] = {name: self.store._put(f"{stage}/{name}", source) for name, source in files.items()}
            self.store._put(f"{stage}/{MANIFEST}", _to_json(manifest))
            if local:
                _sync_folder(stage)
                self.store._rename(stage, final)
        except BaseException:
            if local:
                shutil.rmtree(stage, ignore_errors=True)
            raise
        return Checkpoint(self, step, json.loads(_to_json(manifest)))

    def set_aside(self, checkpoint_or_step: "Checkpoint | int") -> None:
        """Take a damaged checkpoint out of the list: on a disk renamed, for a later look; in a bucket removed."""
        step = checkpoint_or_step.step if isinstance(checkpoint_or_step, Checkpoint) else checkpoint_or_step
        name = checkpoint_name(step)
        if self.store.is_local:
            self.store._rename(f"{self.path}/{name}", f"{self.path}/set-aside-{name}-{uuid.uuid4().hex}")
        else:
            self.store._remove(f"{self.path}/{name}")

    def prune_checkpoints(self, keep_newest: int, keep_best: int | None = None) -> list[int]:
        """Remove all checkpoints but the newest ones and the one of step `keep_best`; returns the steps removed.

        What killed writers left goes too: staging folders, and step folders without a readable manifest. Those newer
        than the newest checkpoint stay, for they may be on their way.
        """
        if keep_newest < 1:
            raise RunStoreError(f"keep_newest must be at least 1: got {keep_newest}")
        steps = [checkpoint.step for checkpoint in self.checkpoints()]
        newest, kept = max(steps, default=-1), {*steps[-keep_newest:], keep_best}
        for info in self.store._list(self.path):
            folder, stage = STEP_FOLDER.fullmatch(info.base_name), STAGE_FOLDER.fullmatch(info.base_name)
            old = folder and int(folder[1]) < newest and int(folder[1]) not in kept
            if old or (stage and int(stage[1]) <= newest):
                self.store._remove(f"{self.path}/{info.base_name}")
        return [step for step in steps if step not in kept]

    def _steps(self) -> list[int]:
        folders = [STEP_FOLDER.fullmatch(info.base_name) for info in self.store._list(self.path)]
        return sorted(int(match[1]) for match in folders if match)

    def _read_with_format(self, path: str) -> dict[str, Any]:
        path = f"{self.path}/{path}"
        fields = self.store._read_json(path)
        number = fields.get("format")
        if not isinstance(number, int):
            raise DamagedError(f"{path}: is damaged (no format number); remove it")
        if number > FORMAT:
            raise RunStoreError(f"{path}: is of format {number}, written by a newer version; update this one")
        return fields

    def _epoch_path(self, epoch: int, filename: str) -> str:
        return f"{self.path}/epochs/{_count(epoch, 'epoch'):04d}/{filename}"

    def _evaluation_path(self, step: int) -> str:
        return f"{self.path}/evaluations/{checkpoint_name(step)}.json"

    def _epoch_files(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for info in self.store._list(f"{self.path}/epochs", recursive=True):  # one request, however many epochs
            folder, filename = info.path.split("/")[-2:]
            if EPOCH_FOLDER.fullmatch(folder) and info.type == FileType.File:
                found.setdefault(int(folder), set()).add(filename)
        return found


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint, as its manifest describes it."""

    run: Run
    step: int
    manifest: dict[str, Any] = field(hash=False, repr=False)

    @property
    def name(self) -> str:
        """Its folder's name."""
        return checkpoint_name(self.step)

    @property
    def epoch(self) -> int:
        """The epoch in which it was taken."""
        return self.manifest["epoch"]

    @property
    def nimg(self) -> int:
        """The number of images seen until then."""
        return self.manifest["nimg"]

    def read(self, filename: str) -> bytes:
        """One of its files, checked against the manifest; raises `DamagedError`."""
        return b"".join(self._checked_chunks(filename))

    def verify(self) -> None:
        """Check all its files against the manifest, without holding them in memory; raises `DamagedError`."""
        for filename in self.manifest["files"]:
            for _ in self._checked_chunks(filename):
                pass

    def is_intact(self) -> bool:
        """Whether `verify` passes; raises if the storage does not answer, which says nothing about the files."""
        try:
            self.verify()
        except DamagedError:
            return False
        return True

    def _checked_chunks(self, filename: str) -> Iterator[bytes]:
        """The bytes of a file; raises after the last of them if they are not those of the manifest."""
        path = f"{self.run.path}/{self.name}/{filename}"
        if filename not in self.manifest["files"]:
            raise RunStoreError(f"{path}: the checkpoint has no such file, only {', '.join(self.manifest['files'])}")
        size, sha256 = 0, hashlib.sha256()
        for chunk in self.run.store._chunks(path):
            size += len(chunk)
            sha256.update(chunk)
            yield chunk
        if self.manifest["files"][filename] != {"bytes": size, "sha256": sha256.hexdigest()}:
            raise DamagedError(f"{path}: is damaged ({size} bytes, not those of the manifest); use another checkpoint")


def checkpoint_name(step: int) -> str:
    """The folder's name of the checkpoint of a step."""
    return f"step_{_count(step, 'step'):08d}"


def _count(value: int, what: str) -> int:
    """The value, if it is an integer of at least 0: nothing else may become part of a path."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise RunStoreError(f"{what} must be an integer of at least 0: got {value!r}")
    return number


def _check_manifest(manifest: Mapping[str, Any], step: int, path: str) -> None:
    """Raise `DamagedError` unless a manifest is whole and names only files of its own folder."""
    numbers = all(isinstance(manifest.get(key), int) for key in ("step", "epoch", "nimg", "world_size"))
    if not numbers or manifest["step"] != step or not isinstance(manifest.get("files"), dict):
        raise DamagedError(f"{path}: a manifest needs step {step}, epoch, nimg, world_size (integers) and files")
    for name in manifest["files"]:
        if not FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise DamagedError(f"{path}: {name!r} cannot be a file of a checkpoint; use a-z, 0-9, '.', '_' and '-'")


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(_finite(value), allow_nan=False).encode()


def _finite(value: Any) -> Any:
    """The value, with None for each float that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _chunks_of(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _sync_folder(folder: str) -> None:
    """Make the names in a folder durable, as fsync makes the bytes of a file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: object) -> str:
    """A text on one line, not too long, and without the credentials that a URI may hold."""
    return re.sub(r"://\S*@", "://***@", " ".join(str(error).split()))[:300]
