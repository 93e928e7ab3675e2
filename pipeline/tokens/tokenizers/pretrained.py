"""A tokenizer that comes with a pretrained model: given the tokens that the pipeline needs, and checked."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from pipeline.atomic import write_json
from pipeline.errors import ConfigError, panics_as_errors, without_panic_messages
from pipeline.pretrained.folder_checks import read_object, without_foreign_code
from pipeline.pretrained.link_view import opened
from pipeline.pretrained.origin import OWN_ARCHITECTURES, TOKENIZER_FILES, Origin, has_code, origin_files
from pipeline.tokens.round_trip import foresee_losses
from pipeline.tokens.tokenizers.base_tokenizer import EOS_TOKEN, PAD_TOKEN, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Beside a model's config.json transformers picks the tokenizer's class by the kind of model.
PATTERNS = (*TOKENIZER_FILES, "config.json")
CHECKED_TEXTS = 200
MOST_GROWTH = 1_000
"""How many times as long a normalizer may make a text. One letter of Unicode becomes 18."""

PAD_TOKENS = (PAD_TOKEN, "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>")
"""Names under which vocabularies have a token for padding, though their tokenizer may not say so."""


class Pretrained(Tokenizer, Origin, type="pretrained"):
    """The tokenizer of a pretrained model, for fine-tuning. Nothing is trained."""

    is_bound: ClassVar[bool] = False

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> Self:
        if self.pretrained is None:
            raise ValueError("type pretrained needs `pretrained`, a folder or a hub repository")
        return self

    def num_tokens(self) -> int:
        """Those of its vocabulary. Raises as `make`."""
        with opened(self, "tokenizer", PATTERNS) as source:
            return len(load_pretrained_tokenizer(source, self.trust_remote_code, "tokenizer"))

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The files of a local folder by their paths."""
        return origin_files(self, "tokenizer", PATTERNS)

    def early_warnings(self) -> list[str]:
        """What the file of a local tokenizer tells of texts that it will not give back."""
        if self.revision is not None:
            return []
        assert self.pretrained is not None
        try:
            tokenizer = json.loads((Path(self.pretrained).expanduser() / "tokenizer.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return []
        parts = foresee_losses(tokenizer) if isinstance(tokenizer, dict) else []
        if not parts:
            return []
        return [
            f"the tokenizer may lose text ({', '.join(parts)}): how much of yours is measured when it is made, and by "
            "encode of the held-out documents"
        ]

    def make(self, texts: Iterable[str], sample: Sequence[str], folder: Path) -> None:
        """Write it with the tokens that it lacks.

        Raises MissingInputError and ConfigError for what cannot be had or used.
        """
        with opened(self, "tokenizer", PATTERNS) as source:
            tokenizer = load_pretrained_tokenizer(source, self.trust_remote_code, "tokenizer")
            for _ in texts:
                pass
            save_pretrained_tokenizer(tokenizer, folder, sample)


def _check_growth(folder: Path, where: str) -> None:
    """Raises ConfigError for a normalizer whose steps, each harmless, make texts longer without end. Tried step by step
    on the printable letters and what its steps replace, before the library normalizes the tokens with it."""
    from tokenizers import Tokenizer, models

    path = folder / "tokenizer.json"
    steps = [read_object(path, where).get("normalizer")] if path.is_file() else []
    while any(_parts(step) != [step] for step in steps):
        steps = [one for step in steps for one in _parts(step)]
    replaced = [step["pattern"] for step in steps if isinstance(step, dict) and isinstance(step.get("pattern"), dict)]
    probe = string.printable + " ".join(str(pattern.get("String", "")) for pattern in replaced)
    blank, text = json.loads(Tokenizer(models.BPE()).to_str()), probe
    for step in steps:
        try:
            with panics_as_errors():
                normalizer = Tokenizer.from_str(json.dumps({**blank, "normalizer": step})).normalizer
        except Exception:  # The library tells what it does not know when it reads the whole.
            return
        with panics_as_errors():
            text = normalizer.normalize_str(text) if normalizer is not None else text
        if len(text) > MOST_GROWTH * len(probe):
            raise ConfigError(
                f"{where}: its normalizer makes texts more than {MOST_GROWTH:,} times as long; take another tokenizer, "
                "or mend the normalizer in its tokenizer.json"
            )


def _parts(step: Any) -> list[Any]:
    """The steps of a normalizer that is a sequence; any other one alone."""
    within = step.get("normalizers") if isinstance(step, dict) else None
    return within if isinstance(within, list) else [step]


def load_pretrained_tokenizer(folder: Path, trust_remote_code: bool, section: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, with an end-of-document token and a padding token.

    The end is its end-of-sequence token, else its separator, else a new token. Padding that is missing is a token of
    the vocabulary that is meant for it, else the end: the vocabulary gets no token that no text needs. Raises
    ConfigError for a folder without a usable tokenizer.
    """
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file() and [*folder.glob("*.model")] and find_spec("sentencepiece") is None:
        raise ConfigError(
            f"{section}.pretrained: the tokenizer of {folder.name} is a SentencePiece model, which is read with the "
            "library of that name: pip install sentencepiece"
        )
    _check_growth(folder, f"{section}.pretrained: {folder.name}")
    try:
        with panics_as_errors(), without_panic_messages():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code, config=_config_of(folder)
            )
    except Exception as error:
        reason = " ".join(str(error).replace(str(folder), folder.name).split())[:200]
        raise ConfigError(f"{section}.pretrained: {folder.name} gives no tokenizer: {reason}") from None
    if not tokenizer.is_fast:
        raise ConfigError(f"{section}.pretrained: the tokenizer of {folder.name} has no fast form (tokenizer.json)")
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float) or isinstance(limit, bool) or limit < 1:
        raise ConfigError(
            f"{section}.pretrained: {folder.name}: model_max_length {limit!r} is no number of tokens; mend it"
        )
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.sep_token or EOS_TOKEN
        tokenizer.add_special_tokens({"eos_token": tokenizer.eos_token})
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        tokenizer.pad_token = next((name for name in PAD_TOKENS if name in vocabulary), tokenizer.eos_token)
    return tokenizer


def _config_of(folder: Path) -> Any:
    """An empty configuration beside a model of ours, so that transformers, which looks there for rules of its own, does
    not miss or warn of an architecture that it does not know; None lets it look."""
    from transformers import PreTrainedConfig

    path = folder / "config.json"
    is_ours = path.is_file() and json.loads(path.read_bytes()).get("model_type") in OWN_ARCHITECTURES
    return PreTrainedConfig() if is_ours else None


def save_pretrained_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, texts: Sequence[str]) -> None:
    """Write the folder, and make sure on `texts` that transformers gives its user what the pipeline takes for a text,
    with special tokens such as `<s>`.

    Raises ConfigError when the two give other ids: the trained model would see other tokens than a user of its export.
    """
    from transformers import AutoTokenizer

    from pipeline.tokens.template import Template
    from pipeline.tokens.tokenizer_folder import encode_texts, load_tokenizer

    try:
        tokenizer.save_pretrained(folder)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"tokenizer.pretrained: transformers cannot save it again: {reason}; mend its settings"
        ) from None
    settings = folder / "tokenizer_config.json"
    values = json.loads(settings.read_bytes())
    if (kept := without_foreign_code(values, folder)) != values:
        write_json(settings, kept)
    own = load_tokenizer(folder)
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=has_code(folder))
    template, checked = Template.of(own), list(texts[:CHECKED_TEXTS])
    with without_panic_messages():  # one by one: each thread would tell of its own
        encoded = [ids for text in checked for ids in encode_texts(own, [text])]
    for text, ids in zip(checked, encoded, strict=True):
        given = theirs(text, split_special_tokens=True, verbose=False).input_ids
        if given != [*template.around(ids)]:
            raise ConfigError(
                "tokenizer.pretrained: transformers reads the saved tokenizer in another way than its tokenizer.json "
                f"says, as on {text[:40]!r}; take the tokenizer of another model"
            )
