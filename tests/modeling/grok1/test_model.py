"""Caches, masks, packed rows, precision, checkpointing and the experts' implementations."""

from __future__ import annotations

import pytest
import torch
from modeling.grok1.tiny import initialized, shaken, tiny_config, token_ids
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache, StaticCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.modeling.grok1 import Grok1Config, Grok1ForCausalLM, Grok1ForSequenceClassification
from pipeline.modeling.grok1.configuration_grok1 import expert_width
from pipeline.modeling.grok1.router_losses import router_loss_sums
from pipeline.modeling.parameters import active_parameters, parameter_table

CLOSE = {"rtol": 0.0, "atol": 2e-6}
"""Float32, logits around 1, and the same sums in another order."""


def logits_of(model, ids, **inputs):
    with torch.no_grad():
        return model(ids, **inputs).logits


def gradients(model, ids, **inputs):
    model.zero_grad()
    model(ids, labels=ids, use_cache=False, **inputs).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same_gradients(one, other, rtol=1e-4):
    for name, gradient in one.items():
        assert float((gradient - other[name]).norm()) <= rtol * float(gradient.norm()), name


def test_the_full_configuration_is_the_released_model():
    config = Grok1Config()
    assert config.intermediate_size == 32768
    assert config.attention_multiplier == 0.08838834764831845
    assert config.embedding_multiplier == 78.38367176906169
    with torch.device("meta"):
        model = Grok1ForCausalLM(config)
    assert parameter_table(model)["total"] == 315_684_820_992
    assert active_parameters(model) == 83_756_587_008


@pytest.mark.parametrize(("widening", "width", "expected"), [(8, 6144, 32768), (8, 192, 1024), (2.5, 33, 56)])
def test_expert_width(widening, width, expected):
    assert expert_width(widening, width) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads 3 is not a multiple of num_key_value_heads 2"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok 5 is not between 1 and num_local_experts 4"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(Exception, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize("chunks", [(1,) * 12, (5, 1, 4, 2)])
def test_cached_decoding_equals_the_full_forward(chunks):
    model, ids = shaken(), token_ids()
    ids[1, 3] = ids[1, 7] = 0  # padding inside a row stays hidden in later steps
    cache, steps, position = DynamicCache(config=model.config), [], 0
    for length in chunks:
        steps.append(logits_of(model, ids[:, position : position + length], past_key_values=cache, use_cache=True))
        position += length
    torch.testing.assert_close(torch.cat(steps, dim=1), logits_of(model, ids), **CLOSE)


def test_static_cache_equals_the_full_forward():
    model, ids = shaken(), token_ids()
    cache = StaticCache(config=model.config, max_cache_len=16)
    steps = [logits_of(model, ids[:, at : at + 4], past_key_values=cache, use_cache=True) for at in (0, 4, 8)]
    torch.testing.assert_close(torch.cat(steps, dim=1), logits_of(model, ids), **CLOSE)


def test_generate_is_greedy_search_by_full_forwards():
    model, ids = shaken(), token_ids(length=5)
    expected = ids
    for _ in range(8):
        expected = torch.cat((expected, logits_of(model, expected)[:, -1:].argmax(-1)), dim=1)
    model.generation_config.eos_token_id = None
    found = model.generate(ids, max_new_tokens=8, do_sample=False)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("strategy", ["beams", "an assistant", "prompt lookup", "a static cache", "embeddings"])
def test_every_way_to_generate_agrees_with_the_plain_one(strategy):
    model, ids = shaken(), token_ids(batch=1, length=5)
    model.generation_config.eos_token_id = None
    plain = {"max_new_tokens": 8, "do_sample": False}
    expected = model.generate(ids, **plain)
    if strategy == "beams":
        expected = model.generate(ids, **plain, num_beams=3, use_cache=False)
        found = model.generate(ids, **plain, num_beams=3)
    elif strategy == "an assistant":
        assistant = shaken(seed=1)
        assistant.generation_config.eos_token_id = None
        found = model.generate(ids, **plain, assistant_model=assistant)
    elif strategy == "prompt lookup":
        found = model.generate(ids, **plain, prompt_lookup_num_tokens=2)
    elif strategy == "a static cache":
        found = model.generate(ids, **plain, cache_implementation="static", disable_compile=True)
    else:
        found = model.generate(inputs_embeds=model.get_input_embeddings()(ids), **plain)
        expected = expected[:, ids.shape[1] :]
    assert torch.equal(found, expected)


def test_a_batch_padded_on_the_left_generates_what_each_row_does_alone():
    model, rows = shaken(), [token_ids(batch=1, length=7, seed=3), token_ids(batch=1, length=4, seed=4)]
    model.generation_config.eos_token_id = None
    expected = [model.generate(row, max_new_tokens=6, do_sample=False)[0] for row in rows]
    padded = torch.cat((rows[0], functional.pad(rows[1], (3, 0))))
    found = model.generate(padded, attention_mask=(padded != 0).long(), max_new_tokens=6, do_sample=False)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1, 3:], expected[1])


def test_generated_padding_is_hidden_from_later_tokens():
    """Where generation itself yields id 0, the next step must see what a full forward would."""
    model, ids = shaken(), token_ids(length=5)
    ids[:, 3] = 0
    attention_mask = torch.ones_like(ids)
    prepared = model.prepare_inputs_for_generation(ids, attention_mask=attention_mask)
    assert prepared["attention_mask"][:, 3].tolist() == [0, 0]


def test_left_padding_changes_nothing_and_is_finite():
    model, ids = shaken(), token_ids(length=7)
    padded = functional.pad(ids, (4, 0))
    expected = logits_of(model, ids)
    torch.testing.assert_close(logits_of(model, padded)[:, 4:], expected, rtol=0, atol=2e-5)
    mask = (padded != 0).long()
    # The same by an attention mask, with another id as padding.
    torch.testing.assert_close(
        logits_of(model, padded + 9 * (padded == 0), attention_mask=mask)[:, 4:], expected, rtol=0, atol=2e-5
    )
    assert logits_of(model, padded).isfinite().all()


def test_a_query_without_visible_keys_weighs_all_positions_alike():
    model, ids = shaken(), token_ids()
    ids[0] = 0
    ids[1, :3] = 0
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(ids, output_attentions=True).attentions[0]
    torch.testing.assert_close(weights[0], torch.full_like(weights[0], 1 / 12))
    torch.testing.assert_close(weights[1, :, :3], torch.full_like(weights[1, :, :3], 1 / 12))
    assert torch.equal(weights[1, :, 3, 3], torch.ones(4))
    gradients_of_padding = gradients(model, ids)
    assert all(gradient.isfinite().all() for gradient in gradients_of_padding.values())


def test_packed_documents_do_not_see_each_other():
    model, ids = shaken(), token_ids(batch=1, length=11)
    positions = torch.cat([torch.arange(4), torch.arange(7)])[None]
    apart = torch.cat((logits_of(model, ids[:, :4]), logits_of(model, ids[:, 4:])), dim=1)
    packed = logits_of(model, ids, position_ids=positions)
    torch.testing.assert_close(packed, apart, **CLOSE)
    assert (logits_of(model, ids)[:, 4:] - apart[:, 4:]).abs().max() > 1e-2


def test_grouped_experts_equal_the_eager_ones():
    model, ids = shaken(), token_ids(batch=4)
    model.train()
    results = {}
    for implementation in ("eager", "grouped_mm", "batched_mm"):
        model.set_experts_implementation(implementation)
        loss = model(ids, labels=ids).loss.item()
        results[implementation] = (loss, gradients(model, ids))
    loss, expected = results.pop("eager")
    for other_loss, other in results.values():
        assert other_loss == pytest.approx(loss, rel=1e-6)
        assert_same_gradients(expected, other)


def test_gradient_checkpointing_changes_nothing():
    model, ids = shaken(), token_ids()
    model.train()
    expected = gradients(model, ids)
    model.activation_checkpointing_enable()
    found = gradients(model, ids)
    assert_same_gradients(expected, found, rtol=1e-6)
    assert float(expected["model.layers.0.moe.router.weight"].norm()) > 0


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_bfloat16_autocast_is_close_and_computes_experts_in_bfloat16(implementation):
    model, ids = initialized(), token_ids()
    model.set_experts_implementation(implementation)
    seen = []
    model.model.layers[0].moe.experts.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(ids).logits.detach()
        model(ids, labels=ids).loss.backward()
    assert seen[0] == torch.bfloat16
    expected = logits_of(model, ids)
    assert float((found - expected).norm() / expected.norm()) < 0.03
    assert model.model.layers[0].moe.experts.down_proj.grad.dtype == torch.float32


def test_half_precision_keeps_the_router_in_float32(tmp_path):
    initialized().save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert dtypes.pop("model.layers.0.moe.router.weight") == torch.float32
    assert dtypes["model.embed_tokens.weight"] == dtypes["model.layers.0.moe.experts.down_proj"] == torch.bfloat16
    logits = logits_of(model, token_ids())
    assert logits.dtype == torch.bfloat16


def test_gradients_match_finite_differences():
    model, ids = shaken(dtype=torch.float64), token_ids()
    model.set_experts_implementation("eager")  # grouped products have no float64

    def loss():
        output = model(ids, use_cache=False, output_router_logits=True)
        balance, z = router_loss_sums(output.router_logits, ids > 0, num_experts=4, top_k=2)
        # transformers' own loss rounds to float32.
        return functional.cross_entropy(output.logits.flatten(0, 1), ids.flatten()) + (balance + z) / ids.numel()

    loss().backward()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction *= 1e-5 * parameter.detach().norm() / direction.norm()
        losses = []
        with torch.no_grad():
            for step in (1, -2):
                parameter += step * direction
                losses.append(loss().item())
            parameter += direction
        measured, expected = (losses[0] - losses[1]) / 2, float((parameter.grad * direction).sum())
        # Central differences are off by the third derivative times 1e-10, and by the rounding of a loss around 4.
        assert measured == pytest.approx(expected, rel=1e-5, abs=1e-13), name


def test_one_expert_is_a_dense_network_without_a_router():
    model, ids = initialized(num_local_experts=1, num_experts_per_tok=1), token_ids()
    model.train()
    output = model(ids, labels=ids)
    assert output.aux_loss is None
    output.loss.backward()
    assert not [name for name, _ in model.named_parameters() if "router" in name or "experts" in name]
    assert active_parameters(model) == model.num_parameters()


def test_regression_learns_a_number_from_the_last_token_that_is_no_padding():
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config(num_labels=1, problem_type="regression"))
    assert isinstance(model, Grok1ForSequenceClassification)
    ids, labels = token_ids(batch=4, length=6), torch.tensor([1.0, -1.0, 0.5, 2.0])
    right, left = functional.pad(ids, (0, 3)), functional.pad(ids, (3, 0))
    model.eval()
    for padded in (right, left):
        torch.testing.assert_close(logits_of(model, padded), logits_of(model, ids), rtol=0, atol=2e-5)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = model(right, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_flex_attention_falls_back_to_eager_on_the_cpu(monkeypatch):
    """It has no backward pass there, and torch 2.13 compiles it wrongly for AVX2."""

    def refuse(*arguments, **options):
        raise AssertionError("flex attention was used on the CPU")

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flex_attention", refuse)
    model, ids = shaken(head_dim=16), token_ids(length=40)
    ids[1, 5] = 0
    positions = torch.cat([torch.arange(15), torch.arange(25)]).expand(2, -1)

    def results():
        model.train()
        found = gradients(model, ids)
        model.eval()
        whole = model.generate(ids[:1, :8], max_new_tokens=4, do_sample=False)
        return found, logits_of(model, ids), logits_of(model, ids, position_ids=positions), whole

    expected, expected_values = (lambda first, *rest: (first, rest))(*results())
    model.set_attn_implementation("flex_attention")
    found, values = (lambda first, *rest: (first, rest))(*results())
    assert_same_gradients(expected, found, rtol=1e-7)
    torch.testing.assert_close(values, expected_values, rtol=0, atol=0)


@pytest.mark.gpu
def test_flex_attention_trains_on_an_accelerator():
    model, ids = shaken(head_dim=16).cuda().train(), token_ids(length=128).cuda()
    expected = gradients(model, ids)
    model.set_attn_implementation("flex_attention")
    assert_same_gradients(expected, gradients(model, ids), rtol=1e-3)
