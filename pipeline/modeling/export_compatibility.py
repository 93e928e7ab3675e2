"""Exported folders as other tools read them: transformers 4.57 as well as 5, and what takes its limits from files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.atomic import write_json
from pipeline.modeling.heads import CAUSAL_LM, head_in
from pipeline.pretrained.folder_checks import without_foreign_code
from pipeline.pretrained.origin import TOKENIZER_FILES

TOKENIZER_CONFIG = "tokenizer_config.json"
OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path")
EARLIER_NAMES = {
    "gemma3_text": {"local": "rope_local_base_freq"},
    "gpt_neox": {"theta": "rotary_emb_base", "partial": "rotary_pct"},
    "modernbert": {"theta": "global_rope_theta", "local": "local_rope_theta"},
}
"""Where transformers 4 has other names for rotary settings than most of its architectures."""


def make_portable(folder: Path) -> None:
    """Add to a model's folder what other versions and tools look for, and take out what names this machine or code that
    the folder does not bring. Nothing that transformers 5 computes changes."""
    _rewrite(folder / "config.json", _portable_config)
    _rewrite(folder / TOKENIZER_CONFIG, _portable_tokenizer)


def set_longest_input(folder: Path, length: int | None) -> None:
    """Let the folder's tokenizer cut texts, where it is told to, after `length` tokens; None: it knows no limit."""

    def with_limit(values: dict[str, Any], _: Path) -> dict[str, Any]:
        others = {name: value for name, value in values.items() if name != "model_max_length"}
        return others if length is None else others | {"model_max_length": length}

    _rewrite(folder / TOKENIZER_CONFIG, with_limit)


def longest_input(folder: Path) -> int | None:
    """What `set_longest_input` set."""
    path = folder / TOKENIZER_CONFIG
    limit: int | None = json.loads(path.read_bytes()).get("model_max_length") if path.is_file() else None
    return limit


def copy_tokenizer(folder: Path, target: Path, further: Iterable[str] = ()) -> None:
    """Copy the tokenizer's files, and those of further patterns."""
    for path in [path for pattern in (*TOKENIZER_FILES, *further) for path in folder.glob(pattern)]:
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)


def _rewrite(path: Path, change: Any) -> None:
    if path.is_file():
        values = json.loads(path.read_bytes())
        write_json(path, dict(sorted(change(values, path.parent).items())))


def _portable_config(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    values = without_foreign_code(values, folder)
    if values.get("model_type") == "gpt2":
        values["n_ctx"] = values["n_positions"]
    return values | _earlier_rope(values)


def _earlier_rope(values: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings as transformers 4 takes them, which overlooks `rope_parameters` and falls back to defaults.
    transformers 5 reads both, and finds the same."""
    rope = values.get("rope_parameters")
    if not isinstance(rope, dict):
        return {}
    names = EARLIER_NAMES.get(values.get("model_type", ""), {})
    found: dict[str, Any] = {}
    if isinstance(rope.get("sliding_attention"), dict):
        found[names.get("local", "rope_local_base_freq")] = rope["sliding_attention"].get("rope_theta")
        rope = rope.get("full_attention") or {}
    found[names.get("theta", "rope_theta")] = rope.get("rope_theta")
    found[names.get("partial", "partial_rotary_factor")] = rope.get("partial_rotary_factor")
    if rope.get("rope_type", "default") != "default":
        found["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    return {name: value for name, value in found.items() if value is not None}


def _portable_tokenizer(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    values = without_foreign_code(values, folder)
    values = {name: value for name, value in values.items() if name not in OF_THIS_MACHINE}
    if values.get("tokenizer_class") == "TokenizersBackend":
        values["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name in transformers 4, known to 5
        # There it gives token types too, which models refuse, or add to what they see.
        values.setdefault("model_input_names", ["input_ids", "attention_mask"])
    if isinstance(values.get("extra_special_tokens"), list):
        values["additional_special_tokens"] = values.pop("extra_special_tokens")
    # Prompts are continued at their right end; documents were scored as training padded them.
    values["padding_side"] = "left" if head_in(folder) is CAUSAL_LM else "right"
    return values
