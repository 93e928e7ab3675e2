"""Samples in a training: what its weights write after each validation, in TensorBoard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from training.tiny import in_processes, outcome, run_train, train_in_child, train_in_children
from transformers import GenerationMixin

from pipeline.config.loading import load_config
from pipeline.errors import ConfigError
from pipeline.evaluation.evaluate_config import SamplesConfig
from pipeline.evaluation.samples import continue_prompts
from pipeline.progress import Progress
from pipeline.stages.train import STAGE
from pipeline.telemetry.markdown import sample_markdown
from pipeline.training import loop
from pipeline.training.sampling import sample
from pipeline.training.train_state import TrainState

TAG = "samples"
SAMPLES: dict[str, Any] = {"num_samples": 2, "max_new_tokens": 6}


def test_they_are_those_of_the_weights_and_leave_no_trace(gpt2_inputs: dict[str, Path], tmp_path: Path) -> None:
    """Of a model with dropout."""
    prompts = ["w1 w2 w3", "w9"]
    run_train(gpt2_inputs, tmp_path / "with", samples={**SAMPLES, "prompts": prompts})
    run_train(gpt2_inputs, tmp_path / "without")
    one, other = (outcome(tmp_path / name, "output") for name in ("with", "without"))
    told = dict(one["tensorboard"].pop(TAG))
    assert one == other
    assert told.keys() == {6, 12}, "the validations"
    config = SamplesConfig(**SAMPLES)
    written = continue_prompts(tmp_path / "with/output/model", prompts, config, seed=3)
    assert told[12].decode() == "\n\n---\n\n".join(map(sample_markdown, written))
    assert told[6] != told[12]


def test_without_prompts_documents_of_the_validation_split_begin_them(
    gpt2_inputs: dict[str, Path], tmp_path: Path
) -> None:
    run_train(gpt2_inputs, tmp_path, samples=SAMPLES, max_steps=6)
    [(_, text)] = outcome(tmp_path, "output")["tensorboard"][TAG]
    parts = text.decode().split("\n\n---\n\n")
    assert len(parts) == 1, "the split has one document"
    for part in parts:
        prompt, _, written = part.partition("\n\n**goes on:**\n\n> ")
        assert 1 <= len(prompt.split()) <= 8
        assert all(word.startswith("w") for word in prompt.split())
        assert written


def test_writing_compiles_nothing(
    gpt2_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a training that goes on from a validation would come to the limit of compilations before its first step."""
    graphs: list[int] = []

    def counted(state: TrainState) -> str:
        graphs.append(counters["stats"]["unique_graphs"])
        text = sample(state)
        graphs.append(counters["stats"]["unique_graphs"])
        return text

    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled(module, backend="eager"))
    monkeypatch.setattr(loop, "sample", counted)
    torch._dynamo.reset()
    counters.clear()
    run_train(gpt2_inputs, tmp_path, samples=SAMPLES, torch_compile=True, max_steps=1, warmup_steps=0)
    assert graphs[0] == graphs[1] > 0


def train_with_a_failing_prompt(index: int, inputs: dict[str, Path], folder: Path, count: int) -> None:
    """The second prompt fails, in the last process."""
    generate = GenerationMixin.generate

    def failing(model: Any, input_ids: torch.Tensor, **settings: Any) -> Any:
        if len(input_ids[0]) == 4:
            raise RuntimeError("no room")
        return generate(model, input_ids, **settings)

    GenerationMixin.generate = failing
    said: list[str] = []
    Progress.say = lambda progress, line: said.append(line)
    samples = {**SAMPLES, "prompts": ["w9", "w1 w2 w3"]}
    run_train(inputs, folder, f"output{index}", index, count, samples=samples, max_steps=4, eval_steps=2)
    Path(folder, f"said{index}").write_text("\n".join(said))


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_training_ends_for_a_text_that_cannot_be_written(
    gpt2_inputs: dict[str, Path], tmp_path: Path, count: int
) -> None:
    assert in_processes(count, train_with_a_failing_prompt, gpt2_inputs, tmp_path, count) == [0] * count
    told = outcome(tmp_path, "output0")["tensorboard"][TAG]
    assert [step for step, _ in told] == [2, 4]
    for _, text in told:
        one, other = text.decode().split("\n\n---\n\n")
        assert "**goes on:**" in one
        assert other == "w1 w2 w3\n\n**not written:** RuntimeError: no room"
    said = (tmp_path / "said0").read_text()
    assert said.count("warning: 1 of 2 samples are not written (RuntimeError: no room)") == 1


@pytest.mark.slow
def test_killed_twice_in_the_middle_of_a_record_nothing_stands_there_twice(
    gpt2_inputs: dict[str, Path], tmp_path: Path
) -> None:
    """After kills in step 7 and in step 10 the last record of each file is cut off."""
    settings: dict[str, Any] = {"samples": SAMPLES, "logging_steps": 1, "telemetry_steps": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    assert train_in_child(gpt2_inputs, whole, **settings) == 0
    for forward in (13, 11):
        assert train_in_child(gpt2_inputs, killed, ("forward", forward, "SIGKILL"), **settings) == -9
        for path in (killed / "work/metrics.jsonl", max((killed / "work/tensorboard").iterdir())):
            content = path.read_bytes()
            path.write_bytes(content + content[-200:-100])
    assert train_in_child(gpt2_inputs, killed, **settings) == 0
    resumed, undisturbed = outcome(killed, "output2"), outcome(whole, "output0")
    assert [step for step, _ in resumed["tensorboard"][TAG]] == [6, 12]
    assert resumed == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("environ", [{"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, {}], ids=["parts", "copies"])
def test_processes_write_them_together(
    gpt2_inputs: dict[str, Path], tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert train_in_children(gpt2_inputs, tmp_path, 2, samples=SAMPLES) == [0, 0]
    assert [step for step, _ in outcome(tmp_path, "output0")["tensorboard"][TAG]] == [6, 12]


def test_a_model_that_writes_nothing_is_refused() -> None:
    configs = Path(__file__).parents[2] / "configs"
    STAGE.check(load_config(configs / "demo.yaml", ["train.samples={}"]))
    with pytest.raises(ConfigError, match=r"train\.samples: a model of the task classification writes no text"):
        STAGE.check(load_config(configs / "classification.yaml", ["train.samples={}"]))
