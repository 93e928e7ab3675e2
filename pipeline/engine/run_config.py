"""The `run:` section: what names a run and where it works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from pipeline.executors import EXECUTORS, Executor, Local
from pipeline.features import one_of
from pipeline.section import WORKSPACE, Runtime, Section

if TYPE_CHECKING:
    AnyExecutor = Executor
else:
    AnyExecutor = one_of(EXECUTORS, Executor, default=Local)


class RunConfig(Section):
    """Name, seed and workspace of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """The run's name: its folder under `<workspace>/runs/`. Letters, digits, `.`, `_` and `-`."""

    seed: int = Field(default=42, ge=0, lt=2**32)
    """Seed of every stage that draws random numbers (augmentation, initialization, data order, samples)."""

    workspace: Path = Path(WORKSPACE)
    """Folder of artifacts, checkpoints and runs, relative to the working directory. Runs may share it."""

    @field_validator("workspace", mode="before")
    @classmethod
    def _can_be_a_path(cls, workspace: object) -> object:
        if workspace == "":
            raise ValueError("got an empty path; name a folder, or . for the working directory")
        if "\0" in str(workspace):
            raise ValueError("a path cannot hold a NUL character")
        return workspace

    num_workers: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Processes that the data stages use. Null uses every core that this process may run on."""

    executor: Annotated[AnyExecutor, Runtime()] = Local()
    """Where the data stages (ingest, normalize, curate, augment) work on shards: in processes of this machine, on Ray
    or on Slurm. What they write is the same. Work on less than 16 MB of text is done by the run itself."""
