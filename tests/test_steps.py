"""The phases of a step as pure functions, and the update that sums over images and workers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import dropout_config, forge_config, losses_of, mlp_config, train_on
from trainer import losses, steps
from trainer.config import TrainConfig
from trainer.draws import Batch, Draws, load_images
from trainer.flat_optimizer import FlatOptimizer
from trainer.state import TrainState, new_state
from trainer.train_loop import penalty_weights
from trainer.workers import Workers

CPU = torch.device("cpu")
CONFIGS = {
    "forge": forge_config(dtype="float64"),
    "separate": mlp_config(dtype="float64"),
    "concatenated": mlp_config(dtype="float64", d_update="concatenated"),
}


def first_step(config: TrainConfig) -> tuple[TrainState, Batch, Batch]:
    """Return a new state, the real images of the first step, and fakes for them."""
    s, draws = new_state(config, 1, CPU), Draws(config, load_images(config), CPU, Workers())
    real = draws.real(0)
    z, c = draws.d_inputs(0, real.c)
    with torch.no_grad():
        return s, real, Batch(s.G(z, c), c)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_phase_has_one_value_per_image_whoever_its_neighbours_are(name: str) -> None:
    # Groups of 4 images stay together; D has no BatchNorm in these networks.
    config = CONFIGS[name]
    s, real, fake = first_step(config)
    for phase in steps.D_PHASES[config.d_update]:
        whole = phase(config, s.D, real, fake, penalty_weights(config, 0, 10))
        assert whole.loss.shape == (config.batch_size,)
        halves = []
        for rows in (slice(0, 8), slice(8, None)):
            part = (Batch(batch.images.detach()[rows], batch.c[rows]) for batch in (real, fake))
            halves.append(phase(config, s.D, *part, penalty_weights(config, 0, 10)))
        torch.testing.assert_close(torch.cat([half.loss for half in halves]), whole.loss, rtol=1e-9, atol=0)
        for column, values in whole.curve.items():
            parts = torch.cat([half.curve[column] for half in halves])
            torch.testing.assert_close(parts, values, rtol=1e-9, atol=0)


def test_the_loss_is_the_sum_of_its_columns() -> None:
    config = CONFIGS["forge"]
    s, real, fake = first_step(config)
    (phase,) = steps.D_PHASES[config.d_update]
    terms = phase(config, s.D, real, fake, penalty_weights(config, 0, 10))
    assert terms.curve.keys() == {"d_loss", "penalty", "d_class_loss"}
    torch.testing.assert_close(terms.loss, torch.stack(list(terms.curve.values())).sum(0))
    g_terms = steps.g_phase(config, s.D, real, fake)
    assert g_terms.curve.keys() == {"g_loss", "g_class_loss"}
    torch.testing.assert_close(g_terms.loss, g_terms.curve["g_loss"] + g_terms.curve["g_class_loss"])


def test_an_update_follows_the_mean_over_the_batch_and_returns_means() -> None:
    network = torch.nn.Linear(3, 1, bias=False).double()
    before = network.weight.detach().clone()
    images = torch.arange(12.0, dtype=torch.float64).view(4, 3)
    outputs = network(images)[:, 0]
    terms = steps.Terms(outputs, {"d_loss": outputs}, {"real": outputs})

    def descend(
        own: list[Tensor], gradients: list[Tensor], moments: dict[str, list[Tensor]], steps: list[Tensor], lr: float
    ) -> None:
        torch._foreach_sub_(own, gradients, alpha=lr)

    optimizer = FlatOptimizer(network, descend, (), 0.1, Workers())
    numbers = steps.update(optimizer, terms, Workers().share(4), {"clocks": torch.ones(2)})
    torch.testing.assert_close(network.weight.detach(), before - 0.1 * images.mean(0))
    torch.testing.assert_close(numbers["d_loss"], outputs.detach().mean())
    torch.testing.assert_close(numbers["real"], outputs.detach())
    assert numbers["clocks"].tolist() == [1, 1]


def test_numbers_of_several_updates_add_up() -> None:
    numbers = {"d_loss": torch.tensor(1.0)}
    steps.add(numbers, {"d_loss": torch.tensor(2.0), "fake": torch.ones(2)})
    assert (numbers["d_loss"].item(), numbers["fake"].tolist()) == (3, [1, 1])


def least_squares_d_real(logits: Tensor) -> Tensor:
    return (logits - 1).square()


def least_squares_d_fake(logits: Tensor) -> Tensor:
    return logits.square()


LEAST_SQUARES = losses.Loss(
    d=lambda real, fake: (least_squares_d_real(real) + least_squares_d_fake(fake)) / 2,
    g=lambda real, fake: (fake - 1).square(),
    d_real=least_squares_d_real,
    d_fake=least_squares_d_fake,
)
"""The least-squares loss (Mao et al. 2017, arXiv 1611.04076), which no recipe uses."""


@pytest.mark.parametrize("fields", [{"d_update": "separate"}, {"d_update": "joint"}, {"d_update": "concatenated"}])
def test_a_further_loss_is_one_row(fields: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.LOSSES, "least squares", LEAST_SQUARES)
    config = dropout_config(loss="least squares", epochs=1, steps_per_epoch=1, dtype="float64", d_acc_mode="train")
    config = TrainConfig.from_dict(config.to_dict() | fields)
    (run,) = train_on(1, (config, tmp_path))
    s, real, fake = first_step(config)
    # The curve has this loss, not the cross-entropy: before the first step all logits are near 0.
    assert losses_of(run)["d_loss"][0] == pytest.approx(0.5, abs=0.2)
    assert losses_of(run)["g_loss"][0] == pytest.approx(1.0, abs=0.3)
    assert losses_of(run)["d_loss"][0] != pytest.approx(losses.bce_d(s.D(*real), s.D(*fake)).mean().item(), abs=0.01)


def test_a_loss_of_pairs_cannot_be_split() -> None:
    assert losses.LOSSES["relativistic"].compares_pairs
    with pytest.raises(ValueError, match="'separate' needs a loss without pairs"):
        mlp_config(loss="relativistic", g_labels="real")


def test_the_penalty_falls_from_gamma_to_gamma_end() -> None:
    config = replace(CONFIGS["forge"], gamma=1.0, gamma_end=0.01)
    assert penalty_weights(config, 0, 100) == (0.5, 0.5)
    assert sum(penalty_weights(config, 50, 100)) == pytest.approx(0.1)  # the middle of the logarithms
    assert sum(penalty_weights(config, 100, 100)) == pytest.approx(0.01)
    in_turn = replace(config, penalties="alternate", gamma_end=0.0)
    assert [penalty_weights(in_turn, step, 100) for step in (0, 1)] == [(1.0, 0.0), (0.0, 1.0)]
