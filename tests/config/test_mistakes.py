"""Bad configurations and command lines: the right exit code, one line for each mistake, no traceback, at once."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from harness import MINIMAL
from yardsticks import assert_costs_at_most, cpu_of, cpu_of_command, importing

from pipeline import cli

WHOLE_COMMAND = 9.0
"""Most that a command with a mistake may cost, in imports of the light libraries. Measured: 2.5 to 2.9, and 4.9 for the
longest configuration that is read; with torch among the imports, 10 more."""

IN_PROCESS = 5.0
"""The same without the start of Python. Measured: 2.3 for the longest configuration, below 1 for the others."""


def changed(old: str, new: str) -> str:
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


def in_train(line: str) -> str:
    return f"{MINIMAL}  {line}\n"


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def references(levels: int) -> str:
    lines = [f"    a{i}: '{f'${{model.config.a{i - 1}}}' * 10}'" for i in range(1, levels)]
    return changed("architecture: llama", "\n".join(["architecture: llama", "  config:", "    a0: x", *lines]))


CONFIGURATIONS = {
    # name: (text, message)
    "early stopping without validations to stop at": (in_train("early_stopping_patience: 3"),
        r"run\.yaml:11: train: early_stopping_patience counts validations; give eval_steps, the steps between two"),
    "a threshold of nothing": (in_train("early_stopping_threshold: 0.1"),
        r"run\.yaml:11: train: early_stopping_threshold needs early_stopping_patience"),
    "unknown key": (in_train("learning_rat: 0.1"),
        r"run\.yaml:11: train\.learning_rat: unknown key; did you mean learning_rate\?"),
    "labels of no source": (changed("architecture: llama", "task: classification"),
        r"run\.yaml:?\d*: configuration: model\.task classification needs labels, and no source has any; name their "),
    "more sequences a step than memory": (in_train("global_batch_size: 99999999999"),
        r"run\.yaml:11: train\.global_batch_size: got 99999999999; input should be less than or equal to 16777216"),
    "another trainer's key": (in_train("gradient_accumulation_steps: 4"),
        r"run\.yaml:11: train\.gradient_accumulation_steps: unknown key; here it is global_batch_size: what "),
    "a key of before": (
        in_train("layer_telemetry_steps: 20"),
        r"train\.layer_telemetry_steps: unknown key; here it is telemetry_steps$",
    ),
    "another trainer's key in capitals": (in_train("LR: 4"), r"train\.LR: unknown key; here it is learning_rate$"),
    "key of another section": (in_train("seed: 4"), r"train\.seed: unknown key; did you mean run\.seed\?"),
    "unknown key among many": (in_train("zzz: 4"), r"train\.zzz: unknown key; `descent schema` describes the "),
    "setting outside a section": (MINIMAL + "seed: 1\n", r"run\.yaml:11: seed: .*; did you mean run\.seed\?"),
    "unknown section": (MINIMAL + "trian: {}\n", r"run\.yaml:11: trian: unknown key; did you mean train\?"),
    "unknown nested key": (MINIMAL + "evaluate:\n  samples:\n    temprature: 1\n",
        r"run\.yaml:13: evaluate\.samples\.temprature: unknown key; did you mean temperature\?"),
    "unknown key of a list's item": (changed("name: docs", "name: docs\n      max_byte: 2"),
        r"run\.yaml:6: ingest\.sources\.0\.max_byte: unknown key; did you mean max_bytes\?"),
    "dotted key in the file": (MINIMAL + "train.max_steps: 2\n", r"run\.yaml:11: train\.max_steps: unknown key;"),
    "other case": (in_train("Save_Steps: 2"), r"train\.Save_Steps: unknown key; did you mean save_steps\?"),
    "number as a key": (MINIMAL + "1: 2\n", r"run\.yaml:11: 1: unknown key; known: augment, "),
    "list as a key": (MINIMAL + "? [a, b]\n: 2\n", r"run\.yaml:11: a list or mapping cannot be a key; use text"),
    "key of many lines": (MINIMAL + '"a\\nb\\e[31m": 1\n', r"run\.yaml:11: a\\nb\\x1b\[31m: unknown key; "),
    "endless key": (MINIMAL + "x" * 500 + ": 1\n", r"run\.yaml:11: x{60}\.\.\.: unknown key; "),
    "key given twice": (in_train("max_steps: 11"), r"run\.yaml:11: train\.max_steps: the key is given twice"),
    "text for a number": (in_train("learning_rate: fast"),
        r"run\.yaml:11: train\.learning_rate: got 'fast'; expected a number"),
    "truth value for a number": (in_train("warmup_steps: true"),
        r"run\.yaml:11: train\.warmup_steps: got true; expected a number"),
    "fraction for a whole number": (in_train("warmup_steps: 2.5"),
        r"run\.yaml:11: train\.warmup_steps: got 2\.5; expected a whole number"),
    "base 60": (changed("10", "1:30"), r"run\.yaml:10: train\.max_steps: got '1:30'; expected a whole number"),
    "word for a truth value": (in_train("deterministic: maybe"),
        r"run\.yaml:11: train\.deterministic: got 'maybe'; expected true or false"),
    "number for text": (changed("tiny", "123"), r"run\.yaml:2: run\.name: got 123; expected text; put it in quotes"),
    "null for text": (changed("tiny", "null"), r"run\.yaml:2: run\.name: got null; expected text"),
    "list for text": (changed("tiny", "[tiny]"), r"run\.yaml:2: run\.name: got \['tiny'\]; expected text; put"),
    "mapping for a list": (changed("    - name: docs\n      type: python_docs", "    name: docs"),
        r"run\.yaml:4: ingest\.sources: got \{'name': 'docs'\}; expected a list of {type: NAME, \.\.\.}, where"),
    "text for a list's item": (changed("    - name: docs\n      type: python_docs", "    - docs"),
        r"run\.yaml:5: ingest\.sources\.0: got 'docs'; expected {type: NAME, \.\.\.}, where NAME is"),
    "number for a section": (MINIMAL + "evaluate: 3\n", r"run\.yaml:11: evaluate: got 3; expected settings below"),
    "empty section": (changed("run:\n  name: tiny", "run:"), r"run\.yaml:1: run: got null; expected settings"),
    "no space after the colon": (changed("max_steps: 10", "max_steps:10"),
        r"run\.yaml:9: train: got 'max_steps:10'; expected settings below"),
    "missing section": (changed("run:\n  name: tiny\n", ""), r"run\.yaml: run: required, but not given"),
    "missing section that data needs not": (changed("model:\n  architecture: llama\n", ""),
        r"run\.yaml: model: required, but not given \(data alone needs none: `--until pack`\)"),
    "missing key of an item": (changed("python_docs", "text"),
        r"run\.yaml:5: ingest\.sources\.0\.paths: required, but not given"),
    "union without a type": (changed("\n      type: python_docs", ""),
        r"run\.yaml:5: ingest\.sources\.0: `type` is required here, but not given; allowed: python_docs, text, jsonl"),
    "union with a wrong type": (changed("type: python_docs", "type: jsnl"),
        r"run\.yaml:6: ingest\.sources\.0\.type: got 'jsnl'; allowed: .*'jsonl'.*; did you mean jsonl\?"),
    "empty list": (changed("\n    - name: docs\n      type: python_docs", " []"),
        r"run\.yaml:4: ingest\.sources: got \[\]; list should have at least 1 item"),
    "name given twice": (changed("python_docs", "python_docs\n    - {name: docs, type: python_docs}"),
        r"run\.yaml:4: ingest: two sources are named 'docs'"),
    "no such choice": (in_train("lr_scheduler_type: cosin"),
        r"run\.yaml:11: train\.lr_scheduler_type: got 'cosin'; allowed: .*; did you mean cosine\?"),
    "no such architecture": (changed("llama", "lama"),
        r"run\.yaml:8: model\.architecture: got 'lama', .*; did you mean llama\?"),
    "below the range": (in_train("learning_rate: -1"),
        r"run\.yaml:11: train\.learning_rate: got -1; input should be greater than 0"),
    "above the range": (in_train("adam_beta1: 1.5"),
        r"run\.yaml:11: train\.adam_beta1: got 1\.5; input should be less than 1"),
    "infinity": (in_train("learning_rate: .inf"), r"train\.learning_rate: got inf; input should be a finite"),
    "more than a float holds": (in_train("learning_rate: 1e999"), r"train\.learning_rate: got inf; "),
    "NaN": (in_train("learning_rate: .nan"), r"train\.learning_rate: got nan; input should be a finite"),
    "more than 64 bits": (changed("10", "9" * 25),
        r"run\.yaml:10: train\.max_steps: got '9{25}', which is not a whole number of at most 64 bits"),
    "thousands of digits": (changed("10", "9" * 5000), r"train\.max_steps: got '9+\.\.\. \(5,002 characters\)"),
    "settings that exclude each other": (in_train("num_train_epochs: 2"),
        r"run\.yaml:10: train: max_steps and num_train_epochs are both given, of which one may be; remove one$"),
    "sections that contradict each other": (MINIMAL + "evaluate: {stride: 17}\npack: {block_size: 16}\n",
        r"run\.yaml:11: configuration: evaluate\.stride 17 is above pack\.block_size 16"),
    "yes for another library's truth value": (changed("llama", "llama\n  config: {tie_word_embeddings: yes}"),
        r"run\.yaml:9: model\.config\.tie_word_embeddings: got 'yes'; write true or false"),
    "what the tokenizer sets": (changed("llama", "llama\n  config: {vocab_size: 3}"),
        r"run\.yaml:9: model\.config: remove vocab_size: it comes from the tokenizer"),
    "a run outside the workspace": (changed("tiny", "../../etc"), r"run\.yaml:2: run\.name: got '\.\./\.\./etc'"),
    "control characters in a name": (changed("tiny", r'"a\e[31mb"'), r"run\.name: got 'a\\x1b\[31mb'; use letters"),
    "NUL in a path": (changed("tiny", 'tiny\n  workspace: "a\\0b"'),
        r"run\.yaml:3: run\.workspace: a path cannot hold a NUL character"),
    "empty path": (changed("tiny", "tiny\n  workspace: ''"), r"run\.yaml:3: run\.workspace: got an empty path"),
    "number for a path": (changed("tiny", "tiny\n  workspace: 3"), r"run\.workspace: got 3; expected a path; put"),
    "endless text": (changed("tiny", "x" * 5000), r"run\.name: got 'x{76}\.\.\. \(5,002 characters\); .*"),
    "lone surrogate": (changed("tiny", r'"\ud800"'), r"run\.name: got '\\ud800'; lone surrogates are not text"),
    "reference to nothing": (in_train("save_steps: ${train.max_stps}"),
        r"run\.yaml:11: train\.save_steps: refers to train\.max_stps, which is not set .*; did you mean max_steps\?"),
    "reference to itself": (in_train("save_steps: ${train.save_steps}"),
        r"run\.yaml:11: train\.save_steps: got '\$\{train\.save_steps\}'; the reference leads back to itself"),
    "circle of references": (in_train("save_steps: ${train.eval_steps}\n  eval_steps: ${train.save_steps}"),
        r"run\.yaml:11: train\.save_steps: .* leads back to itself"),
    "reference to what is around it": (in_train("save_steps: ${train}"),
        r"run\.yaml:11: train\.save_steps: .* leads back to itself"),
    "reference that does not end": (in_train("save_steps: ${train."), r"got '\$\{train\.'; a reference is written"),
    "environment": (changed("tiny", "${oc.env:HOME}"), r"run\.name: got '\$\{oc\.env:HOME\}'; a reference"),
    "environment behind backslashes": (changed("tiny", r"\\${oc.env:HOME}"), r"a reference is written"),
    "environment by a built name": (changed("tiny", "${${model.architecture}:HOME}"), r"a reference is written"),
    "value to be given": (in_train("save_steps: ???"), r"train\.save_steps: got \?\?\?, which stands for"),
    "references that multiply": (references(9), r"run\.yaml:\d+: model\.config\.a\d: the references multiply"),
    "aliases that multiply": (bomb(9), r"run\.yaml:1: .*more than 10,000 values, counting what aliases"),
    "alias of itself": (MINIMAL + "report: &a [*a]\n", r"run\.yaml:11: report\.0\.0: nested deeper than 40 levels"),
    "alias of nothing": (MINIMAL + "report: *gone\n", r"run\.yaml:11: not valid YAML: found undefined alias"),
    "merge of a number": (changed("run:\n", "run:\n  <<: 3\n"), r"run\.yaml:2: run: `<<` takes a mapping"),
    "unknown key by a merge": (changed("run:\n", "run:\n  <<: {sed: 3}\n"),
        r"run\.yaml:2: run\.sed: unknown key; did you mean seed\?"),
    "deep flow": (MINIMAL + "report: " + "[" * 50_000, r"run\.yaml:11: nested deeper than 40 levels"),
    "deep blocks": (changed("llama", "llama\n  config:\n" + "".join(" " * i + "a:\n" for i in range(4, 300))),
        r"run\.yaml:47: nested deeper than 40 levels"),
    "object of Python": (MINIMAL + "report: !!python/object/apply:os.system ['touch pwned']\n",
        r"run\.yaml:11: report: the tag !!python/object/apply:os\.system is not allowed"),
    "binary": (changed("tiny", "!!binary aGVsbG8="), r"run\.yaml:2: run\.name: the tag !!binary is not allowed"),
    "set": (MINIMAL + "report: !!set {a, b}\n", r"run\.yaml:11: report: the tag !!set is not allowed"),
    "tag that does not fit": (in_train("learning_rate: !!float fast"),
        r"run\.yaml:11: train\.learning_rate: got 'fast', which is not a float"),
    "tabs": (changed("  max_steps", "\tmax_steps"), r"run\.yaml:10: not valid YAML: .*; indent with spaces"),
    "control character": (changed("tiny", "ti\x01ny"), r"run\.yaml:2: not valid YAML: the character U\+0001"),
    "bracket without end": (MINIMAL + "report: [\n", r"run\.yaml:12: not valid YAML: expected the node content"),
    "quote without end": (MINIMAL + "report: 'abc\n", r"run\.yaml:12: not valid YAML: found unexpected end"),
    "two documents": (MINIMAL + "---\nrun: {}\n", r"run\.yaml:11: not valid YAML: but found another document"),
    "empty file": ("", r"run\.yaml: not a mapping of sections; start with `run:` and `ingest:`"),
    "list": ("- a\n- b\n", r"run\.yaml: not a mapping of sections"),
    "not UTF-8": (b"run:\n  name: \xff\n", r"run\.yaml:2: not UTF-8 at byte 13; save the file as UTF-8"),
    "UTF-16": (MINIMAL.encode("utf-16"), r"run\.yaml:1: not UTF-8 at byte 0"),
    "large file": (MINIMAL + "# " + "x" * 300_000, r"run\.yaml: longer than the 200,000 bytes"),
    "as large as allowed": (MINIMAL + "report: [" + "1, " * 66_000, r"run\.yaml:11: more than 10,000 values"),
    "base that is a list": ("base: [a, b]\n", r"run\.yaml:1: base: got \['a', 'b'\]; give the path"),
    "base without a name": ("base: ''\n", r"run\.yaml:1: base: got ''; give the path"),
    "base of itself": ("base: run.yaml\n", r"run\.yaml:1: base: the file inherits from itself"),
    "circle of bases": ("base: other.yaml\n", r"other\.yaml:1: base: the file inherits from itself"),
}  # fmt: skip

BASES_WITHOUT_A_FILE = {
    "base that is missing": ("base: gone.yaml\n", r"run\.yaml:1: base: gone\.yaml: no such configuration file"),
    "base that is a folder": ("base: .\n", r"run\.yaml:1: base: \.: a folder; name a file, such as other\.yaml$"),
    "base with NUL": ('base: "a\\0b"\n', r"run\.yaml:1: base: a\\x00b: not a file name: embedded null byte"),
    "base with an endless name": ("base: " + "a" * 5000, r"run\.yaml:1: base: a{300}\.\.\.: .*File name too long"),
}  # fmt: skip

OVERRIDES = {
    "train.max_steps": r"command line: 'train\.max_steps' is not key=value, such as train\.learning_rate=0\.001",
    "=3": r"command line: '=3' is not key=value",
    "train..max_steps=3": r"command line: 'train\.\.max_steps=3' is not key=value",
    "max_steps=3": r"command line: max_steps: unknown section; did you mean train\.max_steps\?$",
    "lr=3": r"command line: lr: unknown section; here it is train\.learning_rate$",
    "max_seq_length=3": r"command line: max_seq_length: unknown section; here it is pack\.block_size$",
    "zzz=3": r"command line: zzz: unknown section; known: augment, ",
    "ingest.sources[0].nmae=x": r"command line: ingest\.sources\.0\.nmae: unknown key; did you mean name\?",
    "ingest.sources.0.weight=2": r"command line: ingest\.sources\.0\.weight: .*; here it is pack\.mixture: {weights",
    " train.learning_rate = x": r"command line: train\.learning_rate: got 'x'; expected a number",
    "train.freeze=embed": r"command line: train\.freeze: got 'embed'; expected a list: \[embed\]$",
    "train.freeze='[embed]'": r"command line: train\.freeze: got '\[embed\]'; expected a list, not text in quotes$",
    "train.freeze=[embed,": r"command line: .*: not valid YAML: .*; the shell takes what stands in quotes",
    "tarin.max_steps=3": r"command line: tarin\.max_steps: unknown section; did you mean train\?",
    "+train.max_steps=3": r"command line: \+train\.max_steps: unknown section; did you mean train\?",
    "base=other.yaml": r"command line: base: unknown section; known: ",
    "train.max_stps=3": r"command line: train\.max_stps: unknown key; did you mean max_steps\?",
    "evaluate.samples.temprature=1": r"command line: evaluate\.samples\.temprature: unknown key; did you mean",
    "train.max_steps=ten": r"command line: train\.max_steps: got 'ten'; expected a whole number",
    "train.max_steps=": r"command line: train: give exactly one of max_steps, num_train_epochs and max_tokens",
    "train.max_steps=[1": r"command line: train\.max_steps: not valid YAML: expected ',' or '\]'",
    "train.max_steps=1\nx: 2": r"command line: train\.max_steps: not valid YAML: mapping values are not allowed here",
    "train.max_steps.foo=3": r"command line: train\.max_steps\.foo: train\.max_steps is 10, which has no",
    "train=3": r"command line: train: got 3; expected settings below it",
    "ingest.sources.5.max_bytes=2": r"command line: .*: ingest\.sources has one entry, counted from 0; there is no '5'",
    "ingest.sources.-1.name=x": r"command line: .*: ingest\.sources has one entry, counted from 0; there is no '-1'",
    "ingest.sources.docs.max_bytes=2": r"command line: .*; there is no 'docs'; did you mean ingest\.sources\.0\?$",
    "ingest.sources.0=3": r"command line: ingest\.sources\.0: got 3; expected {type: NAME",
    "run.name=a b": r"command line: run\.name: got 'a b'; use letters, digits, ",
    "run.name=${oc.env:HOME}": r"command line: run\.name: got '\$\{oc\.env:HOME\}'; a reference is written",
    "run.name=!!python/object:os.system x": r"command line: run\.name: the tag !!python/object:os\.system is not",
    "run.name=\x1b[31mred": r"command line: run\.name: not valid YAML: the character U\+001B is not allowed",
    "run.\x1b[31m=red": r"command line: run\.\\x1b\[31m: the key is not printable text",
    "curate.near_duplicates=none": r"command line: .*: got 'none'; expected settings .*, or null for none$",
    "augment={operations: [{type: swap}], recipes: [{operations: [{type: crop}]}]}": r"augment: .*recipes=null or ",
    "pack.mixture={weights: {books: 1}}": r"command line: configuration: pack\.mixture\.weights: no source is named",
    "curate.filters=[{type: language, keep: [en, german]}]": r"filters\.0: keep: .*german'; did you mean de",
    "curate.filters=[{type: language, keep: [fr-CA]}]": r"'fr-CA'; did you mean fr\?$",
    "curate.filters=[{type: language, keep: [klingon]}]": r"'klingon'; codes are such as de, en, fr or zh$",
    "run.seed=-1": r"command line: run\.seed: got -1; input should be greater than or equal to 0",
}

COMMAND_LINES = {
    # what is missing, unknown or out of range: (arguments, message)
    "no configuration": (["run"], r"Missing argument .*config.*; descent run --help shows"),
    "unknown verb": (["rnu", "run.yaml"], r"No such command 'rnu'.*; descent --help shows"),
    "no verb": (["run.yaml"], r"No such command 'run\.yaml'; descent run run\.yaml carries it out; descent --help"),
    "unknown option": (["run", "run.yaml", "--frm", "train"], r"No such option.*--frm.*--from"),
    "setting with dashes": (["run", "run.yaml", "--train.max_steps=3"],
        r"No such option.*; settings of the run are given without dashes, as train\.max_steps=3"),
    "option without its value": (["run", "run.yaml", "--from"], r"Option '--from' requires an argument"),
    "unknown stage": (["run", "run.yaml", "--only", "trian"], r"--only: unknown stage 'trian'; did you mean train"),
    "nothing like a stage": (["plan", "run.yaml", "--until", "zzz"], r"unknown stage 'zzz'; the stages are ingest, "),
    "stage of explain": (["explain", "run.yaml", "trian"], r"STAGE: unknown stage 'trian'; did you mean train"),
    "explain without a stage": (["explain", "run.yaml"], r"Missing argument"),
    "--only with --from": (["run", "run.yaml", "--only", "train", "--from", "pack"], r"--only: cannot be combined"),
    "--from after --until": (["run", "run.yaml", "--from", "train", "--until", "pack"], r"train comes after pack"),
    "--force outside": (["run", "run.yaml", "--only", "train", "--force", "pack"],
        r"pack is not among the stages to run"),
    "no tokens": (["generate", "run.yaml", "--max-new-tokens", "0"], r"--max-new-tokens"),
    "tokens in words": (["generate", "run.yaml", "--max-new-tokens", "many"], r"--max-new-tokens"),
    "infinite temperature": (["generate", "run.yaml", "--temperature", "inf"], r"--temperature: inf is not finite"),
    "temperature that is no number": (["generate", "run.yaml", "--temperature", "nan"], r"--temperature"),
    "negative seed": (["generate", "run.yaml", "--seed=-1"], r"--seed"),
    "prompt that is not text": (["generate", "run.yaml", "--prompt", "\udcff"], r"--prompt: '\\udcff' is not UTF-8"),
    "argument of schema": (["schema", "run.yaml"], r"unexpected extra argument"),
}  # fmt: skip

Descent = Callable[..., tuple[int, str]]


@cache
def usual_import() -> float:
    return importing()


@pytest.fixture
def descent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Descent:
    """Carry out a command line in a folder of its own, at little cost; returns exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(MINIMAL)

    def descent(*arguments: str) -> tuple[int, str]:
        def command() -> None:
            with pytest.raises(SystemExit) as left:
                cli.main(list(arguments))
            found.append((int(str(left.value.code)), capsys.readouterr().err))

        found: list[tuple[int, str]] = []
        if cpu_of(command) > IN_PROCESS * usual_import():
            assert_costs_at_most(IN_PROCESS, lambda: cpu_of(command), importing)
        return found[0]

    return descent


def assert_one_line(errors: str, expected: str) -> None:
    lines = errors.removesuffix("\n").split("\n")
    assert len(lines) == 1, errors
    assert re.match(rf"descent: .*(?:{expected})", lines[0]), lines[0]
    assert lines[0].isprintable()
    assert len(lines[0]) < 900
    assert "internal error" not in lines[0]


@pytest.mark.parametrize("name", [*CONFIGURATIONS, *BASES_WITHOUT_A_FILE])
def test_bad_configurations(descent: Descent, name: str) -> None:
    text, message = {**CONFIGURATIONS, **BASES_WITHOUT_A_FILE}[name]
    Path("run.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    Path("other.yaml").write_text("base: run.yaml\n")
    left, errors = descent("plan", "run.yaml")
    assert left == (66 if name in BASES_WITHOUT_A_FILE else 78), errors
    assert_one_line(errors, message)
    assert sorted(path.name for path in Path().iterdir()) == ["other.yaml", "run.yaml"]


@pytest.mark.parametrize("override", OVERRIDES)
def test_bad_settings_on_the_command_line(descent: Descent, override: str) -> None:
    left, errors = descent("plan", "run.yaml", override)
    assert left == 78, errors
    assert_one_line(errors, OVERRIDES[override])


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_bad_command_lines(descent: Descent, name: str) -> None:
    arguments, message = COMMAND_LINES[name]
    left, errors = descent(*arguments)
    assert left == 2, errors
    assert_one_line(errors, message)


def test_configurations_that_cannot_be_read(descent: Descent, tmp_path: Path) -> None:
    for name, make, message in (
        ("gone.yaml", lambda path: None, r"gone\.yaml: no such configuration file"),
        ("folder.yaml", Path.mkdir, r"folder\.yaml: a folder; name a file$"),
        (".", lambda path: None, r"\.: a folder; name a file, such as run\.yaml$"),
        ("run", lambda path: None, r"run: no such configuration file; did you mean run\.yaml\?$"),
        ("run.yml", lambda path: None, r"run\.yml: no such configuration file; did you mean run\.yaml\?$"),
        ("runn.yaml", lambda path: None, r"runn\.yaml: no such configuration file; did you mean run\.yaml\?$"),
        ("x/run.yaml", lambda path: None, r"x/run\.yaml: no such configuration file$"),
        ("loop.yaml", lambda path: path.symlink_to(path), r"loop\.yaml: cannot read .*: Too many levels of symbolic"),
        ("a\x1b[31m.yaml", lambda path: None, r"a\\x1b\[31m\.yaml: no such configuration file"),
        ("\udcff.yaml", lambda path: None, r"\\udcff\.yaml: no such configuration file"),
    ):
        make(tmp_path / name)
        left, errors = descent("plan", name)
        assert left == 66, errors
        assert_one_line(errors, message)


def test_a_configuration_without_permission(descent: Descent, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:  # Root, as which tests may run, may read everything.
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    left, errors = descent("plan", "run.yaml")
    assert left == 66
    assert_one_line(errors, r"run\.yaml: cannot read the configuration: Permission denied")


def test_a_device_without_end_is_not_read_to_its_end(descent: Descent) -> None:
    left, errors = descent("plan", "/dev/zero")
    assert left == 78
    assert_one_line(errors, r"/dev/zero: longer than the 200,000 bytes that a configuration may have")


def test_every_mistake_has_its_own_line_up_to_twenty(descent: Descent) -> None:
    Path("run.yaml").write_text(in_train("learning_rat: 0.1\n  max_grad_nrm: 1"))
    assert len(descent("plan", "run.yaml")[1].splitlines()) == 2
    Path("run.yaml").write_text(in_train("\n  ".join(f"k{i}: 1" for i in range(300))))
    lines = descent("plan", "run.yaml")[1].splitlines()
    assert len(lines) == 21
    assert lines[-1] == "descent: run.yaml: 280 more mistakes like these"


def test_an_operation_in_place_of_a_recipe_is_told_how_to_be_one(descent: Descent) -> None:
    left, errors = descent("plan", "run.yaml", "augment.recipes=[{type: synonym}]")
    assert left == 78
    assert "augment.recipes.0.type: unknown key; write {operations: [{type: synonym}]}\n" in errors


def test_a_mixture_on_the_command_line_is_what_lacks_sources_of_the_file(descent: Descent) -> None:
    left, errors = descent("plan", "run.yaml", "ingest.sources.0.split=train", "pack.mixture={weights: {dcs: 1}}")
    assert left == 78
    assert_one_line(errors, r"command line: .*'dcs'; did you mean docs")
    more = "ingest.sources=[{name: a, type: python_docs}, {name: b, type: python_docs}, {name: c, type: python_docs}]"
    left, errors = descent("plan", "run.yaml", more, "pack.mixture={weights: {b: 1}}")
    assert left == 78
    assert_one_line(errors, r"command line: .*: a, c have no weight, .* take it out of the list ingest\.sources$")


def test_a_long_chain_of_bases_is_refused(descent: Descent) -> None:
    Path("run.yaml").write_text("base: b0.yaml\n")
    for number in range(30):
        Path(f"b{number}.yaml").write_text(f"base: b{number + 1}.yaml\n")
    left, errors = descent("plan", "run.yaml")
    assert left == 78
    assert_one_line(errors, r"b18\.yaml:1: base: more than 20 files inherit from one another")


def test_no_arguments_show_help(descent: Descent, capsys: pytest.CaptureFixture[str]) -> None:
    left, errors = descent()
    assert (left, errors) == (2, "")


HEAVY = """
import sys
from pipeline.main import main
try:
    main(["run", "run.yaml"])
finally:
    print(*{"torch", "transformers", "datasets", "ray", "submitit"} & set(sys.modules))
"""


@pytest.mark.parametrize("name", ["as large as allowed", "aliases that multiply", "references that multiply", "tabs"])
def test_a_whole_command_costs_little_and_imports_nothing_heavy(tmp_path: Path, name: str) -> None:
    text, _ = CONFIGURATIONS[name]
    assert isinstance(text, str)
    (tmp_path / "run.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", HEAVY],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (78, "\n"), done.stderr
    command = [sys.executable, "-m", "pipeline", "run", "run.yaml"]
    assert_costs_at_most(WHOLE_COMMAND, lambda: cpu_of_command(*command, cwd=tmp_path), importing)
