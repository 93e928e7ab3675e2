"""Weights are a pure function of the seed and the parameter's name, however and wherever they are made."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
from pathlib import Path

import pytest
import torch
from harness import PATIENCE_SECONDS
from modeling.checkpoints import SHAPE
from pydantic import ValidationError
from training.tiny import GPT2, LLAMA, make_tokenizer
from transformers.models.llama.modeling_llama import LlamaPreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import ConfigError
from pipeline.modeling import seeded_weights
from pipeline.modeling.build import build_config, build_model, load_hf_tokenizer, load_model, save_model
from pipeline.modeling.default_initialization import DefaultInitialization
from pipeline.modeling.heads import CAUSAL_LM
from pipeline.modeling.initialization import fans
from pipeline.modeling.materialize import RECIPE, empty_model, fill, is_recipe, materialize, open_empty, save_recipe
from pipeline.modeling.model_config import InitializationConfig, ModelConfig
from pipeline.modeling.sharding import shard

WIDE = {**LLAMA, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
RULES = {
    "default": {},
    "normal": {"type": "normal", "std": 0.05, "depth_scaled_residuals": True, "embedding_std": 1e-4},
    "truncated": {"type": "truncated_normal"},
    "xavier": {"type": "xavier", "distribution": "uniform"},
    "kaiming": {"type": "kaiming"},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return load_hf_tokenizer(folder)


def build(tokenizer, rule="default", architecture="llama", seed=0, config=WIDE):
    section = ModelConfig(architecture=architecture, config=config, initialization=RULES[rule])
    return {name: weight.detach() for name, weight in build_model(section, tokenizer, seed).named_parameters()}


@pytest.mark.parametrize("rule", RULES)
def test_a_weight_depends_on_its_seed_and_name_alone(tokenizer, rule):
    deep, shallow = build(tokenizer, rule), build(tokenizer, rule, config={**WIDE, "num_hidden_layers": 2})
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(deep[name], shallow[name])
    assert not torch.equal(deep[name], deep[name.replace("1", "2")])
    assert not torch.equal(deep[name], build(tokenizer, rule, seed=1)[name])


def test_defaults_are_distributed_as_the_architecture_has_them(tokenizer):
    """Against transformers' own initialization: constants exactly, spreads within five standard errors."""
    for architecture, config in (("gpt2", {**GPT2, "n_embd": 64}), ("llama", WIDE)):
        ours = build(tokenizer, architecture=architecture, config=config)
        section = ModelConfig(architecture=architecture, config=config)
        theirs = CAUSAL_LM.auto_class.from_config(build_config(section, tokenizer))
        for name, parameter in theirs.named_parameters():
            expected = parameter.detach()
            if expected.std() == 0:
                assert torch.equal(ours[name], expected), name
            else:
                error = 5 * expected.std() / math.sqrt(expected.numel())
                torch.testing.assert_close(ours[name].std(), expected.std(), atol=float(error), rtol=0, msg=name)
    assert not ours["model.embed_tokens.weight"][0].any(), "the padding token has no embedding"


def test_a_rule_of_the_architecture_that_reaches_into_a_module_below(tokenizer):
    weights = build(tokenizer, architecture="gpt2", config={**GPT2, "n_embd": 64})
    ratio = weights["transformer.h.0.mlp.c_fc.weight"].std() / weights["transformer.h.0.mlp.c_proj.weight"].std()
    assert ratio == pytest.approx(math.sqrt(4), rel=0.05)


@pytest.mark.parametrize(
    ("rule", "name", "std"),
    [
        ("normal", "model.layers.0.mlp.up_proj.weight", 0.05),
        ("normal", "model.layers.0.mlp.down_proj.weight", 0.05 / math.sqrt(6)),
        ("normal", "model.layers.0.self_attn.o_proj.weight", 0.05 / math.sqrt(6)),
        ("normal", "model.embed_tokens.weight", 1e-4 * math.sqrt(63 / 64)),
        ("normal", "lm_head.weight", 0.05),
        ("truncated", "model.layers.0.mlp.up_proj.weight", 0.02 * 0.9866),
        ("xavier", "model.layers.0.mlp.up_proj.weight", math.sqrt(2 / 192)),
        ("kaiming", "model.layers.0.mlp.down_proj.weight", math.sqrt(2 / 128)),
        ("kaiming", "model.embed_tokens.weight", 0.02 * math.sqrt(63 / 64)),
    ],
)
def test_spread_of_each_rule(tokenizer, rule, name, std):
    weights = build(tokenizer, rule)
    # Five standard errors of the spread of n normal numbers, std / sqrt(2 n), for some 4,000 to 8,000 of them.
    assert float(weights[name].std()) == pytest.approx(std, rel=5 / math.sqrt(2 * weights[name].numel()))
    assert torch.equal(weights["model.norm.weight"], torch.ones(64))
    if rule == "truncated":
        assert weights[name].abs().max() <= 3 * 0.02
    if rule == "xavier":
        assert weights[name].abs().max() <= math.sqrt(3) * std


def test_fans_of_layouts():
    assert fans(torch.nn.Linear(3, 5), (5, 3)) == (3, 5)
    assert fans(Conv1D(5, 3), (3, 5)) == (3, 5)
    assert fans(torch.nn.Module(), (8, 5, 3)) == (3, 5)
    assert fans(torch.nn.Conv1d(4, 4, 3, groups=4), (4, 1, 3)) == (3, 3)


def test_any_part_is_cut_from_the_same_numbers(monkeypatch):
    monkeypatch.setattr(seeded_weights, "CHUNK", 100)
    whole = seeded_weights.draw(1, "w", (30, 20), (slice(0, 30), slice(0, 20)), seeded_weights.normal(1.0))
    for region in ((slice(0, 1), slice(0, 20)), (slice(7, 29), slice(3, 4)), (slice(29, 30), slice(0, 20))):
        assert torch.equal(seeded_weights.draw(1, "w", (30, 20), region, seeded_weights.normal(1.0)), whole[region])
    assert whole.std() == pytest.approx(1, abs=0.15)
    assert len(whole.unique()) == 600


def test_residuals_that_are_not_known_are_an_error(tokenizer, monkeypatch):
    monkeypatch.setattr("pipeline.modeling.initialization.INTO_RESIDUALS", re.compile("nothing"))
    with pytest.raises(ConfigError, match=r"depth_scaled_residuals: which matrices of llama .* set it to false"):
        build(tokenizer, "normal")


def test_a_parameter_without_a_rule_has_its_constructors_value(tokenizer):
    """A_log and D of mamba are set where the module is made."""
    config = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    section = ModelConfig(architecture="mamba", config=config, initialization=RULES["normal"])
    model = build_model(section, tokenizer, 0)
    mixer = model.backbone.layers[0].mixer
    torch.testing.assert_close(mixer.A_log[0], torch.log(torch.arange(1.0, 5)))
    assert torch.equal(mixer.D, torch.ones_like(mixer.D))


def test_a_parameter_that_is_made_from_a_neighbour(tokenizer):
    """RWKV's time mixes are powers of a tensor on the device of another of its parameters."""
    section = ModelConfig(architecture="rwkv", config={"hidden_size": 8, "num_hidden_layers": 2})
    one, two = (dict(build_model(section, tokenizer, 0).named_parameters()) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    expected = (torch.arange(8) / 8).view(1, 1, 8)
    torch.testing.assert_close(one["rwkv.blocks.0.feed_forward.time_mix_key"].detach(), expected)


def test_a_call_that_needs_values_is_left_to_the_constructor(tokenizer, monkeypatch):
    config = build_config(ModelConfig(config=LLAMA), tokenizer)

    def needs_values(self, module):
        if isinstance(module, torch.nn.Linear):
            module.weight.fill_(float(torch.ones(1, device=module.weight.device)))

    monkeypatch.setattr(LlamaPreTrainedModel, "_init_weights", needs_values)
    default = DefaultInitialization(config, CAUSAL_LM)
    assert default.value("lm_head.weight", 0).eq(1).all()
    assert torch.equal(default.value("model.norm.weight", 0), torch.ones(16))


def test_above_the_limit_a_model_is_saved_as_a_recipe(tokenizer, tmp_path):
    section = ModelConfig(config=LLAMA, initialization=RULES["normal"])
    whole = build_model(section, tokenizer, 5)
    empty = build_model(section.model_copy(update={"materialize_limit": 100}), tokenizer, 5)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    save_model(empty, tmp_path, tmp_path)
    save_recipe(tmp_path, section.initialization, 5)
    assert is_recipe(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    ids = torch.tensor([[3, 4, 5]])
    for made in (load_model(tmp_path), materialize(tmp_path, open_empty(tmp_path))):
        assert torch.equal(made(ids).logits, whole(ids).logits)


def test_memory_and_ties_of_a_filled_model(tokenizer):
    config = build_config(ModelConfig(config={**LLAMA, "tie_word_embeddings": True}), tokenizer)
    model = fill(empty_model(config), InitializationConfig(), 0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.requires_grad


@pytest.mark.parametrize(
    "values", [{"type": "ones"}, {"std": 0}, {"embedding_std": -1}, {"distribution": "cauchy"}], ids=str
)
def test_refused_values(values):
    with pytest.raises(ValidationError):
        InitializationConfig(**values)
    with pytest.raises(ValidationError, match="a pretrained model has its weights"):
        ModelConfig(pretrained="x", initialization={"type": "xavier"})


server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["pipeline.training.loop", "pipeline.modeling.build"])


def _shard_and_compare(rank: int, folder: Path, names: list[str]) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ["FSDP_VERSION"] = "2"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    ids = torch.arange(3, 11).unsqueeze(0)
    for name in names:
        whole, sharded = load_model(folder / name), open_empty(folder / name)
        next(sharded.parameters())._no_weight_decay = True  # as some architectures mark theirs
        shard(sharded, ParallelDims(shard=2, rank=rank).mesh("cpu"), None, is_trained=False)
        assert all(parameter.device.type == "meta" for parameter in sharded.parameters())
        materialize(folder / name, sharded)
        assert next(sharded.parameters())._no_weight_decay
        full = dict(whole.named_parameters())
        assert full.keys() == dict(sharded.named_parameters()).keys()
        for key, parameter in sharded.named_parameters():
            assert parameter.to_local().numel() < parameter.numel()
            assert torch.equal(parameter.full_tensor(), full[key]), (name, key)
        assert torch.equal(sharded(ids).logits, whole(ids).logits)
    dist.destroy_process_group()


def test_two_processes_make_the_weights_of_one(tokenizer, tmp_path):
    """Each makes its shards alone: FSDP2 over gloo, from the meta device; rows that do not divide evenly as well."""
    odd = {**SHAPE, "intermediate_size": 37}
    cases = {
        "default": ("llama", {**odd, "tie_word_embeddings": True}),
        "normal": ("llama", odd),
        "kaiming": ("mixtral", {**SHAPE, "num_local_experts": 3, "num_experts_per_tok": 2}),
    }
    for rule, (architecture, config) in cases.items():
        section = InitializationConfig(**RULES[rule])
        model = empty_model(build_config(ModelConfig(architecture=architecture, config=config), tokenizer))
        (tmp_path / rule).mkdir()
        save_model(model, tmp_path, tmp_path / rule)
        save_recipe(tmp_path / rule, section, 9)
        assert (tmp_path / rule / RECIPE).is_file()
    children = [server.Process(target=_shard_and_compare, args=(rank, tmp_path, list(cases))) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE_SECONDS)
    assert [child.exitcode for child in children] == [0, 0]
