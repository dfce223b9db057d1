"""The run store: the files that the trainer writes and the web app reads, on a disk or in a bucket.

    <runs>/<run>/run.json              RunRecord: what the run trains; rewritten only to lengthen it
    <runs>/<run>/progress.json         Progress: rewritten every few seconds
    <runs>/<run>/stop.json             a request to stop one launch
    <runs>/<run>/epochs/0007/          samples.png, losses.json (Curve), generator.safetensors and metrics.json
                                       (EpochSummary)
    <runs>/<run>/step_00006566/        a checkpoint: its files and MANIFEST.json (Manifest), which names and hashes them
    <runs>/<run>/evaluations/          step_00006566.json (Evaluation): scores of a checkpoint; kept when it is removed
    <runs>/<run>/generators/           <sha256>.safetensors: the archive, generators that would otherwise be lost

The SHA-256 of a generator's file identifies the generator. The generator of an epoch is kept when the checkpoint of the
same step is removed. A generator moves to the archive when its checkpoint within an epoch is removed, when its epoch is
trained again after an interruption, or when another run replaces its run.

An epoch is complete once its metrics.json exists, and a checkpoint once its manifest exists: each is written last.

A run has one writer at a time, which publishes checkpoints in ascending steps, and any number of readers. A training
writes under a lease (`trainer.lease`), whose token is in its records. On a disk, files and checkpoints are written
under a temporary name, synced and renamed. A bucket cannot rename, but each upload is atomic, and the manifest is
uploaded last.
"""

import hashlib
import json
import math
import operator
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, TypeAlias, TypeGuard, Union, get_args, get_origin, get_type_hints

from trainer.storage import (
    JSON,
    DamagedError,
    FileEntry,
    MissingError,
    RunStoreError,
    Storage,
    open_storage,
)

__all__ = [
    "GENERATOR_FILE",
    "NETWORKS_FILE",
    "READER_FILE",
    "RESUME_FILE",
    "STALE_SECONDS",
    "Checkpoint",
    "Curve",
    "DamagedError",
    "EpochSummary",
    "Evaluation",
    "FileEntry",
    "Manifest",
    "MissingError",
    "Phase",
    "Progress",
    "Run",
    "RunRecord",
    "RunStore",
    "RunStoreError",
    "Scores",
    "StoredGenerator",
    "check_run_name",
    "checkpoint_name",
    "open_store",
    "valid_run_name",
]

FORMAT = 1
"""Format number of run.json and of the manifests. A reader refuses a higher one."""
STALE_SECONDS = 30
"""Age of a heartbeat, in seconds, after which a run counts as dead. The trainer writes one every 1 to 2 seconds."""

GENERATOR_FILE = "generator.safetensors"
"""File of a checkpoint and of an epoch: the generator for drawing (the EMA, if there is one), with its config. Enough
for a consumer."""
READER_FILE = "reader.safetensors"
"""File of a dataset and of a shipped run: the reader that judges generators of these data."""
NETWORKS_FILE = "networks.safetensors"
"""File of a checkpoint: the weights of G and D in training."""
RESUME_FILE = "resume.safetensors"
"""File of a checkpoint: optimizers, counters and the curve of the current epoch."""

RUN_FILE, PROGRESS_FILE, STOP_FILE, MANIFEST_FILE = "run.json", "progress.json", "stop.json", "MANIFEST.json"
SAMPLES_FILE, LOSSES_FILE, METRICS_FILE = "samples.png", "losses.json", "metrics.json"
ARCHIVE = "generators"

RUN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
EPOCH_FOLDER = re.compile(r"([0-9]{4}|[1-9][0-9]{4,})")
STEP_FOLDER = re.compile(r"step_([0-9]{8}|[1-9][0-9]{8,})")
STAGE_FOLDER = re.compile(r"\.stage-step_([0-9]+)-.*")
EVALUATION_FILE = re.compile(rf"{STEP_FOLDER.pattern}\.json")
ARCHIVED_FILE = re.compile(r"([0-9a-f]{64})\.safetensors")

Phase = Literal["starting", "training", "restarting", "stopped", "finished", "failed"]
"""State of a run. `restarting`: the workers failed or left, and start again. `stopped`: ended before the last step,
on request or because its processor time was used up."""

StopRequest = Literal["stop", "leave"]
"""stop.json asks a launch to stop, or its workers to leave, after a checkpoint, so that others take over."""

Curve: TypeAlias = dict[str, list[float | None]]
"""Curve of an epoch: name of a column -> one value per step. None: not finite, or not measured.

The columns are `step` (counted from 1 over the whole run), `d_loss`, `g_loss`, `d_acc_real` and `d_acc_fake` (D's
accuracy, 0 to 1), `penalty` (D's gradient penalty), `d_class_loss`, `g_class_loss`, and `images_per_second`. Losses and
penalties include their weights, and are 0 in recipes without them. Readers ignore columns that they do not know.
"""

Scores: TypeAlias = Mapping[str, float | None]
"""Name of a score (a key of `models.scores.SCORES`) -> its value. None: not finite."""

DetailedScores: TypeAlias = Mapping[str, float | None | list[float] | list[list[int]]]
"""Scores, with `label_accuracy_per_digit` (10,) and `confusion` (10, 10).

Rows of `confusion` are the digits asked for, columns the digits read.
"""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A JSON object of the store. Fields that this version does not know are kept in `extra` and written back."""

    extra: JSON = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: JSON, path: str) -> Self:
        """Return the record with these values, read from `path`.

        A value that does not fit its field counts as missing. A missing field gets its default. Raises `DamagedError`
        if a field without a default is missing.
        """
        extra, known, types = dict(values), {}, get_type_hints(cls)
        for name in types.keys() - {"extra"}:
            with suppress(KeyError, TypeError):
                known[name] = _fit(extra.pop(name), types[name])
        needed = (each.name for each in fields(cls) if each.default is MISSING and each.default_factory is MISSING)
        if missing := [name for name in needed if name not in known]:
            raise DamagedError(f"{path}: has no usable {', '.join(missing)}; it is damaged or of another version")
        return cls(**known, extra=extra)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the fields that are None."""
        values = asdict(self)
        extra = values.pop("extra")
        return {**extra, **{name: value for name, value in values.items() if value is not None}}


@dataclass(frozen=True, kw_only=True)
class RunRecord(Record):
    """run.json: the config and the data of a run."""

    recipe: str
    config: JSON
    """The TrainConfig as JSON."""
    upkeep: JSON | None = None
    """The Upkeep of the first launch as JSON. In records of earlier versions its fields are in `config`."""
    about: Mapping[str, str] | None = None
    """`summary`, `source` and `notes` of the recipe when the run was created."""
    data: Mapping[str, str]
    """SHA-256 of each file of the dataset, by file name."""
    steps_per_epoch: int
    total_steps: int
    class_names: tuple[str, ...] = ()
    """Name of each class; empty if the dataset names none."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version of Python, PyTorch and NumPy at the first launch."""
    resources: Mapping[str, int | bool] = field(default_factory=dict)
    """`workers`, `gpu` and `cpus_per_worker` of the first launch."""
    started: float = 0.0
    """When the run was created, in seconds since 1970. `Run.create` sets it if it is 0."""
    name: str = ""
    """Name of the run. `Run.create` sets it."""
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Progress(Record):
    """progress.json: the progress of a run. Every field has a default, so that files of other versions can be read."""

    phase: Phase = "starting"
    message: str = ""
    """Why the run failed or starts again; while it trains, what was verified when it was resumed."""
    launch_id: str = ""
    """ID of the launch that writes this."""
    step: int = 0
    """Steps done."""
    total_steps: int = 0
    epoch: int = 0
    """Current epoch, counted from 1."""
    epochs: int = 0
    nimg: int = 0
    """Images seen: steps x batch size."""
    images_per_second: float | None = None
    """Mean since this launch began."""
    eta: float | None = None
    """Seconds to the end."""
    world_size: int = 0
    """Number of workers."""
    heartbeat: float | None = None
    """When this was written, in seconds since 1970."""
    cpu_seconds: float | None = None
    """Processor time of all workers over the whole run. Written when a launch ends."""
    token: int | None = None
    """Token of the writer's lease. The run sets it, as in the next two records."""

    @property
    def age(self) -> float | None:
        """Seconds since the heartbeat."""
        return None if self.heartbeat is None else max(time.time() - self.heartbeat, 0.0)

    @property
    def is_stale(self) -> bool:
        """Whether the run has not ended, but its heartbeat is older than `STALE_SECONDS`."""
        return not self._has_ended and self.age is not None and self.age > STALE_SECONDS

    @property
    def is_live(self) -> bool:
        """Whether the run has neither ended nor become stale."""
        return not self._has_ended and not self.is_stale

    @property
    def share(self) -> float:
        """Finished share of the run, from 0 to 1."""
        if self.phase == "finished":
            return 1.0
        return min(self.step / self.total_steps, 1.0) if self.total_steps else 0.0

    @property
    def _has_ended(self) -> bool:
        return self.phase in ("finished", "stopped", "failed")


@dataclass(frozen=True, kw_only=True)
class EpochSummary(Record):
    """metrics.json: summary of a complete epoch. Epoch 0 is before training and has no losses, rates and scores."""

    epoch: int
    step: int
    """Steps done at the end of the epoch."""
    nimg: int
    """Images seen by then."""
    time: float
    """When the epoch ended, in seconds since 1970."""
    seconds: float | None = None
    """Time spent on the epoch, over all launches."""
    images_per_second: float | None = None
    d_loss: float | None = None
    """Mean over the steps of the epoch, as are the next six fields."""
    g_loss: float | None = None
    d_acc_real: float | None = None
    d_acc_fake: float | None = None
    penalty: float | None = None
    d_class_loss: float | None = None
    g_class_loss: float | None = None
    g_lr: float | None = None
    """Learning rate of G at the end of the epoch."""
    d_lr: float | None = None
    """Learning rate of D at the end of the epoch."""
    scores: Scores | None = None
    """Scores of the generator, if it was scored at the end of the epoch."""
    floor: Scores | None = None
    """Scores of the same number of real images, for comparison."""
    count: int | None = None
    """Number of images that were scored; None in runs of earlier versions, which scored 2,000."""
    reader_sha256: str | None = None
    """SHA-256 of the reader that scored them."""
    generator_sha256: str | None = None
    """SHA-256 of the epoch's generator file. The file may have been removed since (`Upkeep.keep_generators`)."""
    token: int | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest(Record):
    """MANIFEST.json: description of a checkpoint, with the size and hash of each file."""

    step: int
    epoch: int
    """Complete epochs."""
    nimg: int
    """Images seen: steps x batch size."""
    world_size: int
    """Number of workers."""
    seconds: float = 0.0
    """Time spent on training, over all launches, without startup."""
    cpu_seconds: float = 0.0
    """Processor time of all workers in that time."""
    fid: float | None = None
    """FID of the generator, if it was scored at this step."""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    """Entry of each file, by its name. `Run.publish_checkpoint` sets it."""
    token: int | None = None
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Evaluation(Record):
    """evaluations/step_*.json: scores of a checkpoint, and those of real images."""

    step: int
    epoch: int
    nimg: int
    count: int
    """Number of generated images."""
    seed: int
    """Seed of the first image; image k has seed + k."""
    reader_sha256: str
    """SHA-256 of the weights of the digit reader that was used."""
    time: float
    """When the scores were computed, in seconds since 1970."""
    generated: DetailedScores
    floor: DetailedScores
    """Scores of `count` real images."""


@dataclass(frozen=True)
class StoredGenerator:
    """A generator of a run: of a checkpoint, of a complete epoch, or of both."""

    step: int
    epoch: int
    """Complete epochs."""
    nimg: int
    """Images seen: steps x batch size."""
    sha256: str
    """SHA-256 of its file."""
    paths: tuple[str, ...]
    """Its files, all of the same content, relative to the run's folder."""


def valid_run_name(name: str) -> bool:
    """Return whether a run may have this name."""
    return RUN_NAME.fullmatch(name) is not None


def check_run_name(name: str) -> None:
    """Raise `RunStoreError` unless a run may have this name."""
    if not valid_run_name(name):
        raise RunStoreError(
            f"{name!r} cannot be the name of a run; use 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first"
        )


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of the checkpoint of a step."""
    return f"step_{_count(step, 'step'):08d}"


def open_store(path_or_uri: str | Path) -> "RunStore":
    """Open a folder of runs: a local path, or any URI that pyarrow opens (file, s3, gs); nothing is created.

    Raises `RunStoreError` for a URI that cannot be opened and for a local path that is not a folder.
    """
    return RunStore(open_storage(path_or_uri))


@dataclass(frozen=True)
class RunStore:
    """A folder of runs on a disk, or a prefix in a bucket."""

    storage: Storage

    @property
    def root(self) -> str:
        """Path of the folder within its filesystem."""
        return self.storage.root

    def run(self, name: str) -> "Run":
        """Return the run of this name, which need not exist; raises `RunStoreError` for an invalid name."""
        return Run(self, name)

    def list_runs(self) -> list["Run"]:
        """Return the runs with a readable run.json, newest start first; none if the folder does not exist."""
        found = []
        for name in self.storage.folders():
            if valid_run_name(name):
                run = Run(self, name)
                with suppress(RunStoreError):  # one bad run must not hide the others
                    found.append((run.read_run().started, name, run))
        if not found:
            self.storage.check_bucket()
        return [run for _, _, run in sorted(found, key=lambda entry: entry[:2], reverse=True)]


@dataclass(frozen=True)
class Run:
    """A run of a store. Read methods raise `MissingError` if a file is missing, `DamagedError` if it is damaged."""

    store: RunStore
    name: str

    def __post_init__(self) -> None:
        check_run_name(self.name)

    @property
    def storage(self) -> Storage:
        """The storage of the run's store."""
        return self.store.storage

    @property
    def path(self) -> str:
        """Path of the run's folder within its filesystem."""
        return self.storage.full_path(self.name)

    def exists(self) -> bool:
        """Return whether the run has a run.json."""
        return self.storage.exists(f"{self.name}/{RUN_FILE}")

    def create(self, record: RunRecord) -> None:
        """Write run.json. Raises `RunStoreError` if the run exists."""
        if self.exists():
            raise RunStoreError(f"{self.path}: this run exists; resume it or choose another name")
        started = record.started or time.time()
        self._write(RUN_FILE, replace(record, name=self.name, started=started, format=FORMAT))

    def extend(self, config: JSON, total_steps: int) -> None:
        """Rewrite run.json with the config and total steps of a longer run."""
        self._write(RUN_FILE, replace(self.read_run(), config=config, total_steps=total_steps))

    def read_run(self) -> RunRecord:
        """Return the content of run.json."""
        return RunRecord.from_json(self._read_with_format(RUN_FILE), f"{self.path}/{RUN_FILE}")

    def write_progress(self, progress: Progress) -> None:
        """Replace progress.json."""
        self._write(PROGRESS_FILE, replace(progress, token=self.storage.token))

    def read_progress(self) -> Progress:
        """Return the content of progress.json, or the defaults if it does not exist."""
        try:
            values = self.storage.read_json(f"{self.name}/{PROGRESS_FILE}")
        except MissingError:
            return Progress()
        return Progress.from_json(values, f"{self.path}/{PROGRESS_FILE}")

    def is_being_trained(self, watch: float = 3.0) -> bool:
        """Return whether a process is training this run: whether its heartbeat advances within `watch` seconds.

        A recent heartbeat is not enough: it may come from a training that was killed since.
        """
        first = self.read_progress()
        deadline = time.monotonic() + watch
        while first.heartbeat is not None and first.is_live and time.monotonic() < deadline:
            now = self.read_progress()
            if now.is_live and now.heartbeat is not None and now.heartbeat > first.heartbeat:
                return True
            time.sleep(0.2)
        return False

    def request_stop(self, launch_id: str, what: StopRequest = "stop") -> None:
        """Ask this launch to stop after a checkpoint, or its workers to leave. Other launches ignore the request."""
        self.storage.write(f"{self.name}/{STOP_FILE}", _encode({"launch_id": launch_id, "what": what}))

    def stop_request(self, launch_id: str) -> StopRequest | None:
        """Return what this launch was asked; None if nothing."""
        try:
            request = self.storage.read_json(f"{self.name}/{STOP_FILE}")
        except DamagedError:  # none, or one that nobody can use
            return None
        if request.get("launch_id") != launch_id:
            return None
        return "leave" if request.get("what") == "leave" else "stop"

    def withdraw_leave(self, launch_id: str) -> None:
        """Withdraw the request that the workers leave, if there is one, so that new workers stay."""
        if self.stop_request(launch_id) == "leave":
            self.storage.remove_file(f"{self.name}/{STOP_FILE}")

    def epochs(self) -> list[int]:
        """Return the complete epochs, ascending."""
        return sorted(epoch for epoch, files in self._epoch_files().items() if METRICS_FILE in files)

    def running_epoch(self) -> int | None:
        """Return the epoch that has a curve and is newer than all complete epochs; None if there is none."""
        files = self._epoch_files()
        complete = max((epoch for epoch in files if METRICS_FILE in files[epoch]), default=-1)
        return max((epoch for epoch in files if LOSSES_FILE in files[epoch] and epoch > complete), default=None)

    def write_samples(self, epoch: int, png: bytes) -> None:
        """Write the sample grid of an epoch, a PNG."""
        self.storage.write(self._epoch_file(epoch, SAMPLES_FILE), png)

    def read_samples(self, epoch: int) -> bytes:
        """Return the sample grid of an epoch, a PNG."""
        return self.storage.read(self._epoch_file(epoch, SAMPLES_FILE))

    def write_losses(self, epoch: int, curve: Curve) -> None:
        """Write or replace the curve of an epoch."""
        self.storage.write(self._epoch_file(epoch, LOSSES_FILE), _encode(curve))

    def read_losses(self, epoch: int) -> Curve:
        """Return the curve of an epoch, complete or not."""
        path = self._epoch_file(epoch, LOSSES_FILE)
        curve = self.storage.read_json(path)
        if not _is_curve(curve):
            raise DamagedError(f"{self.storage.full_path(path)}: is damaged (no lists of numbers of equal length)")
        return curve

    def mend_curves(self, columns: Iterable[str]) -> list[int]:
        """Replace damaged curves of complete epochs by ones whose values are unknown; return these epochs."""
        mended = []
        for epoch in self.epochs():
            try:
                self.read_losses(epoch)
            except MissingError:
                continue
            except DamagedError:
                with suppress(DamagedError):  # without a summary, nobody knows its steps
                    last = self.read_epoch_metrics(epoch).step
                    steps = list(range(last - self.read_run().steps_per_epoch + 1, last + 1))
                    self.write_losses(epoch, {"step": [*steps], **{name: [None] * len(steps) for name in columns}})
                    mended.append(epoch)
        return mended

    def write_epoch_metrics(self, summary: EpochSummary) -> None:
        """Write the summary of an epoch, after its other files: this makes the epoch complete."""
        summary = replace(summary, token=self.storage.token)
        self.storage.write(self._epoch_file(summary.epoch, METRICS_FILE), _encode(summary.to_json()))

    def read_epoch_metrics(self, epoch: int) -> EpochSummary:
        """Return the summary of a complete epoch."""
        path = self._epoch_file(epoch, METRICS_FILE)
        return EpochSummary.from_json(self.storage.read_json(path), self.storage.full_path(path))

    def write_generator(self, epoch: int, content: bytes) -> str:
        """Write the generator file of an epoch, and return its SHA-256 for the epoch's summary.

        Another generator that the epoch has already, because the epoch was trained before, is archived.
        """
        path = self._epoch_file(epoch, GENERATOR_FILE)
        with suppress(MissingError):
            if (old := self.storage.read(path)) != content:
                self.archive_generator(old)
        self.storage.write(path, content)
        return hashlib.sha256(content).hexdigest()

    def read_epoch_generator(self, epoch: int) -> bytes | None:
        """Return the generator file of a complete epoch; None if it is not kept. Raises `DamagedError`."""
        sha256, path = self.read_epoch_metrics(epoch).generator_sha256, self._epoch_file(epoch, GENERATOR_FILE)
        if not sha256 or not self.storage.exists(path):
            return None
        return self.read_generator(path.removeprefix(f"{self.name}/"), sha256)

    def generators(self, read_summary: Callable[[int], EpochSummary] | None = None) -> list[StoredGenerator]:
        """Return the generators of the checkpoints and of the complete epochs, ascending by step, without reading them.

        If a checkpoint and an epoch of one step hold different generators, the checkpoint's comes first.
        `read_summary` returns the summary of an epoch: a reader that lists a run often may hold on to the summaries.
        """
        found: dict[tuple[int, str], StoredGenerator] = {}

        def add(step: int, epoch: int, nimg: int, sha256: str, path: str) -> None:
            known = found.get((step, sha256))
            paths = (*(known.paths if known else ()), path)
            found[step, sha256] = StoredGenerator(step, epoch, nimg, sha256, paths)

        for each in self.checkpoints():
            if entry := each.manifest.files.get(GENERATOR_FILE):
                add(each.step, each.epoch, each.nimg, entry.sha256, f"{each.name}/{GENERATOR_FILE}")
        for epoch in self._epochs_with_generator():
            with suppress(DamagedError):  # one bad summary must not hide the other epochs
                summary = (read_summary or self.read_epoch_metrics)(epoch)
                if summary.generator_sha256:
                    path = self._epoch_file(epoch, GENERATOR_FILE).removeprefix(f"{self.name}/")
                    add(summary.step, epoch, summary.nimg, summary.generator_sha256, path)
        return sorted(found.values(), key=lambda generator: generator.step)

    def read_generator(self, path: str, sha256: str) -> bytes:
        """Return the generator file at a path in the run's folder; raises `DamagedError` unless it has this SHA-256."""
        data = self.storage.read(f"{self.name}/{path}")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DamagedError(f"{self.path}/{path}: is not the generator {sha256}; use another one")
        return data

    def archive_generator(self, content: bytes) -> None:
        """Keep a generator file by its hash, for good."""
        self.storage.write(f"{self.name}/{self.archive_path(hashlib.sha256(content).hexdigest())}", content)

    def archived_generators(self) -> list[str]:
        """Return the SHA-256 of each archived generator."""
        matches = [ARCHIVED_FILE.fullmatch(path) for path in self.storage.files(f"{self.name}/{ARCHIVE}")]
        return sorted(match[1] for match in matches if match)

    def archive_path(self, sha256: str) -> str:
        """Return the path in the run's folder at which a generator is archived, if it is."""
        return f"{ARCHIVE}/{sha256}.safetensors"

    def prune_generators(self, keep_newest: int, keep_best: int | None = None) -> list[int]:
        """Remove the generators of all complete epochs except the newest ones and `keep_best`; returns these epochs."""
        if keep_newest < 1:
            raise RunStoreError(f"keep_newest must be at least 1: got {keep_newest}")
        removed = [epoch for epoch in self._epochs_with_generator()[:-keep_newest] if epoch != keep_best]
        for epoch in removed:
            self.storage.remove_file(self._epoch_file(epoch, GENERATOR_FILE))
        return removed

    def retire(self) -> None:
        """Archive the run's generators and remove all else, so that another run can take its name.

        After an error the same call may be repeated.
        """
        for generator in self.generators():
            for path in generator.paths:
                with suppress(DamagedError):  # nobody can use a damaged one
                    self.archive_generator(self.read_generator(path, generator.sha256))
                    break
        for folder in self.storage.folders(self.name):
            if folder != ARCHIVE:
                self.storage.remove_folder(f"{self.name}/{folder}")
        for file in (PROGRESS_FILE, STOP_FILE, READER_FILE, RUN_FILE):  # the record last: until then the run is here
            self.storage.remove_file(f"{self.name}/{file}")

    def write_reader(self, content: bytes) -> None:
        """Write or replace the reader of the run's data (`trainer/readers.py`), which travels with a shipped run."""
        self.storage.write(f"{self.name}/{READER_FILE}", content)

    def write_evaluation(self, evaluation: Evaluation) -> None:
        """Write or replace the scores of a checkpoint."""
        self.storage.write(self._evaluation_file(evaluation.step), _encode(evaluation.to_json()))

    def read_evaluation(self, step: int) -> Evaluation | None:
        """Return the scores of the checkpoint of a step; None if there are none."""
        path = self._evaluation_file(step)
        try:
            return Evaluation.from_json(self.storage.read_json(path), self.storage.full_path(path))
        except MissingError:
            return None

    def evaluations(self) -> list[Evaluation]:
        """Return the readable evaluations, ascending by step; also those of checkpoints that were removed."""
        found = []
        for path in self.storage.files(f"{self.name}/evaluations"):
            if match := EVALUATION_FILE.fullmatch(path):
                with suppress(DamagedError):  # one bad file must not hide the others
                    found.append(self.read_evaluation(int(match[1])))
        return sorted((each for each in found if each), key=lambda evaluation: evaluation.step)

    def checkpoints(self) -> list["Checkpoint"]:
        """Return the checkpoints with a readable manifest, ascending by step, without verifying their files.

        A checkpoint does not count if an older one has a higher token: a training that had lost its lease wrote it.
        """
        found, steps = [], None
        while steps != (listed := self._steps()):  # list again if a checkpoint was published or removed meanwhile
            found, steps = [checkpoint for step in listed if (checkpoint := self.checkpoint(step))], listed
        tokens = [checkpoint.manifest.token or 0 for checkpoint in found]
        return [each for index, each in enumerate(found) if tokens[index] == max(tokens[: index + 1])]

    def checkpoint(self, step: int) -> "Checkpoint | None":
        """Return a step's checkpoint; None without a readable manifest. Raises `RunStoreError` for a newer format."""
        path = f"{checkpoint_name(step)}/{MANIFEST_FILE}"
        try:
            manifest = Manifest.from_json(self._read_with_format(path), f"{self.path}/{path}")
            if manifest.step != step:
                raise DamagedError(f"{self.path}/{path}: is the manifest of step {manifest.step}; remove the folder")
            _check_files(manifest.files, f"{self.path}/{path}")
        except DamagedError:
            return None
        return Checkpoint(self, manifest)

    def latest_checkpoint(self, verify: bool = True) -> "Checkpoint | None":
        """Return the newest intact checkpoint; without `verify`, the newest one listed. None if there is none.

        Raises `RunStoreError` if the storage does not answer, rather than return an older checkpoint.
        """
        left = self.checkpoints()
        while left:
            checkpoint = left.pop()
            if not verify or checkpoint.is_intact():
                return checkpoint
            if self.checkpoint(checkpoint.step) is None:  # removed while it was read, so there is a newer one
                left = self.checkpoints()
        return None

    def publish_checkpoint(self, manifest: Manifest, files: Mapping[str, bytes | Path]) -> "Checkpoint":
        """Publish a checkpoint: its files, by name, and its manifest, in which this sets `files`.

        If the step already has an intact checkpoint, it is kept and returned; a damaged one, and one of an earlier
        lease, are set aside. After an error nothing is published, and the call may be repeated.
        """
        name = checkpoint_name(manifest.step)
        final = f"{self.name}/{name}"
        _check_files(files, f"{self.path}/{name}")
        if existing := self.checkpoint(manifest.step):
            if (existing.manifest.token or 0) >= (self.storage.token or 0) and existing.is_intact():
                return existing
            self.set_aside(existing)
        self._remove_checkpoint(name)  # a folder without a manifest, left in a bucket by a killed writer

        local = self.storage.is_local
        stage = f"{self.name}/.stage-{name}-{uuid.uuid4().hex}" if local else final
        try:
            entries = {filename: self.storage.put(f"{stage}/{filename}", source) for filename, source in files.items()}
            content = _encode(replace(manifest, files=entries, token=self.storage.token, format=FORMAT).to_json())
            self.storage.put(f"{stage}/{MANIFEST_FILE}", content)
            if local:
                self.storage.rename(stage, final)
        except BaseException:
            if local:
                with suppress(RunStoreError):
                    self.storage.remove_folder(stage)
            raise
        return Checkpoint(self, Manifest.from_json(json.loads(content), f"{self.path}/{name}/{MANIFEST_FILE}"))

    def set_aside(self, checkpoint: "Checkpoint") -> None:
        """Take a checkpoint that is damaged or void out of the list: rename it on a disk, remove it in a bucket."""
        if self.storage.is_local:
            aside = f"set-aside-{checkpoint.name}-{uuid.uuid4().hex}"
            self.storage.rename(f"{self.name}/{checkpoint.name}", f"{self.name}/{aside}")
        else:
            self._remove_checkpoint(checkpoint.name)

    def prune_checkpoints(self, keep_newest: int, keep_best: int | None = None, archive: bool = False) -> list[int]:
        """Remove all checkpoints except the `keep_newest` newest and step `keep_best`; return the removed steps.

        With `archive`, a generator that no epoch holds is archived before its checkpoint is removed.

        This also removes what killed writers have left: staging folders, and step folders without a readable manifest.
        Folders newer than the newest checkpoint stay, because a writer may still be at work on them.
        """
        if keep_newest < 1:
            raise RunStoreError(f"keep_newest must be at least 1: got {keep_newest}")
        checkpoints = self.checkpoints()
        steps = [checkpoint.step for checkpoint in checkpoints]
        newest, kept = max(steps, default=-1), {*steps[-keep_newest:], keep_best}
        for checkpoint in checkpoints if archive else ():
            if checkpoint.step not in kept and not self._epoch_holds(checkpoint):
                with suppress(DamagedError):  # nobody can use a damaged one
                    self.archive_generator(checkpoint.read(GENERATOR_FILE))
        for name in self.storage.folders(self.name):
            folder, stage = STEP_FOLDER.fullmatch(name), STAGE_FOLDER.fullmatch(name)
            old = folder and int(folder[1]) < newest and int(folder[1]) not in kept
            if old or (stage and int(stage[1]) <= newest):
                self._remove_checkpoint(name)
        return [step for step in steps if step not in kept]

    def _write(self, filename: str, record: Record) -> None:
        self.storage.write(f"{self.name}/{filename}", _encode(record.to_json()))

    def _read_with_format(self, path: str) -> JSON:
        values = self.storage.read_json(f"{self.name}/{path}")
        number = values.get("format")
        if not isinstance(number, int):
            raise DamagedError(f"{self.path}/{path}: is damaged (no format number); remove it")
        if number > FORMAT:
            raise RunStoreError(
                f"{self.path}/{path}: is of format {number}, written by a newer version; update this one"
            )
        return values

    def _remove_checkpoint(self, folder: str) -> None:
        """Delete a checkpoint, its manifest first, so that a partly deleted checkpoint does not count as one."""
        self.storage.remove_file(f"{self.name}/{folder}/{MANIFEST_FILE}")
        self.storage.remove_folder(f"{self.name}/{folder}")

    def _epoch_holds(self, checkpoint: "Checkpoint") -> bool:
        """Return whether a checkpoint has no generator, or the same as the last complete epoch at that step."""
        entry = checkpoint.manifest.files.get(GENERATOR_FILE)
        try:
            return not entry or entry.sha256 == self.read_epoch_metrics(checkpoint.epoch).generator_sha256
        except DamagedError:
            return False

    def _epochs_with_generator(self) -> list[int]:
        needed = {GENERATOR_FILE, METRICS_FILE}
        return sorted(epoch for epoch, files in self._epoch_files().items() if needed <= files)

    def _steps(self) -> list[int]:
        matches = [STEP_FOLDER.fullmatch(name) for name in self.storage.folders(self.name)]
        return sorted(int(match[1]) for match in matches if match)

    def _epoch_file(self, epoch: int, filename: str) -> str:
        return f"{self.name}/epochs/{_count(epoch, 'epoch'):04d}/{filename}"

    def _evaluation_file(self, step: int) -> str:
        return f"{self.name}/evaluations/{checkpoint_name(step)}.json"

    def _epoch_files(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for path in self.storage.files(f"{self.name}/epochs"):
            folder, _, filename = path.partition("/")
            if EPOCH_FOLDER.fullmatch(folder):
                found.setdefault(int(folder), set()).add(filename)
        return found


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint."""

    run: Run
    manifest: Manifest = field(hash=False, repr=False)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.manifest.step

    @property
    def epoch(self) -> int:
        """Complete epochs."""
        return self.manifest.epoch

    @property
    def nimg(self) -> int:
        """Images seen: steps x batch size."""
        return self.manifest.nimg

    @property
    def name(self) -> str:
        """Name of the checkpoint's folder."""
        return checkpoint_name(self.step)

    def read(self, filename: str) -> bytes:
        """Return the content of a file; raises `DamagedError` unless it agrees with the manifest."""
        if filename not in self.manifest.files:
            known = ", ".join(self.manifest.files)
            raise RunStoreError(f"{self._full_path(filename)}: the checkpoint has no such file, only {known}")
        data = self.run.storage.read(f"{self.run.name}/{self.name}/{filename}")
        self._check(filename, FileEntry(len(data), hashlib.sha256(data).hexdigest()))
        return data

    def verify(self) -> None:
        """Compare all files with the manifest, without loading them into memory; raises `DamagedError`."""
        for filename in self.manifest.files:
            self._check(filename, self.run.storage.entry(f"{self.run.name}/{self.name}/{filename}"))

    def is_intact(self) -> bool:
        """Return whether `verify` passes. Raises `RunStoreError` if the storage does not answer."""
        try:
            self.verify()
        except DamagedError:
            return False
        return True

    def _check(self, filename: str, entry: FileEntry) -> None:
        if entry != self.manifest.files[filename]:
            raise DamagedError(
                f"{self._full_path(filename)}: is damaged ({entry.bytes} bytes, not those of the manifest); "
                "use another checkpoint"
            )

    def _full_path(self, filename: str) -> str:
        return f"{self.run.path}/{self.name}/{filename}"


def _count(value: int, what: str) -> int:
    """Return the value as an integer of at least 0, for use in a path; raise `RunStoreError` for any other value."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise RunStoreError(f"{what} must be an integer of at least 0: got {value!r}")
    return number


def _check_files(files: Mapping[str, object], path: str) -> None:
    """Raise `DamagedError` unless there are files and their names are valid: no path, and not the manifest's name."""
    if not files:
        raise DamagedError(f"{path}: a checkpoint needs at least one file")
    for name in files:
        if not FILE_NAME.fullmatch(name) or name == MANIFEST_FILE:
            raise DamagedError(f"{path}: {name!r} cannot be a file of a checkpoint; use a-z, 0-9, '.', '_' and '-'")


def _is_curve(values: JSON) -> TypeGuard[Curve]:
    """Return whether all values of a JSON object are lists of numbers and nulls, of equal length."""
    columns = list(values.values())
    are_lists = all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns)
    return are_lists and all(type(item) in (float, int, NoneType) for column in columns for item in column)


def _fit(value: Any, kind: Any) -> Any:
    """Convert a JSON value to a type annotation, for example tuple[str, ...]; raise `TypeError` if it does not fit."""
    outer, inner = get_origin(kind), get_args(kind)
    if kind is Any or type(value) is kind or (outer is Literal and value in inner):
        return value
    if kind is float and type(value) is int:
        return value
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind is FileEntry and isinstance(value, dict):
        return FileEntry(_fit(value.get("bytes"), int), _fit(value.get("sha256"), str))
    if outer is tuple and isinstance(value, list):
        return tuple(_fit(item, inner[0]) for item in value)
    if outer is list and isinstance(value, list):
        return [_fit(item, inner[0]) for item in value]
    if outer in (Mapping, dict) and isinstance(value, dict):
        return {key: _fit(item, inner[1]) for key, item in value.items()}
    if outer in (UnionType, Union):
        for each in inner:
            with suppress(TypeError):
                return _fit(value, each)
    raise TypeError(f"{value!r} is not of type {kind}")


def _encode(value: JSON) -> bytes:
    return json.dumps(_finite(value), allow_nan=False).encode()


def _finite(value: Any) -> Any:
    """Return the value with each infinite or NaN float replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
