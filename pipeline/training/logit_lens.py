"""The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): what the model would say, were an earlier
block's output read in the place of the last one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from pipeline.modeling.inputs import evaluating, replaced
from pipeline.modeling.module_hooks import first_tensor


def read_early(
    model: nn.Module, blocks: Sequence[nn.Module], outputs_of: Callable[[], torch.Tensor]
) -> list[torch.Tensor]:
    """The model's outputs, were what the first block is given read in the place of the last block's output, and then
    the output of each block: so many and one more.

    `outputs_of` runs the model. What comes after the blocks, such as the last norm and the head, is the model's own.
    All passes but the first compute that alone. Raises ValueError where not all blocks speak of the same number of
    values, or are not run once each and in their order.
    """
    given: list[torch.Tensor | None] = []
    whole: list[Any] = []

    def watched(block: nn.Module) -> Callable[..., Any]:
        compute = block.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            given.append(first_tensor([one for one in (*arguments, *named.values()) if isinstance(one, torch.Tensor)]))
            whole.append(compute(*arguments, **named))
            return whole[-1]

        return forward

    with evaluating(model):
        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(replaced(block, "forward", watched(block)))
            own = outputs_of()
        states = [given[0] if given else None, *map(first_tensor, whole)]
        if len(states) != len(blocks) + 1 or any(
            one is None or states[-1] is None or one.shape != states[-1].shape for one in states
        ):
            raise ValueError("blocks that do not give alike")
        read = []
        for state in states:
            with ExitStack() as stack:
                for block, output in zip(blocks, [*whole[:-1], _with_first(whole[-1], state)], strict=True):
                    stack.enter_context(replaced(block, "forward", _giving(output)))
                read.append(outputs_of())
    if not torch.allclose(read[-1], own, rtol=1e-5, atol=1e-6):
        raise ValueError("the last block's output does not give the model's")
    return read


def _giving(output: Any) -> Callable[..., Any]:
    return lambda *arguments, **named: output


def _with_first(output: Any, tensor: torch.Tensor | None) -> Any:
    """A block's output with another tensor in the place of its first."""
    return (tensor, *output[1:]) if isinstance(output, (tuple, list)) else tensor
