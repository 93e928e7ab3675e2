"""A masked language model is asked about the right places, and its words stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations.base_augmentation import Draw
from pipeline.corpus.augmentations.masked_lm import MaskedLm
from pipeline.corpus.edits import apply_edits
from pipeline.corpus.prose_words import FUNCTION_WORDS, prose_words
from pipeline.errors import ConfigError, MissingInputError

WORDS = ["old", "red", "blue", "house", "river", "boat", "walked", "looked", "the", "was", "by", "it", "and", "a"]
PIECES = ["##s", "##ed", "walk", "b", "##oats", ",", ".", "(", ")", "1", "0", "_", "=", "!", "'"]
TEXT = "The old boats was   by the river, and it walked\nby (the) house. Old boats!\n    old = river\nriver_1 was old"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights that expects "blue" most anywhere, and "red" next."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *PIECES]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=34, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForMaskedLM(BertConfig(vocab_size=len(names), max_position_embeddings=34, **sizes))
    with torch.no_grad():
        model.cls.predictions.bias[vocabulary["blue"]] = 50.0
        model.cls.predictions.bias[vocabulary["red"]] = 40.0
    model.save_pretrained(folder)
    return folder


def operation(folder: Path | str, **fields: Any) -> MaskedLm:
    settings = {"type": "masked_lm", "pretrained": str(folder), "probability": 1.0, **fields}
    made = AugmentConfig.model_validate({"operations": [settings]}).operations[0]
    assert isinstance(made, MaskedLm)
    return made


def altered(made: MaskedLm, text: str) -> str:
    return apply_edits(text, made.edits(text, Draw(1)))


def test_words_are_replaced_where_they_stand(bert: Path) -> None:
    made = operation(bert, top_k=1)
    made.check()
    assert made.model == bert.name
    assert str(bert / "model.safetensors") in made.files_of_key()
    assert altered(made, TEXT) == (
        "The blue blue was   by the blue, and it blue\nby (the) blue. Blue blue!\n    old = river\nriver_1 was blue"
    )
    # A word is not replaced by itself.
    assert altered(made, "blue boat") == "red blue"


def test_words_are_put_in_before_others(bert: Path) -> None:
    after = altered(operation(bert, mode="insert", top_k=1), "The old boats by (the) 1,\nby boats.")
    assert after == "blue The blue old blue boats blue by (blue the) 1,\nblue by blue boats."


def test_the_model_sees_all_but_the_places(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = operation(bert, top_k=3)
    words, seen = made._words, []
    model, tokenizer = words._model, words._tokenizer

    class Watched:
        config = model.config

        def __call__(self, **given: Any) -> Any:
            seen.extend(tokenizer.batch_decode(given["input_ids"]))
            return model(**given)

    monkeypatch.setattr(words, "_model", Watched())
    found = words.expected(["The old boats. It", "It was"], [[(4, 7), (8, 13), (15, 15)], []])
    assert seen == ["[CLS] the [MASK] [MASK] . [MASK] it [SEP]"]
    assert [len(one) for one in found[0]] == [4, 4, 4]
    assert set(found[0][0]) <= set(WORDS) - FUNCTION_WORDS
    assert max(found[0][0], key=found[0][0].__getitem__) == "blue"
    assert sum(found[0][0].values()) == pytest.approx(1)
    seen.clear()
    # Windows of a text that is longer than the model: each place is seen once, in one of them.
    text = " ".join(["old river by the house."] * 20)
    places = [match.span() for match in re.finditer("river", text)]
    assert all(one for one in words.expected([text], [places])[0])
    assert sum(row.count("[MASK]") for row in seen) == 20
    assert all(len(tokenizer(row, add_special_tokens=False).input_ids) <= 32 for row in seen)
    assert len(seen) >= 4


def test_each_drawn_word_is_changed_wherever_it_is(bert: Path) -> None:
    text = "\n\n".join([TEXT, "Red boats walked! " * 50, "unknownword old " * 30])
    made = operation(bert, probability=0.5, top_k=5)
    edits = made.edits(text, Draw(5))
    known = {match.span(): match[0] for match in prose_words(text) if match[0].lower() not in FUNCTION_WORDS}
    assert {(edit.start, edit.stop) for edit in edits} <= known.keys()
    assert 0.35 * len(known) < len(edits) < 0.65 * len(known)
    assert all(edit.text.lower() in set(WORDS) - FUNCTION_WORDS - {known[edit[:2]].lower()} for edit in edits)
    assert all(edit.text[0].isupper() == known[edit[:2]][0].isupper() for edit in edits)
    assert made.edits(text, Draw(5)) == edits
    assert operation(bert, probability=0.5, top_k=5).edits_of_all([TEXT, text], [Draw(6), Draw(5)])[1][:5] == edits[:5]


def test_a_folder_without_such_a_model_is_told(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"masked_lm.pretrained: there is no folder"):
        operation(tmp_path / "none").files_of_key()
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"^augment.operations: masked_lm.pretrained: .* cannot be opened"):
        operation(tmp_path).check()
    with pytest.raises(ValueError, match="is no commit of 40 hexadecimal digits"):
        operation("owner/name", revision="main")
