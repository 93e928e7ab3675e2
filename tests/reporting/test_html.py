from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from reporting.fake_run import (
    LAYERS,
    STAGES,
    figures,
    health,
    labelled_changes,
    lost_text_changes,
    make_run,
    metrics_lines,
    write_manifest,
)
from yardsticks import assert_costs_at_most, cpu_of

from pipeline.reporting.html import render_report
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Checker(HTMLParser):
    """Collects the text, and every tag that is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check(page: str) -> Checker:
    """Parse a page, and assert that it is well formed and needs nothing from outside."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.wrong == []
    assert checker.open == []
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)
    assert checker.tags.count("script") == 1
    assert not {"link", "img", "iframe", "object"} & set(checker.tags)
    assert not re.search(r"https?://|@import|url\((?!#)|\bsrc=", page)
    assert not re.search(r"\b(nan|inf|None|undefined)\b", checker.text, re.IGNORECASE)
    return checker


def render(folders: dict[str, Path], **config: Any) -> str:
    return render_report(read_run(folders, ReportConfig(**config)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(make_run(tmp_path_factory.mktemp("run")))


def given_in(page: str) -> dict[str, str]:
    """The settings that stand apart as given."""
    apart = re.search(r"Given in the configuration</h3>(.*?)</dl>", page, re.DOTALL)
    assert apart is not None
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", apart[1]))


def test_what_was_given_stands_apart_even_where_it_is_the_default(tmp_path: Path) -> None:
    folders = make_run(tmp_path)
    for stage, folder in folders.items():
        own = {"weight_decay": 0.1, "lr_scheduler_kwargs": {"power": 2.0}} if stage == "train" else {}
        own |= {"sources": [{"separator": "\n\n"}]} if stage == "ingest" else {}
        write_manifest(folder, {**json.loads((folder / "manifest.json").read_text()), "given": own, "seed": 42})
    page = render(folders)
    check(page)
    assert given_in(page) == {
        "train.weight_decay": "0.1", "train.lr_scheduler_kwargs.power": "2.0",
        "ingest.sources.0.separator": "&#34;\\n\\n&#34;",
    }  # fmt: skip


def test_the_page_tells_the_run(page: str) -> None:
    text = check(page).text
    assert "A Llama language model (12 layers, width 256, 8 heads, vocabulary 4,096), trained for 300 steps" in text
    for words in (
        "2.081 bits per byte, test split 95 %: 2.019 to 2.144 · unigram 2.680 · xz 2.210",
        "10.5M parameters",
        "2 min 53 s training time",
        "critical health: vanishing gradients at the start layers.0: the gradient is zero",
        "\u2212 1,630 too short",
        "validation 263 docs · test 277 docs",
        "+ 493 documents",
        "train: 482k tokens",
        "block of 256 tokens",
        "dropped: 1,630 too short, 655 repeats an earlier document",
        "near-duplicates: 812 documents in 230 clusters",
        "validation 263 251 2 0.8% 1.2%",
        "quiz 1,119 17 3 0",
        "loss (nats per token)",
        "target tokens per second",
        "the model needs 5.8% fewer bits (\u22120.190 to \u22120.0700)",
        "12 of 60 tokens stand so in the training text: a copied <run>",
        "tenth 1: 3 ids",
        "never in training: 40",
        "sure to 21.0%, right in 25.4%: 9,123 predictions",
        "The expected calibration error, the mean distance, is 3.1%.",
        "5.123 essays a.txt#7 812 bytes <Oh>",
        "the model needs 26.1% more bits (+0.370 to +0.490)",
        "xz -9 of the held-out documents joined into one file",
        "layers.N.attention 12 262,144 3,145,728 30.1%",
        "all 10,467,584",
        "learning_rate 0.003",
        "tokenizers 0.23.3",
        "torch 2.13.0",
        "train 3 min 01 s",
        "0000000000000008",
    ):
        assert words in text, words
    for layer in LAYERS:
        assert layer in text


def test_warnings_of_stages_stand_first(tmp_path: Path) -> None:
    text = check(render(make_run(tmp_path, 3, {"encode": {"warnings": ["test: <2> of 3 documents are lost"]}}))).text
    assert "encode test: <2> of 3 documents are lost" in text
    assert text.index("are lost") < text.index("Data flow")


def test_the_diagram_shows_the_main_figure_and_the_headlines(page: str, tmp_path: Path) -> None:
    assert "evaluate 2.081 bits per byte perplexity 37.06 report" in check(page).text
    labelled = check(render(make_run(tmp_path, 3, labelled_changes(), task="classification"))).text
    assert "evaluate 81.2% accuracy macro F1 0.7900 report" in labelled


def test_charts_are_all_there(page: str) -> None:
    for label in (
        "Loss: ",
        "Learning rate: ",
        "Gradient norm: ",
        "Throughput: ",
        "Gradients: ",
        "Updates: ",
        "Data flow",
    ):
        assert f'aria-label="{label}' in page, label


def test_samples_are_escaped_and_split_from_their_prompts(page: str) -> None:
    assert "<mark>Return the</mark> &lt;b&gt;number&lt;/b&gt; of bytes &amp; the size" in page
    assert "<mark>&lt;script&gt;alert(1)&lt;/script&gt;</mark> is not run &lt;/div&gt;" in page
    assert page.count("temperature 0.8, top 50, at most 64 tokens, seed 18") == 1


def test_names_from_the_data_are_escaped_everywhere(tmp_path: Path) -> None:
    evil = "<svg onload=x>&\"'"
    sources = {evil: {"documents": 3, "bytes": 9}}
    changes: dict[str, dict[str, Any]] = {
        "ingest": {"sources": sources, "rejected": {evil: 3}},
        "curate": {"sources": sources, "dropped": {evil: 4}},
        "train": {"health": [health(evil, evil, "critical", evil)], "layers": {evil: {"grad_norm": 1.0}}},
        "evaluate": {"sources": {evil: figures(1.0, 3)}, "baselines": {evil: {"bits_per_byte": 2.0, "what": evil}}},
        "model": {"parts": [{"name": evil, "parameters": 5}]},
    }
    folders = make_run(tmp_path, 3, changes)
    (folders["train"] / "metrics.jsonl").write_text(json.dumps({"step": 1, f"matrices/{evil}/grad_norm": 1.0}) + "\n")
    page = render(folders, title=evil)
    check(page)
    assert "<svg onload" not in page


def test_the_page_is_the_same_each_time(tmp_path: Path, page: str) -> None:
    assert render(make_run(tmp_path / "elsewhere")) == page


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_short_runs(tmp_path: Path, num_steps: int) -> None:
    text = check(render(make_run(tmp_path, num_steps))).text
    assert ("No metrics were recorded." in text) == (num_steps == 0)


@pytest.mark.parametrize("missing", STAGES)
def test_a_missing_stage_does_not_break_the_page(tmp_path: Path, missing: str) -> None:
    folders = make_run(tmp_path, 5)
    folders[missing] = tmp_path / "nowhere"
    check(render(folders))


def test_a_run_without_anything(tmp_path: Path) -> None:
    text = check(render({})).text
    for words in ("No metrics", "not evaluated", "No samples", "No parameter table", "No gradient norms"):
        assert words in text


def test_empty_summaries(tmp_path: Path) -> None:
    folders = make_run(tmp_path, 0)
    for folder in folders.values():
        manifest = json.loads((folder / "manifest.json").read_text())
        write_manifest(folder, {**manifest, "summary": {}, "section": {}, "files": {}})
    check(render(folders))


def test_without_validation_samples_baselines_or_telemetry(tmp_path: Path) -> None:
    folders = make_run(
        tmp_path, 0, {"evaluate": {"samples": [], "baselines": {}, "sources": None}, "train": {"layers": None}}
    )
    (folders["train"] / "metrics.jsonl").write_text("".join(metrics_lines(150, layers=False, eval_steps=10**9)))
    text = check(render(folders)).text
    assert "No samples were generated." in text
    assert "No gradient norms by layer were recorded." in text
    assert "training, smoothed" in text


def test_a_bad_verdict_is_told_in_words_not_only_in_colour(tmp_path: Path) -> None:
    reason = "the gradient of layers.0 is 1e-09 of the last block's at step 40; " + "and so on, " * 40 + "to the end"
    bad = [health("gradients", "vanishing_gradients", "critical", reason)]
    page = render(
        make_run(tmp_path, 5, {"train": {"health": bad, "resumed_from_steps": [2, 4]}, "model": {"health": None}})
    )
    text = check(page).text
    assert '<span class="badge warn">critical</span> vanishing gradients' in page
    # In the tile and in the table, whole.
    assert text.count(reason) == 2
    assert "lower train.learning_rate" in text
    assert "resumed from step 2, 4" in text
    assert "Products were computed in bf16, natively." in text
    assert "The training reached 57% of 375 GFLOP/s a process, by its median record (bfloat16 products)." in text


def test_a_long_run_makes_a_small_page_at_little_cost(tmp_path: Path) -> None:
    folders = make_run(tmp_path, 0)
    lines = "".join(metrics_lines(2000))
    tail = "".join(
        f'{{"step": {step}, "train/loss": {3 + step % 97 / 100}, "eval/loss": 3.5}}\n' for step in range(2001, 200_001)
    )
    (folders["train"] / "metrics.jsonl").write_text(lines + tail)
    page = render(folders)
    assert len(page) < 500_000
    check(page)
    # Reading the records is most of it: the page takes 1.1 to 2.1 times as long as parsing them does.
    records = (lines + tail).splitlines()
    assert_costs_at_most(
        8, lambda: cpu_of(lambda: render(folders)), lambda: cpu_of(lambda: [json.loads(record) for record in records])
    )


def test_the_report_imports_nothing_heavy() -> None:
    code = (
        "import sys, pipeline.reporting.html, pipeline.reporting.model_card\n"
        "print({'torch', 'transformers', 'datasets', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_scales_before_training_are_shown(page: str, tmp_path: Path) -> None:
    text = check(page).text
    for words in ("Before training", "layers.0: the gradient is zero", "Loss 8.33", "0.2520"):
        assert words in text, words
    without = check(render(make_run(tmp_path, changes={"model": {"start": None}}))).text
    assert "Before training" not in without


def test_rows_that_no_step_has_taught_are_counted(page: str, tmp_path: Path) -> None:
    counted = "150 rows of the token embedding (3.7%) had no gradient through the input up to step 300"
    assert f"{counted}." in check(page).text
    facts = {"data": {"unused_tokens": 148, "vocabulary": 4096}}
    text = check(render(make_run(tmp_path, changes={"train": {"facts": facts}}))).text
    assert f"{counted}; 148 of 4,096 tokens never occur in the training text." in text


def test_what_an_adapter_leaves_frozen_is_shown(page: str, tmp_path: Path) -> None:
    assert "parameters trained share" not in check(page).text
    parts = [{"name": "layers.0.attention", "parameters": 1000, "trainable": 24}, {"name": "norm", "parameters": 8}]
    changes = {"total": 1008, "trainable": 32, "parts": parts}
    text = check(render(make_run(tmp_path, changes={"model": changes}))).text
    assert "parameters trained share" in text
    assert "1,000 24" in text


def test_a_classifier_is_reported_as_one(tmp_path: Path) -> None:
    page = render_report(
        read_run(make_run(tmp_path, changes=labelled_changes(), task="classification"), ReportConfig())
    )
    assert '81.2%<div class="between">67.0% to 90.0%</div>' in page
    assert "the model gets 21.2 more of 100 documents right (+2.0 to +40.0 points)" in page
    assert "Not among them: 3 test documents (label not in the training split)." in page
    assert 'id="samples"' not in page
    assert "bits per byte" not in page
    assert "loss (nats per document)" in page


def test_nothing_is_compared_where_text_is_lost(tmp_path: Path) -> None:
    page = render(make_run(tmp_path, 3, changes=lost_text_changes()))
    text = check(page).text
    assert "37.06 perplexity, test split no bits per byte: the tokenizer loses text" in text
    assert "not comparable There are no bits per byte, and no comparison with compressors: the tokenizer loses" in text
    assert "The tokenizer puts <s> before every text." in text
    assert "bits per byte" not in re.sub("no bits per byte", "", text)
    assert "xz" not in text


def test_what_lies_within_the_noise_is_no_verdict(tmp_path: Path) -> None:
    changes = labelled_changes()
    changes["evaluate"]["baselines"]["majority_class"]["difference"] = [-0.034, 0.109]
    page = render_report(read_run(make_run(tmp_path, changes=changes, task="classification"), ReportConfig()))
    assert "no difference beyond the noise (\u22123.4 to +10.9 points)" in page
    assert "of 100 documents right" not in page


def test_a_mixture_tells_shares_and_how_often_sources_are_read(tmp_path: Path) -> None:
    mixture = {"python_docs": {"share": 0.7, "repeats": 0.5}, "<essays>": {"share": 0.3, "repeats": 3.25}}
    splits = {"train": {"windows": 90, "mixture": mixture}}
    changes = {"pack": {"splits": splits}, "train": {"reads": {"python_docs": 1.25, "<essays>": 8.125}}}
    page = render(make_run(tmp_path, changes=changes))
    assert "mixture of 2 sources" in page
    row = re.search(r'scope="row">&lt;essays&gt;<(.*?)</tr>', page[page.index("read in an epoch") :])
    assert row is not None
    assert re.findall(r">([^<]+)</td>", row[1]) == ["30.0 %", "3.25 times", "8.12 times"]


def test_few_documents_give_no_verdict(tmp_path: Path) -> None:
    changes = labelled_changes()
    changes["evaluate"]["test"] = {"accuracy": 0.8, "documents": 5}
    changes["evaluate"]["baselines"]["majority_class"]["difference"] = None
    page = render_report(read_run(make_run(tmp_path, changes=changes, task="classification"), ReportConfig()))
    assert "too few documents to tell" in page
    assert "of 100 documents right" not in page


def test_benchmarks_stand_beside_chance(tmp_path: Path) -> None:
    common = {"documents": 400, "standard_error": 0.0213, "chance": 0.25, "better": "higher"}
    scores = [
        {"task": "<b>arc</b>", "metric": "acc", "value": 0.31, **common},
        {"task": "piqa", "metric": "acc", "value": 0.26, **common},
        {"task": "mine", "metric": "bits_per_byte", "value": 1.5, **common, "standard_error": None, "chance": None},
    ]
    text = check(render(make_run(tmp_path, 0, {"evaluate": {"benchmarks": scores}}))).text
    assert "<b>arc</b> acc 0.3100 \u00b1 0.021 0.2500 above chance 400" in text
    assert "piqa acc 0.2600 \u00b1 0.021 0.2500 no better than chance 400" in text
    assert "mine bits_per_byte 1.500 \u2013 400" in text


def test_scores_while_training_have_curves_with_chance_and_error(tmp_path: Path) -> None:
    folders = make_run(tmp_path)
    path = folders["train"] / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line, score in zip(lines[99:300:100], (0.25, 0.3, 0.42), strict=True):
        tag = "benchmark/arc_easy/rc_0shot/acc"
        line |= {tag: score, f"{tag}_error": 0.02, f"{tag}_chance": 0.25, "benchmark/mine/bits": 1 / score}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = render(folders)
    check(page)
    drawn = re.findall(r'<svg[^>]* aria-label="(?:arc_easy|mine)/.*?</svg>', page, re.DOTALL)
    assert len(drawn) == 2, "an error and a chance have no drawing of their own"
    names = re.findall(r'<polyline[^>]*data-label="([^"]*)"', drawn[0])
    assert names == ["+ standard error", "\u2212 standard error", "score", "chance 0.2500"]
    assert 'data-tag="benchmark/arc_easy/rc_0shot/acc"' in drawn[0]
    heights = [
        [float(pair.split(",")[1]) for pair in points.split()]
        for points in re.findall(r'<polyline points="([^"]*)"', drawn[0])
    ]
    above, below, score, chance = heights
    assert [round(2 * own - low, 1) for own, low in zip(score, below, strict=True)] == pytest.approx(above, abs=0.2)
    assert chance == [score[0]] * 2, "the first score is that of guessing"
    assert re.findall(r'data-label="([^"]*)"', drawn[1]) == ["score"]
