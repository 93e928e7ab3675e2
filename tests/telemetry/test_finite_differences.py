from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from pipeline.telemetry.finite_differences import WIDTH, central_differences


class Cubic(torch.nn.Module):
    """A loss of which central differences are known: of w^3 it is 3 w^2 + h^2. It passes through float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[1.5, -0.3], [0.2, 0.1]], dtype=torch.float64))

    def forward(self) -> torch.Tensor:
        return (self.weight.to(torch.float32) ** 3).float().sum()


def test_they_are_computed_in_float64_though_the_model_casts_to_less():
    net = Cubic()
    before = net.weight.detach().clone()
    first, second = central_differences(net, net, [(net.weight, 0), (net.weight, 1)])
    assert first.gradient == pytest.approx(3 * 1.5**2 + WIDTH**2, rel=1e-9)
    assert second.gradient == pytest.approx(3 * 0.3**2 + WIDTH**2, rel=1e-9)
    assert first.loss_up == pytest.approx(1.5**3 - 0.3**3 + 0.2**3 + 0.1**3 + 3 * 1.5**2 * WIDTH, rel=1e-9)
    assert torch.equal(net.weight, before)
    assert net().dtype == torch.float32, "only while they are measured"


def test_they_are_the_gradients_of_a_language_model():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    net = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=32, **shape)).double().eval()
    ids = torch.randint(0, 32, (2, 9))

    def loss() -> torch.Tensor:
        logits = net(input_ids=ids, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())

    loss().backward()
    entries = [(parameter, int(parameter.grad.abs().argmax())) for parameter in net.parameters()]
    for found, (parameter, place) in zip(central_differences(net, loss, entries), entries, strict=True):
        # Autograd's are of a model that casts to float32 in its norms.
        assert found.gradient == pytest.approx(parameter.grad.view(-1)[place].item(), rel=1e-5, abs=1e-7)
