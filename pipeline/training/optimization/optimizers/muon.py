"""Muon (Jordan 2024, "Muon: An optimizer for hidden layers in neural networks") with AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.training.optimization.optimizers.adam import adam_settings
from pipeline.training.optimization.optimizers.base_optimizer import USE_MUON, OptimizerFamily

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.training.optimization.optimization_config import OptimizationConfig


class Muon(OptimizerFamily):
    """`muon` (Jordan 2024) for hidden matrices, AdamW for the rest."""

    names: ClassVar = ("muon",)
    multiplies_in_bf16: ClassVar = True

    def knows(self, name: str) -> bool:
        """Also as torch calls its class."""
        return super().knows(name) or name in ("Muon", "torch.optim.Muon")

    def muon_parameters(self, model: nn.Module) -> set[str]:
        """Matrices between embeddings and head. Experts that are stacked in one tensor of three dimensions are none."""
        from transformers import PreTrainedModel

        from pipeline.modeling.parameters import embedding_parameters, norm_parameters

        head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
        outside = embedding_parameters(model) | norm_parameters(model)
        return {
            name
            for name, parameter in model.named_parameters()
            if parameter.ndim == 2 and name not in outside and (head is None or parameter is not head.weight)
        }

    def decoupled_decay(self, name: str, group: Mapping[str, Any]) -> float | None:
        """Of both parts."""
        return float(group["lr"] * group["weight_decay"])

    def build(
        self, config: OptimizationConfig, groups: Sequence[dict[str, Any]], device: torch.device
    ) -> torch.optim.Optimizer:
        """Updates are as large as AdamW's, so that one learning rate fits both (Liu et al. 2025, arXiv 2502.16982)."""
        from pipeline.modeling.sharding import is_held_by_few
        from pipeline.training.optimization.optimizers.muon_with_adamw import MuonWithAdamW

        stuck = [matrix for group in groups if group[USE_MUON] for matrix in group["params"] if is_held_by_few(matrix)]
        if stuck:
            shape = " x ".join(map(str, stuck[0].shape))
            raise ConfigError(
                f"train.optim: muon cannot move a matrix of {shape} that is sharded over more processes than it has "
                "rows, of which its columns are no multiple; start another number of them, or take adamw_torch_fused"
            )
        rate = {"lr": config.learning_rate}
        muon = {**rate, "adjust_lr_fn": "match_rms_adamw", **config.optim_args}
        return MuonWithAdamW(groups, muon, {**rate, **adam_settings(config), "fused": True})
