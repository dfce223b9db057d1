"""Files on a local disk or in an object store, with the same methods. Paths are relative to the storage's root.

A reader never sees a partly written file. On a disk, a file is written under a temporary name, synced and renamed. In
an object store, each upload is atomic.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow
import pyarrow.fs
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from models.files import written_whole

JSON: TypeAlias = Mapping[str, Any]
"""A JSON object."""

CHUNK_BYTES = 8 << 20
"""Size of one read or write. In an object store each chunk is a request."""


class RunStoreError(ValueError):
    """A file or the storage cannot be used; the message names the path and what to do."""


class DamagedError(RunStoreError):
    """The storage answers, but the content is not what was written."""


class MissingError(DamagedError):
    """The storage answers, but the file does not exist."""


@dataclass(frozen=True)
class FileEntry:
    """The size and the SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Storage:
    """A folder on a disk, or a prefix in a bucket. Its methods raise `RunStoreError` if the storage fails."""

    fs: FileSystem = field(hash=False)  # pyarrow's filesystems have no hash
    root: str
    token: int | None = None
    """Token of the lease under which this writes (`trainer.lease`); None without one."""

    @property
    def is_local(self) -> bool:
        """Whether this is a disk, where files can be synced and renamed."""
        return isinstance(self.fs, LocalFileSystem)

    def full_path(self, path: str) -> str:
        """Return the path within the filesystem, root included."""
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    def exists(self, path: str) -> bool:
        """Return whether there is a file or a folder at this path."""
        return self._is_there(self.full_path(path))

    def folders(self, path: str = "") -> list[str]:
        """Return the names of the subfolders of a folder; none for a missing folder."""
        return [info.base_name for info in self._infos(path) if info.type == FileType.Directory]

    def files(self, path: str = "") -> list[str]:
        """Return the files below a folder, as paths relative to it, with one request for all subfolders."""
        start = len(self.full_path(path)) + 1
        return [info.path[start:] for info in self._infos(path, recursive=True) if info.type == FileType.File]

    def read(self, path: str) -> bytes:
        """Return the content of a file; raises `MissingError`."""
        return b"".join(self._chunks(path))

    def read_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object in a file; raises `MissingError`, or `DamagedError` for anything else."""
        for pause in (0.02, 0.08, 0.0):
            data = self.read(path)
            with suppress(ValueError):
                if isinstance(value := json.loads(data), dict):
                    return value
            time.sleep(pause)  # during a replacement in a bucket, new bytes may be read with the old size
        raise DamagedError(f"{self.full_path(path)}: is damaged ({len(data)} bytes that are no JSON object); remove it")

    def entry(self, path: str) -> FileEntry:
        """Return the size and hash of a file without holding it in memory; raises `MissingError`."""
        size, sha256 = 0, hashlib.sha256()
        for chunk in self._chunks(path):
            size += len(chunk)
            sha256.update(chunk)
        return FileEntry(size, sha256.hexdigest())

    def put(self, path: str, source: bytes | Path) -> FileEntry:
        """Write a new file in place, from bytes or from a local file, and sync it; returns its size and hash.

        On a disk a reader may see a part of the file: write it into a folder that readers ignore, then rename the
        folder.
        """
        with self.writing(path):
            return self._put(self.full_path(path), source)

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file. Readers get the old bytes or the new ones, never a mixture."""
        full = self.full_path(path)
        with self.writing(path):
            if not self.is_local:
                self._put(full, data)
                return
            folder = os.path.dirname(full)
            os.makedirs(folder, exist_ok=True)
            with written_whole(Path(full)) as file:
                file.write(data)
            _sync_folder(folder)

    def rename(self, path: str, new_path: str) -> None:
        """Rename a file or a folder and make the names durable. Works on a disk only.

        A file at the new path is replaced; a folder with files in it is not.
        """
        with self.writing(new_path):
            _rename(self.full_path(path), self.full_path(new_path))

    def remove_file(self, path: str) -> None:
        """Delete a file, if it exists."""
        with self.writing(path, "removed"), suppress(FileNotFoundError):
            self.fs.delete_file(self.full_path(path))

    def remove_folder(self, path: str) -> None:
        """Delete a folder with its content, if it exists."""
        with self.writing(path, "removed"), suppress(FileNotFoundError):
            self.fs.delete_dir(self.full_path(path))

    def check_bucket(self) -> None:
        """Raise `RunStoreError` if the bucket does not exist. Listing a missing bucket returns nothing instead."""
        bucket = self.root.split("/")[0]
        if not self.is_local and not self._is_there(bucket):
            raise RunStoreError(f"{self.root}: there is no bucket {bucket!r}; create it or correct its name")

    @contextmanager
    def writing(self, path: str, verb: str = "written") -> Iterator[None]:
        """Turn errors of a write or removal at a path into `RunStoreError`; `verb` is for its message."""
        with self._errors(self.full_path(path), verb):
            yield

    @contextmanager
    def _errors(self, path: str, verb: str) -> Iterator[None]:
        """Turn errors of the filesystem, which can be very long, into `RunStoreError`."""
        try:
            yield
        except OSError as error:
            raise RunStoreError(
                f"{path}: cannot be {verb} ({_one_line(error)}); check the storage and the access rights"
            ) from error

    def _is_there(self, full_path: str) -> bool:
        with self._errors(full_path, "read"):
            return bool(self.fs.get_file_info(full_path).type != FileType.NotFound)

    def _infos(self, path: str, recursive: bool = False) -> list[pyarrow.fs.FileInfo]:
        full = self.full_path(path)
        with self._errors(full, "listed"):
            return list(self.fs.get_file_info(FileSelector(full, allow_not_found=True, recursive=recursive)))

    def _put(self, full_path: str, source: bytes | Path) -> FileEntry:
        size, sha256 = 0, hashlib.sha256()
        if self.is_local:
            os.makedirs(os.path.dirname(full_path), exist_ok=True)
        with open(full_path, "xb") if self.is_local else self.fs.open_output_stream(full_path, compression=None) as out:
            for chunk in _chunks_of(source):
                out.write(chunk)
                size += len(chunk)
                sha256.update(chunk)
            if self.is_local:
                out.flush()
                os.fsync(out.fileno())
        return FileEntry(size, sha256.hexdigest())

    def _chunks(self, path: str) -> Iterator[bytes]:
        full = self.full_path(path)
        with self._errors(full, "read"):
            try:
                file = self.fs.open_input_file(full)
            except FileNotFoundError as error:
                raise MissingError(f"{full}: is not there; check the name, or wait until it is written") from error
            with file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk


def open_storage(path_or_uri: str | Path) -> Storage:
    """Open a local path, or any URI that pyarrow opens (file, s3, gs); nothing is created.

    Raises `RunStoreError` for a URI that cannot be opened and for a local path that is not a folder.
    """
    text = str(path_or_uri)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):  # one slash, because pathlib turns s3://bucket into s3:/bucket
        try:
            fs, root = FileSystem.from_uri(text)
        except (pyarrow.ArrowException, ImportError, OSError, ValueError) as error:
            raise RunStoreError(
                f"{_one_line(text)}: cannot be opened ({_one_line(error)}); "
                "use a local path or a URI such as s3://bucket/runs?region=eu-central-1"
            ) from error
        fs = _with_short_timeouts(fs)
    else:
        fs, root = LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    storage = Storage(fs, root)
    if not root:
        raise RunStoreError(f"{_one_line(text)}: names no bucket; use a URI such as s3://bucket/runs")
    if storage.is_local and os.path.exists(root) and not os.path.isdir(root):
        raise RunStoreError(f"{root}: is not a folder; choose another place for the runs")
    return storage


def _with_short_timeouts(fs: FileSystem) -> FileSystem:
    """Return the same filesystem with options that report a dead server within seconds instead of minutes."""
    if fs.type_name not in ("s3", "gcs"):
        return fs
    rebuild, (options,) = fs.__reduce__()  # as pickle does it, because a URI cannot hold these options
    if fs.type_name == "gcs":
        return rebuild(options | {"retry_time_limit": options["retry_time_limit"] or timedelta(seconds=20)})
    retries = pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=3)
    return rebuild(options | {"connect_timeout": 3, "retry_strategy": retries})


def _chunks_of(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _rename(path: str, new_path: str) -> None:
    if os.path.isdir(path):
        _sync_folder(path)
    os.replace(path, new_path)
    _sync_folder(os.path.dirname(new_path))


def _sync_folder(folder: str) -> None:
    """Make the names in a folder durable, as fsync makes the bytes of a file durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: object) -> str:
    """Return a text on one line, at most 300 characters, without the credentials that a URI may hold."""
    return re.sub(r"://\S*@", "://***@", " ".join(str(error).split()))[:300]
