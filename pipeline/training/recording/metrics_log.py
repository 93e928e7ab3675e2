"""Records of a training: `metrics.jsonl`, `health.jsonl` and TensorBoard's event files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pipeline.atomic import digest_file, fsync_path, list_files, remove, write_bytes, write_json
from pipeline.errors import DivergedError
from pipeline.machine import rate_in_words
from pipeline.telemetry.anatomy import record_of, recorded_steps
from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.histograms import Buckets
from pipeline.telemetry.markdown import verdict_markdown
from pipeline.telemetry.matrix_figures import in_folders, tag_in_folder
from pipeline.telemetry.panel import HealthPanel, replay
from pipeline.telemetry.rules.base_rule import SLOWER
from pipeline.telemetry.verdicts import HEALTH, Evidence, Verdict
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.due import Due
from pipeline.training.recording.gradient_flow import GradientFlow
from pipeline.training.recording.metrics_file import FACTS, METRICS, is_whole, parse_record, read_metrics
from pipeline.training.recording.tensorboard_writer import TensorBoardWriter
from pipeline.training.recording.throughput import PHASES
from pipeline.training.recording.trackers import RunLabel, Trackers

TENSORBOARD = "tensorboard"
RECORDS, BEFORE_END, RECORDS_SHA256 = "records", "records_before_end", "metrics_sha256"


class MetricsLog:
    """Appends one JSON object a line to `<work>/metrics.jsonl`, and the same values to `<work>/tensorboard/`, there in
    a folder for each layer, with histograms, verdicts in words and a picture of the gradient flow.

    Only ever appended to, so that the files' sizes at a checkpoint (`state`) say what belongs to it, and cutting
    them back to those sizes (`rewind`) leaves no point of a later, lost step and repeats none. A longer
    training goes on from the sizes before the first record that exists only because this one ends. Process 0 alone
    writes (`is_main`); in the others nothing is recorded. `say` gets a line for each validation.

    The same goes to the trackers of `train.log_with`, under the name of the `label`.

    Every record is judged: it gets `health/<kind>` (HealthPanel.levels), and verdicts that change are said and appended
    to `<work>/health.jsonl`. `facts` are those of this training, None in processes that record nothing; they are in
    `<work>/facts.json`, so that the records of a training that is not over can be judged by others.
    """

    def __init__(
        self,
        work: Path,
        is_main: bool,
        due: Due,
        label: RunLabel,
        say: Callable[[str], None],
        facts: HealthFacts | None,
    ) -> None:
        self._work, self._label, self._say = work, label, say
        self._due, self._facts = due, facts
        self.panel: HealthPanel | None = None
        self._before_end: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._is_main = is_main
        self._file: TextIO | None = None
        self._lost: set[str] = set()
        self._gradient_flow = GradientFlow()
        self._charted_last: tuple[int, Set[str]] = (0, frozenset())

    def open(self, step: int) -> None:
        """Begin to append to the records as `rewind` left them, after a step; 0 in a new training."""
        if self._is_main:
            self._tensorboard = TensorBoardWriter(self._work / TENSORBOARD, partial(self._lose, TENSORBOARD))
            self._tensorboard.begin_at(step + 1 if step > 0 else 0)
            self._others = Trackers(self._due.config, self._work, self._label, step > 0, self._say)
            history = read_metrics(self._work)
            for record in history:
                self._gradient_flow.add(record)
                self._charted(record, record["step"])
            if self._facts is not None:
                write_json(self._work / FACTS, self._facts.as_json())
                self.panel = replay(self._facts, history)
                (self._work / HEALTH).touch()  # empty where nothing has changed
            self._file = (self._work / METRICS).open("a", encoding="utf-8")
            with (self._work / METRICS).open("rb") as file:
                self._written = hashlib.file_digest(file, "sha256")

    def log(
        self, counters: Counters, values: dict[str, float], histograms: Mapping[str, Buckets] | None = None
    ) -> None:
        """Record finite values of a step under their tags, and TensorBoard's histograms under theirs."""
        if self._file is None:
            return
        is_regular = "eval/loss" not in values and self._due.regular_log(counters.step)
        if counters.step == self._due.max_steps and not is_regular:
            self._before_end = self._before_end or self._sizes()
            self._digests.setdefault(BEFORE_END, self._written.hexdigest())
        changed = self._judge(values, counters.step)
        values = values | (self.panel.levels() if self.panel is not None else {})
        values_of_line = {
            "step": counters.step,
            "target_tokens": counters.target_tokens,
            "seconds": round(counters.seconds, 3),
            **values,
        }
        line = json.dumps(values_of_line, allow_nan=False) + "\n"
        self._file.write(line)
        self._file.flush()
        self._written.update(line.encode())
        self._gradient_flow.add(values_of_line)
        charted = self._charted(values, counters.step)
        self._tensorboard.add(counters.step, charted, **self._seen_in_tensorboard_alone(histograms or {}, changed))
        self._others.log(charted, counters.step)
        if "eval/loss" in values:
            self._say(f"step {counters.step:,} of {self._due.max_steps:,}: {validation_line(values)}")

    def _charted(self, values: Mapping[str, Any], step: int) -> dict[str, Any]:
        """What charts show of a record: each tag once a step. Of two records of one step the health is the second's,
        the validation's, unless that is there only because the training ends."""
        shown = in_folders(values)
        if "eval/loss" not in values and self._due.regular_validation(step):
            shown = {tag: value for tag, value in shown.items() if not tag.startswith("health/")}
        last_step, tags = self._charted_last
        if last_step == step:
            shown = {tag: value for tag, value in shown.items() if tag not in tags}
        self._charted_last = step, shown.keys()
        return shown

    def _seen_in_tensorboard_alone(
        self, histograms: Mapping[str, Buckets], changed: Sequence[Verdict]
    ) -> dict[str, dict[str, Any]]:
        """Histograms; with them the picture of the gradient flow; and the changed verdicts of each kind in words."""
        picture = self._gradient_flow.picture() if histograms else None
        kinds = dict.fromkeys(verdict.kind for verdict in changed)
        return {
            "histograms": {tag_in_folder(tag): buckets for tag, buckets in histograms.items()},
            "pictures": {} if picture is None else {"gradient_flow": picture},
            "texts": {
                f"verdicts/{kind}": "\n\n".join(verdict_markdown(one) for one in changed if one.kind == kind)
                for kind in kinds
            },
        }

    def _judge(self, values: dict[str, float], step: int) -> list[Verdict]:
        """Tell the verdicts that a record changes, but for what is unknown, and return all of them."""
        changed = self.panel.add({"step": step, **values}) if self.panel is not None else []
        for verdict in changed:
            if verdict.verdict != "unknown":
                self._tell(verdict, step)
        return changed

    def tell(self, verdict: Verdict, step: int) -> None:
        """Tell a verdict that no record holds."""
        if self._file is not None:
            self._tell(verdict, step)
            self._tensorboard.add(step, {}, texts={f"verdicts/{verdict.what}": verdict_markdown(verdict)})

    def tell_text(self, tag: str, text: str, step: int) -> None:
        """Show a text, which is Markdown, in TensorBoard alone."""
        if self._file is not None:
            self._tensorboard.add(step, {}, texts={tag: text})

    def _tell(self, verdict: Verdict, step: int) -> None:
        with (self._work / HEALTH).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": step, **verdict.as_json()}, allow_nan=False) + "\n")
        if verdict.is_healthy:
            self._say(f"health: {verdict.what.replace('_', ' ')} is over: {verdict.evidence.words}")
        else:
            self._say(f"health: {verdict.in_words}; {verdict.remedy}")

    def state(self) -> dict[str, dict[str, Any]]:
        """What `rewind` needs, after flushing all to the disk: the files' sizes and the digest of metrics.jsonl, and,
        after the last step, those that a longer training would have."""
        if self._file is None:
            return {RECORDS: {}}
        before_end = {BEFORE_END: self._before_end} if self._before_end else {}
        return {
            RECORDS: self._sizes(),
            **before_end,
            RECORDS_SHA256: {**self._digests, RECORDS: self._written.hexdigest()},
        }

    def _sizes(self) -> dict[str, int]:
        """Bytes of every record file, by path relative to the work folder."""
        sizes = {}
        events = {} if TENSORBOARD in self._lost else {f"{TENSORBOARD}/{self._tensorboard.path.name}": None}
        for name in {METRICS: None} | events | dict.fromkeys(_names(self._work)):
            try:
                fsync_path(self._work / name)
                sizes[name] = (self._work / name).stat().st_size
            except FileNotFoundError:
                self._lose(name, "somebody removed it")
        return sizes

    def _lose(self, name: str, reason: str) -> None:
        """Say once that records are lost."""
        if name not in self._lost:
            self._lost.add(name)
            self._say(f"warning: {name} holds no more records of this training: {' '.join(reason.split())}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            if isinstance(error, DivergedError) and self.panel is not None:
                verdict = _ended_by(error)
                with suppress(OSError):
                    self._tell(verdict, self.panel.step)
                self._tensorboard.add(self.panel.step, {}, texts={"verdicts/end": verdict_markdown(verdict)})
            self._file.close()
            self._tensorboard.close()
            self._others.finish()


def _ended_by(error: DivergedError) -> Verdict:
    """The verdict on a training that this error ends."""
    source = "a loss, gradient or weight that is not finite, or a loss that going back does not mend"
    words = str(error).removeprefix("training diverged: ")
    return Verdict("loss", "training_diverged", "critical", Evidence(None, words), SLOWER, source)


def record_in_words(values: Mapping[str, float], peak_kind: str) -> str:
    """A record in a few words, for the terminal. Times are shares of a step's; `peak_kind` says how the peak is
    known."""
    words = []
    if "train/loss" in values:
        words = [f"loss {values['train/loss']:.3f}", f"gradient {values['train/grad_norm']:.2f}"]
    words.append(f"learning rate {values['train/learning_rate']:.2e}")
    peak = f"{rate_in_words(values['throughput/peak_flops_per_second'])} ({peak_kind})"
    words.append(f"{values['throughput/tokens_per_second']:,.0f} tokens/s, {values['throughput/mfu']:.0%} of {peak}")
    seconds = {phase: values[f"time/{phase}_seconds"] for phase in PHASES}
    whole = sum(seconds.values())
    words.append(" + ".join(f"{phase.replace('_', '-')} {part / whole:.0%}" for phase, part in seconds.items()))
    words.append(f"{values['memory/peak_bytes'] / 1e9:.2f} GB")
    if values["train/skipped_steps"]:
        words.append(f"{values['train/skipped_steps']:.0f} steps skipped")
    return ", ".join(words)


def validation_line(values: Mapping[str, float]) -> str:
    """A validation in a few words, for the terminal, losses with their standard errors; values of the averaged weights
    go last."""
    figures = {tag.removeprefix("eval/"): value for tag, value in values.items() if tag.startswith("eval/")}
    errors = {name.removesuffix("_error"): value for name, value in figures.items() if name.endswith("_error")}
    words = [
        f"{name.replace('_', ' ')} {value:.4g}" + (f" ± {errors[name]:.2g}" if name in errors else "")
        for name, value in figures.items()
        if not name.endswith("_error")
    ]
    return f"validation {', '.join(words)}"


def rewind(work: Path, sizes: dict[str, int], warn: Callable[[str], None], sha256: str | None = None) -> None:
    """Cut the record files back to what they were at a checkpoint; files that did not exist then are removed. What is
    no record any more is taken away: no training fails for one. `sha256` is what metrics.jsonl had then."""
    _clear_way(work, warn)
    found = _names(work)
    for name in found:
        if name not in sizes:
            (work / name).unlink()
    for name, size in sizes.items():
        if name not in found or (work / name).stat().st_size < size:
            warn(f"warning: {name} is shorter than at the checkpoint: earlier points are missing from the records")
        else:
            os.truncate(work / name, size)
    is_cut = METRICS in sizes and (work / METRICS).exists() and (work / METRICS).stat().st_size < sizes[METRICS]
    _drop_unreadable(work / METRICS, warn, None if is_cut else sha256)


def _names(work: Path) -> list[str]:
    """Record files, by path relative to the work folder."""
    text = [name for name in (METRICS, HEALTH) if (work / name).exists()]
    return text + [f"{TENSORBOARD}/{name}" for name in list_files(work / TENSORBOARD)]


def _clear_way(work: Path, warn: Callable[[str], None]) -> None:
    """Remove what stands in the place of a record and is none, such as a folder."""
    events = (path for path in sorted((work / TENSORBOARD).rglob("*")) if path.is_symlink() or not path.is_dir())
    kinds = [
        (work / METRICS, stat.S_ISREG),
        (work / HEALTH, stat.S_ISREG),
        (work / FACTS, stat.S_ISREG),
        (work / TENSORBOARD, stat.S_ISDIR),
        *((one, stat.S_ISREG) for one in events),
    ]
    for path, is_right in kinds:
        if os.path.lexists(path) and not is_right(path.lstat().st_mode):
            warn(f"warning: {path.relative_to(work)} is no record: removed, its points are missing")
            remove(path)


def _drop_unreadable(path: Path, warn: Callable[[str], None], sha256: str | None) -> None:
    """Drop the lines that cannot be parsed. If all lines parse but the digest differs, some figure was altered: move
    the file aside. `sha256` is None if the file was cut short."""
    if not path.exists() or digest_file(path) == sha256:
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and is_whole(parse_record(line))]
    if len(kept) < len(lines):
        warn(f"warning: {len(lines) - len(kept):,} lines of {path.name} cannot be read: left out of the records")
        write_bytes(path, b"".join(kept))
    elif kept and sha256 is not None:
        aside = path.with_name(f"altered-{path.name}")
        warn(f"warning: {path.name} was altered since the checkpoint, nobody knows where: moved to {aside.name}")
        os.replace(path, aside)


def copy_records(work: Path, output: Path) -> None:
    """Copy `metrics.jsonl`, `health.jsonl`, `anatomy/` and `tensorboard/` into an artifact, as far as they are
    there."""
    anatomies = [str(record_of(work, step).relative_to(work)) for step in recorded_steps(work)]
    for name in [*_names(work), *anatomies]:
        if (work / name).is_file():
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(work / name, output / name)
