"""The generator file: weights and ModelConfig in one safetensors file, which is all that a consumer needs."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from models import sampling
from models.attributes import AttributeTable
from models.config import MAX_WRITER, ModelConfig
from models.networks import build_generator

FORMAT = "digitforge-generator-1"


class GeneratorFileError(ValueError):
    """A generator file that cannot be used. The message names the file and the reason."""


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator file, ready to draw."""

    generator: nn.Module
    """In float64 (see `models.sampling`), frozen and in evaluation mode."""
    config: ModelConfig
    provenance: dict[str, Any]
    """Run, recipe, step, epoch, nimg, data."""
    class_names: tuple[str, ...] = ()
    """Names of class 0, 1, ... of its training data; empty = classes have only numbers."""
    table: AttributeTable | None = None
    """The attributes of its training data; None = it has no attributes."""
    writers: tuple[int, ...] = ()
    """The numbers of the writers in its training data; empty = it knows no writers."""

    @property
    def writes_digits(self) -> bool:
        """Whether it draws the ten digits, in grey."""
        is_named_so = self.class_names in ((), tuple("0123456789"))
        return self.config.num_classes == 10 and is_named_so and self.config.img_channels == 1

    def class_rows(
        self,
        labels: Sequence[int],
        seeds: Sequence[int],
        truncation: float = 1.0,
        asked: NDArray[np.float64] | None = None,
    ) -> Tensor:
        """Return the class rows (N, condition_width) of N labels and N seeds; see `sampling.class_rows`.

        A generator that knows writers has their columns instead of the attributes'; `asked` (N, 1) has their numbers.
        """
        if self.writers:
            classes = sampling.one_hot(labels, self.config.num_classes)
            return torch.cat([classes, self._writer_columns(labels, asked)], 1)
        draws = sampling.attribute_draws(seeds, self.config)
        return sampling.class_rows(labels, draws, self.config, self.table, truncation, asked)

    def _writer_columns(self, labels: Sequence[int], asked: NDArray[np.float64] | None) -> Tensor:
        """Return the writers' columns (N, writers) for the numbers that are asked for, (N, 1); NaN = no writer.

        Raises `ValueError` for a number that is not among `writers`.
        """
        columns = torch.zeros(len(labels), len(self.writers))
        for row, (number,) in enumerate(() if asked is None else asked.tolist()):
            if not math.isnan(number):
                if number not in self.writers:
                    raise ValueError(f"this generator knows {len(self.writers)} writers, but not writer {number:g}")
                columns[row, self.writers.index(int(number))] = 1
        return columns


def generator_bytes(
    generator: nn.Module,
    config: ModelConfig,
    provenance: dict[str, Any],
    class_names: Sequence[str] = (),
    table: AttributeTable | None = None,
    writers: Sequence[int] = (),
) -> bytes:
    """Return the content of a generator file. The same arguments give the same bytes."""
    weights = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    metadata = {"format": FORMAT, "model": config.to_json(), "provenance": json.dumps(provenance, sort_keys=True)}
    if class_names:
        metadata["class_names"] = json.dumps(list(class_names))
    if table:
        metadata["attributes"] = table.to_json()
    if writers:
        metadata["writers"] = json.dumps(list(writers))
    return _with_sorted_metadata(safetensors.torch.save(weights, metadata))


def _with_sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in order: the library writes them in a different order each time."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[start:]


def usable_class_names(names: object, num_classes: int) -> tuple[str, ...]:
    """Return class names from a file or a record, or () if they are not one distinct text for each class."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        return ()
    return tuple(names) if len(set(names)) == len(names) and num_classes in (0, len(names)) else ()


def read_generator(content: bytes, name: str) -> LoadedGenerator:
    """Return the generator in a file's content.

    `name` is for messages. Raises `GeneratorFileError`. Memory is allocated only for the weights in the file.
    """
    try:
        metadata = read_metadata(content)
        weights = safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise GeneratorFileError(f"{name}: not a safetensors file, or a damaged one ({error})") from error
    if metadata.get("format") != FORMAT:
        raise GeneratorFileError(
            f"{name}: not a generator file of this version (its format is {metadata.get('format')!r}, not {FORMAT!r})"
        )
    try:
        config = ModelConfig.from_dict(json.loads(metadata["model"]))
        provenance = json.loads(metadata["provenance"])
        table, writers = _table(metadata, config), _writers(metadata, config)
        with torch.device("meta"):
            generator = build_generator(config)
        generator.load_state_dict(weights, assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        first_line = str(error).splitlines()[0]
        raise GeneratorFileError(f"{name}: weights and config do not fit together ({first_line})") from error
    try:
        names = usable_class_names(json.loads(metadata.get("class_names", "[]")), config.num_classes)
    except ValueError:  # the generator is usable without names
        names = ()
    generator.double().eval().requires_grad_(False)
    return LoadedGenerator(generator, config, provenance, names, table, writers)


def _table(metadata: dict[str, str], config: ModelConfig) -> AttributeTable | None:
    """Return the table of a generator with attributes. Raises `KeyError` or `ValueError` without a fitting one."""
    if not config.attributes:
        return None
    table = AttributeTable.from_json(metadata["attributes"])
    if table.names != config.attributes or len(table.values) != config.num_classes:
        raise ValueError(f"the table of attributes is of {len(table.values)} classes and {', '.join(table.names)}")
    return table


def _writers(metadata: dict[str, str], config: ModelConfig) -> tuple[int, ...]:
    """Return the numbers of the writers of a config with writers. Raises `KeyError` or `ValueError` without them."""
    if not config.writers:
        return ()
    numbers = json.loads(metadata["writers"])
    if not isinstance(numbers, list) or not all(type(each) is int and 0 <= each <= MAX_WRITER for each in numbers):
        raise ValueError(f"the numbers of the writers are not a list of whole numbers from 0 to {MAX_WRITER}")
    if len(set(numbers)) != len(numbers) or len(numbers) != config.writers:
        raise ValueError(f"there are {len(set(numbers))} different writers, not {config.writers}")
    return tuple(numbers)


def load_generator(path: Path) -> LoadedGenerator:
    """Load a generator file. Raises `GeneratorFileError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GeneratorFileError(f"{path}: cannot be read ({error.strerror})") from error
    return read_generator(content, str(path))


def read_metadata(content: bytes) -> dict[str, str]:
    """Return the metadata in a safetensors file's content. Raises `ValueError` if the content is damaged.

    The safetensors library reads metadata from a path only.
    """
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata
