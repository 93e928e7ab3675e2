"""What the probe measures is what loops over tokens, heads and keys give; and it changes nothing."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from modeling.checkpoints import SHAPE
from telemetry.test_rules import FACTS
from torch import nn
from training.tiny import GPT2, LLAMA, VOCAB_SIZE, make_inputs, make_tokenizer, metrics, run_train
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import AttentionInterface

from pipeline.distributed.collectives import ALONE
from pipeline.evaluation.losses import cross_entropy_sums
from pipeline.modeling.adapters import add_adapter
from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.model_config import AdapterConfig, ModelConfig
from pipeline.modeling.module_hooks import first_tensor, recomputing
from pipeline.modeling.stations import stations_of
from pipeline.progress import Progress
from pipeline.telemetry import model_probe
from pipeline.telemetry.attention_scores import MOST_QUERIES, attention_sums
from pipeline.telemetry.histograms import buckets_by_size, count_by_size
from pipeline.telemetry.matrix_figures import tag_in_folder
from pipeline.telemetry.model_probe import ModelProbe, probe_rows, tokens_of
from pipeline.telemetry.panel import HealthPanel, replay
from pipeline.telemetry.transfer import to_host

ROWS, LENGTH = 3, 16
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gpt2": {**GPT2, "activation_function": "relu"},
    "mixtral": {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "grok1": {**SHAPE, "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 8, "attn_logit_softcapping": 0.5},
    "gemma2": {**LLAMA, "head_dim": 8, "sliding_window": 5, "attn_logit_softcapping": 0.5},
}


class Rows:
    """A split of fixed rows; `padded`: the second half of the last is padding."""

    block_size = LENGTH

    def __init__(self, *, padded: bool = False) -> None:
        self.ids = np.random.default_rng(0).integers(2, VOCAB_SIZE, (ROWS, LENGTH))
        self.padded = padded

    def __len__(self) -> int:
        return ROWS

    def batch(self, indices: Any) -> dict[str, Any]:
        chosen = list(indices)
        batch = {"input_ids": self.ids[chosen], "labels": np.roll(self.ids[chosen], -1, 1)}
        if self.padded:
            batch["attention_mask"] = np.ones_like(batch["input_ids"])
            batch["attention_mask"][-1, LENGTH // 2 :] = 0
            batch["labels"][-1, LENGTH // 2 - 1 :] = -100
        return batch

    def num_targets(self, indices: Any) -> int:
        return int((self.batch(indices)["labels"] != -100).sum())

    def num_tokens_in(self, indices: Any) -> int:
        return self.num_targets(indices)

    @property
    def target_tokens(self) -> int:
        return self.num_targets(range(ROWS))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return load_hf_tokenizer(folder)


def make_model(tokenizer: Any, architecture: str, **changes: Any) -> Any:
    section = ModelConfig(architecture=architecture, config={**MODELS[architecture], **changes})
    model = build_model(section, tokenizer, 0).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("q_proj", "k_proj", "c_attn")):
                parameter *= 20  # attention that has learned to look somewhere
    return model


def loss_sums(output: Any, batch: Any) -> Any:
    return cross_entropy_sums(output.logits, batch["labels"], label_smoothing=0.0, z_loss_coef=0.0)


def probed(model: Any, split: Rows, size: int = ROWS, **settings: Any) -> dict[str, float]:
    probe = ModelProbe(model, split, range(ROWS), loss_sums, ALONE, torch.device("cpu"), size, **settings)
    return probe.tags(to_host([probe.measure()])[0])


@pytest.mark.parametrize("architecture", MODELS)
def test_figures_are_those_of_loops(tokenizer, architecture):
    model = make_model(tokenizer, architecture)
    model.set_attn_implementation("eager")
    split = Rows()
    found = probed(model, split, size=2)

    kept: dict[str, tuple[Any, Any]] = {}
    handles = [
        module.register_forward_hook(lambda module, given, output, path=path: kept.update({path: output}))
        for path, module in model.named_modules()
    ]
    batch = {name: torch.from_numpy(values) for name, values in split.batch(range(ROWS)).items()}
    model.eval()
    output = model(input_ids=batch["input_ids"], use_cache=False, output_attentions=True)
    for handle in handles:
        handle.remove()
    loss = nn.functional.cross_entropy(output.logits.flatten(0, 1), batch["labels"].flatten())
    assert found["probe/loss"] == pytest.approx(loss.item(), rel=1e-5)

    first, second = ("h.0", "h.1") if architecture == "gpt2" else ("layers.0", "layers.1")
    blocks = [kept[f"{model.base_model_prefix}.{name}"] for name in (first, second)]
    blocks = [one[0] if isinstance(one, tuple) else one for one in blocks]
    gradients = torch.autograd.grad(loss, blocks, retain_graph=True)
    for name, values, gradient in zip((first, second), blocks, gradients, strict=True):
        rms = values.double().square().mean().sqrt().item()
        assert found[f"probe/{name}/out_rms"] == pytest.approx(rms, rel=1e-5)
        assert found[f"probe/{name}/out_max"] == pytest.approx(values.abs().max().item() / rms, rel=1e-5)
        assert found[f"probe/{name}/out_grad_norm"] == pytest.approx(gradient.double().norm().item(), rel=1e-4)
    ratios = [
        math.log(after.norm().item() / before.norm().item())
        for before, after in zip(*(one.double().flatten(0, 1) for one in blocks), strict=True)
    ]
    assert found[f"probe/{second}/growth"] == pytest.approx(math.exp(np.mean(ratios)), rel=1e-5)

    for name, weights in zip((first, second), output.attentions, strict=True):
        by_head = [[] for _ in range(weights.shape[1])]
        for row in weights.tolist():
            for head, queries in enumerate(row):
                for query in queries:
                    seen = [weight for weight in query if weight > 0]
                    if len(seen) > 1:
                        by_head[head].append(-sum(p * math.log(p) for p in seen) / math.log(len(seen)))
        means = [float(np.mean(values)) for values in by_head]
        assert found[f"attention/{name}/entropy_mean"] == pytest.approx(np.mean(means), rel=1e-4)
        assert found[f"attention/{name}/entropy_lowest_head"] == pytest.approx(min(means), rel=1e-4)
        assert found[f"attention/{name}/entropy_mean"] < 0.999  # it looks somewhere
        router = kept.get(f"{model.base_model_prefix}.{name}.{'moe.router' if architecture == 'grok1' else 'mlp.gate'}")
        if router is not None:
            loads, entropies = [0.0] * router[0].shape[-1], []
            for logits in router[0].double().softmax(-1).tolist():
                for expert in sorted(range(len(logits)), key=lambda index: -logits[index])[:2]:
                    loads[expert] += len(logits) / 2 / (ROWS * LENGTH)
                entropies.append(-sum(p * math.log(p) for p in logits) / math.log(len(logits)))
            assert [found[f"experts/{name}/load_{index}"] for index in range(len(loads))] == pytest.approx(loads)
            assert found[f"experts/{name}/load_most"] == pytest.approx(max(loads))
            assert found[f"experts/{name}/load_least"] == pytest.approx(min(loads))
            assert found[f"experts/{name}/router_entropy"] == pytest.approx(np.mean(entropies), rel=1e-5)
    assert any(tag.startswith("experts/") for tag in found) == (architecture in ("mixtral", "grok1"))
    assert {tag for tag in found if tag.endswith("/dead_units")}


def test_padding_does_not_count(tokenizer):
    """What stands where there is no token changes no figure but those of the hidden units."""
    model = make_model(tokenizer, "mixtral")
    split, other = Rows(padded=True), Rows(padded=True)
    other.ids[-1, LENGTH // 2 :] = 5
    one, two = probed(model, split), probed(model, other)
    assert {tag: one[tag] for tag in one if "_units" not in tag} == pytest.approx(
        {tag: two[tag] for tag in two if "_units" not in tag}, rel=1e-6
    )
    assert one != pytest.approx(probed(model, Rows()), rel=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_a_padded_row_behind_a_learned_prompt_is_as_a_shorter_one(tokenizer, architecture):
    prompt = AdapterConfig(type="prompt_tuning", num_virtual_tokens=3)
    model = add_adapter(make_model(tokenizer, architecture), prompt, 0)
    padded, short = Rows(padded=True), Rows()
    whole = padded.batch([ROWS - 1])
    padded.batch = lambda rows: whole
    short.batch = lambda rows: {name: values[:, : LENGTH // 2] for name, values in whole.items()}
    found = []
    for split in (padded, short):
        probe = ModelProbe(model, split, range(1), loss_sums, ALONE, torch.device("cpu"), 1)
        figures = probe.tags(to_host([probe.measure()])[0])
        found.append({tag: one for tag, one in figures.items() if not tag.endswith(("_units", "/largest_logit"))})
    assert any(tag.startswith("attention/") for tag in found[0])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_label_of_a_row_does_not_tell_padding():
    """A wanted number may be -100."""
    ids = np.ones((2, 3), dtype=np.int64)
    assert tokens_of({"input_ids": ids, "labels": np.array([-100.0, 2.0])}) is None
    of_tokens = np.array([[5, 5, 5], [5, 5, -100]])
    assert tokens_of({"input_ids": ids, "labels": of_tokens}).tolist() == (of_tokens == 5).tolist()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_whatever_computes_attention_the_figures_are_the_same(tokenizer, architecture):
    model = make_model(tokenizer, architecture)
    found = []
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        found.append(probed(model, Rows()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(("keys", "scaling", "entropy"), [("alike", 1.0, 1.0), ("own", 100.0, 0.0), ("own", 0.0, 1.0)])
def test_even_attention_has_entropy_1_and_a_look_at_one_key_0(keys, scaling, entropy):
    length = 8
    each = torch.eye(length).expand(1, 2, length, length)
    query, key = (torch.ones(1, 2, length, 4),) * 2 if keys == "alike" else (each, each)
    sums = attention_sums(nn.Module(), query, key, None, {"scaling": scaling})
    assert (sums.entropies / sums.num_queries).tolist() == pytest.approx([entropy] * 2, abs=1e-6)
    assert sums.num_queries.tolist() == [length - 1] * 2  # the first query sees itself alone
    assert sums.largest_logit.item() == pytest.approx((4 if keys == "alike" else 1) * scaling)


def test_of_long_sequences_queries_are_drawn_evenly_and_masks_are_kept():
    torch.manual_seed(0)
    length = 2 * MOST_QUERIES + 3
    query, key = torch.randn(1, 4, length, 8), torch.randn(1, 2, length, 8)
    causal = torch.ones(length, length).tril().bool()[None, None]
    added = torch.zeros(1, 1, length, length).masked_fill(~causal, torch.finfo(torch.float32).min)
    found = [attention_sums(nn.Module(), query, key, mask, {"scaling": 0.3}) for mask in (None, causal, added)]
    probabilities = (query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.3 + added).softmax(-1)
    expected = [
        np.mean([
            -sum(p * math.log(p) for p in probabilities[0, head, at].tolist() if p > 0) / math.log(at + 1)
            for at in range(length - 1, 0, -3)
        ])
        for head in range(4)
    ]  # fmt: skip
    for sums in found:
        assert (sums.entropies / sums.num_queries).tolist() == pytest.approx(expected, rel=1e-4)
    assert attention_sums(nn.Module(), query, key, None, {"position_bias": torch.zeros(4)}) == "attention_bias"
    assert attention_sums(nn.Module(), query, key, "a block mask", {}) == "attention_mask"


def test_a_sink_is_one_more_place_to_look_at(tokenizer):
    """Against the weights of the model itself, whose rest to 1 is that of the sink."""
    shape = {**SHAPE, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 5}
    config = AutoConfig.for_model("gpt_oss", vocab_size=VOCAB_SIZE, pad_token_id=0, **shape)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.copy_(torch.linspace(-2, 3, len(layer.self_attn.sinks)))
            layer.self_attn.q_proj.weight.mul_(30)
    found = probed(model, Rows())
    ids = torch.from_numpy(Rows().ids)
    weights = model.eval()(input_ids=ids, use_cache=False, output_attentions=True).attentions
    assert not [tag for tag in found if tag.startswith("unmeasured/")]
    for index, of_layer in enumerate(weights):
        by_head = []
        for head in of_layer.double().transpose(0, 1).flatten(1, 2).tolist():
            places = [[*(weight for weight in query if weight > 0), 1 - sum(query)] for query in head]
            by_head.append(np.mean([-sum(p * math.log(p) for p in one) / math.log(len(one)) for one in places]))
        assert found[f"attention/layers.{index}/entropy_mean"] == pytest.approx(np.mean(by_head), rel=1e-3)
        assert found[f"attention/layers.{index}/entropy_lowest_head"] == pytest.approx(min(by_head), rel=1e-3)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("bloom", {"hidden_size": 16, "n_layer": 2, "n_head": 2}), ("mpt", {"d_model": 16, "n_layers": 2, "n_heads": 2})],
)
def test_attention_that_cannot_be_followed_has_its_reason(architecture, shape):
    config = AutoConfig.for_model(architecture, vocab_size=VOCAB_SIZE, **shape)
    found = probed(AutoModelForCausalLM.from_config(config), Rows())
    assert found["unmeasured/attention_code"] == 2
    assert not [tag for tag in found if tag.startswith("attention/")]
    told = {one.what: one for one in replay(FACTS, [{"step": 0, **found}]).verdicts() if one.kind == "attention"}
    assert told.keys() == {"attention_code"}
    assert told["attention_code"].verdict == "unknown"
    assert "not measured in 2 layers: their code does not go through" in told["attention_code"].evidence.words


def test_dead_and_saturated_units_are_counted(tokenizer):
    model = make_model(tokenizer, "gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[:16] = -1e3
    found = probed(model, Rows())
    assert found["probe/h.1.mlp.act/dead_units"] == 16 / 64
    assert found["probe/h.0.mlp.act/dead_units"] < 0.1
    model = make_model(tokenizer, "gpt2", activation_function="tanh")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[:16] = 9
        model.transformer.h[1].mlp.c_fc.bias[16:24] = -9
    found = probed(model, Rows())
    assert found["probe/h.1.mlp.act/saturated_units"] == 24 / 64
    assert found["probe/h.0.mlp.act/saturated_units"] == 0


@pytest.mark.parametrize("padded", [False, True])
def test_histograms_are_of_what_modules_give(tokenizer, padded):
    """Padding is left out, in however many passes; the figures stay."""
    model, split = make_model(tokenizer, "gpt2"), Rows(padded=padded)
    kept: dict[str, torch.Tensor] = {}
    watched = {"h.0/output": "h.0", "h.1/mlp.act": "h.1.mlp.act", "h.0/attn": "h.0.attn"}
    handles = [
        model.transformer.get_submodule(path).register_forward_hook(
            lambda module, given, output, name=name: kept.update({name: first_tensor(output)})
        )
        for name, path in watched.items()
    ]
    batch = {name: torch.from_numpy(values) for name, values in split.batch(range(ROWS)).items()}
    mask = batch.get("attention_mask", torch.ones(ROWS, LENGTH)).bool()
    with torch.no_grad():
        model.eval()(input_ids=batch["input_ids"], attention_mask=mask.long())
    for handle in handles:
        handle.remove()

    probe = ModelProbe(model.train(), split, range(ROWS), loss_sums, ALONE, torch.device("cpu"), 2)
    [values] = to_host([probe.measure(with_histograms=True)])
    found = {tag_in_folder(tag): buckets for tag, buckets in probe.histograms(values).items()}
    assert {f"{name}/activations" for name in (*watched, "wte/output", "lm_head/output")} < found.keys()
    for name, output in kept.items():
        expected = count_by_size([output[mask]])[0].tolist()
        moved = [abs(a[2] - b[2]) for a, b in zip(found[f"{name}/activations"], buckets_by_size(expected), strict=True)]
        assert sum(moved) <= 0.01 * output.numel()  # passes of other sizes round otherwise
        assert sum(count for _, _, count in found[f"{name}/activations"]) == output[mask].numel()
    [plain] = to_host([probe.measure()])
    assert probe.histograms(plain) == {}
    assert probe.tags(plain) == probe.tags(values[: len(plain)])


@pytest.mark.parametrize("architecture", MODELS)
def test_blocks_that_compute_again_give_the_same_figures_and_keep_less(tokenizer, architecture):
    deep = {"n_layer" if architecture == "gpt2" else "num_hidden_layers": 6}
    model = make_model(tokenizer, architecture, **deep)
    before = {name: module.__dict__.get("forward") for name, module in model.named_modules()}
    found, kept = [], []
    for recompute in (False, True):
        sizes: list[int] = []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(0 if isinstance(tensor, nn.Parameter) else tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found.append(probed(model, Rows(padded=True), 1, recompute=recompute))
        kept.append(sum(sizes))
    assert found[0].keys() == found[1].keys()
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert len([tag for tag in found[1] if tag.endswith("/out_grad_norm")]) == len(stations_of(model).outputs)
    assert kept[1] < kept[0] / 3
    assert before == {name: module.__dict__.get("forward") for name, module in model.named_modules()}


def test_a_block_under_two_names_computes_again_once(tokenizer):
    model = make_model(tokenizer, "llama")
    plain = model.model.layers[0].forward
    with recomputing([model.model.layers[0]] * 2):
        assert model.model.layers[0].forward != plain
    assert "forward" not in vars(model.model.layers[0])


class Burst(torch.autograd.Function):
    """The same forward, an infinite gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * torch.inf


def overflow(model: Any) -> None:
    model.model.layers[1].mlp.down_proj.weight.fill_(3e38)


def overflow_queries(model: Any) -> None:
    model.model.layers[1].self_attn.q_proj.weight.mul_(1e30)
    model.model.layers[1].self_attn.k_proj.weight.mul_(1e30)


def burst(model: Any) -> None:
    model.model.layers[0].mlp.register_forward_hook(lambda module, given, output: Burst.apply(output))


def mask(model: Any) -> None:
    def hook(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        return output.index_fill(-1, torch.tensor([0]), -torch.inf)

    model.lm_head.register_forward_hook(hook)


@pytest.mark.parametrize(
    ("plant", "where", "words"),
    [
        (overflow, "layers.1.mlp", "what layers.1.mlp gives is infinite"),
        (overflow_queries, "layers.1", "an attention logit of layers.1 is infinite"),
        (burst, "layers.0.self_attn", "the gradient with respect to what layers.0.self_attn gives is infinite"),
        (mask, "", ""),
    ],
)
def test_what_is_not_finite_first_is_named_at_once_and_no_number_is_infinite(tokenizer, plant, where, words):
    model = make_model(tokenizer, "llama")
    with torch.no_grad():
        plant(model)
    found = probed(model, Rows())
    assert all(math.isfinite(value) for value in found.values())
    told = HealthPanel(FACTS).add({"step": 0, **found})
    named = [(one.verdict, one.evidence.where) for one in told if one.what == "not_finite"]
    assert named == ([("critical", where)] if where else [])
    assert all(one.evidence.words.startswith(words) for one in told if one.what == "not_finite")


def test_outputs_that_are_too_wide_have_no_histogram(tokenizer, monkeypatch):
    monkeypatch.setattr(model_probe, "WIDEST", VOCAB_SIZE - 1)
    probe = ModelProbe(make_model(tokenizer, "llama"), Rows(), range(ROWS), loss_sums, ALONE, torch.device("cpu"), 2)
    found = probe.histograms(to_host([probe.measure(with_histograms=True)])[0])
    assert "probe/layers.1/activations" in found
    assert "probe/lm_head/activations" not in found


def test_a_model_that_fails_in_the_pass_is_measured_no_more_and_trains_on(tmp_path, monkeypatch):
    inputs = make_inputs(tmp_path)
    run_train(inputs, tmp_path / "whole")

    def fail(*arguments: Any) -> None:
        raise NotImplementedError("no derivative of this kernel\nin evaluation")

    monkeypatch.setattr(model_probe, "watching_attention", fail)
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda progress, line: said.append(line))
    run_train(inputs, tmp_path / "failing")
    [line] = [line for line in said if "probe" in line]
    assert line.startswith("warning: activations and attention are not measured: the probe failed (NotImplementedError")
    assert "\n" not in line
    whole, failing = (metrics(tmp_path / name / "output") for name in ("whole", "failing"))
    assert any(tag.startswith("probe/") for record in whole for tag in record)
    assert not any(tag.startswith("probe/") for record in failing for tag in record)
    assert failing[0]["unmeasured/probe"] == 1
    [unknown] = [one for one in replay(FACTS, failing).verdicts() if one.what == "probe"]
    assert (unknown.kind, unknown.verdict) == ("activations", "unknown")
    losses = [[record["train/loss"] for record in one if "train/loss" in record] for one in (whole, failing)]
    assert losses[0] == losses[1]


def test_a_probe_changes_nothing(tokenizer):
    model = make_model(tokenizer, "mixtral")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.model.layers[1].eval()
    for block in model.model.layers:
        block.compile(backend="eager")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    interface = AttentionInterface.get_interface, AttentionInterface.get, dict(AttentionInterface._global_mapping)

    def state() -> Any:
        return (
            {name: value.clone() for name, value in model.state_dict().items()},
            [parameter.grad.clone() for parameter in model.parameters()],
            [module.training for module in model.modules()],
            [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
            [module._compiled_call_impl is None for module in model.modules()],
            torch.get_rng_state(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
            str(torch._dynamo.utils.counters),
            torch.is_grad_enabled(),
            dict(vars(model.config)),
        )

    before = state()
    assert probed(model, Rows())
    after = state()
    assert all(torch.equal(one, after[0][name]) for name, one in before[0].items())
    assert all(torch.equal(one, other) for one, other in zip(before[1], after[1], strict=True))
    assert before[2:5] == after[2:5]
    assert torch.equal(before[5], after[5])
    assert before[6:] == after[6:]
    assert (AttentionInterface.get_interface, AttentionInterface.get) == interface[:2]
    assert AttentionInterface._global_mapping == interface[2]


@pytest.mark.parametrize(
    ("batch", "block", "rows"), [(1, 64, 8), (32, 64, 16), (1000, 64, 64), (1, 1024, 1), (9, 8192, 1), (1000, 16, 100)]
)
def test_rows_are_half_of_a_global_batch_within_bounds(batch, block, rows):
    class Split(Rows):
        block_size = block

        def __len__(self) -> int:
            return 100

    assert probe_rows(Split(), batch) == range(rows)
