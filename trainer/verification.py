"""The check that a resumed run goes on exactly where its checkpoint left it.

A checkpoint records what the next step will read: its batch, learning rates and random streams, and digests of the
weights and of the optimizers. A resume computes the same from what it has loaded, before its first step, and compares.
So a change of the code, of a library or of the data that would change the run is an error, and not a different curve.
No value depends on the number of workers, of threads, or on the last bits of a processor's arithmetic.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from trainer.draws import Draws
from trainer.endings import ResumeError
from trainer.state import TrainState

Record = dict[str, Any]
"""Name of a part of the state -> its value in JSON."""

SCHEDULE = "total steps"
"""The part that a longer training (`--extend`) may change, and the learning rates with it."""
RATES = "learning rates"


def record(s: TrainState, draws: Draws, rates: tuple[float, float], total_steps: int) -> Record:
    """Return what the next step will read; `rates` are its learning rates of G and of D."""
    conditions: Record = {}
    if draws.table:
        conditions["attributes"] = hashlib.sha256(draws.table.to_json().encode()).hexdigest()
    if draws.writers:
        conditions["writers"] = draws.writers.sha256
    return conditions | {
        "batch": hashlib.sha256(draws.indices(s.step).astype("<i8").tobytes()).hexdigest(),
        SCHEDULE: total_steps,
        RATES: [float(f"{rate:.12g}") for rate in rates],
        "random streams": draws.first_values(s.step),
        "weights": _digest([*s.G.state_dict().values(), *s.D.state_dict().values()]),
        "average of G": _digest(s.G_ema.state_dict().values()),
        "optimizers": _digest(
            tensor
            for optimizer in (s.g_optimizer, s.d_optimizer)
            for tensors in optimizer.state_of().values()
            for tensor in tensors.values()
        ),
    }


def compare(step: int, recorded: Record, found: Record) -> str:
    """Return a line that says what was verified at a step. Raises `ResumeError` that names each part that differs.

    Parts that only one of the two records has, of another version of the code, are left out.
    """
    parts = [name for name in found if name in recorded and name != SCHEDULE]
    if RATES in parts and recorded.get(SCHEDULE) != found[SCHEDULE]:
        parts.remove(RATES)
    if differing := [name for name in parts if recorded[name] != found[name]]:
        values = "; ".join(f"{name}: {recorded[name]} recorded, {found[name]} now" for name in differing)
        raise ResumeError(f"the step after step {step} would not be the one that the checkpoint announces: {values}")
    return f"verified at step {step}: {', '.join(parts)}"


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
