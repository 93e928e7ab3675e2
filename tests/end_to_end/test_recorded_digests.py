"""What a data stage writes may change only together with the stage's version.

After a change that is meant, raise the version beside the stage's `run`, then record anew:

    .venv/bin/python -m pytest tests/end_to_end/test_recorded_digests.py --record-digests
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Project

DATA_STAGES = ("ingest", "normalize", "curate", "augment", "tokenizer", "encode", "pack")
RECORD = Path(__file__).with_name("recorded_digests.json")

CONFIG = """\
run: {name: tiny, seed: 1}
ingest:
  sources:
    - {name: prose, type: text, paths: [prose.txt], separator: "\\n\\n"}
    - {name: records, type: jsonl, paths: [records.jsonl], label_field: kind}
  max_rejected_fraction: 0.1
normalize:
  steps:
    - {type: fix_unicode}
    - {type: unicode_form, form: NFC}
    - {type: strip_control_characters}
    - {type: collapse_whitespace}
    - {type: lowercase}
curate:
  filters:
    - {type: min_chars, value: 20}
    - {type: min_words, value: 3}
    - {type: min_alphabetic_ratio, value: 0.5}
    - {type: max_digit_ratio, value: 0.3}
    - {type: max_symbol_ratio, value: 0.4}
  near_duplicates: {drop_at: 0.9, same_split_at: 0.7}
  validation_fraction: 0.2
  test_fraction: 0.2
augment:
  fraction: 0.5
  copies: 2
  operations: [{type: synonym, probability: 0.5}, {type: keyboard, probability: 0.2}]
tokenizer: {vocab_size: 300}
pack: {block_size: 16}
model: {architecture: llama}
train: {max_steps: 1}
"""


def write_sources(folder: Path) -> None:
    """Forty documents with something for every stage to do."""
    prose = [f"However, number {n} often   starts a big cafe\u0301 on road {n * n}." for n in range(30)]
    (folder / "prose.txt").write_text("\n\n".join([*prose, prose[3], "short", "schÃ¶ne alte Geschichte, oft erzählt"]))
    records = [{"text": f"The quick reply {n} is usually correct.", "kind": n % 3} for n in range(10)]
    (folder / "records.jsonl").write_text("\n".join([*map(json.dumps, records), "{broken"]))


def test_output_changes_only_with_the_version(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    project = Project(tmp_path)
    write_sources(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    assert set(project.run("--until", "pack").values()) == {"built"}
    found = {}
    for stage in DATA_STAGES:
        manifest = json.loads((project.artifact(stage) / "manifest.json").read_text())
        found[stage] = {"version": manifest["version"], "digest": manifest["digest"]}
    if request.config.getoption("--record-digests"):
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
    recorded = json.loads(RECORD.read_text())
    for stage in DATA_STAGES:
        assert found[stage] == recorded[stage], f"{stage} writes something else: see the head of {Path(__file__).name}"
