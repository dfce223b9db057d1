"""What the command lines of this project share: errors of one line, and a quiet end when the output is closed."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports an error in one line on stderr, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Report a mistake in the arguments and exit."""
        sys.exit(self.fail(f"{message} (see --help)"))

    def fail(self, message: str) -> int:
        """Report why the command fails and return its exit status."""
        print(f"{self.prog.removeprefix('python -m ')}: {message}", file=sys.stderr)
        return 2


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Call `main` with the process's arguments and exit with the status that it returns.

    When the reader of a pipe has closed it, as `head` does, exit with status 0: nobody wants the rest of the output.
    Ctrl-C ends the process with status 130, without a traceback.
    """
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # Python flushes stdout again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
