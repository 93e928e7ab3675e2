"""What a stage is: its declaration, and what its `run` is given. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.progress import Progress
from pipeline.section import Section

CHECKED_BY_READERS = ("*/shard-*.parquet", "*/stream.ds")
"""Files of which a stage may read a part, by several processes: what reads them compares it with digests."""


@dataclass(frozen=True)
class StageContext:
    """All that a stage may read, and where it writes.

    `chosen` are the settings of `config` that the configuration leaves to the machine, with what they came to.
    `inputs` maps an upstream stage's name to its artifact folder. `output` is an empty temporary
    folder that becomes the artifact when `run` returns. `work` is a folder that survives kills
    (only for stages with a `resume_point`); what a stage leaves there is its own to resume from.
    A `distributed` stage runs in all of the launcher's processes at once: they share `work`, and what process 0
    leaves in its `output` becomes the artifact; the others' `output` is thrown away, as is what they report.
    `run_name` and `run_settings` are for records alone: no result may depend on them.
    `fail` notes an error as the run's outcome; it is for a thread that ends the process, where nothing can be raised.
    """

    config: Section
    seed: int
    inputs: Mapping[str, Path]
    output: Path
    work: Path | None
    num_workers: int
    progress: Progress
    process_index: int = 0
    num_processes: int = 1
    chosen: Mapping[str, Any] = field(default_factory=dict)
    fail: Callable[[BaseException], None] = lambda error: None
    run_name: str = ""
    run_settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A stage's declaration. `run(context)` fills `context.output` and returns a summary of JSON values
    (counts, sizes, figures) which goes into the manifest but not into the content digest. Its `warnings`, a list of
    sentences, are said when the artifact is made, and again by every plan and report that uses it.

    `inputs` name upstream stages whose digests enter the key, as `stage` or `stage/folder` when only
    that folder of the artifact matters. `reads` name stages whose artifacts are opened as well, but whose content the
    inputs already pin down, or a record of theirs. What `run` may open of all these is compared with its digest
    before; `unread` are glob patterns of `stage/file` for what it does not open. `records` are glob patterns of files
    that are not
    results (timings, logs, event files). `files(section)` lists external files that enter the key,
    grouped under a label; it must be cheap and must raise MissingInputError when one is missing.
    `draws(config)` says whether a result depends on random numbers under these settings: only then the seed enters the
    key, and `run` is given it.
    `resume_point(work)` says in words where a killed run would go on ("step 300"), or None; a stage
    that has it is given `context.work`. `check(config)` raises ConfigError for what only heavy libraries can tell of
    the configuration; it is called before the first stage of a run in which this one may have to be built.
    `foresee(section)` gives warnings that its settings allow before it runs; it must be cheap, and is no promise.
    `distributed` stages run in every process of the launcher, the others in process 0 alone.
    """

    name: str
    version: int
    run: Callable[[StageContext], Mapping[str, Any]]
    inputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    draws: Callable[[Config], bool] = field(default=lambda config: False)
    libraries: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    resume_point: Callable[[Path], str | None] | None = None
    files: Callable[[Any], Mapping[str, list[Path]]] = field(default=lambda section: {})
    check: Callable[[Config], None] | None = None
    distributed: bool = False
    foresee: Callable[[Any], Sequence[str]] | None = None

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of all stages whose artifacts `run` is given, without folder parts or repetitions."""
        return tuple(dict.fromkeys(name.split("/")[0] for name in (*self.inputs, *self.reads)))

    def opens(self, upstream: str, name: str, kind: str) -> bool:
        """Whether a file of an upstream artifact is to be compared with its digest before `run`: it may open a `result`
        of its inputs, and a `record` that it names. Readers that check parts of a file by themselves need no help."""
        path = f"{upstream}/{name}"
        if kind == "record":
            return path in self.reads
        is_given = any(path.startswith(f"{folder}/") for folder in (*self.inputs, *self.reads))
        return is_given and not any(fnmatch(path, pattern) for pattern in (*CHECKED_BY_READERS, *self.unread))
