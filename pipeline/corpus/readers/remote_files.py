"""Files on S3, Google Cloud Storage and HTTP, by fsspec: listed with a stamp of their content, and fetched one by one.

Credentials are those of the environment. Addresses in messages have no query strings and passwords.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pipeline.corpus.documents import FilePart, RemoteFile
from pipeline.corpus.remote_names import is_web, scheme_of
from pipeline.errors import BadDataError, ConfigError, DescentError, MissingInputError, StorageError, is_disk_full

CONNECT_SECONDS, SILENCE_SECONDS = 10, 30
"""How long is waited for a connection, and for the next bytes."""

TRIES = 5
FIRST_WAIT_SECONDS = 1.0
"""Between two tries; twice as long each time."""

FRESH_SECONDS = 60.0
"""How long a listing is not asked for again: a command needs it several times."""

EXTRAS = {"s3": ("s3", "s3fs"), "gs": ("gcs", "gcsfs"), "gcs": ("gcs", "gcsfs")}
"""By scheme, the extra that brings what reads it, and its name."""

_SECRETS = re.compile(r"(?<=://)[^\s/@'\"]*@|\?[^\s'\")>,]*")
_WILDCARDS = re.compile(r"[*?\[]")

Value = TypeVar("Value")


def list_remote(pattern: str, suffixes: tuple[str, ...], place: str) -> dict[RemoteFile, str]:
    """The files that an address stands for, sorted, and how documents name them: by what lies below its last folder
    without wildcards. Of a folder those that end in one of `suffixes`, hidden ones left out.

    Raises MissingInputError where there is none, StorageError where the server cannot be reached, BadDataError where
    nothing tells whether a file has changed, ConfigError where an extra is not installed.
    """
    return dict(_listing(pattern, suffixes, place, int(time.monotonic() / FRESH_SECONDS)))


@lru_cache(maxsize=1000)
def _listing(pattern: str, suffixes: tuple[str, ...], place: str, _minute: int) -> tuple[tuple[RemoteFile, str], ...]:
    system, path = _opened(pattern, place)
    found, base = _found(system, path, pattern, suffixes, place)
    if not found:
        wanted = f"; a folder's files have to end in {' or '.join(suffixes)}" if base == path else ""
        raise MissingInputError(f"{place}: {pattern} matches no file{wanted}; mend the address")
    scheme = "" if is_web(pattern) else f"{scheme_of(pattern)}://"
    files = []
    for name, facts in sorted(found.items()):
        url = name if "://" in name else f"{scheme}{name}"
        file = RemoteFile(url, int(facts.get("size") or 0), _stamp(url, facts, place))
        files.append((file, name[len(base) :].strip("/") or name.rpartition("/")[2]))
    return tuple(files)


def _found(
    system: Any, path: str, pattern: str, suffixes: tuple[str, ...], place: str
) -> tuple[dict[str, dict[str, Any]], str]:
    """The files with what the server says of them, by name, and what of their names documents leave out."""

    def ask() -> tuple[dict[str, dict[str, Any]], str]:
        fixed = _WILDCARDS.split(path)[0]
        if not is_web(pattern) and fixed != path:
            listed = system.glob(path, detail=True)
            return {name: facts for name, facts in listed.items() if facts["type"] == "file"}, fixed.rpartition("/")[0]
        if not is_web(pattern) and (pattern.endswith("/") or not system.isfile(path)):
            below = system.find(path, detail=True)
            return {
                name: facts
                for name, facts in below.items()
                if name.lower().endswith(suffixes) and "/." not in name[len(path.rstrip("/")) :]
            }, path
        return {path: system.info(path)}, path.rpartition("/")[0]

    return _patiently(ask, pattern, place, tries=2)


def _stamp(url: str, facts: dict[str, Any], place: str) -> str:
    """What tells a file's content from what it was before: the server's tag, or else the time of its last change; and
    its size."""
    names = ("ETag", "etag", "md5Hash", "generation", "Last-Modified", "LastModified", "updated")
    tag = next((facts[name] for name in names if facts.get(name)), None)
    if tag is None or facts.get("size") is None:
        raise BadDataError(
            f"{place}: the server does not tell of {url} by what a change could be seen (its size with an ETag or "
            "Last-Modified); fetch it and name the file"
        )
    return f"{str(tag).strip(chr(34))} {facts['size']}"


@contextmanager
def fetched(part: FilePart, scratch: Path, place: str) -> Iterator[FilePart]:
    """A file as one of this machine, in a folder of its own below `scratch`, until it has been read.

    Raises StorageError where it cannot be fetched, BadDataError where it is not what was listed.
    """
    remote = part.remote
    assert remote is not None
    copy = scratch / "fetched" / part.path.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    system, path = _opened(remote.url, place)

    def fetch() -> None:
        system.get_file(path, str(copy))
        if copy.stat().st_size != remote.num_bytes:
            raise ConnectionError(f"{copy.stat().st_size:,} of {remote.num_bytes:,} bytes came")

    def check() -> None:
        facts = _patiently(lambda: system.info(path), remote.url, place)
        if _stamp(remote.url, facts, place) != remote.stamp:
            raise BadDataError(f"{place}: {remote.url} changed since it was listed; run again")

    try:
        check()
        _patiently(fetch, remote.url, place)
        check()  # What came is of one version.
        yield replace(part, path=copy, remote=None)
    finally:
        copy.unlink(missing_ok=True)


def _opened(url: str, place: str) -> tuple[Any, str]:
    """What speaks to a server, and the path by which it knows a file."""
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {"use_listings_cache": False}
    if is_web(url):
        from aiohttp import ClientTimeout

        times = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        # A server that packs what it sends would send other bytes than it says.
        options["headers"] = {"Accept-Encoding": "identity"}
        options["client_kwargs"] = {"timeout": times, "trust_env": True, "auto_decompress": False}
    elif scheme_of(url) == "s3":
        options["config_kwargs"] = {"connect_timeout": CONNECT_SECONDS, "read_timeout": SILENCE_SECONDS}
    else:
        # Without what gcsfs tries of new kinds of buckets, for which it asks a server of another kind first.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        options["requests_timeout"] = SILENCE_SECONDS
    try:
        system, path = url_to_fs(url, **options)
    except ImportError:
        extra, package = EXTRAS[scheme_of(url)]
        raise ConfigError(f"{place}: {url} needs {package}; pip install 'descent-pipeline[{extra}]'") from None
    return system, str(path)


def _patiently(act: Callable[[], Value], url: str, place: str, tries: int = TRIES) -> Value:
    """What comes of asking a server, again if need be. What it refuses is not asked again."""
    wait = FIRST_WAIT_SECONDS
    for last in (*[False] * (tries - 1), True):
        try:
            return act()
        except DescentError:
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            status = _status(error)
            # What speaks HTTP says so of every failure; the cause tells.
            if status == 404 or (isinstance(error, FileNotFoundError) and not is_web(url)):
                raise MissingInputError(f"{place}: there is no {url}; mend the address") from None
            if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
                where = "~/.netrc" if is_web(url) else "the environment, as the tools of this storage read them"
                raise StorageError(
                    f"{place}: access to {url} is refused ({_words(error)}); put credentials into {where}"
                ) from None
            if last or (status is not None and 400 <= status < 500 and status not in (408, 429)):
                raise StorageError(f"{place}: {url} cannot be read ({_words(error)}); try again") from None
        time.sleep(wait)
        wait *= 2
    raise AssertionError


def _status(error: BaseException) -> int | None:
    """The status by HTTP that an error, or its cause, came of."""
    while not isinstance(status := getattr(error, "status", None), int):
        if error.__cause__ is None:
            return None
        error = error.__cause__
    return status


def _words(error: BaseException) -> str:
    """The first cause of an error in one line, without what may be secret."""
    while error.__cause__ is not None:
        error = error.__cause__
    return without_secrets(" ".join(str(error).split()))[:200] or type(error).__name__


def without_secrets(text: str) -> str:
    """A text in which addresses have no query strings and passwords."""
    return _SECRETS.sub("", text)
