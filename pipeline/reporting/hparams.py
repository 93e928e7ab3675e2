"""The row of a run in TensorBoard's table of settings and results (HPARAMS); its configuration, the verdicts on it and
what its model writes as text.

A folder of its own beside the training's records, since those belong to an artifact that several runs may share: in
`tensorboard --logdir workspace/runs` the row of a run is `NAME/hparams`. It declares no experiment, so that TensorBoard
takes the columns from all runs together.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import atomic
from pipeline.engine.differences import flatten
from pipeline.engine.manifests import Manifest
from pipeline.tasks.base_task import COUNTS
from pipeline.telemetry.markdown import sample_markdown, verdict_markdown
from pipeline.telemetry.verdicts import LEVELS, by_severity, verdicts_of, worst

if TYPE_CHECKING:
    from pipeline.config import Config

ALWAYS = frozenset(
    {
        "tokenizer.vocab_size", "pack.block_size", "model.task", "model.architecture", "train.optim",
        "train.learning_rate", "train.lr_scheduler_type", "train.weight_decay", "train.global_batch_size",
        "train.mixed_precision",
    }
)  # fmt: skip
"""Settings that have a column even where they are at their default."""

Scalar = bool | int | float | str


def write_row(target: Path, config: Config, manifests: Mapping[str, Manifest]) -> None:
    """Write the settings of a run and the results in its `manifests` into the folder `target`. `train` may be missing,
    which is a training at work, or have the `outcome` of one that failed. What is there already stays."""
    results = results_of(manifests)
    texts = {"config": f"```yaml\n{config.as_yaml()}```\n", **texts_of(manifests)}
    train = manifests.get("train")
    status = "RUNNING" if train is None else "FAILURE" if train.get("outcome") else "SUCCESS"
    content = {"settings": settings_of(config, manifests), "texts": texts, "results": results, "status": status}
    if target.is_symlink():
        atomic.remove(target)
    target.mkdir(exist_ok=True)
    digest = atomic.digest_json(content)[:16]
    found = sorted(target.iterdir())
    if [path.name.rpartition(".")[2] for path in found] == [digest]:
        return
    # TensorBoard reads a run's files in the order of their names.
    path = target / f"events.out.tfevents.{time.time_ns() // 1000}.{digest}"
    atomic.write_bytes(path, _events(content, train))
    for old in found:
        atomic.remove(old)


def settings_of(config: Config, manifests: Mapping[str, Manifest]) -> dict[str, Scalar]:
    """The settings of the identity that are not at their default, those in ALWAYS, and the size of the model, by dotted
    key. Lists are JSON text."""
    chosen: dict[str, Any] = {"run.name": config.run.name, "run.seed": config.run.seed}
    for name in config.values().keys() - {"run", "report"}:
        section = getattr(config, name)
        identified = {key: value for key, value in flatten(section.identity(), name).items() if key != name}
        given = flatten(section.model_dump(mode="json", by_alias=True, exclude_defaults=True), name)
        # A preset stands for the values that it brings.
        keys = given.keys() | {key for key in identified if key.startswith("model.config.")}
        keys |= {key for key in ALWAYS if identified.get(key) is not None}
        chosen |= {key: value for key, value in identified.items() if key in keys}
    if total := manifests.get("model", {}).get("summary", {}).get("total"):
        chosen["model.parameters"] = total
    scalars = {key: value if isinstance(value, Scalar) else json.dumps(value) for key, value in chosen.items()}
    return dict(sorted(scalars.items()))


def results_of(manifests: Mapping[str, Manifest]) -> dict[str, float]:
    """The last losses of a training, its worst verdict (0 healthy, 1 note, 2 warning, 3 critical) and the figures of
    its evaluation, by tag."""
    found: dict[str, float | None] = {}
    if "train" in manifests:
        trained = manifests["train"]["summary"]
        tags = {"train_loss": "final_loss", "eval_loss": "eval_loss", "steps": "steps"}
        found |= {f"final/{tag}": trained.get(name) for tag, name in tags.items()}
        verdict = worst(verdicts_of(trained.get("health")))
        found["health/worst"] = None if verdict is None else LEVELS[verdict.verdict]
    if "evaluate" in manifests:
        evaluated = manifests["evaluate"]["summary"]
        no_figures = {*COUNTS, "intervals"}
        found |= {f"test/{name}": value for name, value in evaluated["test"].items() if name not in no_figures}
    return {tag: value for tag, value in found.items() if value is not None}


def texts_of(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """The verdicts on training and evaluation, worst first, and the samples, as Markdown by tag; those that are
    known."""
    summaries = [manifests[stage]["summary"] for stage in ("train", "evaluate") if stage in manifests]
    verdicts = by_severity(one for summary in summaries for one in verdicts_of(summary.get("health")))
    texts = {"verdicts": "\n\n".join(map(verdict_markdown, verdicts))}
    samples = [sample for summary in summaries for sample in summary.get("samples") or ()]
    texts["samples"] = "\n\n---\n\n".join(map(sample_markdown, samples))
    return {tag: text for tag, text in texts.items() if text}


def _events(content: Mapping[str, Any], train: Manifest | None) -> bytes:
    """An event file in TensorBoard's format."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.record_writer import RecordWriter

    def hparams_summary(tag: str, **info: Any) -> Summary:
        described = metadata.create_summary_metadata(HParamsPluginData(**info))
        return Summary(value=[Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)])

    now = time.time()
    began = SessionStartInfo(start_time_secs=(train or {}).get("started", now))
    for name, value in content["settings"].items():
        kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
        setattr(began.hparams[name], f"{kind}_value", value)
    summaries = [hparams_summary(metadata.SESSION_START_INFO_TAG, session_start_info=began)]
    summaries += [text_pb(tag, text) for tag, text in content["texts"].items()]
    summaries += [scalar_pb(tag, value) for tag, value in content["results"].items()]
    ended = SessionEndInfo(status=Status.Value(f"STATUS_{content['status']}"), end_time_secs=now)
    summaries.append(hparams_summary(metadata.SESSION_END_INFO_TAG, session_end_info=ended))

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    step = int(content["results"].get("final/steps", 0))
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for summary in summaries:
        writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
    return buffer.getvalue()
