"""`python -m models.bundle --generator FILE`: one JavaScript file with a generator in it, for any web page.

It defines the element `<digit-forge write="2026-11-24" seed="7">`, which writes a text by hand and loads nothing. The
drawer is that of the app, so the pixels are those of `models.pictures` to the last bit. docs/take-home.md has the
element's attributes.

The weights are rounded to `BITS` significant bits, so that the file stays small. `--rounded FILE` writes the generator
with these weights, for comparing pixels.
"""

import base64
import copy
import hashlib
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.command_line import Parser, run
from models.files import written_whole
from models.generate import generate
from models.generator_file import LoadedGenerator, generator_bytes, load_generator, read_generator

SCRIPTS = Path(__file__).resolve().parent.parent / "webapp" / "browser"
"""The drawer in JavaScript, which is the app's. Its files are read as text: no module of the app is imported."""
ELEMENT = "element"
"""The script that defines the element, without `.js`."""
BITS = 13
"""Significant bits of a weight in a bundle, where float32 has 24. With one more, the shipped forge needs 1.5 MB."""
SEEDS = 20
"""Pictures of each digit that are drawn with both weights."""

IMPORT = re.compile(r'import \{ ([\w, ]+) \} from "\./(\w+)\.js"')
EXPORT = re.compile(r"export (?=(?:async )?(?:function|const|class) (\w+))")


def rounded(weights: Tensor) -> Tensor:
    """Return floating-point numbers rounded to `BITS` significant bits, and others unchanged."""
    if not weights.is_floating_point():
        return weights
    mantissa, exponent = torch.frexp(weights)
    return torch.ldexp(torch.round(mantissa * 2**BITS) / 2**BITS, exponent)


def rounded_file(loaded: LoadedGenerator, sha256: str) -> bytes:
    """Return the file of a generator with rounded weights. Its provenance names the file with this SHA-256."""
    generator = copy.deepcopy(loaded.generator).float()
    generator.load_state_dict({name: rounded(value) for name, value in generator.state_dict().items()})
    provenance = loaded.provenance | {"rounded_from": sha256, "significant_bits": BITS}
    return generator_bytes(generator, loaded.config, provenance, loaded.class_names, loaded.table, loaded.writers)


def differences(one: LoadedGenerator, other: LoadedGenerator) -> tuple[float, int]:
    """Return the share of pixels that two generators draw differently, and the largest difference in grey levels.

    Compared are `SEEDS` pictures of each digit, with seeds 0, 1, ...
    """
    classes = list(range(one.config.num_classes))
    (first, _), (second, _) = (generate(loaded, classes, SEEDS, 0, 1.0) for loaded in (one, other))
    apart = np.abs(first.astype(np.int64) - second)
    return float((apart > 0).mean()), int(apart.max())


def joined(name: str, folder: Path = SCRIPTS) -> str:
    """Return a script and all that it imports as one script, in which each of them is an object of its exports.

    Scripts import by `import { a, b } from "./c.js"` in one line, and export functions, constants and classes where
    these are defined. Raises `RuntimeError` for a script that does so in another way.
    """
    parts: dict[str, str] = {}
    _collect(name, folder, parts)
    return "\n".join(parts.values())


def _collect(name: str, folder: Path, parts: dict[str, str]) -> None:
    """Add a script to `parts`, after those that it imports."""
    lines, exports = [], []
    for line in (folder / f"{name}.js").read_text("utf-8").splitlines():
        if imported := IMPORT.fullmatch(line):
            if imported[2] not in parts:
                _collect(imported[2], folder, parts)
            line = f"const {{ {imported[1]} }} = {imported[2]}Module"
        elif exported := EXPORT.match(line):
            exports.append(exported[1])
            line = line[exported.end() :]
        if re.match(r"(import|export)\b", line):
            raise RuntimeError(f"{name}.js: a bundle cannot have the line {line!r}")
        lines.append(line)
    body = "\n".join(lines)
    parts[name] = f"const {name}Module = (() => {{\n{body}\nreturn {{ {', '.join(exports)} }}\n}})()\n"


def bundle(content: bytes) -> str:
    """Return the script that defines the element, with the generator file `content` in it.

    The first bytes of all weights are deflated together, then the second ones, and so on: exponents resemble each
    other, and the bytes that were rounded away are zeros.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    head, weights = content[:start], content[start:]
    planes = b"".join(weights[k::4] for k in range(4))
    # Weights have nothing to repeat but zeros: to look for more makes the result larger.
    texts = [_deflated(head, zlib.Z_DEFAULT_STRATEGY), _deflated(planes, zlib.Z_RLE)]
    arguments = ", ".join(f'"{text}"' for text in texts)
    return (
        f'// <digit-forge write="2026-11-24" seed="7"> writes by hand with a generator of DigitForge. Apache-2.0.\n'
        f"// Generator with rounded weights: SHA-256 {hashlib.sha256(content).hexdigest()}\n"
        f'(() => {{\n"use strict"\n\n{joined(ELEMENT)}\n'
        f"{ELEMENT}Module.define(() => {ELEMENT}Module.unpacked({arguments}))\n}})()\n"
    )


def _deflated(content: bytes, strategy: int) -> str:
    """Return content deflated by a strategy of zlib, in base64."""
    compressor = zlib.compressobj(9, strategy=strategy)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode()


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="python -m models.bundle", description="Put a generator into one script for any web page.")
    parser.add_argument("--generator", type=Path, required=True, metavar="FILE", help="a generator.safetensors file")
    parser.add_argument(
        "--out", type=Path, default=Path("digit-forge.js"), metavar="FILE", help="the script (default: digit-forge.js)"
    )
    parser.add_argument(
        "--rounded", type=Path, metavar="FILE", help="also write the generator file with the weights of the bundle"
    )
    options = parser.parse_args(arguments)
    try:
        loaded = load_generator(options.generator)
        if not loaded.writes_digits:
            raise ValueError(f"--generator: {options.generator} does not draw the ten digits in grey")
        content = rounded_file(loaded, hashlib.sha256(options.generator.read_bytes()).hexdigest())
        script = bundle(content)
        for path, data in ((options.out, script.encode()), (options.rounded, content)):
            if path:
                with written_whole(path) as file:
                    file.write(data)
    except ValueError as error:
        return parser.fail(str(error))
    except OSError as error:
        return parser.fail(f"{error.filename}: cannot be written ({error.strerror})")
    share, most = differences(loaded, read_generator(content, "the rounded generator"))
    print(
        f"Wrote {options.out}: {len(script) / 1e6:.2f} MB. With the rounded weights, {share:.2%} of the pixels of "
        f"{SEEDS} pictures of each digit are other ones, by at most {most} of 255 grey levels."
    )
    return 0


if __name__ == "__main__":
    run(main)
