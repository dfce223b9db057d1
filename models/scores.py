"""SCORES: what generators are scored on, one row each, in the order of all tables."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Score:
    """A score, and how it is shown."""

    name: str
    """Its key in metrics.json, in evaluations and in `SCORES`."""
    title: str
    format: str
    """A format string for its value, such as `{:.3f}`."""
    meaning: str
    """What it measures: sentences that end with a period."""
    better: Literal["higher", "lower", "like real"]
    """Which values are better; `like real` = those close to the value of real images."""

    def show(self, value: float) -> str:
        """Return a value as tables show it."""
        return self.format.format(value)

    @property
    def heading(self) -> str:
        """The title with a capital letter."""
        return self.title[0].upper() + self.title[1:]

    @property
    def help(self) -> str:
        """The meaning, and which values are better."""
        return f"{self.meaning} {_BETTER[self.better]}"


_BETTER = {
    "higher": "Higher is better.",
    "lower": "Lower is better.",
    "like real": "Best close to the value of real images.",
}

SCORES = {
    score.name: score
    for score in (
        Score(
            "label_accuracy",
            "label accuracy",
            "{:.2%}",
            "Share of generated pictures that are read as the class that was asked for.",
            "higher",
        ),
        Score("fid", "FID", "{:.3f}", "Distance between generated and real images as a whole.", "lower"),
        Score(
            "kid",
            "KID",
            "{:.5f}",
            "Distance between generated and real images as a whole by another measure, around 0 for real ones.",
            "lower",
        ),
        Score("precision", "precision", "{:.3f}", "Share of generated pictures that resemble a real one.", "higher"),
        Score("recall", "recall", "{:.3f}", "Share of real images that the generator could have drawn.", "higher"),
        Score(
            "density",
            "density",
            "{:.3f}",
            "Number of real images close to a generated one; 1 = as many as to a real one.",
            "higher",
        ),
        Score("coverage", "coverage", "{:.3f}", "Share of real images with a generated one close by.", "higher"),
        Score(
            "diversity",
            "diversity",
            "{:.3f}",
            "Variety among pictures of the same class; 1 = that of real ones.",
            "like real",
        ),
        Score(
            "nearest_1st_percentile",
            "nearest training image, 1st percentile",
            "{:.2f}",
            "Difference in pixels to the most similar training image; 1 % of the pictures have a smaller one. "
            "A value far below that of real images means copies.",
            "like real",
        ),
        Score(
            "nearest_median",
            "nearest training image, median",
            "{:.2f}",
            "Difference in pixels to the most similar training image; half of the pictures have a smaller one.",
            "like real",
        ),
        Score(
            "black",
            "black pixels",
            "{:.1%}",
            "Share of pixels that are exactly black.",
            "like real",
        ),
        Score(
            "haze",
            "haze",
            "{:.2%}",
            "Share of pixels that look black but are a very dark grey: a faint veil.",
            "like real",
        ),
        Score(
            "lone_pixels",
            "lone pixels a picture",
            "{:.3f}",
            "Number of specks in a picture: single pixels with nothing but black around them.",
            "like real",
        ),
        Score(
            "centring",
            "wander of the centre",
            "{:.2f} px",
            "How much the centre of mass varies. MNIST's makers centred each digit.",
            "like real",
        ),
        Score(
            "two_sample_0",
            "told from real images",
            "{:.1%}",
            "How often a new classifier rightly says whether a picture is generated or real; 50 % = it can only guess.",
            "like real",
        ),
        Score(
            "two_sample_01",
            "told from real images in light noise",
            "{:.1%}",
            "How often it is right if all pictures have light noise (0.1; white = 1), which hides exact grey levels.",
            "like real",
        ),
        Score(
            "two_sample_03",
            "told from real images in strong noise",
            "{:.1%}",
            "How often it is right if all pictures have strong noise (0.3; white = 1), which hides all but strokes.",
            "like real",
        ),
        Score(
            "gan_train",
            "GAN-train: accuracy on real test images",
            "{:.2%}",
            "Share of real images that a classifier reads correctly after training on generated ones.",
            "higher",
        ),
    )
}
"""Name -> score."""
