"""What a stage is: its declaration, and what its `run` is given. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.progress import Progress
from pipeline.section import Section

if TYPE_CHECKING:
    from pipeline.engine.checkpointing_stage import Checkpointing

NO_SETTINGS = Section()
EVERY_STAGE_BEFORE = "*"
"""As the input of a stage: all stages that come before it."""


class Configuration(Protocol):
    """The settings of a run: `run`, with its name, seed, workspace and num_workers, and a section for each stage that
    has settings, under the stage's name. A section that was not loaded is None."""

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
class StageContext:
    """All that a stage may read, and where it writes.

    `chosen` are the settings of `config` that the configuration leaves to the machine, with what they came to.
    `inputs` maps an upstream stage's name to its artifact folder. `output` is an empty temporary
    folder that becomes the artifact when `run` returns. `work` is a folder that survives kills
    (only for stages with `checkpointing`); what a stage leaves there is its own to resume from.
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


Display = Callable[[Path, Any, Mapping[str, dict[str, Any]]], None]
"""Writes something for people into a folder, from a configuration and the manifests of a run, by stage."""


@dataclass(frozen=True)
class Shown:
    """What a run's folder shows of a stage's artifact.

    `links` are files and folders of the artifact that it links to; while the stage is at work, of its work folder.
    `copies` are files and folders of the artifact, each with the place in the run's folder where a copy lies that
    people may edit and upload. A copy that is called README.md stays as people edit it. `strays` are glob patterns of
    names that must not lie beside the copies, since programs that load them would look for these too. `exports` are
    names of files that verbs make of the copies, and that go where these go. `displays` are further folders by name,
    each with what writes it; no run fails for them.
    """

    links: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    strays: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    displays: Mapping[str, Display] = field(default_factory=dict)


def counts_in_words(summary: Mapping[str, Any]) -> str:
    """What became of documents, as far as a summary tells."""
    words = [f"{summary['documents_out']:,} documents"] if "documents_out" in summary else []
    for what in ("rejected", "dropped"):
        words += [f"{count:,} {what}: {reason}" for reason, count in summary.get(what, {}).items()]
    return "; ".join(words)


@dataclass(frozen=True)
class Stage:
    """A stage's declaration. `run(context)` fills `context.output` and returns a summary of JSON values
    (counts, sizes, figures) which goes into the manifest but not into the content digest. Its `warnings`, a list of
    sentences, are said when the artifact is made, and again by every plan and report that uses it. What it `rejected`
    and `dropped` is counted there by reason, and listed in files of these names (rejected.jsonl).

    What its identity is made of. `inputs` name upstream stages whose digests enter the key, as `stage` or
    `stage/folder` when only that folder of the artifact matters, or `*` for all stages before it. `files(section)`
    lists external files that enter the key, grouped under a label; it must be cheap and must raise MissingInputError
    when one is missing. `draws(config)` says whether a result depends on random numbers under these settings: only then
    the seed enters the key, and `run` is given it. `libraries` are distributions whose versions enter it.

    What it reads. `reads` name stages whose artifacts are opened as well, but whose content the inputs already pin
    down, or a record of theirs. What `run` may open of all these is compared with its digest before; `opened` are glob
    patterns of `stage/file` for what that is. `checked_by_readers` are glob patterns of its own files of which others
    read a part: the readers compare these with digests as they go. `records` are glob patterns of its files that are
    not results (timings, logs, event files).

    How it is carried out. `check(config)` raises ConfigError for what only heavy libraries can tell of the
    configuration; it is called before the first stage of a run in which this one may have to be built.
    `check_launch(section, environ, chosen)` raises ConfigError when the launcher that left `environ` was asked for what
    this stage cannot do; `chosen` names the settings that were chosen for this machine. It is called before any run.
    `foresee(section)` gives warnings that its settings allow before it runs; it must be cheap, and is no promise.
    `distributed` stages run in every process of the launcher, the others in process 0 alone. `checkpointing` says how a
    stage goes on that was killed, and from where.

    How it is spoken of, from its summary. `in_short` says what came of it as it ends. `headline` is the figure by which
    people judge a run: stages that have one make up its result, and the run's folder keeps an earlier one where
    it is another. `noun` is what its work is called. `noted` are names in the summary that run.json repeats. `shown` is
    what a run's folder shows of the artifact. `tell_unfinished(folder, artifacts, section, message)` writes into
    `folder` what can be told of a run that failed with `message`; what a stage had begun is in its work folder, which
    stands among the artifacts.
    """

    name: str
    version: int
    run: Callable[[StageContext], Mapping[str, Any]]
    inputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    opened: tuple[str, ...] = ("*",)
    checked_by_readers: tuple[str, ...] = ()
    draws: Callable[[Any], bool] = field(default=lambda config: False)
    libraries: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    files: Callable[[Any], Mapping[str, list[Path]]] = field(default=lambda section: {})
    check: Callable[[Any], None] | None = None
    check_launch: Callable[[Any, Mapping[str, str], Collection[str]], None] | None = None
    foresee: Callable[[Any], Sequence[str]] = field(default=lambda section: ())
    distributed: bool = False
    checkpointing: Checkpointing | None = None
    in_short: Callable[[Mapping[str, Any]], str] = counts_in_words
    headline: Callable[[Mapping[str, Any]], str] | None = None
    noun: str = "work"
    noted: tuple[str, ...] = ()
    shown: Shown = field(default_factory=Shown)
    tell_unfinished: Callable[[Path, Mapping[str, Path], Any, str], None] | None = None

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
        is_opened = is_given and any(fnmatch(path, pattern) for pattern in self.opened)
        return is_opened and not any(fnmatch(name, pattern) for pattern in upstream.checked_by_readers)


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
