"""What a model is trained on is what a user of its export gives it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from tokenizers import Tokenizer, models
from tokens.artifacts import PROSE, run_stage, write_split, write_streams
from tokens.designs import BOS, CLS, EOS, SEP, Design, designs, texts
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.errors import ConfigError
from pipeline.stages.encode import STAGE as ENCODE
from pipeline.stages.pack import STAGE as PACK
from pipeline.stages.tokenizer import STAGE as TOKENIZER
from pipeline.tokens.encoding import EncodeConfig, encode_documents
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.tokens.labels import write_labels
from pipeline.tokens.packing import PackConfig
from pipeline.tokens.template import Template, end_texts
from pipeline.tokens.tokenizer_folder import load_tokenizer, read_vocabulary, save_tokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.characters import Characters
from pipeline.tokens.tokenizers.pretrained import Pretrained, load_pretrained_tokenizer, save_pretrained_tokenizer


@contextmanager
def taken_over(design: Design) -> Iterator[Path]:
    """The tokenizer's folder as the tokenizer stage leaves it."""
    with tempfile.TemporaryDirectory() as root:
        design.write(Path(root) / "theirs")
        tokenizer = load_pretrained_tokenizer(Path(root) / "theirs", False, "tokenizer")
        save_pretrained_tokenizer(tokenizer, Path(root) / "ours", PROSE[:5])
        yield Path(root) / "ours"


def encode(tokenizer_folder: Path, documents: list[str], output: Path) -> list[list[int]]:
    """The documents as they stand in a stream, (documents,) of their ids."""
    tokenizer = load_tokenizer(tokenizer_folder)
    encode_documents(documents, tokenizer, read_vocabulary(tokenizer_folder, tokenizer), output, 100)
    ends = np.fromfile(output / "stream.ds.index", "<u8").astype(np.int64)
    return [ids.tolist() for ids in np.split(np.fromfile(output / "stream.ds", "<u2"), ends[:-1])]


def given_to_a_user(tokenizer: PreTrainedTokenizerBase, text: str, **options: int | bool) -> list[int]:
    """What a user of an export gets for a text. A special token's name in it is text, as for the pipeline."""
    return list(tokenizer(text, split_special_tokens=True, verbose=False, **options).input_ids)


@settings(max_examples=60, deadline=None, derandomize=True)
@example(Design(template="bos"), ["a"])
@example(Design(template="cls and sep", has_eos=False, kind="WordPiece"), ["a", ""])
@example(Design(template="after the end"), ["a"])
@given(designs, texts)
def test_streams_hold_what_a_user_of_the_export_gets(design: Design, documents: list[str]) -> None:
    with taken_over(design) as folder:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        end = tokenizer.eos_token_id
        for ids, text in zip(encode(folder, documents, folder / "stream"), documents, strict=True):
            wanted = given_to_a_user(tokenizer, text)
            alone = given_to_a_user(tokenizer, text, add_special_tokens=False)
            ends_itself = wanted.count(end) > alone.count(end)
            assert ids == (wanted if ends_itself else [*wanted, end])
            assert ids.count(end) == alone.count(end) + 1


@settings(max_examples=40, deadline=None, derandomize=True)
@example(Design(template="cls and sep"), ["a text that is cut off"])
@given(designs, texts)
def test_a_tokenizer_of_documents_with_labels_gives_their_sequences(design: Design, documents: list[str]) -> None:
    with taken_over(design) as folder:
        streams = encode(folder, documents, folder / "stream")
        template = Template.of(load_tokenizer(folder))
        end_texts(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert [given_to_a_user(tokenizer, text) for text in documents] == streams
        ends = np.cumsum([len(ids) for ids in streams])
        split = LabelledSplit(
            stream=np.concatenate(streams).astype(np.uint16),
            starts=ends - [len(ids) for ids in streams],
            lengths=np.minimum(8, [len(ids) for ids in streams]),
            targets=np.zeros(len(streams), dtype=np.int64),
            documents=np.arange(len(streams)),
            block_size=8,
            vocab_size=500,
            pad_token_id=tokenizer.pad_token_id,
            suffix_token_ids=template.ended_by(tokenizer.eos_token_id).suffix,
            label_dtype=np.int64,
        )
        batch = split.batch(range(len(split)))
        rows = [ids[mask == 1].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        assert rows == [given_to_a_user(tokenizer, text, truncation=True, max_length=8) for text in documents]


def test_a_template_by_hand(tmp_path: Path) -> None:
    for name, around in {
        "none": ([], []),
        "bos": ([BOS], []),
        "bos and eos": ([BOS], [EOS]),
        "cls and sep": ([CLS], [SEP]),
        "two before": ([CLS, BOS], []),
        "after the end": ([], [EOS, CLS]),
    }.items():
        Design(template=name).write(tmp_path / name)
        tokenizer = load_tokenizer(tmp_path / name)
        template, end = Template.of(tokenizer), tokenizer.token_to_id(EOS)
        before, after = ([tokenizer.token_to_id(token) for token in tokens] for tokens in around)
        assert template == Template(tuple(before), tuple(after)), name
        ended = after if EOS in around[1] else [*after, end]
        assert list(template.ended_by(end).around([9, 8])) == [*before, 9, 8, *ended], name


def test_none_is_added_to_the_text_of_tokenizers_that_are_trained_here(tmp_path: Path) -> None:
    for kind in (ByteLevelBpe(vocab_size=300), Characters(vocab_size=300)):
        folder = tmp_path / kind.type
        save_tokenizer(kind.train(PROSE), folder)
        assert Template.of(load_tokenizer(folder)) == Template()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        streams = encode(folder, PROSE[:5], folder / "stream")
        assert streams == [[*given_to_a_user(tokenizer, text), tokenizer.eos_token_id] for text in PROSE[:5]]


def test_settings_of_transformers_count_like_a_template(tmp_path: Path) -> None:
    Design().write(tmp_path / "whole")
    model = json.loads((tmp_path / "whole/tokenizer.json").read_bytes())["model"]
    folder = tmp_path / "in_parts"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"])]))
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": "[UNK]", "pad_token": "[PAD]"}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    save_pretrained_tokenizer(load_pretrained_tokenizer(folder, False, "tokenizer"), tmp_path / "ours", PROSE[:5])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    (ids,) = encode(tmp_path / "ours", ["A text."], tmp_path / "stream")
    assert ids == [*given_to_a_user(tokenizer, "A text."), tokenizer.eos_token_id]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == BOS


def test_a_tokenizer_that_gives_no_token_is_refused(tmp_path: Path) -> None:
    Design(template="bos").write(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.model = models.BPE()
    with pytest.raises(ConfigError, match="it gives no text a token"):
        Template.of(tokenizer)


def test_a_tokenizer_that_cannot_encode_the_text_is_refused_in_a_line(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "<end>": 1, "<pad>": 2}))
    special = {"eos_token": "<end>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(tmp_path / "a")
    write_split(tmp_path / "curate/train", ["a", "b"])
    section = Pretrained(pretrained=str(tmp_path / "a"))
    with pytest.raises(ConfigError, match=r"tokenizer\.pretrained: it cannot encode all of the text \(WordLevel error"):
        run_stage(TOKENIZER, section, {"curate": tmp_path / "curate"}, tmp_path / "out")


def test_a_model_of_sentencepiece_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tokens.tokenizers.pretrained.find_spec", lambda name: None)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(ConfigError, match=r"is a SentencePiece model.*: pip install sentencepiece"):
        load_pretrained_tokenizer(tmp_path, False, "tokenizer")


def test_encode_and_pack_say_what_stands_around_documents(tmp_path: Path) -> None:
    Design(template="cls and sep").write(tmp_path / "theirs")
    for split in ("curate/train", "augment/train", "curate/validation", "curate/test"):
        write_split(tmp_path / split, ["one text", "another", "a third"])
    inputs = {name: tmp_path / name for name in ("curate", "augment", "tokenizer", "encode")}
    section = Pretrained(pretrained=str(tmp_path / "theirs"))
    run_stage(TOKENIZER, section, inputs, inputs["tokenizer"])
    summary, _ = run_stage(ENCODE, EncodeConfig(), inputs, inputs["encode"])
    assert summary["tokenizer_adds"] == {"before": [CLS], "after": [SEP]}
    special = load_tokenizer(inputs["tokenizer"]).token_to_id
    run_stage(PACK, PackConfig(block_size=8), inputs, tmp_path / "text")
    packed = json.loads((tmp_path / "text/test/pack.json").read_bytes())
    assert (packed["prefix_token_ids"], packed["suffix_token_ids"]) == ([special(CLS)], [special(SEP), special(EOS)])

    for split in ("train", "validation", "test"):
        write_labels(["x", "y", "x"], inputs["encode"] / split)
    run_stage(PACK, PackConfig(block_size=4, strategy="classification"), inputs, tmp_path / "labelled")
    rows = LabelledSplit.open(tmp_path / "labelled", inputs["encode"], "test", np.int64).batch([0, 1])["input_ids"]
    assert rows[:, 0].tolist() == [special(CLS)] * 2
    assert rows[0, -2:].tolist() == [special(SEP), special(EOS)], "kept where the document is cut"


def test_what_is_usual_is_not_written_so_that_finished_trainings_stay(tmp_path: Path) -> None:
    write_streams(tmp_path, {"train": [[5, 6, 1], [7, 1]]}, 4, 50)
    packed = json.loads((tmp_path / "pack/train/pack.json").read_bytes())
    assert not {"prefix_token_ids", "suffix_token_ids"} & packed.keys()
