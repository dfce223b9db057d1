"""What the frame hands to a view: the run, the checkpoint, and what the address asks for."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from models.config import ModelConfig
from models.view_link import View
from webapp.catalog import CheckpointEntry, RunEntry
from webapp.classes import Classes
from webapp.inference import GeneratorKey

V = TypeVar("V", bound=View)


@dataclass(frozen=True)
class Scene(Generic[V]):
    """For one kind of view."""

    view: V
    """With the run and the step that are shown."""
    version: str
    """Another one for each link that was opened and each run that was chosen."""
    entry: RunEntry


@dataclass(frozen=True)
class DrawingScene(Scene[V]):
    """For a view that draws with a generator."""

    checkpoint: CheckpointEntry
    generator: GeneratorKey
    config: ModelConfig
    """Of the generator."""
    classes: Classes
    """What the generator can be asked for."""
