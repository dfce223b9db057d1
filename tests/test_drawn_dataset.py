"""Datasets that a generator draws: IDX files and a datasheet, which load and train as MNIST does."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from models import drawn_dataset, generate
from models.config import ModelConfig
from models.generator_file import generator_bytes, load_generator
from models.networks import build_generator
from tests.golden import shipped_generators
from tests.training import forge_config, train_here
from trainer.data import load_dataset
from trainer.run_store import open_store

FORGE = shipped_generators()["forge"]


def command(out: Path, *options: str, generator: Path = FORGE) -> int:
    return generate.main(["--generator", str(generator), "--format", "idx", "--out", str(out), *options])


def test_a_drawn_dataset_has_the_generators_pictures_and_says_where_they_come_from(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "digits"
    assert command(folder, "--count", "6", "--seed", "5", "--slant", "20") == 0
    train, test = load_dataset(folder), load_dataset(folder, "t10k")
    assert train.labels.tolist() == list(range(10)) * 6
    assert test.labels.tolist() == list(range(10))
    images, _ = generate.generate(load_generator(FORGE), list(range(10)), 7, 5, 1.0, [{"slant": 20.0}] * 10)
    by_class = images.reshape(10, 7, 28, 28).swapaxes(0, 1).reshape(-1, 1, 28, 28)
    np.testing.assert_array_equal(np.concatenate([train.images, test.images]), by_class)

    sheet = (folder / "README.md").read_text()
    for fact in (
        hashlib.sha256(FORGE.read_bytes()).hexdigest(),
        "run forge, recipe forge-best, step 15000",
        "for training 5 to 10, for testing 11 to 11",
        "| all | 100.00% |",
        *(f"| `{name}` | `{digest}` |" for name, digest in (train.sha256 | test.sha256).items()),
    ):
        assert fact in sheet
    (again,) = [line for line in sheet.splitlines() if line.startswith("python -m models.generate")]
    options = again.partition(" FILE ")[2].replace("--out digits", f"--out {tmp_path / 'again'}").split()
    assert generate.main(["--generator", str(FORGE), *options]) == 0
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "again").iterdir()}
    for path in folder.glob("*.gz"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_drawn_dataset_trains(tmp_path: Path) -> None:
    assert command(tmp_path / "digits", "--count", "6") == 0
    run = open_store(tmp_path / "runs").run("drawn")
    train_here(forge_config(dataset=str(tmp_path / "digits"), limit_images=0, epochs=1, steps_per_epoch=3), run)
    assert run.read_epoch_metrics(1).step == 3


def test_classes_keep_their_names_and_pictures_their_colours(tmp_path: Path) -> None:
    config = ModelConfig(
        architecture="mlp", z_dim=4, num_classes=2, img_size=8, img_channels=3, g_widths=(8,), d_widths=(8,)
    )
    torch.manual_seed(0)
    path = tmp_path / "generator.safetensors"
    path.write_bytes(generator_bytes(build_generator(config), config, {"run": "tiny"}, ("cat", "dog")))
    assert command(tmp_path / "pets", "--count", "300", generator=path) == 0
    dataset = load_dataset(tmp_path / "pets")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.images.shape == (600, 3, 8, 8)
    assert len(load_dataset(tmp_path / "pets", "t10k").images) == 2 * 50
    assert "read as" not in (tmp_path / "pets" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--digit", "7"], "draws a dataset of all classes; omit --digit"),
        (["--count", "0"], "--count must be at least 1"),
        (["--count", "9000"], "at most 100000: got 9000"),
        (["--seed", "4294967290"], "--seed and the seeds that follow it must be in 0..4294967295"),
        (["--thickness", "90"], "--thickness must be between"),
        (["--out", "x.npz"], "--out must be a folder for --format idx"),
    ],
)
def test_a_dataset_that_cannot_be_drawn_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert command(tmp_path / "digits", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone_and_an_interruption_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").write_text("mine")
    assert command(tmp_path, "--count", "1") == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert command(tmp_path / "x", generator=shipped_generators()["gan"]) == 2
    assert "draws without classes" in capsys.readouterr().err

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(drawn_dataset, "datasheet", interrupt)
    with pytest.raises(KeyboardInterrupt):
        command(tmp_path / "x", "--count", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
