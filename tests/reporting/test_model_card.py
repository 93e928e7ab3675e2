from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from reporting import fake_run
from reporting.fake_run import figures, labelled_changes, lost_text_changes, make_run, write_manifest

from pipeline.reporting.model_card import render_card
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run


def card(folders: dict[str, Path], **config: Any) -> str:
    return render_card(read_run(folders, ReportConfig(**config)))


def test_the_hub_understands_the_front_matter(tmp_path: Path) -> None:
    repocard = pytest.importorskip("huggingface_hub").ModelCard
    data = repocard(card(make_run(tmp_path), title="demo", language=["en"], license="apache-2.0")).data
    assert (data.library_name, data.pipeline_tag, data.license, data.language) == (
        "transformers",
        "text-generation",
        "apache-2.0",
        ["en"],
    )
    assert data.model_name == "demo"
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "bits_per_byte": 2.0812,
        "perplexity": 37.06,
        "accuracy": 0.3471,
    }


def test_what_is_not_configured_is_not_claimed(tmp_path: Path) -> None:
    matter = yaml.safe_load(card(make_run(tmp_path)).split("---")[1])
    assert "license" not in matter
    assert "language" not in matter


def test_it_says_what_when_how_well_and_what_not(tmp_path: Path) -> None:
    text = card(make_run(tmp_path))
    for words in (
        "| python_docs | 5,420 | 1.80 MB |",
        "Documents by split: train 4,931, validation 263, test 277.",
        "Of 251 validation documents that were compared, 2 have half of their runs of eight words or more in common",
        "Documents that hold pieces of these benchmarks were dropped: quiz.",
        "turned 4,931 training documents into 5,424",
        "| learning_rate | 0.003 |",
        "| seed | 17 |",
        "| all of them | 2.081 (2.019 to 2.144) |",
        "| **this model** | **2.081 (2.019 to 2.144)** | | |",
        "| xz | 2.210 | \u22120.190 to \u22120.0700 | xz -9 of the held-out documents joined into one file |",
        "it needs more bits per byte than xz primed (1.651)",
        'tokenizer("Return the", return_tensors="pt")',
        "not tuned to follow instructions",
    ):
        assert words in text, words
    assert "momentum" not in text


def test_it_depends_on_no_time_speed_version_or_runtime_setting(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a")
    before = card(first)
    for stage, folder in first.items():
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest.update(
            seconds=999.0, started=1.0, python="9.9", platform="other", libraries={"x": "1"}, runtime={"y": 2}
        )
        if stage == "train":
            manifest["summary"].update(
                seconds=1.0,
                tokens_per_second=2.0,
                library_versions={},
                gradients={},
                resumed_from_steps=[5],
                eval_loss=None,
                final_loss=0.0,
            )
        write_manifest(folder, manifest)
    (first["train"] / "metrics.jsonl").unlink()
    assert card(first) == before


def test_a_source_that_is_held_out_is_not_what_the_model_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [{"name": "python_docs", "split": "train"}, {"name": "essays", "split": "test"}]
    monkeypatch.setitem(fake_run.SECTIONS, "ingest", {"sources": sources})
    text = card(make_run(tmp_path))
    assert "target tokens of python_docs." in text
    assert "| essays (all test) |" in text
    assert "Held-out documents of essays\n" in text
    assert "uses held-out documents of essays; it says" in text


def test_names_cannot_break_the_tables(tmp_path: Path) -> None:
    sources = {"a|b\n# <script>": {"documents": 1, "bytes": 2}}
    changes: dict[str, dict[str, Any]] = {
        "curate": {"sources": sources},
        "evaluate": {"sources": {"a|b\n# <script>": figures(1.0, 1)}},
    }
    text = card(make_run(tmp_path, changes=changes))
    assert "| a\\|b # \\<script\\> | 1 | 2 bytes |" in text
    assert "\n# <script>" not in text.split("---", 2)[2]


def test_a_title_cannot_break_the_front_matter(tmp_path: Path) -> None:
    matter = yaml.safe_load(card(make_run(tmp_path), title="a: b\n---\nc").split("\n---\n\n")[0].removeprefix("---"))
    assert matter["model-index"][0]["name"] == "a: b\n---\nc"


def test_a_card_without_evaluation(tmp_path: Path) -> None:
    text = card(
        make_run(tmp_path, changes={"evaluate": {"test": None, "sources": None, "baselines": None, "samples": None}})
    )
    assert "It was not evaluated." in text
    assert "model-index" not in text


def test_a_classifier_is_described_as_one(tmp_path: Path) -> None:
    text = card(make_run(tmp_path, changes=labelled_changes(), task="classification"))
    assert "A Llama classifier (12 layers, width 256, 8 heads, vocabulary 4,096) that tells 2 classes apart" in text
    assert ", trained for 300 steps, 3.41 epochs, on labelled documents of python_docs, essays." in text
    assert "AutoModelForSequenceClassification" in text
    assert 'tokenizer("The text to judge.", truncation=True, max_length=256, return_tensors="pt")' in text
    assert "generate(" not in text
    assert "| all of them | 81.2% (67.0% to 90.0%) | 0.7900 | 0.4100 |" in text
    assert "| majority class | 60.0% | +2.0 to +40.0 points | always 'a' |" in text
    assert "Not among them: 3 test documents (label not in the training split)." in text
    assert "bits per byte" not in text
    worse = labelled_changes()
    worse["evaluate"]["baselines"]["majority_class"]["difference"] = [-0.3, -0.1]
    assert "On those documents it is no better than majority class (60.0%)." in card(
        make_run(tmp_path / "worse", changes=worse, task="classification")
    )


def test_a_model_that_brings_its_code_is_loaded_with_it(tmp_path: Path) -> None:
    folders = make_run(tmp_path)
    assert "trust_remote_code" not in card(folders)
    path = folders["train"] / "model/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoConfig": "configuration_x.X"}}))
    text = card(folders)
    assert text.count("from_pretrained(folder, trust_remote_code=True)") == 2
    assert "`trust_remote_code=True` lets run" in text


def test_an_adapter_that_is_not_merged_is_loaded_on_its_base(tmp_path: Path) -> None:
    folders = make_run(tmp_path)
    model = folders["train"] / "model"
    (model / "adapter").mkdir()
    (model / "base").mkdir()
    (model / "config.json").rename(model / "base/config.json")
    manifest = json.loads((folders["model"] / "manifest.json").read_text())
    manifest["section"]["adapter"] = {"type": "p_tuning"}
    write_manifest(folders["model"], manifest)
    text = card(folders)
    assert 'base = AutoModelForCausalLM.from_pretrained(folder, subfolder="base")' in text
    assert 'model = PeftModel.from_pretrained(base, folder, subfolder="adapter")' in text
    assert "It is an adapter of peft (p_tuning) in `adapter/` for the unchanged model in `base/`" in text
    assert "with a p_tuning adapter beside its weights, trained for 300 steps" in text
    assert "nothing but `transformers` is needed" not in text
    assert "library_name: peft" in text


def test_a_card_says_what_the_tokenizer_loses(tmp_path: Path) -> None:
    text = card(make_run(tmp_path, changes=lost_text_changes()))
    assert "There are no bits per byte, and no comparison with compressors: the tokenizer loses text." in text
    loss = "3 of 277 test documents do not come back from their tokens (at least 7 of 900 characters)"
    assert f"It does not see all of a text: the tokenizer loses text: {loss}: 'In \\<1948\\>' comes back as" in text
    assert "bits per byte" not in text.replace("no bits per byte", "")
    assert "bits_per_byte" not in text
    assert "| all of them | 3.612 | 37.06 | 34.7% (33.0% to 36.0%) |" in text
    assert "xz" not in text
    # Typed as it stands, a prompt must not end in the end of a text.
    assert "inputs = {name: values[:, :-1] for name, values in inputs.items()}" in text
    assert "Its tokenizer puts \\<s\\> before every text. That is context here and not counted." in text
    plain = card(make_run(tmp_path / "plain"))
    assert "comes back as" not in plain
    assert "values[:, " not in plain


def test_what_only_training_text_loses_is_a_limitation_and_bits_stay(tmp_path: Path) -> None:
    lost = lost_text_changes()["encode"]["round_trip"]["test"]
    whole = {**lost, "lost_documents": 0, "lost_characters": 0, "example": None}
    changes = {"tokenizer": {"round_trip": lost}, "encode": {"round_trip": {"test": whole, "validation": whole}}}
    text = card(make_run(tmp_path, changes=changes))
    assert "3 of 277 sampled training documents do not come back" in text
    assert "| xz | 2.210 |" in text


def test_a_card_says_what_is_charged_for_lost_spaces(tmp_path: Path) -> None:
    lost = {**lost_text_changes()["encode"]["round_trip"]["test"], "lost_first_spaces": 3, "example": None}
    charged = "bits per byte have one bit more for each document"
    changes = {"encode": {"round_trip": {"test": lost}}, "evaluate": {"warnings": [charged]}}
    text = card(make_run(tmp_path, changes=changes))
    assert "Bits per byte have one bit more for each document." in text
    assert "the tokenizer loses the space with which 3 of 277 test documents begin, and nothing else" in text
    assert "| xz | 2.210 |" in text


def test_a_base_is_called_by_its_name_and_what_it_lost_is_said(tmp_path: Path) -> None:
    told = "of the pretrained model's settings for generation these were left out: temperature: 0.6"
    changes = {"model": {"warnings": [told]}}
    folders = make_run(tmp_path, changes=changes)
    manifest = json.loads((folders["model"] / "manifest.json").read_text())
    manifest["section"] |= {"pretrained": "/home/someone/models/base", "revision": None}
    write_manifest(folders["model"], manifest)
    text = card(folders)
    assert yaml.safe_load(text.split("---")[1])["base_model"] == "base"
    assert "fine-tuned from base." in text
    assert "/home" not in text
    assert f"O{told[1:]}." in text


def test_what_lies_within_the_noise_is_said_to(tmp_path: Path) -> None:
    changes = labelled_changes()
    changes["evaluate"]["baselines"]["majority_class"]["difference"] = [-0.034, 0.109]
    text = card(make_run(tmp_path, changes=changes, task="classification"))
    assert "What sets it apart from majority class (60.0%) lies within the noise of these documents." in text
    assert "no better than" not in text
    assert "lies within the noise" not in card(make_run(tmp_path / "clear"))


def test_benchmarks_stand_beside_chance(tmp_path: Path) -> None:
    score = {"task": "a|b", "metric": "acc", "value": 0.31, "documents": 4000, "standard_error": 0.0073}
    score |= {"chance": 0.25, "better": "higher"}
    text = card(make_run(tmp_path, changes={"evaluate": {"benchmarks": [score]}}))
    assert "| a\\|b | acc | 0.3100 \u00b1 0.0073 | 0.2500 | 4,000 |" in text
