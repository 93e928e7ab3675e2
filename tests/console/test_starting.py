"""`descent init` writes files that work where nothing else of the project is."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from harness import tells
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.config.loading import load_config
from pipeline.verbs.starter_files import KINDS, RUNS, TOPOLOGIES

ROOT = Path(__file__).parents[2]
BRING_A_TEXT = ("characters",)


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def descent(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_every_shipped_file_that_stands_alone_is_offered() -> None:
    shipped = [*ROOT.glob("configs/*.yaml"), *ROOT.glob("accelerate_configs/*.yaml")]
    alone = {path.relative_to(ROOT).as_posix() for path in shipped if "\nbase: " not in path.read_text()}
    assert set(KINDS.values()) == alone


def test_without_a_kind_all_are_listed_and_nothing_is_written(empty: Path) -> None:
    code, out, _ = descent("init")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(KINDS)
    assert all(len(line) < 150 for line in out.splitlines())
    assert not list(empty.iterdir())


@pytest.mark.parametrize("kind", RUNS)
def test_a_fresh_configuration_plans_or_says_what_it_lacks(kind: str) -> None:
    assert descent("init", kind)[0] == 0
    shipped = yaml.safe_load((ROOT / RUNS[kind]).read_text())
    written = yaml.safe_load(Path(f"{kind}.yaml").read_text())
    assert written.pop("run") == {**shipped.pop("run"), "name": kind}
    assert written == shipped
    code, out, err = descent("plan", f"{kind}.yaml")
    if kind in BRING_A_TEXT:
        assert (code, err.count("\n")) == (66, 1)
        assert "ingest.sources: shakespeare: 'data/tinyshakespeare.txt' matches no file" in err
    else:
        assert (code, err) == (0, "")
        assert out.startswith("ingest     run ")


@pytest.mark.parametrize("kind", TOPOLOGIES)
def test_a_topology_is_the_shipped_one(kind: str) -> None:
    assert descent("init", kind)[0] == 0
    assert yaml.safe_load(Path(f"{kind}.yaml").read_text()) == yaml.safe_load((ROOT / TOPOLOGIES[kind]).read_text())
    assert f"--config_file {kind}.yaml" in Path(f"{kind}.yaml").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_file_names_nothing_of_a_checkout(kind: str) -> None:
    descent("init", kind, "mine.yaml")
    text = Path("mine.yaml").read_text()
    for gone in ("configs/", "scripts/", "accelerate_configs", "yaml-language-server: $schema=schema.json\n# F"):
        assert gone not in text
    others = {f"{name}.yaml" for name in KINDS if f"`descent init {name}`" not in text and f"{name}.yaml" in text}
    assert all(f"#   descent init {name.removesuffix('.yaml')} " in text for name in others)


def test_the_commands_at_the_head_can_be_typed() -> None:
    descent("init", "demo", "my own.yaml")
    lines = Path("my own.yaml").read_text().split("\n#\n")[0].splitlines()[1:]
    typed = [shlex.split(line.removeprefix("#").split("  ")[1].strip()) for line in lines]
    assert [words[:3] for words in typed] == [
        ["descent", "plan", "my own.yaml"],
        ["descent", "estimate", "my own.yaml"],
        ["descent", "run", "my own.yaml"],
        ["descent", "schema", ">"],
    ]
    assert descent(*typed[0][1:])[0] == 0


@pytest.mark.parametrize(
    ("asked", "file", "name"),
    [
        (None, "demo.yaml", "demo"),
        ("mine", "mine.yaml", "mine"),
        ("a.b.yml", "a.b.yml", "a.b"),
        ("é.yaml", "é.yaml", "demo"),
        ("2024.yaml", "2024.yaml", "2024"),
        ("1e5", "1e5.yaml", "1e5"),
        ("true.yaml", "true.yaml", "true"),
        ("folder", "folder/demo.yaml", "demo"),
        ("folder/", "folder/demo.yaml", "demo"),
    ],
)
def test_the_run_is_named_after_the_file_where_it_can_be(asked: str | None, file: str, name: str) -> None:
    Path("folder").mkdir()
    assert descent("init", "demo", *([asked] if asked else []))[0] == 0
    assert load_config(Path(file)).run.name == name


@pytest.mark.parametrize("hindrance", ["file", "folder", "link"])
def test_nothing_is_overwritten(hindrance: str) -> None:
    target = Path("classification.yaml")
    if hindrance == "file":
        target.write_text("mine")
    elif hindrance == "folder":
        target.mkdir()
    else:
        target.symlink_to("gone.yaml")
    code, out, err = descent("init", "classification")
    assert (code, out) == (74, "")
    assert tells(err, "classification.yaml exists", "descent init classification OTHER.yaml")
    assert [path.name for path in Path.cwd().iterdir()] == ["classification.yaml"]


def test_data_of_ones_own_is_not_overwritten_and_the_shipped_is_used_again() -> None:
    assert "wrote data/reviews.jsonl" in descent("init", "classification")[1]
    assert descent("init", "regression")[1].splitlines()[0] == "wrote regression.yaml"
    Path("data/reviews.jsonl").write_text("mine")
    code, _, err = descent("init", "classification", "other.yaml")
    assert (code, err.count("\n")) == (74, 1)
    assert err.startswith("descent: data/reviews.jsonl exists already and was left as it is")
    assert not Path("other.yaml").exists()
    assert Path("data/reviews.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["", ".", "..", "a\nrun: {name: b}.yaml", "\udcff.yaml", "a\x1b[31m"])
def test_a_name_that_a_header_cannot_hold_is_refused(empty: Path, name: str) -> None:
    code, _, err = descent("init", "demo", name)
    assert code == 2
    assert "can be no configuration" in " ".join(err.split())
    assert not list(empty.iterdir())


def test_a_folder_that_is_not_there_is_one_line_and_nothing_is_written(empty: Path) -> None:
    code, _, err = descent("init", "classification", "gone/demo.yaml")
    assert (code, err) == (66, "descent: gone: no such folder; make it first, or name another file\n")
    assert not list(empty.iterdir())


def test_an_unknown_kind_is_a_mistake_of_usage() -> None:
    code, out, err = descent("init", "clasification")
    assert (code, out) == (2, "")
    assert "unknown kind 'clasification'; did you mean classification?" in " ".join(err.split())
    assert descent("init", "chat")[0] == 2
