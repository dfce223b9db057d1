"""`python -m tests.links` prints permalinks of random views over all shipped runs, for permalinks.txt.

Links that are in the file must stay there: people may have sent links like them.
"""

import hashlib
import random
import sys
from dataclasses import replace
from pathlib import Path

from models import pictures
from models.generator_file import load_generator
from models.sampling import MAX_SEED
from models.views import STYLES, DrawingView, ExploreView, GenerateView, InterpolateView, Permalink, WriteView
from models.writing import COLOURS, DIGITS, SIGNS

PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"


AROUND = {"slant": (-30, 40), "thickness": (2, 5), "width": (8, 18)}
"""Attribute -> values that views ask for."""


def random_view(choose: random.Random, classes: int, can_write: bool) -> DrawingView:
    """Return a random view of a few pictures."""
    digit = (lambda: choose.randrange(classes)) if classes else (lambda: None)
    seed, share = (lambda: choose.randrange(MAX_SEED - 20)), (lambda: choose.randrange(101) / 100)
    digits = tuple(sorted(choose.sample(range(classes), choose.randrange(1, 4)))) if classes else None
    kind = choose.choice([GenerateView, ExploreView, InterpolateView, *[WriteView] * can_write])
    if kind is WriteView:
        text = "7" + "".join(choose.choice(f"{DIGITS}{''.join(SIGNS)} ") for _ in range(choose.randrange(8)))
        style, colours = choose.choice(STYLES), choose.sample(sorted(COLOURS), 2)
        view = WriteView(text=text, style=style, seed=seed(), truncation=share(), ink=colours[0], paper=colours[1])
        number = choose.randrange(len(view.digits))
        return replace(view, own=((number, seed()),), spacing=choose.randrange(17))
    if kind is InterpolateView:
        via = tuple((digit(), seed()) for _ in range(choose.choice([0, 0, 1, 2])))
        return InterpolateView(
            from_digit=digit(),
            from_seed=seed(),
            to_digit=digit(),
            to_seed=seed(),
            path=choose.choice(["slerp", "lerp"]),
            frames=choose.randrange(2, 13),
            via=via,
        )
    count = choose.randrange(1, 5)
    if kind is GenerateView:
        return GenerateView(digits=digits, count=count, seed=seed(), truncation=share())
    corners = (seed(), seed(), seed(), seed())
    return ExploreView(
        digits=digits,
        count=count,
        seed=seed(),
        truncation=share(),
        digit=digit(),
        corners=corners,
        x=share(),
        y=share(),
    )


def main(number: int) -> None:
    """Print `number` permalinks."""
    choose = random.Random(0)
    files = sorted(PRETRAINED.glob("*/step_*/generator.safetensors"))
    for k in range(number):
        path = files[k % len(files)]
        loaded = load_generator(path)
        g = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        run = f"pretrained/{path.parent.parent.name}"
        view = random_view(choose, loaded.config.num_classes, loaded.writes_digits)
        for name in loaded.config.attributes:
            if choose.random() < 0.4:
                low, high = AROUND[name]
                view = replace(view, **{name: choose.randrange(10 * low, 10 * high) / 10})
        if loaded.writers and choose.random() < 0.7:
            view = replace(view, writer=choose.choice(loaded.writers))
        view = pictures.explicit(loaded, view)
        view = replace(view, run=run, step=loaded.provenance["step"], g=g)
        print(Permalink(view, pictures.digest(pictures.frames(loaded, view))).text)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 63)
