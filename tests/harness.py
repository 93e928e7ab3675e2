"""A project folder with a tiny configuration on real text, in which tests run commands."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from select import select as wait_for_input
from typing import Any, ClassVar

from pipeline import stages
from pipeline.atomic import sealed
from pipeline.comparison.recorded_run import read_settings
from pipeline.engine.artifacts import Workspace
from pipeline.engine.plan import Selection

STAGES = tuple(stage.name for stage in stages.STAGES)

MINIMAL = """\
run:
  name: tiny
ingest:
  sources:
    - name: docs
      type: python_docs
model:
  architecture: llama
train:
  max_steps: 10
"""

TINY = """\
run: {name: tiny, seed: 7}
ingest:
  sources:
    - {name: stories, type: text, paths: [texts/*.txt], separator: "\\n\\n"}
    - {name: records, type: jsonl, paths: [records.jsonl], text_field: body}
curate:
  filters: [{type: min_chars, value: 20}, {type: min_words, value: 3}, {type: min_alphabetic_ratio}]
  validation_fraction: 0.1
  test_fraction: 0.1
augment:
  fraction: 0.3
  copies: 1
  operations:
    - {type: synonym, probability: 0.2}
    - {type: keyboard, probability: 0.1}
tokenizer: {vocab_size: 400}
pack: {block_size: 32}
model:
  architecture: llama
  config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2}
train:
  global_batch_size: 8
  per_device_train_batch_size: 4
  learning_rate: 0.005
  warmup_steps: 4
  max_steps: 24
  logging_steps: 4
  eval_steps: 12
  save_steps: 4
evaluate:
  samples: {max_new_tokens: 8}
"""


PATIENCE_SECONDS = 900.0
"""After which what a test waits for is taken to hang. Nothing is proved by it: a loaded machine takes many times what a
free one takes."""


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for a condition, which `process` is to bring about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process is None or process.poll() is None, f"the process ended before: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def tells(message: str, *words: str) -> bool:
    """Whether a message is one line with these words in this order: what went wrong, where, what to do. How it is put
    otherwise is no test's business."""
    return re.fullmatch(".*".join(["", *map(re.escape, words), ""]), message.removesuffix("\n")) is not None


def default_signals() -> None:
    """Give signals the effect that they have in a terminal, whatever the tests were started with: a shell has work in
    the background ignore interrupts, `nohup` hangups, and what is ignored stays so. For `preexec_fn` of a child."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def workspace_in(root: Path) -> Workspace:
    """A workspace of the stages that there are."""
    return Workspace(root, stages.STAGES)


def select(**options: Any) -> Selection:
    """What a command selects of them, with `first`, `last`, `only` and `force`."""
    return Selection(stages.STAGES, **options)


def read_run_settings(path: Path) -> dict[str, Any]:
    """The settings of a run's config.yaml, as `status` reads them."""
    return read_settings(path)[0]


@dataclass(frozen=True)
class Result:
    """What a command left: exit code and its two streams."""

    code: int
    out: str
    err: str


LIGHT = ("pipeline.cli", "pipeline.config.loading", "pipeline.engine.plan", "pipeline.verbs.run_commands")
LIBRARIES = ("accelerate", "datasets", "peft", "torch.utils.tensorboard", "transformers.models.llama.modeling_llama")
HEAVY = (*LIBRARIES, *LIGHT, "pipeline.training.loop")
MODULES = {"run": HEAVY, "generate": HEAVY, "estimate": HEAVY, "export": HEAVY, "anatomy": HEAVY}
"""What a command imports; one that is not named, what is light."""


class CommandServer:
    """Forks of a process that has imported the libraries carry out commands: tests/command_server.py."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._environ = _environ()
        self._process: subprocess.Popen[str] | None = None

    def fits(self) -> bool:
        """Whether the libraries would read the same in the environment of now."""
        return self._environ == _environ()

    def carry_out(self, arguments: Sequence[str], folder: Path) -> Result:
        if self._process is None:
            command = [sys.executable, str(Path(__file__).with_name("command_server.py")), *self._modules]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with tempfile.TemporaryDirectory() as scratch:
            out, err = Path(scratch, "out"), Path(scratch, "err")
            print(json.dumps([arguments, str(folder.absolute()), str(out), str(err)]), file=stdin, flush=True)
            assert wait_for_input([stdout], [], [], PATIENCE_SECONDS)[0], f"descent {' '.join(arguments)} hangs"
            return Result(int(stdout.readline()), out.read_text(), err.read_text())

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


class Project:
    """A folder with a configuration, sources and a workspace, in which commands are run."""

    servers: ClassVar[dict[tuple[str, ...], CommandServer]] = {}
    """Save commands the imports, in the environment that tests begin with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"

    def copy(self, folder: Path) -> Project:
        """The project in another folder, where a test may change it."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipeline", *arguments]

    def descent(self, *arguments: str, **environ: str) -> Result:
        """Carry out a command in a process of its own."""
        server = self.servers.get(MODULES.get(next(iter(arguments), ""), LIGHT))
        if server is not None and server.fits() and not environ:
            return server.carry_out(arguments, self.folder)
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, command: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
        """Start a verb, or another command, of which stderr can be read; `options` go to Popen."""
        defaults = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "preexec_fn": default_signals}
        return subprocess.Popen(
            command or self.command(*arguments), cwd=self.folder, text=True, **{**defaults, **options}
        )

    def told(self, verb: str, *arguments: str) -> dict[str, Any]:
        """What a verb that succeeds prints with --json."""
        result = self.descent(verb, "tiny.yaml", *arguments, "--json")
        assert result.code == 0, result.err
        found: dict[str, Any] = json.loads(result.out)
        return found

    def run(self, *arguments: str) -> dict[str, str]:
        """Run the configuration, expect success, and return each stage's outcome."""
        result = self.descent("run", "tiny.yaml", *arguments)
        assert result.code == 0, result.err
        return {stage: entry["outcome"] for stage, entry in self.state()["stages"].items()}

    def plan(self, *arguments: str) -> dict[str, dict[str, Any]]:
        result = self.descent("plan", "tiny.yaml", "--json", *arguments)
        assert result.code == 0, result.err
        return {step["stage"]: step for step in json.loads(result.out)}

    def actions(self, *arguments: str) -> dict[str, str]:
        return {stage: step["action"] for stage, step in self.plan(*arguments).items()}

    def state(self) -> dict[str, Any]:
        return json.loads((self.workspace / "runs" / "tiny" / "run.json").read_text())

    def write_state(self, **values: Any) -> None:
        """Change what run.json says, under a seal that fits."""
        body = {name: value for name, value in {**self.state(), **values}.items() if name != "seal"}
        (self.workspace / "runs" / "tiny" / "run.json").write_text(json.dumps(sealed(body)))

    def artifact(self, stage: str) -> Path:
        return self.workspace / "artifacts" / stage / self.state()["stages"][stage]["key"]

    def digests(self) -> dict[str, str]:
        """Content digest of every stage's artifact in the run."""
        return {stage: json.loads((self.artifact(stage) / "manifest.json").read_text())["digest"] for stage in STAGES}

    def forget_from(self, stage: str) -> None:
        """Remove the artifacts of a stage and of all that come after it, and trainings in progress."""
        for name in STAGES[STAGES.index(stage) :]:
            shutil.rmtree(self.workspace / "artifacts" / name, ignore_errors=True)
        shutil.rmtree(self.workspace / "checkpoints", ignore_errors=True)


def write_sources(folder: Path) -> None:
    """Real prose that every machine has: docstrings of a few modules of the standard library."""
    (folder / "texts").mkdir(parents=True)
    library = Path(sysconfig.get_path("stdlib"))
    records = []
    for module in ("argparse", "_pydatetime", "statistics", "subprocess", "textwrap", "difflib", "random", "datetime"):
        path = library / f"{module}.py"
        if not path.exists():
            continue
        nodes = ast.walk(ast.parse(path.read_text()))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        texts = [text for node in nodes if isinstance(node, documented) and (text := ast.get_docstring(node))]
        blocks = [block for text in texts for block in text.split("\n\n")]
        if module in ("_pydatetime", "datetime"):  # moved from the one to the other by Python 3.12
            records += [json.dumps({"body": text}) for text in texts]
        else:
            (folder / "texts" / f"{module}.txt").write_text("\n\n".join(blocks))
    (folder / "records.jsonl").write_text("\n".join(records) + "\n")


def tiny_project(folder: Path) -> Project:
    """The tiny project, in which nothing was run yet."""
    write_sources(folder)
    (folder / "tiny.yaml").write_text(TINY)
    return Project(folder)
