"""Training: the progress, the scores and the curves of a run, live while it trains."""

from contextlib import suppress
from dataclasses import dataclass

import streamlit as st

from models.scores import SCORES
from models.view_link import View
from trainer.run_store import DamagedError, EpochSummary, Progress, RunStoreError
from webapp import address, catalog, notices, wording
from webapp.catalog import RunEntry
from webapp.page import Scene

POLL_SECONDS = 2
PLOTLY = {"displaylogo": False, "modeBarButtons": [["resetScale2d"]]}
"""Settings of the charts: the only button leads back from a zoom. style.css makes charts still on touch screens."""

EPOCH_COUNT = 2000
"""Number of pictures that a training scores at the end of an epoch, if there are as many test images."""
EPOCH_SCORES = (
    *("label_accuracy", "fid", "precision", "recall", "density", "coverage", "diversity"),
    *("black", "haze", "lone_pixels", "centring"),
)
"""Scores that a training computes at the end of an epoch."""


@dataclass(frozen=True, kw_only=True)
class TrainingView(View):
    """The progress, the scores and the curves of a run."""

    kind = "training"


def show(scene: Scene[TrainingView]) -> None:
    """Draw the page, and again every few seconds while the run trains."""
    address.publish(scene.view)
    progress = scene.entry.progress
    moves = progress.is_live or progress.is_stale  # the page says how long a run has been silent
    st.fragment(_show, run_every=POLL_SECONDS if moves else None)(scene.entry.key, progress.is_live)


@notices.guarded
def _show(key: str, was_live: bool) -> None:
    entry = catalog.list_runs().find(key)
    if entry is None or entry.progress.is_live != was_live:
        st.rerun()
    _header(entry)
    epochs = catalog.epochs(key)
    scored = _scored(entry, epochs)
    _scores(entry, scored)
    with st.container(key="curves"):
        left, right = st.columns([5, 3], gap="large")
    with right:
        _newest_samples(entry, epochs)
        _evaluation(entry)
    with left:
        _charts(entry, epochs)
        _quality(entry, scored)  # below, because the first scores come when one may be watching the curves


def _header(entry: RunEntry) -> None:
    progress = entry.progress
    st.title(wording.state(entry))
    if entry.problem:
        return
    if progress.is_stale:
        st.warning(
            f"This run has not reported for {wording.duration(progress.age or 0)}. It may have been killed. "
            "When it reports again, this page shows it."
        )
    if progress.phase == "failed":
        st.error("The run failed.")
        if progress.message:
            st.code(catalog.without_paths(progress.message), language=None, wrap_lines=True)
    notices.resume_command(entry)
    st.progress(progress.share)
    with st.container(horizontal=True, key="figures", gap="large"):
        for label, value in _figures(progress):
            st.metric(label, value, width="content")


def _figures(progress: Progress) -> list[tuple[str, str]]:
    speed, eta = progress.images_per_second, progress.eta
    rows = [
        ("Epoch", f"{progress.epoch} of {progress.epochs}" if progress.epochs else ""),
        ("Step", f"{progress.step:,} of {progress.total_steps:,}" if progress.total_steps else ""),
        ("Images seen", wording.count(progress.nimg) if progress.nimg else ""),
        ("Images per second", f"{speed:,.0f}" if speed and progress.is_live else ""),
        ("Time left", wording.duration(eta) if eta and progress.is_live else ""),
        ("Workers", str(progress.world_size) if progress.world_size else ""),
    ]
    return [(label, value) for label, value in rows if value]


def _scored(entry: RunEntry, epochs: list[int]) -> list[EpochSummary]:
    """Return the summaries of the epochs whose generator was scored."""
    summaries = catalog.readable(catalog.epoch_metrics, entry, epochs)
    if damaged := [epoch for epoch in epochs if epoch not in summaries]:
        st.warning(f"The summary of {wording.epochs(damaged)} is damaged, so its scores are missing on this page.")
    return [summary for summary in summaries.values() if summary.scores]


def _scores(entry: RunEntry, scored: list[EpochSummary]) -> None:
    """Show the scores of the newest generator that has them, and those of real images below.

    A run that will have scores has their places from its start, so that nothing moves when they come.
    """
    expected = () if scored else _expected_scores(entry)
    if not scored and not expected:
        return
    things, count = catalog.classes(entry.key).things, f"{(scored and scored[-1].count) or EPOCH_COUNT:,}"
    if scored:
        scores, reals = scored[-1].scores or {}, scored[-1].floor or {}
        st.markdown(f"**How good the {things} are** after epoch {scored[-1].epoch}, with {count} {things}")
    else:
        scores, reals = {}, {}
        st.markdown(f"**How good the {things} are**: the first scores come at the end of an epoch")
    with st.container(horizontal=True, key="scores", gap="large"):
        for name, score in SCORES.items():
            value, real = scores.get(name), reals.get(name)
            if value is not None or name in expected:
                shown = "-" if value is None else score.show(value)
                below = None if real is None and scored else f"real {'-' if real is None else score.show(real)}"
                st.metric(score.heading, shown, below, "off", delta_arrow="off", help=score.help, width="content")
    st.caption(
        f"Scores of {count} generated {things}, most from a reader of such {things}. Below them, and dashed in the "
        f"charts: those of {count} real ones. A generator can beat real {things} by drawing only typical ones; recall "
        "and diversity then show how much variety is missing."
    )


def _expected_scores(entry: RunEntry) -> tuple[str, ...]:
    """Return the scores that a run in training will have at the end of an epoch."""
    every, classes = catalog.run_record(entry.key).config.get("metrics_every", 1), catalog.classes(entry.key)
    if not entry.progress.is_live or every == 0 or classes.noun != "digit":
        return ()
    return EPOCH_SCORES if classes.number else EPOCH_SCORES[1:]  # without classes there is no accuracy


def _quality(entry: RunEntry, scored: list[EpochSummary]) -> None:
    if not scored:
        return
    from webapp import charts  # late: Plotly is large, and only this page needs it

    known = {name for summary in scored for name, score in (summary.scores or {}).items() if score is not None}
    beside = [name for name in ("label_accuracy", "fid") if name in known]  # without classes there is no accuracy
    with st.container(key="quality"):
        places = [*(st.columns(len(beside), gap="medium") if beside else ()), st.container()]
        for name, place in zip([*beside, "neighbours"], places, strict=True):
            title, words, draw = charts.QUALITY[name]
            with place:
                st.markdown(f"**{title}**")
                st.caption(words)
                alt = f"{title} of {entry.name}. {words}"
                st.plotly_chart(draw(scored), key=f"training.{name}", config=PLOTLY, alt=alt)


def _evaluation(entry: RunEntry) -> None:
    """Show all scores of the newest checkpoint if `python -m trainer evaluate` has written them."""
    checkpoints = catalog.generators(entry.key)
    found = catalog.evaluation(entry.key, checkpoints[-1].step) if checkpoints else None
    if not found:
        return
    generated, reals, things = found.generated, found.floor, catalog.classes(entry.key).things
    rows, meanings = [], []
    for name, score in SCORES.items():
        value, real = generated.get(name), reals.get(name)
        if isinstance(value, int | float) and isinstance(real, int | float):
            title = score.heading
            rows.append({"Score": title, "Generated": score.show(value), "Real": score.show(real)})
            meanings.append(f"- **{title}**: {score.help}")
    st.markdown(f"**Evaluation** - {wording.checkpoint(checkpoints[-1]).lower()}, with {found.count:,} {things}")
    with st.container(key="evaluation"):
        st.table(rows)
    st.caption(
        f"Scores of {found.count:,} generated and as many real {things}, most from a reader of such {things}. Some, "
        f"such as FID, depend on the number of {things}: compare a score only with that of as many real ones."
    )
    with st.expander("What the scores mean"):
        st.markdown("\n".join(meanings))


def _newest_samples(entry: RunEntry, epochs: list[int]) -> None:
    if not epochs:
        st.caption("The first sample grid will appear here.")
        return
    name = f"Sample grid of {entry.name}, epoch {epochs[-1]}"
    st.markdown(f"**Newest samples** - epoch {epochs[-1]}" + (", before training" if epochs[-1] == 0 else ""))
    try:
        catalog.samples(entry.key, entry.started, epochs[-1])
    except DamagedError:
        st.warning(f"The picture of epoch {epochs[-1]} is damaged.")
        return
    st.html(f'<img class="df-sheet" src="{catalog.sample_url(entry, epochs[-1])}" alt="{name}">')
    st.caption("Always drawn from the same latents. The Gallery has every epoch.")


def _charts(entry: RunEntry, epochs: list[int]) -> None:
    trained = [epoch for epoch in epochs if epoch > 0]
    readable = catalog.readable(catalog.losses, entry, trained)
    if damaged := [epoch for epoch in trained if epoch not in readable]:
        st.warning(f"The record of the steps of {wording.epochs(damaged)} is damaged, so the curves have a gap.")
    curves = list(readable.values())
    with suppress(RunStoreError):  # completed in the meantime: it is among the others next time
        curves.append(catalog.running_losses(entry.key))
    if not any(curve.get("step") for curve in curves):
        live = entry.progress.is_live
        st.caption("Curves appear with the first steps of training." if live else "This run has recorded no curves.")
        return
    from webapp import charts  # late: Plotly is large, and only this page needs it

    steps_per_epoch = _steps_per_epoch(entry)
    with st.container(key="charts"):
        for name, (title, words, draw) in charts.CURVES.items():
            with st.container():
                st.markdown(f"**{title}**", help=words)
                alt = f"{title} of {entry.name}. {words}"
                st.plotly_chart(draw(curves, steps_per_epoch), key=f"training.{name}", config=PLOTLY, alt=alt)


def _steps_per_epoch(entry: RunEntry) -> int:
    return max(catalog.run_record(entry.key).steps_per_epoch, 1)
