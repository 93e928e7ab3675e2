"""Datasets of the Hugging Face Hub, local folders laid out like them, and what `save_to_disk` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.source_files import find_dataset
from pipeline.corpus.sources.base_records import Records
from pipeline.section import Runtime


class Hub(Records, type="hub"):
    """A dataset of the Hugging Face Hub, a local folder laid out like one, or what `save_to_disk` wrote. It
    is read with `datasets`, and code in it is never run."""

    path: str = Field(min_length=1)
    """`owner/name` of a dataset of the hub, or a local folder."""

    config_name: str | None = None
    """Configuration (subset) of the dataset, where it has several."""

    hub_split: str = Field(default="train", pattern=r"^\w+(\.\w+)*$")
    """Split of the dataset that is read. The pipeline makes its own train, validation and test of it, unless `split`
    sends all of it to one."""

    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """Commit of the dataset, 40 hexadecimal digits; required for the hub, for branches and tags move."""

    data_files: list[str] | None = Field(default=None, min_length=1)
    """Files of the dataset to read instead of those that its card names; `*` and `**` as in globs. In a local folder,
    what exists as it is written is no wildcard."""

    streaming: Annotated[bool, Runtime()] = False
    """Read while it arrives, rather than fetch and convert it whole first. The documents are the same."""

    @model_validator(mode="before")
    @classmethod
    def _say_which_split_is_meant(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("split") is not None and "hub_split" not in given:
            raise ValueError(
                f"split: {given['split']} sends its documents to that split of this run, and which split of the "
                "dataset is read is `hub_split`; give `hub_split`, and `split` only to keep them out of the others"
            )
        return given

    def find_files(self) -> dict[Path, str]:
        """The files of a local folder; a dataset of the hub has none, and has to be pinned to a commit."""
        return find_dataset(self.path, self.revision, self.place)

    def read(self, parts: Sequence[FilePart], scratch: Path) -> Iterator[Document | Rejected]:
        """The rows of the split."""
        from pipeline.corpus.readers.hub_reader import read_hub

        return read_hub(self, scratch)
