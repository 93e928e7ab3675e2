"""A small Mixtral and its training in float64 with no more than torch: what the records have to say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from pipeline.tokens.packed_split import PackedSplit
from pipeline.training.data_order import DataOrder
from pipeline.training.train_config import TrainConfig

SEED = 3
"""Of `training.tiny.context_for`."""

Tensors = dict[str, torch.Tensor]


@dataclass
class Seen:
    """What a forward pass gives of its rows, without padding: outputs of modules, attention and routers."""

    outputs: Tensors = field(default_factory=dict)
    attention: dict[str, list[list[float]]] = field(default_factory=dict)
    largest_logits: dict[str, float] = field(default_factory=dict)
    routers: Tensors = field(default_factory=dict)
    units: dict[str, list[torch.Tensor]] = field(default_factory=dict)


class Reference:
    """The weights, and records of their training by AdamW."""

    def __init__(self, inputs: dict[str, Path], config: TrainConfig) -> None:
        model = AutoModelForCausalLM.from_pretrained(inputs["model"] / "model")
        self.shape, self.config = model.config, config
        self.weights = {
            name.removeprefix("model.").removesuffix(".weight"): weight.detach().double().requires_grad_()
            for name, weight in model.named_parameters()
        }
        self._means = {name: (torch.zeros_like(one), torch.zeros_like(one)) for name, one in self.weights.items()}
        self.averages = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.splits = {
            name: PackedSplit.open(inputs["pack"], inputs["encode"], name) for name in ("train", "validation")
        }
        self._noise = [0.0, 0.0]
        self._updated: set[int] = set()
        """Rows of the embedding, which the head does not share."""

    def records(self, parts: Sequence[Sequence[int]]) -> Iterator[dict[str, float]]:
        """The record before the first step, and those of steps and validations. `parts`: positions in a global batch of
        the sequences that give one gradient, before the others do: the noise is told by them."""
        config = self.config
        assert config.max_steps is not None
        yield {"step": 0, "target_tokens": 0, **self.probe()}
        split, targets = self.splits["train"], 0
        order = DataOrder(len(split), SEED)
        sums: list[dict[str, float]] = []
        for step in range(config.max_steps):
            rows = order.windows(step * config.global_batch_size, config.global_batch_size).tolist()
            targets += split.num_targets(rows)
            # The rate rises from 0, so the first step takes none.
            rate = config.learning_rate * min(1.0, step / config.warmup_steps)
            is_logged = (step + 1) % config.logging_steps == 0
            noise = self.noise([[rows[at] for at in part] for part in parts], rows) if is_logged else {}
            figures, matrices = self.step(step + 1, rows, rate)
            sums.append(figures)
            if is_logged:
                record = {"step": step + 1, "target_tokens": targets, "train/learning_rate": rate}
                never = self.shape.vocab_size - len(self._updated)
                record |= {"embedding/never_updated_rows": never}
                record |= {"embedding/never_updated_share": never / self.shape.vocab_size}
                record |= dict.fromkeys(("train/skipped_steps", "train/loss_spikes", "train/grad_norm_spikes"), 0)
                yield record | self.means(sums) | noise | matrices | self.probe()
                sums = []
            if (step + 1) % config.eval_steps == 0:
                averaged = self.averages if config.eval_ema else {}
                values = {f"eval/{name}": value for name, value in self.validation(self.weights).items()}
                values |= {f"eval/ema_{name}": value for name, value in self.validation(averaged).items()}
                yield {"step": step + 1, "target_tokens": targets, **values}

    def means(self, steps: Sequence[dict[str, float]]) -> dict[str, float]:
        """Of the steps since the last record: losses a target, norms a step."""
        targets = sum(step["targets"] for step in steps)
        losses = [name for name in steps[0] if name not in ("step", "targets", "norm", "clipped", "cut")]
        means = {f"train/{name}": sum(step[name] for step in steps) / targets for name in losses}
        loads = [value for name, value in means.items() if "expert_load/" in name]
        highest = max(range(len(steps)), key=lambda index: steps[index]["loss"] / steps[index]["targets"])
        limit = self.config.max_grad_norm or math.inf
        return {
            **means,
            "train/expert_load_ratio": max(loads) / min(loads),
            "train/loss_max": steps[highest]["loss"] / steps[highest]["targets"],
            "train/loss_max_step": steps[highest]["step"],
            "train/grad_norm": sum(step["norm"] for step in steps) / len(steps),
            "train/grad_norm_max": max(step["norm"] for step in steps),
            "train/grad_norm_clipped": sum(min(step["clipped"], limit) for step in steps) / len(steps),
            "train/clipped_share": sum(step["clipped"] > limit for step in steps) / len(steps),
            "train/cut_share": sum(step["cut"] for step in steps) / len(steps),
        }

    def step(self, step: int, rows: Sequence[int], rate: float) -> tuple[dict[str, float], dict[str, float]]:
        """Take a step: its losses and norms, and those of each matrix around it."""
        config = self.config
        losses = self.losses(rows)
        targets = self.splits["train"].num_targets(rows)
        gradients = torch.autograd.grad(losses["objective"] / targets, [*self.weights.values()])
        of_rows = gradients[[*self.weights].index("embed_tokens")].tolist()
        self._updated |= {row for row, one in enumerate(of_rows) if any(one)}
        norm = float(torch.cat([one.flatten() for one in gradients]).norm())
        limit = config.max_grad_value or math.inf
        cut = [one.clamp(-limit, limit) for one in gradients]
        entries = torch.cat([one.flatten() for one in gradients])
        clipped = float(torch.cat([one.flatten() for one in cut]).norm())
        scale = min(1.0, (config.max_grad_norm or math.inf) / clipped)
        found: dict[str, float] = {}
        with torch.no_grad():
            for (name, weight), gradient, own in zip(self.weights.items(), gradients, cut, strict=True):
                first, second = self._means[name]
                first += (1 - config.adam_beta1) * (own * scale - first)
                second += (1 - config.adam_beta2) * ((own * scale).square() - second)
                unbiased = first / (1 - config.adam_beta1**step)
                spread = (second / (1 - config.adam_beta2**step)).sqrt()
                update = rate * unbiased / (spread + config.adam_epsilon)
                decay = 0.0 if "norm" in name or name == "embed_tokens" else rate * config.weight_decay
                found |= {
                    f"matrices/{name}/grad_norm": float(gradient.norm()),
                    f"matrices/{name}/weight_norm": float(weight.norm()),
                    f"matrices/{name}/update_norm": float((update + decay * weight).norm()),
                    f"matrices/{name}/step_norm": float(update.norm()),
                    f"matrices/{name}/decay_norm": float((decay * weight).norm()),
                }
                weight -= update + decay * weight
                keep = min(config.ema_decay or 0.0, (1 + step) / (10 + step))
                self.averages[name] = keep * self.averages[name] + (1 - keep) * weight
        figures = {name: torch.as_tensor(value).item() for name, value in losses.items()}
        share = float((entries.abs() > limit).double().mean())
        return {**figures, "step": step, "targets": targets, "norm": norm, "clipped": clipped, "cut": share}, found

    def noise(self, parts: Sequence[Sequence[int]], rows: Sequence[int]) -> dict[str, float]:
        """The gradient noise scale (McCandlish et al. 2018, appendix A) by the squared gradient norms of parts of a
        batch and of all of it, averaged over the steps so far; by the weights before the step."""
        if not parts:
            return {}
        split = self.splits["train"]
        small = len(parts) / sum(1 / split.num_targets(part) for part in parts)
        large = split.num_targets(rows)
        few = sum(self.squares(part) for part in parts) / len(parts)
        many = self.squares(rows)
        new = (few - many) / (1 / small - 1 / large), (large * many - small * few) / (large - small)
        self._noise = [0.9 * before + 0.1 * one for before, one in zip(self._noise, new, strict=True)]
        noise, signal = self._noise
        return {"train/grad_noise_scale": noise / signal} if noise > 0 < signal else {}

    def squares(self, rows: Sequence[int]) -> float:
        """The squared norm of the gradient of the mean over rows."""
        loss = self.losses(rows)["objective"] / self.splits["train"].num_targets(rows)
        return sum(float(one.square().sum()) for one in torch.autograd.grad(loss, [*self.weights.values()]))

    def losses(self, rows: Sequence[int]) -> Tensors:
        """Sums over the targets of rows of the training split."""
        config, shape, split = self.config, self.shape, self.splits["train"]
        total: dict[str, Any] = {}
        for row in rows:
            ids = torch.from_numpy(split.window(row))
            seen = self.forward(self.weights, [ids[:-1]])
            logits = seen.outputs["lm_head"]
            logs = logits.log_softmax(-1)
            loss = -sum(logs[at, target] for at, target in enumerate(ids[1:].tolist()))
            z_loss = logits.logsumexp(-1).square().sum()
            balance, router_z = torch.zeros(()), torch.zeros(())
            loads = [0.0] * shape.num_local_experts
            for router in seen.routers.values():
                chosen = router.topk(shape.num_experts_per_tok).indices.flatten().tolist()
                shares = [chosen.count(expert) / len(chosen) for expert in range(len(loads))]
                even = sum(share * one for share, one in zip(shares, router.softmax(-1).mean(0), strict=True))
                balance = balance + len(loads) * even * len(router) / len(seen.routers)
                router_z = router_z + router.logsumexp(-1).square().sum() / len(seen.routers)
                loads = [load + share * len(router) / 2 for load, share in zip(loads, shares, strict=True)]
            assert config.router_aux_loss_coef is not None
            assert config.router_z_loss_coef is not None
            objective = loss + config.z_loss_coef * z_loss
            objective = objective + config.router_aux_loss_coef * balance + config.router_z_loss_coef * router_z
            own = {"loss": loss, "z_loss": z_loss, "objective": objective}
            own |= {"router_balance_loss": balance, "router_z_loss": router_z}
            own |= {f"expert_load/{expert}": load for expert, load in enumerate(loads)}
            total = {name: total.get(name, 0.0) + value for name, value in own.items()}
        return total

    def validation(self, weights: Tensors) -> dict[str, float]:
        """The mean loss a target, its standard error from how rows differ, and the perplexity."""
        if not weights:
            return {}
        split, losses, targets = self.splits["validation"], [], []
        for row in range(len(split)):
            ids = torch.from_numpy(split.window(row))
            with torch.no_grad():
                logs = self.forward(weights, [ids[:-1]]).outputs["lm_head"].log_softmax(-1)
            losses.append(-float(logs.gather(1, ids[1:, None]).sum()))
            targets.append(len(ids) - 1)
        mean = sum(losses) / sum(targets)
        squares = sum((loss - mean * count) ** 2 for loss, count in zip(losses, targets, strict=True))
        return {"loss": mean, "loss_error": math.sqrt(squares) / sum(targets), "perplexity": math.exp(mean)}

    def probe(self) -> dict[str, float]:
        """All that a look at the validation rows finds, token by token."""
        split, shape = self.splits["validation"], self.shape
        windows = [torch.from_numpy(split.window(row)) for row in range(len(split))]
        seen = self.forward(self.weights, [ids[:-1] for ids in windows])
        targets = torch.cat([ids[1:] for ids in windows])
        logits = seen.outputs["lm_head"]
        loss = -logits.log_softmax(-1).gather(1, targets[:, None]).mean()
        config = self.config
        total = loss + config.z_loss_coef * logits.logsumexp(-1).square().mean()
        gradients = torch.autograd.grad(total, [*seen.outputs.values()])
        found = {"probe/loss": loss.item()}
        for (name, output), gradient in zip(seen.outputs.items(), gradients, strict=True):
            rms = output.square().mean().sqrt().item()
            found[f"probe/{name}/out_rms"] = rms
            found[f"probe/{name}/out_max"] = output.abs().max().item() / rms
            found[f"probe/{name}/out_grad_norm"] = float(gradient.norm())
        for layer in range(shape.num_hidden_layers):
            name = f"layers.{layer}"
            given = seen.outputs["embed_tokens" if layer == 0 else f"layers.{layer - 1}"]
            growth = [
                (after.norm() / before.norm()).item() for after, before in zip(seen.outputs[name], given, strict=True)
            ]
            found[f"probe/{name}/growth"] = math.exp(sum(map(math.log, growth)) / len(growth))
            heads = [sum(entropies) / len(entropies) for entropies in seen.attention[name]]
            found[f"attention/{name}/entropy_mean"] = sum(heads) / len(heads)
            found[f"attention/{name}/entropy_lowest_head"] = min(heads)
            found[f"attention/{name}/largest_logit"] = seen.largest_logits[name]
            units = torch.cat(seen.units[name])
            is_dead = units.abs().amax(0) <= 1e-3 * units.square().mean().sqrt()
            found[f"probe/{name}.mlp.experts.act_fn/dead_units"] = float(is_dead.double().mean())
            router = seen.routers[name]
            chosen = router.topk(shape.num_experts_per_tok).indices.flatten().tolist()
            count = router.shape[1]
            loads = [chosen.count(expert) * count / len(chosen) for expert in range(count)]
            entropies = [-sum(p * math.log(p) for p in one) / math.log(count) for one in router.softmax(-1).tolist()]
            found |= {f"experts/{name}/load_{expert}": load for expert, load in enumerate(loads)}
            found |= {f"experts/{name}/load_least": min(loads), f"experts/{name}/load_most": max(loads)}
            found[f"experts/{name}/router_entropy"] = sum(entropies) / len(entropies)
        return found

    def forward(self, weights: Tensors, rows: Sequence[torch.Tensor]) -> Seen:
        """Of rows of ids, each by itself: all tokens one after the other."""
        seen, shape, eps = Seen(), self.shape, self.shape.rms_norm_eps
        lengths = [len(row) for row in rows]

        def norm(name: str, values: torch.Tensor) -> torch.Tensor:
            return weights[name] * values / (values.square().mean(-1, keepdim=True) + eps).sqrt()

        x = seen.outputs["embed_tokens"] = weights["embed_tokens"][torch.cat([*rows])]
        for layer in range(shape.num_hidden_layers):
            name = f"layers.{layer}"
            given = norm(f"{name}.input_layernorm", x)
            heads = {part: given @ weights[f"{name}.self_attn.{part}_proj"].T for part in "qkv"}
            mixed = [
                self._attend(seen, name, {part: one.split(lengths)[row] for part, one in heads.items()})
                for row in range(len(rows))
            ]
            attended = torch.cat(mixed) @ weights[f"{name}.self_attn.o_proj"].T
            seen.outputs[f"{name}.self_attn"] = attended
            x = x + attended
            fed = self._experts(seen, weights, name, norm(f"{name}.post_attention_layernorm", x))
            seen.outputs[f"{name}.mlp"] = fed
            x = seen.outputs[name] = x + fed
        x = seen.outputs["norm"] = norm("norm", x)
        seen.outputs["lm_head"] = x @ weights["lm_head"].T
        return seen

    def _attend(self, seen: Seen, layer: str, parts: Tensors) -> torch.Tensor:
        """What the heads of one row see, one head after the other."""
        shape, length = self.shape, len(parts["q"])
        size = shape.hidden_size // shape.num_attention_heads
        turns = torch.arange(0, size, 2, dtype=torch.float64) / size
        angles = torch.outer(torch.arange(length).double(), shape.rope_parameters["rope_theta"] ** -turns)
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

        def turned(values: torch.Tensor) -> torch.Tensor:
            first, second = values.chunk(2, -1)
            return values * cos + torch.cat([-second, first], -1) * sin

        entropies = seen.attention.setdefault(layer, [[] for _ in range(shape.num_attention_heads)])
        mixed = []
        for head in range(shape.num_attention_heads):
            q, k, v = (parts[part][:, head * size : (head + 1) * size] for part in "qkv")
            scores = turned(q) @ turned(k).T / math.sqrt(size)
            hidden = torch.ones(length, length).triu(1).bool()
            largest = scores.masked_fill(hidden, 0.0).abs().max().item()
            seen.largest_logits[layer] = max(largest, seen.largest_logits.get(layer, 0.0))
            shares = scores.masked_fill(hidden, -torch.inf).softmax(-1)
            for at, query in enumerate(shares.tolist()[1:], start=2):
                entropies[head].append(-sum(p * math.log(p) for p in query[:at] if p > 0) / math.log(at))
            mixed.append(shares @ v)
        return torch.cat(mixed, -1)

    def _experts(self, seen: Seen, weights: Tensors, layer: str, x: torch.Tensor) -> torch.Tensor:
        """Two experts for each token, weighed by the router."""
        router = seen.routers[layer] = x @ weights[f"{layer}.mlp.gate"].T
        shares, chosen = router.softmax(-1).topk(self.shape.num_experts_per_tok)
        shares = shares / shares.sum(-1, keepdim=True)
        rows = []
        for token, experts, share in zip(x, chosen.tolist(), shares, strict=True):
            mixed = torch.zeros_like(token)
            for expert, part in zip(experts, share, strict=True):
                gate, up = (weights[f"{layer}.mlp.experts.gate_up_proj"][expert] @ token).chunk(2)
                units = gate * gate.sigmoid()
                seen.units.setdefault(layer, []).append(units.detach()[None])
                mixed = mixed + part * (weights[f"{layer}.mlp.experts.down_proj"][expert] @ (units * up))
            rows.append(mixed)
        return torch.stack(rows)
