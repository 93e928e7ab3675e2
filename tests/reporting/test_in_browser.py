"""The report as a browser lays it out: nothing overlaps, nothing is cut. Needs a Chromium on the PATH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE_SECONDS
from reporting.fake_run import (
    fake_anatomy,
    health,
    labelled_changes,
    make_run,
    metrics_lines,
    mixture_changes,
    mixture_lines,
)

from pipeline.reporting.anatomy_page import render_anatomy
from pipeline.reporting.html import render_pair, render_report
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import RunData, read_run
from pipeline.reporting.sections.base_section import Compared

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")]

MEASURE = """<style>body { font-family: Verdana, "DejaVu Sans", sans-serif; }</style>
<script>
const found = [], slack = 1;
for (const folded of document.querySelectorAll("details")) folded.open = true;
const isPrinted = document.documentElement.dataset.printed === "yes";
const name = (element) => element.textContent + " (" + element.getAttribute("class") + ")";
const cross = (a, b) => a.left < b.right - slack && b.left < a.right - slack;
const meet = (a, b) => cross(a, b) && a.top < b.bottom - slack && b.top < a.bottom - slack;
const within = (a, b, by) =>
  a.left >= b.left - by && a.right <= b.right + by && a.top >= b.top - by && a.bottom <= b.bottom + by;
for (const svg of document.querySelectorAll("svg")) {
  const whole = svg.getBoundingClientRect();
  if (!whole.width) continue;
  if (whole.right > innerWidth && !svg.closest("table")) found.push(svg.getAttribute("aria-label") + " is cut");
  const texts = [...svg.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
  const boxes = [...svg.querySelectorAll("rect.node")].map((box) => box.getBoundingClientRect());
  const ways = [...svg.querySelectorAll(".edge")].flatMap((way) => {
    const on = way.getScreenCTM(), length = way.getTotalLength();
    return [...Array(Math.ceil(length / 2)).keys()].map((place) => way.getPointAtLength(2 * place).matrixTransform(on));
  });
  const rows = [...svg.querySelectorAll("text.tick[text-anchor=end]")].map((text) => text.textContent);
  if (svg.dataset.heat && new Set(rows).size < rows.length) found.push("rows are named alike: " + rows);
  texts.forEach(([text, at], index) => {
    if (!within(at, whole, slack)) found.push(name(text) + " leaves its drawing");
    for (const [other, there] of texts.slice(index + 1))
      if (meet(at, there)) found.push(name(text) + " runs into " + name(other));
    const size = parseFloat(getComputedStyle(text).fontSize) * whole.width / svg.viewBox.baseVal.width;
    const least = isPrinted && svg.matches(".flow") ? 6.7 : 10;  // its page is wider than high, which is not seen here
    if (size < least) found.push(`${name(text)} is ${size.toFixed(1)} px high`);
    for (const place of ways)
      if (place.x > at.left && place.x < at.right && place.y > at.top + 2 && place.y < at.bottom - 2)
        return found.push("a line runs through " + name(text));
    for (const box of boxes)
      if (meet(at, box) && !within(at, box, 0)) found.push(name(text) + " runs into a box");
  });
}
for (const tiles of document.querySelectorAll(".tiles")) {
  const last = tiles.lastElementChild.getBoundingClientRect(), whole = tiles.getBoundingClientRect();
  if (last.left <= whole.left + slack && last.right < whole.right - slack)
    found.push("a tile is alone in its row: " + tiles.lastElementChild.textContent);
}
for (const charts of document.querySelectorAll(".charts")) {
  const maps = [...charts.querySelectorAll("svg[data-heat]")].map((map) => map.getBoundingClientRect());
  for (const map of maps) if (maps.some((other) => other.top === map.top && Math.abs(other.height - map.height) > 2))
    found.push("maps of different heights are beside each other");
}
for (const table of document.querySelectorAll(".wide"))
  if (table.scrollWidth > table.clientWidth + 1) found.push("a table is cut: " + table.textContent.slice(0, 80));
const named = (cell) => cell.matches(".whole") || getComputedStyle(cell, "::before").content !== "none";
for (const head of document.querySelectorAll("thead"))
  if (!head.getBoundingClientRect().height && head.closest(".wide").getBoundingClientRect().width)
    for (const cell of head.parentElement.querySelectorAll("tbody td:not(:empty)"))
      if (!named(cell)) found.push("nothing says what this is: " + cell.textContent.slice(0, 80));
for (const section of document.querySelectorAll("section, .tile")) {
  const edge = section.getBoundingClientRect().right;
  for (const part of section.querySelectorAll("p, h2, h3, figure, dl, .samples, .tiles, .value, .unit, .remark"))
    if (part.getBoundingClientRect().right > edge + slack)
      found.push("leaves its section: " + part.textContent.slice(0, 80));
}
for (const cell of document.querySelectorAll("th, td"))
  if (cell.getBoundingClientRect().right > innerWidth) found.push("a cell is cut: " + cell.textContent);
const width = document.documentElement.scrollWidth;
if (width > innerWidth) found.push(`the page is ${width} px wide`);
const shown = [...document.querySelectorAll("svg.flow")].filter((svg) => svg.getBoundingClientRect().width).length;
if (shown !== (document.getElementById("flow") ? 1 : 0)) found.push(`${shown} flow diagrams are shown`);
parent.postMessage(JSON.stringify({ found, width: innerWidth }), "*");
</script>"""
"""In the widest of the fonts that a page may get."""

FRAME = """<!doctype html><pre id="found"></pre>
<script>onmessage = (event) => { document.getElementById("found").textContent = event.data; };</script>
<iframe src="page.html" style="width: WIDTHpx; height: 2000px; border: 0"></iframe>"""
"""A window is never narrower than 500 pixels; a frame is."""


PRINTED_WIDTH = 718
"""Of A4 paper between margins of 1 cm, in pixels."""


def printed(page: str) -> str:
    """A page that shows on a screen what it would on paper."""
    page = page.replace("@media screen", "@media speech").replace("@media print", "@media all")
    return page.replace("<html", '<html data-printed="yes"')


def laid_out(page: str, folder: Path, width: int, *, dark: bool = False) -> list[str]:
    """What is wrong with a page in a window of a width in pixels."""
    (folder / "page.html").write_text(page.replace("</body>", f"{MEASURE}</body>"))
    path = folder / "frame.html"
    path.write_text(FRAME.replace("WIDTH", str(width)))
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1600,2100", "--virtual-time-budget=10000"]
    options += [
        "--dump-dom",
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]
    dumped = subprocess.run(
        [CHROMIUM, *options, path.as_uri()],
        capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS, env={**os.environ, "HOME": str(folder)},
    ).stdout  # fmt: skip
    told = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert told is not None, dumped[:2000]
    result = json.loads(unescape(told[1]))
    assert result["width"] == width
    return list(result["found"])


def renamed(line: str, prefix: str, factor: int) -> str:
    """A record whose layers have a long prefix and whose step is so many times as large."""
    record = json.loads(line)
    record = {name.replace("matrices/", f"matrices/{prefix}", 1): value for name, value in record.items()}
    return json.dumps({**record, "step": record["step"] * factor}) + "\n"


def run_of(kind: str, folder: Path) -> RunData:
    """A run: whole, failed, a classification, a mixture of experts, or one with long names and many steps."""
    changes: dict[str, dict[str, Any]] = {}
    if kind == "classification":
        changes = labelled_changes()
    if kind == "mixture":
        changes = mixture_changes()
    if kind == "long names and many steps":
        large = {"documents_out": 123_456_789, "bytes_out": 998_000_000_000}
        changes = {name: large for name in ("ingest", "normalize", "augment")}
        changes["curate"] = {
            "splits": {name: {"documents": 99_900, "bytes": 812} for name in ("train", "validation", "test")},
            "dropped": {},
        }
    folders = make_run(folder, 300, changes, "classification" if kind == "classification" else "causal_lm")
    if kind == "mixture":
        (folders["train"] / "metrics.jsonl").write_text("".join(mixture_lines(300)))
    if kind == "long names and many steps":
        lines = [renamed(line, "decoder.model.", 70_001) for line in metrics_lines(300)]
        (folders["train"] / "metrics.jsonl").write_text("".join(lines))
    if kind == "failed":
        bad = health("loss", "training_diverged", "critical", "the loss rose from 3.0 to 9.0, and " + "so on, " * 40)
        (folders["train"] / "manifest.json").unlink()
        (folders["train"] / "health.jsonl").write_text(json.dumps(bad) + "\n")
        folders["evaluate"] = folder / "nowhere"
    return read_run(folders, ReportConfig())


LAYOUTS = [
    *(("whole", look) for look in ("390", "768", "1024 dark", "1440", "print")),
    *(("failed", look) for look in ("390 dark", "1440")),
    *(("classification", look) for look in ("390", "1440 dark")),
    *(("mixture", look) for look in ("390 dark", "1440", "print")),
    *(("long names and many steps", look) for look in ("390", "1440")),
    *(("pair", look) for look in ("390", "1440 dark", "print")),
]


@pytest.mark.parametrize(("kind", "look"), LAYOUTS)
def test_nothing_overlaps_and_nothing_is_cut(tmp_path: Path, kind: str, look: str) -> None:
    if kind == "pair":
        runs = [run_of(one, tmp_path / one) for one in ("mixture", "failed")]
        rows = [["train.learning_rate", "0.003", "0.01"], ["ingest.sources", '[{"name": "a"}]' * 12, "[]"]]
        compared = {"configuration": Compared(["setting", "run-of-ten", "b"], rows, ["A note."])}
        page = render_pair(runs, ["run-of-ten", "b"], ["", "training: it failed"], compared)
    else:
        page = render_report(run_of(kind, tmp_path / "run"), "training: it failed" if kind == "failed" else "")
    assert len(page) < 3_000_000
    if look == "print":
        assert laid_out(printed(page), tmp_path, PRINTED_WIDTH) == []
    else:
        assert laid_out(page, tmp_path, int(look.split()[0]), dark="dark" in look) == []


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("num_layers", [3, 96])
def test_the_anatomy_of_a_step_is_laid_out_alike(tmp_path: Path, num_layers: int, width: int) -> None:
    page = render_anatomy(fake_anatomy(1300, num_layers), "demo")
    page = page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    assert laid_out(page, tmp_path, width, dark=width == 390) == []
