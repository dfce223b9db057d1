"""Differentiable augmentation: each change against what it must do to an image, and its gradient."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from tests.training import augmented_config, forge_config, losses_of, train_on
from trainer import losses, steps
from trainer.augmentation import CUT, NUMBERS, SHIFT, Change, augment, colour, cutout, translation
from trainer.config import TrainConfig
from trainer.draws import Batch, Draws, load_images
from trainer.state import new_state
from trainer.train_command import parse
from trainer.workers import Workers

SIZE = 32
MIDDLE = 0.5
"""The number at which colour changes nothing but saturation's factor of 1, and translation nothing at all."""
LAST = 1 - 2**-53
"""The largest number that NumPy draws."""


def some_images(count: int = 4, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def numbers(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_the_middle_changes_nothing_except_for_the_square_that_is_cut() -> None:
    images = some_images(1)
    middle = numbers([MIDDLE] * NUMBERS)
    torch.testing.assert_close(augment(images, middle, ("colour",)), images)
    assert torch.equal(augment(images, middle, ("translation",)), images)
    torch.testing.assert_close(augment(images, middle, ()), images)
    changed = augment(images, middle, ("cutout",)) != images
    assert changed.nonzero().amin(0).tolist() == [0, 0, 8, 8]
    assert changed.nonzero().amax(0).tolist() == [0, 2, 23, 23]
    assert changed.sum() == 3 * 16 * 16


def test_brightness_moves_all_pixels_alike() -> None:
    images = some_images(2)
    changed = colour(images, numbers([0, MIDDLE, MIDDLE], [LAST, MIDDLE, MIDDLE]))
    torch.testing.assert_close(changed, images + torch.tensor([-0.5, 0.5])[:, None, None, None])


def test_saturation_goes_from_grey_to_twice_the_colour() -> None:
    images = some_images(2)
    changed = colour(images, numbers([MIDDLE, 0, MIDDLE], [MIDDLE, LAST, MIDDLE]))
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(changed[0], grey[0].expand(3, -1, -1))
    torch.testing.assert_close(changed[1] - grey[1], 2 * (images[1] - grey[1]))
    single = some_images(1, channels=1)
    torch.testing.assert_close(colour(single, numbers([MIDDLE, 0, MIDDLE])), single)


def test_contrast_scales_the_distance_to_the_mean_of_the_image() -> None:
    images = some_images(2)
    changed = colour(images, numbers([MIDDLE, MIDDLE, 0], [MIDDLE, MIDDLE, LAST]))
    torch.testing.assert_close(changed.mean((1, 2, 3)), images.mean((1, 2, 3)))
    torch.testing.assert_close(changed.std((1, 2, 3)) / images.std((1, 2, 3)), torch.tensor([0.5, 1.5]))


def test_translation_shifts_by_whole_pixels_and_leaves_0() -> None:
    images = some_images(2)
    limit = round(SHIFT * SIZE)
    assert limit == 4
    changed = translation(images, numbers([0, MIDDLE], [MIDDLE, LAST]))
    assert torch.equal(changed[0, :, : SIZE - limit], images[0, :, limit:])
    assert changed[0, :, SIZE - limit :].abs().sum() == 0
    assert torch.equal(changed[1, :, :, limit:], images[1, :, :, : SIZE - limit])
    assert changed[1, :, :, :limit].abs().sum() == 0
    shifts = {int((translation(torch.ones(1, 1, 32, 32), numbers([k / 9, 0.5])) == 0).sum()) for k in range(9)}
    assert shifts == {32 * rows for rows in range(5)}


def test_cutout_has_its_centre_anywhere() -> None:
    white = torch.ones(2, 1, SIZE, SIZE)
    changed = cutout(white, numbers([0, 0], [LAST, MIDDLE]))
    half = round(CUT * SIZE) // 2
    assert changed[0, 0].sum() == SIZE**2 - half**2  # the square is half outside on two sides
    assert changed[0, 0, :half, :half].sum() == 0
    assert changed[1, 0, SIZE - half :, half:-half].sum() == 0
    assert changed[1, 0].sum() == SIZE**2 - half * 2 * half


def test_gradients_flow_through_every_change() -> None:
    images = some_images(2)[:, :, ::4, ::4].double().requires_grad_()
    drawn = torch.rand(2, NUMBERS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for change in get_args(Change):
        assert torch.autograd.gradcheck(lambda x, c=change: augment(x, drawn, (c,)), images)


def test_an_image_is_changed_whoever_its_neighbours_are() -> None:
    images, drawn = some_images(4), torch.rand(4, NUMBERS, dtype=torch.float64)
    whole = augment(images, drawn, get_args(Change))
    for rows in (slice(0, 1), slice(1, 4)):
        assert torch.equal(augment(images[rows], drawn[rows], get_args(Change)), whole[rows])


CPU = torch.device("cpu")


def seen(draws: Draws, step: int) -> list[Tensor]:
    """Return what D sees of a step's real images, as if they were the fakes as well: in its update, then in G's."""
    real = draws.real(step)
    return [batch.images for view in (draws.seen_by_d, draws.seen_for_g) for batch in view(step, real, real)]


def test_workers_together_see_what_one_sees_alone() -> None:
    config = augmented_config()
    dataset = load_images(config)
    alone = Draws(config, dataset, CPU, Workers())
    together = [Draws(config, dataset, CPU, Workers(rank, 3)) for rank in range(3)]
    for step in (0, 40):
        parts = zip(*(seen(draws, step) for draws in together), strict=True)
        for whole, rows in zip(seen(alone, step), parts, strict=True):
            assert torch.equal(whole, torch.cat(rows))


def test_each_side_of_each_update_has_changes_of_its_own() -> None:
    config = augmented_config()
    draws = Draws(config, load_images(config), CPU, Workers())
    views = [*seen(draws, 0), draws.real(0).images]
    for k, view in enumerate(views):
        assert all(not torch.equal(view, other) for other in views[k + 1 :])
    assert torch.equal(seen(draws, 0)[3], views[3])
    assert "changes" in draws.first_values(0)


def test_penalties_are_on_what_d_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    penalized: list[Tensor] = []

    def watched(images: Tensor, logits: Tensor) -> Tensor:
        penalized.append(images.detach())
        return losses.gradient_penalty(images, logits)

    monkeypatch.setattr(steps, "gradient_penalty", watched)
    config = augmented_config(epochs=1, steps_per_epoch=1, dtype="float64")
    (run,) = train_on(1, (config, tmp_path))
    draws = Draws(config, load_images(config), CPU, Workers())
    real = draws.real(0)
    on_real, on_fake = penalized
    assert torch.equal(on_real, draws.seen_by_d(0, real, real)[0].images)
    D = new_state(config, 1, CPU).D
    leaf = on_real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(D(leaf, real.c).sum(), leaf)
    leaf = on_fake.clone().requires_grad_()
    (fake_slope,) = torch.autograd.grad(D(leaf, real.c).sum(), leaf)
    expected = config.gamma / 2 * (slope.square().sum() + fake_slope.square().sum()) / config.batch_size
    assert losses_of(run)["penalty"] == pytest.approx([expected.item()], rel=1e-9)


def test_without_augmentation_d_sees_the_batches_themselves() -> None:
    config = forge_config()
    draws = Draws(config, load_images(config), CPU, Workers())
    real = draws.real(0)
    fake = Batch(-real.images, real.c)
    assert [*draws.seen_by_d(0, real, fake), *draws.seen_for_g(0, real, fake)] == [real, fake, real, fake]
    assert "changes" not in draws.first_values(0)


@pytest.mark.parametrize("changes", [("colour", "colour"), ("rotation",)])
def test_changes_must_be_known_and_different(changes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="augment must be different ones of colour, translation, cutout: got"):
        augmented_config(augment=changes)


def test_the_command_line_chooses_changes() -> None:
    assert parse(["forge"]).config.augment == ()
    assert parse(["forge", "--augment", "cutout", "colour"]).config.augment == ("cutout", "colour")
    assert parse(["forge-cifar"]).config.augment == get_args(Change)
    assert parse(["forge-cifar", "--augment"]).config.augment == ()


def test_changes_survive_json() -> None:
    config = augmented_config()
    stored = config.to_dict() | {"augment": ["colour", "translation", "cutout"]}
    assert TrainConfig.from_dict(stored) == config
    assert TrainConfig.from_dict(stored).differences(config) == []
