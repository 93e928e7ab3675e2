"""What a comparison of runs says of artifacts that only look like those of runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from harness import workspace_in
from reporting.fake_run import STAGES, labelled_changes, make_run, write_manifest

from pipeline.atomic import digest_json, sealed
from pipeline.comparison.comparison_tables import MAX_STEPS, shown_steps
from pipeline.comparison.comparison_text import format_comparison
from pipeline.comparison.run_comparison import compare_runs
from pipeline.config import Config
from pipeline.engine.artifacts import Workspace
from pipeline.errors import MissingInputError, StorageError
from pipeline.plain_yaml import dump
from pipeline.telemetry.verdicts import Evidence, Verdict

Changes = dict[str, dict[str, Any]]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path / "workspace")


def write_run(
    workspace: Workspace,
    name: str,
    *,
    settings: Changes | None = None,
    summaries: Changes | None = None,
    contents: dict[str, str] | None = None,
    until: str = "evaluate",
    state: dict[str, Any] | None = None,
    losses: dict[int, tuple[float, float | None]] | None = None,
) -> None:
    """A run whose artifacts are those of other runs but for stages with settings, summaries or contents of its own and
    all that come after. `contents` are those of "<stage>" or "<stage>/<folder>"; `losses` are training's and
    validation's by step.
    """
    settings, summaries, contents = settings or {}, summaries or {}, contents or {}
    task = settings.get("model", {}).get("task", "causal_lm")
    made = make_run(workspace.root.parent / "made" / name, num_steps=0, changes=summaries, task=task)
    identity: list[Any] = []
    stages = {}
    for stage in STAGES[: STAGES.index(until) + 1]:
        own = {place: content for place, content in contents.items() if place.split("/")[0] == stage}
        # A stage's key depends on all before it but where only the settings differ: its content is then that of others.
        identity.append([stage, summaries.get(stage), own])
        key = digest_json([*identity, settings.get(stage)])[:16]
        manifest = json.loads((made[stage] / "manifest.json").read_text())
        files = {f"{split}/0.parquet": f"{split} of all" for split in ("train", "validation", "test")}
        files |= {f"{place.partition('/')[2] or 'all'}/0.parquet": content for place, content in own.items()}
        manifest |= {
            "key": key,
            "section": manifest["section"] | settings.get(stage, {}),
            "inputs": {"before": digest_json(identity[:-1])},
            "files": {file: {"size": 1, "sha256": digest_json(of), "kind": "result"} for file, of in files.items()},
        }
        folder = workspace.artifact(stage, key)
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder, manifest)
        stages[stage] = {"key": key, "outcome": "built", "seconds": 1.0}
        if stage == "train" and losses:
            lines = [
                json.dumps({"step": step, "seconds": step, "target_tokens": 100 * step, tag: value})
                for step, pair in losses.items()
                for tag, value in zip(("train/loss", "eval/loss"), pair, strict=True)
                if value is not None
            ]
            (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 99, "train/lo']))
    whole = {
        "run": {"name": name},
        "ingest": {"sources": [{"name": "docs", "type": "jsonl", "paths": ["a"], "label_field": "kind"}]},
        "model": {"architecture": "llama"},
        "train": {"max_steps": 300},
    }
    for section, values in settings.items():
        whole[section] = {**whole.get(section, {}), **values}
    view = workspace.run(name)
    view.mkdir(parents=True)
    (view / "config.yaml").write_text(dump(Config.model_validate(whole).model_dump(mode="json", by_alias=True)))
    known = {"name": name, "outcome": "done", "exit_code": 0, "started": 1750000000.0, "stages": stages}
    (view / "run.json").write_text(json.dumps(sealed(known | (state or {}))))


def compared(workspace: Workspace, *names: str) -> tuple[dict[str, Any], str]:
    """The comparison of runs, a and b by default, and its text, which fits 80 columns, unwrapped."""
    found = compare_runs(workspace, names or ("a", "b"))
    text = format_comparison(json.loads(json.dumps(found, allow_nan=False)))
    assert max(map(len, text.splitlines())) <= 80
    return found, re.sub(r"\n +", lambda gap: gap[0] if len(gap[0]) != 5 else " ", text)


def relations(found: dict[str, Any]) -> dict[str, str]:
    return {row["stage"]: row["relation"] for row in found["stages"]}


def sharp(test: dict[str, Any], half: float = 1e-3) -> dict[str, Any]:
    """Scores with intervals of half that width on both sides."""
    known = {key: value for key, value in test.items() if key != "documents" and value is not None}
    return test | {"intervals": {key: [value - half, value + half] for key, value in known.items()}}


def scored(**values: Any) -> dict[str, Any]:
    found = {"loss": 3.6, "perplexity": 37.0, "bits_per_byte": 2.0, "token_accuracy": 0.3, "documents": 277} | values
    return sharp(found)


def test_with_another_tokenizer_bits_per_byte_compare_and_losses_do_not(workspace: Workspace) -> None:
    write_run(workspace, "a", losses={10: (4.0, 4.1), 20: (3.0, 3.1)})
    write_run(
        workspace,
        "b",
        settings={"tokenizer": {"vocab_size": 8192}},
        contents={"tokenizer": "another", "train": "another"},
        summaries={"tokenizer": {"vocab_size": 8192}, "evaluate": {"test": scored(loss=3.9, bits_per_byte=1.9)}},
        losses={10: (5.0, 5.1), 20: (4.0, 4.1)},
    )
    found, text = compared(workspace)
    measures = found["evaluation"]["measures"]
    assert measures["bits_per_byte"]["comparable"]
    assert measures["bits_per_byte"]["best"] == 1
    for key in ("loss", "perplexity", "token_accuracy"):
        assert (measures[key]["comparable"], measures[key]["best"]) == (False, None)
    assert not found["training"]["comparable"]
    assert "note: the tokenizers differ, so losses are of other tokens" in text
    assert "compare bits per byte" in text
    assert "reach" not in text
    assert "  tokenizer: tokenizer.vocab_size 4096 -> 8192\n" in text
    assert relations(found)["augment"] == "shared"
    assert relations(found)["train"] == "differs"


def test_with_other_held_out_documents_nothing_is_called_better(workspace: Workspace) -> None:
    write_run(workspace, "a")
    summaries = {
        "curate": {"dropped": {"too_short": 1630, "too_long": 2, "repeats an earlier document": 700}},
        "encode": {"splits": {"test": {"tokens": 25000, "documents": 270}}},
        "evaluate": {"test": scored(bits_per_byte=1.9, documents=270)},
    }
    write_run(workspace, "b", contents={"curate/test": "other documents"}, summaries=summaries)
    found, text = compared(workspace)
    assert not any(row["comparable"] or row["best"] is not None for row in found["evaluation"]["measures"].values())
    assert "note: the held-out documents differ" in text
    assert "the validation documents differ" not in text
    assert found["data"]["splits"]["test"]["same_text"] is False
    assert found["data"]["splits"]["validation"]["same_text"] is True
    assert found["data"]["left_out"]["curate: repeats an earlier document"] == [655, 700]
    assert "left out by curate: repeats an earlie" in text
    assert "too_short" not in text, "as many were left out for it by both"


def test_classifications_are_better_the_more_is_right(workspace: Workspace) -> None:
    task = {"model": {"task": "classification"}}
    better = labelled_changes()
    better["evaluate"] |= {"test": sharp({"accuracy": 0.9, "f1_macro": 0.7, "loss": 0.5, "documents": 38})}
    own = labelled_changes()
    own["evaluate"] |= {"test": sharp({"accuracy": 0.812, "f1_macro": 0.79, "loss": 0.41, "documents": 40})}
    write_run(workspace, "a", settings=task, summaries=own)
    write_run(workspace, "b", settings=task, summaries=better)
    found, text = compared(workspace)
    sides = {key: row["best"] for key, row in found["evaluation"]["measures"].items()}
    assert sides == {"accuracy": 1, "f1_macro": 0, "loss": 0, "documents": None}
    assert "+8.80 points  b is better" in text
    assert "note: 40 and 38 of the held-out documents have labels that training knows" in text


def test_regressions_are_better_the_smaller_the_error(workspace: Workspace) -> None:
    for name, mse, r2 in (("a", 0.5, 0.6), ("b", 0.25, 0.8)):
        test = sharp({"mse": mse, "mae": 0.4 + mse * 1e-14, "r2": r2, "pearson": None, "documents": 40})
        evaluation = {"task": "regression", "test": test, "sources": {}, "baselines": {}, "samples": []}
        write_run(workspace, name, settings={"model": {"task": "regression"}}, summaries={"evaluate": evaluation})
    found, text = compared(workspace)
    measures = found["evaluation"]["measures"]
    assert measures["mse"]["best"] == measures["r2"]["best"] == 1
    assert (measures["mae"]["differences"], measures["mae"]["best"]) == ([None, 0], None)  # of rounding alone
    nothing = [None, None]
    unknown = {"values": nothing, "differences": nothing, "best": None, "comparable": True}
    assert measures["pearson"] == unknown | {"interval": None, "doubt": ""}
    assert "Pearson's r" in text


def test_different_tasks_cannot_be_compared(workspace: Workspace) -> None:
    write_run(workspace, "a")
    write_run(workspace, "b", settings={"model": {"task": "classification"}}, summaries=labelled_changes())
    found, text = compared(workspace)
    assert not any(row["comparable"] for row in found["evaluation"]["measures"].values())
    assert "note: the tasks differ (causal_lm, classification): no figure can be compared" in text


def test_curves_at_shared_steps_and_when_a_loss_was_reached(workspace: Workspace) -> None:
    slow = {step: (6 - step / 100, 6.1 - step / 100 if step % 40 == 0 else None) for step in range(10, 401, 10)}
    fast = {step: (6 - step / 50, 6.1 - step / 50 if step % 60 == 0 else None) for step in range(5, 241, 5)}
    write_run(workspace, "a", losses=slow)
    write_run(workspace, "b", losses=fast, settings={"train": {"learning_rate": 0.01, "logging_steps": 5}})
    found, text = compared(workspace)
    training = found["training"]
    assert [row["step"] for row in training["steps"]] == sorted({*range(10, 401, 10), *range(5, 241, 5)})
    for row in training["steps"]:
        assert row["train/loss"] == [run.get(row["step"], (None,))[0] for run in (slow, fast)]
    rows, note = shown_steps(training["steps"])
    steps = [row["step"] for row in rows]
    assert len(steps) == MAX_STEPS
    assert {5, 240, 400} <= {*steps}, "the first, and the last of each"
    assert {*steps} - {5, 400} <= {*range(10, 241, 10)}, "what both have, before what one has"
    evaluated = [row["step"] for row in rows if None not in row["eval/loss"]]
    assert evaluated == [120, 240]
    assert note == f"{MAX_STEPS} of 64 recorded steps; --json has all; -: the run has no record of that step"
    assert f"  {note}\n" in text
    # Of rhythms that rarely meet the steps of each are shown.
    rare = [
        {"step": n, "train/loss": [1.0 if n % 70 else None, None if n % 70 else 1.0], "eval/loss": [None] * 2}
        for n in range(10, 400, 10)
    ]
    rows, _ = shown_steps(rare)
    assert len(rows) == MAX_STEPS
    assert any(row["train/loss"][1] for row in rows)
    assert training["reached"] == {
        "train/loss": [[None, None], [200, None]],
        "eval/loss": [[None, None], [240, None]],
    }
    assert "b reached a's last training loss, 2.000, at step 200" in text
    assert training["figures"]["best_eval_loss"][0] == pytest.approx(2.1)
    assert "train.logging_steps differs" in text


def test_steps_of_other_sizes_are_told(workspace: Workspace) -> None:
    write_run(workspace, "a", losses={10: (4.0, None)})
    settings = {"train": {"global_batch_size": 64, "eval_batches": 2}}
    write_run(workspace, "b", losses={5: (5.0, None), 10: (3.0, None)}, settings=settings)
    keys = compare_runs(workspace, ("a", "b"))["stages"][-2]
    metrics = workspace.artifact("train", keys["keys"][1]) / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"target_tokens": 1000', '"target_tokens": 2000'))
    found, text = compared(workspace)
    assert "note: a step has 100 targets in a, 200 targets in b" in text
    assert "note: validation covers other parts of its text" in text
    assert not found["training"]["comparable"]


def test_an_early_cutoff_and_missing_artifacts_are_told(workspace: Workspace) -> None:
    write_run(workspace, "a")
    write_run(workspace, "b", settings={"curate": {"test_fraction": 0.06}, "train": {"learning_rate": 0.1}})
    found, text = compared(workspace)
    assert relations(found)["curate"] == "same result"
    assert "curate: curate.test_fraction (not given) -> 0.06, with the same result" in text
    assert relations(found)["encode"] == "shared"
    train = next(row for row in found["stages"] if row["stage"] == "train")
    (workspace.artifact("train", train["keys"][1]) / "manifest.json").unlink()
    found, text = compared(workspace)
    assert relations(found)["train"] == "missing"
    assert "no longer in the workspace: train" in text


def test_runs_that_part_in_different_stages(workspace: Workspace) -> None:
    write_run(workspace, "a", losses={10: (4.0, 4.5), 20: (3.0, 3.5)})
    write_run(workspace, "b", settings={"train": {"learning_rate": 0.1}}, losses={20: (2.0, 2.5), 30: (1.0, 1.5)})
    write_run(workspace, "c", settings={"train": {"learning_rate": 0.1}}, losses={20: (2.0, 2.5), 30: (1.0, 1.5)})
    summaries = {"tokenizer": {"vocab_size": 300}, "evaluate": {"test": scored(bits_per_byte=1.5)}}
    of_tokens = {"tokenizer": {"vocab_size": 300}}
    write_run(workspace, "d", settings=of_tokens, contents={"tokenizer": "another"}, summaries=summaries, losses={})
    found, text = compared(workspace, *"abcd")
    rows = {row["stage"]: row for row in found["stages"]}
    assert [bool(causes) for causes in rows["train"]["causes"]] == [False, True, True, False]
    assert "  train of b, c: train.learning_rate " in text
    assert "  tokenizer of d: tokenizer.vocab_size 4096 -> 300\n" in text
    assert [row["step"] for row in found["training"]["steps"]] == [10, 20, 30]
    assert found["training"]["steps"][0]["eval/loss"] == [4.5, None, None, None]
    assert found["training"]["steps"][2]["eval/loss"] == [None, 1.5, 1.5, None]
    assert "recorded steps" not in text, "all are shown"
    assert "  -: the run has no record of that step\n" in text
    assert not found["training"]["comparable"]
    measures = found["evaluation"]["measures"]
    assert (measures["bits_per_byte"]["best"], measures["loss"]["best"]) == (3, None)
    assert re.search(r"bits per byte .*  d is best\n", text)
    assert re.search(r"loss \(nats/token\) .*  not comparable\n", text)


def test_of_equally_good_runs_none_is_best(workspace: Workspace) -> None:
    for name, bits in (("a", 2.0), ("b", 1.5), ("c", 1.5 + 1e-12)):
        write_run(workspace, name, summaries={"evaluate": {"test": scored(bits_per_byte=bits)}})
    found, _ = compared(workspace, *"abc")
    measure = found["evaluation"]["measures"]["bits_per_byte"]
    assert (measure["best"], measure["differences"]) == (None, [None, -0.5, pytest.approx(-0.5)])


def test_many_runs_get_letters(workspace: Workspace) -> None:
    names = [f"a-sweep-of-rates-{number}" for number in range(30)]
    for number, name in enumerate(names):
        write_run(workspace, name, until="encode", settings={"pack": {"block_size": 40 + number}})
    text = format_comparison(compare_runs(workspace, names))
    assert text.startswith(f"A = {names[0]}: done after encode, ")
    assert f"\nAD = {names[29]}: done after encode, " in text
    (row,) = re.findall(r"^  pack.block_size +(.*)$", text, re.MULTILINE)
    assert row.split() == [str(40 + number) for number in range(30)]
    assert text.endswith("training: none of the runs has records of one\n\nevaluation: none of the runs has one")


def test_long_names_and_values_fit(workspace: Workspace) -> None:
    paths = [["/data/corpora/web/crawl/2026/" + letter * 60 + "/part.jsonl"] for letter in "xy"]
    names = [f"sweep-of-learning-rates-{letter}" for letter in "xy"]
    for name, path in zip(names, paths, strict=True):
        source = {"name": "web", "type": "jsonl", "paths": path, "text_template": f"{{t}}\x1b\n{name}"}
        many = {f"option_{number}": name for number in range(40)}
        settings = {"ingest": {"sources": [source]}, "model": {"architecture": "llama", "config": many}}
        write_run(workspace, name, settings=settings, summaries={"evaluate": {"samples": []}})
    text = format_comparison(compare_runs(workspace, (names[0], names[1])))
    assert text.startswith(f"A = {names[0]}: done after evaluate, ")
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    line = next(line for line in text.splitlines() if line.startswith("  ingest.sources.0.paths "))
    assert "/xxx" in line
    assert "/yyy" in line
    assert "more: --json has all" in text
    assert len(text.splitlines()) < 80


def test_a_configuration_that_is_valid_no_more_can_be_compared(workspace: Workspace) -> None:
    write_run(workspace, "a")
    write_run(workspace, "b", settings={"train": {"learning_rate": 0.1, "logging_steps": 5}})
    path = workspace.run("b") / "config.yaml"
    path.write_text(path.read_text().replace("train:\n", "train:\n  given_up: 3\n"))
    _, text = compared(workspace)
    assert re.search(r"train.given_up +\(not given\)  3\n", text)
    assert re.search(r"train\.learning_rate +\S+ +0\.1\n", text)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_run_that_has_not_ended(workspace: Workspace, is_held: bool) -> None:
    write_run(workspace, "a")
    write_run(workspace, "b", until="pack", state={"outcome": "running"})
    if is_held:
        with workspace.lock("run", "b", lambda holder: None):
            _, text = compared(workspace)
    else:
        _, text = compared(workspace)
    assert f"b: {'running' if is_held else 'killed'} after pack, started" in text
    assert "in a only: model, train, evaluate" in text


def test_runs_without_training_or_evaluation(workspace: Workspace) -> None:
    for name in "ab":
        write_run(workspace, name, until="encode")
    _, text = compared(workspace)
    assert "configuration: the same" in text
    assert text.endswith("training: neither run has records of one\n\nevaluation: neither run has one")


def test_a_run_that_is_missing_or_damaged(workspace: Workspace) -> None:
    write_run(workspace, "a", until="ingest")
    with pytest.raises(MissingInputError, match=r"no run is called 'b'; known: a"):
        compare_runs(workspace, ("a", "b"))
    path = workspace.run("a") / "run.json"
    path.write_text(path.read_text().replace("done", "gone"))
    with pytest.raises(StorageError, match=r"run\.json cannot be read; run it again, or remove its folder"):
        compare_runs(workspace, ("a", "a"))


def test_a_benchmark_is_better_only_beyond_its_noise(workspace: Workspace) -> None:
    def benchmarks(*values: float, documents: int = 400) -> Changes:
        common = {"documents": documents, "standard_error": 0.02, "chance": 0.25, "better": "higher"}
        names = ("hellaswag/rc_0shot", "basic_skills_coding/rc_5shot")
        scores = [
            {"task": task, "metric": "acc", "value": value, **common} for task, value in zip(names, values, strict=True)
        ]
        return {"evaluate": {"benchmarks": scores}}

    write_run(workspace, "a", summaries=benchmarks(0.30, 0.30))
    write_run(workspace, "b", summaries=benchmarks(0.34, 0.37))
    write_run(workspace, "c", summaries=benchmarks(0.30, 0.60, documents=20))
    write_run(workspace, "d")
    found, text = compared(workspace)
    rows = found["evaluation"]["benchmarks"]
    # The difference of two such scores has a standard error of 0.028.
    assert [row["best"] for row in rows.values()] == [None, 1]
    assert re.search(r"hellaswag/rc_0shot acc +0.3000 +0.3400 +\+0.04000 +within its interval\n", text)
    assert re.search(r"…lls_coding/rc_5shot acc +0.3000 +0.3700 +\+0.07000 +b is better", text)
    found, text = compared(workspace, "a", "c")
    assert {row["best"] for row in found["evaluation"]["benchmarks"].values()} == {None}
    assert "not comparable" in text
    assert compared(workspace, "a", "d")[0]["evaluation"]["benchmarks"]["hellaswag/rc_0shot acc"]["values"] == [
        0.3,
        None,
    ]


def test_a_figure_is_better_only_beyond_its_interval(workspace: Workspace) -> None:
    def result(bits: float, half: float) -> Changes:
        test = sharp({"bits_per_byte": bits, "documents": 277}, half) | {"token_accuracy": bits / 10}
        verdict = Verdict("result", "within_noise", "warning", Evidence(None, f"{bits} is noise")).as_json()
        return {"evaluate": {"test": test, "sources": {"docs": test}, "health": [verdict] if bits < 1.9 else []}}

    write_run(workspace, "a", summaries=result(2.0, 0.03))
    write_run(workspace, "b", summaries=result(1.951, 0.04))
    write_run(workspace, "c", summaries=result(1.94, 0.04))
    write_run(workspace, "d", summaries=result(1.8, 0.03))
    # 0.03 and 0.04 make 0.05 of independent figures.
    found, text = compared(workspace)
    row = found["evaluation"]["measures"]["bits_per_byte"]
    assert (row["best"], row["doubt"]) == (None, "within its interval")
    assert row["interval"] == pytest.approx([-0.049 - 0.05, -0.049 + 0.05])
    assert found["evaluation"]["sources"]["docs"]["best"] is None
    assert "within its interval" in text
    assert "is better" not in text
    assert found["evaluation"]["measures"]["token_accuracy"]["doubt"] == "no interval"
    found, text = compared(workspace, "a", "c")
    row = found["evaluation"]["measures"]["bits_per_byte"]
    assert (row["best"], row["doubt"]) == (1, "")
    assert "c is better" in text
    # Of three the best is held against the second best.
    assert compared(workspace, "a", "b", "c")[0]["evaluation"]["measures"]["bits_per_byte"]["best"] is None
    found, text = compared(workspace, "a", "c", "d")
    assert found["evaluation"]["measures"]["bits_per_byte"]["best"] == 2
    assert re.search("health of the result +- +- +warning\n  the result of d: within noise", text)
