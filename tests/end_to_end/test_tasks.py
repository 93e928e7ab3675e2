"""Classification and regression on labelled text: they beat what is told without reading, and are reused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from harness import STAGES, Project
from transformers import AutoModelForSequenceClassification, AutoTokenizer

CONFIG = """\
run: {name: tiny, seed: 7}
ingest: {sources: [{name: reviews, type: jsonl, paths: [reviews.jsonl], label_field: LABEL}]}
curate:
  filters: [{type: min_chars, value: 20}, {type: min_words, value: 3}]
  validation_fraction: 0.15
  test_fraction: 0.15
tokenizer: {vocab_size: 400}
pack: {block_size: 40}
model:
  task: TASK
  config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2}
train:
  global_batch_size: 8
  per_device_train_batch_size: 4
  learning_rate: 0.005
  warmup_steps: 4
  max_steps: 60
  logging_steps: 20
  eval_steps: 30
"""
PRAISE = ("splendid", "warm", "bright", "kind", "gentle")
BLAME = ("awful", "broken", "rude", "noisy", "stale")
NEUTRAL = (
    *("the", "of", "a", "room", "meal", "garden", "street", "music", "clerk", "we", "saw", "heard", "with", "and"),
    *("near", "quite", "often", "after", "rain"),
)


def write_reviews(folder: Path) -> list[str]:
    """300 reviews; the label is the side that most of their telling words take, or how many those are."""
    draw, texts, lines = random.Random(0), [], []
    for _ in range(300):
        words = [draw.choice(NEUTRAL) for _ in range(draw.randint(8, 25))]
        praise = 2 * (draw.random() < 0.65) - 1
        for _ in range(draw.randint(1, 3)):
            words.insert(draw.randrange(len(words)), draw.choice(PRAISE if praise > 0 else BLAME))
        texts.append(" ".join(words) + ".")
        score = sum(word in PRAISE for word in words) - sum(word in BLAME for word in words)
        lines.append({"text": texts[-1], "kind": "praise" if praise > 0 else "blame", "score": score / 2})
    (folder / "reviews.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return texts


def project_of(folder: Path, task: str, label: str) -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(CONFIG.replace("TASK", task).replace("LABEL", label))
    return Project(folder)


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = project_of(tmp_path_factory.mktemp("tasks"), "classification", "kind")
    write_reviews(project.folder)
    done = project.descent("run", "tiny.yaml")
    assert done.code == 0, done.err
    assert "; majority_class 0." in done.out
    assert "AutoModelForSequenceClassification" in done.out
    return project


def evaluation(project: Project) -> dict:
    return json.loads((project.artifact("evaluate") / "evaluation.json").read_text())


def test_classification_beats_the_most_frequent_class(classified: Project) -> None:
    found = evaluation(classified)
    majority = found["baselines"]["majority_class"]
    assert 0.5 < majority["accuracy"] < 0.8
    assert found["test"]["accuracy"] > majority["accuracy"] + 0.1
    assert found["test"]["f1_macro"] > majority["f1_macro"] + 0.3
    lines = (classified.workspace / "runs/tiny/metrics.jsonl").read_text().splitlines()
    assert "eval/accuracy" in json.loads(lines[-1])


def test_plain_transformers_tells_what_the_evaluation_saw(classified: Project) -> None:
    folder = classified.workspace / "runs/tiny/model"
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.id2label == {0: "blame", 1: "praise"}
    documents = [
        row
        for path in (classified.artifact("curate") / "test").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    texts = {row["id"]: row["text"] for row in documents}
    predictions = pq.read_table(classified.artifact("evaluate") / "predictions.parquet").to_pylist()
    inputs = tokenizer([texts[row["id"]] for row in predictions], return_tensors="pt", padding=True)
    with torch.no_grad():
        told = model(**inputs).logits.argmax(-1).tolist()
    assert [model.config.id2label[number] for number in told] == [row["prediction"] for row in predictions]
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "Its classes: blame, praise." in card
    assert "| majority class |" in card


def test_a_finished_run_is_reused_and_another_task_is_not(classified: Project) -> None:
    assert set(classified.actions().values()) == {"reuse"}
    # The other task differs from pack on; what comes before is kept.
    actions = classified.actions("model.task=regression")
    kept = STAGES[: STAGES.index("pack")]
    assert {actions[stage] for stage in kept} == {"reuse"}
    assert actions["pack"] == "run"
    assert {actions[stage] for stage in STAGES[STAGES.index("model") :]} == {"unknown"}
    assert classified.actions("train.label_smoothing_factor=0.1")["model"] == "reuse"


def test_classes_are_no_numbers(classified: Project) -> None:
    failed = classified.descent("run", "tiny.yaml", "model.task=regression", "run.name=wrong", "--until", "pack")
    assert failed.code == 65
    assert "is no finite number; mend it, or set model.task: classification" in failed.err
    assert "of the train split" in failed.err


def test_generate_says_that_the_model_writes_nothing(classified: Project) -> None:
    failed = classified.descent("generate", "tiny.yaml", "--prompt", "We saw")
    assert failed.code == 78
    assert "model.task classification: the model writes no text" in failed.err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pack.strategy=contiguous", "pack.strategy contiguous does not fit model.task classification"),
        ("evaluate.metrics=[mse]", "evaluate.metrics: mse is not measured in classification; choose from accuracy"),
        ("train.regression_loss=huber", "train.regression_loss and huber_delta are for model.task regression"),
        ("evaluate.stride=2", "evaluate.stride and samples are for language models"),
        ("model.architecture=bart_xl", "is no sequence classification model of transformers"),
    ],
)
def test_settings_of_another_task_are_refused(tmp_path: Path, setting: str, message: str) -> None:
    failed = project_of(tmp_path, "classification", "kind").descent("plan", "tiny.yaml", setting)
    assert (failed.code, message in failed.err) == (78, True), failed.err


def test_regression_beats_the_mean_of_training(classified: Project) -> None:
    project_of(classified.folder, "regression", "score")
    done = classified.descent("run", "tiny.yaml", "train.regression_loss=huber")
    assert done.code == 0, done.err
    found = evaluation(classified)
    assert found["test"]["mse"] < 0.5 * found["baselines"]["mean"]["mse"]
    assert found["test"]["pearson"] > 0.7
    assert found["baselines"]["mean"]["r2"] <= 0
    model = AutoModelForSequenceClassification.from_pretrained(classified.workspace / "runs/tiny/model")
    assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
