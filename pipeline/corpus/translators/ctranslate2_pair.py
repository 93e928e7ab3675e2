"""Translate with models that were converted for CTranslate2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.corpus.extras import need_extra
from pipeline.corpus.pretrained_models import VOCABULARIES, open_tokenizer, quiet
from pipeline.corpus.translators.base_tokenized_pair import TokenizedPair
from pipeline.errors import ConfigError
from pipeline.pretrained.link_view import opened
from pipeline.pretrained.origin import Origin, origin_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHERE = "augment.operations: back_translation.{}"
FILES = ("model.bin", "config.json", "*vocabulary.json", "*vocabulary.txt", *VOCABULARIES)


class CTranslate2Pair(TokenizedPair, type="ctranslate2"):
    """Two models of CTranslate2, each in a folder with the tokenizer of the model that it was made from
    (`ct2-transformers-converter --copy_files`). Needs the extra `translate`."""

    libraries: ClassVar[tuple[str, ...]] = ("ctranslate2", "transformers", "tokenizers", "sentencepiece")

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The files of local folders."""
        there = origin_files(self.forward, WHERE.format("forward"), FILES)
        return {**there, **origin_files(self.backward, WHERE.format("backward"), FILES)}

    def check(self) -> None:
        """Opens both models, which also fetches them. Raises ConfigError where one is of no use."""
        need_extra("ctranslate2", "translate", "augment.operations: back_translation with engine ctranslate2")
        for backward in (False, True):
            self._leg(backward)

    def _leg(self, backward: bool) -> tuple[PreTrainedTokenizerBase, Any, Any]:
        tokenizer, model = self._backward if backward else self._forward
        return tokenizer, model, None

    @cached_property
    def _forward(self) -> tuple[Any, Any]:
        return _load(self.forward, WHERE.format("forward"))

    @cached_property
    def _backward(self) -> tuple[Any, Any]:
        return _load(self.backward, WHERE.format("backward"))

    def _generate(
        self, tokenizer: PreTrainedTokenizerBase, model: Any, ids: Sequence[list[int]], target: str | None, room: int
    ) -> list[str | None]:
        results = model.translate_batch(
            [tokenizer.convert_ids_to_tokens(one) for one in ids],
            target_prefix=None if target is None else [[target]] * len(ids),
            beam_size=self.beams,
            max_input_length=0,
            max_decoding_length=room,
            return_end_token=True,
        )
        found: list[str | None] = []
        for result in results:
            *tokens, end = result.hypotheses[0] or [""]
            if end != tokenizer.eos_token:
                found.append(None)
                continue
            decoded = tokenizer.decode(tokenizer.convert_tokens_to_ids(tokens), skip_special_tokens=True)
            found.append(str(decoded).strip())
        return found


def _load(origin: Origin, where: str) -> tuple[Any, Any]:
    import ctranslate2

    with opened(origin, where, FILES) as folder, quiet():
        tokenizer = open_tokenizer(folder, origin, where)
        try:
            model = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).replace(str(folder), folder.name).split())[:200]
            raise ConfigError(f"{where}.pretrained: CTranslate2 cannot open {origin.pretrained}: {reason}") from None
    return tokenizer, model
