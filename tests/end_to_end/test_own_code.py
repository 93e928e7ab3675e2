"""One of each of the user's own, by path, as README shows them: they run as those of the project do, and the file of
each is part of the keys of what depends on it and of no others."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from harness import STAGES, Project, select
from safetensors.torch import load_file
from tokenizers import Tokenizer

from pipeline.corpus.document_shards import read_documents

README = Path(__file__).parents[2] / "README.md"

STAGE = """\
from pipeline.engine.stage import Stage

def run(context):
    longest = max((context.inputs["curate"] / "test").iterdir(), key=lambda path: path.stat().st_size)
    (context.output / "longest.txt").write_text(longest.name)
    return {}

STAGE = Stage("longest", version=1, run=run, inputs=("curate/test",))
"""
"""A stage of one's own."""

DESCENT = """\
from my_stage import STAGE
from pipeline import stages
from pipeline.engine.stage import in_order
from pipeline.stages import report

stages.STAGES = in_order(*stages.STAGES[:-1], STAGE, report.STAGE)

if __name__ == "__main__":
    from pipeline.main import main

    main()
"""
"""The command with its line in STAGES."""

SETTINGS = (
    "run.name=tiny",
    "curate.validation_fraction=0.2",
    "curate.test_fraction=0.2",
    "curate.near_duplicates=null",
    "augment.fraction=1.0",
    "pack.block_size=16",
    "model.config={hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2}",
    "train.max_steps=1",
    "train.global_batch_size=2",
    "train.per_device_train_batch_size=2",
    "train.learning_rate=0.25",
    "evaluate.samples.num_samples=0",
)
"""What makes README's configuration small."""

FROM_PACK = "pack model train evaluate report"
FROM_CURATE = f"curate augment tokenizer encode longest {FROM_PACK}"
EDITS = {
    "my_source.py": ("paragraph.", "paragraph of it.", f"ingest normalize {FROM_CURATE}"),
    "my_step.py": ("self.word)", "self.word).strip()", f"normalize {FROM_CURATE}"),
    "my_filter.py": ("hereinafter", "notwithstanding", FROM_CURATE),
    "my_augmentation.py": ("reversed(words)", "words[1:]", f"augment encode {FROM_PACK}"),
    "my_tokenizer.py": ("- 3", "- 4", f"tokenizer encode {FROM_PACK}"),
    "my_task.py": ("FACTOR = 2", "FACTOR = 3", FROM_PACK),
    "my_optimizer.py": (".sign()", ".sign() * 2", "train evaluate report"),
    "my_metric.py": ("totals.tokens / totals.bytes", "totals.bytes / totals.tokens", "evaluate report"),
    "my_stage.py": ("version=1", "version=2", "longest report"),
}
"""Of each file a change, and the stages that depend on it, the first of which reads it."""


class OwnProject(Project):
    """A project whose commands know a stage of its own."""

    servers: ClassVar = {}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "own_descent.py", *arguments, *(SETTINGS if arguments[0] in ("run", "plan") else ())]

    def copied(self, folder: Path) -> OwnProject:
        """The project in another folder, where a test may change it."""
        return OwnProject(shutil.copytree(self.folder, folder, symlinks=True))

    def edit(self, name: str, old: str, new: str) -> None:
        code = (self.folder / name).read_text()
        assert old in code
        (self.folder / name).write_text(code.replace(old, new))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> OwnProject:
    """The files of README, a diary, and a stage."""
    folder = tmp_path_factory.mktemp("own")
    for block in re.findall(r"(?:^(?:    .*)?\n)+", README.read_text(), re.MULTILINE):
        code = re.sub(r"^    ", "", block.strip("\n"), flags=re.MULTILINE)
        for part in re.split(r"^(?=# \w+\.(?:py|yaml)$)", code, flags=re.MULTILINE):
            if name := re.match(r"# (my_\w+\.py|mine\.yaml)\n", part):
                (folder / name[1].replace("mine", "tiny")).write_text(part)
    diary = [f"Day {n}: Jack & Jill went up hill number {n} hereinafter." for n in range(5)]
    diary += [f"Night {n}: Jill & Jack came down the hill of size {n * n}." for n in range(60)]
    (folder / "diary.txt").write_text("\n\n".join(diary))
    (folder / "my_stage.py").write_text(STAGE)
    (folder / "own_descent.py").write_text(DESCENT)
    return OwnProject(folder)


@pytest.fixture(scope="module")
def done(written: OwnProject, tmp_path_factory: pytest.TempPathFactory) -> OwnProject:
    """One run with all of them, which no test changes."""
    project = written.copied(tmp_path_factory.mktemp("done") / "project")
    project.run("run.num_workers=2")
    return project


@pytest.fixture
def project(written: OwnProject, tmp_path: Path) -> OwnProject:
    """The files, to change; nothing was run."""
    return written.copied(tmp_path / "project")


def summary(project: Project, stage: str) -> dict[str, Any]:
    """The summary of a stage's artifact."""
    return json.loads((project.artifact(stage) / "manifest.json").read_text())["summary"]


def test_each_does_its_work(done: OwnProject) -> None:
    train = list(read_documents(done.artifact("augment") / "train"))
    originals = [document for document in train if document.parent is None]
    copies = {document.parent: document for document in train if document.parent is not None}
    assert all(re.fullmatch(r"Night \d+: Jill und Jack came down the hill of size \d+\.", d.text) for d in originals)
    assert all(copies[d.id].text.split() == d.text.split()[::-1] for d in originals)
    changes = ["normalize:./my_step.py:SpellOut", "augment:./my_augmentation.py:Reverse(12 edits)"]
    assert copies[originals[0].id].changes == changes
    assert summary(done, "curate")["dropped"] == {"legalese": 5}

    tokenizer = Tokenizer.from_file(str(done.artifact("tokenizer") / "tokenizer.json"))
    assert tokenizer.encode("Jack und Jill zzz").tokens == ["Jack", "und", "Jill", "<unk>"]

    # Random weights: every target costs log(vocabulary) nats, here twice.
    guessing = math.log(tokenizer.get_vocab_size())
    assert summary(done, "train")["final_loss"] == pytest.approx(2 * guessing, rel=0.05)
    assert summary(done, "train")["eval_loss"] == pytest.approx(guessing, rel=0.2)
    before, after = (load_file(done.artifact(stage) / "model/model.safetensors") for stage in ("model", "train"))
    moved = (after["model.norm.weight"] - before["model.norm.weight"]).abs()
    assert torch.allclose(moved[moved > 0], torch.tensor(0.125), atol=1e-6)
    assert moved.count_nonzero() > len(moved) // 2

    evaluation = json.loads((done.artifact("evaluate") / "evaluation.json").read_text())
    assert evaluation["task"] == "./my_task.py:Steep"
    assert evaluation["test"]["TokensPerByte"] == evaluation["test"]["tokens"] / evaluation["test"]["bytes"]
    assert "tokens a byte" in (done.artifact("report") / "report.html").read_text()
    assert (done.artifact("longest") / "longest.txt").read_text().endswith(".parquet")


def test_the_file_of_each_is_part_of_the_keys_of_what_depends_on_it_alone(done: OwnProject, tmp_path: Path) -> None:
    before = {stage: line["key"] for stage, line in done.plan().items() if line["action"] == "reuse"}
    assert len(before) == len(STAGES) + 1
    project = done.copied(tmp_path / "project")
    for name, (old, new, depending) in EDITS.items():
        project.edit(name, old, new)
        plan = project.plan()
        why = "stage version 1 -> 2" if name == "my_stage.py" else f"source ./{name} changed"
        first = plan[depending.partition(" ")[0]]
        assert (first["action"], first["reasons"]) == ("run", [why])
        assert first["key"] is not None
        assert {stage for stage, line in plan.items() if line["key"] != before[stage]} == set(depending.split())
        project.edit(name, new, old)

    project.edit("my_task.py", *EDITS["my_task.py"][:2])
    outcomes = project.run()
    assert (outcomes["encode"], outcomes["pack"], outcomes["train"]) == ("reused", "built", "built")
    loss, guessing = summary(project, "train")["final_loss"], summary(done, "train")["final_loss"]
    assert loss == pytest.approx(1.5 * guessing, rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./none.py:Signs", "./none.py:Signs cannot be used: ./none.py cannot be loaded: there is no such file; mend"),
        ("./my_optimizer.py:Sings", "./my_optimizer.py has no class 'Sings'; did you mean Signs?"),
        ("./my_optimizer.py:Plain", "./my_optimizer.py:Plain is no Optimizer; derive it from torch.optim.Optimizer"),
        ("./my_optimizer.py:Rigid", "./my_optimizer.py:Rigid refuses its arguments: "),
    ],
)
def test_an_optimizer_of_ones_own_that_cannot_be_had_is_named(
    done: OwnProject, tmp_path: Path, spec: str, message: str
) -> None:
    rigid = "\nclass Plain:\n    pass\n\nclass Rigid(Signs):\n    def __init__(self, params):\n        pass\n"
    project = done.copied(tmp_path / "project")
    with (project.folder / "my_optimizer.py").open("a") as code:
        code.write(rigid)
    result = project.descent("run", "tiny.yaml", f"train.optim={spec}", "train.weight_decay=0", "--until", "train")
    assert result.code == 78
    assert message in result.err.splitlines()[-1]
    assert "train.optim" in result.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.task=./none.py:Steep", "model.task: ./none.py cannot be loaded: there is no such file"),
        ("model.task=./my_task.py:Step", "model.task: ./my_task.py has no class 'Step'; did you mean Steep?"),
        (
            "model.task=./my_metric.py:Close",
            "model.task: ./my_metric.py:Close is no Task; derive it from pipeline.tasks.Task",
        ),
        ("model.task=causal", "model.task: got 'causal'; allowed: 'causal_lm', 'classification' or"),
        (
            "evaluate.metrics=[./my_metric.py:Close]",
            "evaluate.metrics: Close is not measured in ./my_task.py:Steep; choose from",
        ),
        ("evaluate.metrics=[accuracy]", "evaluate.metrics: accuracy is not measured in ./my_task.py:Steep"),
        ("evaluate.metrics=[perplexty]", "evaluate.metrics.0.type: got 'perplexty'; allowed: "),
    ],
)
def test_a_task_or_metric_that_does_not_fit_is_named(project: Project, setting: str, message: str) -> None:
    result = project.descent("plan", "tiny.yaml", setting)
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
        ("./my_filter.py:NoLegalise", "./my_filter.py has no class 'NoLegalise'; did you mean NoLegalese?"),
        ("./my_step.py:SpellOut", "./my_step.py:SpellOut is no Filter; derive it from pipeline.corpus.filters.Filter"),
        ("./broken.py:X", "broken.py:1 cannot be loaded: NameError: name 'nothing' is not defined; mend it"),
        ("no.such.module:X", "no.such.module cannot be loaded: ModuleNotFoundError: No module named 'no'; mend"),
        ("./late.py:X", "./late.py cannot be loaded: NameError: name 'Nowhere' is not defined; mend it or its path"),
        ("./numbered.py:X", "./numbered.py:X needs the line `type: str`"),
        ("./bare.py:X", "bare.py:3 cannot be loaded: limit = 3 needs a type, as in `share: float = 0.2`; mend it"),
        ("./misspelled.py:X", "./misspelled.py:X lacks reason_to_drop, which a Filter needs; it has reason_to_dorp"),
        (
            "pipeline.corpus.filters:MinChars",
            "pipeline.corpus.filters:MinChars is min_chars already; a class of your own",
        ),
    ],
)
def test_own_code_that_cannot_be_had_is_named(project: Project, spec: str, message: str) -> None:
    own = "from __future__ import annotations\nfrom pipeline.corpus.filters import Filter\nclass X(Filter):\n    "
    (project.folder / "broken.py").write_text("nothing\n")
    (project.folder / "late.py").write_text(f"{own}limit: Nowhere = 3\n")
    (project.folder / "numbered.py").write_text(f"{own}type: int = 3\n")
    (project.folder / "bare.py").write_text(f"{own}limit = 3\n")
    (project.folder / "misspelled.py").write_text(f"{own}def reason_to_dorp(self, document): pass\n")
    result = project.descent("plan", "tiny.yaml", f"curate.filters=[{{type: '{spec}'}}]", "--until", "curate")
    assert (result.code, len(result.err.splitlines())) == (78, 1)
    assert result.err.startswith(f"descent: command line: curate.filters.0: {message}")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_an_error_of_own_code_is_told_with_its_line(
    project: Project, num_processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.config.loading import load_config
    from pipeline.engine.runner import run
    from pipeline.errors import in_one_line

    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("pipeline.executors.base_session.WORKER_BYTES", 1)
    (project.folder / "fails.py").write_text(
        "from pipeline.corpus.filters import Filter\n"
        "class X(Filter):\n"
        "    def reason_to_drop(self, document):\n"
        "        return {}[document.id[:0]]\n"
    )
    overrides = ["curate.filters=[{type: './fails.py:X'}]", f"run.num_workers={num_processes}"]
    with pytest.raises(KeyError) as error:
        run(load_config(Path("tiny.yaml"), overrides), select(last="curate"))
    assert in_one_line(error.value) == "curate: fails.py:4: KeyError: ''"


def test_a_reason_that_is_no_text_is_refused(project: Project) -> None:
    (project.folder / "true.py").write_text(
        "from pipeline.corpus.filters import Filter\n"
        "class X(Filter):\n"
        "    def reason_to_drop(self, document):\n"
        "        return True\n"
    )
    result = project.descent("run", "tiny.yaml", "curate.filters=[{type: './true.py:X'}]", "--until", "curate")
    assert result.code == 78
    assert "./true.py:X: reason_to_drop gave True; it gives a reason in words, or None" in result.err


def test_settings_of_own_code_are_checked_like_others(project: Project) -> None:
    def plan(filters: str) -> str:
        result = project.descent("plan", "tiny.yaml", f"curate.filters=[{filters}]")
        assert (result.code, len(result.err.splitlines())) == (78, 1)
        return result.err

    assert "curate.filters.0.limit: got -1; " in plan("{type: './my_filter.py:NoLegalese', limit: -1}")
    assert "curate.filters.0.lmit: unknown key; did you mean limit?" in plan(
        "{type: './my_filter.py:NoLegalese', lmit: 1}"
    )
