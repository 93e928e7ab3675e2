"""What the machine offers, from what the system says of it: faked answers against what is known of each machine."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import machine
from pipeline.errors import ConfigError
from pipeline.machine import Bf16, bf16_support

PROCESSORS = {
    # The ends of the lines of flags in /proc/cpuinfo.
    "Haswell": "flags\t\t: fpu vme sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 bmi2 erms",
    "Skylake-X": "flags\t\t: fpu sse2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl",
    "Cascade Lake": "flags\t\t: fpu sse2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni",
    "Arrow Lake": "flags\t\t: fpu sse2 avx2 avx_vnni avx_ne_convert avx_vnni_int8",
    "Zen 4": "flags\t\t: fpu sse2 avx2 avx512f avx512vl avx512_bf16 avx512_vnni",
    "Sapphire Rapids": "flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8",
    "Neoverse N1": "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp",
    "Neoverse V1": "Features\t: fp asimd sve svei8mm svebf16 i8mm bf16 dgh rng",
    "no Linux": None,
}
NATIVE = {"Zen 4": "avx512_bf16", "Sapphire Rapids": "amx_bf16", "Neoverse V1": "bf16"}
NO_INSTRUCTIONS = "the processor has no instructions for it"


class FakeDriver:
    """CUDA's driver as `libcuda.so.1` gives it: one compute capability for each of its GPUs."""

    def __init__(self, *capabilities: tuple[int, int], error: int = 0) -> None:
        self._capabilities, self._error = capabilities, error

    def cuInit(self, flags: int) -> int:
        return self._error or (0 if self._capabilities else 100)  # CUDA_ERROR_NO_DEVICE

    def cuDeviceGetCount(self, number: Any) -> int:
        number._obj.value = len(self._capabilities)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal + 40
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self._capabilities[device.value - 40][attribute - 75]
        return 0


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make this process believe that it runs on a machine with some processor, torch and GPU driver."""

    def make(processor: str, driver: FakeDriver | None = None, build: str | None = None, system: str = "linux") -> None:
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
        if (flags := PROCESSORS[processor]) is not None:
            rest = "processor\t: 0\nmodel name\t: some name with avx512_bf16 bf16\n"
            (tmp_path / "cpuinfo").write_text(f"{rest}{flags}\nbugs\t\t: amx_bf16\n\nprocessor\t: 1\n")
        (tmp_path / "version.py").write_text(
            "from typing import Optional\n__version__ = '2.13.0'\n"
            + "".join(
                f"{name}: Optional[str] = {repr('13.0') if name == build else None}\n"
                for name in ("cuda", "hip", "rocm", "xpu")
            )
        )
        spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
        monkeypatch.setattr("importlib.util.find_spec", lambda name: {"torch": spec}[name])

        def load(name: str) -> FakeDriver:
            if name != "libcuda.so.1" or driver is None:
                raise OSError(name)
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)

    return make


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_processor_is_known_by_its_flags(computer: Callable[..., None], processor: str) -> None:
    computer(processor)
    flag = NATIVE.get(processor)
    assert bf16_support({}).is_native == (flag is not None)
    why = f"the processor has {flag}" if flag else NO_INSTRUCTIONS
    assert bf16_support({}).why == (why if PROCESSORS[processor] else f"{machine.CPUINFO} cannot be read")


@pytest.mark.parametrize(
    ("environ", "limit"),
    [
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, "ONEDNN_MAX_CPU_ISA=AVX2"),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core"}, "ONEDNN_MAX_CPU_ISA=avx512_core"),
        ({"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "DNNL_MAX_CPU_ISA=AVX512_CORE_VNNI"),
        ({"ONEDNN_MAX_CPU_ISA": "", "DNNL_MAX_CPU_ISA": "SSE41"}, "DNNL_MAX_CPU_ISA=SSE41"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI_2", "DNNL_MAX_CPU_ISA": "ALL"}, "ONEDNN_MAX_CPU_ISA=AVX2_VNNI_2"),
        ({"ONEDNN_MAX_CPU_ISA": "ALL", "DNNL_MAX_CPU_ISA": "AVX2"}, None),  # the new name counts
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "AVX10_1_512"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "typo"}, None),  # oneDNN takes no notice of it either
        ({"ATEN_CPU_CAPABILITY": "avx2"}, None),  # products are oneDNN's
    ],
)
def test_switches_of_onednn_leave_bf16_out(
    computer: Callable[..., None], environ: dict[str, str], limit: str | None
) -> None:
    computer("Zen 4")
    left_out = Bf16(False, f"{limit} leaves the processor's avx512_bf16 unused")
    assert bf16_support(environ) == (left_out if limit else Bf16(True, "the processor has avx512_bf16"))
    computer("Haswell")
    assert bf16_support(environ) == Bf16(False, NO_INSTRUCTIONS)
    computer("Neoverse V1")  # these are names of x86
    assert bf16_support(environ).is_native


@pytest.mark.parametrize(
    ("capabilities", "is_native"),
    [([(9, 0)], True), ([(8, 0)], True), ([(12, 1)], True), ([(7, 5)], False), ([(7, 0), (9, 0)], False)],
)
def test_a_gpu_is_known_by_the_compute_capability_of_the_first_that_is_visible(
    computer: Callable[..., None], capabilities: list[tuple[int, int]], is_native: bool
) -> None:
    computer("Haswell" if is_native else "Zen 4", FakeDriver(*capabilities), "cuda")
    version = ".".join(map(str, capabilities[0]))
    assert bf16_support({}) == Bf16(is_native, f"the GPU's compute capability is {version}; bf16 needs 8.0")


@pytest.mark.parametrize(
    ("driver", "build", "environ"),
    [
        (None, "cuda", {}),  # no driver
        (FakeDriver(), "cuda", {}),  # none visible, as with CUDA_VISIBLE_DEVICES=
        (FakeDriver((9, 0), error=999), "cuda", {}),
        (FakeDriver((9, 0)), None, {}),  # torch cannot use it
        (FakeDriver((9, 0)), "cuda", {"ACCELERATE_USE_CPU": "True"}),
        (FakeDriver((9, 0)), "cuda", {"ACCELERATE_USE_CPU": "yes"}),
        (FakeDriver((9, 0)), "cuda", {"ACCELERATE_TORCH_DEVICE": "cpu"}),
        (None, "hip", {"ACCELERATE_USE_CPU": "1"}),
    ],
)
def test_the_processor_counts_where_no_gpu_is_used(
    computer: Callable[..., None], driver: FakeDriver | None, build: str | None, environ: dict[str, str]
) -> None:
    computer("Haswell", driver, build)
    assert bf16_support(environ) == Bf16(False, NO_INSTRUCTIONS)
    computer("Zen 4", driver, build)
    assert bf16_support(environ) == Bf16(True, "the processor has avx512_bf16")


def test_a_gpu_is_used_unless_accelerate_is_told_otherwise(computer: Callable[..., None]) -> None:
    computer("Haswell", FakeDriver((8, 6)), "cuda")
    for environ in ({}, {"ACCELERATE_USE_CPU": "false"}, {"ACCELERATE_TORCH_DEVICE": "cuda:0"}):
        assert bf16_support(environ).is_native


@pytest.mark.parametrize("build", ["hip", "xpu"])
def test_devices_that_are_not_known_are_not_guessed(computer: Callable[..., None], build: str) -> None:
    computer("Zen 4", None, build)
    with pytest.raises(ConfigError, match=f"auto does not know the devices of a torch for {build}; write bf16 or no"):
        bf16_support({})


def test_nothing_is_chosen_on_macos_that_was_not_tried(computer: Callable[..., None]) -> None:
    computer("no Linux", system="darwin")
    assert bf16_support({}) == Bf16(False, "on macOS it was not tried")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_this_processor_is_what_torch_takes_it_for() -> None:
    import torch

    capabilities = torch.cpu.get_capabilities()
    known = {flag for flag in machine.BF16_FLAGS if capabilities.get(flag, False)}
    assert machine._processor_flags() & set(machine.BF16_FLAGS) == known
    assert machine._torch_backend() == ("cuda" if torch.version.cuda else None)
