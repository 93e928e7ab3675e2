"""What a card tells to type computes what was trained: over architectures, modules, ties, tokens, precisions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from modeling.checkpoints import make_pretrained
from tokens.artifacts import run_stage
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from pipeline.modeling import open_and_export
from pipeline.modeling.build import load_model
from pipeline.modeling.export_check import load_as_told
from pipeline.modeling.model_config import ModelConfig
from pipeline.stages.model import STAGE
from pipeline.tokens.tokenizers.pretrained import load_pretrained_tokenizer, save_pretrained_tokenizer

WIDTH = {"hidden_size": 16, "num_hidden_layers": 2}
ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
QKVO, MLP = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
ARCHITECTURES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "llama": (WIDTH | ATTENTION, [*QKVO, *MLP, "embed_tokens"]),
    "gpt2": ({"n_embd": 16, "n_layer": 2, "n_head": 2}, ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj", "wte", "wpe"]),
    "qwen3": (WIDTH | ATTENTION | {"head_dim": 8}, [*QKVO, *MLP, "embed_tokens"]),
    "mixtral": (WIDTH | ATTENTION | {"num_local_experts": 4}, [*QKVO, *EXPERTS, "embed_tokens"]),
    "grok1": (WIDTH | ATTENTION | {"head_dim": 8, "num_local_experts": 4}, [*QKVO, *EXPERTS, "embed_tokens"]),
    "gemma": (WIDTH | ATTENTION | {"head_dim": 8}, [*QKVO, *MLP, "embed_tokens"]),
    # Its dt_proj is read past any adapter, and its out_proj peft refuses.
    "mamba": (WIDTH | {"state_size": 4}, ["in_proj", "x_proj", "embeddings"]),
}
PROMPTS = {"prompt_tuning": {"num_virtual_tokens": 3}, "prefix_tuning": {"num_virtual_tokens": 3}}
TOKENIZERS: dict[str, dict[str, str]] = {
    "with padding": {"eos_token": "<end>", "pad_token": "<pad>"},
    "without padding": {"eos_token": "<end>"},
    "without an end": {"bos_token": "<begin>"},  # which gets a row of its own
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
IDS = torch.arange(3, 19)[None]
NO_TIES = ("mamba",)  # transformers ties its embeddings whatever the configuration says
Case = tuple[str, str, bool, str, str]


def targets(architecture: str) -> Iterator[str]:
    """Every kind of module that an adapter can change, and methods that learn a prompt."""
    yield from [*ARCHITECTURES[architecture][1], "lm_head"]
    if architecture != "mamba":  # it takes neither keys and values nor positions of a prompt
        yield from PROMPTS


EVERY: list[Case] = [
    (architecture, target, tied, tokenizer, dtype)
    for architecture in ARCHITECTURES
    for target in targets(architecture)
    for tied, tokenizer, dtype in itertools.product((False, True), TOKENIZERS, DTYPES)
    if not (architecture in NO_TIES and not tied)
]
MIXTURES = ("mixtral", "grok1")
MANY = [case for case in EVERY[3::7] if case[0] not in MIXTURES or case[4] == "float32"]
"""In half precision a last bit sends many tokens of a mixture to other experts."""
FAST = [
    case
    for index, case in enumerate(EVERY)
    if index % 97 == 0 or (case[1] in ("lm_head", "embed_tokens") and case[2:] == (True, "without padding", "bfloat16"))
]


def adapter_of(target: str) -> dict[str, Any]:
    if target in PROMPTS:
        return {"type": target, **PROMPTS[target]}
    where = (
        {"target_parameters": [target], "target_modules": []} if "experts" in target else {"target_modules": [target]}
    )
    return {"type": "lora", "r": 2, "lora_alpha": 8, **where}


def make_base(folder: Path, architecture: str, tied: bool, tokenizer: str, dtype: str) -> None:
    """A pretrained folder as its authors would have saved it, with weights that tell tokens apart."""
    make_pretrained(folder, TOKENIZERS[tokenizer])
    special = {name: None for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    rows = len(AutoTokenizer.from_pretrained(folder))
    settings = {**ARCHITECTURES[architecture][0], **special, "vocab_size": rows, "tie_word_embeddings": tied}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **settings))
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "A_log" not in name:
                parameter.data.normal_(0, parameter.shape[-1] ** -0.5)
    model.to(DTYPES[dtype]).save_pretrained(folder)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS, use_cache=False).logits[:, -IDS.shape[1] :].float()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of the middle position, since the last bit may decide which expert a token is sent to."""
    return float(((one - other).norm(dim=-1) / other.norm(dim=-1)).median())


def check(tmp_path: Path, case: Case) -> None:
    from peft import PeftModel

    architecture, target, tied, tokenizer, dtype = case
    base = tmp_path / "base"
    make_base(base, architecture, tied, tokenizer, dtype)
    save_pretrained_tokenizer(load_pretrained_tokenizer(base, False, "tokenizer"), tmp_path / "tokenizer", ["a text"])
    section = ModelConfig(pretrained=str(base), trust_remote_code=architecture == "grok1", adapter=adapter_of(target))
    run_stage(STAGE, section, {"tokenizer": tmp_path / "tokenizer"}, tmp_path / "artifact")
    model = open_and_export.open_for_training(tmp_path / "artifact", seed=3)
    before, noise = logits(model), torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += (1.0 if target in PROMPTS else 0.4) * torch.randn(parameter.shape, generator=noise)
    trained = logits(model)
    rounded = 8 * torch.finfo(DTYPES[dtype]).eps
    assert distance(before, trained) > 2 * rounded, "the adapter changes nothing that could be missed"

    found = open_and_export.export_model(model, tmp_path / "artifact", tmp_path / "out")
    assert found["error"] <= found["allowed"]
    assert ("unmerged" in found) == (target in PROMPTS)
    allowed = max(1e-4, rounded)
    typed = load_as_told(tmp_path / "out/model")
    assert type(typed).__module__.startswith(("transformers.", "transformers_modules.", "peft."))
    assert distance(logits(typed), trained) < allowed
    # What evaluation and `generate` load is the same to the bit.
    assert torch.equal(logits(load_model(tmp_path / "out/model", dtype="auto")), logits(typed))
    # adapter/ alone fits the very folder that training began with.
    plain = AutoModelForCausalLM.from_pretrained(base)
    rows = plain.get_input_embeddings().weight.shape[0]
    if tokenizer == "without an end":
        plain.resize_token_embeddings(rows + 1)
    alone = PeftModel.from_pretrained(plain, tmp_path / "out/adapter")
    assert distance(logits(alone)[..., :rows], trained[..., :rows]) < allowed


@pytest.mark.parametrize("case", FAST, ids=lambda case: "-".join(map(str, case)).replace(" ", "_"))
def test_what_the_card_tells_to_type_is_what_was_trained(tmp_path, case):
    check(tmp_path, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", MANY, ids=lambda case: "-".join(map(str, case)).replace(" ", "_"))
def test_what_many_cards_tell_to_type_is_what_was_trained(tmp_path, case):
    check(tmp_path, case)
