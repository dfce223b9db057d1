"""`python -m benchmarks.throughput --against REVISION`: compare the training speed of this tree and of a git revision.

Measure images per second of both in pairs, in alternating order (old new, new old, ...), so that slow changes of the
machine's speed affect both alike. Print each pair, and the median and the range of the ratios new / old.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.timed_runs import ROOT
from models.command_line import Parser
from trainer.recipes import RECIPES
from trainer.run_store import open_store

CHILD = Path(__file__).with_name("train_steps.py")
WARM_UP = 30
"""Steps that are trained before the measured ones."""


def images_per_second(tree: Path, recipe: str, steps: int, workers: int) -> float:
    """Train a recipe with the code in `tree`; return its speed over `steps` steps after the warm-up.

    Each worker is a process with one thread, on the CPU. Raise `RuntimeError` if a worker fails.
    """
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as runs:
        # -P: the folder of the program, which is this tree's, is not on the module path.
        command = [sys.executable, "-P", str(CHILD), recipe, str(WARM_UP + steps), runs]
        errors = Path(runs, "errors.txt")
        with errors.open("w") as stream:
            processes = [
                subprocess.Popen(
                    [*command, str(rank), str(workers)], cwd=tree, env=environment, stdout=stream, stderr=stream
                )
                for rank in range(workers)
            ]
            _wait(processes)
        if any(process.returncode for process in processes):
            raise RuntimeError(f"training with the code in {tree} failed:\n{errors.read_text()}")
        curve = open_store(runs).run("run").read_losses(1)
    speeds = [speed for speed in curve["images_per_second"][WARM_UP:] if speed]
    # The harmonic mean is images over total time, because every step has the same number of images.
    return statistics.harmonic_mean(speeds)


def _wait(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until all processes have ended. When one fails, end the others, which would wait for it."""
    try:
        while any(process.poll() is None for process in processes):
            if any(process.returncode for process in processes):
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check a git revision out into a temporary folder, which is removed afterwards. Raise `ValueError`."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        added = _git("worktree", "add", "--detach", str(tree), revision)
        if added.returncode:
            raise ValueError(f"--against {revision}: {added.stderr.strip()}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m benchmarks.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--against", required=True, metavar="REVISION", help="git revision to compare this tree with")
    parser.add_argument("--pairs", type=int, default=5, help="number of measurements of each (default: 5)")
    parser.add_argument("--workers", type=int, default=2, help="number of workers (default: 2)")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="forge", metavar="NAME", help="default: forge")
    parser.add_argument(
        "--steps", type=int, default=150, help=f"steps of a measurement, after {WARM_UP} of warm-up (default: 150)"
    )
    options = parser.parse_args(arguments)
    if min(options.pairs, options.workers, options.steps) < 1:
        parser.error("--pairs, --workers and --steps must be at least 1")
    ratios = []
    try:
        with checked_out(options.against) as old_tree:
            for pair in range(options.pairs):
                speeds = {}
                for tree in (old_tree, ROOT) if pair % 2 == 0 else (ROOT, old_tree):
                    speeds[tree] = images_per_second(tree, options.recipe, options.steps, options.workers)
                old, new = speeds[old_tree], speeds[ROOT]
                ratios.append(new / old)
                print(
                    f"pair {pair + 1}: {options.against} {old:.1f} images/s, this tree {new:.1f} images/s, "
                    f"ratio {new / old:.3f}",
                    flush=True,
                )
    except (RuntimeError, ValueError) as error:
        return parser.fail(str(error))
    print(f"ratio: median {statistics.median(ratios):.3f}, range {min(ratios):.3f} to {max(ratios):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
