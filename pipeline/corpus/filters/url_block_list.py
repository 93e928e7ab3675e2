"""Drop documents from web addresses of a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.corpus.documents import Document
from pipeline.corpus.filters.base_filter import Filter
from pipeline.corpus.list_files import file_of_key, read_lines

if TYPE_CHECKING:
    from pipeline.corpus.document_batches import DocumentBatch
    from pipeline.corpus.text_facts import TextFacts


class UrlBlockList(Filter, type="url_block_list"):
    """Drop documents whose origin is a web address at a place of a list. Origins that are none are not asked."""

    urls: Path
    """File with a host (`example.com`, with all hosts below it) or an address (`example.com/forum`, with all pages
    below it) a line; blank lines and those that begin with `#` do not count."""

    def files_of_key(self) -> Mapping[str, Sequence[Path]]:
        """The list."""
        return file_of_key(self.urls, "url_block_list", "urls")

    def check(self) -> None:
        """Raises BadDataError for a list that is not UTF-8."""
        read_lines(self.urls)

    def reason_to_drop(self, document: Document) -> str | None:
        return self._reason(document.origin)

    def reasons(self, batch: DocumentBatch, seen: TextFacts) -> Sequence[str | None]:
        return list(map(self._reason, batch.table.column("origin").to_pylist()))

    def _reason(self, origin: str) -> str | None:
        return None if self.listed.isdisjoint(places_of(origin)) else "address in url_block_list"

    @cached_property
    def listed(self) -> frozenset[str]:
        """Hosts and addresses as `places_of` writes them."""
        lines = map(str.strip, read_lines(self.urls))
        addresses = [line if "://" in line else f"http://{line}" for line in lines if line and not line.startswith("#")]
        return frozenset(next(places_of(address), "") for address in addresses) - {""}


def places_of(address: str) -> Iterator[str]:
    """A web address without scheme, user, port, `www.` and query, then all folders, hosts and domains it is in. None of
    what is no web address."""
    if not address.lower().startswith(("http://", "https://")):
        return
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").rstrip(".").removeprefix("www.")
    except ValueError:  # such as a bracket that is not closed
        return
    folders = [part for part in parts.path.split("/") if part]
    for depth in range(len(folders), 0, -1):
        yield "/".join([host, *folders[:depth]])
    labels = host.split(".")
    for first in range(len(labels)):
        yield ".".join(labels[first:])
