"""`python -m trainer export RUN`: a run's curves, scores and sample grids in TensorBoard, in MLflow, or as CSV files.

The training knows nothing of it: the run store is read, also that of a run of an earlier version or of one that trains.
"""

import sys
import time

from tqdm import tqdm

from models.command_line import Parser
from trainer.measured import Reader, Reading
from trainer.run_store import Run, RunStoreError, StoredGenerator, open_store
from trainer.trackers import TRACKERS, Tracker, TrackerError

INTERVAL = 5.0
"""Seconds between two looks at a run that is followed."""
PATIENCE = 600.0
"""Seconds for which a run that shows no sign of life, or a store or tracker that fails, is followed further."""


def export(run: Run, tracker: Tracker, with_generator: bool = False) -> Reading:
    """Write to the tracker what the run has and the tracker has not; return what was read.

    Raises `RunStoreError` or `TrackerError` if one of them does not answer, or if there is no generator to write.
    """
    reading = Reader(run).read()
    tracker.write(reading)
    generator = newest_generator(run)
    content = None
    if with_generator:
        if generator is None:
            raise RunStoreError(f"{run.path}: has no generator to export")
        content = run.read_generator(generator.paths[0], generator.sha256)
    tracker.finish(reading, generator, content)
    return reading


def newest_generator(run: Run) -> StoredGenerator | None:
    """Return the generator of the highest step; None if the run has none."""
    return max(run.generators(), key=lambda generator: generator.step, default=None)


def follow(run: Run, tracker: Tracker) -> bool:
    """Write to the tracker what a training measures, until it has ended; return False if it died without saying so.

    A storage or tracker that fails is tried again. After `PATIENCE` seconds of failures its error is raised.
    """
    reader, answered = Reader(run), time.monotonic()
    with tqdm(unit="step", desc=f"starting {run.name}", disable=not sys.stderr.isatty()) as bar:
        while True:
            try:
                reading = reader.read()
                tracker.write(reading)
            except (OSError, RunStoreError, TrackerError) as error:
                if time.monotonic() - answered > PATIENCE:
                    raise
                bar.write(f"{error}; will try again", file=sys.stderr)
                reader = Reader(run)  # what was read but not written is read again
            else:
                answered = time.monotonic()
                progress = reading.progress
                bar.total = reading.record.total_steps
                bar.set_description(f"{'silent' if progress.is_stale else progress.phase} {run.name}", refresh=False)
                bar.update(progress.step - bar.n)
                if not progress.is_live and not progress.is_stale:
                    return True
                if (progress.age or 0.0) > PATIENCE:
                    return False
            time.sleep(INTERVAL)


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status of the process."""
    parser = Parser(prog="python -m trainer export", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="name of the run")
    parser.add_argument("--runs", default="runs", help="folder or URI that holds the run (default: runs)")
    parser.add_argument("--to", required=True, choices=TRACKERS, help="what to write")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER_OR_URI",
        help="folder, in which the run gets a subfolder; for mlflow a tracking URI (http://..., sqlite:///...), or a "
        "folder for a SQLite database and the artifacts",
    )
    parser.add_argument("--follow", action="store_true", help="go on while the run trains, and end when it has ended")
    parser.add_argument("--generator", action="store_true", help="also write the newest generator's file (csv, mlflow)")
    options = parser.parse_args(arguments)
    if options.generator and options.to == "tensorboard":
        return parser.fail("--generator needs --to csv or mlflow: TensorBoard keeps no files")
    try:
        run = open_store(options.runs).run(options.run)
        if not run.exists():
            names = ", ".join(other.name for other in run.store.list_runs()) or "none"
            return parser.fail(f"{run.store.root} has no run {run.name!r}; it has: {names}")
        tracker = TRACKERS[options.to](options.out, run)
        has_ended = not options.follow or follow(run, tracker)
        reading = export(run, tracker, options.generator)
    except (OSError, ValueError) as error:
        return parser.fail(str(error))
    except KeyboardInterrupt:
        print(f"Stopped. {options.out} has what was written so far; the same command goes on.", file=sys.stderr)
        return 130
    for problem in reading.problems:
        print(f"trainer export: left out: {problem}", file=sys.stderr)
    written = ", ".join(f"{count:,} {kind}" for kind, count in tracker.new.items() if count) or "nothing"
    print(f"Exported {run.name} up to step {reading.progress.step:,} to {options.out}: {written} new")
    if not has_ended:
        return parser.fail(f"{run.name} has shown no sign of life for {PATIENCE:.0f} s; resume it and export again")
    return 0
