"""A look into the model while it trains: one pass over the same few validation rows each time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from pipeline.distributed.collectives import Collectives
from pipeline.evaluation.losses import Batch, LossSums
from pipeline.modeling.expert_loads import balanced_mixture
from pipeline.modeling.inputs import model_inputs
from pipeline.modeling.library_messages import one_line
from pipeline.modeling.module_hooks import Watcher, first_tensor, record_modules, tokens_among, without_padding
from pipeline.modeling.network_parts import network_parts
from pipeline.modeling.parameters import mixture_of
from pipeline.modeling.sharding import reshard
from pipeline.modeling.stations import BOUNDS, stations_of
from pipeline.tasks import Split
from pipeline.telemetry.attention_scores import AttentionSums, watching_attention
from pipeline.telemetry.histograms import NUM_BUCKETS, PER_SIDE, Buckets, buckets_by_size, count_by_size
from pipeline.telemetry.probe_figures import ATTENTION, EXPERTS, FEWEST_TOKENS, NOT_FINITE, PROBE
from pipeline.telemetry.unmeasured import UNMEASURED
from pipeline.tokens.packed_split import IGNORED_LABEL

MOST_TOKENS = 4096
DEAD = 1e-3
"""A unit is dead that never comes to this part of its layer's root mean square."""

SATURATED, SATURATED_SHARE = 0.99, 0.95
"""A unit is saturated that is so near to a bound, as a part of the way from the middle, on more than this share of the
tokens."""

WIDEST = 2**15
"""Outputs that are wider, such as logits over a large vocabulary, have no histogram: there are too many of them."""

_Rows = dict[str, np.ndarray[Any, Any]]
TOKENS = "tokens"
"""Of rows: which ids are no padding."""

COUNTS = "counts of "
"""How the sums are called that are entries in buckets."""

UNREACHED = -1.0
"""Of the gradient with respect to an output on which the loss does not depend: left out on the host."""

MOST_EXPERTS = 64
"""Of a layer with more, the loads of single experts are not recorded."""


def probe_rows(split: Split, global_batch_size: int) -> range:
    """The first rows of a split: half of a global batch, but FEWEST_TOKENS or more and MOST_TOKENS or less, as far as
    there are any. The same for any number of processes."""
    fewest = -(-FEWEST_TOKENS // split.block_size)
    most = min(max(global_batch_size // 2, fewest), max(MOST_TOKENS // split.block_size, 1), len(split))
    return range(max(1, most))


class ModelProbe:
    """Measures activations, gradients of outputs, attention and experts of a model on fixed rows.

    A measurement changes nothing (see `record_modules`). The figures are those of all processes together: each takes a
    part of the rows, in passes of at most `micro_batch_size` of them. Without `backward` no gradients are measured;
    with `recompute` the blocks compute again in the backward pass, which needs less memory.

    With `warn` a model that fails in a pass is measured no more, which is said once; without it the error is raised.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        split: Split,
        rows: range,
        loss_sums: Callable[[Any, Batch], LossSums],
        processes: Collectives,
        device: torch.device,
        micro_batch_size: int,
        *,
        backward: bool = True,
        recompute: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._model, self._loss_sums, self._processes = model, loss_sums, processes
        self._warn, self._has_failed = warn, False
        self._stations, self._backward, self._device = stations_of(model), backward, device
        self._recomputed = [*self._stations.blocks.values()] if recompute else []
        self._targets = max(1, split.num_targets(rows))
        self._mixture, self._softmax_routers = mixture_of(model.config), balanced_mixture(model.config) is not None
        self._block_of = {
            inner: name for name, block in self._stations.blocks.items() for inner in block.modules()
        }  # of attention
        attentions = {part.block for part in network_parts(model).values() if part.kind == "attention"}
        self._unfollowed = dict.fromkeys(attentions, "attention_code")  # until its scores are seen
        batch = split.batch(rows)
        tokens = tokens_of(batch)
        batch = batch if tokens is None else {**batch, TOKENS: tokens}
        self._passes = [*_passes(batch, processes, micro_batch_size)]
        self._names: list[str] = []
        self._counted: list[str] = []

    def measure(self, with_histograms: bool = False) -> torch.Tensor:
        """The figures on the device, and the entries of each output in buckets if asked for, in one dimension, without
        a copy to the host. All processes call it."""
        found = None if self._has_failed else self._own_sums(with_histograms)
        if self._warn is not None and any(self._processes.all_reduce_max(found is None)):
            self._has_failed, self._names, self._counted = True, [], []
            return torch.zeros(0, device=self._device)
        assert found is not None
        found.reduce(self._processes)
        figures = self._figures(found)
        self._names = [*figures]
        counted = {name: sums for name, sums in found.sums.items() if name.startswith(COUNTS)}
        self._counted = [name.removeprefix(COUNTS) for name in counted]
        return torch.cat([torch.stack([*figures.values()]).float(), *counted.values()])

    def _own_sums(self, with_histograms: bool) -> _Sums | None:
        """The sums over this process's rows; None where the model failed."""
        found = _Sums(self._device)
        try:
            for rows, counts in self._passes:
                batch = {name: torch.from_numpy(values).to(self._device) for name, values in rows.items()}
                tokens = batch.pop(TOKENS, None)
                own = _Sums(self._device)
                try:
                    self._pass(batch, tokens, own, with_histograms)
                finally:
                    reshard(self._model)
                found.add(own, counts)
        except Exception as error:
            # Models do what they like, and no training is worth less than a look into it.
            if self._warn is None:
                raise
            self._warn(f"warning: activations and attention are not measured: the probe failed ({one_line(error)})")
            return None
        return found

    def tags(self, values: Sequence[float]) -> dict[str, float]:
        """The figures by tag, from what `measure` gave, on the host. Of one that is not finite the name alone is told,
        where that is no property of the figure itself; what is not measured has its reason."""
        if self._has_failed:
            return {f"{UNMEASURED}probe": 1.0}
        reasons = Counter(self._unfollowed.values())
        found = {f"{UNMEASURED}{why}": float(count) for why, count in reasons.items()}
        for tag, value in zip(self._names, values, strict=False):
            name, _, figure = tag.rpartition("/")
            if math.isfinite(value):
                found |= {} if value == UNREACHED else {tag: value}
            elif figure in NOT_FINITE:
                found[f"{name}/{NOT_FINITE[figure]}"] = 1.0
        return found

    def histograms(self, values: Sequence[float]) -> dict[str, Buckets]:
        """The buckets of each module's output by `probe/<module>/activations`, from what `measure` gave, on the
        host."""
        counts = values[len(self._names) :]
        rows = (counts[start : start + NUM_BUCKETS] for start in range(0, len(counts), NUM_BUCKETS))
        found = {name: buckets_by_size(row) for name, row in zip(self._counted, rows, strict=True)}
        return {f"{PROBE}{name}/activations": buckets for name, buckets in found.items() if buckets}

    def _pass(self, batch: Batch, tokens: torch.Tensor | None, found: _Sums, with_histograms: bool) -> None:
        def loss_of() -> torch.Tensor:
            # The sum, not the mean: fp16 holds its gradients.
            with watching_attention(attention, tokens):
                output = self._model(**model_inputs(batch))
            sums = self._loss_sums(output, batch)
            found.sums["loss"] = sums.parts["loss"].detach().double()
            return sums.total

        def attention(module: nn.Module, sums: AttentionSums | str) -> None:
            layer = self._block_of.get(module)
            if layer is not None and isinstance(sums, str):
                self._unfollowed[layer] = sums
            elif layer is not None and not isinstance(sums, str):
                self._unfollowed.pop(layer, None)
                found.add_sum(f"entropies {layer}", sums.entropies)
                found.add_sum(f"queries {layer}", sums.num_queries)
                found.add_largest(f"logit {layer}", sums.largest_logit[None])

        watchers = self._watchers(found, tokens)
        if with_histograms:
            for name, module in {**self._stations.outputs, **self._stations.activations}.items():
                watchers[module] = _counter(found, name, tokens, watchers.get(module))
        recorded = record_modules(
            self._model,
            self._stations.outputs,
            loss_of,
            watchers=watchers,
            tokens=tokens,
            backward=self._backward,
            recomputed=self._recomputed,
        )
        for name, one in recorded.modules.items():
            gradient = one.squares.new_zeros(()) if one.gradient_squares is None else one.gradient_squares
            reached = one.squares.new_full((), float(one.gradient_squares is not None))
            found.add_sum(f"output {name}", torch.stack([one.squares, one.num_values, gradient, reached]))
            found.add_largest(f"output {name}", one.largest[None])

    def _watchers(self, found: _Sums, tokens: torch.Tensor | None) -> dict[nn.Module, Watcher]:
        watchers: dict[nn.Module, Watcher] = {}
        for name, module in self._stations.activations.items():
            watchers[module] = _unit_watcher(found, name, BOUNDS.get(type(module)), tokens)
        if self._mixture is not None:
            for name, module in self._stations.routers.items():
                watchers[module] = _router_watcher(found, name, self._mixture, tokens)
        for name, block in self._stations.blocks.items():
            watchers[block] = _growth_watcher(found, name, tokens)
        return watchers

    def _figures(self, found: _Sums) -> dict[str, torch.Tensor]:
        """The figures by tag, from the sums over all processes."""
        sums, largest = found.sums, found.largest
        figures = {f"{PROBE}loss": sums["loss"] / self._targets}
        for name in self._stations.outputs:
            if (of_output := sums.get(f"output {name}")) is None:
                continue
            rms = _rms(of_output)
            figures[f"{PROBE}{name}/out_rms"] = rms
            figures[f"{PROBE}{name}/out_max"] = largest[f"output {name}"][0] / rms
            if (logs := sums.get(f"growth {name}")) is not None:
                figures[f"{PROBE}{name}/growth"] = (logs[0] / logs[1]).exp()
            norm = of_output[2].sqrt() / self._targets
            figures[f"{PROBE}{name}/out_grad_norm"] = norm.where(of_output[3] > 0, UNREACHED)
        for name, module in self._stations.activations.items():
            if (of_units := largest.get(f"units {name}")) is not None:
                is_dead = of_units <= DEAD * _rms(sums[f"units {name}"])
                figures[f"{PROBE}{name}/dead_units"] = is_dead.double().mean()
                if type(module) in BOUNDS:
                    share = sums[f"bounds {name}"] / (sums[f"units {name}"][1] / len(of_units))
                    figures[f"{PROBE}{name}/saturated_units"] = (share > SATURATED_SHARE).double().mean()
        for name in self._stations.blocks:
            if (entropies := sums.get(f"entropies {name}")) is not None:
                by_head = entropies / sums[f"queries {name}"]
                figures[f"{ATTENTION}{name}/entropy_mean"] = by_head.mean()
                figures[f"{ATTENTION}{name}/entropy_lowest_head"] = by_head.amin()
                figures[f"{ATTENTION}{name}/largest_logit"] = largest[f"logit {name}"][0]
            if (loads := sums.get(f"loads {name}")) is not None:
                figures |= self._expert_figures(name, loads * len(loads) / loads.sum(), sums.get(f"choices {name}"))
        return figures

    def _expert_figures(self, name: str, loads: torch.Tensor, choices: torch.Tensor | None) -> dict[str, torch.Tensor]:
        figures = {f"{EXPERTS}{name}/load_least": loads.amin(), f"{EXPERTS}{name}/load_most": loads.amax()}
        if choices is not None and self._softmax_routers:
            figures[f"{EXPERTS}{name}/router_entropy"] = choices[0] / choices[1]
        if len(loads) <= MOST_EXPERTS:
            figures |= {f"{EXPERTS}{name}/load_{index}": load for index, load in enumerate(loads.unbind())}
        return figures


class _Sums:
    """Sums and largest values by name, float64 on the device. All processes have the same names in the same order."""

    def __init__(self, device: torch.device) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.largest: dict[str, torch.Tensor] = {}
        self._device = device

    def add_sum(self, name: str, values: torch.Tensor) -> None:
        self.sums[name] = self.sums[name] + values if name in self.sums else values.double()

    def add_largest(self, name: str, values: torch.Tensor) -> None:
        values = values.double()
        self.largest[name] = torch.maximum(self.largest[name], values) if name in self.largest else values

    def add(self, other: _Sums, counts: bool) -> None:
        """Add those of a pass, or nothing but its names."""
        for name, values in other.sums.items():
            self.add_sum(name, values if counts else torch.zeros_like(values))
        for name, values in other.largest.items():
            self.add_largest(name, values if counts else torch.zeros_like(values))

    def reduce(self, processes: Collectives) -> None:
        """Add up those of all processes, in two collectives."""
        for values, reduced in ((self.sums, processes.all_reduce_sum), (self.largest, processes.all_reduce_largest)):
            if values:
                sizes = [one.numel() for one in values.values()]
                flat = reduced(torch.cat([one.flatten() for one in values.values()]))
                for (name, one), part in zip([*values.items()], flat.split(sizes), strict=True):
                    values[name] = part.view_as(one)


def tokens_of(batch: Mapping[str, Any]) -> Any:
    """Which ids of a batch are tokens, (B, T) bool; None where none is padding. They are those of the attention mask,
    or else those with a target, as each token of a stream has one."""
    found, labels = batch.get("attention_mask"), batch["labels"]
    if found is None and labels.shape == batch["input_ids"].shape:
        found = labels != IGNORED_LABEL
    return None if found is None or found.all() else found != 0


def _passes(rows: _Rows, processes: Collectives, size: int) -> Iterator[tuple[_Rows, bool]]:
    """This process's rows, at most `size` at once, and whether they count: all processes get equally many passes, as
    sharded models need, and one that has no row left repeats one."""
    dims, count = processes.dims, len(next(iter(rows.values())))
    share = -(-count // dims.dp_world_size)
    first, end = dims.dp_rank * share, min((dims.dp_rank + 1) * share, count)
    for start in range(first, first + share, size):
        part = slice(start, min(start + size, end)) if start < end else slice(0, 1)
        yield {name: values[part] for name, values in rows.items()}, start < end


def _add_squares(found: _Sums, name: str, values: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
    values, count = without_padding(values, tokens)
    squares = torch.linalg.vector_norm(values, dtype=torch.float32).double().square()
    found.add_sum(name, torch.stack([squares, count]))
    return values


def _rms(sums: torch.Tensor) -> torch.Tensor:
    """From the sum of squares and the number of values."""
    return (sums[0] / sums[1]).sqrt()


def _growth_watcher(found: _Sums, name: str, tokens: torch.Tensor | None) -> Watcher:
    def watch(given: torch.Tensor | None, output: Any) -> None:
        values = first_tensor(output)
        if given is None or values is None or given.shape != values.shape or values.ndim != 3:
            return
        after, before = (
            torch.linalg.vector_norm(one, dim=-1, keepdim=True, dtype=torch.float32) for one in (values, given)
        )
        logs, count = without_padding(after.log() - before.log(), tokens)
        found.add_sum(f"growth {name}", torch.stack([logs.sum(dtype=torch.float64), count]))

    return watch


def _unit_watcher(found: _Sums, name: str, bounds: tuple[float, float] | None, tokens: torch.Tensor | None) -> Watcher:
    def watch(given: torch.Tensor | None, output: Any) -> None:
        values = first_tensor(output)
        if values is None or not values.is_floating_point() or values.ndim < 2:
            return
        values = _add_squares(found, f"units {name}", values.detach(), tokens)
        over_tokens = values.flatten(0, -2)
        if len(over_tokens):
            low, high = over_tokens.aminmax(dim=0)
            found.add_largest(f"units {name}", torch.maximum(high, -low))
        if bounds is not None:
            middle, half = sum(bounds) / 2, (bounds[1] - bounds[0]) / 2
            is_near = (values - middle).abs() > SATURATED * half
            is_near, _ = without_padding(is_near.double(), tokens)
            found.add_sum(f"bounds {name}", is_near.flatten(0, -2).sum(0))

    return watch


def _counter(found: _Sums, name: str, tokens: torch.Tensor | None, other: Watcher | None) -> Watcher:
    """Counts the entries of outputs by size, and lets the module's other watcher watch."""

    def watch(given: torch.Tensor | None, output: Any) -> None:
        values = first_tensor(output)
        if values is not None and values.is_floating_point() and 0 < values.shape[-1] <= WIDEST:
            values, count = without_padding(values.detach(), tokens)
            counts = count_by_size([values])[0]
            counts[PER_SIDE] -= values.numel() - count  # zeros in the place of padding
            found.add_sum(f"{COUNTS}{name}", counts)
        if other is not None:
            other(given, output)

    return watch


def _router_watcher(found: _Sums, name: str, mixture: tuple[int, int], tokens: torch.Tensor | None) -> Watcher:
    num_experts, top_k = mixture

    def watch(given: torch.Tensor | None, output: Any) -> None:
        parts = [one for one in (output if isinstance(output, tuple) else (output,)) if isinstance(one, torch.Tensor)]
        logits = next((one for one in parts if one.is_floating_point() and one.shape[-1] == num_experts), None)
        chosen = next((one for one in parts if not one.is_floating_point() and one.shape[-1] == top_k), None)
        if chosen is None and logits is not None:
            chosen = logits.topk(top_k, dim=-1).indices
        if chosen is None:
            return
        chosen = chosen.reshape(-1, top_k)
        weights = torch.ones(len(chosen), dtype=torch.float64, device=chosen.device)
        if tokens is not None and len(chosen) % len(tokens) == 0:
            weights = tokens_among(tokens, len(chosen) // len(tokens)).flatten().double()
        of_token = torch.zeros(len(chosen), num_experts, dtype=torch.float64, device=chosen.device)
        found.add_sum(f"loads {name}", of_token.scatter_(-1, chosen, weights[:, None].expand(-1, top_k)).sum(0))
        if logits is not None:
            logs = logits.reshape(-1, num_experts).float().log_softmax(-1)
            entropy = functional.relu(-(logs.exp() * logs).sum(-1)) / math.log(num_experts)
            found.add_sum(f"choices {name}", torch.stack([(entropy * weights).sum(), weights.sum()]))

    return watch
