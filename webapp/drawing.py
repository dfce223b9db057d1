"""Data that the server gives to the pages that draw in the browser, and the reports that it reads from them."""

import base64
import functools
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from models import pictures
from models.attributes import ATTRIBUTES, AttributeTable
from models.config import ModelConfig
from models.trace import sizes
from models.view_link import View, from_pairs, pairs
from models.views import MAX_LINK, DrawingView
from webapp import delivery, inference, wording
from webapp.environment import ROUTES_VARIABLE
from webapp.page import DrawingScene

MAX_MMAC = 110
"""Limit of the multiply-accumulates of a picture, in millions, that the browser draws itself."""

V = TypeVar("V", bound=DrawingView)
W = TypeVar("W", bound=View)


def scene_data(scene: DrawingScene[V], view: V, *, with_pictures: bool) -> dict[str, Any]:
    """Return the values with which a page starts, for its component: see webapp/browser/drawer.js.

    `view` must be explicit. `with_pictures` adds the pixels of its pictures, deflated and in base64.
    """
    config, classes = scene.config, scene.classes
    loaded = inference.load(scene.generator)
    channels, height, width = config.image_shape
    return {
        "version": scene.version,
        "scripts": delivery.scripts_url(),
        "weights": delivery.weights_url(scene.generator.sha256) if drawn_in_browser(config) else "",
        "scope": dict(pairs(View(run=view.run, step=view.step, g=view.g))),
        "noun": classes.noun,
        "nouns": classes.nouns,
        "has_names": bool(classes.names),
        "classes": [
            {"name": classes.name(label), "one": classes.one(label), "picture": classes.picture(label)}
            for label in classes.labels
        ],
        "picture": classes.picture(None),
        "attributes": _controls(loaded.table) if loaded.table else [],
        "writers": loaded.writers,
        "size": [height, width, channels],
        "view": _values(view),
        "pictures": packed(inference.frames(scene.generator, view)) if with_pictures else "",
        "drawn_by": f"drawn by {scene.entry.name} after {wording.count(scene.checkpoint.nimg)} training images.",
    }


def _controls(table: AttributeTable) -> list[dict[str, Any]]:
    """Return what a page needs for a slider of each attribute. A slider reaches as far as any of the classes."""
    controls = []
    for name in table.names:
        ends = [table.reach(name, label) for label in range(len(table.values))]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        attribute = ATTRIBUTES[name]
        row = {"name": name, "title": attribute.title, "unit": attribute.unit, "step": attribute.step}
        controls.append(row | {"low": math.ceil(low), "high": math.floor(high)})
    return controls


def packed(pixels: NDArray[np.uint8]) -> str:
    """Return pixels deflated and in base64, as `Drawer.unpacked` of webapp/browser/drawer.js reads them."""
    return base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode("ascii")


def _values(view: View) -> dict[str, Any]:
    return {name: value for name, value in vars(view).items() if name not in ("run", "step", "g")}


def drawn_in_browser(config: ModelConfig) -> bool:
    """Return whether the browser draws with such a generator itself: our routes exist, and it is small enough."""
    return bool(os.environ.get(ROUTES_VARIABLE)) and multiply_accumulates(config) <= MAX_MMAC * 1e6


def fitting(scene: DrawingScene[V]) -> V:
    """Return the view without attributes and writers that its generator does not know; say what was left out."""
    view, writers = scene.view, inference.load(scene.generator).writers
    unknown: dict[str, Any] = dict.fromkeys(name for name in view.asked if name not in scene.config.asks)
    if unknown:
        st.warning(f"This generator draws without {' and '.join(unknown)}, so they cannot be chosen.")
    elif view.writer is not None and view.writer not in writers:
        st.warning(f"Writer {view.writer} cannot be chosen: this generator does not know them. Anyone writes instead.")
        unknown = {"writer": None}
    return replace(view, **unknown)


def explicit(scene: DrawingScene[V], view: V) -> V:
    """Return a view with each digit named. Raises `ViewError` for what the generator of a scene cannot draw."""
    return pictures.explicit(inference.load(scene.generator), view)


@functools.cache
def multiply_accumulates(config: ModelConfig) -> int:
    """Return the multiply-accumulates of one picture."""
    (_, (generator, _)) = sizes(config)
    return generator


def read_report(kind: type[W], version: str, report: object) -> W | None:
    """Return the view that the browser reported; None without a report of this version or for one that is invalid.

    A report comes from outside, so it may hold anything.
    """
    if not isinstance(report, Mapping) or report.get("version") != version:
        return None
    text = report.get("text")
    if not isinstance(text, str) or len(text) > MAX_LINK:
        return None
    try:
        return from_pairs(kind, parse_qsl(text, keep_blank_values=True, max_num_fields=50))
    except ValueError:
        return None


def reported(scene: DrawingScene[V], report: object) -> V | None:
    """Return the view of a scene's generator that the browser reported, with each digit named; see `read_report`.

    None for a view that the generator cannot draw, too.
    """
    view = read_report(type(scene.view), scene.version, report)
    try:
        view = view and explicit(scene, view)
    except ValueError:
        return None
    return view and replace(view, run=scene.view.run, step=scene.view.step, g=scene.view.g)
