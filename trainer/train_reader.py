"""`python -m trainer train-reader --dataset FOLDER`: train the reader that scores the generators of a dataset.

It trains on the training images only. The test images measure the final weights once; nothing is selected by them.
"""

import datetime
import shlex
import time
import uuid
from pathlib import Path

import torch

from models.command_line import Parser
from models.digit_reader import MIN_IMG_SIZE
from trainer.data import MNIST_SHA256, Dataset, DatasetError, load_dataset
from trainer.metrics import NEIGHBOURS, Judge
from trainer.readers import DatasetReader, is_of, reader_bytes
from trainer.run_store import READER_FILE
from trainer.train_digit_reader import BATCH_SIZE, EPOCHS, train

MIN_STEPS = 2000
"""Steps that a training has at least: with few images it takes more epochs."""


def check(training: Dataset, test: Dataset) -> None:
    """Raise `DatasetError` if no reader can be trained on these images, or measured on them."""
    folder, (channels, height, width) = training.folder, training.images.shape[1:]
    if is_of(MNIST_SHA256, training.sha256):
        raise DatasetError(f"{folder}: is MNIST, whose reader is part of the project (models/digit_reader.safetensors)")
    if height != width or height < MIN_IMG_SIZE or channels not in (1, 3) or test.images.shape[1:] != (
        channels, height, width,
    ):  # fmt: skip
        raise DatasetError(
            f"{folder}: images must be squares of at least {MIN_IMG_SIZE} pixels in grey or RGB, the same in both "
            f"splits: got {training.images.shape[1:]} and {test.images.shape[1:]} (channels, height, width)"
        )
    if training.num_classes < 2:
        raise DatasetError(f"{folder}: a reader tells classes apart, and all images have label 0")
    if len(training.images) < BATCH_SIZE:
        raise DatasetError(f"{folder}: {len(training.images)} training images are too few; {BATCH_SIZE} are needed")
    if len(test.images) <= NEIGHBOURS:
        raise DatasetError(f"{folder}: {len(test.images)} test images are too few; {NEIGHBOURS + 1} are needed")


def train_reader(training: Dataset, test: Dataset, epochs: int, seed: int) -> bytes:
    """Train a reader of a dataset, and return the content of its file."""
    images, labels = torch.tensor(training.images), torch.tensor(training.labels)
    network = train(images, labels, epochs, seed, title="reader", num_classes=training.num_classes)
    judge = Judge(network, training, test, reader_sha256="")
    name = training.folder.resolve().name if training.folder else ""
    provenance = {
        "command": f"python -m trainer train-reader --dataset {shlex.quote(name)} --epochs {epochs} --seed {seed}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "test_accuracy": (judge.test.digits == judge.test_labels).double().mean().item(),
        "torch": torch.__version__,
    }
    return reader_bytes(judge, provenance)


def write(content: bytes, path: Path) -> None:
    """Replace a file; a training that reads it meanwhile finds the old file or the new one."""
    stage = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        stage.write_bytes(content)
        stage.replace(path)
    finally:
        stage.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(
        prog="python -m trainer train-reader",
        description="Train the reader that scores the generators of a dataset, and write it beside the data.",
    )
    parser.add_argument("--dataset", type=Path, required=True, metavar="FOLDER", help="folder of IDX files")
    parser.add_argument(
        "--epochs", type=int, help=f"passes over the data (default: {EPOCHS}, or more for {MIN_STEPS} steps)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default: 0)")
    options = parser.parse_args(arguments)
    folder, started = options.dataset, time.monotonic()
    path = folder / READER_FILE
    try:
        if options.epochs is not None and options.epochs < 1:
            raise ValueError(f"--epochs must be at least 1: got {options.epochs}")
        if not 0 <= options.seed < 2**32:
            raise ValueError(f"--seed must be in [0, 2^32): got {options.seed}")
        training, test = load_dataset(folder), load_dataset(folder, "t10k")
        check(training, test)
        epochs = options.epochs or max(EPOCHS, -(-MIN_STEPS // (len(training.images) // BATCH_SIZE)))
        print(
            f"Training a reader of {training.num_classes} classes on {len(training.images):,} images, {epochs} epochs.",
            flush=True,
        )
        write(train_reader(training, test, epochs, options.seed), path)
        reader = DatasetReader.load(path)
    except ValueError as error:
        return parser.fail(str(error))
    except OSError as error:
        return parser.fail(f"{path}: cannot be written ({error.strerror})")
    floor = reader.reference.floor
    print(
        f"Test accuracy {reader.provenance['test_accuracy']:.2%} on {len(test.images):,} images that it has not seen."
    )
    print(f"Real images score FID {floor['fid']:.3f}, recall {floor['recall']:.3f}, coverage {floor['coverage']:.3f}.")
    print(f"Wrote {path} (SHA-256 {reader.sha256}). Took {time.monotonic() - started:.0f} s.")
    return 0
