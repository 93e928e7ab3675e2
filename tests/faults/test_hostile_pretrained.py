"""Pretrained folders that somebody prepared to do harm: one line that says what is wrong, before any work; nothing is
unpickled or run, nothing outside of the folder is read, and no memory is taken."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.watched import watching
from harness import Project
from modeling.checkpoints import make_pretrained
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer
from yardsticks import assert_costs_at_most, cpu_of, importing

from pipeline import cli
from pipeline.errors import ConfigError
from pipeline.pretrained.folder_checks import check_tokenizer_folder

EVIL = ("tokenizer={type: pretrained, pretrained: evil}", "model={pretrained: evil}")
CODE = "import os\nos.mkdir({!r})\nfrom transformers import LlamaConfig as C, LlamaForCausalLM as M\n"
HUGE = 2**31


class Evil:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path("pwned").absolute()),)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as its authors saved it."""
    folder = tmp_path_factory.mktemp("base")
    make_pretrained(folder)
    return folder


@pytest.fixture
def evil(base: Path, finished: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test spoils, beside a finished run, and beside `outside`, which is nobody's business: it
    holds the same files."""
    monkeypatch.chdir(finished.folder)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(finished.folder / "modules"))
    shutil.copytree(base, finished.folder / "outside")
    return shutil.copytree(base, finished.folder / "evil")


def descent(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    assert isinstance(left.value.code, int)
    return left.value.code


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def outside(name: str = "model.safetensors") -> str:
    return str(Path("outside", name).absolute())


def index_that_names(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "w.bin").write_bytes(pickle.dumps(Evil()))
        (folder / "below").mkdir()
        named = dict.fromkeys(weights, "part.safetensors") | {"lm_head.weight": name.format(outside=outside())}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))

    return spoil


def config_that_says(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", **values)


def settings_that_say(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "tokenizer_config.json", **values)


def brings_code(name: str, entry: dict[str, Any], **others: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "evil.py").write_text(CODE.format(str(Path("pwned").absolute())))
        change(folder / name, auto_map=entry, **others)

    return spoil


def tokenizer_with_id(place: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        values = json.loads((folder / "tokenizer.json").read_text())
        if place == "vocab":
            values["model"]["vocab"]["zz"] = HUGE
        elif place == "added":
            values["added_tokens"].append({**values["added_tokens"][0], "id": HUGE, "content": "<far>"})
        (folder / "tokenizer.json").write_text(json.dumps(values))
        if place == "decoder":
            token = {"content": "<far>", "special": True}
            change(folder / "tokenizer_config.json", added_tokens_decoder={str(HUGE): token})
        elif place == "file":
            (folder / "added_tokens.json").write_text(json.dumps({"<far>": HUGE}))

    return spoil


def replaced(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def linked(name: str, target: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(Path("outside", target).absolute())

    return spoil


def linked_folder(*names: str) -> Callable[[Path], None]:
    """A folder of templates that is a link, maybe by way of others, to the one outside."""

    def spoil(folder: Path) -> None:
        Path("outside/secret.jinja").write_text("SECRET")
        for name, target in zip(names, (*names[1:], str(Path("outside").absolute())), strict=True):
            (folder / name).symlink_to(target)

    return spoil


def tokenizer_that_puts_around(index: int, kind: str) -> Callable[[Path], None]:
    """A tokenizer whose post-processor puts a number around each text."""
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<x>": {"id": "<x>", "ids": [index], "tokens": ["<x>"]}},
    }
    pair = {"sep": ["<x>", index], "cls": ["<end>", 0]}
    processors = {
        "template": template,
        "bert": {"type": "BertProcessing", **pair},
        "roberta": {"type": "RobertaProcessing", **pair, "trim_offsets": True, "add_prefix_space": False},
        "sequence": {"type": "Sequence", "processors": [{"type": "Sequence", "processors": [template]}]},
    }
    return lambda folder: change(folder / "tokenizer.json", post_processor=processors[kind])


def in_place_of(name: str, kind: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name) if kind == "fifo" else (folder / name).symlink_to("/dev/zero")

    return spoil


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


SAFETENSORS = r"only \*\.safetensors in the folder itself are read; save the model again with save_pretrained"
FROM_THE_SOURCE = "take the folder from its source again"
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "index: pickle": (index_that_names("w.bin"), f"model.safetensors.index.json names 'w.bin', and {SAFETENSORS}"),
    "index: above": (index_that_names("../outside/model.safetensors"), SAFETENSORS),
    "index: through a folder": (index_that_names("below/../../outside/model.safetensors"), SAFETENSORS),
    "index: absolute": (index_that_names("{outside}"), SAFETENSORS),
    "index: absent": (index_that_names("x.safetensors"), "names x.safetensors, which is not there"),
    "index: no map": (replaced("model.safetensors.index.json", b"{}"), "has no weight_map"),
    "config: weights outside": (config_that_says(transformers_weights="../outside/model.safetensors"), SAFETENSORS),
    "config: a pickle": (config_that_says(transformers_weights="adapter_model.bin"), SAFETENSORS),
    "config: a kernel": (config_that_says(attn_implementation="people/kernel"), "takes code from the hub"),
    "config: a kernel below": (config_that_says(text={"_attn_implementation": "people/kernel"}), "code from the hub"),
    "config: a list": (replaced("config.json", b"[]"), "config.json holds no JSON object"),
    "config: deep": (replaced("config.json", b"[" * 10**6), r"config.json cannot be read as JSON \(RecursionError\)"),
    "config: none": (replaced("config.json", b"\xff"), "config.json cannot be read as JSON"),
    "config: fifo": (in_place_of("config.json", "fifo"), "evil has no config.json"),
    "config: device": (in_place_of("config.json", "device"), "evil has no config.json"),
    "layers": (config_that_says(num_hidden_layers=10**7), "says num_hidden_layers 10,000,000, but the weights"),
    "layers of a part": (config_that_says(text_config={"n_layer": 10**7}), "says n_layer 10,000,000"),
    "layers of a decoder": (config_that_says(model_type="bart", decoder_layers=10**7), "says decoder_layers 10,0"),
    "layers of an encoder": (config_that_says(encoder={"num_blocks": 10**7}), "says num_blocks 10,000,000"),
    "layers in a list": (config_that_says(parts=[{"depths": [2, 10**7]}]), "says depths 10,000,000"),
    "layers as wide": (config_that_says(num_hidden_layers=10**6, vocab_size=300), "says num_hidden_layers 1,000,000"),
    "layers below 0": (config_that_says(num_hidden_layers=-1), "says num_hidden_layers -1;"),
    "layers below 0 of a part": (config_that_says(text_config={"decoder_layers": -2}), "says decoder_layers -2;"),
    "width": (config_that_says(hidden_size=10**9), "says hidden_size 1,000,000,000, but the .* with sides up to 300;"),
    "experts": (config_that_says(num_local_experts=10**7), "says num_local_experts 10,000,000"),
    "labels": (config_that_says(num_labels=HUGE), "says num_labels 2,147,483,648"),
    "vocabulary": (config_that_says(vocab_size=HUGE), "says vocab_size 2,147,483,648"),
    "header: length": (replaced("model.safetensors", struct.pack("<Q", 2**60) + b"{}"), "no whole safetensors file"),
    "header: shape": (
        replaced("model.safetensors", header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}')),
        "no whole safetensors file",
    ),
    "header: list": (replaced("model.safetensors", header(b"[]")), "no whole safetensors file"),
    "pointer": (replaced("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "`git lfs pull`"),
    "id: vocabulary": (tokenizer_with_id("vocab"), "tokenizer.json gives a token the number 2147483648, and there are"),
    "id: added": (tokenizer_with_id("added"), "tokenizer.json gives a token the number 2147483648"),
    "id: settings": (tokenizer_with_id("decoder"), "tokenizer_config.json gives a token the number 2147483648"),
    "id: file": (tokenizer_with_id("file"), "added_tokens.json gives a token the number 2147483648"),
    **{
        f"id: around, {kind} {index}": (tokenizer_that_puts_around(index, kind), f"puts the number {index} around")
        for index, kind in ((HUGE, "template"), (2**20, "template"), (300, "bert"), (-1, "roberta"), (HUGE, "sequence"))
    },
    "tokenizer: deep": (replaced("tokenizer.json", b"[" * 10**6), "tokenizer.json cannot be read as JSON"),
    "link: tokenizer": (linked("tokenizer.json", "tokenizer.json"), "tokenizer.json is a link out of the folder"),
    "link: template": (linked("chat_template.jinja", "config.json"), "chat_template.jinja is a link out of the folder"),
    "link: a folder": (
        linked_folder("additional_chat_templates"),
        "additional_chat_templates/secret.jinja is a link out of the folder",
    ),
    "link: by way of one": (linked_folder("additional_chat_templates", "below"), "secret.jinja is a link out of"),
    "link: index": (linked("model.safetensors.index.json", "config.json"), "index.json is a link out of the folder"),
}  # fmt: skip
"""What is done to a folder, and what is said of it before any stage is carried out."""


def only_line(errors: str) -> str:
    """The one line in which a command says why it ends, among those of its progress."""
    lines = [line for line in errors.splitlines() if line.startswith("descent: ")]
    assert len(lines) == 1, errors
    return lines[0]


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_any_work(evil: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    spoil, told = REFUSED[name]
    spoil(evil)
    with watching(Path("outside")) as opened:
        code = descent("run", "tiny.yaml", "--until", "model", *EVIL)
        streams = capfd.readouterr()
        assert_costs_at_most(
            4, lambda: cpu_of(lambda: descent("run", "tiny.yaml", "--until", "model", *EVIL)), importing
        )
    assert code == 78, streams.err
    line = only_line(streams.err)
    assert streams.err.endswith(f"{line}\n")
    assert re.search(told, line), line
    assert "started" not in streams.err
    assert opened == []
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_verbs_that_run_nothing_refuse_it_as_well(evil: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    """`plan` reads no tokenizer: nothing is made from one."""
    spoil, told = REFUSED[name]
    spoil(evil)
    for verb in ("estimate", "plan"):
        with watching(Path("outside")) as opened:
            code = descent(verb, "tiny.yaml", *EVIL)
        errors = capfd.readouterr().err
        if verb == "plan" and name.startswith(("id: ", "tokenizer: ")):
            assert (code, "descent: " in errors) == (0, False), errors
        else:
            line = only_line(errors)
            assert code == 78
            assert re.search(told, line), line
        assert opened == []


def spoiled_weight(value: float, name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights[name].view(-1)[7] = value
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return spoil


def with_a_table(folder: Path) -> None:
    """A table of positions that a side of some tensor allows, but no weights for it."""
    config = AutoConfig.for_model("gpt2", n_embd=16, n_layer=2, n_head=2, n_positions=10**7, vocab_size=300)
    config.save_pretrained(folder)
    save_file({"wte.weight": torch.zeros(300, 16), "x": torch.zeros(10**7, 0)}, folder / "model.safetensors")


def with_pattern(pattern: str) -> Callable[[Path], None]:
    """A tokenizer that splits texts by a regular expression."""

    def spoil(folder: Path) -> None:
        values = json.loads((folder / "tokenizer.json").read_text())
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        values["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, values["pre_tokenizer"]]}
        (folder / "tokenizer.json").write_text(json.dumps(values))

    return spoil


def normalizer_that_grows(letter: str) -> Callable[[Path], None]:
    """Nine steps that each put ten letters for one: a text of a few letters takes gigabytes."""
    step = {"type": "Replace", "pattern": {"String": letter}, "content": 10 * letter}
    within = {"type": "Sequence", "normalizers": 5 * [step]}
    return lambda folder: change(
        folder / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [*4 * [step], within]}
    )


LATER: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN": (spoiled_weight(float("nan"), "model.layers.1.mlp.up_proj.weight"), "not finite, such as model.layers.1"),
    "infinite": (spoiled_weight(float("-inf"), "lm_head.weight"), "not finite, such as lm_head.weight"),
    "layers without weights": (config_that_says(num_hidden_layers=900), r"a model of more than 10,\d\d\d parts"),
    "table": (with_a_table, r"describes a model of 160,016,192 numbers, but the .* have 4,800"),
    "code of a model": (
        brings_code("config.json", {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}, model_type="evil"),
        "model.pretrained|tokenizer.pretrained",
    ),
    "code of a tokenizer": (
        brings_code("tokenizer_config.json", {"AutoTokenizer": [None, "evil.C"]}, tokenizer_class="EvilTokenizer"),
        "tokenizer.pretrained",
    ),
    "no length": (settings_that_say(model_max_length="x"), "model_max_length 'x' is no number of tokens"),
    "a length below 1": (settings_that_say(model_max_length=-1), "model_max_length -1 is no number of tokens"),
    "no template": (settings_that_say(chat_template={"a": 1}), "transformers cannot save it again"),
    "growing": (normalizer_that_grows("e"), "its normalizer makes texts more than 1,000 times as long"),
    "growing spaces": (normalizer_that_grows(" "), "its normalizer makes texts more than 1,000 times as long"),
    "backtracking": (with_pattern(r"(\w+\s?)+[#%]"), "tokenizer: a regular expression in it takes far too long"),
}  # fmt: skip
"""What only the library tells, or the numbers themselves: refused by the stage that opens the folder."""


@pytest.mark.parametrize("name", LATER)
def test_it_is_refused_by_the_stage_that_opens_it(evil: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    spoil, told = LATER[name]
    spoil(evil)
    with watching(Path("outside")) as opened:
        code = descent("run", "tiny.yaml", "--until", "model", *EVIL)
    errors = capfd.readouterr().err
    assert code == 78, errors
    line = only_line(errors)
    assert re.search(told, line), line
    assert "Traceback" not in errors
    assert "panicked" not in errors
    assert opened == []
    assert not Path("pwned").exists()


def with_an_adapter(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(Path("outside").absolute())}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))


def with_paths_in_the_tokenizer(folder: Path) -> None:
    files = {
        f"{name}_file": outside("tokenizer.json") for name in ("tokenizer", "vocab", "merges", "special_tokens_map")
    }
    change(
        folder / "tokenizer_config.json",
        **files,
        vocab=outside("tokenizer.json"),
        init_inputs=[outside("tokenizer.json")],
    )


def with_other_versions(folder: Path) -> None:
    """Files that transformers would take instead, and that are in no identity."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {}
    (folder / "tokenizer.5.0.0.json").write_text(json.dumps(tokenizer))
    change(folder / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.5.0.0.json"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.5.0.0.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def with_settings_of_no_use(folder: Path) -> None:
    """As of a mixture without plain layers, or of a model for images that a text model was taken from."""
    further = {"hidden_size": 1152, "num_hidden_layers": 27, "depth": 40}
    change(folder / "config.json", num_experts=128, n_inner=6144, vision_config=further)


def with_code_that_nobody_asked_for(folder: Path) -> None:
    brings_code("config.json", {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})(folder)
    brings_code("tokenizer_config.json", {"AutoTokenizer": [None, "people/other--evil.C"]})(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        with_an_adapter,
        with_paths_in_the_tokenizer,
        with_other_versions,
        with_settings_of_no_use,
        with_code_that_nobody_asked_for,
    ],
)
def test_what_is_not_asked_for_has_no_effect(evil: Path, base: Path, spoil: Callable[[Path], None]) -> None:
    spoil(evil)
    with watching(Path("outside")) as opened:
        code = descent("run", "tiny.yaml", "--until", "model", *EVIL)
    assert (code, opened) == (0, [])
    assert not Path("pwned").exists()
    (model,) = [path for path in Path("workspace/artifacts/model").glob("*/model") if is_of(path, base)]
    assert not list(model.glob("*.py"))
    for path in Path("workspace/artifacts/tokenizer").glob("*/*.json"), model.glob("*.json"):
        for file in path:
            assert "auto_map" not in file.read_text()
            assert "outside" not in file.read_text()


def is_of(model: Path, base: Path) -> bool:
    one, other = load_file(model / "model.safetensors"), load_file(base / "model.safetensors")
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weights_may_be_links_and_the_hubs_cache_is_made_of_them(evil: Path, base: Path) -> None:
    (evil / "model.safetensors").unlink()
    (evil / "model.safetensors").symlink_to(Path("outside/model.safetensors").absolute())
    assert descent("run", "tiny.yaml", "--until", "model", *EVIL) == 0
    shutil.rmtree(evil)
    snapshot = Path("models--people--evil/snapshots/0123")
    snapshot.mkdir(parents=True)
    shutil.copytree(base, snapshot.parents[1] / "blobs")
    for path in base.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs", path.name))
    evil.symlink_to(snapshot)
    assert descent("run", "tiny.yaml", "--until", "model", *EVIL) == 0


def test_a_vocabulary_that_is_no_json_counts(tmp_path: Path) -> None:
    """A token that somebody added to a large vocabulary is beyond no measure; one of 2^31 is."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[UNK]", "[PAD]", *(f"w{index}" for index in range(70_000))]))
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    change(settings, added_tokens_decoder={"70002": {"content": "<new>", "special": True}})
    assert AutoTokenizer.from_pretrained(tmp_path)("<new>", add_special_tokens=False).input_ids == [70_002]
    for vocabulary in ("vocab.txt", "spiece.model"):
        (tmp_path / "vocab.txt").rename(tmp_path / vocabulary)
        files = {path.name: path for path in tmp_path.iterdir()}
        change(settings, added_tokens_decoder={"70002": {"content": "<new>"}})
        check_tokenizer_folder(files, "here")
        change(settings, added_tokens_decoder={str(HUGE): {"content": "<new>"}})
        with pytest.raises(ConfigError, match="gives a token the number 2147483648"):
            check_tokenizer_folder(files, "here")
        (tmp_path / vocabulary).rename(tmp_path / "vocab.txt")
