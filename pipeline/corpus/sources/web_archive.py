"""Archives of the web."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_web_pages import NEEDED, WebPages, check_web_extra


class WebArchive(LocalFiles, WebPages, type="warc"):
    """Archives of the web, WARC or ARC, packed by gzip or not: pages of HTML and plain text that a server gave with
    success, and the texts of WET files. All else in them, and pages without text, are passed over."""

    libraries = ("resiliparse", "fastwarc")
    suffixes = (".warc", ".warc.gz", ".arc", ".arc.gz", ".wet", ".wet.gz")
    is_text = False

    def check(self) -> None:
        """Raises ConfigError where the extractor or the reader is not installed."""
        check_web_extra(self.place, (*NEEDED.get(self.extractor, NEEDED["resiliparse"]), "fastwarc"))

    def cut(self, whole: FilePart) -> Iterator[FilePart]:
        """Parts of about a shard, which begin where records do."""
        from pipeline.corpus.readers.archive_cuts import cut_archive

        return cut_archive(whole)

    def read_part(self, part: FilePart) -> Iterator[Document | Rejected]:
        from pipeline.corpus.readers.archive_reader import read_archive

        return read_archive(self, part)
