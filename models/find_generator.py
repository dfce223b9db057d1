"""Find the generator that a link names among the files of a folder or a bucket."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from models.generator_file import GeneratorFileError, LoadedGenerator, read_generator, read_metadata
from models.view_link import View

SUFFIX = ".safetensors"
MAX_BYTES = 256 << 20
"""Limit of the size of a file that is read."""


class NotFoundError(ValueError):
    """The generator of a link is not in the place that was searched. The message says what was looked for."""


def find(view: View, places: list[str]) -> tuple[LoadedGenerator, str]:
    """Return the generator of a view and its SHA-256, from the first place, a folder or a URI, that holds it.

    A view with a hash means the file of this hash, wherever it is; one without means the run and the step that it
    names. The run's own folder is searched first. Raises `NotFoundError`.
    """
    if not view.g and not view.run:
        raise NotFoundError("the link names neither a generator (g=) nor a run (run=)")
    problems = []
    for place in places:
        try:
            for name, content in _candidates(view, place):
                if _matches(view, content):
                    return read_generator(content, name), hashlib.sha256(content).hexdigest()
        except OSError as error:
            problems.append(f"{place} cannot be read ({str(error).splitlines()[0]})")
        except (GeneratorFileError, pyarrow.ArrowInvalid) as error:
            problems.append(f"{place}: {error}")
    what = f"the generator {view.g}" if view.g else f"the generator of {view.run or 'a run'}, step {view.step}"
    raise NotFoundError(f"{what} is not in {' or '.join(places)}{''.join('; ' + problem for problem in problems)}")


def _matches(view: View, content: bytes) -> bool:
    if view.g:
        return hashlib.sha256(content).hexdigest().startswith(view.g)
    try:
        step = json.loads(read_metadata(content)["provenance"])["step"]
    except (ValueError, KeyError, TypeError):  # not a generator file
        return False
    return view.step is None or bool(step == view.step)


def _candidates(view: View, place: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file that may be the generator: those of the view's run first, newest first."""
    fs, root = FileSystem.from_uri(place if "://" in place else Path(place).resolve().as_uri())
    run = view.run.rpartition("/")[2]
    own = FileSelector(f"{root.rstrip('/')}/{run}", recursive=True, allow_not_found=True)
    infos = _generators(fs.get_file_info(own), view.g) if run else []
    if view.g:  # without a hash, no other run's generator is the one that the link means
        infos += _generators(fs.get_file_info(FileSelector(root, recursive=True, allow_not_found=True)), view.g)
    seen = set()
    for info in infos:
        if info.path not in seen:
            seen.add(info.path)
            with fs.open_input_file(info.path) as file:
                yield info.path, file.read()


def _generators(infos: list[FileInfo], g: str) -> list[FileInfo]:
    """Return the files that may be the generator, those of the latest steps and epochs first."""
    names = re.compile(rf"generator{re.escape(SUFFIX)}|{g or '[0-9a-f]'}[0-9a-f]*{re.escape(SUFFIX)}")
    files = [
        info
        for info in infos
        if info.type == FileType.File and names.fullmatch(info.base_name) and info.size <= MAX_BYTES
    ]
    return sorted(files, key=lambda info: info.path, reverse=True)
