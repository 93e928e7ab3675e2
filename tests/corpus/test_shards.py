"""What workers leave is put together in order."""

from __future__ import annotations

from pathlib import Path

from pipeline.corpus.shards import gather_files, join_files


def test_join_files_keeps_the_order(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / name).write_text(name)
    join_files([tmp_path / "b", tmp_path / "a"], tmp_path / "joined")
    assert (tmp_path / "joined").read_text() == "ba"


def test_files_of_tasks_are_moved_to_the_same_place_without_their_results(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train" / f"{name}.txt").write_text(name)
        (tmp_path / name / "result.json").write_text("{}")
    gather_files([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    found = {path.relative_to(tmp_path / "all").as_posix() for path in (tmp_path / "all").rglob("*") if path.is_file()}
    assert found == {"train/a.txt", "train/b.txt"}
