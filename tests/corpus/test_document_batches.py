"""Documents as columns are the same documents, and give the same shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from corpus_values import batch_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import document_shards
from pipeline.corpus.document_batches import column_texts, read_batches
from pipeline.corpus.document_shards import ShardWriter, read_shard, read_tables
from pipeline.corpus.documents import Document

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
DOCUMENTS = st.lists(
    st.builds(
        Document,
        id=TEXT,
        text=TEXT,
        source=st.sampled_from(["a", "b"]),
        origin=TEXT,
        label=st.none() | TEXT,
        group=st.none() | TEXT,
        parent=st.none() | TEXT,
        changes=st.lists(TEXT, max_size=2),
    ),
    max_size=12,
)


def write(path: Path, documents: list[Document]) -> bytes:
    writer = ShardWriter(path)
    for document in documents:
        writer.write(document)
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS, st.integers(1, 60), st.integers(1, 60))
def test_batches_written_give_the_bytes_of_documents_written_one_by_one(
    folder: Path, documents: list[Document], group_bytes: int, other_group_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_shards, "GROUP_BYTES", group_bytes)
        content = write(folder / "one.parquet", documents)
        patch.setattr(document_shards, "GROUP_BYTES", other_group_bytes)
        expected = write(folder / "expected.parquet", documents)
        (folder / "one.parquet").write_bytes(content)
        writer = ShardWriter(folder / "two.parquet")
        for batch in read_batches(folder / "one.parquet"):
            writer.write_batch(batch)
        writer.close()
    assert (folder / "two.parquet").read_bytes() == expected
    assert writer.num_documents == len(documents)
    assert writer.num_bytes == sum(document.num_bytes for document in documents)


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS, st.data())
def test_a_batch_holds_the_documents_that_are_kept_with_their_changes(
    folder: Path, documents: list[Document], data: st.DataObject
) -> None:
    write(folder / "kept.parquet", documents)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))), dtype=bool)
    found = []
    for batch in read_batches(folder / "kept.parquet"):
        assert batch.num_bytes.tolist() == [len(text.encode()) for text in batch.texts]
        batch.texts = [f"{text}." for text in batch.texts]
        batch.changes = [("dotted",)] * len(batch)
        kept = batch.keep(mask[batch.first : batch.first + len(batch)])
        assert list(kept.documents()) == list(
            batch_of([Document(**row) for row in kept.to_table().to_pylist()]).documents()
        )
        found += kept.documents()
    expected = [document for document, stays in zip(read_shard(folder / "kept.parquet"), mask, strict=True) if stays]
    for document in expected:
        document.text += "."
        document.changes.append("dotted")
    assert found == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT), st.integers(0, 5))
def test_texts_of_a_column_are_those_that_pyarrow_gives(texts: list[str], start: int) -> None:
    column = pa.chunked_array([pa.array(texts, pa.large_string())[start:], pa.array(["end"], pa.large_string())])
    assert column_texts(column) == column.to_pylist()


def test_columns_can_be_left_out(folder: Path) -> None:
    write(folder / "few.parquet", [Document("1", "one", "s", "o")])
    (batch,) = read_batches(folder / "few.parquet", ["source"])
    assert (batch.texts, batch.table.column_names) == (["one"], ["source"])
    (table,) = read_tables(folder / "few.parquet", ["text"])
    assert table.column_names == ["text"]
