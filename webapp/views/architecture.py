"""Architecture: the two networks of a run, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from models.config import ModelConfig
from models.describe import conditioning, latent_text, layer_rows
from models.diagram import DIAGRAMS, dot_source
from models.trace import mmac, shape_text, watch_both
from models.view_link import View
from webapp import address, catalog, notices
from webapp.classes import plain
from webapp.components.copy_link import copy_link
from webapp.page import Scene

WORDS = {
    "generator": ("Generator", "From random numbers to a picture."),
    "discriminator": ("Discriminator", "From a picture to a score: how real is it?"),
    "adversarial": ("Against each other", "G learns to draw what D takes for real."),
}
"""Name of each diagram -> its title, and what it shows."""
MMAC = "MMAC: millions of multiply-accumulate operations for one image."


@dataclass(frozen=True, kw_only=True)
class ArchitectureView(View):
    """The networks of a run."""

    kind = "architecture"


@dataclass(frozen=True)
class Described:
    """The page's figures, diagrams and tables of a pair of networks."""

    figures: dict[str, str]
    diagrams: dict[str, str]
    """Name of each diagram -> its source for Graphviz."""
    tables: dict[str, list[dict[str, str]]]
    """Name of each network -> its rows; the last row is the total."""


def show(scene: Scene[ArchitectureView]) -> None:
    """Draw the page. The run's record is enough, so it works before the first checkpoint."""
    address.publish(scene.view)
    record = catalog.run_record(scene.entry.key)
    model = record.config.get("model")
    try:
        described = _described(ModelConfig.from_dict(model if isinstance(model, dict) else {}))
    except ValueError:
        notices.no_architecture(scene.entry)
        return
    st.title(f"The networks of {scene.entry.name}")
    with st.container(horizontal=True, key="figures", gap="large"):
        for label, value in described.figures.items():
            st.metric(label, value, width="content", help=MMAC if "MMAC" in value else None)
    with st.container(horizontal=True, key="actions"):
        copy_link(address.relative_url(scene.view), key="architecture.link")
    if record.about:
        _recipe(record.recipe, record.about)
    *networks, both = st.columns(3, gap="medium")
    for column, name in zip([*networks, both], DIAGRAMS, strict=True):
        title, words = WORDS[name]
        with column:
            st.markdown(f"**{title}**")
            st.caption(words)
            st.graphviz_chart(described.diagrams[name])
    with both, st.container(key="layers"):  # beside the diagrams of the networks, which are much higher
        for name, rows in described.tables.items():
            st.markdown(f"**{WORDS[name][0]}, layer by layer**")
            st.table(rows)
        st.caption(MMAC)


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
