"""The digit reader reads digits, has the recorded weights and accuracy, and can be trained again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.digit_reader import WEIGHTS, DigitReader, load_digit_reader, read_digits
from models.generator_file import read_metadata
from models.sampling import from_uint8, to_uint8
from trainer import data
from trainer.train_digit_reader import augment, main, train


@pytest.fixture(scope="module")
def reader() -> DigitReader:
    return load_digit_reader()


def read_provenance(path: Path) -> dict[str, Any]:
    return json.loads(read_metadata(path.read_bytes())["provenance"])


@pytest.fixture(scope="module")
def few() -> data.Dataset:
    return data.load_dataset().head(640)


def test_it_reads_the_test_images_as_its_weights_file_says(reader: DigitReader) -> None:
    test = data.load_dataset(split="t10k")
    _, logits = read_digits(reader, test.images)
    accuracy = np.mean(logits.argmax(1).numpy() == test.labels)
    assert accuracy >= 0.994
    provenance = read_provenance(WEIGHTS)
    assert provenance["test_accuracy"] == pytest.approx(accuracy, abs=2e-4)  # rounding differs between machines
    assert str(provenance["command"]).startswith("python -m trainer.train_digit_reader")


def test_it_is_small_and_cannot_be_trained_through(reader: DigitReader, few: data.Dataset) -> None:
    assert WEIGHTS.stat().st_size < 2_000_000
    assert 100_000 < sum(parameter.numel() for parameter in reader.parameters()) < 400_000
    assert not reader.training
    assert not any(parameter.requires_grad for parameter in reader.parameters())
    features, logits = read_digits(reader, few.images)
    assert not features.requires_grad
    assert (features.shape, logits.shape) == ((640, 128), (640, 10))
    assert features.min() == 0
    # The result for an image does not depend on the other images or on the shape of the input.
    alone, _ = read_digits(reader, few.images[7, 0][None])
    torch.testing.assert_close(alone[0], features[7])
    torch.testing.assert_close(reader(from_uint8(torch.tensor(few.images[:8]))), logits[:8])
    assert read_digits(reader, few.images[:0])[0].shape == (0, 128)
    with pytest.raises(ValueError, match=r"pictures must be uint8: got torch\.float32"):
        read_digits(reader, torch.zeros(1, 28, 28))


def test_a_changed_or_missing_weights_file_is_refused(tmp_path: Path) -> None:
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(content)
    with pytest.raises(ValueError, match=r"changed\.safetensors: SHA-256 .* is not the digit reader's"):
        load_digit_reader(changed)
    with pytest.raises(ValueError, match=r"none\.safetensors: cannot be read"):
        load_digit_reader(tmp_path / "none.safetensors")


def test_training_is_a_function_of_its_seed(few: data.Dataset) -> None:
    images, labels = torch.tensor(few.images), torch.from_numpy(few.labels)
    first, again, other = (train(images, labels, epochs=1, seed=seed).state_dict() for seed in (3, 3, 4))
    for name in first:
        assert torch.equal(first[name], again[name]), name
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_augmented_images_are_digits_moved_a_little(few: data.Dataset) -> None:
    images = from_uint8(torch.tensor(few.images))
    augmented = augment(images, torch.Generator().manual_seed(0))
    assert augmented.shape == images.shape
    assert augmented.min() >= -1
    assert augmented.max() <= 1
    assert not torch.equal(augmented, images)
    # The second half is only shifted: a wide margin loses nothing, and no new grey levels appear.
    before, after = to_uint8(images)[320:], to_uint8(augmented)[320:]
    inner = before[:, 2:-2, 2:-2].sum((1, 2)) == before.sum((1, 2))
    assert inner.sum() > 250
    for picture, moved in zip(before[inner], after[inner], strict=True):
        assert np.array_equal(np.sort(picture, axis=None), np.sort(moved, axis=None))
    # Rotated images keep about the same amount of ink, at the same place.
    ink, turned_ink = (images[:320] + 1).mean((1, 2, 3)), (augmented[:320] + 1).mean((1, 2, 3))
    assert (turned_ink / ink - 1).abs().max() < 0.35


def test_the_command_writes_weights_and_refuses_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], few: data.Dataset
) -> None:
    monkeypatch.setattr(data, "load_dataset", lambda folder, split: few)
    out = tmp_path / "reader.safetensors"
    assert main(["--epochs", "2", "--seed", "1", "--out", str(out)]) == 0
    digest = capsys.readouterr().out.split()[-1]
    trained = load_digit_reader(out, digest)
    features, _ = read_digits(trained, few.images[:2])
    assert features.shape == (2, 128)
    assert read_provenance(out)["command"] == "python -m trainer.train_digit_reader --epochs 2 --seed 1"

    for arguments, message in (
        (["--epochs", "0"], "--epochs must be at least 1: got 0"),
        (["--seed", "-1"], "--seed must be in"),
        (["--out", str(tmp_path / "none" / "x")], "no such folder"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
