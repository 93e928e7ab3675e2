"""The tokens around a text: special tokens of the tokenizer, and the end of a document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pipeline.errors import ConfigError

PROBES = ("a", "0", " a")


@dataclass(frozen=True)
class Template:
    """Ids before and after every text, such as `<s>`, or `[CLS]` and `[SEP]`."""

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Template:
        """What the tokenizer itself puts around a single text. Raises ConfigError when no text gives a token."""
        if not tokenizer.num_special_tokens_to_add(is_pair=False):
            return cls()
        ids, mask = _probe(tokenizer)
        first, last = mask.index(0), len(mask) - mask[::-1].index(0)
        return cls(tuple(ids[:first]), tuple(ids[last:]))

    def ended_by(self, eos_token_id: int) -> Template:
        """With an end-of-document token after the text, unless one is there already."""
        if eos_token_id in self.suffix:
            return self
        return Template(self.prefix, (*self.suffix, eos_token_id))

    def around(self, ids: Sequence[int]) -> Iterator[int]:
        """A text's ids with what stands around them."""
        return chain(self.prefix, ids, self.suffix)


def _probe(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids of some text with the special tokens around it, and their mask: 1 where they are special."""
    tokens = (tokenizer.decode([index]) for index in sorted(tokenizer.get_vocab().values()))
    for text in chain(PROBES, tokens):
        try:
            encoding = tokenizer.encode(text)
        except Exception:  # Of a tokenizer without an unknown token, which does not know the text.
            continue
        if 0 in encoding.special_tokens_mask:
            return encoding.ids, encoding.special_tokens_mask
    raise ConfigError("tokenizer.pretrained: it gives no text a token; take another tokenizer")


def end_texts(folder: Path) -> None:
    """Make the tokenizer of a Hugging Face folder end every text with the end-of-document token, as in training: a head
    over labels reads it. What it puts around a text already stays."""
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    eos = json.loads((folder / "tokenizer_config.json").read_bytes())["eos_token"]
    eos = eos if isinstance(eos, str) else eos["content"]
    own, eos_token_id = Template.of(tokenizer), tokenizer.token_to_id(eos)
    assert eos_token_id is not None, "a tokenizer artifact has an eos_token"
    ended = own.ended_by(eos_token_id)
    if ended == own:
        return

    def special(ids: Sequence[int], type_id: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": tokenizer.id_to_token(index), "type_id": type_id}} for index in ids]

    def text(name: str, type_id: int) -> list[dict[str, Any]]:
        return [{"Sequence": {"id": name, "type_id": type_id}}, *special(ended.suffix, type_id)]

    values = json.loads(path.read_bytes())
    single = [*special(ended.prefix, 0), *text("A", 0)]
    values["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *text("B", 1)],
        "special_tokens": {
            token: {"id": token, "ids": [index], "tokens": [token]}
            for index in (*ended.prefix, *ended.suffix)
            for token in [tokenizer.id_to_token(index)]
        },
    }
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
