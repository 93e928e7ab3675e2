from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from pipeline.config.model import ModelConfig, causal_architectures


def test_architectures_are_those_that_transformers_maps():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert causal_architectures() == tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "lama"}, "no causal language model of transformers; did you mean llama"),
        ({"architecture": "vit"}, "no causal language model of transformers"),
        ({"config": {"vocab_size": 100}}, "remove vocab_size: it comes from the tokenizer"),
        ({"config": {"dtype": "bfloat16"}}, "train.mixed_precision"),
    ],
)
def test_refusals(values, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**values)


def test_validation_does_not_import_transformers():
    code = "import sys; from pipeline.config.model import ModelConfig; ModelConfig(architecture='gpt2');"
    code += "sys.exit(bool({'transformers', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
