import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sample_run import run_record
from trainer import checkpoint_writer
from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import Upkeep
from trainer.endings import StorageFailedError
from trainer.run_store import Manifest, Run, RunStoreError, open_store

Publish = Callable[[Run, Manifest, dict[str, bytes]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = open_store(tmp_path).run("quick-1")
    run.create(run_record())
    return run


def store(writer: CheckpointWriter, step: int) -> None:
    writer.store(Manifest(step=step, epoch=0, nimg=64 * step, world_size=1), {"networks.safetensors": bytes(9)})


def test_a_storage_that_is_away_holds_a_training_up_for_seconds_and_gets_the_newest_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_writer, "STORE_SECONDS", 0.1)
    publish: Publish = Run.publish_checkpoint
    is_taken, is_back = threading.Event(), threading.Event()

    def wait_and_publish(run: Run, manifest: Manifest, files: dict[str, bytes]) -> None:
        is_taken.set()
        assert is_back.wait(20)
        publish(run, manifest, files)

    monkeypatch.setattr(Run, "publish_checkpoint", wait_and_publish)
    with CheckpointWriter(run, Upkeep(keep_checkpoints=9)) as writer:
        store(writer, 1)
        assert is_taken.wait(20)
        for step in (2, 3, 4):
            store(writer, step)
        is_back.set()
        writer.flush()
        assert [each.step for each in run.checkpoints()] == [1, 4]


def test_a_storage_that_fails_for_too_long_ends_the_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "PATIENCE", 0.5)

    def refuse(run: Run, manifest: Manifest, files: dict[str, bytes]) -> None:
        raise RunStoreError("no space")

    monkeypatch.setattr(Run, "publish_checkpoint", refuse)
    with pytest.raises(StorageFailedError, match=r"step 1 could not be stored for .* s: no space"):
        store_one(run)


def store_one(run: Run) -> None:
    with CheckpointWriter(run, Upkeep()) as writer:
        store(writer, 1)
        writer.flush()
