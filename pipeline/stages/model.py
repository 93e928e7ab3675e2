"""model: build the network and initialize its weights."""

from __future__ import annotations

from typing import Any

from pipeline import atomic
from pipeline.config.model import ModelConfig
from pipeline.stages.contract import Stage, StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Write `model/`, an ordinary Hugging Face folder, and `parameters.json`, the parameters by part."""
    from pipeline.modeling.build import build_model, check_tokenizer, load_tokenizer, save_model
    from pipeline.modeling.parameters import parameter_table

    section = context.section
    assert isinstance(section, ModelConfig)
    tokenizer = load_tokenizer(context.inputs["tokenizer"])
    with context.progress.task(f"building {section.architecture}", total=1, unit="model") as task:
        model = build_model(section, tokenizer, context.seed)
        save_model(model, context.inputs["tokenizer"], context.output / "model")
        check_tokenizer(context.output / "model", tokenizer)
        task.update()
    table = parameter_table(model)
    atomic.write_json(context.output / "parameters.json", table)
    return {"architecture": section.architecture, "vocab_size": len(tokenizer), **table}


STAGE = Stage(name="model", version=1, run=run, inputs=("tokenizer",), seeded=True, libraries=("transformers",))
