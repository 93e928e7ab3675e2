"""The parts of a model that are looked at while it computes: by name, from input to output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from pipeline.modeling.layer_names import matrix_name
from pipeline.modeling.parameters import blocks

_NO_UNITS = (nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax, nn.MultiheadAttention)
_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")
BOUNDS: Mapping[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
}
"""What units of these kinds lie between."""


@dataclass(frozen=True)
class Stations:
    """Modules by their names in records, such as `layers.3.self_attn`."""

    outputs: Mapping[str, nn.Module]
    """Embeddings, the numbered blocks with attention, feed-forward networks and what else has weights in them (but
    norms), and what comes after the blocks."""

    blocks: Mapping[str, nn.Module]
    """The numbered blocks among them."""

    activations: Mapping[str, nn.Module]
    """Activation functions inside the blocks, such as `layers.3.mlp.act_fn`: what they give are hidden units. Not those
    that several blocks share."""

    routers: Mapping[str, nn.Module]
    """What chooses the experts, by block."""


def stations_of(model: nn.Module) -> Stations:
    """The stations of a model."""
    prefix = getattr(model, "base_model_prefix", "")
    names = {module: matrix_name(f"{path}.weight", prefix) for path, module in model.named_modules() if path}
    own_blocks = {module: name for name, module in blocks(model).items()}
    outputs: dict[str, nn.Module] = {}
    for module in _parts(model, own_blocks):
        outputs[names[module]] = module
        for child in module.children() if module in own_blocks else ():
            if _has_weights(child) and "norm" not in type(child).__name__.lower():
                outputs[names[child]] = child
    activations: dict[str, nn.Module] = {}
    routers: dict[str, nn.Module] = {}
    users: dict[nn.Module, int] = {}
    for block, name in own_blocks.items():
        for path, module in block.named_modules():
            if type(module).__module__ in _ACTIVATIONS and not isinstance(module, _NO_UNITS):
                users[module] = users.get(module, 0) + 1
                activations[f"{name}.{path}"] = module
            if path.rpartition(".")[2] in ("router", "gate") and _has_weights(module):
                routers[name] = module
    own = {name: module for name, module in activations.items() if users[module] == 1}
    return Stations(outputs, {name: block for block, name in own_blocks.items()}, own, routers)


def _parts(module: nn.Module, found: Mapping[nn.Module, str]) -> list[nn.Module]:
    """The blocks inside a module, and what has weights and lies outside of them, whole."""
    parts: list[nn.Module] = []
    for child in module.children():
        if child in found:
            parts.append(child)
        elif any(inner in found for inner in child.modules()):
            parts += _parts(child, found)
        elif _has_weights(child):
            parts.append(child)
    return parts


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
