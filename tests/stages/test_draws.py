"""The seed enters the key of a stage exactly where its result depends on it: each is run with two seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation.tiny import tiny_model
from modeling.checkpoints import make_pretrained
from tokens.artifacts import PROSE, run_stage, write_split
from transformers import AutoTokenizer

from pipeline.atomic import digest_file, list_files, write_json
from pipeline.config import Config
from pipeline.corpus.document_shards import write_shards
from pipeline.corpus.documents import Document, document_id
from pipeline.stages import STAGES
from pipeline.tokens.encoding import EncodeConfig
from pipeline.tokens.labelled_split import CLASSES
from pipeline.tokens.packing import PackConfig
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe

STAGE_OF = {stage.name: stage for stage in STAGES}
BASE: dict[str, Any] = {
    "run": {"name": "r"},
    "ingest": {"sources": [{"name": "s", "type": "text", "paths": ["x"]}]},
    "model": {"architecture": "llama"},
    "train": {"max_steps": 1},
}


def config_of(**sections: Any) -> Config:
    return Config.model_validate({**BASE, **sections})


def depends_on_the_seed(stage: str, config: Config, inputs: dict[str, Path], folder: Path) -> bool:
    digests = []
    for seed in (1, 2):
        output = folder / str(seed)
        run_stage(STAGE_OF[stage], getattr(config, stage), inputs, output, seed=seed)
        digests.append({name: digest_file(output / name) for name in list_files(output)})
    return digests[0] != digests[1]


KEYBOARD = [{"type": "keyboard", "probability": 0.5}]


@pytest.mark.parametrize(
    ("sections", "draws"),
    [
        ({}, False),
        ({"augment": {"operations": KEYBOARD}}, False),  # done to no copy, for there is none
        ({"augment": {"fraction": 1.0, "operations": KEYBOARD}}, True),
    ],
)
def test_augment(tmp_path: Path, sections: dict[str, Any], draws: bool) -> None:
    config = config_of(**sections)
    documents = [Document(document_id("s", str(i), text), text, "s", str(i)) for i, text in enumerate(PROSE)]
    write_shards(tmp_path / "curate/train", documents)
    assert depends_on_the_seed("augment", config, {"curate": tmp_path / "curate"}, tmp_path) is draws
    assert STAGE_OF["augment"].uses_seed(config) is draws


@pytest.mark.parametrize(
    ("settings", "draws"),
    [
        ({"config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                     "num_key_value_heads": 2}}, True),
        ({"config": {"hidden_size": 16, "num_attention_heads": 2}, "materialize_limit": 1}, True),  # a recipe
        ({"pretrained": "base"}, False),
        ({"pretrained": "base", "adapter": {"type": "lora", "r": 2}}, False),  # training draws it
        ({"pretrained": "base", "task": "classification"}, True),  # a new head
    ],
)  # fmt: skip
def test_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], draws: bool) -> None:
    monkeypatch.chdir(tmp_path)
    make_pretrained(tmp_path / "base", {"eos_token": "<end>", "pad_token": "<pad>"})
    labelled = {"name": "s", "type": "jsonl", "paths": ["x"], "label_field": "l"}
    sections = {"model": settings, "ingest": {"sources": [labelled]}}
    if "pretrained" in settings:
        sections["tokenizer"] = {"type": "pretrained", "pretrained": "base"}
    config = config_of(**sections)
    (tmp_path / "pack" / CLASSES).parent.mkdir(parents=True)
    write_json(tmp_path / "pack" / CLASSES, {"classes": ["a", "b"]})
    inputs = {"tokenizer": tmp_path / "base", "pack": tmp_path / "pack"}
    assert depends_on_the_seed("model", config, inputs, tmp_path) is draws
    assert STAGE_OF["model"].uses_seed(config) is draws


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("artifacts")
    folders = {name: root / name for name in ("curate", "augment", "tokenizer", "encode", "pack", "train")}
    for split in ("train", "validation", "test"):
        write_split(folders["curate"] / split, PROSE[:6])
    write_split(folders["augment"] / "train", PROSE)
    run_stage(STAGE_OF["tokenizer"], ByteLevelBpe(vocab_size=300), folders, folders["tokenizer"])
    run_stage(STAGE_OF["encode"], EncodeConfig(), folders, folders["encode"])
    run_stage(STAGE_OF["pack"], PackConfig(block_size=16), folders, folders["pack"])
    tiny_model(300).save_pretrained(folders["train"] / "model")
    AutoTokenizer.from_pretrained(folders["tokenizer"]).save_pretrained(folders["train"] / "model")
    return folders


@pytest.mark.parametrize(
    ("samples", "draws"),
    [
        ({}, True),
        ({"prompts": ["The"]}, True),
        ({"num_samples": 0}, False),
        ({"num_samples": 0, "prompts": ["The"]}, True),
        ({"temperature": 0}, False),
        ({"top_k": 1}, False),
    ],
)
def test_evaluate(tmp_path: Path, trained: dict[str, Path], samples: dict[str, Any], draws: bool) -> None:
    config = config_of(evaluate={"baselines": False, "samples": {"max_new_tokens": 8, **samples}})
    assert depends_on_the_seed("evaluate", config, trained, tmp_path) is draws
    assert STAGE_OF["evaluate"].uses_seed(config) is draws


def test_the_evaluation_of_labels_writes_nothing() -> None:
    source = {"name": "s", "type": "jsonl", "paths": ["x"], "label_field": "l"}
    config = config_of(ingest={"sources": [source]}, model={"task": "classification"})
    assert not STAGE_OF["evaluate"].uses_seed(config)


def test_the_other_stages_of_data_give_the_same_for_any_seed(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(f"{number}: {text}" for number, text in enumerate(PROSE)))
    source = {"name": "s", "type": "text", "paths": [str(tmp_path / "text.txt")], "separator": "\n\n"}
    config = config_of(
        ingest={"sources": [source]},
        curate={"filters": [], "validation_fraction": 0.2, "test_fraction": 0.2, "near_duplicates": None},
        tokenizer={"vocab_size": 300},
        pack={"block_size": 16},
    )
    made: dict[str, Path] = {}
    for stage in ("ingest", "normalize", "curate", "augment", "tokenizer", "encode", "pack"):
        assert not depends_on_the_seed(stage, config, made, tmp_path / stage), stage
        made[stage] = tmp_path / stage / "1"
    assert {stage.name for stage in STAGES if stage.uses_seed(config)} == {"model", "train", "evaluate"}
