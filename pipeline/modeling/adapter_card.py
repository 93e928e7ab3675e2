"""What makes an adapter's folder one that can be used and uploaded by itself."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedConfig

from pipeline.modeling.export_compatibility import copy_tokenizer
from pipeline.modeling.heads import has_head_over_labels

CARD = """\
---
base_model: {base}
library_name: peft
tags:
- {method}
- descent
---

# Adapter of {base}

```python
from peft import PeftModel
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
base = {auto_class}.from_pretrained({arguments})
{lines}model = PeftModel.from_pretrained(base, "path/to/this/folder")
```
"""


def complete_adapter(folder: Path, model_folder: Path, config: PreTrainedConfig, new_rows: int) -> None:
    """Add to an adapter its tokenizer, which lies in `model_folder`, and a README. `config` is that of the model on
    which it was trained, which has `new_rows` embeddings more than its base."""
    copy_tokenizer(model_folder, folder)
    adapter = json.loads((folder / "adapter_config.json").read_bytes())
    base, revision = adapter["base_model_name_or_path"], adapter.get("revision")
    tells_labels = has_head_over_labels(config)
    arguments, lines = [json.dumps(base if revision else f"path/to/{base}")], ""
    if revision:
        arguments.append(f"revision={json.dumps(revision)}")
    if tells_labels:
        arguments.append(f"num_labels={config.num_labels}")
        lines += "base.config.pad_token_id = tokenizer.pad_token_id\n"
    if new_rows > 0:
        lines += "base.resize_token_embeddings(len(tokenizer))\n"
    card = CARD.format(
        base=base,
        method=str(adapter["peft_type"]).lower(),
        auto_class="AutoModelForSequenceClassification" if tells_labels else "AutoModelForCausalLM",
        arguments=", ".join(arguments),
        lines=lines,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
