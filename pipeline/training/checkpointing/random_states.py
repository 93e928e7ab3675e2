"""The state of every random generator of a process, as JSON values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed


def seed_process(seed: int, rank: int, step: int) -> None:
    """Seed all generators from where a process is, so that no two processes draw the same dropout masks."""
    set_seed(int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0]))


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators, of the latter also on this process's own device."""
    kind, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    inner = numpy_state["state"]
    return {
        "python": [kind, list(words), gauss],
        "numpy": {**numpy_state, "state": {"key": inner["key"].tolist(), "pos": int(inner["pos"])}},
        "torch": _to_hex(torch.get_rng_state()),
        "cuda": _to_hex(torch.cuda.get_rng_state()) if torch.cuda.is_available() else None,
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the result of `random_states` back."""
    kind, words, gauss = states["python"]
    random.setstate((kind, tuple(words), gauss))
    inner = states["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {"key": key, "pos": inner["pos"]}})
    torch.set_rng_state(_from_hex(states["torch"]))
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_from_hex(states["cuda"]))


GeneratorStates = dict[str, torch.Tensor]
"""The states of PyTorch's generators, `cpu` and where there is one `cuda`: what passes through a model draw from."""


def generator_states() -> GeneratorStates:
    """The states of PyTorch's generators alone, in microseconds and without waiting for the device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generator_states(states: GeneratorStates) -> None:
    """Put the result of `generator_states` back, as far as this machine has the device."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _to_hex(state: torch.Tensor) -> str:
    return state.cpu().numpy().tobytes().hex()


def _from_hex(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
