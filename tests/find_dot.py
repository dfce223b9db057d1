"""Find Graphviz's `dot`, which draws diagrams; `python -m tests.find_dot` installs it where it is missing."""

import os
import shutil
import sys

from models.diagram import NO_DOT
from tests import apt


def main() -> int:
    """Say which one is used; without one fail only under CI, for the other tests are worth running."""
    if not shutil.which("dot"):
        apt.install("Graphviz", "graphviz", "fonts-dejavu-core")
    path = shutil.which("dot")
    print(f"Diagrams are drawn by {path}" if path else NO_DOT, file=sys.stdout if path else sys.stderr)
    return 1 if path is None and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
