"""`python -m models.export --generator FILE --onnx OUT.onnx`: a generator as an ONNX model, for other runtimes.

It needs the extra `onnx`: `pip install -e '.[onnx]'`. docs/take-home.md shows how to draw with the model.
"""

import copy
import hashlib
import json
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from models.command_line import Parser, run
from models.files import written_whole
from models.generator_file import LoadedGenerator, load_generator, read_metadata

OPSET = 20
"""Version of ONNX's operators, of 2023: the runtimes of today know it."""
EXAMPLES = 2
"""Pictures with which the network is traced. The model draws any number."""


class Drawer(nn.Module):
    """(z, c) -> images (N, C, H, W) in [-1, 1], and their pixels as `models.sampling.to_uint8` rounds them."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, z_dim), c (N, condition_width) -> images and pixels, uint8 (N, H, W), or (N, H, W, 3)."""
        images: Tensor = self.generator(z, c)
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return images, pixels[:, 0] if pixels.shape[1] == 1 else pixels.permute(0, 2, 3, 1)


def onnx_model(loaded: LoadedGenerator, metadata: dict[str, str]) -> bytes:
    """Return a generator as an ONNX model in float32, with metadata.

    Inputs are `z` (N, z_dim) and `c` (N, condition_width), outputs `images` and `pixels` of `Drawer`. A generator
    without conditions takes `z` alone. Raises `ValueError` if the extra is not installed.
    """
    try:
        import onnx  # an optional extra
        import onnxscript  # noqa: F401  what torch.onnx needs
    except ImportError as error:
        raise ValueError("ONNX needs packages of its own: pip install 'digitforge[onnx]'") from error
    drawer = Drawer(copy.deepcopy(loaded.generator)).float().eval()
    z, c = torch.zeros(EXAMPLES, loaded.config.z_dim), torch.zeros(EXAMPLES, loaded.config.condition_width)
    number = torch.export.Dim("number")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision is missing
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch warns about are its own deprecated functions
            program = torch.onnx.export(
                drawer,
                (z, c),
                input_names=["z", "c"],
                output_names=["images", "pixels"],
                dynamic_shapes=({0: number}, {0: number}),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx gave no model")
    model = program.model_proto
    if not loaded.config.condition_width:
        del model.graph.input[1]
    for part in (*model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")  # where in this installation torch has found the operation
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def metadata_of(loaded: LoadedGenerator, content: bytes) -> dict[str, str]:
    """Return the metadata of a generator file's content, its SHA-256, and its classes by name or number."""
    names = loaded.class_names or tuple(map(str, range(loaded.config.num_classes)))
    own = {"generator_sha256": hashlib.sha256(content).hexdigest(), "classes": json.dumps(names)}
    return read_metadata(content) | own


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="python -m models.export", description="Write a generator as an ONNX model.")
    parser.add_argument("--generator", type=Path, required=True, metavar="FILE", help="a generator.safetensors file")
    parser.add_argument("--onnx", type=Path, required=True, metavar="OUT", help="the file to write")
    options = parser.parse_args(arguments)
    try:
        loaded = load_generator(options.generator)
        model = onnx_model(loaded, metadata_of(loaded, options.generator.read_bytes()))
        with written_whole(options.onnx) as file:
            file.write(model)
    except ValueError as error:
        return parser.fail(str(error))
    except OSError as error:
        return parser.fail(f"{options.onnx}: cannot be written ({error.strerror})")
    print(f"Wrote {options.onnx}: {len(model) / 1e6:.2f} MB, ONNX operators {OPSET}")
    return 0


if __name__ == "__main__":
    run(main)
