"""The charts of the Training page: Plotly figures from the records of a run."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from models.scores import SCORES
from trainer.run_store import Curve, EpochSummary

MAX_POINTS = 1000
"""Maximum number of points of a trace. A screen cannot show more."""
D_COLOR, G_COLOR = "#d9822b", "#3d7dd8"
REAL_COLOR, FAKE_COLOR = "#2f9e78", "#b0508f"
GREY = "#8a8f98"

NEIGHBOUR_COLORS = {"precision": G_COLOR, "recall": D_COLOR, "density": REAL_COLOR, "coverage": FAKE_COLOR}


def joined(curves: Sequence[Curve], names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Join the curves of several epochs: return for each name an array (N,), nan where a value is missing."""
    columns: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for curve in curves:
        length = len(curve.get("step", ()))
        for name in names:
            values = curve.get(name) or ()
            column = np.full(length, np.nan)
            given = [np.nan if value is None else float(value) for value in values][:length]
            column[: len(given)] = given
            columns[name].append(column)
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in columns.items()}


def thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], points: int = MAX_POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most `points` pairs from arrays (N,): means of neighbours, without values that are not finite."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) <= points:
        return x, y
    edges = np.linspace(0, len(x), points + 1).astype(int)[:-1]
    sizes = np.diff([*edges, len(x)])
    return np.add.reduceat(x, edges) / sizes, np.add.reduceat(y, edges) / sizes


def smoothed(y: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the running mean (N,) of an array (N,) over `window` neighbours, fewer at the ends; nan is left out."""
    if not len(y):
        return y
    finite = np.isfinite(y)
    total = np.convolve(np.where(finite, y, 0.0), np.ones(window), "same")
    number = np.convolve(finite.astype(float), np.ones(window), "same")
    return np.divide(total, number, out=np.full(len(y), np.nan), where=number > 0)


def losses(curves: Sequence[Curve], steps_per_epoch: int) -> go.Figure:
    """Draw the losses of D and G: faint values of each step, and their running mean on top."""
    data = joined(curves, ("step", "d_loss", "g_loss"))
    figure = _figure("Loss")
    for name, title, color in (("d_loss", "Discriminator", D_COLOR), ("g_loss", "Generator", G_COLOR)):
        _add_curve(figure, data["step"], data[name], steps_per_epoch, title, color, "%{y:.3f}")
    both = np.concatenate([data["d_loss"], data["g_loss"]])
    if np.isfinite(both).any():  # rare spikes would hide the rest; a double click shows them
        low, high = np.nanquantile(both, [0.002, 0.98])
        figure.update_yaxes(range=[low - 0.1 * (high - low) - 0.05, high + 0.15 * (high - low) + 0.05])
    return figure


def accuracy(curves: Sequence[Curve], steps_per_epoch: int) -> go.Figure:
    """Draw the discriminator's accuracy on real and on generated pictures, and a line at 50 %, which is guessing."""
    data = joined(curves, ("step", "d_acc_real", "d_acc_fake"))
    figure = _figure("Accuracy")
    for name, title, color in (("d_acc_real", "on real", REAL_COLOR), ("d_acc_fake", "on generated", FAKE_COLOR)):
        _add_curve(figure, data["step"], data[name], steps_per_epoch, title, color, "%{y:.1%}")
    figure.add_hline(y=0.5, line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return figure


def overlay(undisturbed: Sequence[Curve], struck: Sequence[Curve], redone: tuple[int, int] | None) -> go.Figure:
    """Draw the losses of two runs over each other, every step: one as broad bands, the other as thin lines on top.

    `redone` is the first and the last step that the second run has trained twice; None if there are none.
    """
    figure = _figure("Loss")
    for curves, run, width, opacity in ((undisturbed, "undisturbed", 7, 0.3), (struck, "again", 1.4, 1.0)):
        data = joined(curves, ("step", "d_loss", "g_loss"))
        for name, title, color in (("d_loss", "Discriminator", D_COLOR), ("g_loss", "Generator", G_COLOR)):
            figure.add_scatter(
                x=data["step"], y=data[name], name=f"{title}, {run}", mode="lines", opacity=opacity,
                line={"color": color, "width": width}, hovertemplate=f"{title}, {run} %{{y:.9f}}<extra></extra>",
            )  # fmt: skip
    if redone:
        figure.add_vrect(x0=redone[0], x1=redone[1], fillcolor=GREY, opacity=0.25, line_width=0)
        figure.add_vline(
            x=redone[1], line={"color": GREY, "dash": "dash", "width": 1.5}, annotation_text="plug pulled",
            annotation_position="top right",
        )  # fmt: skip
    figure.update_layout(height=320)
    figure.update_xaxes(title="Step")
    return figure


def throughput(curves: Sequence[Curve], steps_per_epoch: int) -> go.Figure:
    """Draw the training images per second."""
    data = joined(curves, ("step", "images_per_second"))
    figure = _figure("Images per second")
    x, y = thinned(data["step"], data["images_per_second"])
    figure.add_scatter(
        x=x / max(steps_per_epoch, 1), y=y, name="images/s", line={"color": G_COLOR, "width": 2}, showlegend=False,
        hovertemplate="%{y:,.0f} images/s<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero", tickformat="~s")
    return figure


def label_accuracy(scored: Sequence[EpochSummary]) -> go.Figure:
    """Draw the label accuracy of each epoch: how often a generated digit is read as the one that was asked for."""
    figure = _figure("Read as asked")
    _add_score(figure, scored, "label_accuracy", "Generated", G_COLOR, ".2%")
    figure.update_layout(showlegend=False, margin_t=8)
    figure.update_yaxes(tickformat=".1~%")
    return figure


def fid(scored: Sequence[EpochSummary]) -> go.Figure:
    """Draw the FID of each epoch. The axis is logarithmic: on a linear axis the last epochs would be a flat line."""
    figure = _figure("FID")
    _add_score(figure, scored, "fid", "Generated", G_COLOR, ".3f")
    figure.update_layout(showlegend=False, margin_t=8)
    ticks = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
    figure.update_yaxes(type="log", tickvals=ticks, tickformat="~r")
    return figure


def neighbours(scored: Sequence[EpochSummary]) -> go.Figure:
    """Draw precision, recall, density and coverage of each epoch."""
    figure = _figure("Score")
    for name, color in NEIGHBOUR_COLORS.items():
        _add_score(figure, scored, name, name.capitalize(), color, ".3f")
    return figure


def _add_score(figure: go.Figure, scored: Sequence[EpochSummary], name: str, title: str, color: str, form: str) -> None:
    """Add a score of each epoch, and the score of real images as a dashed line from epoch 0."""
    rows = [(each.epoch, (each.scores or {}).get(name), (each.floor or {}).get(name)) for each in scored]
    x, y, reals = np.array(rows, dtype=float).reshape(-1, 3).T  # None becomes nan, which Plotly leaves out
    figure.add_scatter(
        x=np.append(0, x), y=np.append(reals[:1], reals), legendgroup=title, showlegend=False, hoverinfo="skip",
        mode="lines", opacity=0.8, line={"color": color, "width": 1, "dash": "dash"},
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=y, customdata=reals, name=title, legendgroup=title, mode="lines+markers",
        line={"color": color, "width": 2.2}, marker={"size": 6},
        hovertemplate=f"{title} %{{y:{form}}} (real %{{customdata:{form}}})<extra></extra>",
    )  # fmt: skip
    if len(x) < 8:  # otherwise there would be ticks between epochs
        figure.update_xaxes(dtick=1)


def _add_curve(
    figure: go.Figure,
    step: NDArray[np.float64],
    values: NDArray[np.float64],
    steps_per_epoch: int,
    title: str,
    color: str,
    hover: str,
) -> None:
    window = min(max(len(values) // 60, 1), 200)
    for y, width, opacity, front in ((values, 1.0, 0.25, False), (smoothed(values, window), 2.2, 1.0, True)):
        x, y = thinned(step, y)
        figure.add_scatter(
            x=x / max(steps_per_epoch, 1), y=y, name=title, legendgroup=title, showlegend=front, opacity=opacity,
            line={"color": color, "width": width}, mode="lines",
            **({"hovertemplate": f"{title} {hover}<extra></extra>"} if front else {"hoverinfo": "skip"}),
        )  # fmt: skip


def _figure(y_title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=240,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        hovermode="x unified",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        uirevision="stay",  # keep the visitor's zoom across updates
    )
    figure.update_xaxes(title="Epoch", rangemode="tozero", automargin=True)
    figure.update_yaxes(title=y_title, automargin=True)
    return figure


class Chart(NamedTuple):
    """A chart of the training page."""

    title: str
    words: str
    """Description of the chart, for the help text and the alternative text."""
    draw: Callable[..., go.Figure]


QUALITY = {
    "label_accuracy": Chart(
        SCORES["label_accuracy"].heading,
        SCORES["label_accuracy"].help,
        label_accuracy,
    ),
    "fid": Chart(
        SCORES["fid"].heading,
        f"{SCORES['fid'].help} The axis is logarithmic.",
        fid,
    ),
    "neighbours": Chart(
        "Precision, recall, density and coverage",
        "Whether generated pictures look like real ones (precision, density), and whether there is one for every kind "
        "of real image (recall, coverage). Higher is better.",
        neighbours,
    ),
}
"""Charts of the scores of epochs; each is drawn from the summaries of the scored epochs."""
CURVES = {
    "losses": Chart(
        "Losses",
        "What each network tries to minimize. Neither wins for good: steady curves are a good sign.",
        losses,
    ),
    "accuracy": Chart(
        "How often the discriminator is right",
        "On real and on generated pictures. At 50 % (dotted) it can only guess: the generator fools it.",
        accuracy,
    ),
    "throughput": Chart("Speed", "Training images per second, over all workers.", throughput),
}
"""Charts of the steps; each is drawn from the curves of the epochs and the number of steps in an epoch."""
