"""One launch at a time has a run, and a writer that has lost its lease writes nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from tests.sample_run import run_record
from tests.training import forge_config, train_here
from trainer import lease
from trainer.lease import LeaseLostError, RunBusyError, fenced, read_lease, take_lease
from trainer.run_store import Manifest, Progress, Run, RunStore, RunStoreError, open_store

HOLD = """
import sys, time
from trainer import lease
from trainer.run_store import open_store
lease.RENEW_SECONDS = 0.2
held = lease.take_lease(open_store(sys.argv[1]).run("forge"), "first", print)
print(held.token, flush=True)
while not held.lost_to():
    time.sleep(0.1)
held.release()
print(held.lost_to(), flush=True)
"""
"""A process that takes the lease of a run, prints its token, and ends when another launch has taken it over."""


def quiet(line: str) -> None:
    """Show nothing."""


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """An empty store, once on disk and once in a bucket, whose leases run out soon."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    if request.param == "local":
        return open_store(tmp_path / "runs")
    return open_store(request.getfixturevalue("s3_uri").format(prefix=f"{uuid.uuid4().hex}/runs"))


@pytest.fixture
def run(store: RunStore) -> Run:
    """A run that nobody has trained."""
    return store.run("forge")


def test_a_second_launch_is_refused_until_the_first_releases_the_lease(run: Run) -> None:
    first = take_lease(run, "first", quiet)
    with pytest.raises(RunBusyError, match=rf"run forge is being trained by process {os.getpid()} on \S+: stop that"):
        take_lease(run, "second", quiet)
    first.release()
    second = take_lease(run, "second", quiet)
    assert (first.token, second.token) == (1, 2)
    assert first.lost_to() == second.lost_to() == ""
    second.release()


def test_of_launches_at_the_same_moment_one_gets_the_lease(run: Run) -> None:
    for token in (1, 2, 3):
        outcomes: list[object] = []
        at_once = threading.Barrier(4)

        def launch(outcomes: list[object] = outcomes, at_once: threading.Barrier = at_once) -> None:
            at_once.wait()
            try:
                outcomes.append(take_lease(run, uuid.uuid4().hex, quiet))
            except RunBusyError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=launch) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (taken,) = [each for each in outcomes if isinstance(each, lease.Lease)]
        assert len(outcomes) == 4
        assert taken.token == token
        taken.release()


def test_a_lease_ends_with_its_process(run: Run, tmp_path: Path) -> None:
    if not run.storage.is_local:
        pytest.skip("a bucket cannot know that a process has ended; see the next test")
    process = subprocess.Popen([sys.executable, "-c", HOLD, run.storage.root], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline().strip() == "1"
    with pytest.raises(RunBusyError, match=f"process {process.pid} on"):
        take_lease(run, "second", quiet)
    process.kill()
    process.wait()
    second = take_lease(run, "second", quiet)
    assert second.token == 2
    second.release()


@pytest.mark.slow
def test_a_lease_in_a_bucket_passes_on_when_it_is_not_renewed(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    uri = s3_uri.format(prefix=f"{uuid.uuid4().hex}/runs")
    run = open_store(uri).run("forge")
    command = [sys.executable, "-c", HOLD, uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline().strip() == "1"
        before = read_lease(run.storage, "forge").renewed
        with pytest.raises(RunBusyError, match=f"process {first.pid} on"):
            take_lease(run, "second", quiet)
        assert read_lease(run.storage, "forge").renewed > before

        first.send_signal(signal.SIGSTOP)  # as if it were cut off
        said: list[str] = []
        second = take_lease(run, "second", said.append)
        assert second.token == 2
        assert "was not released" in said[0]

        first.send_signal(signal.SIGCONT)
        assert first.stdout.readline().strip() == f"process {os.getpid()} on {socket.gethostname()}"
    assert read_lease(run.storage, "forge").launch_id == "second"
    second.release()


def test_a_writer_that_has_lost_its_lease_writes_nothing(run: Run) -> None:
    first = take_lease(run, "first", quiet)
    old = fenced(run, first.token)
    old.create(run_record(recipe="forge"))
    old.write_progress(Progress(step=5))
    first.release()
    second = take_lease(run, "second", quiet)
    new = fenced(run, second.token)
    new.write_progress(Progress(step=7))

    for write in (
        lambda: old.write_progress(Progress(step=6)),
        lambda: old.publish_checkpoint(Manifest(step=6, epoch=0, nimg=1, world_size=1), {"file": b"x"}),
        lambda: old.write_losses(1, {"step": [1]}),
        lambda: old.request_stop("first"),
    ):
        with pytest.raises(LeaseLostError, match="run forge has passed to process"):
            write()
    assert run.read_progress().step == 7
    assert run.read_progress().token == 2
    assert run.checkpoints() == []
    second.release()


def test_records_carry_the_token_and_a_late_checkpoint_does_not_count(run: Run) -> None:
    def publish(token: int | None, step: int) -> None:
        writer = run if token is None else fenced(run, token)
        writer.publish_checkpoint(Manifest(step=step, epoch=0, nimg=1, world_size=1), {"file": b"%d" % (token or 0)})

    publish(None, 10)
    first = take_lease(run, "first", quiet)
    publish(first.token, 20)
    first.release()
    second = take_lease(run, "second", quiet)
    publish(second.token, 30)
    # A write of the first training that was checked before, and arrives after, the second has taken over.
    late = run.storage.read_json("forge/step_00000020/MANIFEST.json") | {"step": 40}
    content = run.storage.read("forge/step_00000020/file")
    run.storage.write("forge/step_00000040/file", content)
    run.storage.write("forge/step_00000040/MANIFEST.json", json.dumps(late).encode())
    assert [(each.step, each.manifest.token) for each in run.checkpoints()] == [(10, None), (20, 1), (30, 2)]
    publish(second.token, 40)
    assert [each.step for each in run.checkpoints()] == [10, 20, 30, 40]
    latest = run.latest_checkpoint()
    assert latest
    assert latest.read("file") == b"2"
    second.release()


def test_checkpoints_count_also_after_the_lease_was_removed(run: Run) -> None:
    first = take_lease(run, "first", quiet)
    writer = fenced(run, first.token)
    writer.publish_checkpoint(Manifest(step=10, epoch=0, nimg=1, world_size=1), {"file": b"x"})
    first.release()
    for _ in range(2):  # a copy of a run may lack its lease
        run.storage.remove_file("forge/lease.json")
        second = take_lease(run, "second", quiet)
        step = 10 * second.token
        fenced(run, second.token).publish_checkpoint(Manifest(step=step, epoch=0, nimg=1, world_size=1), {"file": b"x"})
        second.release()
    assert [(each.step, each.manifest.token) for each in run.checkpoints()] == [(10, 1), (20, 2), (30, 3)]


def test_a_training_ends_when_its_lease_is_lost(tmp_path: Path) -> None:
    run = open_store(tmp_path).run("run")
    first = take_lease(run, "first", quiet)
    trained = fenced(run, first.token)

    def take_over() -> None:
        while run.read_progress().phase != "training":
            time.sleep(0.05)
        first.release()
        take_lease(run, "second", quiet).release()

    thread = threading.Thread(target=take_over)
    thread.start()
    with pytest.raises(LeaseLostError, match="run run has passed to process"):
        train_here(forge_config(epochs=1, steps_per_epoch=20_000), trained)
    thread.join()
    assert run.checkpoints() == []


def test_a_launch_without_a_run_leaves_nothing_on_a_disk(tmp_path: Path) -> None:
    for _ in range(2):
        take_lease(open_store(tmp_path / "runs").run("forge"), "first", quiet).release(forget=True)
        assert list((tmp_path / "runs").iterdir()) == []


def test_a_lease_waits_for_a_write_of_the_last_one(run: Run) -> None:
    if not run.storage.is_local:
        pytest.skip("a bucket has no locks")
    first = take_lease(run, "first", quiet)
    old = fenced(run, first.token)
    first.release()
    taken: list[lease.Lease] = []
    with old.storage.writing("forge/file"):
        thread = threading.Thread(target=lambda: taken.append(take_lease(run, "second", quiet)))
        thread.start()
        time.sleep(0.5)
        assert not taken
    thread.join(5)
    assert taken[0].token == 2
    taken[0].release()


def test_a_folder_that_was_moved_away_is_not_made_again(run: Run, tmp_path: Path) -> None:
    if not run.storage.is_local:
        pytest.skip("a bucket has no folders")
    held = take_lease(run, "first", quiet)
    writer = fenced(run, held.token)
    writer.write_progress(Progress(step=1))
    folder = Path(run.path)
    folder.rename(tmp_path / "away")
    with pytest.raises(RunStoreError, match="cannot be written"):
        writer.write_progress(Progress(step=2))
    assert not folder.exists()
    (tmp_path / "away").rename(folder)
    writer.write_progress(Progress(step=3))
    assert run.read_progress().step == 3
    held.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": "x"}', b"\xff"])
def test_a_damaged_lease_is_taken_with_a_token_above_all_others(run: Run, content: bytes) -> None:
    take_lease(run, "first", quiet).release()
    run.storage.write("forge/lease.json", content)
    second = take_lease(run, "second", quiet)
    assert second.token > 1_000_000
    fenced(run, second.token).write_progress(Progress(step=1))
    second.release()


def test_a_disk_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "forge").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match=r"runs/forge: cannot be written \(File exists\)"):
        take_lease(open_store(tmp_path / "runs").run("forge"), "first", quiet)
