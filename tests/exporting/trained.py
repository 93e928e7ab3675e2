"""Exported folders of tiny models that were trained a few steps on real text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from harness import write_sources

from pipeline.modeling.build import build_model, load_hf_tokenizer, save_model
from pipeline.modeling.export_compatibility import set_longest_input
from pipeline.modeling.heads import CAUSAL_LM
from pipeline.modeling.model_config import ModelConfig
from pipeline.tokens.tokenizer_folder import save_tokenizer
from pipeline.tokens.tokenizers import TrainedTokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe

WINDOW, BATCH, STEPS = 48, 8, 30
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": SHAPE,
    "mistral": {**SHAPE, "sliding_window": None},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "qwen3": {**SHAPE, "head_dim": 32},
    "mixtral": {**SHAPE, "num_local_experts": 4},
    "grok1": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "head_dim": 16, "num_local_experts": 4, "widening_factor": 1.5, "max_position_embeddings": 256,
              "attention_multiplier": 0.4, "attn_logit_softcapping": 20.0, "output_multiplier": 0.8,
              "embedding_multiplier": 7.0, "rms_norm_eps": 1e-4, "rope_parameters": {"rope_type": "default",
              "rope_theta": 5000.0}},
}  # fmt: skip


@cache
def prose(folder: Path) -> tuple[str, ...]:
    """Paragraphs of docstrings, written below `folder` on the way."""
    write_sources(folder)
    files = sorted((folder / "texts").glob("*.txt"))
    return tuple(block for file in files for block in file.read_text().split("\n\n") if block)


def make_tokenizer(
    folder: Path, texts: tuple[str, ...], kind: type[TrainedTokenizer] = ByteLevelBpe, **settings: Any
) -> None:
    """A tokenizer as the pipeline trains it."""
    save_tokenizer(kind(vocab_size=600, **settings).train(texts), folder)


def make_export(
    folder: Path, architecture: str, texts: tuple[str, ...], tokenizer: Path, scale: float = 1.0, **config: Any
) -> Path:
    """A model as training leaves it, of the architecture's tiny configuration with changes; returns its folder. The
    matrices of its blocks are `scale` times as large, so that what they compute weighs more."""
    section = ModelConfig(architecture=architecture, config={**CONFIGS[architecture], **config})
    known = load_hf_tokenizer(tokenizer)
    ids = torch.tensor([index for text in texts for index in [*known(text).input_ids, known.eos_token_id]])
    model = build_model(section, known, seed=0, head=CAUSAL_LM).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    draw = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        starts = torch.randint(len(ids) - WINDOW, (BATCH,), generator=draw)
        rows = torch.stack([ids[start : start + WINDOW] for start in starts])
        optimizer.zero_grad()
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight *= scale if weight.ndim > 1 and (".layers." in name or ".h." in name) else 1
    save_model(model.eval(), tokenizer, folder)
    set_longest_input(folder, WINDOW)
    return folder
