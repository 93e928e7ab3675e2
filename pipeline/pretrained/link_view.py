"""Open a pretrained folder or Hub repository: download it, and show the library links to the checked files alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ConfigError, MissingInputError
from pipeline.pretrained.folder_checks import nothing_but, read_object
from pipeline.pretrained.origin import CODE_FILES, Origin, check_vocabulary, used_files

NAMES_OF_FILES = {"configuration_files", "fast_tokenizer_files", "init_inputs", "merges", "vocab"}
"""Settings that name files, beside those whose name ends in `_file`."""

HUB_TIMEOUT_SECONDS = 10.0


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
