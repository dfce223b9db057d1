"""Errors with which the workers of a training end. This module imports nothing, so the driver starts fast."""


class NotFiniteError(RuntimeError):
    """A loss became infinite, not a number, or too large."""


class StorageFailedError(RuntimeError):
    """A checkpoint could not be stored for a long time."""


class LeavingError(RuntimeError):
    """The workers have stored a checkpoint and left, so that the training can go on with other workers."""


class ResumeError(ValueError):
    """The step after a checkpoint would not be the one that the checkpoint announces."""


class UnfitError(ValueError):
    """The machine of a worker lacks what the training needs."""
