"""How an exported folder is loaded: the lines that its card shows, which training runs before it commits the folder.

Imports nothing heavy: commands and reports show these lines, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADAPTER, BASE = "adapter", "base"
"""Subfolders of an export whose adapter is not merged: the adapter in peft's format, and the model that it belongs
to."""


def auto_class_of(config: Mapping[str, Any]) -> str:
    """The Auto class that loads the model of a config.json."""
    scores = any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())
    return f"AutoModelFor{'SequenceClassification' if scores else 'CausalLM'}"


@dataclass(frozen=True)
class Usage:
    """What decides on the lines: the Auto class, whether the folder brings the architecture's code, and whether it
    holds an adapter beside its base."""

    auto_class: str
    has_code: bool = False
    has_adapter: bool = False

    @classmethod
    def of(cls, folder: Path) -> Usage | None:
        """Of a Hugging Face folder or an export with an adapter; None where it is neither."""
        has_adapter = (folder / ADAPTER).is_dir()
        model = folder / BASE if has_adapter else folder
        try:
            config = json.loads((model / "config.json").read_bytes())
        except (OSError, ValueError):
            return None
        return cls(auto_class_of(config), "auto_map" in config, has_adapter)

    @property
    def imports(self) -> list[str]:
        """Lines that import what the others use."""
        peft = ["from peft import PeftModel"] if self.has_adapter else []
        return [*peft, f"from transformers import {self.auto_class}, AutoTokenizer"]

    @property
    def loading(self) -> list[str]:
        """Lines that make `tokenizer` and `model` of `folder`, a path or a repository of the Hub."""
        code = ", trust_remote_code=True" if self.has_code else ""
        tokenizer = f"tokenizer = AutoTokenizer.from_pretrained(folder{code})"
        if not self.has_adapter:
            return [tokenizer, f"model = {self.auto_class}.from_pretrained(folder{code})"]
        return [
            tokenizer,
            f'base = {self.auto_class}.from_pretrained(folder, subfolder="{BASE}"{code})',
            f'model = PeftModel.from_pretrained(base, folder, subfolder="{ADAPTER}")',
        ]

    @property
    def in_words(self) -> str:
        """How to load the folder, in a few words."""
        how = f"transformers' {self.auto_class}.from_pretrained"
        if self.has_adapter:
            how = f"an adapter beside its {BASE}/: load both with peft, as its README.md shows"
        return how + ("; its code with trust_remote_code=True" if self.has_code else "")
