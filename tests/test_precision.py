"""The precision of products and compiled networks, as far as a CPU shows them."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import (
    MLP,
    UNSCORED,
    dropout_config,
    forge_config,
    losses_of,
    mlp_config,
    rmsprop_config,
    tensors_of,
    tiny,
    train_on,
)
from trainer import steps
from trainer.config import TrainConfig
from trainer.draws import Draws, load_images
from trainer.run_store import NETWORKS_FILE
from trainer.state import new_state
from trainer.train_loop import penalty_weights
from trainer.workers import Workers

CPU = torch.device("cpu")
CONFIGS = {
    "forge": forge_config(epochs=1),
    "BatchNorm, separate updates": mlp_config(epochs=1),
    "BatchNorm in convolutions, RMSprop": rmsprop_config(epochs=1),
    "BatchNorm in D": tiny("dcgan", steps_per_epoch=10),
    "dropout": dropout_config(epochs=1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_trains_close_to_float32(name: str, tmp_path: Path) -> None:
    fields = CONFIGS[name].to_dict()
    full, bf16 = (TrainConfig.from_dict(fields | {"precision": precision}) for precision in ("full", "bf16"))
    runs = train_on(1, (full, tmp_path / "full"), (bf16, tmp_path / "bf16"))
    exact, rounded = map(losses_of, runs)
    assert rounded["d_loss"] != exact["d_loss"]
    for column in ("d_loss", "g_loss"):
        assert rounded[column] == pytest.approx(exact[column], rel=0.1, abs=0.1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    "config",
    [
        mlp_config(d_update="joint", model=replace(MLP, g_widths=(16,), d_widths=(16,))),
        *(pytest.param(CONFIGS[name], marks=pytest.mark.long) for name in ("forge", "dropout")),
    ],
    ids=["one hidden layer", "forge", "dropout"],
)
def test_compiled_networks_train_as_others_do(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, epochs=1, steps_per_epoch=6)
    (run,) = train_on(1, (config, tmp_path / "as it is"))
    (compiled,) = train_on(1, (config, tmp_path / "compiled"), upkeep=replace(UNSCORED, compile=True))
    for column in ("d_loss", "g_loss"):
        assert losses_of(compiled)[column] == pytest.approx(losses_of(run)[column], abs=1e-4)
    assert tensors_of(compiled, NETWORKS_FILE).keys() == tensors_of(run, NETWORKS_FILE).keys()


def test_only_the_networks_compute_in_bfloat16() -> None:
    config = forge_config(precision="bf16")
    s, draws = new_state(config, 1, CPU), Draws(config, load_images(config), CPU, Workers())
    seen: list[torch.dtype] = []
    for layer in (s.G.conv1, s.D.conv1):
        assert isinstance(layer, torch.nn.Module)
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    real = draws.real(0)
    fake = steps.draw(config, s.G, *draws.d_inputs(0, real.c))
    terms = steps.d_joint(config, s.D, real, fake, penalty_weights(config, 0, 10))
    assert set(seen) == {torch.bfloat16}
    outside: list[Any] = [fake.images, terms.loss, *terms.curve.values(), *terms.logits.values()]
    outside += torch.autograd.grad(terms.loss.sum(), list(s.D.parameters()))
    assert {tensor.dtype for tensor in outside} == {torch.float32}


def test_bfloat16_is_refused_with_double_precision() -> None:
    with pytest.raises(ValueError, match="precision 'bf16' needs dtype 'float32': got 'float64'"):
        forge_config(precision="bf16", dtype="float64")
