"""What a file is by its first bytes, where it is not what it should be."""

from __future__ import annotations

import codecs
import re

from pipeline.corpus.documents import UnreadableFileError
from pipeline.corpus.readers.compression import COMPRESSED_KINDS

FOREIGN_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
ENDINGS = {"UTF-16LE": slice(1, None, 2), "UTF-16BE": slice(0, None, 2)}

FOREIGN_KINDS = {
    "a zip archive (or a table of Excel)": re.compile(rb"PK\x03\x04"),
    "an archive of tar": re.compile(rb"(?s).{257}ustar"),
    "a 7z archive": re.compile(rb"7z\xbc\xaf\x27\x1c"),
    "compressed with lz4": re.compile(rb"\x04\x22\x4d\x18"),
    "a PDF document": re.compile(rb"%PDF-\d"),
    "a data base of SQLite": re.compile(rb"SQLite format 3\0"),
}
FOREIGN_TYPES = {"parquet": re.compile(rb"PAR1"), "arrow": re.compile(rb"ARROW1\0\0")}


def check_text(head: bytes, is_decompressed: bool) -> None:
    """Raises UnreadableFileError for the beginning of a file's content that is no text in UTF-8, and says what to do
    with it."""
    for suffix, compressed in COMPRESSED_KINDS.items():
        if compressed.magic.match(head) and is_decompressed:
            raise UnreadableFileError("compressed twice", f"decompress it once, and let its name end in {suffix}")
        if compressed.magic.match(head):
            raise UnreadableFileError(f"compressed with {compressed.tool}", f"let its name end in {suffix}")
    for what, magic in FOREIGN_KINDS.items():
        if magic.match(head):
            raise UnreadableFileError(what, "take the text out of it first")
    for kind, magic in FOREIGN_TYPES.items():
        if magic.match(head):
            raise UnreadableFileError(f"a file of type {kind}", f"say type: {kind}")
    found = next((encoding for mark, encoding in FOREIGN_MARKS.items() if head.startswith(mark)), None)
    if found is None and b"\0" in (first := head[:100]) and len(first) >= 8:
        # Without a mark, Latin text in UTF-16 is known by the zeros that are every second of its bytes.
        found = next((name for name, zeros in ENDINGS.items() if not any(first[zeros])), None)
    if found:
        raise UnreadableFileError(f"{found}, not UTF-8", f"iconv -f {found} -t UTF-8 converts it")


def likeness(head: bytes, suffix: str) -> str:
    """What a file is that is not compressed as its suffix says, and what to do about it."""
    for own, kind in COMPRESSED_KINDS.items():
        if kind.magic.match(head):
            return f"it is compressed with {kind.tool}: let its name end in {own}"
    for what, magic in FOREIGN_KINDS.items():
        if magic.match(head):
            return f"it is {what}: take the text out of it first"
    is_text = not re.search(rb"[\0-\x08\x0e-\x1a]", head)
    return f"it begins like text: take {suffix} off its name" if is_text else f"it begins with {head.hex()}"
