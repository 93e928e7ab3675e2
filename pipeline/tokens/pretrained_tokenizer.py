"""Tokenizers that come with a pretrained model: fetched, given the tokens that the pipeline needs, checked."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.atomic import write_json
from pipeline.errors import ConfigError, MissingInputError, panics_as_errors, without_panic_messages
from pipeline.pretrained.inspection import nothing_but, read_object, without_foreign_code
from pipeline.pretrained.origin import CODE_FILES, OWN_ARCHITECTURES, Origin, check_vocabulary, has_code, used_files
from pipeline.tokens.template import Template
from pipeline.tokens.training import EOS_TOKEN, PAD_TOKEN, encode_texts, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECKED_TEXTS = 200
MOST_GROWTH = 1_000
"""How many times as long a normalizer may make a text. One letter of Unicode becomes 18."""

NAMES_OF_FILES = {"configuration_files", "fast_tokenizer_files", "init_inputs", "merges", "vocab"}
"""Settings that name files, beside those whose name ends in `_file`."""

HUB_TIMEOUT_SECONDS = 10.0
PAD_TOKENS = (PAD_TOKEN, "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>")
"""Names under which vocabularies have a token for padding, though their tokenizer may not say so."""


@contextmanager
def opened(origin: Origin, section: str, patterns: Sequence[str]) -> Iterator[Path]:
    """A folder with the files of something pretrained that match, and trusted code, downloaded first if it is a hub
    repository and not in the cache.

    It holds links to them and nothing else, and no file in it names another one.

    Raises MissingInputError when the hub does not give it, ConfigError when its files are not what they should be or
    its code lies elsewhere.
    """
    source, where = _fetch(origin, section, patterns), f"{section}.pretrained: {origin.pretrained}"
    paths = used_files(source, origin, section, patterns)
    check_vocabulary(map(str, paths), origin, section)
    with nothing_but(paths, source) as folder:
        for name in ("config.json", "tokenizer_config.json"):
            _cut_names(folder / name, where)
        if origin.trust_remote_code:
            _check_code_is_inside(folder, where)
        yield folder


def _cut_names(path: Path, where: str) -> None:
    """Put the settings of a tokenizer or model without those that name files in place of a link to them. Many folders
    name files of the machine on which they were written; where the library does not overlook that, it reads what lies
    there, or another version than that of the plain name."""
    if not path.is_file():
        return
    values = read_object(path, where)
    kept = {name: value for name, value in values.items() if not (name in NAMES_OF_FILES or name.endswith("_file"))}
    if kept != values:
        path.unlink()
        path.write_text(json.dumps(kept))


def _fetch(origin: Origin, section: str, patterns: Sequence[str]) -> Path:
    assert origin.pretrained is not None
    if origin.revision is None:
        return Path(origin.pretrained).expanduser()
    from huggingface_hub import HfApi, snapshot_download

    wanted = [*patterns, *(CODE_FILES if origin.trust_remote_code else ())]
    failure: Exception | None = None
    try:
        # Asked once, while the download asks again for half a minute, with a line each time.
        HfApi().model_info(origin.pretrained, revision=origin.revision, timeout=HUB_TIMEOUT_SECONDS)
    except Exception as error:
        # Of whichever library huggingface_hub talks HTTP with. The cache may hold everything.
        failure = error
    try:
        return Path(
            snapshot_download(
                origin.pretrained,
                revision=origin.revision,
                allow_patterns=wanted,
                local_files_only=failure is not None,
            )
        )
    except (OSError, ValueError) as error:
        # huggingface_hub's errors are of these kinds: no network, no such repository or commit, no permission.
        reason = " ".join(f"{type(failure).__name__}: {failure}".split() if failure else str(error).split())[:200]
        raise MissingInputError(
            f"{section}.pretrained: the hub does not give {origin.pretrained} at {origin.revision}: {reason}; "
            "check the name, the commit, the network and `hf auth login`, or name a local folder"
        ) from None


def _check_code_is_inside(folder: Path, where: str) -> None:
    """Code that lies elsewhere could change without a trace in any identity."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        entries = read_object(path, where).get("auto_map") if path.is_file() else None
        listed = entries.values() if isinstance(entries, dict) else [entries]
        for entry in [one for found in listed for one in (found if isinstance(found, list) else [found])]:
            module = str(entry).rpartition(".")[0]
            if entry is not None and not (module.isidentifier() and (folder / f"{module}.py").is_file()):
                raise ConfigError(
                    f"{where}: {name} takes code from {str(entry)!r}, whose version nothing pins; copy that code "
                    "into a local folder, and let its auto_map name the files there"
                )


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
