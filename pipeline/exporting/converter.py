"""llama.cpp's own converter on one folder: `python -m pipeline.exporting.converter FOLDER TARGET OUTTYPE NAME`.

It is a process of its own, since the converter sets up logging, lazy tensors and inference mode for all of one. Prints
a JSON object: `{}` when the file is written, or `{"error", "message", "errno", "file"}`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gguf
import torch
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
from transformers import AutoTokenizer

from pipeline.exporting.vocabulary import GGUFVocabulary, unknown_cuts

FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
"""Of matrices; vectors, and what routes, stay in float32."""

NO_CAP = 1e6
"""A cap on the router's logits far above them: Grok-1 has none, and the converter would write 30. llama.cpp reads
it and does not apply it so far."""

MORE_WRITES, WRITE_BYTES = 16, 65_536
"""How much is written on after a write that was cut short, for the reason: some room may be left where it is given out
in blocks."""

GROK1_NAMES = {
    "embed_tokens": gguf.MODEL_TENSOR.TOKEN_EMBD,
    "norm": gguf.MODEL_TENSOR.OUTPUT_NORM,
    "lm_head": gguf.MODEL_TENSOR.OUTPUT,
    "pre_attn_norm": gguf.MODEL_TENSOR.ATTN_NORM,
    "self_attn.q_proj": gguf.MODEL_TENSOR.ATTN_Q,
    "self_attn.k_proj": gguf.MODEL_TENSOR.ATTN_K,
    "self_attn.v_proj": gguf.MODEL_TENSOR.ATTN_V,
    "self_attn.o_proj": gguf.MODEL_TENSOR.ATTN_OUT,
    "post_attn_norm": gguf.MODEL_TENSOR.ATTN_OUT_NORM,
    "pre_moe_norm": gguf.MODEL_TENSOR.FFN_NORM,
    "moe.router": gguf.MODEL_TENSOR.FFN_GATE_INP,
    "post_moe_norm": gguf.MODEL_TENSOR.LAYER_OUT_NORM,
}
"""llama.cpp's tensors by the modules of `modeling/grok1/`."""


def converter(values: dict[str, Any], vocabulary: GGUFVocabulary) -> type[ModelBase]:
    """The converter's class for a model of this configuration, which writes this vocabulary."""
    base: Any = get_model_class(get_model_architecture(values, ModelType.TEXT))

    class Converter(base):  # type: ignore[misc]
        model_arch = base.model_arch

        def set_vocab(self) -> None:
            _write_vocabulary(self.gguf_writer, vocabulary, vocabulary.cuts or _known_cuts(self))

    if values["model_type"] != "grok1":
        return Converter

    class Grok1Converter(Converter):
        model_arch = base.model_arch

        def modify_tensors(
            self, data_torch: torch.Tensor, name: str, bid: int | None
        ) -> Iterable[tuple[str, torch.Tensor]]:
            module = re.sub(r"^(model\.)?(layers\.\d+\.)?", "", name).removesuffix(".weight")
            if module == "moe.experts.gate_up_proj":
                gate, up = data_torch.chunk(2, dim=1)
                yield self.format_tensor_name(gguf.MODEL_TENSOR.FFN_GATE_EXP, bid), gate
                yield self.format_tensor_name(gguf.MODEL_TENSOR.FFN_UP_EXP, bid), up
            elif module == "moe.experts.down_proj":
                yield self.format_tensor_name(gguf.MODEL_TENSOR.FFN_DOWN_EXP, bid), data_torch
            else:
                yield self.format_tensor_name(GROK1_NAMES[module], bid), data_torch

    return Grok1Converter


def settings(folder: Path) -> dict[str, Any]:
    """The model's configuration by the names that the converter looks for."""
    values: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    if values["model_type"] != "grok1":
        # The file has earlier names of some, too, and transformers the defaults.
        return values | ModelBase.load_hparams(folder, is_mistral_format=False)
    return values | {
        "embedding_multiplier_scale": values["embedding_multiplier"],
        "output_multiplier_scale": values["output_multiplier"],
        "attn_output_multiplier": values["attention_multiplier"],
        "moe_intermediate_size": values["intermediate_size"],
        "router_logit_softcapping": NO_CAP,
    }


def _write_vocabulary(writer: gguf.GGUFWriter, vocabulary: GGUFVocabulary, cuts: str) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(cuts)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.kind == "gpt2":
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores([0.0] * len(vocabulary.tokens))  # which order merges, and there are none
    writer.add_bos_token_id(vocabulary.bos_token_id)
    writer.add_eos_token_id(vocabulary.eos_token_id)
    if vocabulary.pad_token_id is not None:
        writer.add_pad_token_id(vocabulary.pad_token_id)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(vocabulary.adds_eos)
    writer.add_add_space_prefix(False)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _known_cuts(model: Any) -> str:
    """The name of a published tokenizer's cuts, which the converter tells by the ids of a text."""
    try:
        name: str = model.get_vocab_base_pre(AutoTokenizer.from_pretrained(model.dir_model))
    except NotImplementedError:
        raise unknown_cuts() from None
    return name


@torch.inference_mode()
def convert(folder: Path, target: Path, outtype: str, name: str) -> None:
    """Write the model of a folder to `target`."""
    values = settings(folder)
    vocabulary = GGUFVocabulary.of(folder, values["vocab_size"])
    converter(values, vocabulary)(folder, FILE_TYPES[outtype], target, model_name=name, hparams=values).write()


def main(folder: str, target: str, outtype: str, name: str) -> dict[str, Any]:
    """What is printed."""
    try:
        convert(Path(folder), Path(target), outtype, name)
    except (Exception, SystemExit) as error:
        # The converter raises what it likes; the process that waits makes one line of it.
        number = _number(error, Path(target)) if isinstance(error, OSError) else None
        read = getattr(error, "filename", None)
        file = str(read) if read is not None and str(read) != target else None
        return {"error": type(error).__name__, "message": str(error), "errno": number, "file": file}
    return {}


def _number(error: OSError, target: Path) -> int | None:
    """The operating system's number of an error. numpy gives none where less was written than it asked for: there is
    no more room then, and writing on tells why."""
    if error.errno is not None or not target.exists():
        return error.errno
    try:
        with target.open("ab", buffering=0) as file:
            for _ in range(MORE_WRITES):
                file.write(bytes(WRITE_BYTES))
    except OSError as reason:
        return reason.errno
    return None


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
