"""Pages of HTML, books in EPUB and source code become documents; what is damaged is told, the rest is read."""

from __future__ import annotations

import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from corpus.test_formats import content, make_source, read
from pydantic import ValidationError

from pipeline.corpus.documents import Document, Rejected
from pipeline.corpus.readers import page_text
from pipeline.errors import ConfigError

PAGE = """<!DOCTYPE html><html><head><title>T</title><style>p {{}}</style><script>var hidden = 1;</script></head><body>
<nav><a href="/">Home</a> <a href="/about">About</a></nav>
<article><h1>On weather</h1><p>It rained   all
day &amp; the river <b>rose</b> by {what} feet.</p><p>Nobody was hurt, though two bridges were closed.</p></article>
<footer>Imprint</footer></body></html>"""
MAIN = (
    "On weather\n\nIt rained all day & the river rose by {what} feet.\n\n"
    "Nobody was hurt, though two bridges were closed."
)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def texts(source: Any) -> list[str]:
    return [text for text, _ in content(source)]


def test_the_text_of_a_page_is_taken_without_menus_or_with_all_that_is_shown() -> None:
    Path("a.html").write_text(PAGE.format(what="three"))
    main = MAIN.format(what="three")
    assert texts(make_source("html", paths=["a.html"])) == [main]
    assert texts(make_source("html", paths=["a.html"], main_content=False)) == [f"Home About\n\n{main}\n\nImprint"]
    (prose,) = texts(make_source("html", paths=["a.html"], extractor="trafilatura"))
    assert "the river rose by three feet" in " ".join(prose.split())
    assert "hidden" not in prose
    assert "<" not in prose
    assert texts(make_source("html", paths=["a.html"], extractor="none")) == [PAGE.format(what="three")]


@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("windows-1251", '<meta charset="windows-1251">'),
        ("utf-8", '<meta charset="iso-8859-1">'),
        ("shift_jis", '<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">'),
        ("iso-2022-jp", '<meta charset="iso-2022-jp">'),
    ],
)
def test_a_page_is_read_in_the_characters_that_it_was_written_in(encoding: str, head: str) -> None:
    word = "двадцать" if encoding == "windows-1251" else "日本" if "j" in encoding else "zwölf £"
    Path("a.htm").write_bytes((head + PAGE.format(what=word)).encode(encoding))
    assert texts(make_source("html", paths=["."])) == [MAIN.format(what=word)]


def test_pages_without_text_and_endless_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("1.html").write_text("<script>only()</script>")
    Path("2.html").write_text("<p>text</p>" * 100)
    Path("3.html").write_text("<p>text</p>")
    monkeypatch.setattr(page_text, "MAX_PAGE_BYTES", 1000)
    empty, long, good = read(make_source("html", paths=["."], main_content=False))
    assert (empty.origin, getattr(empty, "reason", "")) == ("1.html", "empty text")
    assert (long.origin, getattr(long, "reason", "")) == ("2.html", "longer than 1,000 bytes")
    assert isinstance(good, Document)


def test_of_a_page_that_is_nested_without_end_all_text_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_text, "DEEPEST", 30)
    page = PAGE.format(what="three")
    # Many containers beside each other are no depth.
    Path("a.html").write_text(page.replace("<nav>", "<div></div>" * 100 + "<nav>"))
    Path("b.html").write_text(page.replace("<nav>", "<DIV class=x>" * 31 + "<nav>"))
    beside, deep = texts(make_source("html", paths=["a.html", "b.html"]))
    assert beside == MAIN.format(what="three")
    assert deep.split() == f"Home About {beside} Imprint".split()


def test_an_element_of_xhtml_that_closes_itself_does_not_swallow_the_rest() -> None:
    Path("a.xhtml").write_text(f'<?xml version="1.0"?><html><head><title/><script src="x"/></head>{PAGE[15:]}')
    assert texts(make_source("html", paths=["a.xhtml"])) == [MAIN]


def test_settings_that_do_nothing_and_a_missing_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="main_content: false is for resiliparse, not for trafilatura"):
        make_source("html", paths=["."], extractor="trafilatura", main_content=False)
    for kind in ("html", "epub"):
        make_source(kind, paths=["."]).check()
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "resiliparse", None)
            patch.setattr("pipeline.corpus.sources.base_web_pages.find_spec", lambda name: None)
            with pytest.raises(ConfigError, match=r"s: it needs resiliparse.*; pip install 'descent-pipeline\[web\]'"):
                make_source(kind, paths=["."]).check()


CONTAINER = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
OPF = """<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="cover" href="cover.xhtml" media-type="application/xhtml+xml"/>
<item id="two" href="text/ch%202.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/../text/ch1.xhtml" media-type="application/xhtml+xml"/>
<item id="css" href="s.css" media-type="text/css"/></manifest>
<spine><itemref idref="nav"/><itemref idref="cover"/><itemref idref="one"/><itemref idref="two"/></spine></package>"""
PARTS = {
    "META-INF/container.xml": CONTAINER,
    "OEBPS/content.opf": OPF,
    "OEBPS/nav.xhtml": "<html><body><nav>One, Two</nav></body></html>",
    "OEBPS/cover.xhtml": '<html><body><img src="cover.jpg" alt="Cover"/></body></html>',
    "OEBPS/text/ch 2.xhtml": "<html><body><h1>Two</h1><p>The end.</p></body></html>",
    "OEBPS/text/ch1.xhtml": '<?xml version="1.0"?><html><head><title/></head><body><h1>One</h1><p>A b&#233;ginning</p>'
    "<p>and a list:</p><ul><li>x</li></ul></body></html>",
}
CHAPTERS = ["One\n\nA béginning\n\nand a list:\n\n  • x", "Two\n\nThe end."]


def write_book(name: str, **changed: str | None) -> Path:
    """A book; its parts are changed, or left out, by the last part of their names."""
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip")
        for part, text in {**PARTS, **{key: value for key, value in changed.items() if "/" in key}}.items():
            text = changed.get(Path(part).stem.replace(" ", ""), text)
            if text is not None:
                book.writestr(part, text)
    return Path(name)


def test_a_book_is_read_in_its_order_by_chapter_or_whole() -> None:
    write_book("a.epub")
    documents = read(make_source("epub", paths=["."]))
    assert [(d.origin, d.text) for d in documents if isinstance(d, Document)] == [
        ("a.epub#2", CHAPTERS[0]),
        ("a.epub#3", CHAPTERS[1]),
    ]
    (whole,) = read(make_source("epub", paths=["."], each="book"))
    assert isinstance(whole, Document)
    assert (whole.origin, whole.text) == ("a.epub", "\n\n".join(CHAPTERS))


def test_a_damaged_chapter_costs_itself() -> None:
    write_book("a.epub", ch2=None)
    first, lost = read(make_source("epub", paths=["a.epub"]))
    assert isinstance(first, Document)
    assert isinstance(lost, Rejected)
    assert (lost.origin, lost.reason, lost.detail) == (
        "a.epub#3",
        "a page of its list is not in it",
        "OEBPS/text/ch 2.xhtml",
    )
    write_book("b.epub", ch1="<p>" + "".join(map(chr, range(200, 1200))))
    data = bytearray(Path("b.epub").read_bytes())
    at = data.index(b"OEBPS/text/ch1.xhtml") + 60
    data[at : at + 40] = bytes(40)
    Path("b.epub").write_bytes(data)
    lost, second = read(make_source("epub", paths=["b.epub"]))
    assert isinstance(lost, Rejected)
    assert lost.reason == "a damaged page"
    assert isinstance(second, Document)


def test_no_damage_of_a_book_is_more_than_a_rejection() -> None:
    whole = write_book("a.epub").read_bytes()
    generator = random.Random(7)
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 3)):
            start = generator.randrange(len(data))
            data[start : start + generator.randint(0, 40)] = generator.randbytes(generator.randint(1, 40))
        Path("a.epub").write_bytes(data)
        for record in read(make_source("epub", paths=["a.epub"])):
            assert isinstance(record, Rejected) or record.text in CHAPTERS


ENCRYPTED = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"
 xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>
<enc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/><enc:CipherData>
<enc:CipherReference URI="OEBPS/text/ch1.xhtml"/></enc:CipherData></enc:EncryptedData></encryption>"""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"container": None}, "not a whole .epub file"),
        ({"container": "<container/>"}, "not an .epub file"),
        ({"content": "<package>"}, "not a whole .epub file"),
        ({"content": OPF.replace("<package", "<!DOCTYPE p [<!ENTITY a 'aaaa'>]><package")}, "not a whole .epub file"),
        ({"content": "<package/>"}, "no pages in its list"),
        ({"META-INF/encryption.xml": ENCRYPTED}, "encrypted"),
    ],
)
def test_what_is_no_book_is_told(changed: dict[str, str | None], reason: str) -> None:
    book = write_book("a.epub", **changed)
    (rejected,) = read(make_source("epub", paths=["a.epub"]))
    assert isinstance(rejected, Rejected)
    assert (rejected.origin, rejected.reason, rejected.lost_bytes) == ("a.epub", reason, book.stat().st_size)


def test_encrypted_fonts_leave_a_book_readable_and_a_torn_or_swollen_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fonts = ENCRYPTED.replace("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "http://www.idpf.org/2008/embedding")
    book = write_book("a.epub", **{"META-INF/encryption.xml": fonts})
    assert texts(make_source("epub", paths=["a.epub"])) == CHAPTERS
    monkeypatch.setattr("pipeline.corpus.readers.epub_reader.MAX_RECORD_BYTES", 200)
    assert [r.reason for r in read(make_source("epub", paths=["a.epub"])) if isinstance(r, Rejected)] == [
        "grows too much"
    ]
    book.write_bytes(book.read_bytes()[:-30])
    assert [r.reason for r in read(make_source("epub", paths=["a.epub"])) if isinstance(r, Rejected)] == [
        "not a whole .epub file"
    ]


LICENCE = "# Copyright 2026 A. Nobody\n# SPDX-License-Identifier: MIT\n\n"


def test_source_code_is_taken_as_it_stands_and_what_is_none_is_passed_over() -> None:
    files = {
        "repo/.git/hook.py": b"x = 1\n",
        "repo/a.py": (LICENCE + "def f():\n\treturn 'ü'\n").encode(),
        "repo/b.C": b"int main(void) { return 0; }\n",
        "repo/data.py": b"x = [" + b"1, " * 1000 + b"]\n",
        "repo/binary.py": b"\0\1\2",
        "repo/blank.py": b"\n\n",
        "repo/mark.py": b"\xef\xbb\xbf",  # an empty file that an editor of Windows has saved
        "repo/lib.min.js": b"a()\n",
        "repo/latin.py": "# ü\n".encode("latin-1"),
        "repo/node_modules/x/index.js": b"module\n",
        "repo/notes.txt": b"no code\n",
        "vendor/own/y.rs": b"fn main() {}\n",
    }
    for name, data in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    records = read(make_source("code", paths=["repo", "vendor/own"]))
    assert [(r.origin, r.text) for r in records if isinstance(r, Document)] == [
        ("repo/a.py", files["repo/a.py"].decode()),
        ("repo/b.C", files["repo/b.C"].decode()),
        ("vendor/own/y.rs", "fn main() {}\n"),
    ]
    assert [(r.origin, r.reason) for r in records if isinstance(r, Rejected)] == [("repo/latin.py", "not UTF-8")]
    assert [d.origin for d in read(make_source("code", paths=["repo"], languages=["c", "rust"]))] == ["repo/b.C"]
    with pytest.raises(ValidationError):
        make_source("code", paths=["repo"], languages=["klingon"])
