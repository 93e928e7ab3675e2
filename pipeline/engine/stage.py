"""What a stage is: its declaration, and what its `run` is given. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pipeline.executors.jobs import Session
from pipeline.executors.local_session import LocalSession
from pipeline.features import facts_of_key, features_in, files_of_key, libraries_of_key
from pipeline.integrity import link_file
from pipeline.progress import Progress
from pipeline.section import Section

if TYPE_CHECKING:
    from pipeline.engine.checkpointing_stage import Checkpointing

Config = TypeVar("Config")

NO_SETTINGS = Section()
EVERY_STAGE_BEFORE = "*"
"""As the input of a stage: all stages that come before it."""


class Configuration(Protocol):
    """The settings of a run: `run`, with its name, seed, workspace, num_workers and executor, and a section for each
    stage that has settings, under the stage's name. A section that was not loaded is None."""

    @property
    def run(self) -> Any: ...

    def values(self) -> dict[str, dict[str, Any]]:
        """All settings as JSON values, of the sections that are there."""

    def as_yaml(self) -> str:
        """The same as YAML that can be loaded again."""


def section_of(config: Configuration, stage: Stage) -> Any:
    """The settings of a stage; of one that has none, a section without any."""
    return getattr(config, stage.name, NO_SETTINGS)


@dataclass(frozen=True)
class StageContext(Generic[Config]):
    """All that a stage may read, and where it writes."""

    config: Config
    """The settings of the stage."""

    seed: int
    """The run's seed; 0 where the stage does not use it."""

    inputs: Mapping[str, Path]
    """Artifact folders of the upstream stages, by stage."""

    output: Path
    """An empty folder, which becomes the artifact when `run` returns. Of a `distributed` stage process 0's does; those
    of the others are thrown away, as is what they return."""

    work: Path | None
    """A folder that survives kills, only for stages with `checkpointing`. Processes share it."""

    num_workers: int
    progress: Progress
    session: Session = field(default_factory=lambda: LocalSession(1))
    """Who carries out jobs on shards."""

    process_index: int = 0
    num_processes: int = 1

    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Settings that say `auto`, with what they came to on this machine."""

    fail: Callable[[BaseException], None] = lambda error: None
    """Records an error as the run's outcome, for a thread that ends the process, where nothing can be raised."""

    run_name: str = ""
    run_settings: Mapping[str, Any] = field(default_factory=dict)
    """The name and all settings of the run, for records alone: no result may depend on them."""

    def link(self, source: Path, name: str) -> None:
        """Take a file of an input over into the artifact as it is, under a name; its bytes are not written again."""
        link_file(source, self.output / name)


Display = Callable[[Path, Any, Mapping[str, dict[str, Any]]], None]
"""Writes something for people into a folder, from a configuration and the manifests of a run, by stage."""


@dataclass(frozen=True)
class RunFolder:
    """What a run's folder shows of a stage's artifact."""

    links: tuple[str, ...] = ()
    """Files and folders of the artifact, to which it links; while the stage runs, those of its work folder."""

    copies: Mapping[str, str] = field(default_factory=dict)
    """Files and folders of the artifact, each with the place of a copy that people may edit and upload. A copy that is
    called README.md stays as people edit it."""

    forbidden_names: tuple[str, ...] = ()
    """Patterns of files that must not lie beside a copy, since loaders would read them."""

    exports: tuple[str, ...] = ()
    """Files that verbs make of the copies. They are moved with the copies."""

    extra_folders: Mapping[str, Display] = field(default_factory=dict)
    """Further folders by name, each with what writes it. No run fails for them."""


def counts_in_words(summary: Mapping[str, Any]) -> str:
    """What became of documents, as far as a summary tells."""
    words = [f"{summary['documents_out']:,} documents"] if "documents_out" in summary else []
    for what in ("rejected", "dropped"):
        words += [f"{count:,} {what}: {reason}" for reason, count in summary.get(what, {}).items()]
    return "; ".join(words)


@dataclass(frozen=True)
class Stage:
    """A stage's declaration."""

    name: str

    version: int
    """Raised when the same inputs give other results than before. It enters the key."""

    run: Callable[[StageContext[Any]], Mapping[str, Any]]
    """Fills `context.output` and returns a summary of JSON values, which goes into the manifest but not into the digest
    of the content. Its `warnings`, a list of sentences, are repeated by every plan and report that uses the artifact.
    It counts what was `rejected` and `dropped` by reason; files of these names (rejected.jsonl) list it."""

    # What its key is made of

    config: Any = None
    """The class of its settings, or a type by `features.one_of`. None: it has no settings."""

    inputs: tuple[str, ...] = ()
    """Upstream stages whose digests enter the key: `stage`, or `stage/folder` where only that folder matters, or `*`
    for all stages before."""

    files: Callable[[Any], Mapping[str, list[Path]]] = field(default=lambda config: {})
    """External files that enter the key, by a label, beside those of the features in its settings. It must be cheap.
    Raises MissingInputError when one is missing."""

    uses_seed: Callable[[Any], bool] = field(default=lambda config: False)
    """Whether a result depends on random numbers. Only then the seed enters the key. Given the whole configuration."""

    libraries: tuple[str, ...] = ()
    """Distributions whose versions enter the key, beside those of the features in its settings."""

    facts: Callable[[Any], Mapping[str, Any]] = field(default=lambda config: {})
    """JSON values that shape the result and enter the key, by name, beside those of the features in its settings. It
    must be cheap."""

    # What it reads and writes

    reads: tuple[str, ...] = ()
    """Stages, or records of theirs, that it opens as well. Their digests stay out of the key."""

    opens_files: tuple[str, ...] = ("*",)
    """Patterns of `stage/file` that `run` may open. Their digests are checked before."""

    self_checked_files: tuple[str, ...] = ()
    """Patterns of its own files that are not checked before: readers compare the parts that they read."""

    records: tuple[str, ...] = ()
    """Patterns of its files that are no results: timings, logs, event files."""

    # How it is carried out

    check: Callable[[Any], None] = field(default=lambda config: None)
    """Raises ConfigError for what only heavy libraries find in the configuration. Called before the first stage."""

    check_launch: Callable[[Any, Mapping[str, str], Collection[str]], None] = field(default=lambda *given: None)
    """Raises ConfigError where the launcher was asked for what the stage cannot do. Given its settings, the environment
    and the names of the settings that were chosen for this machine. Called before any run."""

    early_warnings: Callable[[Any], Sequence[str]] = field(default=lambda config: ())
    """Warnings that its settings allow before it runs. It must be cheap."""

    works_on_shards: bool = False
    """Whether it carries out jobs on shards, by `run.executor`."""

    distributed: bool = False
    """Whether it runs in every process of the launcher, not in process 0 alone."""

    checkpointing: Checkpointing | None = None
    """How it goes on when it was killed, and from where."""

    # How it is reported

    summary_line: Callable[[Mapping[str, Any]], str] = counts_in_words
    """What came of it, from its summary."""

    headline: Callable[[Mapping[str, Any]], str] | None = None
    """The figure by which people judge a run, from its summary. Stages that have one make up the run's result: the
    run's folder keeps an earlier one where it is another."""

    noun: str = "work"
    """What its work is called."""

    summary_keys_in_run_json: tuple[str, ...] = ()
    """Names in the summary that run.json repeats."""

    summary_in_progress: Callable[[Path], Mapping[str, Any]] = field(default=lambda work: {})
    """What run.json is to say of work that failed, from its work folder. Only for stages with `checkpointing`."""

    progress_line: Callable[[Path], str] = field(default=lambda work: "")
    """How far work has come that is not done, from its work folder. Only for stages with `checkpointing`."""

    run_folder: RunFolder = field(default_factory=RunFolder)
    """What a run's folder shows of the artifact."""

    report_failure: Callable[[Path, Mapping[str, Path], Any, str], None] | None = None
    """Writes into a folder what is known of a run that failed, from the artifacts by stage (of a stage that had begun
    its work folder), the stage's settings, and the error message."""

    def source_files(self, config: Any) -> dict[str, list[Path]]:
        """External files that enter the key, by a label. Raises MissingInputError when one is missing."""
        return {**files_of_key(features_in(config)), **self.files(config)}

    def libraries_of_key(self, config: Any) -> list[str]:
        """Distributions whose versions enter the key."""
        return list(dict.fromkeys(self.libraries) | libraries_of_key(features_in(config)))

    def facts_of_key(self, config: Any) -> dict[str, Any]:
        """What else enters the key, by name."""
        return {**facts_of_key(features_in(config)), **self.facts(config)}

    @property
    def long(self) -> Checkpointing:
        """How a long stage goes on; only for stages that say so."""
        assert self.checkpointing is not None
        return self.checkpointing

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of all stages whose artifacts `run` is given, without folder parts or repetitions."""
        return tuple(dict.fromkeys(name.split("/")[0] for name in (*self.inputs, *self.reads)))

    def opens(self, upstream: Stage, name: str, kind: str) -> bool:
        """Whether a file of an upstream artifact is to be compared with its digest before `run`: it may open a `result`
        of its inputs, and a `record` that it names. Readers that check parts of a file by themselves need no help."""
        path = f"{upstream.name}/{name}"
        if kind == "record":
            return path in self.reads
        is_given = any(path.startswith(f"{folder}/") for folder in (*self.inputs, *self.reads))
        is_opened = is_given and any(fnmatch(path, pattern) for pattern in self.opens_files)
        return is_opened and not any(fnmatch(name, pattern) for pattern in upstream.self_checked_files)


Stages = tuple[Stage, ...]


def in_order(*stages: Stage) -> Stages:
    """Stages in the order in which they run. The input `*` becomes the names of all that come before.

    Raises ValueError when a stage has an input that does not come before it.
    """
    names: list[str] = []
    found = []
    for stage in stages:
        if EVERY_STAGE_BEFORE in stage.inputs:
            stage = replace(stage, inputs=(*names, *(name for name in stage.inputs if name != EVERY_STAGE_BEFORE)))
        found.append(stage)
        if late := [name for name in stage.upstream if name not in names]:
            raise ValueError(f"{stage.name}: its input {late[0]} does not come before it")
        names.append(stage.name)
    return tuple(found)
