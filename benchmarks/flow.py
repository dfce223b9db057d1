"""`python -m benchmarks.flow`: a small flow model of MNIST's digits, trained for as long as `forge` and judged alike.

Write docs/flow.md, docs/flow.json and docs/flow.png. The model answers the question of why this project trains GANs.

A flow model (Lipman et al. 2022, arXiv 2210.02747; Liu et al. 2022, 2209.03003) carries noise to images along an
ordinary differential equation. At time t, an image is x_t = (1 - t) * noise + t * x, and its velocity is x - noise. The
network predicts the image x, from which the velocity follows as (x - x_t) / (1 - t) (Li and He 2025, 2511.13720). The
equation is solved in a few steps, each of which is a pass through the network, where a GAN needs one pass in all. A
network of mean velocities (MeanFlow, Geng et al. 2025, 2505.13447) is told the end r of the step as well, and learns
the mean velocity from t to r, so that long steps are exact.

Shapes: B batch, images (B, 1, 28, 28) in [-1, 1], times t and r (B,) in [0, 1], class rows c (B, 10).
"""

import dataclasses
import json
import math
import shlex
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from benchmarks import speedrun, timed_runs
from benchmarks.scaling_model import write_tables
from models import sampling
from models.command_line import Parser
from models.config import ModelConfig
from models.digit_reader import NUM_CLASSES
from models.generator_file import LoadedGenerator, read_metadata
from trainer.data import load_dataset
from trainer.draws import batch_of_step, epoch_order, random_stream
from trainer.metrics import Judge, balanced_label_accuracy, frequent_labels, mnist_judge, pixel_rows, pixel_scores
from trainer.run_store import open_store

EMBEDDING = 128
"""Length of the vector that tells the network's blocks times and class."""
FREQUENCIES = 16
LATEST = 0.95
"""Velocities are computed as at this time at the latest: at t = 1, they are 0 / 0."""
NOISE, TIMES, ORDER = range(3)
"""Purposes of random streams; see `trainer.draws.random_stream`."""
WARM_UP = 200
"""Steps in which the learning rate rises."""


COUNT = 10_000
CONFIG = ModelConfig(architecture="mlp", z_dim=28 * 28, g_widths=(1,), d_widths=(1,))
"""The model as drawing knows it: a latent is a picture of noise, and there are ten classes."""
GUIDANCE = 2.0
"""Weight of the class in the velocities, beyond what was learned (Ho and Salimans 2022, arXiv 2207.12598)."""
DRAWN, REPEATS = 100, 5
"""Pictures whose drawing is timed, and how often it is repeated. The fastest time counts."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the network and of its training."""

    narrow: int = 16
    """Channels at 14x14."""
    wide: int = 64
    """Channels at 7x7."""
    blocks: int = 3
    """Blocks at 7x7."""
    steps: int = 6600
    batch_size: int = 32
    lr: float = 2e-3
    """Highest learning rate of Adam; it falls to 0 along half a cosine."""
    ema: float = 0.999
    """Decay of the average of the weights, by step."""
    predict: str = "image"
    """Meaning of the network's output: `image` or `velocity`."""
    time_mean: float = -0.6
    """Mean of the logit of training times; their standard deviation is 1 (logit-normal)."""
    unconditional: float = 0.1
    """Share of images whose class is hidden, so that the sampler can use guidance."""
    mean: float = 0.0
    """Share of images on which mean velocities are learned; 0 = the network knows only t."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.predict not in ("image", "velocity"):
            raise ValueError(f"--predict must be image or velocity: got {self.predict!r}")


MODELS = {"flow": Settings(), "mean flow": Settings(mean=0.25, steps=4000)}
"""Both need about the CPU-seconds of `forge`: a step that learns mean velocities takes longer."""
WAYS = {
    "flow": ((1, GUIDANCE), (2, GUIDANCE), (4, GUIDANCE), (8, GUIDANCE), (8, 1.0)),
    "mean flow": ((1, GUIDANCE), (2, GUIDANCE), (4, GUIDANCE)),
}
"""Model -> the steps and the guidance with which its digits are drawn."""
TOLD_APART = (4, GUIDANCE)
"""The steps and the guidance for the two-sample test, which takes minutes."""


def waves(times: Tensor) -> Tensor:
    """Return sines and cosines (B, 2 * FREQUENCIES) of times (B,)."""
    angles = times[:, None] * torch.linspace(0, math.log(60), FREQUENCIES).exp()
    return torch.cat([angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """A residual block; times and class set the gain and the bias after its first convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.modulation = nn.Linear(EMBEDDING + NUM_CLASSES, 2 * out)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)
        nn.init.zeros_(self.conv2.weight)  # the block begins as its skip

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """x (B, channels, H, W), told (B, EMBEDDING + NUM_CLASSES) -> (B, out, H, W)."""
        gain, bias = self.modulation(told)[..., None, None].chunk(2, 1)
        h = self.conv1(F.relu(F.layer_norm(x, x.shape[1:])))
        h = F.relu(torch.addcmul(bias, F.layer_norm(h, h.shape[1:]), 1 + gain))
        result: Tensor = self.skip(x) + self.conv2(h)
        return result


class Network(nn.Module):
    """(x_t, t, r, c) -> velocities (B, 1, 28, 28): a U-Net at 14x14, where a pixel has four channels, and 7x7."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        narrow, wide = settings.narrow, settings.wide
        self.predicts_image = settings.predict == "image"
        self.embed = nn.Sequential(
            nn.Linear(4 * FREQUENCIES + NUM_CLASSES, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU()
        )
        self.first = nn.Conv2d(4, narrow, 3, padding=1)
        self.before = Block(narrow, narrow)
        self.down = nn.Conv2d(narrow, wide, 4, 2, 1)
        self.middle = nn.ModuleList(Block(wide, wide) for _ in range(settings.blocks))
        self.up = nn.ConvTranspose2d(wide, narrow, 4, 2, 1)
        self.after = Block(2 * narrow, narrow)
        self.last = nn.Conv2d(narrow, 4, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, r: Tensor, c: Tensor) -> Tensor:
        """Return the mean velocity from time t to r >= t; for r = t, the velocity at t."""
        told = torch.cat([self.embed(torch.cat([waves(t), waves(r - t), c], 1)), c], 1)
        x = high = self.before(self.first(F.pixel_unshuffle(x_t, 2)), told)
        x = self.down(x)
        for block in self.middle:
            x = block(x, told)
        x = self.after(torch.cat([self.up(x), high], 1), told)
        x = F.pixel_shuffle(self.last(F.relu(F.layer_norm(x, x.shape[1:]))), 2)
        return (x - x_t) / (1 - t.clamp(max=LATEST))[:, None, None, None] if self.predicts_image else x


class Sampler(nn.Module):
    """A network with a number of steps, as a generator: (z (B, 784), c (B, 10)) -> images (B, 1, 28, 28)."""

    def __init__(self, network: nn.Module, steps: int, mean: bool = False, guidance: float = 1.0) -> None:
        """`mean`: the network knows mean velocities. `guidance`: 1 = as learned, more = more typical of the class."""
        super().__init__()
        self.network, self.steps, self.mean, self.guidance = network, steps, mean, guidance

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Solve the equation from t = 0 to 1 by Euler's method; the images can be a little outside of [-1, 1]."""
        x = z.unflatten(1, (1, 28, 28))
        for step in range(self.steps):
            t, end = (x.new_full((len(x),), (step + more) / self.steps) for more in (0, 1))
            r = end if self.mean else t
            velocity = self.network(x, t, r, c)
            if self.guidance != 1:
                free = self.network(x, t, r, torch.zeros_like(c))
                velocity = free + self.guidance * (velocity - free)
            x = x + velocity / self.steps
        return x


def normal(settings: Settings, purpose: int, step: int, *shape: int) -> Tensor:
    """Return standard normal numbers, a function of (seed, purpose, step)."""
    return torch.from_numpy(random_stream(settings.seed, purpose, step).standard_normal(shape, np.float32))


def loss(network: nn.Module, settings: Settings, step: int, x: Tensor, c: Tensor) -> Tensor:
    """Return the loss of a step: squared error of velocities, per pixel."""
    batch, mean = len(x), round(len(x) * settings.mean)
    noise = normal(settings, NOISE, step, *x.shape)
    t, r, hidden = normal(settings, TIMES, step, 3, batch).unbind()
    t, r = (torch.sigmoid(times + settings.time_mean) for times in (t, r))
    c = c * (torch.special.ndtr(hidden) >= settings.unconditional)[:, None]
    has_end = torch.arange(batch) < mean
    t, r = torch.where(has_end, torch.minimum(t, r), t), torch.where(has_end, torch.maximum(t, r), t)
    at = t[:, None, None, None]
    x_t, velocity = torch.lerp(noise, x, at), x - noise
    predicted = network(x_t, t, r, c)
    target = velocity
    if mean:
        ones, zeros = torch.ones(mean), torch.zeros(mean)
        with torch.no_grad():
            told = partial(network, c=c[:mean])
            change = torch.func.jvp(told, (x_t[:mean], t[:mean], r[:mean]), (velocity[:mean], ones, zeros))[1]
        target = velocity.clone()
        target[:mean] += (r - t)[:mean, None, None, None] * change
    errors = (predicted - target).square().mean((1, 2, 3))
    if settings.mean:
        errors = errors / (errors.detach() + 1e-3)
    return errors.mean()


def averaged(decay: float, average: Tensor, weight: Tensor, count: Tensor | int) -> Tensor:
    """Return the average of a weight after `count` steps and one more; the decay is lower in the first steps."""
    return torch.lerp(weight, average, min(decay, (1 + int(count)) / (10 + int(count))))


def load_or_train(settings: Settings, path: Path) -> tuple[nn.Module, float]:
    """Return what `train` returns, from the file of an earlier training with the same settings if there is one.

    Raise `ValueError` if the file is of other settings.
    """
    wanted = json.dumps(dataclasses.asdict(settings))
    if not path.exists():
        network, cpu_seconds = train(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.contiguous() for name, weight in network.state_dict().items()}
        safetensors.torch.save_file(weights, path, {"settings": wanted, "cpu_seconds": repr(cpu_seconds)})
        return network, cpu_seconds
    content = path.read_bytes()
    metadata = read_metadata(content)
    if metadata["settings"] != wanted:
        raise ValueError(f"{path}: was trained with other settings: {metadata['settings']}")
    network = Network(settings)
    network.load_state_dict(safetensors.torch.load(content))
    return network, float(metadata["cpu_seconds"])


def train(settings: Settings) -> tuple[nn.Module, float]:
    """Train a network; return the average of its weights over the last steps, and the CPU-seconds that it took."""
    started = time.process_time()
    dataset = load_dataset()
    images, classes = torch.tensor(dataset.images), torch.from_numpy(dataset.labels)
    rows = F.one_hot(classes, NUM_CLASSES).float()
    torch.manual_seed(settings.seed)
    network = Network(settings)
    average = AveragedModel(network, avg_fn=partial(averaged, settings.ema))
    optimizer = torch.optim.Adam(network.parameters(), settings.lr, (0.9, 0.99))
    passes = len(images) // settings.batch_size
    total = 0.0
    for step in range(settings.steps):
        epoch, place = divmod(step, passes)
        if place == 0:
            order = epoch_order(dataset.labels, 1, settings.seed, epoch)
        chosen = batch_of_step(order, place, settings.batch_size)
        rate = min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
        optimizer.param_groups[0]["lr"] = settings.lr * rate
        value = loss(network, settings, step, sampling.from_uint8(images[chosen]), rows[chosen])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        average.update_parameters(network)
        total += value.item()
        if (step + 1) % 500 == 0:
            print(
                f"step {step + 1}: loss {total / 500:.4f}, {time.process_time() - started:.0f} CPU-seconds", flush=True
            )
            total = 0.0
    return average.module, time.process_time() - started


def judged(loaded: LoadedGenerator, judge: Judge) -> dict[str, float]:
    """Return the scores of 10,000 digits with seeds 0, 1, ..., as frequent as among the training images."""
    labels = frequent_labels(COUNT, judge.class_shares)
    z, c = sampling.latents(range(COUNT), loaded.config), loaded.class_rows(labels, range(COUNT))
    reading = judge.read(sampling.draw(loaded.generator, z, c))
    scores = judge.real.score(reading.features, torch.tensor(labels)) | pixel_scores(pixel_rows(reading.pictures))
    return scores | {"label_accuracy": balanced_label_accuracy(torch.tensor(labels), reading.digits)}


def drawing_time(loaded: LoadedGenerator) -> float:
    """Return the CPU-seconds in which one thread draws `DRAWN` pictures in float32."""
    labels = sampling.GRID_SEEDS * list(range(NUM_CLASSES))
    z, c = sampling.latents(range(DRAWN), loaded.config), loaded.class_rows(labels, range(DRAWN))
    best = math.inf
    for _ in range(REPEATS):
        started = time.process_time()
        sampling.draw(loaded.generator, z, c)
        best = min(best, time.process_time() - started)
    return best


def measured(name: str, loaded: LoadedGenerator, judge: Judge, is_told_apart: bool) -> dict[str, Any]:
    """Return the name and the scores of a generator; with `is_told_apart`, the two-sample test of the records, too."""
    row: dict[str, Any] = {"name": name, "draw_seconds": drawing_time(loaded), **judged(loaded, judge)}
    if is_told_apart:
        row["two_sample"] = speedrun.two_sample(loaded, judge)
    print(", ".join(f"{key} {value if isinstance(value, str) else format(value, '.4g')}" for key, value in row.items()))
    return row


def table(record: dict[str, Any]) -> str:
    """Return the scores in Markdown, with where they were measured."""
    machine, floor = record["machine"], record["floor"]
    titles = ["model", "CPU-seconds", "label accuracy", "FID / floor", "precision", "recall", "density", "coverage"]
    titles += ["haze", "two-sample", f"{DRAWN} pictures, CPU-ms"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in [*record["rows"], {"name": "real digits (the floor)", **floor}]:
        cells = [row["name"], f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else ""]
        cells += [f"{row['label_accuracy']:.2%}", f"{row['fid'] / floor['fid']:.1f}"]
        cells += [f"{row[name]:.3f}" for name in ("precision", "recall", "density", "coverage", "haze")]
        cells.append(f"{row['two_sample']:.3f}" if "two_sample" in row else "-")
        cells.append(f"{1e3 * row['draw_seconds']:.0f}" if "draw_seconds" in row else "")
        lines.append(f"| {' | '.join(cells)} |")
    where = f"{machine['processor']}, {machine['cpus']} CPUs, PyTorch {machine['torch']}, {machine['date']}"
    return f"`{record['command']}`, one thread, {where}:\n\n" + "\n".join(lines)


def ten_digits(loaded: LoadedGenerator) -> NDArray[np.uint8]:
    """Return the digits 0 to 9 (10, 28, 28) of a generator, with seeds 0 to 9."""
    labels = range(NUM_CLASSES)
    z, c = sampling.latents(labels, loaded.config), loaded.class_rows(labels, labels)
    return sampling.draw(loaded.generator, z, c)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m benchmarks.flow", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: both")
    for field in dataclasses.fields(Settings):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(field.default), help="another value of this setting of the models")
    parser.add_argument("--forge", type=Path, metavar="RUN", help="folder of a run of `forge` to judge as well")
    parser.add_argument(
        "--networks", type=Path, default="runs/flow", help="folder of the trained networks, new or kept"
    )
    parser.add_argument("--out", type=Path, default=timed_runs.ROOT / "docs", help="folder to write to (default: docs)")
    options = parser.parse_args(arguments)
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}
    changes = {name: value for name, value in given.items() if value is not None}
    torch.set_num_threads(1)
    record: dict[str, Any] = {"machine": timed_runs.machine(), "settings": {}, "rows": []}
    record["command"] = shlex.join(["python", "-m", "benchmarks.flow", *arguments])
    rows = record["rows"]
    try:
        models = {name: dataclasses.replace(MODELS[name], **changes) for name in options.models}
        trained = {
            name: load_or_train(settings, options.networks / f"{name.replace(' ', '-')}.safetensors")
            for name, settings in models.items()
        }
        judge = mnist_judge()
        record["floor"] = judge.floor(COUNT) | judge.floor_labels(COUNT)
        generators: list[tuple[str, LoadedGenerator, float, bool]] = []
        for name, (network, cpu_seconds) in trained.items():
            record["settings"][name] = dataclasses.asdict(models[name])
            for steps, guidance in WAYS[name]:
                sampler = Sampler(network, steps, models[name].mean > 0, guidance).requires_grad_(False)
                title = f"{name}, {steps} step{'s' if steps > 1 else ''}{'' if guidance > 1 else ', no guidance'}"
                loaded = LoadedGenerator(sampler, CONFIG, {})
                generators.append((title, loaded, cpu_seconds, (steps, guidance) == TOLD_APART))
        if options.forge:
            checkpoint = open_store(options.forge.parent).run(options.forge.name).checkpoints()[-1]
            loaded = timed_runs.generator_of(checkpoint)
            loaded.generator.float()
            generators.append(("`forge`", loaded, checkpoint.manifest.cpu_seconds, True))
        for title, loaded, cpu_seconds, is_told_apart in generators:
            rows.append(measured(title, loaded, judge, is_told_apart) | {"cpu_seconds": cpu_seconds})
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "flow.json").write_text(json.dumps(record, indent=1) + "\n")
        digits = np.concatenate([ten_digits(loaded) for _, loaded, _, _ in generators])
        (options.out / "flow.png").write_bytes(sampling.to_png(sampling.image_grid(digits, NUM_CLASSES), scale=2))
        if (document := options.out / "flow.md").exists():
            write_tables(document, {"scores": table(record)})
    except ValueError as error:
        return parser.fail(str(error))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
