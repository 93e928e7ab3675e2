"""Loading: inheritance, interpolation, overrides, and what words of YAML mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import MINIMAL

from pipeline.config.loading import load_config
from pipeline.plain_yaml import dump, read_file


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
    config = load_config(path, ["train.max_steps=30", "model.config.hidden_size=64", "ingest.sources.0.max_bytes=2"])
    assert config.train.learning_rate == 1e-3
    assert config.train.save_steps == 30
    assert config.model.config["hidden_size"] == 64
    assert config.ingest.sources[0].max_bytes == 2


def test_text_that_other_readers_take_for_something_else_stays_text(write) -> None:
    config = load_config(
        write(
            MINIMAL.replace("name: tiny", "name: 2024-01-01") + "  mixed_precision: no\nreport: {language: [no, en]}\n"
        )
    )
    assert config.run.name == "2024-01-01"
    assert config.train.mixed_precision == "no"
    assert config.report.language == ("no", "en")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1e3", 1000), ("1_000", 1000), ("0x10", 16), ("0o10", 8), ("010", 10), ("+7", 7), ("'12'", 12)],
)
def test_numbers_are_those_of_yaml_1_2(write, given: str, expected: int) -> None:
    assert load_config(write(MINIMAL), [f"train.max_steps={given}"]).train.max_steps == expected


def test_merges_bring_what_is_not_given(write) -> None:
    path = write(MINIMAL.replace("run:\n", "run:\n  <<: [{seed: 3, name: other}, {seed: 4, num_workers: 2}]\n"))
    run = load_config(path).run
    assert (run.name, run.seed, run.num_workers) == ("tiny", 3, 2)


def test_a_byte_order_mark_and_foreign_line_ends_do_no_harm(write) -> None:
    path = write("")
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_config(path).run.name == "tiny"


def test_what_is_dumped_reads_back(write) -> None:
    texts = ["no", "1e3", "0o10", "1_000", "010", "2024-01-01", "~", "", "null", "<<", "12:30", "a: b", "é\n", "-"]
    values = {"texts": texts, "numbers": [1, 1e-5, True, None]}
    assert read_file(write(dump(values)))[0] == values
    prompts = ["${HOME} or ${run.name}", "a\\b"]
    config = load_config(write(MINIMAL))
    samples = config.evaluate.samples.model_copy(update={"prompts": prompts})
    changed = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"samples": samples})})
    assert load_config(write(dump(changed.model_dump(mode="json")))) == changed
