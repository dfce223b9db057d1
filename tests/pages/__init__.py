"""Tests of the app's pages, one file per page, and helpers to open and read a page in Streamlit's test runner."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from webapp import frame

APP = Path(__file__).resolve().parents[2] / "webapp" / "app.py"
KINDS = tuple(page.kind for page in frame.PAGES if not page.is_own)
"""The pages that show a run."""

installed_components = functools.cache(manifest_scanner.scan_component_manifests)
"""Return the Streamlit components of installed packages. Reading all packages takes longer than drawing a page."""


def open_app(kind: str = "explore", session: AppTest | None = None, **query: str) -> AppTest:
    """Open a page by a link with these parameters, as a new visitor or within the session of an open page."""
    if kind == "explore":
        app = AppTest.from_file(APP, default_timeout=30)
    else:
        app = AppTest.from_function(_page, default_timeout=30, kwargs={"kind": kind})
    if session:
        app.session_state["address"] = session.session_state["address"]
    for name, value in query.items():
        app.query_params[name] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", installed_components)
        return check(app.run())


def _page(kind: str) -> None:
    """Draw a page as the home page, because Streamlit's test runner can open only the home page."""
    from webapp import frame

    frame.navigation(home=kind).run()


def check(app: AppTest) -> AppTest:
    """Return the app, after checking that its run raised no exception."""
    assert not app.exception, [error.message for error in app.exception]
    return app


def refresh(app: AppTest) -> AppTest:
    """Clear the cached reads of the store, and run the script again."""
    st.cache_data.clear()
    return check(app.run())


def words(app: AppTest) -> str:
    """Return all text on a page."""
    found = [
        *app.title,
        *app.header,
        *app.subheader,
        *app.markdown,
        *app.caption,
        *app.warning,
        *app.error,
        *app.code,
        *app.info,
    ]
    return "\n".join(str(element.value) for element in found)


def html(app: AppTest) -> str:
    """Return all HTML on a page."""
    return "\n".join(str(element.proto.body) for element in app.get("html"))


def drawn(app: AppTest) -> dict[str, Any]:
    """Return what the component of a page that draws gets from the server."""
    [component] = [json.loads(each.proto.json) for each in app.get("bidi_component") if "pictures" in each.proto.json]
    return component


def part(app: AppTest, name: str) -> Any:
    """Return the value `name` of what the component of a page gets from the server."""
    [component] = [json.loads(each.proto.json) for each in app.get("bidi_component") if f'"{name}"' in each.proto.json]
    return component[name]


def address(app: AppTest) -> dict[str, str]:
    """Return the parameters in the URL of a page."""
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}
