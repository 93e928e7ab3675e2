"""Translate with any two sequence-to-sequence models of transformers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.corpus.pretrained_models import files_of_model, one_thread, open_model
from pipeline.corpus.translators.base_tokenized_pair import TokenizedPair
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHERE = "augment.operations: back_translation.{}"


class TransformersPair(TokenizedPair, type="transformers"):
    """Any two sequence-to-sequence models of transformers: Marian, NLLB, M2M100, mBART, T5."""

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers", "sentencepiece")

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The files of local folders."""
        there = files_of_model(self.forward, WHERE.format("forward"))
        return {**there, **files_of_model(self.backward, WHERE.format("backward"))}

    def check(self) -> None:
        """Opens both models, which also fetches them. Raises ConfigError as `open_model`."""
        for backward in (False, True):
            tokenizer = self._leg(backward)[0]
            for code in self._languages(backward):
                if code is not None and tokenizer.convert_tokens_to_ids(code) in (None, tokenizer.unk_token_id):
                    raise ConfigError(f"augment.operations: back_translation: no model has the language {code!r}")

    def _leg(self, backward: bool) -> tuple[PreTrainedTokenizerBase, Any, Any]:
        tokenizer, model = self._backward if backward else self._forward
        return tokenizer, model, model.config

    @cached_property
    def _forward(self) -> tuple[Any, Any]:
        return open_model("AutoModelForSeq2SeqLM", self.forward, WHERE.format("forward"))

    @cached_property
    def _backward(self) -> tuple[Any, Any]:
        return open_model("AutoModelForSeq2SeqLM", self.backward, WHERE.format("backward"))

    def _generate(
        self, tokenizer: PreTrainedTokenizerBase, model: Any, ids: Sequence[list[int]], target: str | None, room: int
    ) -> list[str | None]:
        settings = copy.deepcopy(model.generation_config)
        settings.update(num_beams=self.beams, do_sample=False, num_return_sequences=1)
        settings.update(max_new_tokens=room, max_length=None)
        if target is not None:
            settings.update(forced_bos_token_id=tokenizer.convert_tokens_to_ids(target))
        batch = tokenizer.pad({"input_ids": list(ids)}, return_tensors="pt")
        with one_thread():
            rows = model.generate(**batch, generation_config=settings).tolist()
        ends = settings.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [text.strip() if ends.intersection(row[1:]) else None for text, row in zip(texts, rows, strict=True)]
