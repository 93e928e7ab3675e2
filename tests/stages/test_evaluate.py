from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from evaluation.tiny import tiny_model
from tokens.artifacts import PROSE, run_stage, write_split
from tokens.designs import Design
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import DivergedError
from pipeline.evaluation.evaluate_config import EvaluateConfig
from pipeline.stages.encode import STAGE as ENCODE
from pipeline.stages.evaluate import STAGE, main_result
from pipeline.stages.pack import STAGE as PACK
from pipeline.stages.tokenizer import STAGE as TOKENIZER
from pipeline.tasks import main_metric
from pipeline.tasks.causal_lm import CausalLm
from pipeline.tokens.encoding import EncodeConfig
from pipeline.tokens.packing import PackConfig
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.pretrained import Pretrained

BLOCK = 16
SAMPLES = {"max_new_tokens": 6, "num_samples": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("artifacts")
    folders = {name: root / name for name in ("curate", "augment", "tokenizer", "encode", "pack", "model", "train")}
    write_split(folders["curate"] / "train", PROSE)
    write_split(folders["curate"] / "validation", PROSE[:2])
    write_split(folders["curate"] / "test", [text.upper() for text in PROSE[:7]], sources=("books", "letters"))
    write_split(folders["augment"] / "train", PROSE)
    run_stage(TOKENIZER, ByteLevelBpe(vocab_size=300), folders, folders["tokenizer"])
    run_stage(ENCODE, EncodeConfig(), folders, folders["encode"])
    run_stage(PACK, PackConfig(block_size=BLOCK), folders, folders["pack"])
    tiny_model(300).save_pretrained(folders["train"] / "model")
    tiny_model(300, seed=9).save_pretrained(folders["model"] / "model")
    for stage in ("model", "train"):
        AutoTokenizer.from_pretrained(folders["tokenizer"]).save_pretrained(folders[stage] / "model")
    return folders


def test_its_identity_is_what_it_reads() -> None:
    assert STAGE.inputs == ("train", "model", "pack/train", "pack/test", "curate/train", "curate/test")
    assert STAGE.reads == ("encode",)
    assert EvaluateConfig(per_device_eval_batch_size=1).identity() == EvaluateConfig().identity()
    assert EvaluateConfig(stride=2).identity() != EvaluateConfig().identity()


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Path]) -> dict:
    output = tmp_path_factory.mktemp("evaluate") / "out"
    summary, _ = run_stage(STAGE, EvaluateConfig(samples=SAMPLES), inputs, output)
    assert sorted(path.name for path in output.iterdir()) == ["documents.parquet", "evaluation.json"]
    assert json.loads((output / "evaluation.json").read_text()) == summary
    documents = pq.read_table(output / "documents.parquet").to_pydict()
    for figure in ("tokens", "bytes", "documents"):
        assert sum(documents[figure]) == summary["test"][figure]
    assert sum(documents["nll"]) / sum(documents["tokens"]) == pytest.approx(summary["test"]["loss"], rel=1e-12)
    assert {*documents["source"]} == summary["sources"].keys()
    return summary


def test_bits_per_byte_by_hand(evaluation: dict, inputs: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(inputs["train"] / "model")
    stream = torch.tensor(np.fromfile(inputs["encode"] / "test/stream.ds", "<u2").astype(np.int64))
    nats = math.log(300)
    for start in range(0, len(stream) - 1, BLOCK):
        window = stream[start : start + BLOCK + 1]
        with torch.no_grad():
            log_probabilities = model(input_ids=window[None, :-1]).logits[0].double().log_softmax(-1)
        nats -= log_probabilities.gather(-1, window[1:, None]).sum().item()
    num_bytes = sum(len(text.upper().encode()) for text in PROSE[:7])
    test = evaluation["test"]
    assert (test["tokens"], test["bytes"], test["documents"]) == (len(stream), num_bytes, 7)
    # Float32 losses of about 6 nats.
    assert test["loss"] == pytest.approx(nats / len(stream), rel=1e-5)
    assert test["perplexity"] == pytest.approx(math.exp(test["loss"]))
    assert test["bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
    assert test["bits_per_byte"] == pytest.approx(test["loss"] * test["tokens"] / math.log(2) / test["bytes"])


def test_sources_add_up(evaluation: dict) -> None:
    assert list(evaluation["sources"]) == ["books", "letters"]
    for unit in ("tokens", "bytes", "documents"):
        assert sum(part[unit] for part in evaluation["sources"].values()) == evaluation["test"][unit]
    bits = sum(part["bits_per_byte"] * part["bytes"] for part in evaluation["sources"].values())
    assert bits == pytest.approx(evaluation["test"]["bits_per_byte"] * evaluation["test"]["bytes"])


def test_baselines_and_samples_are_there(evaluation: dict) -> None:
    assert list(evaluation["baselines"]) == ["before_training", "unigram", "bigram", "xz", "xz_primed"]
    for baseline in evaluation["baselines"].values():
        assert 0 < baseline["bits_per_byte"] < 20
        assert baseline["what"]
    assert [sample["prompt"] for sample in evaluation["samples"]] == [
        "THE PIPELINE READS RAW TEXT AND TRAINS A",
        "IN 1948 SHANNON MEASURED THE ENTROPY OF ENGLISH,",
    ]
    assert all(sample["text"] for sample in evaluation["samples"])


def test_where_the_loss_comes_from_adds_up(evaluation: dict) -> None:
    """All tokens but the first of the stream, which was not predicted."""
    test = evaluation["test"]
    nats = test["loss"] * test["tokens"] - math.log(300)
    for name in ("by_position", "by_frequency"):
        assert sum(one["tokens"] for one in evaluation[name]) == test["tokens"] - 1
        assert sum(one["tokens"] * one["loss"] for one in evaluation[name]) == pytest.approx(nats, rel=1e-9)
    assert test["token_accuracy"] <= test["top_5_accuracy"] <= 1
    worst = [one["bits_per_byte"] for one in evaluation["worst_documents"]]
    assert (len(worst), worst) == (7, sorted(worst, reverse=True))
    bits = sum(one["bits_per_byte"] * one["bytes"] for one in evaluation["worst_documents"])
    assert bits == pytest.approx(test["bits_per_byte"] * test["bytes"])


def test_what_a_sample_repeats_of_the_training_text_is_told(evaluation: dict, inputs: dict[str, Path]) -> None:
    assert [sample["copied"] for sample in evaluation["samples"]] == [None, None], "weights are random"
    context = SimpleNamespace(inputs=inputs)
    written = [{"prompt": "", "text": PROSE[2]}, {"prompt": "", "text": f"zq zq {PROSE[3][:60]} zq"}]
    first, second = CausalLm()._with_copies(context, written)
    assert first["copied"]["tokens"] == first["copied"]["of"] >= 8
    assert first["copied"]["text"] == PROSE[2]
    assert 8 <= second["copied"]["tokens"] < second["copied"]["of"]
    assert second["copied"]["text"].strip() in PROSE[3]


def test_the_model_before_training_is_scored_as_the_trained_one_is(
    tmp_path: Path, inputs: dict[str, Path], evaluation: dict
) -> None:
    section = EvaluateConfig(baselines=False, samples={"num_samples": 0})
    alone, _ = run_stage(STAGE, section, {**inputs, "train": inputs["model"]}, tmp_path / "out")
    before = evaluation["baselines"]["before_training"]["bits_per_byte"]
    assert before == pytest.approx(alone["test"]["bits_per_byte"], rel=1e-12)
    assert before != evaluation["test"]["bits_per_byte"]


def test_a_second_run_gives_the_same_bytes(tmp_path: Path, inputs: dict[str, Path], evaluation: dict) -> None:
    again, _ = run_stage(STAGE, EvaluateConfig(samples=SAMPLES), inputs, tmp_path / "out", num_workers=2)
    assert again == evaluation


def test_what_is_not_asked_for_is_left_out(tmp_path: Path, inputs: dict[str, Path]) -> None:
    section = EvaluateConfig(metrics=["bits_per_byte"], baselines=False, samples={"num_samples": 0}, stride=4)
    summary, _ = run_stage(STAGE, section, inputs, tmp_path / "out")
    assert (summary["baselines"], summary["samples"]) == ({}, [])
    assert "perplexity" not in summary["test"]
    assert "token_accuracy" not in summary["sources"]["books"]


def test_given_prompts_are_used(tmp_path: Path, inputs: dict[str, Path]) -> None:
    section = EvaluateConfig(baselines=False, samples={"prompts": ["Once", ""], "max_new_tokens": 2})
    summary, _ = run_stage(STAGE, section, inputs, tmp_path / "out")
    assert [sample["prompt"] for sample in summary["samples"]] == ["Once", ""]


SCRIPT = """
import datasets
import evaluate


class Shared(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"told": sum(len(p) * len(r) for p, r in zip(predictions, references))}
"""


def test_a_metric_of_the_evaluate_library_compares_samples_with_how_their_documents_go_on(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    (tmp_path / "told.py").write_text(SCRIPT)
    metrics = ["bits_per_byte", {"type": "evaluate", "path": str(tmp_path / "told.py")}]
    section = EvaluateConfig(metrics=metrics, baselines=False, samples=SAMPLES)
    summary, _ = run_stage(STAGE, section, inputs, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(inputs["train"] / "model")
    expected = 0
    for sample, text in zip(summary["samples"], (PROSE[0].upper(), PROSE[3].upper()), strict=True):
        assert text.startswith(sample["prompt"])
        rest = tokenizer(text[len(sample["prompt"]) :], add_special_tokens=False)["input_ids"]
        expected += len(sample["text"]) * len(tokenizer.decode(rest[: SAMPLES["max_new_tokens"]]))
    assert summary["test"]["told"] == expected > 0
    assert summary["figures"] == [{"key": "told", "name": "told", "style": "real", "better": "higher"}]


def test_a_diverged_model_is_named(tmp_path: Path, inputs: dict[str, Path]) -> None:
    model = tiny_model(300)
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan
    model.save_pretrained(tmp_path / "train/model")
    with pytest.raises(DivergedError, match="not finite"):
        run_stage(STAGE, EvaluateConfig(), {**inputs, "train": tmp_path / "train"}, tmp_path / "out")


def with_tokenizer(design: Design, root: Path, test: list[str], block_size: int) -> dict[str, Path]:
    """Artifacts of everything before evaluation, with a pretrained tokenizer and a model of random weights."""
    folders = {name: root / name for name in ("curate", "augment", "tokenizer", "encode", "pack", "model", "train")}
    design.write(root / "theirs")
    for split in ("curate/train", "curate/validation", "augment/train"):
        write_split(root / split, PROSE[:5])
    write_split(root / "curate/test", test)
    section = Pretrained(pretrained=str(root / "theirs"))
    run_stage(TOKENIZER, section, folders, folders["tokenizer"])
    run_stage(ENCODE, EncodeConfig(), folders, folders["encode"])
    run_stage(PACK, PackConfig(block_size=block_size), folders, folders["pack"])
    tokenizer = AutoTokenizer.from_pretrained(folders["tokenizer"])
    for stage in ("model", "train"):
        tiny_model(len(tokenizer)).save_pretrained(folders[stage] / "model")
    tokenizer.save_pretrained(folders["train"] / "model")
    return folders


def nats_of(model, ids: list[int]) -> list[float]:
    """Negative log-likelihoods of all ids but the first."""
    with torch.no_grad():
        log_probabilities = model(input_ids=torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)
    return [-log_probabilities[position, token].item() for position, token in enumerate(ids[1:])]


@pytest.mark.parametrize(("template", "num_before"), [("bos", 1), ("cls and sep", 1), ("two before", 2), ("none", 0)])
def test_first_tokens_cost_what_they_cost_a_user_of_the_export(tmp_path: Path, template: str, num_before: int) -> None:
    text = "Text of the test split."
    folders = with_tokenizer(Design(template=template), tmp_path, [text], 64)
    section = EvaluateConfig(samples={"num_samples": 0})
    summary, _ = run_stage(STAGE, section, folders, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folders["train"] / "model")
    tokenizer = AutoTokenizer.from_pretrained(folders["train"] / "model")
    ids = [*tokenizer(text).input_ids, tokenizer.eos_token_id]
    nats = nats_of(model, ids)[max(0, num_before - 1) :]
    if num_before == 0:
        nats.insert(0, math.log(len(tokenizer)))
    test = summary["test"]
    # Float32 losses of about 6 nats.
    assert (test["tokens"], test["loss"]) == (len(nats), pytest.approx(sum(nats) / len(nats), rel=1e-5))
    assert test["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / len(text), rel=1e-5)


def test_what_stands_before_every_text_is_context_in_all_documents(tmp_path: Path) -> None:
    texts = ["Text of the test split.", "and then", "A model"]
    folders = with_tokenizer(Design(template="bos"), tmp_path, texts, 100)
    section = EvaluateConfig(samples={"num_samples": 0})
    summary, _ = run_stage(STAGE, section, folders, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folders["train"] / "model")
    tokenizer = AutoTokenizer.from_pretrained(folders["train"] / "model")
    stream = [token for text in texts for token in [*tokenizer(text).input_ids, tokenizer.eos_token_id]]
    bos = tokenizer.bos_token_id
    nats = [loss for loss, token in zip(nats_of(model, stream), stream[1:], strict=True) if token != bos]
    assert len(nats) == len(stream) - len(texts)
    assert summary["test"]["tokens"] == len(nats)
    assert summary["test"]["loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)

    train = [token for text in PROSE[:5] for token in [*tokenizer(text).input_ids[1:], tokenizer.eos_token_id]]
    counts = {token: train.count(token) + 1 for token in range(len(tokenizer))}
    bits = sum(-math.log2(counts[token] / sum(counts.values())) for token in stream if token != bos)
    num_bytes = sum(len(text.encode()) for text in texts)
    assert summary["baselines"]["unigram"]["bits_per_byte"] == pytest.approx(bits / num_bytes, rel=1e-9)


@pytest.mark.parametrize("test", [["In 1948", "and"], ["in 1948", "and"]])
@pytest.mark.parametrize("metrics", [None, ["bits_per_byte"]])
def test_there_are_no_bits_per_byte_where_test_documents_do_not_come_back(
    tmp_path: Path, test: list[str], metrics: list[str] | None
) -> None:
    folders = with_tokenizer(Design(normalizer="lowercase"), tmp_path, test, 64)
    section = EvaluateConfig(samples={"num_samples": 0}, metrics=metrics)
    found, _ = run_stage(STAGE, section, folders, tmp_path / "out")
    is_lost = test[0] != test[0].lower()
    assert found["round_trip"]["lost_documents"] == int(is_lost)
    for scores in (found["test"], *found["sources"].values()):
        assert ("bits_per_byte" in scores) == (not is_lost)
        assert ("perplexity" in scores) == (is_lost or metrics is None)
        assert scores["loss"] > 0
    assert list(found["baselines"]) == ([] if is_lost else ["before_training", "unigram", "bigram", "xz", "xz_primed"])
    reason = "the tokenizer loses text: 1 of 2 test documents do not come back from their tokens (at least 1 of 10 "
    assert found["withheld"].get("bits_per_byte", "").startswith(reason if is_lost else "")
    assert bool(found["withheld"]) == bool(found["warnings"]) == is_lost
    assert main_metric(found) == ("perplexity" if is_lost else "bits_per_byte")
    assert ("no bits per byte" in main_result(found)) == is_lost


def test_a_bit_a_document_is_charged_where_a_first_space_is_lost(tmp_path: Path) -> None:
    texts, section = ["and then", " A model"], EvaluateConfig(samples={"num_samples": 0})
    design = Design("BPE with byte fallback", puts_space_first=True, template="bos")
    lossy = with_tokenizer(design, tmp_path / "lossy", texts, 64)
    found, _ = run_stage(STAGE, section, lossy, tmp_path / "lossy/out")
    assert (found["round_trip"]["lost_first_spaces"], found["withheld"]) == (1, {})
    nats = found["test"]["loss"] * found["test"]["tokens"]
    num_bytes = sum(map(len, texts))
    assert found["test"]["bits_per_byte"] == pytest.approx((nats / math.log(2) + 2) / num_bytes)
    # Without the space the tokens are the same.
    whole = with_tokenizer(design, tmp_path / "whole", ["and then", "A model"], 64)
    same, _ = run_stage(STAGE, section, whole, tmp_path / "whole/out")
    assert same["warnings"] == []
    assert same["test"]["loss"] == found["test"]["loss"]
    for scores in (lambda of: of["test"], lambda of: of["baselines"]["unigram"]):
        bits = scores(found)["bits_per_byte"] * num_bytes, scores(same)["bits_per_byte"] * (num_bytes - 1)
        assert bits[0] == pytest.approx(bits[1] + 2)
