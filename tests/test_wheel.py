"""The wheel does everything by itself, away from any checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("configs", "accelerate_configs", "data")
SMALL = (
    "ingest.sources.0.max_documents=150",
    "tokenizer.vocab_size=400",
    "pack.block_size=32",
    "model.config={num_hidden_layers: 2, hidden_size: 32, intermediate_size: 32, num_attention_heads: 2, "
    "num_key_value_heads: 1}",
    "train.max_steps=4",
    "train.global_batch_size=2",
    "train.warmup_steps=1",
    "train.eval_steps=null",
    "evaluate.samples.max_new_tokens=4",
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout's files: building leaves traces beside them."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pipeline", *LINKED):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    (source / "data/tinyshakespeare.txt").write_text("What a user put there.")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (built,) = target.iterdir()
    return built


def _environ(**variables: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables


def test_the_wheel_holds_the_package_and_all_that_ships(wheel: Path) -> None:
    package = ROOT / "pipeline"
    code = {path.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}
    templates = {path.relative_to(ROOT).as_posix() for path in package.glob("reporting/templates/*")}
    shipped = [*ROOT.glob("configs/*.yaml"), *ROOT.glob("accelerate_configs/*.yaml")]
    shipped += [ROOT / "data" / name for name in ("antonyms.txt", "synonyms.txt", "reviews.jsonl")]
    shipped = {f"pipeline/shipped/{path.relative_to(ROOT).as_posix()}" for path in shipped}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == code | templates | shipped | {"pipeline/known_names.json"}
        for name in shipped:
            assert archive.read(name) == (ROOT / name.removeprefix("pipeline/shipped/")).read_bytes()


def test_unpacked_anywhere_it_finds_what_it_ships(wheel: Path, tmp_path: Path) -> None:
    """As `pip install --target` lays it out."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "target")
    program = (
        "import pipeline, pipeline.verbs.starter_files as s\n"
        "from pipeline.corpus.word_groups import SYNONYMS, read_lexicon\n"
        "print(pipeline.__file__, len(read_lexicon(SYNONYMS)) > 300)\n"
        "print(*(path.name for kind in s.KINDS for path in s.start(kind, None)))\n"
    )
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "empty",
        env=_environ(PYTHONPATH=str(tmp_path / "target")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{tmp_path}/target/pipeline/__init__.py True"
    assert set(second.split()) == {path.name for path in (tmp_path / "empty").rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and, by path, what Descent depends on; nothing in it leads to the checkout.

    A path file inside a folder that was added by a path file is not read: so the editable installation is not seen.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(others) + "\n")
    return folder


@pytest.mark.slow
def test_in_an_empty_environment_and_folder_every_verb_works(site: Path, tmp_path: Path) -> None:
    python = str(site / "bin/python")
    environ = _environ(PATH=f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}", OMP_NUM_THREADS="1")

    def call(*command: str, stdin: str = "") -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    where = "import pipeline, sys; print(pipeline.__file__); print(*sys.path)"
    file, path = call(python, "-c", where).splitlines()
    assert file.startswith(str(site))
    assert str(ROOT / "pipeline") not in path
    assert str(ROOT) not in path.split()
    helped = call("descent", "--help")
    assert all(f" {verb} " in helped for verb in ("init", "run", "plan", "generate", "schema"))
    assert "demo" in call("descent", "init")
    assert "wrote demo.yaml" in call("descent", "init", "demo")
    assert call("descent", "plan", "demo.yaml", *SMALL).startswith("ingest     run ")
    assert "parameters" in call("descent", "estimate", "demo.yaml", *SMALL)
    ran = call("descent", "run", "demo.yaml", *SMALL)
    assert "bits per byte" in ran
    assert "report       workspace/runs/demo/report.html" in ran
    assert "demo" in call("descent", "status", "demo.yaml")
    assert "lexicon" in call("descent", "explain", "demo.yaml", "augment", *SMALL)
    call("descent", "verify", "demo.yaml")
    call("descent", "gc", "demo.yaml")
    assert call("descent", "generate", "demo.yaml", "--prompt", "Return", "--max-new-tokens", "4", *SMALL)
    assert '"$schema"' in call("descent", "schema")

    call("descent", "init", "cpu")
    launch = (python, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", "cpu.yaml")
    again = call(*launch, "--no_python", "descent", "run", "demo.yaml", *SMALL, "run.name=again")
    assert "workspace/runs/again/report.html" in again
    assert "wrote data/reviews.jsonl" in call("descent", "init", "classification")
    assert call("descent", "plan", "classification.yaml").startswith("ingest     run ")

    alone = (
        "import sys; sys.modules['pipeline'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "folder, code = 'workspace/runs/demo/model', dict(trust_remote_code=True)\n"
        "model = AutoModelForCausalLM.from_pretrained(folder, **code)\n"
        "ids = AutoTokenizer.from_pretrained(folder, **code)('Return the', return_tensors='pt').input_ids\n"
        "new = model.generate(ids, max_new_tokens=2, min_new_tokens=2, do_sample=False).shape[1] - ids.shape[1]\n"
        "print(type(model).__name__, new)"
    )
    assert call(python, "-c", alone).splitlines()[-1] == "Grok1ForCausalLM 2"
