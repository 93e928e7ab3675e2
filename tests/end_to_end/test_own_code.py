"""A source, a step, a filter, an augmentation, a tokenizer and an optimizer of the user's own, by path, run as those of
the project do."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from harness import Project
from safetensors.torch import load_file
from tokenizers import Tokenizer

from pipeline.corpus.document_shards import read_documents

ROOT = Path(__file__).parents[2]

SOURCE = '''\
from pathlib import Path

from pipeline.corpus.sources import Source


class Diary(Source):
    """One document a paragraph of a diary."""

    path: Path
    """The diary."""

    def find_files(self):
        return {self.path: self.path.name}

    def read(self, parts, scratch):
        for number, text in enumerate(self.path.read_text().split("\\n\\n")):
            yield self.document(f"{self.path.name}#{number}", text)
'''

REST = '''\
from __future__ import annotations

from pydantic import Field

from pipeline.corpus.augmentations import Augmentation
from pipeline.corpus.filters import Filter
from pipeline.corpus.steps import Step


class SpellOut(Step):
    """Write a sign as a word."""

    sign: str = "&"
    word: str = "and"

    def apply(self, text):
        return text.replace(self.sign, self.word)


class NoLegalese(Filter):
    """Drop documents with more than a few words of lawyers."""

    limit: int = Field(default=0, ge=0)
    """Most of them."""

    def reason_to_drop(self, document):
        return "legalese" if document.text.count("hereinafter") > self.limit else None


class Reverse(Augmentation):
    """Turn the words around."""

    def alter(self, text, seed):
        words = text.split()
        return " ".join(reversed(words)), len(words)
'''

WORDS = '''\
from collections import Counter

from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline.tokens.tokenizers import TrainedTokenizer

SPECIAL = ["<pad>", "<|endoftext|>", "<unk>"]


class Words(TrainedTokenizer):
    """What stands between white space is a token."""

    def train(self, texts):
        counts = Counter(word for text in texts for word in text.split())
        frequent = [word for word, count in counts.most_common(self.vocab_size) if count >= self.min_frequency]
        vocabulary = {token: index for index, token in enumerate([*SPECIAL, *frequent])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return tokenizer
'''

OPTIMIZER = '''\
import torch


class Signs(torch.optim.Optimizer):
    """Steps by the sign of the gradient."""

    def __init__(self, params, lr=1.0, scale=1.0, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "scale": scale, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * group["scale"] * parameter.grad.sign()
'''

MEASURED = '''\
from pipeline.evaluation.metrics import LabelMetric, TextMetric
from pipeline.tasks.causal_lm import CausalLm


class Steep(CausalLm):
    """Every target costs as much again."""

    type: str

    def loss_sums(self, output, batch, config):
        plain = super().loss_sums(output, batch, config)
        return plain._replace(total=FACTOR * plain.total, parts={"loss": FACTOR * plain.parts["loss"]})


FACTOR = 2


class TokensPerByte(TextMetric):
    """How much the tokenizer joins."""

    label = "tokens a byte"

    def compute(self, totals):
        return totals.tokens / totals.bytes


class Close(LabelMetric):
    """Numbers that are off by less than half a unit."""

    measures = ("numbers",)

    def compute(self, predictions, references):
        return float((abs(predictions - references) < 0.5).mean())
'''

CONFIG = """\
run: {name: tiny, seed: 1}
ingest: {sources: [{name: mine, type: "sources.py:Diary", path: diary.txt}]}
normalize: {steps: [{type: "./rest.py:SpellOut", word: und}, {type: collapse_whitespace}]}
curate:
  filters: [{type: min_chars, value: 5}, {type: "./rest.py:NoLegalese"}]
  validation_fraction: 0.2
  test_fraction: 0.2
augment: {fraction: 1.0, operations: [{type: "./rest.py:Reverse"}]}
tokenizer: {vocab_size: 300}
pack: {block_size: 16}
model:
  architecture: llama
  config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
train: {max_steps: 1, global_batch_size: 2, per_device_train_batch_size: 2}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "sources.py").write_text(SOURCE)
    (tmp_path / "rest.py").write_text(REST)
    diary = [f"Day {n}: Jack & Jill went up hill number {n} hereinafter." for n in range(5)]
    diary += [f"Night {n}: Jill & Jack came down the hill of size {n * n}." for n in range(60)]
    (tmp_path / "diary.txt").write_text("\n\n".join(diary))
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return Project(tmp_path)


def test_own_code_runs_and_its_file_is_part_of_the_key(project: Project) -> None:
    project.run("--until", "augment", "run.num_workers=2")
    train = list(read_documents(project.artifact("augment") / "train"))
    originals = [document for document in train if document.parent is None]
    copies = {document.parent: document for document in train if document.parent is not None}
    assert all(re.fullmatch(r"Night \d+: Jill und Jack came down the hill of size \d+\.", d.text) for d in originals)
    assert all(copies[d.id].text.split() == d.text.split()[::-1] for d in originals)
    assert copies[originals[0].id].changes == ["normalize:./rest.py:SpellOut", "augment:./rest.py:Reverse(12 words)"]
    assert json.loads((project.artifact("curate") / "manifest.json").read_text())["summary"]["dropped"] == {
        "legalese": 5
    }
    assert set(project.run("--until", "augment").values()) == {"reused"}

    (project.folder / "rest.py").write_text(REST.replace('"hereinafter"', '"number"'))
    plan = project.plan("--until", "augment")
    assert plan["ingest"]["action"] == "reuse"
    assert (plan["normalize"]["action"], plan["normalize"]["reasons"]) == ("run", ["source ./rest.py changed"])
    outcomes = project.run("--until", "augment")
    assert outcomes == {"ingest": "reused", "normalize": "built", "curate": "built", "augment": "built"}
    plan = project.plan("curate.filters.1.limit=1", "--until", "curate")
    assert plan["curate"]["reasons"] == ["curate.filters.1.limit 0 -> 1"]


def test_a_tokenizer_of_ones_own_trains_and_its_file_is_part_of_the_key(project: Project) -> None:
    words = project.folder / "words.py"
    words.write_text(WORDS)
    given = ("tokenizer={type: './words.py:Words'}", "--until", "encode")
    project.run(*given)
    tokenizer = Tokenizer.from_file(str(project.artifact("tokenizer") / "tokenizer.json"))
    assert tokenizer.encode("Jack und Jill zzz").tokens == ["Jack", "und", "Jill", "<unk>"]
    warnings = json.loads((project.artifact("tokenizer") / "manifest.json").read_text())["summary"]["warnings"]
    assert "do not come back" in warnings[0]
    assert set(project.run(*given).values()) == {"reused"}

    words.write_text(WORDS.replace("frequent = [", "frequent = [word for word in ()] or ["))
    plan = project.plan(*given)
    assert (plan["augment"]["action"], plan["tokenizer"]["reasons"]) == ("reuse", ["source ./words.py changed"])
    words.write_text(WORDS.replace('"<pad>", "<|endoftext|>"', '"<|endoftext|>", "<pad>"'))
    result = project.descent("run", "tiny.yaml", *given)
    assert result.code == 78
    assert "tokenizer.type: ./words.py:Words gives a vocabulary without <pad> as id 0" in result.err.splitlines()[-1]


def test_an_optimizer_of_ones_own_moves_weights_and_its_file_is_part_of_the_key(project: Project) -> None:
    own = project.folder / "own.py"
    own.write_text(OPTIMIZER)
    given = ("train.optim=./own.py:Signs", "train.optim_args={scale: 0.5}", "train.learning_rate=0.25")
    project.run(*given, "--until", "train")
    before, after = (load_file(project.artifact(stage) / "model/model.safetensors") for stage in ("model", "train"))
    moved = (after["model.norm.weight"] - before["model.norm.weight"]).abs()
    assert torch.allclose(moved[moved > 0], torch.tensor(0.125), atol=1e-6)
    assert moved.count_nonzero() > len(moved) // 2

    own.write_text(OPTIMIZER.replace(".sign()", ".sign() * 2"))
    plan = project.plan(*given, "--until", "train")
    assert (plan["model"]["action"], plan["train"]["reasons"]) == ("reuse", ["source ./own.py changed"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./none.py:Signs", "./none.py:Signs cannot be used: ./none.py cannot be loaded: there is no such file; mend"),
        ("./own.py:Sings", "./own.py has no class 'Sings'; did you mean Signs?"),
        ("./own.py:Plain", "./own.py:Plain is no Optimizer; derive it from torch.optim.Optimizer"),
        ("./own.py:Rigid", "./own.py:Rigid refuses its arguments: "),
    ],
)
def test_an_optimizer_of_ones_own_that_cannot_be_had_is_named(project: Project, spec: str, message: str) -> None:
    rigid = "\n\nclass Plain:\n    pass\n\n\nclass Rigid(Signs):\n    def __init__(self, params):\n        pass\n"
    (project.folder / "own.py").write_text(OPTIMIZER + rigid)
    result = project.descent("run", "tiny.yaml", f"train.optim={spec}", "train.weight_decay=0", "--until", "train")
    assert result.code == 78
    assert message in result.err.splitlines()[-1]
    assert "train.optim" in result.err.splitlines()[-1]


def test_a_task_and_a_metric_of_ones_own_run_to_the_report_and_their_files_are_part_of_the_keys(
    project: Project,
) -> None:
    task, metrics = project.folder / "task.py", project.folder / "metrics.py"
    task.write_text(MEASURED)
    metrics.write_text(MEASURED)
    measured = "evaluate.metrics=[perplexity, './metrics.py:TokensPerByte']"
    own = ("model.task=./task.py:Steep", measured, "evaluate.samples.num_samples=0", "evaluate.baselines=false")
    project.run(*own)
    evaluation = json.loads((project.artifact("evaluate") / "evaluation.json").read_text())
    assert evaluation["task"] == "./task.py:Steep"
    test = evaluation["test"]
    assert test["TokensPerByte"] == test["tokens"] / test["bytes"]
    assert "tokens a byte" in (project.artifact("report") / "report.html").read_text()
    summary = json.loads((project.artifact("train") / "manifest.json").read_text())["summary"]
    # Random weights: every target costs log(vocabulary) nats, here twice.
    assert summary["final_loss"] == pytest.approx(2 * math.log(300), rel=0.05)
    assert summary["eval_loss"] == pytest.approx(math.log(300), rel=0.05)
    assert set(project.run(*own).values()) == {"reused"}

    metrics.write_text(MEASURED.replace("totals.tokens / totals.bytes", "totals.bytes / totals.tokens"))
    plan = project.plan(*own)
    assert (plan["train"]["action"], plan["evaluate"]["reasons"]) == ("reuse", ["source ./metrics.py changed"])
    task.write_text(MEASURED.replace("FACTOR = 2", "FACTOR = 3"))
    plan = project.plan(*own)
    assert (plan["encode"]["action"], plan["pack"]["reasons"]) == ("reuse", ["source ./task.py changed"])
    outcomes = project.run(*own)
    assert (outcomes["pack"], outcomes["model"], outcomes["train"]) == ("built", "built", "built")
    summary = json.loads((project.artifact("train") / "manifest.json").read_text())["summary"]
    assert summary["final_loss"] == pytest.approx(3 * math.log(300), rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("model.task=./none.py:Steep",), "model.task: ./none.py cannot be loaded: there is no such file"),
        (("model.task=./task.py:Step",), "model.task: ./task.py has no class 'Step'; did you mean Steep?"),
        (("model.task=./task.py:Close",), "model.task: ./task.py:Close is no Task; derive it from pipeline.tasks.Task"),
        (("model.task=causal",), "model.task: got 'causal'; allowed: 'causal_lm', 'classification' or"),
        (("evaluate.metrics=[./task.py:Close]",), "evaluate.metrics: Close is not measured in causal_lm; choose from"),
        (("evaluate.metrics=[{type: evaluate, path: f1}]",), "evaluate.metrics: f1 is not measured in causal_lm"),
        (("evaluate.metrics=[perplexty]",), "evaluate.metrics.0.type: got 'perplexty'; allowed: "),
    ],
)
def test_a_task_or_metric_that_does_not_fit_is_named(project: Project, settings: tuple[str, ...], message: str) -> None:
    (project.folder / "task.py").write_text(MEASURED)
    result = project.descent("plan", "tiny.yaml", *settings)
    assert (result.code, len(result.err.splitlines())) == (78, 1)
    assert message in result.err


def test_own_code_runs_in_worker_processes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from pipeline.config.loading import load_config

    monkeypatch.chdir(project.folder)
    config = load_config(Path("tiny.yaml"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        (step, _) = config.normalize.steps
        assert pool.submit(step.apply, "a & b").result() == "a und b"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./none.py:NoLegalese", "./none.py cannot be loaded: there is no such file; mend it or its path"),
        ("./rest.py:NoLegalise", "./rest.py has no class 'NoLegalise'; did you mean NoLegalese?"),
        ("./rest.py:SpellOut", "./rest.py:SpellOut is no Filter; derive it from pipeline.corpus.filters.Filter"),
        ("./broken.py:X", "./broken.py cannot be loaded: NameError: name 'nothing' is not defined; mend it"),
        ("no.such.module:X", "no.such.module cannot be loaded: ModuleNotFoundError: No module named 'no'; mend"),
        (
            "pipeline.corpus.filters:MinChars",
            "pipeline.corpus.filters:MinChars is min_chars already; a class of your own",
        ),
    ],
)
def test_own_code_that_cannot_be_had_is_named(project: Project, spec: str, message: str) -> None:
    (project.folder / "broken.py").write_text("nothing\n")
    result = project.descent("plan", "tiny.yaml", f"curate.filters=[{{type: '{spec}'}}]", "--until", "curate")
    assert (result.code, len(result.err.splitlines())) == (78, 1)
    assert result.err.startswith(f"descent: command line: curate.filters.0: {message}")


def test_settings_of_own_code_are_checked_like_others(project: Project) -> None:
    def plan(filters: str) -> str:
        result = project.descent("plan", "tiny.yaml", f"curate.filters=[{filters}]")
        assert (result.code, len(result.err.splitlines())) == (78, 1)
        return result.err

    assert "curate.filters.0.limit: got -1; " in plan("{type: './rest.py:NoLegalese', limit: -1}")
    assert "curate.filters.0.lmit: unknown key; did you mean limit?" in plan("{type: './rest.py:NoLegalese', lmit: 1}")


def test_the_readme_shows_code_that_runs(project: Project) -> None:
    readme = (ROOT / "README.md").read_text()
    code = re.search(r"^    (?=from pipeline\.corpus\.filters).*?(?=^\S)", readme, re.MULTILINE | re.DOTALL)
    assert code is not None
    (project.folder / "my_filters.py").write_text(re.sub(r"^    ", "", code[0], flags=re.MULTILINE))
    setting = re.search(r"- (\{type: \./my_filters\.py:.*\})", readme)
    assert setting is not None
    project.run("--until", "curate", f"curate.filters=[{setting[1]}]")
    summary = json.loads((project.artifact("curate") / "manifest.json").read_text())["summary"]
    assert summary["documents_out"] <= 65
