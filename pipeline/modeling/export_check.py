"""Whether an exported folder, loaded as its card says, computes what the trained model does."""

from __future__ import annotations

import copy
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedConfig, PreTrainedModel, dynamic_module_utils
from transformers.models.auto import configuration_auto, modeling_auto

from pipeline.errors import ExportError
from pipeline.modeling.adapters import virtual_tokens
from pipeline.modeling.blockwise import load_sharded
from pipeline.modeling.inputs import replaced
from pipeline.modeling.library_messages import one_line, without_bars
from pipeline.modeling.loading_code import Usage
from pipeline.modeling.materialize import without_weights
from pipeline.modeling.parameters import blocks
from pipeline.modeling.probe import difference, probe_ids, probe_logits

REASSOCIATED = 1e-4
"""Most relative difference between two ways of computing the same float32 weights."""

ROUNDED = 4.0
"""Most relative difference after merging, in units of rounding times the root of the number of blocks. Merging rounds
every weight anew, and errors add up over blocks. Measured: up to 1.2 (llama, gpt2, gemma of 2 to 24 blocks)."""

SHARE_OF_MEMORY = 0.9
CODE_MODULES = "transformers_modules"


@dataclass(frozen=True)
class Expected:
    """Logits in float32 of the trained model for the ids, (1, tokens), on the CPU."""

    ids: torch.Tensor
    logits: torch.Tensor


def expected_logits(model: PreTrainedModel) -> Expected:
    """What the trained model computes for ids from all over its vocabulary. Its weights and precision stay."""
    if getattr(model.config, "_attn_implementation", None) not in (None, "eager", "sdpa"):
        model.set_attn_implementation("eager")  # faster ones take half precision alone
    ids = probe_ids(model, virtual_tokens(model))
    return Expected(ids, probe_logits(model, ids))


def check_export(folder: Path, expected: Expected, is_merged: bool, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Load the folder by the lines of its card and compare its logits with those that are expected.

    Returns `{"error", "allowed"}`, relative; or `{"unchecked"}`, a sentence that says why nothing was compared. Raises
    ExportError where the lines fail or the logits differ by more than rounding explains. With a mesh all its processes
    call it, and each loads a part.
    """
    size, free = sum(path.stat().st_size for path in folder.rglob("*.safetensors")), psutil.virtual_memory().available
    if mesh is None and size > SHARE_OF_MEMORY * free:
        needs = f"it takes {size:,} bytes, and {free:,} of memory are free"
        return {"unchecked": f"the exported model was not loaded again and compared with the trained one: {needs}"}
    if not expected.logits.isfinite().all():
        return {"unchecked": "the exported model was not compared with the trained one, whose logits are not finite"}
    try:
        model = load_as_told(folder, mesh)
        # Half the distance between neighbouring numbers near 1.
        precision = max(
            torch.finfo(weight.dtype).eps / 2 for weight in model.parameters() if weight.is_floating_point()
        )
        logits = probe_logits(model, expected.ids)
    except Exception as error:
        # Whatever a reader of the card would meet.
        raise ExportError(
            f"train: the exported model cannot be used as its card says: {one_line(error)}; the trained weights are in "
            "the checkpoints"
        ) from error
    rounding = ROUNDED * precision * math.sqrt(max(1, len(blocks(model)))) if is_merged else 0.0
    found, allowed = difference(model, logits, expected.logits), REASSOCIATED + rounding
    if not found <= allowed:
        raise ExportError(
            f"train: the exported model, loaded as its card says, does not compute what the trained one does: its "
            f"logits are off by {found:.2g} of their size, and rounding explains {allowed:.2g}; nothing was exported, "
            "the trained weights are in the checkpoints"
        )
    return {"error": found, "allowed": allowed}


def load_as_told(folder: Path, mesh: DeviceMesh | None = None) -> PreTrainedModel:
    """The model of an exported folder by the lines of its card, as any other process would get it; with a mesh
    transformers chooses the class, and each process reads a part of the weights."""
    usage = Usage.of(folder)
    assert usage is not None, f"{folder} holds no model"
    names: dict[str, Any] = {"folder": str(folder)}
    reading = nullcontext() if mesh is None else replaced(PreTrainedModel, "from_pretrained", _reading_parts(mesh))
    with _elsewhere(), without_bars(), torch.random.fork_rng([]), warnings.catch_warnings(), reading:
        warnings.simplefilter("ignore")
        exec("\n".join([*usage.imports, *usage.loading]), names)
    model: PreTrainedModel = names["model"]
    return model


def _reading_parts(mesh: DeviceMesh) -> Any:
    """What stands in for `from_pretrained` of all classes of models."""

    def from_pretrained(
        cls: type[PreTrainedModel], folder: str, /, *_: Any, config: PreTrainedConfig, **__: Any
    ) -> PreTrainedModel:
        def build_empty() -> PreTrainedModel:
            return without_weights(lambda: cls._from_config(copy.deepcopy(config)))

        return load_sharded(build_empty, Path(folder), mesh)

    return classmethod(from_pretrained)


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Let transformers know no architecture but its own, so that code comes from the folder alone, and keep what it
    copies of that code for this once."""
    mappings: list[Any] = [
        configuration_auto.CONFIG_MAPPING,
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    ]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for mapping in mappings:
            stack.enter_context(replaced(mapping, "_extra_content", {}))
        stack.enter_context(replaced(dynamic_module_utils, "HF_MODULES_CACHE", folder))
        stack.enter_context(replaced(sys, "path", [folder, *sys.path]))  # before where such code was put earlier
        modules = _take_code_modules()
        try:
            yield
        finally:
            _take_code_modules()
            sys.modules.update(modules)


def _take_code_modules() -> dict[str, ModuleType]:
    """Forget the modules that transformers made of code in models' folders, and return them."""
    return {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == CODE_MODULES}
