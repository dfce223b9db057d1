"""The type of a page, and the types that the frame passes to it. The table of pages is `webapp.frame.PAGES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

import streamlit as st

from models.config import ModelConfig
from models.view_link import V, View
from trainer.run_store import StoredGenerator
from webapp.catalog import RunEntry
from webapp.classes import Classes
from webapp.inference import GeneratorKey


@dataclass(frozen=True)
class Page:
    """A page of the app."""

    title: str
    icon: str
    """Material icon, in Streamlit's notation."""
    view: type[View]
    """Class of the page's view; its `kind` is the page's path in the URL."""
    show: Callable[[Any], None]
    """Draws the page: from a `DrawingScene` if it draws with a generator, else from a `Scene`; see also `is_own`."""
    description: str
    """What one sees on the page, for search engines and previews."""
    draws: bool = False
    """Whether the page draws with a generator; the frame then lets the visitor choose a checkpoint."""
    start: View | None = None
    """What a visitor sees who comes without a link; None: the defaults of the view."""
    is_own: bool = False
    """Whether the page chooses what it shows itself; it is drawn from an `OwnScene`, also if there is no run."""
    is_offered: Callable[[], bool] = lambda: True
    """Whether the navigation has the page now. Its path always leads to it."""

    @property
    def kind(self) -> str:
        """Path of the page in the URL."""
        return self.view.kind


@dataclass(frozen=True)
class OwnScene(Generic[V]):
    """How to show a page that needs no run."""

    view: V
    links: Mapping[str, st.Page]
    """Kind of each page -> the page as Streamlit knows it."""


@dataclass(frozen=True)
class Scene(Generic[V]):
    """A run to show, and how to show it."""

    view: V
    """The view that the URL names, with the run, step and generator that are shown."""
    version: str
    """Changes when a link is opened or a run is chosen; widgets reset on it."""
    entry: RunEntry


@dataclass(frozen=True)
class DrawingScene(Scene[V]):
    """A generator to draw with, and how to show its pictures."""

    checkpoint: StoredGenerator
    generator: GeneratorKey
    config: ModelConfig
    """Config of the generator."""
    classes: Classes
    """Classes that the generator can draw."""
