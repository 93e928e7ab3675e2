"""What TensorBoard's own reader makes of the rows of several runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.get_experiment import Handler as GetExperiment
from tensorboard.plugins.hparams.list_session_groups import Handler as ListSessionGroups
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from pipeline.config import Config
from pipeline.reporting.hparams import results_of, write_row
from pipeline.telemetry.verdicts import Evidence, Verdict

BASE: dict[str, Any] = {
    "run": {"name": "one"},
    "ingest": {"sources": [{"name": "s", "type": "text", "paths": ["x", "y"]}]},
    "model": {"preset": "gpt2-124m"},
    "train": {"max_steps": 100, "logging_steps": 3},
}
MANIFESTS: dict[str, Any] = {
    "model": {"summary": {"total": 1234}},
    "train": {
        "started": 1e9,
        "summary": {
            "final_loss": 1.5,
            "eval_loss": None,
            "steps": 80,
            "health": [
                Verdict("loss", "loss", "healthy", Evidence(80, "falls"), source="(none)").as_json(),
                Verdict("updates", "stalled_updates", "warning", Evidence(80, "1e-9 * <b>"), "raise a_b_c").as_json(),
            ],
        },
    },
    "evaluate": {
        "summary": {
            "task": "causal_lm",
            "samples": [{"prompt": "It\n\n# was", "text": " a `*dark*`\n<i>night"}],
            "test": {"loss": 1.75, "bits_per_byte": 2.5, "bytes": 99, "token_accuracy": 0.5},
        }
    },
}


def config_of(name: str, **changes: Any) -> Config:
    return Config.model_validate({**BASE, "run": {"name": name}, **changes})


def table(logdir: Path) -> tuple[dict[str, dict[str, Any]], dict[str, bool], dict[str, dict[str, float]]]:
    """Of the HPARAMS tab: settings by row, which columns differ, and results by row."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    context = Context(SimpleNamespace(data_provider=provider))
    request = RequestContext()
    experiment = GetExperiment(request, context, "", api_pb2.GetExperimentRequest(include_metrics=True)).run()
    columns = [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    asked = api_pb2.ListSessionGroupsRequest(
        slice_size=100,
        include_metrics=True,
        allowed_statuses=api_pb2.Status.values(),
        col_params=columns,
        aggregation_type=api_pb2.AGGREGATION_AVG,
    )
    groups = ListSessionGroups(request, context, "", asked).run().session_groups
    settings, results = {}, {}
    for group in groups:
        assert len(group.sessions) == 1
        settings[group.name] = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
        results[group.name] = {found.name.tag: found.value for found in group.metric_values}
    return settings, {info.name: info.differs for info in experiment.hparam_infos}, results


def test_runs_stand_side_by_side_in_tensorboards_table(tmp_path: Path) -> None:
    """Each with settings and results of its own; what training records beside it is no column."""
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    write_row(tmp_path / "one/hparams", config_of("one"), MANIFESTS)
    train = {"max_steps": 100, "learning_rate": 0.5, "nesterov": True, "optim": "sgd", "momentum": 0.9}
    write_row(tmp_path / "two/hparams", config_of("two", train=train), {"model": MANIFESTS["model"]})  # while it trains
    labelled = {"name": "s", "type": "jsonl", "paths": ["x"], "label_field": "l"}
    classes = {"task": "classification", "test": {"loss": 0.5, "accuracy": 0.75}}
    classifier = config_of("three", model={"task": "classification"}, ingest={"sources": [labelled]})
    write_row(tmp_path / "three/hparams", classifier, {**MANIFESTS, "evaluate": {"summary": classes}})
    with SummaryWriter(str(tmp_path / "one/tensorboard")) as writer:
        writer.add_scalar("train/loss", 3.0, 1)
    settings, differs, results = table(tmp_path)

    assert settings.keys() == {"one/hparams", "two/hparams", "three/hparams"}
    one, two = settings["one/hparams"], settings["two/hparams"]
    assert (one["run.name"], one["run.seed"], one["model.parameters"]) == ("one", 42, 1234)
    # The default's, the preset's own, what is given; nothing that is runtime or at a default of no matter.
    assert (one["train.learning_rate"], one["model.config.n_layer"], one["train.max_steps"]) == (1e-3, 12, 100)
    assert json.loads(one["ingest.sources.0.paths"]) == ["x", "y"]
    assert not {"train.logging_steps", "curate.min_chars", "run.workspace"} & one.keys()
    assert (two["train.learning_rate"], two["train.nesterov"], two["train.optim"]) == (0.5, True, "sgd")
    assert {name: differs[name] for name in ("train.learning_rate", "train.optim", "run.seed")} == {
        "train.learning_rate": True, "train.optim": True, "run.seed": False,
    }  # fmt: skip
    assert results["one/hparams"] == {
        "final/train_loss": 1.5, "final/steps": 80, "test/loss": 1.75, "test/bits_per_byte": 2.5,
        "test/token_accuracy": 0.5, "health/worst": 2,
    }  # fmt: skip
    assert results["two/hparams"] == {}
    assert results["three/hparams"]["test/accuracy"] == 0.75


def read(folder: Path) -> EventAccumulator:
    [_] = folder.iterdir()
    return EventAccumulator(str(folder)).Reload()


def text_in(events: EventAccumulator, tag: str) -> str:
    """A text as TensorBoard's page has it, in HTML."""
    [text] = events.Tensors(tag)
    return markdown_to_safe_html(text.tensor_proto.string_val[0])


def test_the_configuration_is_there_as_text_and_what_is_told_already_stays(tmp_path: Path) -> None:
    config = config_of("one")
    write_row(tmp_path / "hparams", config, {})
    [first] = (tmp_path / "hparams").iterdir()
    write_row(tmp_path / "hparams", config, {})
    assert [first] == list((tmp_path / "hparams").iterdir())

    (tmp_path / "hparams/leftover").write_text("")
    write_row(tmp_path / "hparams", config, MANIFESTS)
    events = read(tmp_path / "hparams")
    [text] = events.Tensors("config")
    [told] = text.tensor_proto.string_val
    assert told.decode().startswith("```yaml\nrun:\n")
    assert "\n  preset: gpt2-124m\n" in told.decode()
    assert [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors("test/bits_per_byte")] == [
        (80, 2.5)
    ]
    shown = {tag: text_in(events, tag) for tag in ("verdicts", "samples")}
    assert re.sub("<.*?>", "", shown["verdicts"]).split("\n") == [
        "warning: stalled updates 1e-9 * &lt;b&gt;", "What to do: raise a_b_c", "healthy: loss falls", "(none)"
    ]  # fmt: skip
    assert re.sub(r"<.*?>|\n", "", shown["samples"]) == "It  # wasgoes on:a `*dark*`&lt;i&gt;night"
    # Another step count is another result.
    changed = {**MANIFESTS, "train": {"started": 2e9, "summary": {"final_loss": 1.5, "eval_loss": 2.5, "steps": 90}}}
    write_row(tmp_path / "hparams", config, changed)
    assert read(tmp_path / "hparams").Tensors("final/eval_loss")[0].step == 90


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "hparams").symlink_to("outside")
    write_row(tmp_path / "hparams", config_of("one"), {})
    assert not list((tmp_path / "outside").iterdir())
    assert list((tmp_path / "hparams").iterdir())


def test_results_are_those_that_are_known() -> None:
    assert results_of({}) == {}
    assert "final/eval_loss" not in results_of(MANIFESTS)


def test_what_is_no_scalar_is_json_text(tmp_path: Path) -> None:
    write_row(
        tmp_path / "hparams", config_of("one", train={"max_steps": 1, "freeze": ["a"], "max_grad_norm": None}), {}
    )
    settings, _, _ = table(tmp_path)
    assert settings["hparams"]["train.freeze"] == '["a"]'
    assert settings["hparams"]["train.max_grad_norm"] == "null"


def test_a_training_that_failed_is_told_as_one_with_what_it_came_to(tmp_path: Path) -> None:
    """Not as one that goes on, as its row said before."""
    target, failed = tmp_path / "one/hparams", {"outcome": "failed", "summary": MANIFESTS["train"]["summary"]}
    target.parent.mkdir()
    statuses = []
    for manifests in ({}, {"train": {**failed, "summary": {}}}, {"train": failed}, MANIFESTS):
        write_row(target, config_of("one"), manifests)
        content = read(target).summary_metadata["_hparams_/session_end_info"].plugin_data.content
        statuses.append(api_pb2.Status.Name(HParamsPluginData.FromString(content).session_end_info.status))
        if manifests.get("train") is failed:
            assert table(tmp_path)[2]["one/hparams"] == {"final/train_loss": 1.5, "final/steps": 80, "health/worst": 2}
    assert statuses == ["STATUS_RUNNING", "STATUS_FAILURE", "STATUS_FAILURE", "STATUS_SUCCESS"]
