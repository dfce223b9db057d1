"""`python -m trainer export`: every number of a run arrives, once, in CSV files, TensorBoard and MLflow."""

import csv
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import found
from tests.imports import ROOT
from tests.sample_run import being_trained, evaluation, model_config, write_checkpoint, write_epoch, write_run
from tests.training import KilledError, mlp_config, train_here
from tools.programs import MissingProgramError
from trainer import export
from trainer.__main__ import main
from trainer.config import Upkeep
from trainer.export import follow
from trainer.measured import EPOCH_FIELDS, Reader
from trainer.run_store import GENERATOR_FILE, Run, open_store
from trainer.storage import RunStoreError
from trainer.trackers import CsvFiles, MLflow, TensorBoard, Tracker

OLD_RUNS = ROOT / "tests" / "golden" / "runs"
"""Runs that an earlier version has written, without scores."""


def need(package: str) -> None:
    """Skip the test if an optional package is missing; under CI, fail."""

    def find() -> str:
        if importlib.util.find_spec(package) is None:
            raise MissingProgramError(f"{package} is not installed: pip install -e '.[export]'")
        return package

    found(find)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of three epochs, two of them scored, with an evaluation."""
    run = write_run(tmp_path_factory.mktemp("runs"), scored=[1, 3], keeps_generators=True)
    detailed = evaluation(150).generated | {"label_accuracy_per_digit": [0.9, 1.0], "confusion": [[9, 1], [0, 10]]}
    run.write_evaluation(evaluation(150, generated=detailed))
    return run


def command(run: Run, to: str, out: object, *more: str) -> list[str]:
    return ["export", run.name, "--runs", run.store.root, "--to", to, "--out", str(out), *more]


def numbers_of(run: Run) -> dict[tuple[str, int, bool], float]:
    """Return (name, step, whether of real images) -> value for each number, as the run store has it."""
    expected: dict[tuple[str, int, bool], float | None] = {}
    for epoch in run.epochs():
        summary = run.read_epoch_metrics(epoch)
        for name, values in (run.read_losses(epoch) if epoch else {}).items():
            if name != "step":
                steps = range(summary.step - len(values) + 1, summary.step + 1)
                expected |= {(f"train/{name}", step, False): value for step, value in zip(steps, values, strict=True)}
        expected |= {(f"epoch/{name}", summary.step, False): getattr(summary, name) for name in EPOCH_FIELDS}
        for scores, is_real in ((summary.scores, False), (summary.floor, True)):
            expected |= {(f"scores/{name}", summary.step, is_real): value for name, value in (scores or {}).items()}
    for each in run.evaluations():
        for detailed, is_real in ((each.generated, False), (each.floor, True)):
            for name, value in detailed.items():
                if isinstance(value, float):
                    expected[f"evaluation/{name}", each.step, is_real] = value
                elif name == "label_accuracy_per_digit":
                    shares = dict(enumerate(value or ()))
                    expected |= {(f"evaluation/label_accuracy.{k}", each.step, is_real): v for k, v in shares.items()}
    return {key: value for key, value in expected.items() if value is not None}


def test_the_csv_files_hold_every_number_exactly(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(run, "csv", tmp_path, "--generator")) == 0
    folder = tmp_path / run.name
    read: dict[tuple[str, int, bool], float] = {}
    for file, group in (("curves.csv", "train"), ("epochs.csv", "epoch")):
        for row in csv.DictReader((folder / file).open()):
            step = int(row.pop("step"))
            read |= {(f"{group}/{name}", step, False): float(text) for name, text in row.items() if text}
    read = {key: value for key, value in read.items() if key[0].split("/")[1] not in ("epoch", "nimg", "time")}
    for file, group in (("scores.csv", "scores"), ("evaluations.csv", "evaluation")):
        for row in csv.DictReader((folder / file).open()):
            for column, is_real in (("generated", False), ("real", True)):
                if row[column]:
                    read[f"{group}/{row['name']}", int(row["step"]), is_real] = float(row[column])
    assert read == numbers_of(run)
    assert json.loads((folder / "config.json").read_text()) == run.read_run().config
    assert json.loads((folder / "evaluations" / "step_00000150.json").read_text()) == run.evaluations()[0].to_json()
    assert (folder / "samples" / "0003.png").read_bytes() == run.read_samples(3)
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert (folder / "generators" / "step_00000150.safetensors").read_bytes() == checkpoint.read(GENERATOR_FILE)

    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    assert main(command(run, "csv", tmp_path)) == 0
    assert "nothing new" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files


@pytest.mark.parametrize("name", ["conv-cgan", "forge", "gan"])
def test_a_run_of_an_earlier_version_is_exported(name: str, tmp_path: Path) -> None:
    run = open_store(OLD_RUNS).run(name)
    assert main(command(run, "csv", tmp_path)) == 0
    rows = list(csv.DictReader((tmp_path / name / "curves.csv").open()))
    curve = run.read_losses(1)
    assert [float(row["d_loss"]) for row in rows] == curve["d_loss"]
    assert [float(row["step"]) for row in rows] == curve["step"]


def test_mistakes_are_told_in_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: list[str], message: str) -> None:
        capsys.readouterr()
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

    fails(["export", "no-such-run", *command(run, "csv", tmp_path)[2:]], "has no run 'no-such-run'; it has: quick-1")
    fails(command(run, "csv", run.store.root), "is a run of a run store")
    fails(command(run, "tensorboard", tmp_path, "--generator"), "--generator needs --to csv or mlflow")
    (tmp_path / "file").touch()
    fails(command(run, "csv", tmp_path / "file"), "cannot be written")
    other = write_run(tmp_path / "others", epochs=0, checkpoints=False)
    assert main(command(other, "csv", tmp_path)) == 0
    fails(command(run, "csv", tmp_path), "has another run of this name")
    fails(command(other, "csv", tmp_path, "--generator"), "has no generator to export")
    for package in ("tensorboard", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
        fails(command(run, package, tmp_path), "pip install -e '.[export]'")


def test_a_damaged_epoch_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "runs", checkpoints=False)
    Path(run.path, "epochs", "0002", "losses.json").write_text("{")
    assert main(command(run, "csv", tmp_path)) == 0
    assert "left out" in (error := capsys.readouterr().err)
    assert "0002/losses.json" in error
    epochs = Counter(row["epoch"] for row in csv.DictReader((tmp_path / run.name / "curves.csv").open()))
    assert epochs == {"1": 50, "3": 50}


def test_steps_of_an_epoch_are_spread_over_its_time(run: Run) -> None:
    reading = Reader(run).read()
    epoch = replace(reading.epochs[2], end=1000.0, seconds=100.0)
    times = {number.step: number.time for number in epoch.numbers() if number.name == "train/d_loss"}
    assert times == {step: pytest.approx(1000 - 2 * (100 - step)) for step in range(51, 101)}


def event_files(folder: Path) -> Any:
    """Return what TensorBoard reads in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars_of(folder: Path) -> Counter[tuple[str, int, bool, float]]:
    """Return how often TensorBoard reads each (name, step, whether of real images, value)."""
    return Counter(
        (name, scalar.step, is_real, scalar.value)
        for part, is_real in ((folder, False), (folder / "real", True))
        if part.exists()
        for read in [event_files(part)]
        for name in read.Tags()["scalars"]
        for scalar in read.Scalars(name)
    )


def mlflow_run(uri: str) -> Any:
    """Return the only run of the only experiment of ours."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name LIKE 'DigitForge/%'")
    (found,) = client.search_runs([experiment.experiment_id])
    return found


def metrics_of(uri: str) -> Counter[tuple[str, int, bool, float]]:
    """Return how often MLflow has each (name, step, whether of real images, value)."""
    from mlflow import MlflowClient

    run = mlflow_run(uri)
    return Counter(
        (name.removesuffix(".real"), metric.step, name.endswith(".real"), metric.value)
        for name in run.data.metrics
        for metric in MlflowClient(uri).get_metric_history(run.info.run_id, name)
    )


def in_float32(run: Run) -> Counter[tuple[str, int, bool, float]]:
    return Counter((*key, float(np.float32(value))) for key, value in numbers_of(run).items())


def test_tensorboard_reads_every_number_once(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("tensorboard")
    assert main(command(run, "tensorboard", tmp_path)) == 0
    folder = tmp_path / run.name
    assert scalars_of(folder) == in_float32(run)
    read = event_files(folder)
    samples = {image.step: image.encoded_image_string for image in read.Images("samples")}
    assert samples == {50 * epoch: run.read_samples(epoch) for epoch in run.epochs()}
    assert {image.width for image in read.Images("samples")} == {280}
    times = {scalar.step: scalar.wall_time for scalar in read.Scalars("scores/fid")}
    assert times == {50 * epoch: run.read_epoch_metrics(epoch).time for epoch in (1, 3)}
    texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in ("config", "evaluation")}
    assert "| model.architecture | forge |" in texts["config"]
    assert "| FID | 0.420 | 0.420 |" in texts["evaluation"]
    assert "_hparams_/session_start_info" in read.Tags()["tensors"]

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    capsys.readouterr()
    assert main(command(run, "tensorboard", tmp_path)) == 0
    assert "nothing new" in capsys.readouterr().out
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files

    events = next(path for path in files if path.parent == folder and "tfevents" in path.name)
    events.write_bytes(events.read_bytes()[:-1000])  # as after a power failure
    assert main(command(run, "tensorboard", tmp_path)) == 0
    assert scalars_of(folder) == in_float32(run)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_training_is_followed_through_a_failure_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("tensorboard")
    need("mlflow")
    monkeypatch.setattr(export, "INTERVAL", 0.1)
    run = open_store(tmp_path / "runs").run("run")
    config, upkeep = mlp_config(epochs=4), Upkeep(metrics_every=0, checkpoint_every=5, keep_checkpoints=9)
    with pytest.raises(KilledError):  # the training dies in its third epoch
        train_here(config, run, die_at=25, upkeep=upkeep)
    folders = {kind: str(tmp_path / kind.__name__) for kind in (CsvFiles, TensorBoard, MLflow)}
    trackers: list[Tracker] = [kind(folder, run) for kind, folder in folders.items()]
    ends: list[bool] = []

    def work(tracker: Tracker) -> None:  # as the command does
        ends.append(follow(run, tracker))
        export.export(run, tracker)

    threads = [threading.Thread(target=work, args=(each,), daemon=True) for each in trackers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while any(each.new["numbers"] < len(numbers_of(run)) for each in trackers[1:]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for checkpoint in run.checkpoints():
        if checkpoint.step > 5:
            run.set_aside(checkpoint)  # so that the training does steps 6 to 25 again
    assert [thread.is_alive() for thread in threads] == [True, True, True]
    train_here(config, run, upkeep=upkeep)
    for thread in threads:
        thread.join(60)
    assert ends == [True, True, True]
    assert run.epochs() == [0, 1, 2, 3, 4]

    timed = ("train/images_per_second", "epoch/images_per_second", "epoch/seconds")
    exact = Counter((*key, value) for key, value in numbers_of(run).items())
    for scalars, expected in (
        (scalars_of(tmp_path / "TensorBoard" / "run"), in_float32(run)),
        (metrics_of(f"sqlite:///{tmp_path}/MLflow/mlflow.db"), exact),
    ):
        assert set(Counter(key[:3] for key in scalars.elements()).values()) == {1}  # no step has two values
        assert {key for key in scalars if key[0] not in timed} == {key for key in expected if key[0] not in timed}
    assert len(list(tmp_path.glob("MLflow/artifacts/*/artifacts/samples/*.png"))) == 5
    with (tmp_path / "CsvFiles" / "run" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    speeds = [speed for epoch in (1, 2, 3, 4) for speed in run.read_losses(epoch)["images_per_second"]]
    assert [float(row["images_per_second"]) for row in rows] == speeds


def test_ctrl_c_ends_the_following(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", epochs=1, phase="training", checkpoints=False)
    with being_trained(run):
        arguments = [sys.executable, "-m", "trainer", *command(run, "csv", tmp_path, "--follow")]
        process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (tmp_path / run.name / "samples" / "0001.png").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.count("\n") == 1
    assert "the same command goes on" in error


def test_a_run_that_died_silently_is_not_followed_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "runs", phase="training", heartbeat=time.time() - 700, checkpoints=False)
    assert main(command(run, "csv", tmp_path, "--follow")) == 2
    assert "no sign of life" in capsys.readouterr().err
    assert (tmp_path / run.name / "curves.csv").exists()


def test_a_store_that_fails_for_a_while_is_read_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = iter([RunStoreError("the bucket does not answer")])
    read = Reader.read

    def read_or_fail(reader: Reader) -> Any:
        for error in failures:
            raise error
        return read(reader)

    tracker = CsvFiles(str(tmp_path), run)
    monkeypatch.setattr(export, "INTERVAL", 0.0)
    monkeypatch.setattr(Reader, "read", read_or_fail)
    assert follow(run, tracker)
    assert "the bucket does not answer; will try again" in capsys.readouterr().err
    assert (tmp_path / run.name / "curves.csv").exists()


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of an MLflow server with a SQLite database, which runs in processes of its own."""
    need("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    options = {"host": "127.0.0.1", "port": port, "workers": 1}
    options |= {"backend-store-uri": f"sqlite:///{folder}/mlflow.db", "artifacts-destination": folder / "artifacts"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            env=os.environ | off,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not answers(f"{uri}/health"):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_mlflow_has_every_number_once(mlflow_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow import MlflowClient

    run = write_run(tmp_path / "runs", epochs=1, scored=[1], phase="training", checkpoints=False)
    assert main(command(run, "mlflow", mlflow_uri)) == 0
    assert mlflow_run(mlflow_uri).info.status == "RUNNING"
    config = model_config()
    for epoch in (2, 3):
        write_epoch(run, epoch, config, scored=True)
    write_checkpoint(run, 3, config)
    run.write_evaluation(scores := evaluation(150))
    run.write_progress(replace(run.read_progress(), phase="finished", step=150))
    assert main(command(run, "mlflow", mlflow_uri, "--generator")) == 0
    first = metrics_of(mlflow_uri)
    capsys.readouterr()
    assert main(command(run, "mlflow", mlflow_uri)) == 0
    assert "nothing new" in capsys.readouterr().out
    last = mlflow_run(mlflow_uri)

    expected = Counter((*key, value) for key, value in numbers_of(run).items())
    assert first == metrics_of(mlflow_uri) == expected
    assert last.info.run_name == run.name
    assert last.info.status == "FINISHED"
    assert last.data.params["batch_size"] == "64"
    assert last.data.params["model.g_widths"] == "[16, 8]"
    assert last.data.tags["digitforge.phase"] == "finished"
    checkpoint = run.latest_checkpoint()
    assert checkpoint
    assert last.data.tags["digitforge.generator"] == checkpoint.manifest.files[GENERATOR_FILE].sha256
    for name, content in (
        ("samples/0003.png", run.read_samples(3)),
        ("generators/step_00000150.safetensors", checkpoint.read(GENERATOR_FILE)),
        ("evaluations/step_00000150.json", (json.dumps(scores.to_json(), indent=2) + "\n").encode()),
    ):
        assert (
            Path(MlflowClient(mlflow_uri).download_artifacts(last.info.run_id, name, str(tmp_path))).read_bytes()
            == content
        )
