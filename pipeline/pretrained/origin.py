"""What names something pretrained: a local folder, or a hub repository pinned to a commit. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipeline.errors import ConfigError, MissingInputError
from pipeline.pretrained.folder_checks import INDEX, WEIGHTS, check_links, check_model_folder, check_tokenizer_folder
from pipeline.section import Section

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)

OWN_ARCHITECTURES = ("grok1",)
"""Model types that this package adds to those of transformers."""

MODEL_FILES = ("config.json", "generation_config.json", f"*{WEIGHTS}", f"*{INDEX}")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
"""Patterns of the files in a Hugging Face folder that belong to its tokenizer."""
CODE_FILES = ("*.py",)


class Origin(Section):
    """Where something pretrained comes from."""

    pretrained: str | None = Field(default=None, min_length=1)
    """A local Hugging Face folder; with `revision`, a repository of the hub, such as `openai-community/gpt2`."""

    revision: str | None = None
    """Commit of the hub repository, 40 hexadecimal digits; a branch or tag could change. Null for a folder."""

    trust_remote_code: bool = False
    """Run the Python code that the folder or repository brings. Only for those whose authors you trust."""

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if self.revision is None:
            if self.trust_remote_code and self.pretrained is None:
                raise ValueError("trust_remote_code is only for something pretrained; remove it")
            return self
        if self.pretrained is None or not HUB_ID.fullmatch(self.pretrained):
            raise ValueError(
                f"revision is only for a hub repository, but pretrained is {self.pretrained!r}; remove it for a folder"
            )
        if not COMMIT.fullmatch(self.revision):
            raise ValueError(
                f"revision {self.revision!r} is no commit of 40 hexadecimal digits, so what it names could change; "
                f"take one from https://huggingface.co/{self.pretrained}/commits/main"
            )
        return self


def base_name(pretrained: str, revision: str | None) -> str:
    """What to call a pretrained model where others read it: a hub repository as it is, a folder without the path that
    leads to it on this machine."""
    if revision is not None:
        return pretrained
    path = Path(pretrained)
    return path.name if path.name not in ("", "..") else path.resolve().name


def origin_files(origin: Origin, section: str, patterns: Iterable[str]) -> dict[str, list[Path]]:
    """The files of a local folder that match, labelled by their path; {} for a hub repository, which its commit pins.

    Raises MissingInputError when the folder does not exist, ConfigError for a link out of it.
    """
    if origin.pretrained is None or origin.revision is not None:
        return {}
    folder = Path(origin.pretrained).expanduser()
    if not folder.is_dir():
        hint = (
            "; for a repository of the hub give its commit as revision" if HUB_ID.fullmatch(origin.pretrained) else ""
        )
        raise MissingInputError(f"{section}.pretrained: there is no folder {origin.pretrained!r} in {Path.cwd()}{hint}")
    return {path.as_posix(): [path] for path in used_files(folder, origin, section, patterns)}


def model_files(origin: Origin, section: str) -> dict[str, list[Path]]:
    """The files of a local folder that belong to a model and its tokenizer, as `origin_files`. Raises ConfigError also
    for what `check_weights` refuses."""
    files = origin_files(origin, section, (*MODEL_FILES, *TOKENIZER_FILES))
    if files:
        check_model_files(files, origin, section)
    return files


def used_files(folder: Path, origin: Origin, section: str, patterns: Iterable[str]) -> list[Path]:
    """The files of a folder that match, and code that is trusted, sorted. Raises ConfigError for a link out of it."""
    wanted = [*patterns, *(CODE_FILES if origin.trust_remote_code else ())]
    paths = sorted({path for pattern in wanted for path in folder.glob(pattern) if path.is_file()})
    check_links(paths, folder, f"{section}.pretrained: {origin.pretrained}")
    return paths


def check_model_files(files: Iterable[str], origin: Origin, section: str) -> None:
    """Raises ConfigError when a folder's files, given by path, lack a configuration or safetensors weights, name
    anything else, or do not fit together."""
    names = {Path(path).name: Path(path) for path in files}
    if "config.json" in names and not any(name.endswith(WEIGHTS) for name in names):
        raise ConfigError(
            f"{section}.pretrained: {origin.pretrained} has no *.safetensors, and no other format is read since those "
            "can run code; save the model again with save_pretrained"
        )
    check_model_folder(names, f"{section}.pretrained: {origin.pretrained}")


def check_vocabulary(files: Iterable[str], origin: Origin, section: str) -> None:
    """Raises ConfigError when a tokenizer's files, given by path, number tokens beyond all measure."""
    check_tokenizer_folder(
        {Path(path).name: Path(path) for path in files}, f"{section}.pretrained: {origin.pretrained}"
    )


def has_code(folder: Path) -> bool:
    """Whether one of our own artifacts brings Python code, which only trust_remote_code lets in."""
    return any(folder.glob("*.py"))
