"""Addresses of files on other machines. Imports nothing heavy."""

from __future__ import annotations

import re

SCHEMES = ("s3", "gs", "gcs", "http", "https")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_remote(path: str) -> bool:
    """Whether a path is an address of another machine."""
    return _ADDRESS.match(path) is not None


def scheme_of(url: str) -> str:
    """How an address begins, in small letters."""
    found = _ADDRESS.match(url)
    return found[1].lower() if found else ""


def is_web(url: str) -> bool:
    """Whether an address is of HTTP."""
    return scheme_of(url) in ("http", "https")


def check_address(url: str) -> None:
    """Raises ValueError for an address that cannot be read, or that would put a secret on record. The message does not
    repeat it."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in SCHEMES:
        raise ValueError(f"an address begins with {', '.join(SCHEMES)}, not with {scheme}; fetch the file and name it")
    if "@" in rest.partition("/")[0] or (is_web(url) and ("?" in rest or "#" in rest)):
        raise ValueError(
            f"an address on {rest.rpartition('@')[2].partition('/')[0].partition('?')[0]} has a user's name or a query "
            "string, which would be on record; leave it out, and put credentials into the environment or ~/.netrc"
        )
    if is_web(url) and ("*" in rest or rest.rstrip("/").count("/") == 0 or url.endswith("/")):
        raise ValueError(f"{url} names no file, and HTTP lists none; name each by its address")
