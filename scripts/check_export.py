#!/usr/bin/env python
"""Try an exported model in the tools that come next, in whatever environment this runs: transformers 4.57 or 5.

    python scripts/check_export.py workspace/runs/NAME/model [--reference logits.json] [--base BASE] [--gguf FILE]

Prints a line for each tool and exits 1 if any of them failed. It needs torch and transformers and nothing of the
pipeline, so it can be copied into another environment. `--reference` compares logits with those of the file, which is
written where there is none: run it in one environment, then in another. An adapter is looked for inside and beside
FOLDER; `--base` is the model that one beside it was trained on. `--gguf` is a file that `descent export` wrote of it,
which is compared in llama.cpp (`pip install xllamacpp gguf`).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import math
import os
import re
import sys
import tempfile
import urllib.request
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers

TOLERANCE = 1e-4
"""Largest difference of logits, as a part of the largest logit: that of other kernels in float32."""

ROUNDED = {0: 2e-3, 1: 2e-3, 32: 15e-3, 7: 40e-3}
"""By the type of a GGUF file (f32, f16, bf16, q8_0): largest difference of log-probabilities that rounding may make in
a layer, and times the root of their number in all. A half to a third of it was found in small models."""

PLACES, NEW_TOKENS = 16, 4
WORDS = "It was a long day on the road and nobody had seen the other side of the river"


class NotForIt(Exception):
    """The check does not apply to this export, or lacks something; the message says why."""


class Export:
    """What the folder holds, loaded as its card says."""

    def __init__(self, folder: Path, base: Path | None) -> None:
        self.folder, self.base = folder, base
        self.weights = weights_in(folder)
        self.config_values = json.loads((self.weights / "config.json").read_bytes())
        names = self.config_values.get("architectures") or [""]
        self.is_causal = not names[0].endswith("ForSequenceClassification")
        self.options: dict[str, Any] = {"trust_remote_code": True} if "auto_map" in self.config_values else {}

    def load(self, folder: Path, **further: Any) -> Any:
        auto = transformers.AutoModelForCausalLM
        if not self.is_causal:
            auto = transformers.AutoModelForSequenceClassification
        model = auto.from_pretrained(folder, dtype=torch.float32, **self.options, **further)
        return model if further else model.eval()

    @cached_property
    def model(self) -> Any:
        model, found = self.load(self.weights, output_loading_info=True)
        wrong = {name: sorted(found[name]) for name in ("missing_keys", "unexpected_keys") if found[name]}
        assert not wrong, f"weights that do not fit: {wrong}"
        return (on_base(model, self.folder / "adapter") if self.is_unmerged else model).eval()

    @property
    def is_unmerged(self) -> bool:
        """Whether the folder holds a base and an adapter apart."""
        return self.weights != self.folder

    @cached_property
    def tokenizer(self) -> Any:
        return transformers.AutoTokenizer.from_pretrained(self.folder, **self.options)

    @cached_property
    def positions(self) -> int | None:
        text = self.model.config.get_text_config()
        return getattr(text, "max_position_embeddings", None) or None

    @property
    def window(self) -> int:
        """Most tokens of an input."""
        return int(min(self.tokenizer.model_max_length, self.positions or math.inf, 10**6))

    def ids(self, length: int, start: int = 0) -> list[int]:
        """Ordinary tokens, the same in every environment."""
        special = set(self.tokenizer.all_special_ids)
        ordinary = [index for index in range(len(self.tokenizer)) if index not in special]
        return [ordinary[(7 * place + start) % len(ordinary)] for place in range(length)]

    def long_text(self) -> str:
        """More tokens than the model takes."""
        text = WORDS
        while len(self.tokenizer(text, verbose=False).input_ids) <= self.window and len(text) < 10**7:
            text = f"{text} {text}"
        return text

    def only_causal(self) -> None:
        if not self.is_causal:
            raise NotForIt("it writes no text")

    def only_plain(self) -> None:
        if self.is_unmerged:
            raise NotForIt("its adapter is put on by hand")


def weights_in(folder: Path) -> Path:
    """Where the model is: an adapter that is not merged lies beside its base."""
    return folder if (folder / "config.json").is_file() else folder / "base"


def on_base(base: Any, folder: Path) -> Any:
    """The model with peft's adapter of a folder."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base, folder)


@torch.no_grad()
def logits_of(model: Any, ids: list[list[int]]) -> torch.Tensor:
    return model(input_ids=torch.tensor(ids)).logits.float()


def largest_difference(found: torch.Tensor, expected: torch.Tensor, what: str) -> str:
    """In words; raises AssertionError where it is too large."""
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)} in place of {tuple(expected.shape)}"
    difference = float((found - expected).abs().max())
    assert difference <= TOLERANCE * float(expected.abs().max()), f"{what} differ by {difference:.2g}"
    return f"{what} differ by {difference:.1g} at most"


def names(export: Export) -> str:
    """No code that is not there, no path of the machine that made it."""
    for name in ("config.json", "tokenizer_config.json"):
        folder = export.weights if name == "config.json" else export.folder
        classes = str(json.loads((folder / name).read_bytes()).get("auto_map", ""))
        assert "--" not in classes, f"{name} takes code from another repository"
        for module in set(re.findall(r"'(\w+)\.\w+'", classes)):
            assert (folder / f"{module}.py").is_file(), f"{name} names {module}.py, which is not there"
    files = ["README.md", "config.json", "tokenizer_config.json", "adapter/adapter_config.json", "adapter/README.md"]
    for path in (export.folder / name for name in files):
        content = path.read_text() if path.is_file() else ""
        found = re.search(r"""(?<=["'(\s:])/(?:home|root|tmp|work|Users|mnt|data)/[^\s"')]*""", content)
        assert not found, f"{path.name} names a path of the machine that made it: {found and found[0]}"
    return "all code that is named is there; no local paths"


def tokenizer(export: Export) -> str:
    found = export.tokenizer
    assert found.pad_token_id is not None, "no padding token"
    assert found.eos_token_id is not None, "no end-of-sequence token"
    limit, positions = found.model_max_length, export.positions
    assert positions is None or limit <= positions, f"it cuts after {limit}, the model has fewer positions"
    cut = len(found(export.long_text(), truncation=True, verbose=False).input_ids)
    assert cut <= limit, f"a text is cut after {cut} tokens in place of {limit}"
    side = "left" if export.is_causal else "right"
    assert found.padding_side == side, f"padding_side is {found.padding_side}"
    return f"{type(found).__name__}, cuts after {limit} tokens, pads on the {side}"


def model(export: Export) -> str:
    logits = logits_of(export.model, [export.ids(min(8, export.window))])
    assert torch.isfinite(logits).all(), "its logits are not finite"
    return f"{type(export.model).__name__} of {export.model.num_parameters():,} parameters"


def text(export: Export) -> str:
    """What the tokenizer gives for a text is what the model takes."""
    inputs = export.tokenizer(WORDS, truncation=True, return_tensors="pt")
    with torch.no_grad():
        found = export.model(**inputs).logits.float()
    told = largest_difference(found, logits_of(export.model, inputs["input_ids"].tolist()), "logits of a text")
    if export.is_causal:
        inputs = {name: values[:, : max(1, export.window - NEW_TOKENS)] for name, values in inputs.items()}
        export.model.generate(**inputs, max_new_tokens=NEW_TOKENS)
    return told


def compare_with(reference: Path) -> Callable[[Export], str]:
    def logits(export: Export) -> str:
        ids = [export.ids(min(12, export.window), start) for start in (0, 3)]
        found = logits_of(export.model, ids)
        if not reference.exists():
            made = {"transformers": transformers.__version__, "ids": ids, "logits": found.tolist()}
            reference.write_text(json.dumps(made))
            return f"written to {reference}"
        values = json.loads(reference.read_bytes())
        assert values["ids"] == ids, "the tokens differ"
        told = largest_difference(found, torch.tensor(values["logits"]), "logits")
        return f"{told} from those of transformers {values['transformers']}"

    return logits


def batches(export: Export) -> str:
    """What is padded in a batch comes out as alone."""
    if export.is_unmerged and export.model.peft_config["default"].is_prompt_learning:
        raise NotForIt("a learned prompt would stand before the padding")
    longest = min(9, export.window - NEW_TOKENS)
    rows = [export.ids(max(1, length), start) for start, length in enumerate((2, longest, longest // 2))]
    padded = export.tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    if not export.is_causal:
        with torch.no_grad():
            found = export.model(**padded).logits
        return largest_difference(found, torch.cat([logits_of(export.model, [row]) for row in rows]), "scores")

    def greedy(**inputs: Any) -> Any:
        return export.model.generate(
            **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip

    together, told = greedy(**padded), ""
    for index, row in enumerate(rows):
        ids = torch.tensor([row])
        alone = greedy(input_ids=ids, attention_mask=torch.ones_like(ids))
        expected = torch.cat(alone.logits).float()
        found = torch.stack([step[index] for step in together.logits]).float()
        told = largest_difference(found, expected, "logits of padded prompts")
        assert torch.equal(together.sequences[index, -NEW_TOKENS:], alone.sequences[0, -NEW_TOKENS:]), "other tokens"
    return f"same greedy tokens; {told}"


def pipeline(export: Export) -> str:
    export.only_plain()
    text, task = export.long_text(), "text-generation" if export.is_causal else "text-classification"
    pipe = transformers.pipeline(task, model=export.model, tokenizer=export.tokenizer, device="cpu")
    if not export.is_causal:
        return f"a long text scores {pipe(text, truncation=True)[0]['score']:.3f}"
    if export.window <= NEW_TOKENS:
        raise NotForIt("its window is too short")
    pipe(text, truncation=True, max_new_tokens=1)
    pipe(text, handle_long_generation="hole", max_new_tokens=NEW_TOKENS)
    return "continues a long text"


def peft_adapter(export: Export) -> str:
    """The adapter on its base computes what the export does."""
    if export.is_unmerged:
        return f"{type(export.model).__name__}: put on for all checks"
    place = export.folder.parent / "adapter"
    if not (place / "adapter_config.json").is_file():
        raise NotForIt("there is no adapter")
    base = export.base
    if base is None:
        named = json.loads((place / "adapter_config.json").read_bytes())["base_model_name_or_path"]
        raise NotForIt(f"give its base, {named}, as --base")
    values = {} if export.is_causal else {"num_labels": export.model.config.num_labels}
    adapted = on_base(export.load(base, **values), place).eval()
    if not export.is_causal:
        adapted.config.pad_token_id = export.tokenizer.pad_token_id
    ids = [export.ids(min(8, export.window))]
    return largest_difference(logits_of(adapted, ids), logits_of(export.model, ids), "logits of base and adapter")


def lm_eval(export: Export) -> str:
    """Its log-likelihood of a continuation is the sum over the model's own logits."""
    export.only_causal()
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    first, second = (export.tokenizer.decode(export.ids(3, start)) for start in (0, 5))
    harness = HFLM(pretrained=export.model, tokenizer=export.tokenizer, device="cpu", batch_size=1)
    start, end = harness._encode_pair(first, second)
    request = Instance("loglikelihood", doc={}, arguments=(first, second), idx=0)
    ((found, _),) = harness.loglikelihood([request], disable_tqdm=True)
    scores = logits_of(export.model, [[*start, *end][-export.window :]])[0].log_softmax(-1)
    expected = sum(float(scores[place - len(end) - 1, token]) for place, token in enumerate(end))
    assert abs(found - expected) <= TOLERANCE * abs(expected), f"{found:.4f} in place of {expected:.4f}"
    return f"log-likelihood {found:.3f}, as the logits say"


def trl(export: Export) -> str:
    """A step of DPO, on a model of its own."""
    export.only_causal()
    export.only_plain()
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    prompt, chosen, rejected = (export.tokenizer.decode(export.ids(3, start)) for start in (0, 5, 9))
    rows = [{"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"}] * 2
    with tempfile.TemporaryDirectory() as scratch:
        arguments = DPOConfig(
            output_dir=scratch, max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[], bf16=False,
            save_strategy="no", disable_tqdm=True, logging_steps=1, gradient_checkpointing=False,
        )  # fmt: skip
        trainer = DPOTrainer(
            model=export.load(export.weights), ref_model=export.load(export.weights), args=arguments,
            train_dataset=Dataset.from_list(rows), processing_class=export.tokenizer,
        )  # fmt: skip
        trainer.train()
    margin = next(float(entry["rewards/margins"]) for entry in trainer.state.log_history if "rewards/margins" in entry)
    assert abs(margin) < TOLERANCE, f"before the first step the model differs from itself by {margin:.2g}"
    return "a step of DPO from a margin of 0"


def llama_cpp(file: Path) -> Callable[[Export], str]:
    """llama.cpp with a GGUF file cuts a text as the tokenizer does, and gives what comes next the same chances, in
    places all over a text, half of them farther in than a window of attention reaches."""

    def check(export: Export) -> str:
        import xllamacpp
        from gguf import GGUFReader

        kind = GGUFReader(file).get_field("general.file_type").contents()
        if kind not in ROUNDED:
            raise NotForIt(f"how much weights of its type, {kind}, are rounded is not known")
        config, parameters = export.model.config.get_text_config(), xllamacpp.CommonParams()
        text = f"{export.long_text()}, isn't it?\n\n  In 1984,  \u00e9t\u00e9"
        ids = export.tokenizer(text, verbose=False).input_ids
        length = min(len(ids), export.window, max(512, 2 * (getattr(config, "sliding_window", None) or 0)))
        parameters.model.path = str(file)
        parameters.n_parallel, parameters.n_ctx, parameters.verbosity = 1, length + 8, -1
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        server = xllamacpp.Server(parameters)  # it ends when nobody holds it

        def ask(what: str, **values: Any) -> Any:
            with urllib.request.urlopen(f"{server.listening_address}/{what}", json.dumps(values).encode(), 600) as got:
                return json.loads(got.read())

        found = ask("tokenize", content=text, add_special=True)["tokens"]
        assert found == ids, f"other tokens: {found[:40]} in place of {ids[:40]}"
        scores, worst = logits_of(export.model, [ids[:length]])[0].log_softmax(-1), []
        for end in sorted({max(1, length * part // PLACES) for part in range(1, PLACES + 1)}):
            answer = ask("completion", prompt=ids[:end], n_predict=1, n_probs=10, temperature=0)
            best = answer["completion_probabilities"][0]["top_logprobs"]
            worst.append(max(abs(entry["logprob"] - float(scores[end - 1, entry["id"]])) for entry in best))
        if any("expert" in name for name in export.config_values):
            worst = sorted(worst)[: max(1, 3 * len(worst) // 4)]  # rounding lets a router choose others here and there
        limit = ROUNDED[kind] * math.sqrt(config.num_hidden_layers)
        assert max(worst) <= limit, f"log-probabilities differ by {max(worst):.2g}, more than {limit:.2g}"
        return f"same tokens; log-probabilities differ by {max(worst):.1g} at most"

    return check


def version(package: str) -> str:
    try:
        return f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def run(check: Callable[[Export], str], package: str | None, export: Export) -> bool:
    """Carry out one check, of a package or of transformers itself, and print its line; returns whether it is right."""
    name = f"{package}{version(package)}" if package else check.__name__
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            told = f"ok             {check(export)}"
    except NotForIt as reason:
        told = f"left out       {reason}"
    except Exception as error:
        # Tools raise what they like.
        missing = package not in (None, "transformers") and isinstance(error, ImportError)
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        told = f"{'not installed' if missing else 'failed':15}{why}"
    print(f"{name:24} {told}", flush=True)
    return not told.startswith("failed")


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="an exported model, such as workspace/runs/NAME/model")
    parser.add_argument("--reference", type=Path, help="logits to compare with; written where there is no such file")
    parser.add_argument("--base", type=Path, help="folder of the model on which an adapter was trained")
    parser.add_argument("--gguf", type=Path, help="a file that descent export wrote of it")
    arguments = parser.parse_args(given)
    if not (weights_in(arguments.folder) / "config.json").is_file():
        parser.error(f"{arguments.folder} has no config.json, so it is no exported model")
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    getattr(transformers.logging, "disable_progress_bar", lambda: None)()
    torch.manual_seed(0)
    export = Export(arguments.folder, arguments.base)
    checks: list[tuple[Callable[[Export], str], str | None]] = [
        (names, None), (model, "transformers"), (tokenizer, None), (text, None), (batches, None), (pipeline, None),
        (peft_adapter, "peft"), (lm_eval, "lm_eval"), (trl, "trl"),
    ]  # fmt: skip
    if arguments.reference is not None:
        checks.insert(2, (compare_with(arguments.reference), None))
    if arguments.gguf is not None:
        checks.append((llama_cpp(arguments.gguf), "xllamacpp"))
    return 0 if all([run(check, package, export) for check, package in checks]) else 1


if __name__ == "__main__":
    sys.exit(main())
