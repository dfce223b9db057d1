"""Addresses of sample grids: a route of ours where the app has its routes, else the picture itself."""

import os
from urllib.parse import urlencode

from webapp import catalog, export
from webapp.catalog import RunEntry
from webapp.environment import ROUTES_VARIABLE, SAMPLES_ROUTE


def url(entry: RunEntry, epoch: int) -> str:
    """Where the browser gets the sample grid of an epoch; it never changes, for `started` names the very run."""
    if not os.environ.get(ROUTES_VARIABLE):
        return export.data_url(catalog.samples(entry.key, entry.started, epoch))
    return f".{SAMPLES_ROUTE}?{urlencode({'run': entry.key, 'started': repr(entry.started), 'epoch': epoch}, safe='/')}"
