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
from reporting.fake_run import fake_anatomy, labelled_changes, make_run, metrics_lines

from pipeline.reporting.anatomy_page import render_anatomy
from pipeline.reporting.html import render_report
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")]

MEASURE = """<style>body { font-family: Verdana, "DejaVu Sans", sans-serif; }</style>
<script>
const found = [], slack = 1;
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
  texts.forEach(([text, at], index) => {
    if (!within(at, whole, slack)) found.push(name(text) + " leaves its drawing");
    for (const [other, there] of texts.slice(index + 1))
      if (meet(at, there)) found.push(name(text) + " runs into " + name(other));
    for (const box of boxes)
      if (meet(at, box) && !within(at, box, 0)) found.push(name(text) + " runs into a box");
  });
}
for (const cell of document.querySelectorAll("table.stacked td"))
  if (cell.getBoundingClientRect().right > innerWidth) found.push("a verdict is cut: " + cell.textContent);
const width = document.documentElement.scrollWidth;
if (width > innerWidth) found.push(`the page is ${width} px wide`);
const shown = [...document.querySelectorAll("svg.flow")].filter((svg) => svg.getBoundingClientRect().width).length;
if (shown !== 1) found.push(`${shown} flow diagrams are shown`);
parent.postMessage(JSON.stringify({ found, width: innerWidth }), "*");
</script>"""
"""In the widest of the fonts that a page may get."""

FRAME = """<!doctype html><pre id="found"></pre>
<script>onmessage = (event) => { document.getElementById("found").textContent = event.data; };</script>
<iframe src="page.html" style="width: WIDTHpx; height: 2000px; border: 0"></iframe>"""
"""A window is never narrower than 500 pixels; a frame is."""


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


@pytest.mark.parametrize("width", [390, 768, 1024, 1440])
@pytest.mark.parametrize("kind", ["whole", "failed", "classification", "long names and many steps"])
def test_nothing_overlaps_and_nothing_is_cut(tmp_path: Path, kind: str, width: int) -> None:
    changes: dict[str, dict[str, Any]] = labelled_changes() if kind == "classification" else {}
    if kind == "long names and many steps":
        large = {"documents_out": 123_456_789, "bytes_out": 998_000_000_000}
        changes = {name: large for name in ("ingest", "normalize", "augment")}
        changes["curate"] = {
            "splits": {name: {"documents": 99_900, "bytes": 812} for name in ("train", "validation", "test")}
        }
    folders = make_run(tmp_path / "run", 300, changes, "classification" if kind == "classification" else "causal_lm")
    if kind == "long names and many steps":
        lines = [renamed(line, "decoder.model.", 70_001) for line in metrics_lines(300)]
        (folders["train"] / "metrics.jsonl").write_text("".join(lines))
    if kind == "failed":
        for name in ("train", "evaluate"):
            folders[name] = tmp_path / "nowhere"
    page = render_report(read_run(folders, ReportConfig()), "training: it failed" if kind == "failed" else "")
    assert laid_out(page, tmp_path, width, dark=width == 1024) == []


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("num_layers", [3, 96])
def test_the_anatomy_of_a_step_is_laid_out_alike(tmp_path: Path, num_layers: int, width: int) -> None:
    page = render_anatomy(fake_anatomy(1300, num_layers), "demo")
    page = page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    assert laid_out(page, tmp_path, width, dark=width == 390) == ["0 flow diagrams are shown"]
