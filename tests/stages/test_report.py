from __future__ import annotations

import io
from pathlib import Path

from reporting.fake_run import make_run

from pipeline.engine.stage import StageContext
from pipeline.progress import Progress
from pipeline.reporting.report_config import ReportConfig
from pipeline.stages.report import STAGE


def run_stage(inputs: dict[str, Path], output: Path) -> dict[str, object]:
    output.mkdir()
    context = StageContext(
        config=ReportConfig(title="A run"),
        seed=0,
        inputs=inputs,
        output=output,
        work=None,
        num_workers=1,
        progress=Progress("report", io.StringIO()),
    )
    return dict(STAGE.run(context))


def test_it_writes_the_page_and_the_card(tmp_path: Path) -> None:
    summary = run_stage(make_run(tmp_path / "run", 20), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model_card.md", "report.html"]
    assert summary == {"report_bytes": (tmp_path / "out/report.html").stat().st_size, "metrics_lines": 20}
    assert "<h1>A run</h1>" in (tmp_path / "out/report.html").read_text()
    assert (tmp_path / "out/model_card.md").read_text().startswith("---\nlibrary_name: transformers\n")
