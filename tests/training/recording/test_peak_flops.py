"""The peak of which records give a share: the best of training's products, kept for the machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from pipeline.gpus import known_peak
from pipeline.machine import rate_in_words
from pipeline.training.recording import matmul_timing, peak_flops
from pipeline.training.recording.matmul_timing import Products
from pipeline.training.recording.peak_flops import peak_of

CPU = torch.device("cpu")
SECOND = 1.0  # of a fake product


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and peaks that this process has not asked for yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    peak_of.cache_clear()
    yield tmp_path / "cache/descent/peaks.json"
    peak_of.cache_clear()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> dict[torch.dtype, Sequence[float]]:
    """Seconds that each of the three products takes, by type; a test changes them."""
    seconds: dict[torch.dtype, Sequence[float]] = {torch.float32: [SECOND] * 3}

    class Fake:
        def __init__(self, device: torch.device, dtype: torch.dtype, size: int) -> None:
            self.flops, self._dtype = 2 * size**3, dtype

        def seconds(self) -> Sequence[float]:
            return seconds[self._dtype]

    monkeypatch.setattr(peak_flops, "Products", Fake)
    monkeypatch.setattr(peak_flops, "multiplies_bf16", lambda device: torch.bfloat16 in seconds)
    return seconds


def again(precision: str = "no") -> float:
    """What another process finds."""
    peak_of.cache_clear()
    return peak_of(CPU, precision).flops_per_second


@pytest.mark.parametrize("fastest", range(3))
def test_the_fastest_of_the_three_products_counts(device: dict[torch.dtype, Sequence[float]], fastest: int) -> None:
    device[torch.float32] = [SECOND / 2 if index == fastest else SECOND for index in range(3)]
    peak = peak_of(CPU, "no")
    assert peak.flops_per_second == 2 * 512**3 / (SECOND / 2)
    assert peak.kind == "measured"
    assert peak.source.startswith("float32 products of 512 x 512 by ")


def test_no_peak_is_below_that_of_float32(device: dict[torch.dtype, Sequence[float]]) -> None:
    emulated = peak_of(CPU, "bf16")
    assert emulated == peak_of(CPU, "no")
    device[torch.bfloat16] = [4 * SECOND] * 3
    assert again("bf16") == emulated.flops_per_second
    device[torch.bfloat16] = [SECOND / 4] * 3
    assert again("bf16") == 4 * emulated.flops_per_second
    assert peak_of(CPU, "bf16").source.startswith("bfloat16 products")


def test_a_peak_is_kept_for_the_machine_and_only_ever_rises(
    device: dict[torch.dtype, Sequence[float]], cache: Path
) -> None:
    rate = peak_of(CPU, "no").flops_per_second
    device[torch.float32] = [9 * SECOND] * 3  # something else runs meanwhile
    assert again() == rate
    device[torch.float32] = [SECOND, SECOND / 3, SECOND]
    assert again() == 3 * rate
    [(name, entry)] = json.loads(cache.read_text()).items()
    assert entry == {"flops_per_second": 3 * rate, "size": 512}
    assert "torch.float32" in name
    assert f"torch {torch.__version__}" in name


def test_other_threads_and_other_instructions_have_peaks_of_their_own(
    device: dict[torch.dtype, Sequence[float]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = again()
    device[torch.float32] = [2 * SECOND] * 3
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert again() == rate / 2
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert again() == rate / 2
    assert "by 77 threads" in peak_of(CPU, "no").source
    monkeypatch.setattr(peak_flops, "processor_model", lambda: "another")
    device[torch.float32] = [4 * SECOND] * 3
    assert again() == rate / 4
    assert len(json.loads(cache.read_text())) == 4


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"NAME": 3}', '{"NAME": {"flops_per_second": NaN, "size": 512}}',
             '{"NAME": {"flops_per_second": "1e30", "size": 512}}', '{"NAME": {"flops_per_second": 1e30}}',
             '{"NAME": {"flops_per_second": 1e30, "size": 1000000}}']
)  # fmt: skip
def test_what_is_no_peak_is_measured_anew(device: dict[torch.dtype, Sequence[float]], cache: Path, text: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(text.replace("NAME", peak_flops._name(CPU, torch.float32)))
    assert peak_of(CPU, "no").flops_per_second == 2 * 512**3 / SECOND


def test_where_nothing_can_be_kept_it_is_measured_each_time(
    device: dict[torch.dtype, Sequence[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    rate = again()
    device[torch.float32] = [2 * SECOND] * 3
    assert again() == rate / 2
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert again() == rate / 2


def test_a_real_peak_is_measured_without_touching_random_numbers(cache: Path) -> None:
    state = torch.get_rng_state()
    peak = peak_of(CPU, "bf16")
    assert torch.equal(torch.get_rng_state(), state)
    assert 1e8 < peak.flops_per_second < 1e15
    assert max(entry["flops_per_second"] for entry in json.loads(cache.read_text()).values()) == peak.flops_per_second


def test_the_products_are_those_of_a_linear_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output, the gradient of its input and that of its weights, of values that are all unlike."""
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr(matmul_timing, "_timed", lambda left, right: pairs.append((left, right)) or 0.0)
    timed = Products(CPU, torch.float32, 4)
    timed.seconds()
    assert timed.flops == 2 * 4**3
    (a, b), (gradient, weights), (inputs, _) = pairs
    assert len(torch.cat([a, b]).unique()) == 32
    assert [tensor.is_contiguous() for pair in pairs for tensor in pair] == [True, True, True, False, False, True]
    assert torch.equal(gradient @ weights, a @ b.T)
    assert torch.equal(inputs, a.T)


@pytest.mark.parametrize(
    ("rate", "words"),
    [(8.1e12, "8.1 TFLOP/s"), (375.4e9, "375 GFLOP/s"), (1.979e15, "1.98 PFLOP/s"), (5e5, "0.5 MFLOP/s")],
)
def test_rates_in_words(rate: float, words: str) -> None:
    assert rate_in_words(rate) == words


@pytest.mark.parametrize(
    ("name", "kind", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA A100-SXM4-40GB", "tf32", 156),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "fp16", 121),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("NVIDIA GeForce RTX 4090", "bf16", 165),
        ("AMD Instinct MI300X", "bf16", 1307),
    ],
)
def test_known_devices(name, kind, tera):
    assert known_peak(name, kind) == tera * 1e12


def test_what_no_data_sheet_tells_is_not_guessed():
    assert known_peak("Tesla V100-SXM2-16GB", "bf16") is None
    assert known_peak("NVIDIA RTX A4000", "bf16") is None
