"""The charts of Training and Compare: Plotly figures from the records of runs."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from models.scores import SCORES
from trainer.run_store import Curve, EpochSummary

Numbers: TypeAlias = Sequence[float] | NDArray[np.floating]
"""Values along an axis."""

MAX_POINTS = 1000
"""Maximum number of points of a trace. A screen cannot show more."""
COMPARED_POINTS = 400
"""The same where two runs are compared: there are four charts of five traces each."""
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


def binned(x: NDArray[np.float64], y: NDArray[np.float64], end: float, bins: int) -> NDArray[np.float64]:
    """Return the mean (bins,) of y in each of the equal parts of 0 to `end` in x, from arrays (N,); nan where none is.

    Values that are not finite are left out.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    places = np.minimum((x * (bins / end)).astype(int), bins - 1) if len(x) else np.empty(0, int)
    number, total = np.bincount(places, minlength=bins), np.bincount(places, y, bins)
    return np.divide(total, number, out=np.full(bins, np.nan), where=number > 0)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running mean (N,) that stands in front of the values of the steps (N,)."""
    return smoothed(values, min(max(len(values) // 60, 1), 200))


def _without_spikes(values: Sequence[NDArray[np.float64]]) -> list[float] | None:
    """Return a range for an axis of losses. Rare spikes would hide the rest; a double click shows them."""
    every = np.concatenate(values)
    if not np.isfinite(every).any():
        return None
    low, high = np.nanquantile(every, [0.002, 0.98])
    return [low - 0.1 * (high - low) - 0.05, high + 0.15 * (high - low) + 0.05]


def losses(curves: Sequence[Curve], steps_per_epoch: int) -> go.Figure:
    """Draw the losses of D and G: faint values of each step, and their running mean on top."""
    data = joined(curves, ("step", "d_loss", "g_loss"))
    figure = _figure("Loss")
    for name, title, color in (("d_loss", "Discriminator", D_COLOR), ("g_loss", "Generator", G_COLOR)):
        _add_curve(figure, data["step"], data[name], steps_per_epoch, title, color, "%{y:.3f}")
    figure.update_yaxes(range=_without_spikes([data["d_loss"], data["g_loss"]]))
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


def comparison(runs: Sequence["Recorded"]) -> list[dict[str, Any]]:
    """Return charts of each curve and score that both of two runs have, with the difference of the two."""
    first, second = runs
    below = f"Below: {first.name} minus {second.name}."
    figures = {name: _compared_steps(runs, name) for name in STEPS if first.batch_size and second.batch_size}
    figures |= {name: _compared(runs, name) for name in COMPARED}
    found = []
    for name, figure in figures.items():
        if not len(figure.data[-1].x):  # the difference
            continue
        title = STEPS[name][0] if name in STEPS else SCORES[name].heading
        words = f"Every step, and the running mean. {below}" if name in STEPS else f"{SCORES[name].help} {below}"
        found.append(for_browser(name, Chart(title, words, _compared), f"{first.name} and {second.name}", figure))
    return found


def _compared_steps(runs: Sequence["Recorded"], name: str) -> go.Figure:
    """Draw a curve of the steps of two runs over each other, and the difference of their running means below.

    The axis is the number of images seen, because epochs and batches of two runs may differ. It is divided into
    `COMPARED_POINTS` equal parts, and each point is the mean of a run in one of them.
    """
    _, title, form = STEPS[name]
    figure = _figure(title)
    data = [joined(run.curves, ("step", name)) for run in runs]
    images = [each["step"] * run.batch_size for each, run in zip(data, runs, strict=True)]
    end = max((seen[np.isfinite(seen)].max(initial=0.0) for seen in images), default=0.0)
    centres = ((np.arange(COMPARED_POINTS) + 0.5) * end / COMPARED_POINTS).astype(np.float32)
    means = []
    for run, each, seen, color in zip(runs, data, images, (G_COLOR, D_COLOR), strict=True):
        for y, width, opacity, front in ((each[name], 1.0, 0.25, False), (_running_mean(each[name]), 2.2, 1.0, True)):
            mean = binned(seen, y, end, COMPARED_POINTS)
            known = np.isfinite(mean)
            figure.add_scatter(
                x=centres[known], y=mean[known].astype(np.float32), name=run.name, legendgroup=run.name,
                showlegend=front, opacity=opacity, line={"color": color, "width": width}, mode="lines",
                **({"hovertemplate": f"{run.name} %{{y:{form}}}<extra></extra>"} if front else {"hoverinfo": "skip"}),
            )  # fmt: skip
        means.append(mean)
    difference = means[0] - means[1]
    known = np.isfinite(difference)
    _add_difference(figure, centres[known], difference[known].astype(np.float32), form)
    figure.update_xaxes(title="Images seen", tickformat="~s", hoverformat=",.0f")
    figure.update_layout(hoverdistance=20)  # in pixels: where one run has ended, only the other one answers
    if title == "Loss":
        figure.update_layout(yaxis_range=_without_spikes([each[name] for each in data]))
    else:
        figure.update_yaxes(tickformat=".0%")
    return figure


def _compared(runs: Sequence["Recorded"], name: str) -> go.Figure:
    """Draw a score of the epochs of two runs over each other, and their difference below."""
    figure = _figure(SCORES[name].heading)
    values: list[dict[int, float]] = []
    for run, color in zip(runs, (G_COLOR, D_COLOR), strict=True):
        rows = {each.epoch: (each.scores or {}).get(name) for each in run.epochs}
        known = {epoch: value for epoch, value in rows.items() if value is not None}
        values.append(known)
        figure.add_scatter(
            x=list(known), y=list(known.values()), name=run.name, mode="lines+markers",
            line={"color": color, "width": 2.2}, marker={"size": 5},
            hovertemplate=f"{run.name} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    first, second = values
    both = [epoch for epoch in first if epoch in second]
    _add_difference(figure, both, [first[epoch] - second[epoch] for epoch in both], ".3f")
    return figure


def _add_difference(figure: go.Figure, x: Numbers, y: Numbers, form: str) -> None:
    """Add the difference of two runs, with an axis of its own below theirs."""
    figure.add_scatter(
        x=x, y=y, name="Difference", yaxis="y2", mode="lines", line={"color": GREY, "width": 1.6, "dash": "dot"},
        hovertemplate=f"Difference %{{y:+{form}}}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        height=300,
        xaxis={"anchor": "y2"},
        yaxis={"domain": [0.36, 1]},
        yaxis2={"domain": [0, 0.26], "title": "Difference", "zeroline": True, "automargin": True, "nticks": 4},
    )


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
    for y, width, opacity, front in ((values, 1.0, 0.25, False), (_running_mean(values), 2.2, 1.0, True)):
        x, y = thinned(step, y)
        figure.add_scatter(
            x=x / max(steps_per_epoch, 1), y=y, name=title, legendgroup=title, showlegend=front, opacity=opacity,
            line={"color": color, "width": width}, mode="lines",
            **({"hovertemplate": f"{title} {hover}<extra></extra>"} if front else {"hoverinfo": "skip"}),
        )  # fmt: skip


def _figure(y_title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="none",  # the colours are those of the page: training.css
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        height=240,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        hovermode="x unified",
        hoverdistance=-1,  # the whole chart answers to the pointer, not only places close to a point
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        uirevision="stay",  # keep the visitor's zoom across updates
    )
    figure.update_xaxes(title="Epoch", rangemode="tozero", automargin=True, zeroline=False)
    figure.update_yaxes(title=y_title, automargin=True, zeroline=False)
    return figure


def for_browser(name: str, chart: "Chart", run: str, figure: go.Figure) -> dict[str, Any]:
    """Return a chart as webapp/browser/charts.js takes it: with its figure as Plotly's JSON."""
    drawn = json.loads(figure.to_json())
    figure_json = {"data": drawn["data"], "layout": drawn["layout"]}
    alt = f"{chart.title} of {run}. {chart.words}"
    return {"name": name, "title": chart.title, "words": chart.words, "alt": alt, "figure": figure_json}


class Chart(NamedTuple):
    """A chart of the training page."""

    title: str
    words: str
    """Description of the chart, for the help text and the alternative text."""
    draw: Callable[..., go.Figure]


class Recorded(NamedTuple):
    """The records of a run that Compare draws."""

    name: str
    curves: Sequence[Curve]
    batch_size: int
    """Images of a step."""
    epochs: Sequence[EpochSummary]


STEPS = {
    "d_loss": ("Loss of the discriminator", "Loss", ".3f"),
    "g_loss": ("Loss of the generator", "Loss", ".3f"),
    "d_acc_real": ("Discriminator right about real pictures", "Accuracy", ".1%"),
    "d_acc_fake": ("Discriminator right about generated pictures", "Accuracy", ".1%"),
}
"""Curves of the steps that Compare shows: column of a curve -> titles of the chart and of its axis, and format."""
COMPARED = ("label_accuracy", "fid", "precision", "recall", "diversity")
"""Scores of the epochs that Compare shows."""
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
