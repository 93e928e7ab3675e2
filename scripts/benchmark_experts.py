"""Grok-1's grouped experts against the eager ones: `.venv/bin/python scripts/benchmark_experts.py`.

Run nothing else meanwhile. Times are medians of interleaved rounds, so that a drift of the machine hits both.
"""

from __future__ import annotations

import statistics
import time

import torch

from pipeline.modeling.grok1 import Grok1Config
from pipeline.modeling.grok1.modeling_grok1 import Grok1MoE

IMPLEMENTATIONS = ("eager", "grouped_mm")
SIZES = {
    # name: width, widening factor, experts, tokens
    "grok1-tiny": (192, 2, 8, 1024),
    "many small experts": (192, 1, 64, 1024),
    "one decoded token": (192, 4, 8, 1),
    "wide": (768, 4, 8, 2048),
}


def seconds(mixture: Grok1MoE, tokens: torch.Tensor, autocast: bool) -> float:
    """One forward and backward pass."""
    started = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        mixture(tokens).float().sum().backward()
    return time.perf_counter() - started


def compare(width: int, widening: float, num_experts: int, num_tokens: int, autocast: bool, rounds: int = 9) -> None:
    """Print the medians of both implementations and their ratio."""
    config = Grok1Config(hidden_size=width, widening_factor=widening, num_local_experts=num_experts)
    torch.manual_seed(0)
    mixture = Grok1MoE(config)
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    tokens = torch.randn(1, num_tokens, width)
    times: dict[str, list[float]] = {name: [] for name in IMPLEMENTATIONS}
    for _ in range(rounds + 1):
        for name, measured in times.items():
            config._experts_implementation = name
            measured.append(seconds(mixture, tokens, autocast))
    eager, grouped = (statistics.median(times[name][1:]) for name in IMPLEMENTATIONS)
    print(f"{1000 * eager:9.1f} ms eager {1000 * grouped:9.1f} ms grouped {eager / grouped:6.2f} times as fast")


if __name__ == "__main__":
    for autocast in (False, True):
        for name, sizes in SIZES.items():
            print(f"{name:<20} {'bf16' if autocast else 'fp32'}", end="", flush=True)
            compare(*sizes, autocast)
