"""Archives that warcio wrote, or that were written by hand, are read record by record; damage costs what it hits."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import brotli
import pytest
from corpus.test_formats import make_source, read
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.readers import archive_cuts
from pipeline.corpus.readers.reading_jobs import reading_tasks

RANDOM = random.Random(5)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def page(text: str) -> bytes:
    filler = RANDOM.randbytes(200).hex()
    return f"<html><body><nav><a href='/'>Home</a></nav><p>{text}</p><!-- {filler} --></body></html>".encode()


class Writer:
    """What warcio writes, and where each record begins."""

    def __init__(self, is_packed: bool = True) -> None:
        self._buffer = io.BytesIO()
        self._warc = WARCWriter(self._buffer, gzip=is_packed)
        self._warc.write_record(self._warc.create_warcinfo_record("a.warc", {"software": "a test"}))
        self.starts: list[int] = []

    def add(self, url: str, body: bytes, status: str = "200 OK", **headers: str) -> None:
        """A response with its request and what the crawler says of it."""
        named = {"Content_Type": "text/html; charset=utf-8", **headers}
        pairs = [(name.replace("_", "-"), value) for name, value in named.items() if value]
        answer = StatusAndHeaders(status, pairs, protocol="HTTP/1.1")
        self._write(url, "response", body, answer)
        self._write(url, "request", b"", StatusAndHeaders("GET / HTTP/1.1", [("Host", "e.org")], is_http_request=True))
        self._write(url, "metadata", b"fetchTimeMs: 3", None, warc_content_type="application/warc-fields")

    def _write(self, url: str, kind: str, body: bytes, head: StatusAndHeaders | None, **options: Any) -> None:
        if kind in ("response", "conversion"):
            self.starts.append(self._buffer.tell())
        made = self._warc.create_warc_record(url, kind, payload=io.BytesIO(body), http_headers=head, **options)
        self._warc.write_record(made)

    def convert(self, url: str, text: str) -> None:
        """A text as WET files have it."""
        self._write(url, "conversion", text.encode(), None, warc_content_type="text/plain")

    @property
    def data(self) -> bytes:
        return self._buffer.getvalue()


def archive(count: int, is_packed: bool) -> Writer:
    writer = Writer(is_packed)
    for number in range(count):
        writer.add(f"http://e.org/{number}?q=1", page(f"Page number {number} says hello."))
    return writer


def found(records: Sequence[Document | Rejected]) -> list[str]:
    return [record.text for record in records if isinstance(record, Document)]


def saying(*numbers: int) -> list[str]:
    return [f"Page number {number} says hello." for number in numbers]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_pages_are_named_by_their_address_and_place(name: str) -> None:
    writer = archive(3, name.endswith("gz"))
    Path(name).write_bytes(writer.data)
    documents = read(make_source("warc", paths=["."]))
    assert found(documents) == saying(0, 1, 2)
    assert [d.origin for d in documents] == [f"http://e.org/{n}?q=1 {name}@{writer.starts[n]}" for n in range(3)]


def test_an_archive_that_was_packed_as_a_whole_is_read_too() -> None:
    writer = archive(3, is_packed=False)
    Path("a.warc.gz").write_bytes(gzip.compress(writer.data))
    documents = read(make_source("warc", paths=["a.warc.gz"]))
    assert found(documents) == saying(0, 1, 2)
    assert [d.origin for d in documents] == [f"http://e.org/{n}?q=1 a.warc.gz@0+{writer.starts[n]}" for n in range(3)]


def test_what_servers_send_is_unpacked_and_decoded_and_what_is_no_page_is_passed_over() -> None:
    writer = Writer()
    body = page("Grüße aus Köln.")
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    writer.add("http://e.org/gzip", gzip.compress(body), Content_Encoding="gzip")
    writer.add("http://e.org/br", brotli.compress(body), Content_Encoding="br")
    writer.add("http://e.org/chunked", chunked, Transfer_Encoding="chunked")
    writer.add("http://e.org/unpacked", body, Content_Encoding="gzip", Transfer_Encoding="chunked")
    writer.add("http://e.org/latin", body.decode().encode("latin-1"), Content_Type="text/html;charset=ISO-8859-1")
    writer.add("http://e.org/xhtml", body, Content_Type='application/xhtml+xml; charset="utf-8"')
    writer.add("http://e.org/plain", b"<no> page\n", Content_Type="text/plain")
    writer.convert("http://e.org/wet", "Already a text.")
    writer.add("http://e.org/image", b"\x89PNG", Content_Type="image/png")
    writer.add("http://e.org/gone", body, status="404 Not Found")
    writer.add("http://e.org/moved", body, status="301 Moved")
    writer.add("http://e.org/empty", b"<script>app()</script>")
    writer.add("http://e.org/unnamed", body, Content_Type="")
    Path("a.warc.gz").write_bytes(writer.data)
    documents = read(make_source("warc", paths=["a.warc.gz"]))
    assert found(documents) == [*["Grüße aus Köln."] * 6, "<no> page\n", "Already a text."]
    assert [d.origin.split()[0].rpartition("/")[2] for d in documents] == (
        ["gzip", "br", "chunked", "unpacked", "latin", "xhtml", "plain", "wet"]
    )


def test_settings_of_pages_count_for_archives() -> None:
    Path("a.warc").write_bytes(archive(1, is_packed=False).data)
    assert found(read(make_source("warc", paths=["a.warc"], main_content=False))) == [
        "Home\n\nPage number 0 says hello."
    ]
    (html,) = found(read(make_source("warc", paths=["a.warc"], extractor="none")))
    assert html.startswith("<html><body><nav>")


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_record_that_breaks_off_at_the_end_costs_itself(is_packed: bool) -> None:
    writer = archive(3, is_packed)
    for cut in (writer.starts[2] + 5, writer.starts[2] + 200, writer.starts[2] + 250):
        Path("a.warc").write_bytes(writer.data[:cut])
        *documents, lost = read(make_source("warc", paths=["a.warc"]))
        assert found(documents) == saying(0, 1)
        assert isinstance(lost, Rejected)
        assert (lost.origin, lost.reason) == (f"a.warc@{writer.starts[2]}", "damaged record")
        assert lost.lost_bytes == cut - writer.starts[2]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_damage_in_the_middle_costs_the_records_that_it_hits(name: str) -> None:
    writer = archive(5, name.endswith("gz"))
    data = bytearray(writer.data)
    start = writer.starts[2]
    if name.endswith("gz"):
        data[start + 150 : start + 160] = bytes(10)
    else:
        at = data.index(b"Content-Length: ", start) + len(b"Content-Length: ")
        data[at : at + 3] = b"999" if data[at : at + 3] != b"999" else b"998"
    Path(name).write_bytes(data)
    records = read(make_source("warc", paths=[name]))
    assert found(records) == saying(0, 1, 3, 4)
    (lost,) = [record for record in records if isinstance(record, Rejected)]
    assert (lost.origin, lost.reason) == (f"{name}@{start}", "damaged record")
    assert 0 < lost.lost_bytes < writer.starts[3] - start


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.arc", "a.arc.gz"])
def test_no_damage_is_more_than_rejections(name: str) -> None:
    """What gzip packed has a checksum as well, so that no text is another than it was."""
    is_packed = name.endswith("gz")
    parts = arc_parts() if ".arc" in name else [archive(3, is_packed).data]
    whole = b"".join(gzip.compress(part) if is_packed and ".arc" in name else part for part in parts)
    for _ in range(30):
        data = bytearray(whole)
        for _ in range(RANDOM.randint(1, 3)):
            start = RANDOM.randrange(len(data))
            data[start : start + RANDOM.randint(0, 200)] = RANDOM.randbytes(RANDOM.randint(1, 200))
        Path(name).write_bytes(data)
        records = read(make_source("warc", paths=[name]))
        assert not is_packed or set(found(records)) <= {*saying(0, 1, 2)}
        assert sum(record.lost_bytes for record in records if isinstance(record, Rejected)) <= len(data)


def test_garbage_between_records_is_told_and_passed_over() -> None:
    writer = archive(3, is_packed=True)
    Path("a.warc.gz").write_bytes(writer.data[: writer.starts[1]] + b"garbage" * 20 + writer.data[writer.starts[1] :])
    records = read(make_source("warc", paths=["a.warc.gz"]))
    assert found(records) == saying(0, 1, 2)
    (lost,) = [record for record in records if isinstance(record, Rejected)]
    assert (lost.origin, lost.lost_bytes) == (f"a.warc.gz@{writer.starts[1]}", 140)


def test_what_is_no_archive_is_told() -> None:
    Path("a.warc").write_bytes(b"<html>no archive</html>\n" * 100)
    Path("b.warc.gz").write_bytes(gzip.compress(b"nor this\n" * 100))
    for record in read(make_source("warc", paths=["."])):
        assert isinstance(record, Rejected)
        assert record.reason == "not a WARC or ARC file"
        assert record.lost_bytes == Path(record.origin).stat().st_size


def test_pages_longer_than_the_limit_are_told_and_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    writer.add("http://e.org/long", page("x" * 200_000))
    writer.add("http://e.org/film", bytes(200_000), Content_Type="video/mp4")
    writer.add("http://e.org/bomb", gzip.compress(page("y" * 200_000)), Content_Encoding="gzip")
    writer.add("http://e.org/short", page("Short."))
    Path("a.warc.gz").write_bytes(writer.data)
    monkeypatch.setattr("pipeline.corpus.readers.page_text.MAX_PAGE_BYTES", 100_000)
    long, bomb, short = read(make_source("warc", paths=["a.warc.gz"]))
    for record, name in ((long, "long"), (bomb, "bomb")):
        assert isinstance(record, Rejected)
        assert (record.origin.split()[0], record.reason) == (f"http://e.org/{name}", "longer than 100,000 bytes")
    assert found([short]) == ["Short."]


def arc_record(url: str, body: bytes, kind: str = "text/html", http: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> bytes:
    """A record of ARC 1, by https://archive.org/web/researcher/ArcFileFormat.php."""
    if http:
        http = http.replace(b"\r\n\r\n", b"\r\nContent-Type: %s\r\n\r\n" % kind.encode())
    return (
        b"%s 192.0.2.1 20010203040506 %s %d\n" % (url.encode(), kind.encode(), len(http + body)) + http + body + b"\n"
    )


def arc_parts() -> list[bytes]:
    version = b"1 0 Internet Archive\nURL IP-address Archive-date Content-type Archive-length\n"
    first = b"filedesc://a.arc 0.0.0.0 20010203040506 text/plain %d\n" % len(version) + version + b"\n"
    return [
        first,
        arc_record("http://e.org/0", page("Page number 0 says hello.")),
        arc_record("http://e.org/i", b"GIF89a", "image/gif"),
        arc_record("http://e.org/1 2", page("Page number 1 says hello.")),
        arc_record("dns:e.org", b"192.0.2.1", "text/dns", http=b""),
        arc_record("http://e.org/2", page("Page number 2 says hello.")),
    ]


@pytest.mark.parametrize("is_packed", [False, True])
def test_archives_of_the_older_format_are_read(is_packed: bool) -> None:
    parts = [gzip.compress(part) if is_packed else part for part in arc_parts()]
    name = "a.arc.gz" if is_packed else "a.arc"
    Path(name).write_bytes(b"".join(parts))
    documents = read(make_source("warc", paths=["."]))
    assert found(documents) == saying(0, 1, 2)
    assert documents[1].origin == f"http://e.org/1 2 {name}@{sum(map(len, parts[:3]))}"
    damaged = bytearray(parts[3])
    damaged[len(damaged) // 2 : len(damaged) // 2 + 5] = bytes(5)
    if is_packed:
        parts[3] = bytes(damaged)
    else:
        parts[3] = parts[3].replace(b"20010203040506", b"yesterday", 1)
    Path(name).write_bytes(b"".join(parts))
    records = read(make_source("warc", paths=[name]))
    assert found(records) == saying(0, 2)
    assert [r.reason for r in records if isinstance(r, Rejected)] == ["damaged record"]


@pytest.mark.parametrize("kind", ["a.warc", "a.warc.gz", "nested.warc.gz", "whole.warc.gz"])
def test_large_archives_are_cut_where_records_begin(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a record holds an archive itself, whose members look like those of the archive."""
    monkeypatch.setattr(archive_cuts, "SHARD_BYTES", 8000)
    monkeypatch.setattr(archive_cuts, "FEWEST_BYTES", 66_000 if kind.startswith("nested") else 2000)
    writer = archive(40, is_packed=kind in ("a.warc.gz", "nested.warc.gz"))
    data = writer.data
    if kind.startswith("nested"):
        inner = archive(120, is_packed=True).data
        holder = Writer(is_packed=False)
        holder.add("http://e.org/archive", inner, Content_Type="application/gzip")
        record = holder.data[holder.starts[0] : holder.data.index(b"WARC/1.0\r\nWARC-Type: request")]
        stored = gzip.compress(record, compresslevel=0)  # as gzip keeps what it cannot pack
        assert inner[2000:2100] in stored
        data += stored + archive(80, is_packed=True).data
    Path(kind).write_bytes(gzip.compress(data) if kind.startswith("whole") else data)
    source = make_source("warc", paths=[kind])
    parts = [part for _, group in reading_tasks(IngestConfig(sources=[source])) for part in group]
    end = Path(kind).stat().st_size
    assert [part.start for part in parts] == [0, *(part.start + part.num_bytes for part in parts[:-1])]
    assert parts[-1].start + parts[-1].num_bytes == end
    whole = list(source.read([FilePart(Path(kind), kind, 0, end)], Path("scratch")))
    assert found(whole) == saying(*range(40), *range(80 if kind.startswith("nested") else 0))
    assert read(source) == whole
    assert len(parts) == 1 if kind.startswith("whole") else len(parts) >= 3
