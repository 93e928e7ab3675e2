"""Models of transformers that stages of the corpus ask: one thread, float32, evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.extras import need_extra
from pipeline.errors import ConfigError
from pipeline.pretrained.link_view import opened
from pipeline.pretrained.origin import MODEL_FILES, TOKENIZER_FILES, Origin, base_name, check_model_files, origin_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VOCABULARIES = (*TOKENIZER_FILES, "source.spm", "target.spm", "target_vocab.json")
"""Patterns of the files of a tokenizer, those of Marian among them."""

UNKNOWN_LENGTH = 512
"""Tokens of the longest text, where neither a model nor its tokenizer says it."""


class Model(Origin):
    """A folder of transformers with weights in safetensors, or a repository of the hub at a commit."""

    pretrained: str
    """A local folder; with `revision`, a repository of the hub, such as `Helsinki-NLP/opus-mt-en-de`."""


def name_of_model(origin: Origin) -> str:
    """What provenance calls a model."""
    assert origin.pretrained is not None
    name = base_name(origin.pretrained, origin.revision)
    return f"{name}@{origin.revision}" if origin.revision else name


def files_of_model(origin: Origin, where: str) -> Mapping[str, Sequence[Path]]:
    """The files of a local folder, for the key; a repository of the hub is pinned by its commit.

    Raises MissingInputError where there is no folder, ConfigError for what may not be opened.
    """
    files = origin_files(origin, where, (*MODEL_FILES, *VOCABULARIES))
    if files:
        check_model_files(files, origin, where)
    return files


def open_model(kind: str, origin: Origin, where: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer, and the model as a class of transformers such as `AutoModelForMaskedLM`.

    Raises ConfigError where the folder gives none, MissingInputError where the hub does not give it.
    """
    import torch
    import transformers

    with opened(origin, where, (*MODEL_FILES, *VOCABULARIES)) as folder, quiet():
        check_model_files(map(str, folder.iterdir()), origin, where)
        tokenizer = open_tokenizer(folder, origin, where)
        try:
            model = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, trust_remote_code=origin.trust_remote_code, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise _unusable(origin, where, f"as {kind}", error, folder) from None
    return tokenizer, model.eval()


def open_tokenizer(folder: Path, origin: Origin, where: str) -> PreTrainedTokenizerBase:
    """The tokenizer of an opened folder. Raises ConfigError where it gives none."""
    from transformers import AutoTokenizer

    if [*folder.glob("*.spm")]:
        need_extra("sentencepiece", "translate", f"{where}.pretrained: the tokenizer of {origin.pretrained}")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=origin.trust_remote_code)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(origin, where, "for its tokenizer", error, folder) from None


def longest_text(tokenizer: PreTrainedTokenizerBase, hf_config: Any) -> int:
    """Tokens of the longest text, its special tokens included."""
    positions = getattr(hf_config, "max_position_embeddings", None) or UNKNOWN_LENGTH
    return int(min(tokenizer.model_max_length, positions))


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in one thread without gradients: with more, sums are formed in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers says nothing on standard error but errors, and shows no bars."""
    import warnings

    from transformers.utils import logging

    before, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if had_bars:
            logging.enable_progress_bar()


def _unusable(origin: Origin, where: str, what: str, error: Exception, folder: Path) -> ConfigError:
    reason = " ".join(str(error).replace(str(folder), folder.name).split())[:200]
    return ConfigError(f"{where}.pretrained: {origin.pretrained} cannot be opened {what}: {reason}")
