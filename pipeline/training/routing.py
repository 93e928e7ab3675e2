"""What training adds for a mixture of experts: the router's losses, and how evenly the experts are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.config.train import TrainConfig
from pipeline.errors import ConfigError
from pipeline.modeling.heads import task_of
from pipeline.modeling.router_losses import balanced_mixture, expert_load_sums, router_loss_sums
from pipeline.tokens.reader import IGNORED_LABEL
from pipeline.training.objective import Objective

LOAD = "expert_load/"


class Routing:
    """The router's part of the objective; nothing for a model without routers.

    Each loss is a sum over target tokens, as the objective is, so that gradients do not depend on how a global batch is
    split. Coefficients that the section leaves open are those of the model's configuration.
    """

    def __init__(self, section: TrainConfig, model: PreTrainedModel) -> None:
        """Raises ConfigError when a coefficient is given for a model without such losses.

        transformers' heads over labels do not pass on what the routers say, so those models have none.
        """
        self._mixture = balanced_mixture(model.config) if task_of(model.config) == "causal_lm" else None
        given = {
            name: value
            for name in ("router_aux_loss_coef", "router_z_loss_coef")
            if (value := getattr(section, name)) is not None
        }
        if given and self._mixture is None:
            task = task_of(model.config)
            what = model.config.model_type + ("" if task == "causal_lm" else f" for {task}")
            raise ConfigError(f"train.{next(iter(given))}: {what} has no router that a loss balances; remove it")
        text = model.config.get_text_config()
        self._balance: float = given.get("router_aux_loss_coef", getattr(text, "router_aux_loss_coef", 0.0))
        self._z: float = given.get("router_z_loss_coef", getattr(text, "router_z_loss_coef", 0.0))

    @property
    def inputs(self) -> dict[str, Any]:
        """What the forward pass must be asked for."""
        return {} if self._mixture is None else {"output_router_logits": True}

    def add(self, plain: Objective, output: Any, labels: torch.Tensor) -> Objective:
        """The objective with the router's losses of a device batch, and for the records those losses before their
        coefficients and each expert's share of the tokens."""
        if self._mixture is None:
            return plain
        num_experts, top_k = self._mixture
        is_target = labels != IGNORED_LABEL
        balance, z = router_loss_sums(output.router_logits, is_target, num_experts, top_k)
        load = expert_load_sums(output.router_logits, is_target, num_experts, top_k)
        parts = {"router_balance_loss": balance.detach(), "router_z_loss": z.detach()}
        parts |= {f"{LOAD}{expert}": tokens for expert, tokens in enumerate(load.unbind())}
        total = plain.total + self._balance * balance + self._z * z
        return Objective(total, {**plain.parts, **parts, "objective": total.detach()})


def load_ratio(values: Mapping[str, float]) -> dict[str, float]:
    """How many times the tokens of the least used expert the most used one got, of a record's values."""
    loads = [value for tag, value in values.items() if tag.startswith(f"train/{LOAD}")]
    # An idle expert gives a large ratio instead of an infinite one.
    return {"train/expert_load_ratio": max(loads) / max(min(loads), 1e-6)} if loads else {}
