"""Loading: inheritance, interpolation, overrides, and errors that say file, line, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loading import load_config
from pipeline.errors import ConfigError, MissingInputError

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


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_minimal_configuration_loads_with_defaults(write) -> None:
    config = load_config(write(MINIMAL))
    assert config.run.name == "tiny"
    assert config.pack.block_size > 0


def test_base_is_inherited_and_overridden(write) -> None:
    write(MINIMAL, "base.yaml")
    config = load_config(write("base: base.yaml\ntrain:\n  max_steps: 20\n"))
    assert config.train.max_steps == 20
    assert config.model.architecture == "llama"


def test_interpolation_and_overrides(write) -> None:
    path = write(MINIMAL + "  learning_rate: 1e-3\n  save_steps: ${train.max_steps}\n")
    config = load_config(path, ["train.max_steps=30", "model.config.hidden_size=64", "ingest.sources.0.weight=2"])
    assert config.train.learning_rate == 1e-3
    assert config.train.save_steps == 30
    assert config.model.config["hidden_size"] == 64
    assert config.ingest.sources[0].weight == 2


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (
            MINIMAL + "  learning_rat: 0.1\n",
            [],
            r"run\.yaml:11: train\.learning_rat: unknown key; did you mean learning_rate\?",
        ),
        (MINIMAL + "trian:\n  max_steps: 1\n", [], r"run\.yaml:11: trian: unknown key; did you mean train\?"),
        (
            MINIMAL + "  learning_rate: fast\n",
            [],
            r"run\.yaml:11: train\.learning_rate: got 'fast'; input should be a valid number",
        ),
        (
            MINIMAL + "  lr_scheduler_type: cosin\n",
            [],
            r"run\.yaml:11: train\.lr_scheduler_type: got 'cosin'; allowed: .*cosine",
        ),
        (
            MINIMAL.replace("type: python_docs", "type: jsnl"),
            [],
            r"run\.yaml:5: ingest\.sources\.0.*got 'jsnl'; allowed: .*jsonl",
        ),
        (
            MINIMAL.replace("python_docs", "text"),
            [],
            r"run\.yaml:5: ingest\.sources\.0\.paths: required, but not given",
        ),
        (
            MINIMAL.replace("name: docs", "name: docs\n      wieght: 2"),
            [],
            r"run\.yaml:6: ingest\.sources\.0\.wieght: unknown key; did you mean weight\?",
        ),
        (MINIMAL.replace("name: tiny", "name: ../../etc"), [], r"run\.yaml:2: run\.name: got '\.\./\.\./etc'"),
        (MINIMAL.replace("run:\n  name: tiny\n", ""), [], r"run\.yaml: run: required, but not given"),
        (MINIMAL + "  learning_rate: .nan\n", [], r"run\.yaml:11: train\.learning_rate: got nan"),
        (MINIMAL, ["evaluate.stride=17", "pack.block_size=16"], r"evaluate\.stride 17 is above pack\.block_size 16"),
        (MINIMAL, ["train.max_stps=3"], r"command line: train\.max_stps: unknown key; did you mean max_steps\?"),
        (MINIMAL, ["train.max_steps"], r"command line: 'train\.max_steps' is not key=value"),
        (MINIMAL, ["tarin.max_steps=3"], r"command line: tarin\.max_steps: unknown section; did you mean train\?"),
        (MINIMAL + "  save_steps: ${train.nothing}\n", [], r"run\.yaml:11: train\.save_steps: .*train\.nothing"),
        (MINIMAL + "  max_steps: 11\n", [], r"run\.yaml:11: train\.max_steps: the key is given twice"),
        ("base: run.yaml\n", [], r"run\.yaml: base: the file inherits from itself"),
        ("base: [a, b]\n", [], r"run\.yaml:1: base: got \['a', 'b'\]"),
        ("run: [\n", [], r"run\.yaml:2: not valid YAML"),
        ("- a\n- b\n", [], r"run\.yaml: not a mapping of sections"),
        ("", [], r"run\.yaml: not a mapping of sections"),
        ("run: !!python/object/apply:os.system ['true']\n", [], r"run\.yaml.*not valid YAML"),
    ],
)
def test_errors_say_where_what_and_what_is_allowed(write, text: str, overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(write(text), overrides)


def test_every_mistake_has_its_own_line(write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(MINIMAL + "  learning_rat: 0.1\n  max_grad_nrm: 1\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_missing_files_are_named(write, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.yaml: no such configuration file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(MissingInputError, match=r"gone\.yaml: no such configuration file"):
        load_config(write("base: gone.yaml\n"))


def test_alias_bombs_are_refused(write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="after expanding aliases"):
        load_config(write("\n".join(lines)))
