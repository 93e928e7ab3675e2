"""Tiny tokenizers of all kinds, saved as their authors would have saved them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokens.artifacts import PROSE
from transformers import PreTrainedTokenizerFast

PAD, UNK, BOS, EOS, CLS, SEP = SPECIAL = ("[PAD]", "[UNK]", "<s>", "</s>", "[CLS]", "[SEP]")

NORMALIZERS = {
    "lowercase": normalizers.Lowercase,
    "no accents": lambda: normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "NFKC": normalizers.NFKC,
    "one space": lambda: normalizers.Replace(Regex(" {2,}"), " "),
    "no control characters": normalizers.Nmt,
    "strip": normalizers.Strip,
    "bert": lambda: normalizers.BertNormalizer(lowercase=True),
}
TEMPLATES = {
    "none": None,
    "bos": f"{BOS} $A",
    "eos": f"$A {EOS}",
    "bos and eos": f"{BOS} $A {EOS}",
    "cls and sep": f"{CLS} $A {SEP}",
    "two before": f"{CLS} {BOS} $A",
    "after the end": f"$A {EOS} {CLS}",
}
KINDS = ("byte-level BPE", "BPE with byte fallback", "BPE of letters", "Unigram", "WordPiece", "WordLevel")


@dataclass(frozen=True)
class Design:
    """What a tokenizer is made of."""

    kind: str = "byte-level BPE"
    normalizer: str | None = None
    puts_space_first: bool = False
    """Before every text: SentencePiece's dummy prefix, GPT-2's add_prefix_space."""
    keeps_space: bool = False
    """Decoding leaves it there."""
    template: str = "none"
    has_eos: bool = True

    def write(self, folder: Path) -> None:
        """The tokenizer's Hugging Face folder."""
        tokenizer = Tokenizer.from_str(_trained(self.kind, self.normalizer, self.puts_space_first, self.keeps_space))
        template = TEMPLATES[self.template]
        if template is not None:
            ids = [(token, tokenizer.token_to_id(token)) for token in SPECIAL]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=template, pair=f"{template} $B:1", special_tokens=ids
            )
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            **{"bos_token": BOS, "cls_token": CLS, "sep_token": SEP, "pad_token": PAD, "unk_token": UNK},
            **({"eos_token": EOS} if self.has_eos else {}),
        ).save_pretrained(folder)


@cache
def _trained(kind: str, normalizer: str | None, puts_space_first: bool, keeps_space: bool) -> str:
    special: dict[str, Any] = {"special_tokens": list(SPECIAL), "show_progress": False}
    scheme = "always" if puts_space_first else "never"
    strip = [decoders.Strip(" ", 1, 0)] if puts_space_first and not keeps_space else []
    metaspace = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    if kind == "byte-level BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=puts_space_first)
        tokenizer.decoder = decoders.ByteLevel()
        if strip:
            tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), *strip])
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer: Any = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, **special)
    elif kind in ("BPE with byte fallback", "BPE of letters"):
        fallback = kind == "BPE with byte fallback"
        tokenizer = Tokenizer(models.BPE(unk_token=UNK, byte_fallback=fallback))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        tokenizer.decoder = metaspace
        special["special_tokens"] += [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
        trainer = trainers.BpeTrainer(vocab_size=450, **special)
    elif kind == "Unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        tokenizer.decoder = metaspace
        trainer = trainers.UnigramTrainer(vocab_size=200, unk_token=UNK, **special)
    elif kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=UNK))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=300, **special)
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(vocab_size=60, **special)
    if normalizer is not None:
        tokenizer.normalizer = NORMALIZERS[normalizer]()
    tokenizer.train_from_iterator(PROSE[:5], trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    text: str = tokenizer.to_str()
    return text


designs = st.builds(
    Design,
    kind=st.sampled_from(KINDS),
    normalizer=st.sampled_from([None, None, *NORMALIZERS]),
    puts_space_first=st.booleans(),
    keeps_space=st.booleans(),
    template=st.sampled_from(list(TEMPLATES)),
    has_eos=st.booleans(),
)

AWKWARD = (
    "",
    " ",
    "  two  spaces , before ' marks .",
    " a space first",
    "line\r\nend\n\n\n\ttab\x00\x07",
    "<s> and [CLS] and </s> as text",
    "e\u0301 is not \u00e9, \ufb01 is not fi",
    "日本語 ▁ Ελληνικά 🙂",
    *PROSE[:5],
)
texts = st.lists(
    st.one_of(st.sampled_from(AWKWARD), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
    min_size=1,
    max_size=8,
)
