from __future__ import annotations

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from pydantic import ValidationError
from training.tiny import GPT2, LLAMA, make_tokenizer
from transformers.training_args import OptimizerNames

from pipeline.distributed.collectives import Collectives
from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import ConfigError
from pipeline.known_names import told
from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.model_config import ModelConfig
from pipeline.telemetry.input_rows import InputRows
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.checkpointing.training_state_dict import restore_state, take_snapshot
from pipeline.training.optimization.optimizers import FAMILIES, family_of
from pipeline.training.optimization.optimizers.bitsandbytes_optimizers import EightBit, class_and_bits
from pipeline.training.optimization.optimizers.torch_class import NOT_STEPWISE
from pipeline.training.optimization.parameter_groups import (
    build_optimizer,
    parameter_groups,
    set_learning_rate,
    trainable,
)
from pipeline.training.optimization.weight_average import WeightAverage
from pipeline.training.recording.running_sums import RunningSums
from pipeline.training.train_config import TrainConfig

CPU = torch.device("cpu")
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="the extra is not installed")
BITSANDBYTES = [pytest.param(name, marks=needs_bitsandbytes) for name in EightBit.names]
OF_TORCH = [name for family in FAMILIES if not isinstance(family, EightBit) for name in family.names]
OF_TORCH += sorted({*told("torch.optim")} - NOT_STEPWISE.keys())
DECOUPLED = ("adamw_torch_fused", "adamw_torch", "AdamW", "adafactor", "Adafactor", "muon", "Muon")
EVERY = [*OF_TORCH, "torch.optim.NAdam", *BITSANDBYTES]


def section_of(optim: str, **changes: object) -> TrainConfig:
    decay = 0.0 if optim == "Rprop" else 0.1
    return TrainConfig(**{"max_steps": 9, "optim": optim, "learning_rate": 0.01, "weight_decay": decay, **changes})


class Small(torch.nn.Module):
    """A bigram model; its weights have more entries than the 4,096 from which bitsandbytes keeps 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.embed = torch.nn.Embedding(64, 80)
        self.hidden = torch.nn.Linear(80, 80)
        self.norm = torch.nn.LayerNorm(80)
        self.head = torch.nn.Linear(80, 64, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)

    def loss(self, seed: int) -> torch.Tensor:
        ids = torch.randint(0, 64, (32,), generator=torch.Generator().manual_seed(seed)).to(self.head.weight.device)
        logits = self.head(self.norm(self.embed(ids) + self.hidden(self.embed(ids))))
        return torch.nn.functional.cross_entropy(logits, (5 * ids + 1) % 64)


def advance(model: Small, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        model.loss(step).backward()
        set_learning_rate(optimizer, 0.01 / (1 + step))
        optimizer.step()
        optimizer.zero_grad()


def start(section: TrainConfig) -> tuple[Small, SimpleNamespace]:
    model, accelerator = Small(), Accelerator(cpu=True)
    optimizer = accelerator.prepare(build_optimizer(section, model, CPU)).optimizer
    return model, SimpleNamespace(
        unwrapped_model=model,
        unwrapped_optimizer=optimizer,
        ema=WeightAverage(model, 0.9),
        loss_scaler=None,
        counters=Counters(),
        running_sums=RunningSums(section, CPU),
        numerics={},
        processes=Collectives(ParallelDims(), CPU),
        input_rows=InputRows(model, CPU),
        seed=1,
    )


@pytest.mark.parametrize("optim", EVERY)
def test_every_optimizer_learns_and_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path, optim):
    section = section_of(optim)
    model, state = start(section)
    before = sum(model.loss(step).detach() for step in range(6))
    advance(model, state.unwrapped_optimizer, range(3))
    state.ema.update(3)
    take_snapshot(state, {"records": {}}).write(tmp_path)
    advance(model, state.unwrapped_optimizer, range(3, 6))
    assert sum(model.loss(step).detach() for step in range(6)) < before

    again, restored = start(section)
    restore_state(tmp_path, restored)
    assert all(torch.equal(restored.ema.tensors[name], tensor) for name, tensor in state.ema.tensors.items())
    advance(again, restored.unwrapped_optimizer, range(3, 6))
    for name, parameter in trainable(model):
        assert torch.equal(parameter, again.get_parameter(name))
        found = restored.unwrapped_optimizer.state[again.get_parameter(name)]
        expected = state.unwrapped_optimizer.state[parameter]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert type(found[key]) is type(value)
            if isinstance(value, torch.Tensor):
                assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
                assert torch.equal(found[key], value)
            else:
                assert found[key] == value


@pytest.mark.parametrize("optim", OF_TORCH)
def test_a_step_with_decay_is_one_without_and_what_its_family_says(optim):
    """Where decay enters a gradient that is averaged or scaled, nothing is said. torch's SGD has no momentum by
    default."""
    moved, decays = [], {}
    for decay in (0.0, 0.0 if optim == "Rprop" else 0.1):
        torch.manual_seed(0)
        section, model = section_of(optim, weight_decay=decay), Small()
        optimizer = build_optimizer(section, model, CPU)
        advance(model, optimizer, range(1))
        moved.append({name: parameter.detach().double() for name, parameter in trainable(model)})
        decays = {
            id(parameter): family_of(optim).decoupled_decay(optim, group)
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
    start = Small()
    for name, parameter in trainable(model):
        decay = decays[id(parameter)]
        if decay is None:
            assert optim not in DECOUPLED
        elif decay:
            assert name in ("hidden.weight", "head.weight")
            expected = moved[0][name] - decay * start.get_parameter(name).double()
            assert (moved[1][name] - expected).abs().max() < 1e-7  # a rounding or two of weights up to 0.5
            assert decay == pytest.approx(0.01 * 0.1)
    assert any(decays.values()) == (optim in (*DECOUPLED, "SGD"))


@pytest.mark.parametrize("optim", OF_TORCH)
def test_no_step_waits_for_the_device(optim):
    """On the meta device there is nothing that could be copied to the host. Fused kernels, which do not exist there,
    stand aside; ASGD keeps its numbers on the device where CUDA has a graph for it."""
    if optim in ("ASGD", "Adafactor"):
        pytest.skip("ASGD is capturable on CUDA only; torch's Adafactor waits, adafactor does not")
    fused = optim in ("adamw_torch_fused", "adam", "sgd")
    section = section_of(optim, optim_args={"fused": False} if fused else {})
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=optim not in ("muon", "Muon")) for _ in range(2))).to(
        "meta"
    )
    optimizer = build_optimizer(section, model, torch.device("meta"))
    for _ in range(2):
        model(torch.ones(1, 8, device="meta")).sum().backward()
        set_learning_rate(optimizer, 0.1)
        optimizer.step()


@pytest.mark.parametrize(("architecture", "config"), [("llama", LLAMA), ("gpt2", GPT2)])
def test_norms_biases_and_embeddings_are_not_decayed(tmp_path, architecture, config):
    make_tokenizer(tmp_path)
    model = build_model(ModelConfig(architecture=architecture, config=config), load_hf_tokenizer(tmp_path), seed=0)
    groups = parameter_groups(TrainConfig(max_steps=1, weight_decay=0.3), model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_decay = {group["weight_decay"]: sorted(names[id(each)] for each in group["params"]) for group in groups}
    marks = ("norm", "ln_", "bias", "embed", "wte", "wpe")
    plain = sorted(name for name in names.values() if any(mark in name for mark in marks))
    assert by_decay == {0.3: sorted(set(names.values()) - set(plain)), 0.0: plain}


def test_groups_by_expression_have_their_own_rate_and_decay():
    model = Small()
    rules = [
        {"pattern": "embed", "learning_rate": 0.5, "weight_decay": 0.2},
        {"pattern": "^norm", "weight_decay": 0.3},
        {"pattern": "e", "learning_rate": 0.25},
    ]
    section = section_of("sgd", learning_rate=1.0, weight_decay=0.1, parameter_groups=rules)
    optimizer = build_optimizer(section, model, CPU)
    set_learning_rate(optimizer, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(each)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for each in group["params"]
    }
    assert found == {
        "embed.weight": (0.05, 0.2),
        "norm.weight": (0.1, 0.3),
        "norm.bias": (0.1, 0.3),
        "hidden.weight": (0.025, 0.1),
        "hidden.bias": (0.025, 0.0),
        "head.weight": (0.025, 0.1),
    }


def test_a_group_without_a_parameter_is_refused():
    section = section_of(
        "sgd", parameter_groups=[{"pattern": "embed", "weight_decay": 0}, {"pattern": "embed.w", "weight_decay": 1}]
    )
    with pytest.raises(
        ConfigError, match=r"train.parameter_groups.1.pattern: 'embed.w' is in the name of no trainable"
    ):
        build_optimizer(section, Small(), CPU)


def test_muon_moves_hidden_matrices_and_adamw_the_rest(tmp_path):
    make_tokenizer(tmp_path)
    model = build_model(ModelConfig(config=LLAMA), load_hf_tokenizer(tmp_path), seed=0)
    optimizer = build_optimizer(section_of("muon", optim_args={"momentum": 0.8}), model, CPU)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon = {names[id(each)] for group in optimizer.param_groups if group["use_muon"] for each in group["params"]}
    assert muon == {name for name in names.values() if ".layers." in name and "norm" not in name}
    [settings] = [group for group in optimizer.param_groups if group["use_muon"]]
    assert (settings["momentum"], settings["adjust_lr_fn"]) == (0.8, "match_rms_adamw")


@pytest.mark.parametrize("optim", ["muon", "adamw_torch_fused"])
def test_updates_of_muon_are_as_large_as_those_of_adamw(optim):
    """So that one learning rate fits both: 0.2 of it an entry (Liu et al. 2025, section 2.2)."""
    model = Small()
    before = model.hidden.weight.detach().clone()
    optimizer = build_optimizer(section_of(optim, weight_decay=0.0), model, CPU)
    model.hidden.weight.grad = torch.randn(80, 80, generator=torch.Generator().manual_seed(1))
    set_learning_rate(optimizer, 0.01)
    optimizer.step()
    size = float((model.hidden.weight.detach() - before).square().mean().sqrt())
    # The first step of AdamW is the sign of the gradient, five times Muon's.
    assert size == pytest.approx(0.002 if optim == "muon" else 0.01, rel=0.2)


@pytest.mark.parametrize(
    ("optim", "settings", "expected"),
    [
        ("sgd", {"momentum": 0.7, "nesterov": True}, {"momentum": 0.7, "nesterov": True, "fused": True}),
        ("adam", {"adam_beta1": 0.8, "adam_epsilon": 1e-6}, {"betas": (0.8, 0.95), "eps": 1e-6, "fused": True}),
        ("adamw_torch", {"adam_beta2": 0.99}, {"betas": (0.9, 0.99), "fused": False}),
        ("adafactor", {"optim_args": {"clip_threshold": 2.0}}, {"clip_threshold": 2.0, "scale_parameter": False}),
        ("torch.optim.RMSprop", {"optim_args": {"alpha": 0.9, "centered": True}}, {"alpha": 0.9, "centered": True}),
    ],
)
def test_settings_reach_the_optimizer(optim, settings, expected):
    optimizer = build_optimizer(section_of(optim, **settings), Small(), CPU)
    for group in optimizer.param_groups:
        assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("optim", "settings", "message"),
    [
        ("sgd", {"optim_args": {"betas": [0.9, 0.9]}}, "train.optim_args: sgd refuses its arguments: .*betas"),
        ("NAdam", {"optim_args": {"eps": -1.0}}, "train.optim_args: NAdam refuses its arguments: .*epsilon"),
        ("Rprop", {"weight_decay": 0.1}, "train.weight_decay: Rprop has none; set it to 0"),
    ],
)
def test_what_a_class_does_not_take_is_refused(optim, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(section_of(optim, **settings), Small(), CPU)


def test_every_name_that_transformers_has_for_bitsandbytes_is_known():
    marks = ("_8bit", "_32bit", "ademamix", "rmsprop_bnb")
    others = ("adamw_torch_8bit", "galore")  # of torchao and galore_torch
    theirs = {name.value for name in OptimizerNames if any(mark in name for mark in marks)}
    theirs = {name for name in theirs if not name.startswith(others)}
    assert len(theirs) == 15
    assert theirs <= set(EightBit.names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw_bnb_8bit", ("AdamW", 8)),
        ("paged_adamw_32bit", ("AdamW", 32)),
        ("paged_lion_8bit", ("Lion", 8)),
        ("ademamix", ("AdEMAMix", 32)),
        ("rmsprop_bnb", ("RMSprop", 32)),
        ("rmsprop_bnb_32bit", ("RMSprop", 32)),
    ],
)
def test_names_of_bitsandbytes_mean_what_they_mean_in_transformers(name, expected):
    assert class_and_bits(name) == expected


def test_what_is_said_of_optim_names_every_family():
    text = TrainConfig.model_json_schema()["properties"]["optim"]["description"]
    assert all(name in text for name in ("adamw_torch", "`sgd`", "`adafactor`", "`muon`", "NAdam", "my_optimizers.py"))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"adamw_8bit needs bitsandbytes, .* 'descent-pipeline\[bitsandbytes\]'"):
        build_optimizer(section_of("adamw_8bit"), Small(), CPU)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": "adamw"}, "got 'adamw'; allowed: .* torch.optim's .*NAdam, .*; did you mean adamw_torch_fused"),
        ({"optim": "Lion"}, "got 'Lion'; allowed: .*; did you mean lion_8bit"),
        ({"optim": "torch.optim.LBFGS"}, "LBFGS cannot be used: it evaluates the loss several times"),
        ({"optim": "SparseAdam"}, "SparseAdam cannot be used: it takes sparse gradients only"),
        ({"optim_args": {"lr": 1.0}}, "remove lr: it is train.learning_rate"),
        ({"nesterov": True}, "nesterov is for sgd"),
        ({"parameter_groups": [{"pattern": "a"}]}, "give learning_rate, weight_decay or both"),
        ({"parameter_groups": [{"pattern": "(", "weight_decay": 0}]}, "'\\(' is not a regular expression"),
        ({"freeze": ["["]}, "'\\[' is not a regular expression"),
        ({"eval_ema": True}, "eval_ema needs ema_decay"),
        ({"export": "ema"}, "export: ema needs ema_decay"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(max_steps=1, **values)
