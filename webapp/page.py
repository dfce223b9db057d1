"""The type of a page, and the types that the frame passes to it. The table of pages is `webapp.frame.PAGES`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

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
    """Draws the page from a `DrawingScene` if the page draws with a generator, else from a `Scene`."""
    description: str
    """What one sees on the page, for search engines and previews."""
    draws: bool = False
    """Whether the page draws with a generator; the frame then lets the visitor choose a checkpoint."""
    start: View | None = None
    """What a visitor sees who comes without a link; None: the defaults of the view."""

    @property
    def kind(self) -> str:
        """Path of the page in the URL."""
        return self.view.kind


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
