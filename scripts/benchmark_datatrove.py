"""The steps of ingest, normalize and curate as datatrove has them, for `benchmark_corpus.py --datatrove`.

datatrove cuts words with spaCy unless told otherwise; here both cut them at white space, which is much faster.
"""

import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import typer
import xxhash
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import GopherRepetitionFilter, LambdaFilter
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.word_tokenizers import WordTokenizer

NUM_BANDS, ROWS = 14, 8
"""datatrove's defaults, which find documents that are 0.75 alike; curate has 216 hashes for lower thresholds, too."""


class AtWhiteSpace(WordTokenizer):
    """Words are what stands between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return text.splitlines()

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError


class WhiteSpace(BaseFormatter):
    """What the steps `unicode_form` and `collapse_whitespace` do."""

    name = "white space"

    def format(self, text: str) -> str:
        lines = unicodedata.normalize("NFC", text).split("\n")
        return "\n".join(line.rstrip() for line in lines).strip("\n")


def is_usable(document: Document) -> bool:
    """The default filters of curate: lengths and ratios of letters, digits and symbols."""
    text = document.text
    if len(text) < 50 or len(text.split()) < 5:
        return False
    letters, digits = sum(map(str.isalpha, text)), sum(map(str.isdigit, text))
    visible = len(text) - sum(map(str.isspace, text))
    return letters >= 0.5 * visible and digits <= 0.3 * visible and visible - letters - digits <= 0.3 * visible


def text_of(document: Document) -> bytes:
    """What exact repeats are told by."""
    return " ".join(document.text.split()).casefold().encode()


def hash_of(text: str) -> int:
    """What datatrove's own function gave before version 4 of xxhash, which takes bytes alone."""
    return xxhash.xxh64_intdigest(text.encode())


def main(text: Path, folder: Path, workers: int, gopher: bool = False) -> None:
    """Read, repair, filter and deduplicate the documents of a file; what stays is in `kept`."""
    config = MinhashConfig(n_grams=2, num_buckets=NUM_BANDS, hashes_per_bucket=ROWS)
    exact = ExactDedupConfig(content_getter=text_of)
    parts = folder / "parts"
    parts.mkdir(parents=True)
    _cut(text, parts, workers)

    def run(name: str, steps: list[PipelineStep], tasks: int = workers) -> None:
        executor = LocalPipelineExecutor(steps, tasks, workers, logging_dir=str(folder / "logs" / name))
        executor.run()

    def at(name: str) -> str:
        return str(folder / name)

    signature = MinhashDedupSignature(at("signatures"), config, AtWhiteSpace())
    signature._hash_func = hash_of
    filters: list[PipelineStep] = [LambdaFilter(is_usable)]
    if gopher:
        filters.append(GopherRepetitionFilter(language=AtWhiteSpace()))
    clean = [ParquetReader(str(parts)), FTFYFormatter(normalization="NFC"), WhiteSpace(), *filters]
    run("clean", [*clean, ParquetWriter(at("clean")), ExactDedupSignature(at("hashes"), exact, workers)])
    run("repeats", [ExactFindDedups(at("hashes"), at("repeats"), exact)])
    once = [ParquetReader(at("clean")), ExactDedupFilter(at("repeats"), exact)]
    run("sign", [*once, ParquetWriter(at("once")), signature])
    run("buckets", [MinhashDedupBuckets(at("signatures"), at("buckets"), config=config)], NUM_BANDS)
    run("clusters", [MinhashDedupCluster(at("buckets"), at("remove"), config=config)], 1)
    run("last", [ParquetReader(at("once")), MinhashDedupFilter(at("remove")), ParquetWriter(at("kept"))])


def _cut(text: Path, folder: Path, parts: int) -> None:
    """Write the documents of a file into as many files, since datatrove shares out whole ones."""
    texts = [json.loads(line)["text"] for line in text.open(encoding="utf-8")]
    for number in range(parts):
        table = pa.table({"text": texts[number::parts], "id": [str(n) for n in range(number, len(texts), parts)]})
        pq.write_table(table, folder / f"{number:05d}.parquet")


if __name__ == "__main__":
    typer.run(main)
