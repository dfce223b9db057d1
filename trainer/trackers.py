"""Where a run is exported to: CSV files, TensorBoard's event files, or MLflow.

Each tracker first reads back what is there and writes only what is missing, so an export that is repeated, or goes on
after an interruption, writes nothing twice. A step that a training does again after a failure keeps the number that was
exported first; the CSV files alone follow the run store.
"""

import csv
import functools
import io
import itertools
import json
import operator
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from models.files import written_whole
from models.scores import SCORES
from trainer.measured import EPOCH_FIELDS, Epoch, Number, Reading, evaluation_numbers
from trainer.run_store import RUN_FILE, DamagedError, Evaluation, Run, RunRecord, StoredGenerator, checkpoint_name

RECORD_FILE, CONFIG_FILE = "record.json", "config.json"
BATCH = 1000
"""Largest number of metrics that MLflow takes in one request."""
PARAMS = 100
"""Largest number of parameters that MLflow takes in one request."""
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""Phase of a run that has ended -> its status in MLflow."""


class TrackerError(ValueError):
    """A tracker cannot be used; the message says why, in one line."""


class Tracker(Protocol):
    """A place that a run is exported to. Its methods raise `TrackerError` if what they write cannot be stored there."""

    new: Counter[str]
    """What has been written so far, by kind: numbers, pictures, files."""

    def write(self, reading: Reading) -> None:
        """Write what a reading of the run has and the tracker has not."""

    def finish(self, reading: Reading, generator: StoredGenerator | None, content: bytes | None) -> None:
        """Write what is known at the end: the newest generator and, with `content`, its file."""


class CsvFiles:
    """CSV and JSON files and the sample grids, in a subfolder of the run's name.

    The files are rewritten from the run store, so that they always hold what it holds, each number exactly.
    """

    def __init__(self, out: str, run: Run) -> None:
        self.new: Counter[str] = Counter()
        self._folder = _run_folder(out, run.read_run())
        self._epochs: dict[int, Epoch] = {}

    def write(self, reading: Reading) -> None:
        """Rewrite the files whose content has changed."""
        for epoch in reading.epochs:
            self._epochs[epoch.number] = epoch
        epochs = [self._epochs[number] for number in sorted(self._epochs)]
        names = dict.fromkeys(name for epoch in epochs for name in epoch.curve if name != "step")
        self._put_table("curves.csv", ["step", "epoch", *names], _curve_rows(epochs, list(names)))
        self._put_table("epochs.csv", ["epoch", "step", "nimg", "time", *EPOCH_FIELDS], _epoch_rows(epochs))
        header = ["name", "epoch", "step", "generated", "real", "count"]
        self._put_table("scores.csv", header, _score_rows(epochs))
        self._put_table("evaluations.csv", header, _evaluation_rows(reading.evaluations))
        for each in reading.evaluations:
            self._put(f"evaluations/{checkpoint_name(each.step)}.json", _json(each.to_json()))
        self._put(CONFIG_FILE, _json(reading.record.config))
        self._put("progress.json", _json(reading.progress.to_json()))
        for epoch in reading.epochs:
            if png := _samples(reading, epoch):
                self._put(f"samples/{epoch.number:04d}.png", png)

    def finish(self, reading: Reading, generator: StoredGenerator | None, content: bytes | None) -> None:
        """Write the generator's file."""
        if generator and content:
            self._put(f"generators/{checkpoint_name(generator.step)}.safetensors", content)

    def _put_table(self, name: str, header: list[str], rows: Iterable[list[Any]]) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")  # writes a float as repr does, so that it reads back exactly
        table.writerow(header)
        table.writerows(rows)
        self._put(name, text.getvalue().encode())

    def _put(self, name: str, content: bytes) -> None:
        if _put(self._folder / name, content):
            self.new["files"] += 1


def _curve_rows(epochs: Iterable[Epoch], names: list[str]) -> Iterator[list[Any]]:
    for epoch in epochs:
        unknown: list[float | None] = [None] * len(epoch.curve.get("step", []))
        columns = [epoch.curve.get(name, unknown) for name in names]
        for step, *values in zip(epoch.curve.get("step", []), *columns, strict=True):
            yield [step, epoch.number, *values]


def _epoch_rows(epochs: Iterable[Epoch]) -> Iterator[list[Any]]:
    for summary in (epoch.summary for epoch in epochs if epoch.summary):
        yield [summary.epoch, summary.step, summary.nimg, summary.time, *(getattr(summary, n) for n in EPOCH_FIELDS)]


def _score_rows(epochs: Iterable[Epoch]) -> Iterator[list[Any]]:
    for summary in (epoch.summary for epoch in epochs if epoch.summary):
        real = summary.floor or {}
        for name, value in (summary.scores or {}).items():
            yield [name, summary.epoch, summary.step, value, real.get(name), summary.count]


def _evaluation_rows(evaluations: Iterable[Evaluation]) -> Iterator[list[Any]]:
    for each in evaluations:
        for name, (value, real) in _scores(each).items():
            yield [name, each.epoch, each.step, value, real, each.count]


def _scores(evaluation: Evaluation) -> dict[str, tuple[float | None, float | None]]:
    """Return name -> (score of generated images, score of real ones), class by class for the label accuracy."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for number in evaluation_numbers(evaluation):
        name = number.name.removeprefix("evaluation/")
        generated, real = found.get(name, (None, None))
        found[name] = (generated, number.value) if number.is_real else (number.value, real)
    return found


class TensorBoard:
    """TensorBoard's event files, in a subfolder of the run's name.

    Scores of real images go to the folder `real` in it, under the same names, so that TensorBoard draws both into one
    chart. A number is a `simple_value`, which every reader of event files knows: float32, where the store has float64.
    """

    def __init__(self, out: str, run: Run) -> None:
        self.new: Counter[str] = Counter()
        try:
            from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # optional, as in `_EventFolder`
            from tensorboard.plugins.text.summary_v2 import text_pb
        except ImportError as error:
            raise _missing("tensorboard", error) from error
        self._hparams_pb, self._text_pb = hparams_pb, text_pb
        folder = _run_folder(out, run.read_run())
        self._generated, self._real = _EventFolder(folder), _EventFolder(folder / "real")

    def write(self, reading: Reading) -> None:
        """Write the numbers, sample grids and texts that the event files have not."""
        record = reading.record
        self._write_text("config", record.total_steps, record.started, _config_text(record))
        settings = self._hparams_pb(dict(_flat(record.config)), record.name, record.started)
        self._generated.add(settings.value, record.total_steps, record.started)
        for epoch in reading.epochs:
            self._write_numbers(epoch.numbers())
            self._write_picture(reading, epoch)
        for evaluation in reading.evaluations:
            self._write_numbers(evaluation_numbers(evaluation))
            self._write_text("evaluation", evaluation.step, evaluation.time, _evaluation_text(evaluation))
        self._generated.flush()
        self._real.flush()

    def finish(self, reading: Reading, generator: StoredGenerator | None, content: bytes | None) -> None:
        """Close the files. Raises `TrackerError` for a generator's file, because TensorBoard keeps no files."""
        self._generated.close()
        self._real.close()
        if content:
            raise TrackerError("TensorBoard keeps no files: export the generator to csv or mlflow")

    def _write_numbers(self, numbers: Iterable[Number]) -> None:
        when = operator.attrgetter("is_real", "step", "time")
        for (is_real, step, time), group in itertools.groupby(numbers, when):
            folder = self._real if is_real else self._generated
            values = [folder.value(tag=each.name, simple_value=each.value) for each in group]
            self.new["numbers"] += folder.add(values, step, time)

    def _write_picture(self, reading: Reading, epoch: Epoch) -> None:
        summary = epoch.summary
        if summary is None or self._generated.has("samples", summary.step):
            return
        if png := _samples(reading, epoch):
            value = self._generated.value(tag="samples")
            value.image.width, value.image.height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
            value.image.encoded_image_string = png
            self.new["pictures"] += self._generated.add([value], summary.step, summary.time)

    def _write_text(self, tag: str, step: int, time: float, text: str) -> None:
        self.new["texts"] += self._generated.add(self._text_pb(tag, text).value, step, time)


class _EventFolder:
    """The event files of a folder: what they hold, and a new one, which begins when there is something to write."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.value = Summary.Value
        self._event, self._summary = Event, Summary
        self._open = functools.partial(EventFileWriter, str(folder))
        self._writer: Any = None
        self._there: set[tuple[str, int]] = set()
        for path in sorted(folder.glob("events.out.tfevents.*")):
            for record in RawEventFileLoader(str(path)).Load():  # ends at a record that was not written to its end
                event = Event.FromString(record)
                self._there.update((value.tag, event.step) for value in event.summary.value)

    def has(self, tag: str, step: int) -> bool:
        """Return whether there is a value of this tag and step."""
        return (tag, step) in self._there

    def add(self, values: Iterable[Any], step: int, time: float) -> int:
        """Write the values whose tag has none at this step yet; return their number."""
        missing = [value for value in values if not self.has(value.tag, step)]
        if missing:
            self._writer = self._writer or self._open()
            self._writer.add_event(self._event(wall_time=time, step=step, summary=self._summary(value=missing)))
            self._there.update((value.tag, step) for value in missing)
        return len(missing)

    def flush(self) -> None:
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        if self._writer:
            self._writer.close()


class MLflow:
    """A run of an MLflow server or database, in an experiment named after the run store.

    `out` is a tracking URI, or a folder, which then holds a SQLite database and the artifacts: MLflow's own format for
    folders is one that it does not write any more.
    """

    def __init__(self, out: str, run: Run) -> None:
        self.new: Counter[str] = Counter()
        # Before the import. An export to a file sends nothing to others, and a server that is not there is told soon.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        try:
            from mlflow import MlflowClient  # optional
            from mlflow.entities import Metric, Param, RunTag
        except ImportError as error:
            raise _missing("mlflow", error) from error
        self._metric, self._param, self._tag = Metric, Param, RunTag
        artifacts = None
        if not re.match(r"[a-z][a-z0-9+.-]+:", out):
            folder = Path(out).expanduser().resolve()
            with _errors(out):
                folder.mkdir(parents=True, exist_ok=True)
            out, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._uri = out
        self._has_read_back = False
        self._metrics: set[tuple[str, int]] = set()
        self._artifacts: set[str] = set()
        self._params: set[str] = set()
        self._tags: dict[str, str] = {}
        self._status = ""
        with _errors(self._uri):
            self._client = MlflowClient(out)
            self._run_id = self._find_run(run) or self._create_run(run, artifacts)

    def write(self, reading: Reading) -> None:
        """Write the parameters, tags, metrics and sample grids that the run has not."""
        try:
            with _errors(self._uri):
                self._read_back()
                self._write_settings(reading)
                numbers = itertools.chain(
                    *(epoch.numbers() for epoch in reading.epochs),
                    *(evaluation_numbers(each) for each in reading.evaluations),
                )
                self._write_numbers(numbers)
                self._write_files(reading)
                self._write_status(reading)
        except TrackerError:
            self._has_read_back = False  # a request without an answer may have been carried out
            raise

    def finish(self, reading: Reading, generator: StoredGenerator | None, content: bytes | None) -> None:
        """Write the hash of the newest generator as a tag, and its file."""
        if generator:
            with _errors(self._uri):
                self._write_tags({"digitforge.generator": generator.sha256})
                if content:
                    self._write_file(f"generators/{checkpoint_name(generator.step)}.safetensors", content)

    def _find_run(self, run: Run) -> str | None:
        """Return the ID of the MLflow run of an earlier export; None if there is none."""
        experiment = self._client.get_experiment_by_name(_experiment(run))
        if experiment is None:
            return None
        query = f"tags.`digitforge.run` = '{_identity(run.read_run())}'"
        found = self._client.search_runs([experiment.experiment_id], query, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create_run(self, run: Run, artifacts: str | None) -> str:
        record, name = run.read_run(), _experiment(run)
        experiment = self._client.get_experiment_by_name(name)
        # The tag lets MLflow open the experiment with its pages for training, not with those for language models.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        number = experiment.experiment_id if experiment else self._client.create_experiment(name, artifacts, kind)
        tags = {"digitforge.run": _identity(record), "mlflow.note.content": (record.about or {}).get("summary", "")}
        created = self._client.create_run(number, int(record.started * 1000), tags, run_name=record.name)
        return str(created.info.run_id)

    def _read_back(self) -> None:
        """Read what the run has already, once."""
        if self._has_read_back:
            return
        run = self._client.get_run(self._run_id)
        self._params, self._tags, self._status = set(run.data.params), dict(run.data.tags), run.info.status
        histories = {name: self._client.get_metric_history(self._run_id, name) for name in run.data.metrics}
        self._artifacts = set()
        for file in self._client.list_artifacts(self._run_id):
            self._artifacts |= {file.path}
            if file.is_dir:
                self._artifacts |= {each.path for each in self._client.list_artifacts(self._run_id, file.path)}
        self._metrics = {(name, metric.step) for name, history in histories.items() for metric in history}
        self._has_read_back = True

    def _write_settings(self, reading: Reading) -> None:
        record, progress = reading.record, reading.progress
        params = [(name, str(value)) for name, value in _flat(record.config) if name not in self._params]
        for first in range(0, len(params), PARAMS):
            chunk = params[first : first + PARAMS]
            self._client.log_batch(self._run_id, params=[self._param(*each) for each in chunk])
            self._params |= {name for name, _ in chunk}
            self.new["parameters"] += len(chunk)
        if self._tags.get("digitforge.total_steps") != str(record.total_steps):
            self._artifacts.discard(RECORD_FILE)  # the run was lengthened, or is new
        versions = {f"digitforge.{name}": version for name, version in record.versions.items()}
        tags = {"recipe": record.recipe, "phase": progress.phase, "total_steps": str(record.total_steps)}
        self._write_tags({f"digitforge.{name}": value for name, value in tags.items()} | versions)

    def _write_tags(self, tags: Mapping[str, str]) -> None:
        changed = {name: value for name, value in tags.items() if self._tags.get(name) != value}
        if changed:
            self._client.log_batch(self._run_id, tags=[self._tag(*each) for each in changed.items()])
            self._tags |= changed
            self.new["tags"] += len(changed)

    def _write_numbers(self, numbers: Iterable[Number]) -> None:
        named = ((f"{each.name}.real" if each.is_real else each.name, each) for each in numbers)
        missing = [(name, each) for name, each in named if (name, each.step) not in self._metrics]
        for first in range(0, len(missing), BATCH):
            chunk = missing[first : first + BATCH]
            metrics = [self._metric(name, each.value, int(each.time * 1000), each.step) for name, each in chunk]
            self._client.log_batch(self._run_id, metrics=metrics)
            self._metrics |= {(name, each.step) for name, each in chunk}
            self.new["numbers"] += len(chunk)

    def _write_files(self, reading: Reading) -> None:
        for epoch in reading.epochs:
            name = f"samples/{epoch.number:04d}.png"
            if name not in self._artifacts and (png := _samples(reading, epoch)):
                self._write_file(name, png)
        self._write_file(RECORD_FILE, _json(reading.record.to_json()))
        for each in reading.evaluations:
            self._write_file(f"evaluations/{checkpoint_name(each.step)}.json", _json(each.to_json()))

    def _write_file(self, name: str, content: bytes) -> None:
        if name in self._artifacts:
            return
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path.name)
            file.write_bytes(content)
            self._client.log_artifact(self._run_id, str(file), str(path.parent) if path.parent.name else None)
        self._artifacts |= {name}
        self.new["files"] += 1

    def _write_status(self, reading: Reading) -> None:
        progress = reading.progress
        status = STATUS.get(progress.phase, "KILLED" if progress.is_stale else "RUNNING")
        if status == self._status:
            return
        if status == "RUNNING":
            self._client.update_run(self._run_id, status)
        else:
            end = None if progress.heartbeat is None else int(progress.heartbeat * 1000)
            self._client.set_terminated(self._run_id, status, end)
        self._status = status


TRACKERS: Mapping[str, Callable[[str, Run], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "csv": CsvFiles,
}
"""Name -> tracker."""


def _missing(package: str, error: ImportError) -> TrackerError:
    return TrackerError(f"--to {package} needs the package {error.name}: pip install -e '.[export]'")


@contextmanager
def _errors(place: str) -> Iterator[None]:
    """Raise `TrackerError` for what MLflow, its database or the disk report."""
    from mlflow.exceptions import MlflowException

    known: tuple[type[Exception], ...] = (MlflowException, OSError)
    with suppress(ImportError):  # an MLflow server needs no database here
        from sqlalchemy.exc import SQLAlchemyError

        known += (SQLAlchemyError,)
    try:
        yield
    except ImportError as error:
        raise TrackerError(f"{place}: needs the package {error.name}, which is not installed") from error
    except known as error:
        raise TrackerError(f"{place}: {str(error).strip().splitlines()[0]}") from error


def _experiment(run: Run) -> str:
    return f"DigitForge/{PurePosixPath(run.store.root).name}"


def _identity(record: RunRecord) -> str:
    """Return what tells a run from another one of the same name."""
    return f"{record.name} {record.started!r}"


def _run_folder(out: str, record: RunRecord) -> Path:
    """Return the run's folder in `out`, after noting in it whose it is; raise `TrackerError` if it is another run's."""
    folder = Path(out).expanduser() / record.name
    if (folder / RUN_FILE).exists():
        raise TrackerError(f"{folder}: is a run of a run store; choose another --out")
    with suppress(OSError):
        try:
            started = json.loads((folder / RECORD_FILE).read_bytes())["started"]
        except (ValueError, KeyError, TypeError) as error:
            raise TrackerError(f"{folder / RECORD_FILE}: is damaged; choose another --out") from error
        if started != record.started:
            raise TrackerError(f"{folder}: has another run of this name; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _put(folder / RECORD_FILE, _json(record.to_json()))
    except OSError as error:
        raise TrackerError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    return folder


def _put(path: Path, content: bytes) -> bool:
    """Write a file unless it has this content; return whether it was written."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(content)
    return True


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _samples(reading: Reading, epoch: Epoch) -> bytes | None:
    """Return the sample grid of an epoch, a PNG; None if it has no readable one yet."""
    try:
        return reading.run.read_samples(epoch.number) if epoch.summary else None
    except DamagedError:
        return None


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield the fields of a config; those of the model as `model.NAME`, and lists as JSON."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _config_text(record: RunRecord) -> str:
    """Return a run's config as a Markdown table."""
    rows = [("recipe", record.recipe), *_flat(record.config)]
    return "\n".join(
        ["| setting | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in dict(rows).items())]
    )


def _evaluation_text(evaluation: Evaluation) -> str:
    """Return the scores of an evaluation as a Markdown table."""
    scores = _scores(evaluation)
    lines = [
        f"{evaluation.count:,} pictures, seeds from {evaluation.seed}",
        "",
        "| score | generated | real |",
        "|---|---|---|",
    ]
    for name, score in SCORES.items():
        if name in scores:
            shown = ("" if value is None else score.show(value) for value in scores[name])
            lines.append(f"| {score.title} | {' | '.join(shown)} |")
    return "\n".join(lines)
