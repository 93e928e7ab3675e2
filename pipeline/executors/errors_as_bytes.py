"""Errors on their way from a worker process to the run."""

from __future__ import annotations

import pickle


def as_bytes(error: BaseException | None) -> bytes:
    """An error pickled, or one that says the same where it cannot travel."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        other = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            other.add_note(note)
        return pickle.dumps(other)
    return packed
