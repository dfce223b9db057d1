"""The two networks of a run, layer by layer: the part of the page How it works that its component does not draw."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from models.config import ModelConfig
from models.describe import conditioning, latent_text, layer_rows
from models.diagram import DIAGRAMS, dot_source
from models.trace import mmac, shape_text, watch_both
from webapp import catalog, notices
from webapp.catalog import RunEntry
from webapp.classes import plain

WORDS = {
    "generator": ("Generator", "From random numbers to a picture."),
    "discriminator": ("Discriminator", "From a picture to a score: how real is it?"),
    "adversarial": ("Against each other", "G learns to draw what D takes for real."),
}
"""Name of each diagram -> its title, and what it shows."""
MMAC = "MMAC: millions of multiply-accumulate operations for one image."


@dataclass(frozen=True)
class Described:
    """The page's figures, diagrams and tables of a pair of networks."""

    figures: dict[str, str]
    diagrams: dict[str, str]
    """Name of each diagram -> its source for Graphviz."""
    tables: dict[str, list[dict[str, str]]]
    """Name of each network -> its rows; the last row is the total."""


def show(entry: RunEntry) -> None:
    """Draw the networks of a run. The run's record is enough, so it works before the first checkpoint."""
    record = catalog.run_record(entry.key)
    model = record.config.get("model")
    try:
        described = _described(ModelConfig.from_dict(model if isinstance(model, dict) else {}))
    except ValueError:
        notices.no_architecture(entry)
        return
    with st.container(horizontal=True, key="figures", gap="large"):
        for label, value in described.figures.items():
            st.metric(label, value, width="content", help=MMAC if "MMAC" in value else None)
    if record.about:
        _recipe(record.recipe, record.about)
    columns = st.columns(3, gap="medium")
    for column, name in zip(columns, DIAGRAMS, strict=True):
        title, words = WORDS[name]
        with column:
            st.markdown(f"**{title}**")
            st.caption(words)
            st.graphviz_chart(described.diagrams[name])
    # The generator's diagram is the highest, so its table stands below the lowest one.
    for column, name in ((columns[2], "generator"), (columns[1], "discriminator")):
        with column, st.container(key=f"layers-{name}"):
            st.markdown(f"**{WORDS[name][0]}, layer by layer**")
            st.table(described.tables[name])
    columns[2].caption(MMAC)


def _recipe(recipe: str, about: Mapping[str, str]) -> None:
    """Show what the run's record says about its recipe."""
    with st.expander(f"About the recipe {plain(recipe)}"):
        for name in ("summary", "notes"):
            if text := about.get(name):
                st.markdown(plain(text[:1].upper() + text[1:]))
        if source := about.get("source"):
            st.caption(f"Source: {plain(source)}")


@st.cache_data(max_entries=32, show_spinner=False)
def _described(config: ModelConfig) -> Described:
    networks = dict(zip(DIAGRAMS, watch_both(config), strict=False))
    figures = {
        "Architecture": config.architecture,
        "Image": shape_text(config.image_shape),
        "Latent": latent_text(config),
        "Class": conditioning(config),
    }
    figures |= {
        WORDS[name][0]: f"{network.parameters:,} parameters, {mmac(network)} MMAC" for name, network in networks.items()
    }
    diagrams = {name: dot_source(config, (name,)) for name in DIAGRAMS}
    titles = ("Layer", "Kind", "Output", "Parameters", "MMAC")
    tables = {
        name: [dict(zip(titles, row, strict=True)) for row in layer_rows(network)] for name, network in networks.items()
    }
    return Described(figures, diagrams, tables)
