"""`python -m trainer RECIPE ...`: train a recipe, or resume a run. `COMMANDS` has the other commands.

What takes seconds to import is imported late: the driver imports Ray meanwhile, in its own process.
"""

import importlib
import os
import signal
import sys
from contextlib import ExitStack

if __name__ == "__main__":  # Ctrl-C ends the imports without a traceback
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))

from models.command_line import run
from trainer.commands import COMMANDS
from trainer.supervise import Driver


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments (default: those of the process); return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        module, _ = COMMANDS[arguments[0]]
        return int(importlib.import_module(module).main(arguments[1:]))
    with ExitStack() as stack:
        trains = bool(arguments) and not {"-h", "--help", "--dry-run"}.intersection(arguments)
        driver = stack.enter_context(Driver()) if trains else None
        from trainer.train_command import parse, train

        try:
            return train(parse(arguments), driver)
        except ValueError as error:
            print(f"trainer: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(main)
