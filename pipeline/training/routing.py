"""What training adds for a mixture of experts: the router's losses, and how evenly the experts are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from pipeline.errors import ConfigError
from pipeline.evaluation.losses import Batch, LossSums
from pipeline.modeling.expert_loads import balanced_mixture, expert_load_sums, router_loss_sums
from pipeline.modeling.heads import has_head_over_labels
from pipeline.tasks import Task
from pipeline.training.train_config import TrainConfig

LOAD = "expert_load/"


BALANCE, Z = "router_balance_loss", "router_z_loss"


def router_coefficients(config: TrainConfig, hf_config: PreTrainedConfig) -> dict[str, float]:
    """Of the losses that spread tokens over experts and keep the router's logits small: the training's, or else the
    model's own; 0 without one."""
    text, found = hf_config.get_text_config(), {}
    for loss, name in ((BALANCE, "router_aux_loss_coef"), (Z, "router_z_loss_coef")):
        given = getattr(config, name)
        found[loss] = float(getattr(text, name, None) or 0.0) if given is None else given
    return found


class Routing:
    """The router's part of the objective; nothing for a model without routers.

    Each loss is a sum over target tokens, as the objective is, so gradients do not depend on how a global batch is
    split. The task gives the weight of each token. Coefficients that the configuration of the training leaves open are
    the model's.
    """

    def __init__(self, config: TrainConfig, task: Task, model: PreTrainedModel) -> None:
        """Raises ConfigError when a coefficient is given for a model without such losses."""
        self._task = task
        self._mixture = balanced_mixture(model.config)
        self._router_logits: Sequence[torch.Tensor] | None = None
        if self._mixture is not None and has_head_over_labels(model.config):
            # transformers' heads over labels do not return router logits, but the models below them do.
            decoder = model.base_model
            if "router_logits" in (getattr(decoder, "_can_record_outputs", None) or {}):
                decoder.register_forward_hook(self._keep_router_logits)
            else:
                self._mixture = None
        given = {
            name: value
            for name in ("router_aux_loss_coef", "router_z_loss_coef")
            if (value := getattr(config, name)) is not None
        }
        if given and self._mixture is None:
            what = model.config.model_type + (f" for {task.type}" if has_head_over_labels(model.config) else "")
            raise ConfigError(f"train.{next(iter(given))}: {what} has no router that a loss balances; remove it")
        self._coefficients = router_coefficients(config, model.config)

    @property
    def inputs(self) -> dict[str, Any]:
        """Further arguments of the forward pass."""
        return {} if self._mixture is None else {"output_router_logits": True}

    def add(self, plain: LossSums, output: Any, batch: Batch) -> LossSums:
        """Add the router's losses of a micro-batch to the objective, and to the parts those losses without coefficients
        and the tokens of each expert."""
        if self._mixture is None:
            return plain
        num_experts, top_k = self._mixture
        router_logits = output.router_logits if self._router_logits is None else self._router_logits
        self._router_logits = None
        counts = self._task.token_weights(batch)
        balance, z = router_loss_sums(router_logits, counts, num_experts, top_k)
        load = expert_load_sums(router_logits, counts, num_experts, top_k)
        parts = {BALANCE: balance.detach(), Z: z.detach()}
        parts |= {f"{LOAD}{expert}": tokens for expert, tokens in enumerate(load.unbind())}
        total = plain.total + self._coefficients[BALANCE] * balance + self._coefficients[Z] * z
        return LossSums(total, {**plain.parts, **parts, "objective": total.detach()})

    def _keep_router_logits(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._router_logits = output.router_logits


def load_ratio(values: Mapping[str, float]) -> dict[str, float]:
    """Tokens of the most used expert over those of the least used one, from the values of a record."""
    loads = [value for tag, value in values.items() if tag.startswith(f"train/{LOAD}")]
    # An idle expert gives a large ratio instead of an infinite one.
    return {"train/expert_load_ratio": max(loads) / max(min(loads), 1e-6)} if loads else {}
