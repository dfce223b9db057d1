"""The run store returns what was written, shows nothing partly written, and reports damage clearly."""

import hashlib
import json
import math
import multiprocessing
import os
import pickle
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSelector

from tests.sample_run import evaluation, run_record
from trainer import run_store, storage
from trainer.run_store import (
    GENERATOR_FILE,
    RESUME_FILE,
    Checkpoint,
    Curve,
    DamagedError,
    EpochSummary,
    FileEntry,
    Manifest,
    MissingError,
    Phase,
    Progress,
    Run,
    RunStore,
    RunStoreError,
    StoredGenerator,
    open_store,
)
from trainer.storage import Storage

FIELDS = {"epoch": 3, "nimg": 6400, "world_size": 2}
FILES: dict[str, bytes | Path] = {GENERATOR_FILE: b"weights " * 100, RESUME_FILE: b"moments " * 300}


def manifest(step: int, **fields: Any) -> Manifest:
    """Return the manifest of a checkpoint to publish."""
    return Manifest(**{**FIELDS, "step": step, **fields})


def summary(epoch: int, **fields: Any) -> EpochSummary:
    """Return the summary of an epoch."""
    return EpochSummary(epoch=epoch, step=epoch * 10, nimg=epoch * 640, time=5.0, **fields)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    """An empty store: once on disk, once in a bucket."""
    if request.param == "local":
        return open_store(tmp_path / "runs")
    return open_store(request.getfixturevalue("s3_uri").format(prefix=f"{uuid.uuid4().hex}/runs"))


@pytest.fixture
def run(store: RunStore) -> Run:
    """A new run."""
    run = store.run("forge")
    run.create(run_record(recipe="forge"))
    return run


def put(run: Run, path: str, data: bytes) -> None:
    """Write a file into a run's folder without the store."""
    full = f"{run.path}/{path}"
    if run.storage.is_local:
        os.makedirs(os.path.dirname(full), exist_ok=True)
    with run.storage.fs.open_output_stream(full) as file:
        file.write(data)


def get(run: Run, path: str) -> dict[str, Any]:
    """Read a JSON file in a run's folder without the store."""
    with run.storage.fs.open_input_file(f"{run.path}/{path}") as file:
        return json.loads(file.read())


def names(run: Run, folder: str = "") -> list[str]:
    """Return the names in a run's folder or in one of its subfolders."""
    return sorted(info.base_name for info in run.storage.fs.get_file_info(FileSelector(f"{run.path}/{folder}")))


def test_a_run_reads_back_what_was_written(store: RunStore) -> None:
    run = store.run("forge-1.0")
    assert store.list_runs() == []
    assert not run.exists()
    record = run_record(recipe="forge", started=5.0, config={"betas": (0.0, 0.9)}, class_names=("a", "b"))
    run.create(record)
    assert run.exists()
    assert store.list_runs() == [run]
    assert run.read_run() == replace(record, name="forge-1.0", config={"betas": [0.0, 0.9]})
    wanted = {"name": "forge-1.0", "format": 1, "started": 5.0, "recipe": "forge", "class_names": ["a", "b"]}
    assert get(run, "run.json").items() >= wanted.items()

    assert run.read_progress() == Progress()
    for step in (1, 2):
        run.write_progress(Progress(step=step, phase="training"))
        assert run.read_progress() == Progress(step=step, phase="training")

    assert (run.epochs(), run.running_epoch()) == ([], None)
    run.write_samples(0, b"\x89PNG")
    run.write_epoch_metrics(summary(0))
    assert get(run, "epochs/0000/metrics.json") == {"epoch": 0, "step": 0, "nimg": 0, "time": 5.0}
    for length in (1, 2):
        curve: Curve = {"step": [1.0, 2.0][:length], "d_loss": [0.7, 0.6][:length]}
        run.write_losses(1, curve)
        assert run.read_losses(1) == curve
    assert (run.epochs(), run.running_epoch()) == ([0], 1)
    run.write_epoch_metrics(summary(1, d_loss=0.65, scores={"fid": 40.5}, floor={"fid": 0.4}))
    assert (run.epochs(), run.running_epoch()) == ([0, 1], None)
    assert run.read_samples(0) == b"\x89PNG"
    assert run.read_epoch_metrics(0) == summary(0)
    assert run.read_epoch_metrics(1) == summary(1, d_loss=0.65, scores={"fid": 40.5}, floor={"fid": 0.4})

    assert run.read_evaluation(10) is None
    scores = evaluation(
        10, generated={"fid": 1.5, "label_accuracy_per_digit": [1.0, 0.5], "confusion": [[2, 0], [1, 1]]}
    )
    run.write_evaluation(scores)
    assert run.read_evaluation(10) == scores


def test_a_checkpoint_reads_back_what_was_published(run: Run, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(storage.CHUNK_BYTES + 1))
    assert run.latest_checkpoint() is None
    published = run.publish_checkpoint(manifest(6566, fid=12.5), {**FILES, "large.gz": large})
    assert run.checkpoints() == [published]
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    checkpoint.verify()
    assert (checkpoint.name, checkpoint.step, checkpoint.epoch, checkpoint.nimg) == ("step_00006566", 6566, 3, 6400)
    assert (checkpoint.manifest.format, checkpoint.manifest.world_size, checkpoint.manifest.fid) == (1, 2, 12.5)
    assert {name: checkpoint.read(name) for name in FILES} == FILES
    assert checkpoint.read("large.gz") == large.read_bytes()
    assert names(run) == ["run.json", "step_00006566"]


def test_checkpoints_and_epochs_are_ordered_by_number(run: Run) -> None:
    for step in (99_999_999, 5, 100_000_000):  # the last has a ninth digit
        run.publish_checkpoint(manifest(step), FILES)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [5, 99_999_999, 100_000_000]
    for epoch in (10_000, 2, 9_999):
        run.write_epoch_metrics(summary(epoch))
    assert run.epochs() == [2, 9_999, 10_000]


def test_runs_are_listed_newest_start_first_and_bad_ones_skipped(store: RunStore) -> None:
    for name, started in (("older", 1.0), ("newest", 3.0), ("old", 2.0)):
        store.run(name).create(run_record(started=started))
    put(store.run("torn"), "run.json", b'{"format": 1, "na')
    put(store.run("a-list"), "run.json", b"[1]")
    put(store.run("from-the-future"), "run.json", b'{"format": 2, "name": "from-the-future"}')
    put(store.run("no-config"), "run.json", b'{"format": 1, "recipe": "forge", "started": 4.0}')
    odd = run_record().to_json() | {"started": "noon"}
    put(store.run("odd-start"), "run.json", json.dumps(odd).encode())
    put(store.run("not-begun"), "progress.json", b"{}")
    put(store.run("older"), "../No Run/run.json", b'{"format": 1}')
    assert [run.name for run in store.list_runs()] == ["newest", "old", "older", "odd-start"]
    with pytest.raises(DamagedError, match=r"torn/run\.json: is damaged \(17 bytes"):
        store.run("torn").read_run()
    with pytest.raises(DamagedError, match=r"no-config/run\.json: has no usable config, data, .* of another version"):
        store.run("no-config").read_run()
    with pytest.raises(RunStoreError, match="newer version"):
        store.run("from-the-future").read_run()


def test_a_run_is_created_once(run: Run) -> None:
    with pytest.raises(RunStoreError, match="this run exists"):
        run.create(run_record(recipe="another"))
    assert run.read_run().recipe == "forge"
    assert abs(run.read_run().started - time.time()) < 60


def test_a_run_is_extended_and_keeps_all_else(run: Run) -> None:
    put(run, "run.json", json.dumps(get(run, "run.json") | {"of_tomorrow": {"x": [1, None]}}).encode())
    before = get(run, "run.json")
    run.extend({"epochs": 40}, 2000)
    assert get(run, "run.json") == before | {"config": {"epochs": 40}, "total_steps": 2000}
    assert (run.read_run().config, run.read_run().total_steps) == ({"epochs": 40}, 2000)


@pytest.mark.parametrize(
    ("values", "progress"),
    [
        ({}, Progress()),
        ({"phase": "stopping", "message": None, "step": "x", "epoch": 2.0, "nimg": 2.5}, Progress(epoch=2)),
        ({"phase": 7, "world_size": True, "eta": [1], "heartbeat": 5}, Progress(heartbeat=5)),
        ({"phase": "failed", "of_tomorrow": 1}, Progress(phase="failed", extra={"of_tomorrow": 1})),
    ],
)
def test_progress_of_another_version_is_read_as_far_as_it_fits(
    tmp_path: Path, values: dict[str, Any], progress: Progress
) -> None:
    run = open_store(tmp_path).run("forge")
    put(run, "progress.json", json.dumps(values).encode())
    assert run.read_progress() == progress
    run.write_progress(run.read_progress())
    assert run.read_progress() == progress


@pytest.mark.parametrize(
    ("phase", "age", "state"),
    [
        ("starting", None, "live"),
        ("training", 20, "live"),
        ("training", 40, "stale"),
        ("starting", 40, "stale"),
        ("finished", 40, "ended"),
        ("stopped", 0, "ended"),
        ("failed", None, "ended"),
    ],
)
def test_a_run_is_live_until_it_ends_or_falls_silent(phase: Phase, age: float | None, state: str) -> None:
    progress = Progress(phase=phase, heartbeat=None if age is None else time.time() - age)
    assert (progress.is_live, progress.is_stale) == (state == "live", state == "stale")
    assert progress.age == (None if age is None else pytest.approx(age, abs=10))


def test_the_share_of_a_run_that_is_done() -> None:
    shares = [Progress(step=step, total_steps=8).share for step in (0, 2, 9)]
    assert [*shares, Progress(step=2).share, Progress(phase="finished").share] == [0, 0.25, 1, 0, 1]


@pytest.mark.parametrize("curve", [{"step": [1], "d_loss": []}, {"step": 1}, {"step": ["1"]}, {"step": [[1]]}])
def test_a_curve_has_lists_of_numbers_of_equal_length(tmp_path: Path, curve: dict[str, Any]) -> None:
    run = open_store(tmp_path).run("forge")
    put(run, "epochs/0001/losses.json", json.dumps(curve).encode())
    with pytest.raises(DamagedError, match=r"forge/epochs/0001/losses\.json: is damaged"):
        run.read_losses(1)


def test_damaged_curves_are_replaced_by_unknown_values(store: RunStore) -> None:
    run = store.run("forge")
    run.create(run_record(steps_per_epoch=10))
    for epoch in (1, 2):
        run.write_losses(epoch, {"step": [1], "d_loss": [0.5]})
        run.write_epoch_metrics(summary(epoch))
    put(run, "epochs/0002/losses.json", b'{"step": [11, 1')
    assert run.mend_curves(["d_loss"]) == [2]
    assert run.read_losses(1) == {"step": [1], "d_loss": [0.5]}
    assert run.read_losses(2) == {"step": list(range(11, 21)), "d_loss": [None] * 10}
    assert run.mend_curves(["d_loss"]) == []


def test_workers_are_asked_to_leave_until_they_have_left(run: Run) -> None:
    run.request_stop("first", "leave")
    assert (run.stop_request("first"), run.stop_request("second")) == ("leave", None)
    run.withdraw_leave("second")
    assert run.stop_request("first") == "leave"
    run.withdraw_leave("first")
    assert run.stop_request("first") is None
    run.request_stop("first")
    run.withdraw_leave("first")
    assert run.stop_request("first") == "stop"


def test_a_stop_is_for_one_launch(run: Run) -> None:
    assert not run.stop_request("first")
    run.request_stop("first")
    assert run.stop_request("first")
    assert not run.stop_request("second")


def test_what_is_not_written_yet_is_missing(run: Run) -> None:
    for read in (run.read_samples, run.read_losses, run.read_epoch_metrics):
        with pytest.raises(MissingError, match=r"epochs/0007/.* is not there"):
            read(7)


def test_non_finite_numbers_become_null(run: Run) -> None:
    run.write_losses(0, {"d_loss": [0.5, float("nan"), float("inf")], "g_loss": [float("-inf"), 1, None]})
    assert run.read_losses(0) == {"d_loss": [0.5, None, None], "g_loss": [None, 1, None]}
    run.write_epoch_metrics(summary(0, scores={"fid": float("nan"), "kid": 1.0}, extra={"nested": [{"x": math.inf}]}))
    assert get(run, "epochs/0000/metrics.json")["nested"] == [{"x": None}]
    assert run.read_epoch_metrics(0).scores == {"fid": None, "kid": 1.0}
    checkpoint = run.publish_checkpoint(manifest(1, fid=float("nan")), FILES)
    assert checkpoint.manifest.fid is None
    assert run.checkpoints() == [checkpoint]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "-dash", "Capital", "line\n", "nul\0", "x" * 65, "é"]
)
def test_names_that_no_run_may_have(name: str, tmp_path: Path) -> None:
    assert not run_store.valid_run_name(name)
    with pytest.raises(RunStoreError, match="cannot be the name of a run"):
        open_store(tmp_path).run(name)


def test_names_that_a_run_may_have() -> None:
    for name in ("0", "forge", "dc-gan_2.1", "x" * 64):
        run_store.check_run_name(name)


@pytest.mark.parametrize("number", [-1, 1.0, "1", "../1", None])
def test_steps_and_epochs_are_integers(number: int, tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    calls = (
        lambda: run.read_samples(number),
        lambda: run.write_losses(number, {}),
        lambda: run.checkpoint(number),
        lambda: run.write_epoch_metrics(replace(summary(1), epoch=number)),
        lambda: run.read_evaluation(number),
        lambda: run.publish_checkpoint(manifest(number), FILES),
    )
    for call in calls:
        with pytest.raises(RunStoreError, match="must be an integer of at least 0"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "/etc/passwd", ".hidden", "..", "MANIFEST.json", "a\n"])
def test_files_of_a_checkpoint_stay_in_its_folder(name: str, tmp_path: Path) -> None:
    run = open_store(tmp_path / "runs").run("forge")
    with pytest.raises(RunStoreError, match="cannot be a file of a checkpoint"):
        run.publish_checkpoint(manifest(1), {name: b"x"})
    assert list(tmp_path.iterdir()) == []

    checkpoint = run.publish_checkpoint(manifest(1), FILES)
    with pytest.raises(RunStoreError, match="has no such file"):
        checkpoint.read(name)
    values = get(run, "step_00000001/MANIFEST.json")
    values["files"][name] = {"bytes": 0, "sha256": ""}
    put(run, "step_00000001/MANIFEST.json", json.dumps(values).encode())
    assert run.checkpoints() == []


def test_a_checkpoint_has_files(run: Run) -> None:
    with pytest.raises(RunStoreError, match="needs at least one file"):
        run.publish_checkpoint(manifest(1), {})
    assert names(run) == ["run.json"]


@pytest.mark.parametrize("unfit", ["missing", None, "1", 1.5, {}, {"generator.safetensors": {"bytes": 1}}])
@pytest.mark.parametrize("name", ["step", *FIELDS, "files"])
def test_a_manifest_needs_its_fields(name: str, unfit: Any, tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    checkpoint = run.publish_checkpoint(manifest(1), FILES)
    values = get(run, f"{checkpoint.name}/MANIFEST.json") | {name: unfit}
    if unfit == "missing":
        del values[name]
    put(run, f"{checkpoint.name}/MANIFEST.json", json.dumps(values).encode())
    assert run.checkpoints() == []


def damage_by_truncation(run: Run, folder: str) -> None:
    put(run, f"{folder}/generator.safetensors", FILES["generator.safetensors"][:-1])


def damage_by_flipped_bit(run: Run, folder: str) -> None:
    data = bytearray(FILES["generator.safetensors"])
    data[400] ^= 1
    put(run, f"{folder}/generator.safetensors", bytes(data))


def damage_by_lost_file(run: Run, folder: str) -> None:
    run.storage.fs.delete_file(f"{run.path}/{folder}/generator.safetensors")


Damage = Callable[[Run, str], None]
DAMAGES = pytest.mark.parametrize("damage", [damage_by_truncation, damage_by_flipped_bit, damage_by_lost_file])


@DAMAGES
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_is_used(run: Run, damage: Damage) -> None:
    older, newer = (run.publish_checkpoint(manifest(step), FILES) for step in (100, 200))
    damage(run, newer.name)
    for check in (newer.verify, lambda: newer.read("generator.safetensors")):
        with pytest.raises(DamagedError, match=r"forge/step_00000200/generator\.safetensors"):
            check()
    assert newer.read("resume.safetensors") == FILES["resume.safetensors"]
    assert run.latest_checkpoint() == older
    assert run.latest_checkpoint(verify=False) == newer


@DAMAGES
def test_publishing_again_replaces_a_damaged_checkpoint(run: Run, damage: Damage) -> None:
    old = run.publish_checkpoint(manifest(100), {**FILES, "old": b"old"})
    damage(run, old.name)
    new = run.publish_checkpoint(manifest(100, nimg=7), FILES)
    new.verify()
    assert [checkpoint.nimg for checkpoint in run.checkpoints()] == [7]
    assert names(run, new.name) == ["MANIFEST.json", *FILES]
    aside = [name for name in names(run) if name.startswith("set-aside-step_00000100-")]
    assert len(aside) == run.storage.is_local  # kept for inspection on disk, removed in a bucket


def test_publishing_again_keeps_an_intact_checkpoint(run: Run) -> None:
    first = run.publish_checkpoint(manifest(100), FILES)
    again = run.publish_checkpoint(manifest(100, nimg=7), {GENERATOR_FILE: b"another"})
    assert again == first
    assert again.read("generator.safetensors") == FILES["generator.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b'{"format": 1, "st', b"{}", b'{"format": 1, "step": 100}', b"[]"])
def test_without_a_readable_manifest_there_is_no_checkpoint(run: Run, content: bytes | None) -> None:
    put(run, "step_00000100/generator.safetensors", b"torn")
    put(run, "step_00000100/left_over", b"torn")
    if content is not None:
        put(run, "step_00000100/MANIFEST.json", content)
    assert run.checkpoints() == []
    assert run.latest_checkpoint() is None
    run.publish_checkpoint(manifest(100), FILES).verify()
    assert names(run, "step_00000100") == ["MANIFEST.json", *FILES]


def test_a_folder_copied_by_hand_is_no_checkpoint(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    checkpoint = run.publish_checkpoint(manifest(100), FILES)
    for name in ("step_00000200", "step_100", "step_000000100", "step_0000010\N{ARABIC-INDIC DIGIT ZERO}"):
        shutil.copytree(tmp_path / "forge" / checkpoint.name, tmp_path / "forge" / name)
    assert run.checkpoints() == [checkpoint]


def test_a_newer_format_is_refused_and_not_touched(run: Run) -> None:
    checkpoint = run.publish_checkpoint(manifest(100), FILES)
    put(run, "step_00000100/MANIFEST.json", json.dumps(checkpoint.manifest.to_json() | {"format": 2}).encode())
    calls = (
        run.checkpoints,
        run.latest_checkpoint,
        lambda: run.publish_checkpoint(manifest(100), FILES),
        lambda: run.prune_checkpoints(1),
    )
    for call in calls:
        with pytest.raises(RunStoreError, match=r"step_00000100/MANIFEST\.json: is of format 2, .*update"):
            call()
    checkpoint.verify()


def test_set_aside_takes_a_checkpoint_out_of_the_list(run: Run) -> None:
    first, second, third = (run.publish_checkpoint(manifest(step), FILES) for step in (100, 200, 300))
    run.set_aside(third)
    run.set_aside(second)
    assert run.checkpoints() == [first]
    assert {"step_00000200", "step_00000300"}.isdisjoint(names(run))
    run.set_aside(run.publish_checkpoint(manifest(200), FILES))  # a second time for the same step
    assert run.latest_checkpoint() == first
    assert second.name not in names(run)


@pytest.mark.parametrize(
    ("keep_newest", "keep_best", "removed"),
    [
        (1, None, [100, 200, 300, 400]),
        (2, 200, [100, 300]),
        (2, 500, [100, 200, 300]),
        (9, None, []),
        (1, 77, [100, 200, 300, 400]),
    ],
)
def test_prune_keeps_the_newest_and_the_best(
    tmp_path: Path, keep_newest: int, keep_best: int | None, removed: list[int]
) -> None:
    run = open_store(tmp_path).run("forge")
    for step in (100, 200, 300, 400, 500):
        run.publish_checkpoint(manifest(step), FILES)
    assert run.prune_checkpoints(keep_newest, keep_best) == removed
    kept = [step for step in (100, 200, 300, 400, 500) if step not in removed]
    assert [checkpoint.step for checkpoint in run.checkpoints()] == kept
    assert len(names(run)) == len(kept)


def test_prune_removes_what_killed_writers_left(run: Run) -> None:
    run.write_epoch_metrics(summary(0))
    put(run, "step_00000050/generator.safetensors", b"no manifest")
    put(run, "step_00000060/MANIFEST.json", b"torn")
    put(run, ".stage-step_00000100-0123/generator.safetensors", b"staged")
    put(run, "notes/keep.txt", b"not ours")
    assert run.prune_checkpoints(1) == []  # without checkpoints, a writer may still be at work on all of these
    assert "step_00000050" in names(run)
    run.publish_checkpoint(manifest(100), FILES)
    put(run, "step_00000200/generator.safetensors", b"on its way")
    put(run, ".stage-step_00000200-0123/generator.safetensors", b"on its way")
    assert run.prune_checkpoints(1) == []
    left = [".stage-step_00000200-0123", "epochs", "notes", "run.json", "step_00000100", "step_00000200"]
    assert names(run) == left
    with pytest.raises(RunStoreError, match="keep_newest must be at least 1"):
        run.prune_checkpoints(0)


def test_a_failed_publish_leaves_nothing_visible_and_can_be_repeated(run: Run, tmp_path: Path) -> None:
    late = tmp_path / "late"
    with pytest.raises(RunStoreError, match="late"):
        run.publish_checkpoint(manifest(100), {**FILES, "late": late})
    assert run.checkpoints() == []
    if run.storage.is_local:
        assert names(run) == ["run.json"]
    late.write_bytes(b"here now")
    assert run.publish_checkpoint(manifest(100), {**FILES, "late": late}).read("late") == b"here now"


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_store(tmp_path).run("forge")
    run.write_progress(Progress(step=1))

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RunStoreError, match=r"progress\.json.*No space left on device"):
        run.write_progress(Progress(step=2))
    with pytest.raises(RunStoreError, match="No space left on device"):
        run.publish_checkpoint(manifest(1), FILES)
    assert names(run) == ["progress.json"]
    assert run.read_progress().step == 1


def test_readers_see_whole_checkpoints_only(run: Run) -> None:
    steps = range(100, 2100 if run.storage.is_local else 600, 100)
    files = {name: os.urandom(300_000) for name in FILES}

    def write() -> None:
        for step in steps:
            run.publish_checkpoint(manifest(step, nimg=step), files)
            run.write_progress(Progress(step=step, message="x" * (step % 700)))

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[int] = set()
    while len(seen) < len(steps):
        alive = writer.is_alive()
        for checkpoint in run.checkpoints():
            if checkpoint.step not in seen:
                checkpoint.verify()
                assert checkpoint.nimg == checkpoint.step
                seen.add(checkpoint.step)
        progress = run.read_progress()
        assert len(progress.message) == progress.step % 700
        assert alive or len(seen) == len(steps), "the writer failed"
    writer.join()


def test_readers_survive_pruning(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    run.publish_checkpoint(manifest(1), FILES)

    def write() -> None:
        for step in range(2, 60):
            run.publish_checkpoint(manifest(step), FILES)
            run.prune_checkpoints(1, keep_best=1)

    writer = threading.Thread(target=write)
    writer.start()
    newest = 0
    while writer.is_alive():
        checkpoint = run.latest_checkpoint()
        assert checkpoint is not None
        assert checkpoint.step >= newest
        newest = checkpoint.step
    writer.join()
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [1, 59]


def test_a_file_that_is_being_replaced_is_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    put(run, "progress.json", b'{"step": 1')
    monkeypatch.setattr(time, "sleep", lambda seconds: put(run, "progress.json", b'{"step": 12}'))
    assert run.read_progress().step == 12


def test_a_killed_writer_publishes_nothing(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    os.mkfifo(tmp_path / "endless")  # reading it blocks for ever
    code = (
        "import pathlib, sys; from trainer.run_store import Manifest, open_store\n"
        "files = {'generator.safetensors': b'x' * 1000, 'resume.safetensors': pathlib.Path(sys.argv[1], 'endless')}\n"
        f"open_store(sys.argv[1]).run('forge').publish_checkpoint(Manifest(step=100, **{FIELDS}), files)"
    )
    root = Path(run_store.__file__).parent.parent
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=root)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("forge/.stage-*/generator.safetensors")):
            assert process.poll() is None, "the writer failed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert run.checkpoints() == []
    run.publish_checkpoint(manifest(100), FILES)
    run.prune_checkpoints(1)
    assert names(run) == ["step_00000100"]


def write_for_ever(run: Run) -> None:
    """Write checkpoints, epochs and progress, the next ones each time."""
    step = max((checkpoint.step for checkpoint in run.checkpoints()), default=0)
    while True:
        step += 1
        run.write_progress(Progress(step=step, message="x" * (step % 700)))
        run.write_losses(step % 5, {"step": list(range(step % 90))})
        run.publish_checkpoint(manifest(step), FILES)
        run.prune_checkpoints(3)


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.chaos)])
def test_writers_that_are_killed_tear_nothing(tmp_path: Path, kills: int) -> None:
    run = open_store(tmp_path).run("forge")
    chance, newest = random.Random(0), 0
    for _ in range(kills):
        writer = multiprocessing.get_context("fork").Process(target=write_for_ever, args=[run])
        writer.start()
        time.sleep(chance.uniform(0.01, 0.1))
        writer.kill()
        writer.join()
        progress = run.read_progress()
        assert len(progress.message) == progress.step % 700
        for epoch in range(5):
            with suppress(MissingError):
                run.read_losses(epoch)
        checkpoints = run.checkpoints()
        for checkpoint in checkpoints:
            checkpoint.verify()
        assert max((checkpoint.step for checkpoint in checkpoints), default=0) >= newest
        newest = max((checkpoint.step for checkpoint in checkpoints), default=0)
    assert newest > kills // 4


def test_a_reader_never_sees_half_a_file_in_a_thousand_writes(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    run.write_progress(Progress())

    def write() -> None:
        for step in range(1, 1001):
            run.write_progress(Progress(step=step, message="x" * (step % 7000)))

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while writer.is_alive():
        progress = run.read_progress()
        assert len(progress.message) == progress.step % 7000
        reads += 1
    writer.join()
    assert run.read_progress().step == 1000
    assert reads > 100


def test_a_store_travels_to_other_processes(run: Run) -> None:
    checkpoint = run.publish_checkpoint(manifest(100), FILES)
    copy = pickle.loads(pickle.dumps(checkpoint))
    assert copy == checkpoint
    assert hash(copy) == hash(checkpoint)
    copy.verify()


def test_local_paths_and_file_uris_open_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    wanted = RunStore(Storage(open_store(tmp_path).storage.fs, f"{tmp_path}/my runs"))
    places = ("my runs", "./x/../my runs", "~/my runs", tmp_path / "my runs", f"file://{tmp_path}/my%20runs")
    assert [open_store(place) for place in places] == [wanted] * len(places)
    assert wanted.list_runs() == []
    assert list(tmp_path.iterdir()) == []


def test_a_google_bucket_opens() -> None:
    assert open_store("gs://anonymous@bucket/runs/").root == "bucket/runs"


def test_a_store_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", f"file://{tmp_path}/file"):
        with pytest.raises(RunStoreError, match="is not a folder"):
            open_store(place)


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/runs",
        "s3://",
        "s3:///runs",
        "s3://bucket/runs?nonsense=1",
        Path("s3://bucket/runs"),
        "s3://bucket/a\nb",
    ],
)
def test_uris_that_cannot_be_opened(uri: str | Path) -> None:
    with pytest.raises(RunStoreError, match=r"use a .*s3://bucket/runs") as caught:
        open_store(uri)
    assert "\n" not in str(caught.value)


def test_errors_hide_credentials() -> None:
    with pytest.raises(RunStoreError) as caught:
        open_store("s3://key:se/cret@bucket/runs?nonsense=1")
    assert "cret" not in str(caught.value)


@pytest.mark.slow
def test_a_missing_bucket_is_an_error(s3_uri: str) -> None:
    store = open_store(s3_uri.replace("digits", "another").format(prefix="runs"))
    with pytest.raises(RunStoreError, match="there is no bucket 'another'"):
        store.list_runs()
    with pytest.raises(RunStoreError, match="cannot be written") as caught:
        store.run("forge").create(run_record())
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_an_error_within_seconds(s3_uri: str) -> None:
    with socket.socket() as nobody:  # bound, but not listening: the port refuses
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{nobody.getsockname()[1]}"
        store = open_store(f"s3://digits/runs?scheme=http&region=us-east-1&endpoint_override={endpoint}")
        start = time.monotonic()
        run = store.run("forge")
        checkpoint = Checkpoint(run, manifest(1, files={GENERATOR_FILE: FileEntry(1, "")}))
        for call in (store.list_runs, checkpoint.is_intact, lambda: run.write_progress(Progress())):
            with pytest.raises(RunStoreError, match="cannot be") as caught:
                call()
            assert not isinstance(caught.value, DamagedError)  # otherwise a resume would set good checkpoints aside
            assert "\n" not in str(caught.value)
        assert time.monotonic() - start < 10


def test_a_generator_of_a_checkpoint_and_an_epoch_is_one(run: Run) -> None:
    for epoch in (0, 1, 2):
        sha256 = run.write_generator(epoch, f"weights {epoch}".encode())
        if epoch < 2:
            run.write_epoch_metrics(summary(epoch, generator_sha256=sha256))
    run.publish_checkpoint(manifest(10, epoch=1), {GENERATOR_FILE: b"weights 1"})
    run.publish_checkpoint(manifest(15, epoch=1), {GENERATOR_FILE: b"weights 1.5"})
    run.publish_checkpoint(manifest(17, epoch=1), {RESUME_FILE: b"no generator"})
    before, both, middle = run.generators()  # epoch 2 is not complete
    assert [each.step for each in (before, both, middle)] == [0, 10, 15]
    assert (before.epoch, before.nimg, before.paths) == (0, 0, ("epochs/0000/generator.safetensors",))
    assert both.paths == ("step_00000010/generator.safetensors", "epochs/0001/generator.safetensors")
    assert both.sha256 == hashlib.sha256(b"weights 1").hexdigest()
    assert [run.read_generator(path, both.sha256) for path in both.paths] == [b"weights 1"] * 2
    assert [run.read_epoch_generator(epoch) for epoch in (0, 1)] == [b"weights 0", b"weights 1"]
    assert run.prune_checkpoints(1, archive=True) == [10, 15]
    assert [each.step for each in run.generators()] == [0, 10]
    (archived,) = run.archived_generators()  # that of epoch 1 is where it was
    assert run.read_generator(run.archive_path(archived), archived) == b"weights 1.5"


@DAMAGES
def test_a_damaged_generator_of_an_epoch_is_noticed(run: Run, damage: Damage) -> None:
    sha256 = run.write_generator(7, FILES[GENERATOR_FILE])
    run.write_epoch_metrics(summary(7, generator_sha256=sha256))
    damage(run, "epochs/0007")
    (listed,) = run.generators() or [StoredGenerator(70, 7, 0, sha256, ("epochs/0007/generator.safetensors",))]
    with pytest.raises(DamagedError, match=r"epochs/0007/generator\.safetensors: is not"):
        run.read_generator(listed.paths[0], listed.sha256)


def test_a_bad_summary_hides_only_its_own_epoch(run: Run) -> None:
    for epoch in (0, 1):
        run.write_epoch_metrics(summary(epoch, generator_sha256=run.write_generator(epoch, b"weights")))
    put(run, "epochs/0000/metrics.json", b"torn")
    assert [each.epoch for each in run.generators()] == [1]


def test_the_generator_of_an_epoch_that_is_trained_again_is_archived(run: Run) -> None:
    first = run.write_generator(3, b"first")
    assert run.write_generator(3, b"first") == first
    assert run.archived_generators() == []
    second = run.write_generator(3, b"second")
    assert run.archived_generators() == [first]
    run.write_epoch_metrics(summary(3, generator_sha256=second))
    assert run.read_epoch_generator(3) == b"second"
    assert run.read_generator(run.archive_path(first), first) == b"first"


def test_prune_generators_keeps_the_newest_and_the_best(run: Run) -> None:
    for epoch in range(6):
        run.write_epoch_metrics(summary(epoch, generator_sha256=run.write_generator(epoch, b"weights")))
    assert run.prune_generators(2, 1) == [0, 2, 3]
    assert run.prune_generators(2, 1) == []
    assert [each.epoch for each in run.generators()] == [1, 4, 5]
    assert run.epochs() == [0, 1, 2, 3, 4, 5]
    assert run.read_epoch_generator(0) is None
    with pytest.raises(RunStoreError, match="keep_newest must be at least 1"):
        run.prune_generators(0)


def test_a_retired_run_leaves_its_generators(run: Run) -> None:
    run.write_progress(Progress())
    run.write_epoch_metrics(summary(1, generator_sha256=run.write_generator(1, b"epoch")))
    run.publish_checkpoint(manifest(10), {GENERATOR_FILE: b"checkpoint"})
    run.archive_generator(b"earlier")
    run.retire()
    assert names(run) == ["generators"]
    wanted = sorted(hashlib.sha256(each).hexdigest() for each in (b"epoch", b"checkpoint", b"earlier"))
    assert run.archived_generators() == wanted
    run.create(run_record())
    assert run.generators() == []
