"""Rows of pictures as HTML: each picture is an image with an alternative text."""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.sampling import to_png
from webapp.classes import Classes
from webapp.export import data_url

SHEET_HEIGHT, SHEET_WIDTH, MAX_SIDE = 600, 640, 144
"""Size that the rows should fit into on a large screen, and limit of the side of a picture, in pixels."""


def picture_rows(images: NDArray[np.uint8], labels: Sequence[int], seed: int, classes: Classes) -> str:
    """Return pictures (D, count, H, W[, 3]) as a grid with a row for each label; a single row is wrapped."""
    count, height = images.shape[1:3]
    columns = count if len(labels) > 1 else _columns_of_one(count)
    lines = max(len(labels), 1) * -(-count // columns)
    side = min(SHEET_HEIGHT / lines, SHEET_WIDTH / columns, MAX_SIDE) - 4
    side = int(max(side // (height / 2) * height / 2, height))  # half or whole multiples: even pixels
    cells = []
    for row, pictures in enumerate(images):
        name = classes.picture(labels[row] if labels else None)
        if labels:
            label = html.escape(classes.name(labels[row]))
            cells.append(f'<span class="df-label" style="grid-row: span {-(-count // columns)}">{label}</span>')
        for k, picture in enumerate(pictures):
            words = html.escape(f"{name}, seed {seed + k}")
            cells.append(f'<img src="{data_url(to_png(picture))}" alt="{words}" title="{words}">')
    width = "fit-content(7rem) " if classes.noun == "class" else "1.4rem "
    tracks = (width if labels else "") + f"repeat({columns}, minmax(0, {side}px))"
    return f'<div class="df-rows" style="grid-template-columns: {tracks}">{"".join(cells)}</div>'


def _columns_of_one(count: int) -> int:
    """Return the number of columns for a single row: a nearly square grid has room for large pictures."""
    return next((columns for columns in (1, 2, 3, 4, 5) if columns * columns >= count), 5)
