"""What several processes find together, each with a part of the model or all of it, is what one finds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_bytes import LiveBytes
from safetensors.torch import load_file
from training.tiny import LLAMA, in_processes, make_inputs

from pipeline.distributed.collectives import joined
from pipeline.evaluation.benchmarks import Exported
from pipeline.evaluation.benchmarks.answer_likelihoods import answer_likelihoods
from pipeline.evaluation.evaluate_config import SamplesConfig
from pipeline.evaluation.losses import iterate_losses
from pipeline.evaluation.predictions import predict
from pipeline.evaluation.samples import write_samples
from pipeline.evaluation.trained_model import TrainedModel, load_trained
from pipeline.modeling.sharding import is_sharded
from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.tokenizer_folder import load_tokenizer

DEEP = {**LLAMA, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 16, "tie_word_embeddings": False}
ANSWERS = [("w3 w4", " w5"), ("w9", " w9 w10 w11"), ("w20 w21 w22", " w7"), ("w3 w4", " w6 w7"), ("w9", " w2")]
PROMPTS = ["w3 w4", "w9", "w20 w21 w22"]


def evaluate(index: int, inputs: dict[str, Path], folder: Path, environ: dict[str, str]) -> None:
    os.environ.update(environ)
    device, meter = torch.device("cpu"), LiveBytes()
    split = PackedSplit.open(inputs["pack"], inputs["encode"], "validation")
    model_folder = inputs["model"] / "model"
    with joined("test", device) as processes, meter:
        model = load_trained(model_folder, device, processes.dims)
        assert is_sharded(model) == bool(environ)
        batch_size = 3 if processes.world_size > 1 else 8
        parts = [*iterate_losses(model, split, batch_size, device, stride=5, processes=processes)]
        logits = predict(model, split, 1, device, processes=processes)
        samples = write_samples(
            model,
            load_tokenizer(model_folder),
            PROMPTS,
            SamplesConfig(max_new_tokens=5, temperature=1.0),
            seed=3,
            eos_token_id=1,
            pad_token_id=0,
            device=device,
            processes=processes,
        )
        texts = [sample["text"] for sample in samples]
        exported = Exported(TrainedModel(model, device, processes), model_folder, 16, batch_size=2)
        answers = np.array([one.nats for one in answer_likelihoods(exported, ANSWERS, lambda number: None)])
    nll = np.concatenate([part.nll for part in parts])
    np.savez(folder / f"{index}.npz", nll=nll, logits=logits, answers=answers)
    (folder / f"{index}.json").write_text(json.dumps({"texts": texts, "peak": meter.peak}))


def found(folder: Path, index: int) -> tuple[Any, dict[str, Any]]:
    return np.load(folder / f"{index}.npz"), json.loads((folder / f"{index}.json").read_text())


@pytest.mark.parametrize("environ", [{"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, {}], ids=["parts", "copies"])
def test_processes_find_together_what_one_finds(tmp_path, environ):
    inputs = make_inputs(tmp_path / "inputs", "llama", DEEP)
    size = sum(tensor.nbytes for tensor in load_file(inputs["model"] / "model" / "model.safetensors").values())
    for name, count, environment in (("alone", 1, {}), ("together", 2, environ)):
        (tmp_path / name).mkdir()
        assert in_processes(count, evaluate, inputs, tmp_path / name, environment) == [0] * count
    arrays, told = found(tmp_path / "alone", 0)
    assert len(arrays["nll"]) == 100
    assert told["peak"] > size
    for index in range(2):
        others, tells = found(tmp_path / "together", index)
        assert others["nll"].tolist() == arrays["nll"].tolist()
        assert others["logits"] == pytest.approx(arrays["logits"], rel=1e-4, abs=1e-6)
        assert tells["texts"] == told["texts"]
        assert others["answers"] == pytest.approx(arrays["answers"], rel=1e-5)
        # A half, and of sixteen blocks the one at work, the next one, and buffers through which they come.
        assert tells["peak"] < 0.8 * size if environ else tells["peak"] > size
