"""Layers of settings: of those of which one may be given, the later layer's stands in for the earlier one's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config, Section
from pipeline.config.loading import load_config
from pipeline.errors import ConfigError
from pipeline.plain_yaml import dump
from pipeline.section import sections_in
from pipeline.training.train_config import LENGTHS

VALUES: dict[str, Any] = {
    "max_steps": 50, "num_train_epochs": 2.5, "max_tokens": 4096,
    "warmup_steps": 5, "warmup_ratio": 0.25,
    "min_lr_ratio": 0.5, "lr_scheduler_kwargs.lr_end": 1e-5, "lr_scheduler_kwargs.min_lr": 1e-5,
    "lr_scheduler_kwargs.min_lr_rate": 0.125, "lr_scheduler_kwargs.min_lr_ratio": 0.125,
    "architecture": "gpt2", "preset": "llama-125m", "pretrained": "folder",
    "text_field": "body", "text_template": "{title}",
}  # fmt: skip


def schedule(kind: str, num_decay_steps: int | None) -> dict[str, Any]:
    return {"train.lr_scheduler_type": kind, "train.lr_scheduler_kwargs.num_decay_steps": num_decay_steps}


NEEDS = {
    "lr_scheduler_kwargs.lr_end": schedule("polynomial", None),
    "lr_scheduler_kwargs.min_lr": schedule("cosine_with_min_lr", None),
    "lr_scheduler_kwargs.min_lr_rate": schedule("cosine_with_min_lr", None),
    "lr_scheduler_kwargs.min_lr_ratio": schedule("warmup_stable_decay", 5),
    "pretrained": {"tokenizer": {"type": "pretrained", "pretrained": "folder"}},
}
"""What else a setting needs to be valid."""


def sections(model: type[Section], key: str = "") -> Iterator[tuple[str, type[Section]]]:
    yield key, model
    for name, field in model.model_fields.items():
        inner = f"{name}.0" if "list" in str(field.annotation) else name
        for other in sections_in(field.annotation):
            yield from sections(other, f"{key}.{inner}".strip("."))


PAIRS = sorted(
    {(key, pair) for key, model in sections(Config) for group in model.alternatives for pair in permutations(group, 2)}
)


def value_of(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return value


def settings_of(section: str, name: str) -> dict[str, Any]:
    """An alternative and what it needs, by dotted key."""
    return {**NEEDS.get(name, {}), f"{section}.{name}": VALUES[name]}


def write(path: Path, *settings: dict[str, Any]) -> Path:
    """A configuration that gives these settings and none of the alternatives but them."""
    sources = [{"name": name, "type": "jsonl", "paths": [f"{name}.jsonl"]} for name in ("docs", "quiz")]
    values: dict[str, Any] = {
        "run": {"name": "tiny"},
        "ingest": {"sources": sources[:1]},
        "curate": {"decontaminate": {"against": sources[1:]}},
        "model": {},
        "train": {},
    }
    given = {key: value for some in settings for key, value in some.items()}
    if not any(f"train.{name}" in given for name in LENGTHS):
        given["train.max_steps"] = 10
    for key, value in given.items():
        *holder, last = key.split(".")
        inner: Any = values
        for part in holder:
            inner = inner[int(part)] if part.isdigit() else inner.setdefault(part, {})
        inner[last] = value
    path.write_text(dump(values))
    return path


def as_overrides(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def test_all_alternatives_are_tried() -> None:
    assert {name for _, pair in PAIRS for name in pair} == VALUES.keys()
    assert {len(pair) for _, pair in PAIRS} == {2}


@pytest.mark.parametrize(("section", "pair"), PAIRS, ids=lambda part: part if isinstance(part, str) else "-".join(part))
def test_the_later_of_two_alternatives_stands(tmp_path: Path, section: str, pair: tuple[str, str]) -> None:
    earlier, later = (settings_of(section, name) for name in pair)
    keys = [f"{section}.{name}" for name in pair]
    alone = load_config(write(tmp_path / "alone.yaml", later))
    expected = [value_of(alone, key) for key in keys]
    assert expected[1] == VALUES[pair[1]]

    path = write(tmp_path / "run.yaml", earlier)
    assert value_of(load_config(path), keys[0]) == VALUES[pair[0]]
    found = {"command line over file": load_config(path, as_overrides(later))}
    found["later on the command line"] = load_config(
        write(tmp_path / "neither.yaml"), as_overrides(earlier) + as_overrides(later)
    )
    if not section[-1].isdigit():  # a list of a base is replaced as a whole
        write(tmp_path / "derived.yaml", later)
        text = (tmp_path / "derived.yaml").read_text()
        (tmp_path / "derived.yaml").write_text(f"base: run.yaml\n{text}")
        found["file over base"] = load_config(tmp_path / "derived.yaml")
    for how, config in found.items():
        assert [value_of(config, key) for key in keys] == expected, how

    if (pair[0] in NEEDS) != (pair[1] in NEEDS) or not NEEDS.keys() & {*pair}:
        with pytest.raises(ConfigError, match=r"are both given, of which one may be; remove one$"):
            load_config(write(tmp_path / "both.yaml", earlier, later))


@pytest.mark.parametrize(
    ("overrides", "message", "what_it_says"),
    [
        (
            ["train.lr_scheduler_type=linear"],
            "lr_scheduler_kwargs.num_decay_steps is not for linear; it takes none; remove it",
            "train.lr_scheduler_kwargs.num_decay_steps=null",
        ),
        (
            ["tokenizer.type=pretrained", "tokenizer.pretrained=x"],
            "unknown key; only type byte_level_bpe and characters have it: set that, or remove it",
            "tokenizer.vocab_size=null",
        ),
        (
            ["model.pretrained=x", "tokenizer={type: pretrained, pretrained: x}"],
            "a pretrained model has its weights; remove initialization",
            "model.initialization=null",
        ),
    ],
)
def test_a_setting_in_the_way_is_taken_back_as_the_message_says(
    tmp_path: Path, overrides: list[str], message: str, what_it_says: str
) -> None:
    path = write(
        tmp_path / "run.yaml",
        {"train.lr_scheduler_type": "warmup_stable_decay", "train.lr_scheduler_kwargs.num_decay_steps": 5},
        {"tokenizer.vocab_size": 300, "model.initialization": {"type": "xavier"}},
    )
    with pytest.raises(ConfigError, match=re.escape(f"{message} (on the command line: {what_it_says})")):
        load_config(path, overrides)
    load_config(path, [*overrides, what_it_says])


def test_what_is_null_can_be_referred_to(tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", {"model.pretrained": "x", "model.revision": "a" * 40})
    reference = "tokenizer={type: pretrained, pretrained: x, revision: '${model.revision}'}"
    config = load_config(path, [reference, "model.revision=null"])
    assert value_of(config, "tokenizer.revision") is None


def test_null_takes_a_setting_back_where_it_is_no_value_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", {"train.learning_rate": 0.5, "train.max_grad_norm": 2.0, "pack.block_size": 64})
    config = load_config(path, ["train.learning_rate=null", "train.max_grad_norm=null", "pack=null"])
    assert config.train.learning_rate == type(config.train).model_fields["learning_rate"].default
    assert config.train.max_grad_norm is None
    assert config.pack == type(config.pack)()
    for empty in ("train.learning_rate=", "train.learning_rate= "):
        with pytest.raises(ConfigError, match=r"train\.learning_rate: got null; expected a number"):
            load_config(path, [empty])
