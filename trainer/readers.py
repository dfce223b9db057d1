"""The readers of datasets: which one judges a generator, and the file that `python -m trainer train-reader` writes.

MNIST's reader is part of the project (`models/digit_reader.py`), with the scores of real digits beside
`trainer/metrics.py`. Another dataset has both in one file beside its data. A reader is found by the SHA-256 of the
files that it was trained on, so it never judges a generator of other data.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.config import ModelConfig
from models.digit_reader import SHA256, DigitReader, load_digit_reader
from models.generator_file import read_metadata
from trainer import data
from trainer.data import MNIST, ROOT, DatasetError, load_dataset
from trainer.metrics import EpochJudge, Judge, RealStatistics, Reference, mnist_judge
from trainer.run_store import READER_FILE

FORMAT = "digitforge-reader-1"
SHELVES = ("data", "pretrained")
"""Folders of the repository whose folders may have readers."""


@dataclass(frozen=True)
class DatasetReader:
    """A reader, and what it knows of the dataset that it was trained on."""

    network: DigitReader
    """Frozen and in evaluation mode."""
    reference: Reference
    sha256: str
    """SHA-256 of the reader; scores are comparable only if it is the same."""
    data: Mapping[str, str]
    """SHA-256 of each file of its dataset, by name."""
    provenance: Mapping[str, Any]
    """Command, date, test accuracy and version of PyTorch."""
    folder: Path
    """Where its file is."""

    @classmethod
    def mnist(cls) -> Self:
        """Load the reader of MNIST, which is part of the project."""
        return cls(load_digit_reader(), Reference.load(), SHA256, data.MNIST_SHA256, {}, MNIST)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `reader_bytes` has written; `ValueError` for a file that cannot be used."""
        again = "train it again: python -m trainer train-reader"
        try:
            content = path.read_bytes()
            metadata, tensors = read_metadata(content), safetensors.torch.load(content)
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path}: cannot be read as a reader ({error}); {again}") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path}: is not a reader of this version; {again}")
        if (digest := _digest(tensors)) != metadata["sha256"]:
            raise ValueError(f"{path}: is damaged (SHA-256 {digest}, not {metadata['sha256']}); {again}")
        network = DigitReader(**json.loads(metadata["shape"]))
        network.load_state_dict(_named("reader", tensors))
        real = RealStatistics(**_named("real", tensors))
        reference = Reference(real, np.array(json.loads(metadata["shares"])), json.loads(metadata["floor"]))
        hashes, provenance = json.loads(metadata["data"]), json.loads(metadata["provenance"])
        return cls(network.eval().requires_grad_(False), reference, digest, hashes, provenance, path.parent)

    def judge(self, folder: Path | None = None) -> Judge:
        """Return the judge with all images of its dataset, found in `folder`, beside the reader, or in data/.

        Raise `ValueError` if they are nowhere.
        """
        if self.sha256 == SHA256:
            return mnist_judge()
        for candidate in _candidates(folder, self.folder):
            try:
                training, test = load_dataset(candidate), load_dataset(candidate, "t10k")
            except DatasetError:
                continue
            if is_of(self.data, training.sha256 | test.sha256):
                return Judge(self.network, training, test, self.sha256)
        raise ValueError(
            f"the data that {self.folder / READER_FILE} was trained on are neither beside it nor in {ROOT / 'data'}: "
            "name their folder by --dataset"
        )


def is_of(known: Mapping[str, str], data_sha256: Mapping[str, str] | None) -> bool:
    """Return whether files with these SHA-256, by name, are of a known dataset, whatever the names of its classes.

    Unknown files, None, are of any dataset.
    """
    return all(known.get(name) == sha256 for name, sha256 in (data_sha256 or {}).items() if name != data.CLASSES)


def why_unreadable(network: DigitReader, config: ModelConfig) -> str:
    """Return why a reader cannot read what a generator draws, or "" if it can."""
    shape = network.img_channels, network.img_size, network.img_size
    if config.image_shape == shape and config.num_classes in (0, network.num_classes):
        return ""
    shapes = ["x".join(map(str, each)) for each in (shape, config.image_shape)]
    return (
        f"the reader reads {network.num_classes} classes at {shapes[0]}: this generator draws {config.num_classes} "
        f"classes at {shapes[1]}"
    )


def find_reader(data_sha256: Mapping[str, str] | None, folder: Path | None = None) -> DatasetReader | None:
    """Return the reader of the data whose files have these SHA-256; None if there is none.

    It is looked for in `folder` first, then among the datasets and the shipped runs of the repository. Unknown data
    count as MNIST. If none is found, but a reader is damaged, it may have been that one: raise `ValueError`.
    """
    if is_of(data.MNIST_SHA256, data_sha256):
        return DatasetReader.mnist()
    damage: ValueError | None = None
    for candidate in _candidates(folder):
        if (path := candidate / READER_FILE).is_file():
            try:
                found = DatasetReader.load(path)
            except ValueError as error:
                damage = damage or error
                continue
            if is_of(found.data, data_sha256):
                return found
    if damage:
        raise damage
    return None


def reader_for(config: ModelConfig, data_sha256: Mapping[str, str] | None, folder: Path | None = None) -> DatasetReader:
    """Return the reader that judges a generator trained on data with these SHA-256; `ValueError` says why none can."""
    reader = find_reader(data_sha256, folder)
    if reader is None:
        raise ValueError(
            "this generator was trained on other data than MNIST, and no reader of them was found; train one: "
            "python -m trainer train-reader --dataset FOLDER"
        )
    if reason := why_unreadable(reader.network, config):
        raise ValueError(reason)
    return reader


def epoch_judge(config: ModelConfig, dataset: data.Dataset, device: torch.device) -> EpochJudge | None:
    """Return the judge of a training; None if there is no reader that can read what it will draw."""
    reader = find_reader(dataset.sha256, dataset.folder)
    if reader is None or why_unreadable(reader.network, config):
        return None
    return EpochJudge(config, device, dataset.table, reader.network, reader.reference, reader.sha256, dataset)


def reader_bytes(judge: Judge, provenance: Mapping[str, Any]) -> bytes:
    """Return the content of a reader's file: its weights, and what scores of epochs need to know of real images."""
    reference, network = Reference.measure(judge), judge.reader
    tensors = {f"reader.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"real.{name}": tensor for name, tensor in vars(reference.real).items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    shape = {"img_size": network.img_size, "img_channels": network.img_channels, "num_classes": network.num_classes}
    values = {
        "shape": shape,
        "shares": reference.class_shares.tolist(),
        "floor": reference.floor,
        "data": judge.data_sha256,
        "provenance": dict(provenance),
    }
    texts = {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
    return safetensors.torch.save(tensors, texts | {"format": FORMAT, "sha256": _digest(tensors)})


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors."""
    return hashlib.sha256(safetensors.torch.save(dict(tensors))).hexdigest()


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix and a period, without them."""
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }


def _candidates(*folders: Path | None) -> list[Path]:
    """Return the folders that may have data or a reader: these, and those of the repository."""
    shelved = [path for shelf in SHELVES for path in sorted((ROOT / shelf).glob("*"))]
    return [*filter(None, folders), *shelved]
