"""The draws of a step: functions of (seed, step) for the whole batch, of which each worker takes its rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.attributes import measure
from models.sampling import to_uint8
from tests.training import (
    DROPOUT,
    MLP,
    WRITERS,
    attributes_config,
    dropout_config,
    forge_config,
    made_up_writers,
    mlp_config,
    rmsprop_config,
    writers_config,
)
from trainer import data
from trainer.config import TrainConfig
from trainer.draws import Draws, batch_of_step, counter_normal, counter_words, epoch_order, load_images
from trainer.workers import Workers

label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)
seeds = st.integers(0, 2**63 - 1)


@given(label_lists, seeds, st.integers(0, 1000))
def test_an_epoch_visits_every_image_once(labels: list[int], seed: int, epoch: int) -> None:
    assert sorted(epoch_order(np.array(labels), 1, seed, epoch)) == list(range(len(labels)))


@given(label_lists, st.integers(2, 6), seeds, st.integers(0, 1000))
def test_a_grouped_epoch_comes_in_groups_of_one_class(labels: list[int], group: int, seed: int, epoch: int) -> None:
    order = epoch_order(np.array(labels), group, seed, epoch)
    assert len(set(order)) == len(order)
    visited = np.array(labels)[order]
    assert all(len(set(run)) == 1 for run in visited.reshape(-1, group))
    left_out = np.bincount(labels) - np.bincount(visited, minlength=max(labels) + 1)
    assert (left_out < group).all()


@pytest.mark.parametrize("group", [1, 4])
def test_the_order_is_a_function_of_seed_and_epoch_alone(group: int) -> None:
    labels = np.random.RandomState(0).randint(0, 10, 200)
    order = epoch_order(labels, group, seed=3, epoch=7)
    np.random.seed(0)
    assert np.array_equal(order, epoch_order(labels, group, seed=3, epoch=7))
    for seed, epoch in [(3, 8), (4, 7), (7, 3)]:
        assert not np.array_equal(order, epoch_order(labels, group, seed, epoch))


def test_each_epoch_leaves_out_other_images() -> None:
    labels = np.zeros(7, np.int64)
    sitting_out = {tuple(set(range(7)) - set(epoch_order(labels, 4, seed=0, epoch=epoch))) for epoch in range(20)}
    assert len(sitting_out) > 10


def test_groups_of_different_classes_are_mixed() -> None:
    labels = np.repeat(np.arange(10), 40)
    firsts = labels[epoch_order(labels, 4, seed=0, epoch=0)].reshape(-1, 4)[:, 0]
    assert len(set(firsts[:10])) > 3


def test_batches_follow_the_order_and_begin_again() -> None:
    order = np.array([4, 2, 0, 3, 1])
    assert batch_of_step(order, 0, 2).tolist() == [4, 2]
    assert batch_of_step(order, 1, 2).tolist() == [0, 3]
    assert batch_of_step(order, 2, 2).tolist() == [1, 4]
    assert batch_of_step(order, 5, 2).tolist() == [4, 2]
    assert batch_of_step(order, 0, 12).tolist() == [4, 2, 0, 3, 1, 4, 2, 0, 3, 1, 4, 2]


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "config",
    [
        forge_config(),
        attributes_config(),
        writers_config(),
        mlp_config(),
        dropout_config(),
        rmsprop_config(),
        mlp_config(latents="counter"),
    ],
)
def test_workers_together_draw_what_one_draws_alone(config: TrainConfig) -> None:
    with made_up_writers():
        dataset = load_images(config)
    alone = Draws(config, dataset, CPU, Workers())
    together = [Draws(config, dataset, CPU, Workers(rank, 3)) for rank in range(3)]
    for step in (0, 1, 40):
        whole = alone.real(step)
        parts = [draws.real(step) for draws in together]
        assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
        assert torch.equal(whole.c, torch.cat([part.c for part in parts]))
        for inputs in ("d_inputs", "g_inputs"):
            z, c = (alone.d_inputs if inputs == "d_inputs" else alone.g_inputs)(step, whole.c)
            drawn = [
                (draws.d_inputs if inputs == "d_inputs" else draws.g_inputs)(step, part.c)
                for draws, part in zip(together, parts, strict=True)
            ]
            assert torch.equal(z, torch.cat([mine for mine, _ in drawn]))
            assert torch.equal(c, torch.cat([mine for _, mine in drawn]))


@pytest.mark.parametrize("latents", ["numpy", "counter"])
def test_each_purpose_and_each_step_has_numbers_of_its_own(latents: str) -> None:
    config = mlp_config(d_fakes_labels="uniform", latents=latents)
    draws = Draws(config, load_images(config), CPU, Workers())
    c = draws.real(0).c
    drawn = [draws.d_inputs(0, c), draws.g_inputs(0, c), draws.d_inputs(1, c)]
    for k, (z, classes) in enumerate(drawn):
        for other_z, other_classes in drawn[k + 1 :]:
            assert not torch.equal(z, other_z)
            assert not torch.equal(classes, other_classes)
    other = Draws(replace(config, seed=1), load_images(config), CPU, Workers())
    assert not torch.equal(other.d_inputs(0, c)[0], drawn[0][0])


def test_counters_give_the_words_of_the_reference_implementation() -> None:
    """`philox4x32 10` in tests/kat_vectors of Random123 1.14."""
    ones = 0xFFFFFFFF
    known = {
        ((0, 0, 0, 0), (0, 0)): [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        ((ones,) * 4, (ones, ones)): [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)): [
            0xD16CFE09,
            0x94FDCCEB,
            0x5001E420,
            0x24126EA1,
        ],
    }
    for (counters, key), words in known.items():
        assert counter_words(torch.tensor(counters), key).tolist() == words


def test_counters_give_normal_numbers_for_any_rows() -> None:
    whole = counter_normal(3, 1, 7, slice(0, 20_000), 9, CPU)
    assert torch.equal(counter_normal(3, 1, 7, slice(24, 32), 9, CPU), whole[24:32])
    for other in ((4, 1, 7), (3, 2, 7), (3, 1, 8)):
        assert not (counter_normal(*other, slice(0, 64), 9, CPU) == whole[:64]).any()
    drawn = whole.numpy()
    assert np.abs(drawn.mean(0)).max() < 0.03
    assert np.abs(np.cov(drawn.T) - np.eye(9)).max() < 0.04
    assert (drawn**4).mean() == pytest.approx(3, rel=0.03)


def test_real_images_carry_their_own_attributes() -> None:
    config = attributes_config(dtype="float64")
    dataset = load_images(config)
    draws = Draws(config, dataset, CPU, Workers())
    real = draws.real(3)
    assert dataset.table
    assert real.c.shape == (config.batch_size, 13)
    labels = real.c[:, :10].argmax(1).numpy()
    values = measure(to_uint8(real.images), config.model.attributes)
    np.testing.assert_allclose(real.c[:, 10:].numpy(), dataset.table.to_scores(values, labels), atol=1e-9)
    _, c = draws.g_inputs(3, real.c)
    assert torch.equal(c, real.c)
    assert draws.first_values(3)["G"]["classes"] == labels[:8].tolist()


def test_attributes_need_the_classes_of_real_images_for_fakes() -> None:
    with pytest.raises(ValueError, match=r"model.attributes need g_labels and d_fakes_labels 'real'"):
        attributes_config(loss="bce", g_labels="uniform")


def test_writers_need_the_classes_of_real_images_for_fakes() -> None:
    with pytest.raises(ValueError, match=r"model.writers need g_labels and d_fakes_labels 'real'"):
        writers_config(loss="bce", g_labels="uniform")


def test_half_of_the_real_images_name_their_own_writer() -> None:
    config = writers_config(limit_images=0)
    with made_up_writers():
        dataset = load_images(config)
    draws = Draws(config, dataset, CPU, Workers())
    rows = torch.cat([draws.real(step).c[:, 10:] for step in range(40)])
    own = np.concatenate([draws.indices(step) for step in range(40)]) * 5 % WRITERS
    named = rows.sum(1) == 1
    assert torch.equal(rows[named].argmax(1), torch.from_numpy(own)[named])
    assert rows[~named].abs().sum() == 0
    assert 0.45 < named.float().mean() < 0.55
    again, other = draws.real(39).c, Draws(replace(config, seed=1), dataset, CPU, Workers()).real(39).c
    assert torch.equal(again[:, 10:], rows[-config.batch_size :])
    assert not torch.equal(other[:, 10:].sum(1), again[:, 10:].sum(1))
    for inputs in (draws.d_inputs, draws.g_inputs):
        assert torch.equal(inputs(39, again)[1], again)


def test_writers_that_are_missing_or_of_other_data_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "WRITERS", tmp_path / "writers")
    with pytest.raises(
        ValueError, match=r"writers, which is missing: download .*`python -m trainer fetch writers FILE`"
    ):
        load_images(writers_config())
    dataset = data.load_dataset()
    with made_up_writers(4) as folder:
        with pytest.raises(ValueError, match=r"has 4 writers, but model.writers is 539"):
            load_images(writers_config())
        with pytest.raises(ValueError, match=r"model.writers needs MNIST: only its writers are known; omit --dataset"):
            data.known_writers(replace(dataset, sha256={"train-images-idx3-ubyte": "other"}), 4)
        path = folder / data.WRITER_INDICES
        content = path.read_bytes()
        path.write_bytes(content[:4] + (9).to_bytes(4, "big") + content[8:26])
        with pytest.raises(ValueError, match=r"says who wrote 9 of 60000 images: fetch it again"):
            data.known_writers(dataset, 4)
        assert data.known_writers(dataset.head(9), 4).indices.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_counters_give_no_uniform_latents() -> None:
    with pytest.raises(ValueError, match=r"latents 'counter' are normal: got model.z_distribution 'uniform'"):
        mlp_config(latents="counter", model=replace(MLP, z_distribution="uniform"))


@pytest.mark.parametrize("fields", [{"d_update": "concatenated"}, {"d_update": "separate"}])
def test_dropout_masks_of_a_worker_are_its_rows_of_the_batch(fields: dict[str, Any]) -> None:
    config = dropout_config(model=DROPOUT, **fields)
    dataset = load_images(config)
    passes = 2 if config.d_update == "concatenated" else 1
    whole = Draws(config, dataset, CPU, Workers()).d_masks(5)
    assert whole
    assert whole.batch_size == passes * config.d_batch_size
    rows = []
    for rank in range(2):
        masks = Draws(config, dataset, CPU, Workers(rank, 2)).d_masks(5)
        assert masks
        assert masks.generator.initial_seed() == whole.generator.initial_seed()
        rows += masks.rows.tolist()
    assert sorted(rows) == whole.rows.tolist() == list(range(whole.batch_size))
