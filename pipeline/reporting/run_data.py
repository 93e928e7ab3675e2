"""A finished run as its artifacts tell it: manifests, metrics, and the few facts that report and card share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.engine.manifests import read_manifest, warnings_of
from pipeline.engine.work_folders import identity_of
from pipeline.evaluation.benchmarks import Score
from pipeline.evaluation.metrics import FEWEST_DOCUMENTS, Figure
from pipeline.modeling.loading_code import BASE, Usage
from pipeline.modeling.model_config import DEFAULT_TASK
from pipeline.reporting import formats
from pipeline.reporting.recorded_curves import Metrics, read_curves
from pipeline.reporting.report_config import ReportConfig
from pipeline.tasks import TaskWords, task_named
from pipeline.telemetry.anatomy import Anatomy, chosen_anatomies
from pipeline.telemetry.verdicts import Verdict, by_severity, verdicts_of
from pipeline.tokens.round_trip import loss_in_words
from pipeline.training.recording.metrics_file import read_facts, verdicts_so_far


@dataclass(frozen=True)
class RunData:
    """Manifests by stage name, in stage order; the training's metrics; the model's config.json and how it is loaded."""

    config: ReportConfig
    manifests: dict[str, dict[str, Any]]
    metrics: Metrics
    model_config: dict[str, Any]
    usage: Usage
    recorded_health: list[Verdict] = field(default_factory=list)
    """The verdicts on a training that is not over, after its last record."""
    recorded_facts: dict[str, Any] = field(default_factory=dict)
    """What was known of such a training before its first step."""
    anatomies: list[Anatomy] = field(default_factory=list)
    """What the training recorded of its first step, of one in the middle, and of its last."""

    begun: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What stages that were begun and are not done are work on: their `section` and `seed`."""

    def summary(self, stage: str) -> dict[str, Any]:
        """What the stage's `run` returned; empty when the stage is missing."""
        return self.manifests.get(stage, {}).get("summary") or {}

    def section(self, stage: str) -> dict[str, Any]:
        """The stage's settings that belong to its identity."""
        return {**self.begun, **self.manifests}.get(stage, {}).get("section") or {}

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """What each stage warns of: its name and a sentence."""
        return [(stage, text) for stage, manifest in self.manifests.items() for text in warnings_of(manifest)]

    @property
    def words(self) -> TaskWords:
        """How the model's task is spoken of."""
        return task_named(self.section("model").get("task") or DEFAULT_TASK).words_for(self.summary("evaluate"))

    @property
    def withheld(self) -> str:
        """Why an evaluation gives no bits per byte; empty where it does, or has none to give."""
        return str((self.summary("evaluate").get("withheld") or {}).get("bits_per_byte", ""))

    @property
    def lost_text(self) -> str:
        """What the tokenizer loses, of the documents for which that matters most; empty for nothing."""
        heldout = self.summary("encode").get("round_trip") or {}
        measured = [(f"{split} documents", heldout.get(split)) for split in ("test", "validation")]
        measured.append(("sampled training documents", self.summary("tokenizer").get("round_trip")))
        return next(filter(None, (loss_in_words(found, documents) for documents, found in measured if found)), "")

    @property
    def own_figure(self) -> float | None:
        """The task's main figure, of the test split."""
        return _first(self.summary("evaluate").get("test") or {}, self.words.main.key)

    @property
    def baselines(self) -> list[dict[str, Any]]:
        """Each baseline with its `name`, its main `figure`, that as it is written (`value`), and `what` it is; the
        interval of the model's `difference` from it in words, the `verdict`, and whether the model is `better`: None
        where that lies within the noise or is not known."""
        main = self.words.main
        return [
            {
                "name": name.replace("_", " "),
                "figure": found[main.key],
                "value": formats.written(found[main.key], main.style),
                "what": found.get("what", ""),
                **self._compared(found),
            }
            for name, found in (self.summary("evaluate").get("baselines") or {}).items()
            if found.get(main.key) is not None
        ]

    def _compared(self, baseline: dict[str, Any]) -> dict[str, Any]:
        own, main, difference = self.own_figure, self.words.main, baseline.get("difference")
        if own is None:
            return {"difference": "", "verdict": "", "better": None}
        if difference is None:
            few = self.summary("evaluate")["test"].get("documents", FEWEST_DOCUMENTS) < FEWEST_DOCUMENTS
            verdict = "too few documents to tell" if few else self.words.verdict(own, baseline[main.key])
            return {"difference": "", "verdict": verdict, "better": None}
        low, high = difference
        written = formats.signed_between(difference, main.style)
        if low <= 0 <= high:
            return {"difference": written, "verdict": f"no difference beyond the noise ({written})", "better": None}
        verdict = f"{self.words.verdict(own, baseline[main.key])} ({written})"
        return {"difference": written, "verdict": verdict, "better": (high < 0) == (main.better == "lower")}

    def interval(self, figure: Figure, scores: Mapping[str, Any]) -> str:
        """The 95 % interval of a figure among the scores of a group of documents, in words; "" where there is none."""
        found = (scores.get("intervals") or {}).get(figure.key)
        return formats.between(found, figure.style) if found else ""

    @property
    def benchmarks(self) -> list[Score]:
        """Scores of tasks that others made."""
        return [Score(**one) for one in self.summary("evaluate").get("benchmarks") or ()]

    def added_by_tokenizer(self, place: str) -> list[str]:
        """The special tokens that the tokenizer itself puts `before` or `after` every text."""
        return list((self.summary("encode").get("tokenizer_adds") or {}).get(place) or [])

    @property
    def adapter(self) -> str:
        """The method of the adapter that was trained; empty for a model that was trained whole."""
        return str((self.section("model").get("adapter") or {}).get("type", ""))

    @property
    def classes(self) -> list[str]:
        """The classes that a classifier tells apart."""
        return list(self.summary("pack").get("classes") or [])

    @property
    def health(self) -> list[Verdict]:
        """What is said of the model before training, of the training and of its result, worst first. Of a training that
        is not over: what holds after its last record."""
        found = [one for stage in ("model", "evaluate") for one in verdicts_of(self.summary(stage).get("health"))]
        if "train" in self.manifests:
            return by_severity([*found, *verdicts_of(self.summary("train").get("health"))])
        return by_severity([*found, *self.recorded_health])

    @property
    def facts(self) -> dict[str, Any]:
        """What was known of the training before its first step: HealthFacts as JSON; empty where nothing was."""
        return self.summary("train").get("facts") or self.recorded_facts

    @property
    def judged_so_far(self) -> str:
        """Up to where a training was judged that is not over; "" of one that is, and before its first record."""
        if "train" in self.manifests or not self.recorded_health or self.metrics.last_step is None:
            return ""
        steps = self.facts.get("max_steps")
        return f"step {formats.count(self.metrics.last_step)}" + (f" of {formats.count(steps)}" if steps else "")

    @property
    def start(self) -> dict[str, Any]:
        """Scales of the blocks before training; empty where they were not measured."""
        return self.summary("model").get("start") or {}

    @property
    def num_parameters(self) -> int | None:
        """Parameters of the model."""
        return self.summary("model").get("total")

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Rows of the parameter table."""
        return self.summary("model").get("parts") or []

    @property
    def architecture(self) -> str:
        """The kind of model in one word, e.g. Llama."""
        names = self.model_config.get("architectures")
        if names:
            return re.sub(r"(For[A-Z]\w+|LMHeadModel)$", "", str(names[0]))
        return str(self.model_config.get("model_type") or self.section("model").get("architecture") or "model")

    @property
    def title(self) -> str:
        """The configured title, or one from the model's kind and size."""
        if self.config.title:
            return self.config.title
        parameters = self.num_parameters
        return f"{self.architecture}, {formats.compact(parameters)} parameters" if parameters else self.architecture

    @property
    def shape(self) -> list[str]:
        """The model's dimensions in words, e.g. ["12 layers", "width 256", "8 heads"]."""
        config = self.model_config
        heads = _first(config, "num_attention_heads", "n_head")
        shared = config.get("num_key_value_heads")
        experts = _first(config, "num_local_experts", "num_experts")
        words = {
            "{} layers": _first(config, "num_hidden_layers", "n_layer"),
            "width {}": _first(config, "hidden_size", "n_embd"),
            "{} heads": heads,
            "{} key-value heads": shared if shared != heads else None,
            "{} experts": experts,
            "vocabulary {}": config.get("vocab_size"),
        }
        return [text.format(formats.count(value)) for text, value in words.items() if value]

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """Documents and bytes of each source, as they left curate."""
        for stage in ("curate", "normalize", "ingest"):
            if found := self.summary(stage).get("sources"):
                return dict(found)
        return {}

    @property
    def split_of_source(self) -> dict[str, str]:
        """The split to which a source goes whole, where its setting names one."""
        return {
            str(source.get("name")): str(source["split"])
            for source in self.section("ingest").get("sources") or ()
            if isinstance(source, dict) and source.get("split")
        }

    def sources_of(self, split: str) -> list[str]:
        """Names of the sources that give documents to a split."""
        return [name for name in self.sources if self.split_of_source.get(name, split) == split]

    def splits(self, stage: str) -> dict[str, dict[str, Any]]:
        """What a stage counted in each split."""
        return dict(self.summary(stage).get("splits") or {})

    @property
    def early_end(self) -> str:
        """Where and why a training ended before its last step, and which weights it gave; "" where it did not."""
        train = self.summary("train")
        ended = train.get("stopped_early")
        if not ended:
            return ""
        return f"{ended['why']}; the exported weights are those of step {formats.count(train['exported_step'])}"

    @property
    def mixture(self) -> list[dict[str, Any]]:
        """The sources of a mixture: `name`, `share` of what training reads, how often an epoch `repeats` it and, once
        it is trained, how often the training `reads` it. Empty without a mixture."""
        mixed = (self.splits("pack").get("train") or {}).get("mixture") or {}
        reads = self.summary("train").get("reads") or {}
        return [{"name": name, "reads": reads.get(name), **of} for name, of in mixed.items()]

    @property
    def sentence(self) -> str:
        """The run in one sentence."""
        train = self.summary("train")
        shape = f" ({', '.join(self.shape)})" if self.shape else ""
        words = f"A {self.architecture} {self.words.noun}{shape}"
        if self.usage.has_adapter:
            words += f" with a {self.adapter} adapter beside its weights"
        if self.classes:
            words += f" that tells {formats.count(len(self.classes))} classes apart"
        if train.get("steps"):
            words += f", trained for {formats.plural(train['steps'], 'step', formats.count)}"
            if not self.words.is_generative and train.get("epochs"):
                # They are read again in every epoch: how many readings there were is not how many documents there are.
                words += f", {train['epochs']:.3g} epochs, on {self.words.target}s"
            elif train.get("target_tokens"):
                words += f" on {formats.compact(train['target_tokens'])} {self.words.target}s"
        names = self.sources_of("train")
        if names:
            words += f" of {', '.join(names[:3])}" + (f" and {len(names) - 3} more sources" if len(names) > 3 else "")
        return words + "."


def read_run(folders: Mapping[str, Path], config: ReportConfig) -> RunData:
    """Read the artifacts of a run; `folders` maps stage names to artifact folders. What is missing is left out."""
    manifests = {name: read_manifest(folder) or {} for name, folder in folders.items()}
    manifests = {name: manifest for name, manifest in manifests.items() if manifest}

    def folder(stage: str) -> Path:
        return folders.get(stage, Path("missing"))

    trained = folder("train") / "model"
    usage = Usage.of(trained)
    is_begun = "train" in folders and "train" not in manifests
    return RunData(
        config=config,
        manifests=manifests,
        metrics=read_curves(folder("train") / "metrics.jsonl"),
        model_config=read_object_or_empty((trained / BASE if usage and usage.has_adapter else trained) / "config.json")
        or read_object_or_empty(folder("model") / "model/config.json"),
        usage=usage or Usage("AutoModelForCausalLM"),
        recorded_health=verdicts_so_far(folder("train")) if is_begun else [],
        recorded_facts=facts.as_json() if is_begun and (facts := read_facts(folder("train"))) else {},
        anatomies=chosen_anatomies(folder("train")),
        begun={
            name: identity
            for name, folder_of in folders.items()
            if name not in manifests and (identity := identity_of(folder_of)) is not None
        },
    )


def read_object_or_empty(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is none to read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _first(values: Mapping[str, Any], *names: str) -> Any:
    return next((values[name] for name in names if isinstance(values.get(name), (int, float))), None)
