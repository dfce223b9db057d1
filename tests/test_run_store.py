"""The run store keeps what is written, shows nothing half written, and says clearly what is broken."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from trainer import run_store
from trainer.run_store import Checkpoint, DamagedError, MissingError, Run, RunStore, RunStoreError, open_store

FIELDS = {"epoch": 3, "nimg": 6400, "world_size": 2}
FILES = {"generator.safetensors": b"weights " * 100, "resume.safetensors": b"moments " * 300}


@pytest.fixture(scope="module")
def s3_uri() -> Iterator[str]:
    """The URI of a bucket on an S3 server of our own; `{prefix}` is left open."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # or the client asks an address outside this machine
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        server = ThreadedMotoServer("127.0.0.1", 0)
        server.start()
        host, port = server.get_host_and_port()
        options = {"scheme": "http", "endpoint_override": f"{host}:{port}", "region": "us-east-1"}
        S3FileSystem(**options, allow_bucket_creation=True).create_dir("digits")
        yield "s3://digits/{prefix}?" + "&".join(f"{key}={value}" for key, value in options.items())
        server.stop()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    """An empty store, on disk and in a bucket."""
    if request.param == "local":
        return open_store(tmp_path / "runs")
    return open_store(request.getfixturevalue("s3_uri").format(prefix=f"{uuid.uuid4().hex}/runs"))


@pytest.fixture
def run(store: RunStore) -> Run:
    """A run that has begun."""
    run = store.run("forge")
    run.create({"recipe": "forge"})
    return run


def put(run: Run, path: str, data: bytes) -> None:
    """Write into a run's folder behind the store's back."""
    full = f"{run.path}/{path}"
    if run.store.is_local:
        os.makedirs(os.path.dirname(full), exist_ok=True)
    with run.store.fs.open_output_stream(full) as file:
        file.write(data)


def names(run: Run, folder: str = "") -> list[str]:
    """What lies in a run's folder, or in one of its folders."""
    return sorted(info.base_name for info in run.store.fs.get_file_info(FileSelector(f"{run.path}/{folder}")))


def test_a_run_reads_back_what_was_written(store: RunStore) -> None:
    run = store.run("forge-1.0")
    assert store.list_runs() == []
    assert not run.exists()
    run.create({"recipe": "forge", "started": 5.0, "config": {"betas": (0.0, 0.9)}})
    assert run.exists()
    assert store.list_runs() == [run]
    wanted = {"name": "forge-1.0", "format": 1, "started": 5.0, "recipe": "forge", "config": {"betas": [0.0, 0.9]}}
    assert run.read_run() == wanted

    assert run.read_progress() is None
    for step in (1, 2):
        run.write_progress({"step": step, "phase": "training"})
        assert run.read_progress() == {"step": step, "phase": "training"}

    assert (run.epochs(), run.running_epoch()) == ([], None)
    run.write_samples(0, b"\x89PNG")
    run.write_epoch_metrics(0, {"fid": 90.5})
    for length in (1, 2):
        curve = {"step": [1.0, 2.0][:length], "d_loss": [0.7, 0.6][:length]}
        run.write_losses(1, curve)
        assert run.read_losses(1) == curve
    assert (run.epochs(), run.running_epoch()) == ([0], 1)
    run.write_epoch_metrics(1, {"fid": 40.5})
    assert (run.epochs(), run.running_epoch()) == ([0, 1], None)
    assert run.read_samples(0) == b"\x89PNG"
    assert run.read_epoch_metrics(1) == {"fid": 40.5}


def test_a_checkpoint_reads_back_what_was_published(run: Run, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(run_store.CHUNK + 1))
    assert run.latest_checkpoint() is None
    published = run.publish_checkpoint(6566, {**FILES, "large.gz": large}, {**FIELDS, "fid": 12.5})
    assert run.checkpoints() == [published]
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    checkpoint.verify()
    assert (checkpoint.name, checkpoint.step, checkpoint.epoch, checkpoint.nimg) == ("step_00006566", 6566, 3, 6400)
    assert checkpoint.manifest.items() >= {"format": 1, "world_size": 2, "fid": 12.5}.items()
    assert {name: checkpoint.read(name) for name in FILES} == FILES
    assert checkpoint.read("large.gz") == large.read_bytes()
    assert names(run) == ["run.json", "step_00006566"]


def test_checkpoints_and_epochs_are_ordered_by_number(run: Run) -> None:
    for step in (99_999_999, 5, 100_000_000):  # the last needs a ninth digit
        run.publish_checkpoint(step, FILES, FIELDS)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [5, 99_999_999, 100_000_000]
    for epoch in (10_000, 2, 9_999):
        run.write_epoch_metrics(epoch, {})
    assert run.epochs() == [2, 9_999, 10_000]


def test_runs_are_listed_newest_start_first_and_bad_ones_skipped(store: RunStore) -> None:
    for name, started in (("older", 1.0), ("newest", 3.0), ("old", 2.0)):
        store.run(name).create({"started": started})
    put(store.run("torn"), "run.json", b'{"format": 1, "na')
    put(store.run("a-list"), "run.json", b"[1]")
    put(store.run("from-the-future"), "run.json", b'{"format": 2, "name": "from-the-future"}')
    put(store.run("odd-start"), "run.json", b'{"format": 1, "started": "noon"}')
    put(store.run("not-begun"), "progress.json", b"{}")
    put(store.run("older"), "../No Run/run.json", b'{"format": 1}')
    assert [run.name for run in store.list_runs()] == ["newest", "old", "older", "odd-start"]
    with pytest.raises(DamagedError, match=r"torn/run\.json: is damaged \(17 bytes"):
        store.run("torn").read_run()
    with pytest.raises(RunStoreError, match="newer version"):
        store.run("from-the-future").read_run()


def test_a_run_is_created_once(run: Run) -> None:
    with pytest.raises(RunStoreError, match="this run exists"):
        run.create({"recipe": "another"})
    assert run.read_run()["recipe"] == "forge"
    assert abs(run.read_run()["started"] - time.time()) < 60


def test_a_run_is_extended_in_the_fields_given(run: Run) -> None:
    before = run.read_run()
    run.extend({"epochs": 40})
    assert run.read_run() == before | {"epochs": 40}


def test_a_stop_is_for_one_launch(run: Run) -> None:
    assert not run.stop_requested("first")
    run.request_stop("first")
    assert run.stop_requested("first")
    assert not run.stop_requested("second")


def test_what_is_not_written_yet_is_missing(run: Run) -> None:
    for read in (run.read_samples, run.read_losses, run.read_epoch_metrics):
        with pytest.raises(MissingError, match=r"epochs/0007/.* is not there"):
            read(7)


def test_non_finite_numbers_become_null(run: Run) -> None:
    run.write_losses(0, {"d_loss": [0.5, float("nan"), float("inf")], "nested": [{"x": (float("-inf"), 1)}]})
    assert run.read_losses(0) == {"d_loss": [0.5, None, None], "nested": [{"x": [None, 1]}]}
    checkpoint = run.publish_checkpoint(1, FILES, {**FIELDS, "fid": float("nan")})
    assert checkpoint.manifest["fid"] is None
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
        lambda: run.set_aside(number),
        lambda: run.publish_checkpoint(number, FILES, FIELDS),
    )
    for call in calls:
        with pytest.raises(RunStoreError, match="must be an integer of at least 0"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "/etc/passwd", ".hidden", "..", "MANIFEST.json", "a\n"])
def test_files_of_a_checkpoint_stay_in_its_folder(name: str, tmp_path: Path) -> None:
    run = open_store(tmp_path / "runs").run("forge")
    with pytest.raises(RunStoreError, match="cannot be a file of a checkpoint"):
        run.publish_checkpoint(1, {name: b"x"}, FIELDS)
    assert list(tmp_path.iterdir()) == []

    checkpoint = run.publish_checkpoint(1, FILES, FIELDS)
    with pytest.raises(RunStoreError, match="has no such file"):
        checkpoint.read(name)
    manifest = checkpoint.manifest["files"] | {name: {"bytes": 0, "sha256": ""}}
    put(run, "step_00000001/MANIFEST.json", json.dumps(checkpoint.manifest | {"files": manifest}).encode())
    assert run.checkpoints() == []


def test_a_manifest_needs_its_fields(run: Run) -> None:
    for missing in FIELDS:
        with pytest.raises(RunStoreError, match="epoch, nimg, world_size"):
            run.publish_checkpoint(1, FILES, {key: value for key, value in FIELDS.items() if key != missing})
    assert names(run) == ["run.json"]


def damage_by_truncation(run: Run, folder: str) -> None:
    put(run, f"{folder}/generator.safetensors", FILES["generator.safetensors"][:-1])


def damage_by_flipped_bit(run: Run, folder: str) -> None:
    data = bytearray(FILES["generator.safetensors"])
    data[400] ^= 1
    put(run, f"{folder}/generator.safetensors", bytes(data))


def damage_by_lost_file(run: Run, folder: str) -> None:
    run.store.fs.delete_file(f"{run.path}/{folder}/generator.safetensors")


Damage = Callable[[Run, str], None]
DAMAGES = pytest.mark.parametrize("damage", [damage_by_truncation, damage_by_flipped_bit, damage_by_lost_file])


@DAMAGES
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_is_used(run: Run, damage: Damage) -> None:
    older, newer = (run.publish_checkpoint(step, FILES, FIELDS) for step in (100, 200))
    damage(run, newer.name)
    for check in (newer.verify, lambda: newer.read("generator.safetensors")):
        with pytest.raises(DamagedError, match=r"forge/step_00000200/generator\.safetensors"):
            check()
    assert newer.read("resume.safetensors") == FILES["resume.safetensors"]
    assert run.latest_checkpoint() == older
    assert run.latest_checkpoint(verify=False) == newer


@DAMAGES
def test_publishing_again_replaces_a_damaged_checkpoint(run: Run, damage: Damage) -> None:
    old = run.publish_checkpoint(100, {**FILES, "old": b"old"}, FIELDS)
    damage(run, old.name)
    new = run.publish_checkpoint(100, FILES, {**FIELDS, "nimg": 7})
    new.verify()
    assert [checkpoint.nimg for checkpoint in run.checkpoints()] == [7]
    assert names(run, new.name) == ["MANIFEST.json", *FILES]
    aside = [name for name in names(run) if name.startswith("set-aside-step_00000100-")]
    assert len(aside) == run.store.is_local  # kept for a later look only where that costs a rename


def test_publishing_again_keeps_an_intact_checkpoint(run: Run) -> None:
    first = run.publish_checkpoint(100, FILES, FIELDS)
    again = run.publish_checkpoint(100, {"generator.safetensors": b"another"}, {**FIELDS, "nimg": 7})
    assert again == first
    assert again.read("generator.safetensors") == FILES["generator.safetensors"]


@pytest.mark.parametrize("manifest", [None, b"", b'{"format": 1, "st', b"{}", b'{"format": 1, "step": 100}', b"[]"])
def test_without_a_readable_manifest_there_is_no_checkpoint(run: Run, manifest: bytes | None) -> None:
    put(run, "step_00000100/generator.safetensors", b"torn")
    put(run, "step_00000100/left_over", b"torn")
    if manifest is not None:
        put(run, "step_00000100/MANIFEST.json", manifest)
    assert run.checkpoints() == []
    assert run.latest_checkpoint() is None
    run.publish_checkpoint(100, FILES, FIELDS).verify()
    assert names(run, "step_00000100") == ["MANIFEST.json", *FILES]


def test_a_folder_copied_by_hand_is_no_checkpoint(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    checkpoint = run.publish_checkpoint(100, FILES, FIELDS)
    for name in ("step_00000200", "step_100", "step_000000100", "step_0000010\N{ARABIC-INDIC DIGIT ZERO}"):
        shutil.copytree(tmp_path / "forge" / checkpoint.name, tmp_path / "forge" / name)
    assert run.checkpoints() == [checkpoint]


def test_a_newer_format_is_refused_and_not_touched(run: Run) -> None:
    checkpoint = run.publish_checkpoint(100, FILES, FIELDS)
    put(run, "step_00000100/MANIFEST.json", json.dumps(checkpoint.manifest | {"format": 2}).encode())
    calls = (
        run.checkpoints,
        run.latest_checkpoint,
        lambda: run.publish_checkpoint(100, FILES, FIELDS),
        lambda: run.prune_checkpoints(1),
    )
    for call in calls:
        with pytest.raises(RunStoreError, match=r"step_00000100/MANIFEST\.json: is of format 2, .*update"):
            call()
    checkpoint.verify()


def test_set_aside_takes_a_checkpoint_out_of_the_list(run: Run) -> None:
    first, second, third = (run.publish_checkpoint(step, FILES, FIELDS) for step in (100, 200, 300))
    run.set_aside(third)
    run.set_aside(200)
    assert run.checkpoints() == [first]
    assert {"step_00000200", "step_00000300"}.isdisjoint(names(run))
    run.publish_checkpoint(200, FILES, FIELDS)
    run.set_aside(200)  # a second time for the same step
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
        run.publish_checkpoint(step, FILES, FIELDS)
    assert run.prune_checkpoints(keep_newest, keep_best) == removed
    kept = [step for step in (100, 200, 300, 400, 500) if step not in removed]
    assert [checkpoint.step for checkpoint in run.checkpoints()] == kept
    assert len(names(run)) == len(kept)


def test_prune_removes_what_killed_writers_left(run: Run) -> None:
    run.write_epoch_metrics(0, {})
    put(run, "step_00000050/generator.safetensors", b"no manifest")
    put(run, "step_00000060/MANIFEST.json", b"torn")
    put(run, ".stage-step_00000100-0123/generator.safetensors", b"staged")
    put(run, "notes/keep.txt", b"not ours")
    assert run.prune_checkpoints(1) == []  # no checkpoint is newer than these
    assert "step_00000050" in names(run)
    run.publish_checkpoint(100, FILES, FIELDS)
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
        run.publish_checkpoint(100, {**FILES, "late": late}, FIELDS)
    assert run.checkpoints() == []
    if run.store.is_local:
        assert names(run) == ["run.json"]
    late.write_bytes(b"here now")
    assert run.publish_checkpoint(100, {**FILES, "late": late}, FIELDS).read("late") == b"here now"


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_store(tmp_path).run("forge")
    run.write_progress({"step": 1})

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RunStoreError, match=r"progress\.json.*No space left on device"):
        run.write_progress({"step": 2})
    with pytest.raises(RunStoreError, match="No space left on device"):
        run.publish_checkpoint(1, FILES, FIELDS)
    assert names(run) == ["progress.json"]
    assert run.read_progress() == {"step": 1}


def test_readers_see_whole_checkpoints_only(run: Run) -> None:
    steps = range(100, 2100 if run.store.is_local else 600, 100)
    files = {name: os.urandom(300_000) for name in FILES}

    def write() -> None:
        for step in steps:
            run.publish_checkpoint(step, files, {**FIELDS, "nimg": step})
            run.write_progress({"step": step, "padding": "x" * (step % 700)})

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
        assert progress is None or len(progress["padding"]) == progress["step"] % 700
        assert alive or len(seen) == len(steps), "the writer failed"
    writer.join()


def test_readers_survive_pruning(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    run.publish_checkpoint(1, FILES, FIELDS)

    def write() -> None:
        for step in range(2, 60):
            run.publish_checkpoint(step, FILES, FIELDS)
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
    assert run.read_progress() == {"step": 12}


def test_a_killed_writer_publishes_nothing(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("forge")
    os.mkfifo(tmp_path / "endless")  # whoever reads it waits for ever
    code = (
        "import pathlib, sys; from trainer.run_store import open_store\n"
        "files = {'generator.safetensors': b'x' * 1000, 'resume.safetensors': pathlib.Path(sys.argv[1], 'endless')}\n"
        f"open_store(sys.argv[1]).run('forge').publish_checkpoint(100, files, {FIELDS})"
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
    run.publish_checkpoint(100, FILES, FIELDS)
    run.prune_checkpoints(1)
    assert names(run) == ["step_00000100"]


def test_a_store_travels_to_other_processes(run: Run) -> None:
    checkpoint = run.publish_checkpoint(100, FILES, FIELDS)
    copy = pickle.loads(pickle.dumps(checkpoint))
    assert copy == checkpoint
    assert hash(copy) == hash(checkpoint)
    copy.verify()


def test_local_paths_and_file_uris_open_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    wanted = RunStore(open_store(tmp_path).fs, f"{tmp_path}/my runs")
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


def test_errors_keep_credentials_to_themselves() -> None:
    with pytest.raises(RunStoreError) as caught:
        open_store("s3://key:se/cret@bucket/runs?nonsense=1")
    assert "cret" not in str(caught.value)


@pytest.mark.slow
def test_a_missing_bucket_is_an_error(s3_uri: str) -> None:
    store = open_store(s3_uri.replace("digits", "another").format(prefix="runs"))
    with pytest.raises(RunStoreError, match="there is no bucket 'another'"):
        store.list_runs()
    with pytest.raises(RunStoreError, match="cannot be written") as caught:
        store.run("forge").create({})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_an_error_within_seconds(s3_uri: str) -> None:
    with socket.socket() as nobody:  # bound, but not listening: the port refuses
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{nobody.getsockname()[1]}"
        store = open_store(f"s3://digits/runs?scheme=http&region=us-east-1&endpoint_override={endpoint}")
        start = time.monotonic()
        run = store.run("forge")
        checkpoint = Checkpoint(run, 1, {"files": {"generator.safetensors": {"bytes": 1, "sha256": ""}}})
        for call in (store.list_runs, checkpoint.is_intact, lambda: run.write_progress({})):
            with pytest.raises(RunStoreError, match="cannot be") as caught:
                call()
            assert not isinstance(caught.value, DamagedError)  # or a resume would set good checkpoints aside
            assert "\n" not in str(caught.value)
        assert time.monotonic() - start < 10
