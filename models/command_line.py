"""Command lines whose mistakes cost one line, not a page."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that says what is wrong in one line, and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        """Say it, and exit."""
        self.exit(2, f"{self.prog.removeprefix('python -m ')}: {message} (see --help)\n")
