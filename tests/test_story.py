"""What the page How it works calculates: gradients and steps of the shipped networks, and verdicts."""

import copy

import numpy as np
import pytest
import torch

from models import sampling
from models.view_link import View
from models.views import GenerateView
from webapp import catalog, inference, story
from webapp.look import condition_rows, discriminator, look

KEY = "pretrained/forge"
DIGIT, SEED = 3, 772


@pytest.fixture(scope="module")
def judge() -> tuple[str, int, str]:
    """The newest checkpoint of the shipped forge: key, step and hash of its generator."""
    stored = story.judge_of(KEY)
    assert stored
    return KEY, stored.step, stored.sha256


def test_objections_are_the_finite_differences_of_the_verdict(judge: tuple[str, int, str]) -> None:
    loaded, stored = inference.load(inference.GeneratorKey(*judge)), discriminator(KEY, judge[1])
    assert stored is not None
    D, seeds = copy.deepcopy(stored).double(), range(SEED, SEED + 4)
    drawn = sampling.draw(
        loaded.generator, sampling.latents(seeds, loaded.config), loaded.class_rows([DIGIT] * 4, seeds)
    )
    c = condition_rows(loaded, torch.from_numpy(drawn)[:, None], [DIGIT] * 4).double()
    images = sampling.from_uint8(torch.from_numpy(drawn)[:, None], torch.float64)
    logits, gradient = story.objections(D, images, c)
    assert torch.equal(logits, D(images, c))
    direction = torch.from_numpy(np.random.RandomState(0).standard_normal(images.shape))
    step = 1e-6 * direction
    difference = (D(images + step, c) - D(images - step, c)).sum() / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-6)
    assert float(D(images + 0.05 * gradient, c).sum()) > float(logits.sum())


@pytest.mark.parametrize("seed", [SEED, 5])
def test_each_step_in_slow_motion_changes_what_it_is_to_change(judge: tuple[str, int, str], seed: int) -> None:
    before = discriminator(KEY, judge[1])
    assert before is not None
    weights = [parameter.clone() for parameter in before.parameters()]
    shown = story.slow_motion(*judge, DIGIT, seed)
    assert shown
    (real, fake), (real_after, fake_after) = shown["before"], shown["after"]
    assert real_after - fake_after > real - fake  # D's step tells the pair apart
    assert shown["improved"] > fake_after  # G's step pleases the new D
    assert shown["better"] != shown["fake"]
    assert shown == story.slow_motion(*judge, DIGIT, seed)
    assert all(
        torch.equal(a, b) for a, b in zip(weights, before.parameters(), strict=True)
    )  # the stored D is as it was


def test_the_courtroom_judges_as_the_closer_look_does(judge: tuple[str, int, str]) -> None:
    stored = catalog.generator(KEY, View(step=judge[1]))
    assert stored
    shown = story.courtroom(KEY, stored, DIGIT, SEED)
    assert shown
    assert [epoch["epoch"] for epoch in shown["epochs"]] == list(range(11))
    untrained, last = shown["epochs"][0], shown["epochs"][-1]
    assert max(untrained["fakes"]) < min(shown["reals"])  # noise is told from every real digit
    lower = sum(real < last["own"] for real in shown["reals"])
    verdict = look(inference.GeneratorKey(*judge), GenerateView(digits=(DIGIT,), count=1, seed=SEED))["verdict"]
    assert verdict == f"This picture looks more real to it than {lower} of 100 real {DIGIT}s."


def test_many_epochs_are_thinned_to_the_first_the_last_and_some_between() -> None:
    assert story.spread([0, 1, 2]) == [0, 1, 2]
    assert story.spread(range(101), 5) == [0, 25, 50, 75, 100]
