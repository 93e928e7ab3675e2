"""Sources of raw text. A new one is a file here and a line in SOURCES."""

from pipeline.corpus.sources.arrow import Arrow
from pipeline.corpus.sources.base_source import Source
from pipeline.corpus.sources.csv import Csv
from pipeline.corpus.sources.epub import Epub
from pipeline.corpus.sources.html_files import HtmlFiles
from pipeline.corpus.sources.hub import Hub
from pipeline.corpus.sources.json import Json
from pipeline.corpus.sources.jsonl import Jsonl
from pipeline.corpus.sources.parquet import Parquet
from pipeline.corpus.sources.python_docs import PythonDocs
from pipeline.corpus.sources.source_code import SourceCode
from pipeline.corpus.sources.text import Text
from pipeline.corpus.sources.web_archive import WebArchive

SOURCES = (PythonDocs, Text, Jsonl, Json, Csv, Parquet, Arrow, HtmlFiles, Epub, WebArchive, SourceCode, Hub)

__all__ = ["SOURCES", "Source"]
