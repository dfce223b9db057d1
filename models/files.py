"""Files that are written whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block succeeds, and is removed when it raises.

    The file is a hidden one in the same folder until then, so a reader of `path` sees the old content or the new one,
    even after a power failure: the content is flushed to the disk before the file is renamed.
    """
    stage = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(stage, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(stage, path)
    finally:
        stage.unlink(missing_ok=True)
