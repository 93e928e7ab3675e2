"""Shards of documents: what is written comes back, or an error."""

from __future__ import annotations

from pathlib import Path

from pipeline.corpus.document_shards import read_shard, shard_name, write_shards
from pipeline.corpus.documents import Document


def test_no_flipped_bit_of_a_shard_becomes_another_document(tmp_path: Path) -> None:
    documents = [Document(f"{n:024x}", f"the text of document {n}", "s", f"s#{n}") for n in range(20)]
    write_shards(tmp_path, documents)
    path = tmp_path / shard_name(0)
    content = path.read_bytes()
    assert list(read_shard(path)) == documents
    num_found = 0
    pages_end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # the footer tells of columns, not of texts
    for position in range(0, pages_end, 3):
        path.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
        try:
            found = list(read_shard(path))
        except Exception:
            num_found += 1
        else:
            assert found == documents, position
    assert num_found > 20
