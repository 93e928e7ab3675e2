"""What this machine offers, asked of the system itself. Imports nothing heavy, torch least of all."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")

ARM_FLAG = "bf16"
BF16_FLAGS = ("amx_bf16", "avx512_bf16", ARM_FLAG)
"""Flags of processors that multiply bf16, as Linux and torch name them; but for Arm's, they are of x86."""

ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Which instructions oneDNN, by which torch multiplies matrices in bf16, may use of an x86; the first that is set
counts. ATEN_CPU_CAPABILITY changes torch's own kernels alone: products in bf16 stay as fast."""

ISAS_WITHOUT_BF16 = frozenset(
    ("sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni")
)  # fmt: skip
"""Their values without products in bf16. oneDNN takes values that it does not know for no limit."""

TRUE = frozenset(("1", "true", "t", "yes", "y", "on"))
"""What Accelerate takes for yes in an environment variable."""

LEAST_CAPABILITY = 8
"""CUDA's compute capability from which a GPU multiplies bf16: Ampere's."""

_CAPABILITY_MAJOR = 75
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR of cuda.h; the minor one is the next."""


@dataclass(frozen=True)
class Bf16:
    """Whether the device of a training multiplies bf16 natively, and how that is known, in words."""

    is_native: bool
    why: str


def give_a_home() -> None:
    """Set HOME to /dev/null for a user without name and HOME, as in containers: libraries ask for a home at import."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = os.devnull


def num_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_model() -> str:
    """The processor's model, as exactly as the system says. Processors of one kind give the same."""
    names = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant")
    try:
        lines = CPUINFO.read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    found = [told[name] if name == names[0] else f"{name} {told[name]}" for name in names if name in told]
    return ", ".join(found) or platform.processor() or platform.machine()


def rate_in_words(flops_per_second: float) -> str:
    """A rate with its unit: 375 GFLOP/s."""
    exponent = min(max(int(math.log10(flops_per_second)) // 3, 2), 5)
    return f"{flops_per_second / 1000**exponent:.3g} {'MGTP'[exponent - 2]}FLOP/s"


def is_true(environ: Mapping[str, str], variable: str) -> bool:
    """Whether an environment variable says yes to Accelerate."""
    return environ.get(variable, "").lower() in TRUE


def wants_cpu(environ: Mapping[str, str]) -> bool:
    """Whether Accelerate is told to leave a GPU alone."""
    return is_true(environ, "ACCELERATE_USE_CPU") or environ.get("ACCELERATE_TORCH_DEVICE", "").startswith("cpu")


def bf16_support(environ: Mapping[str, str]) -> Bf16:
    """Whether the device on which Accelerate would train here multiplies bf16 natively, by its flags, not by a timing.

    Raises ConfigError for a build of torch whose devices are not known here.
    """
    if sys.platform == "darwin":
        # The wheels for macOS hold no oneDNN, and what bf16 does on Apple's GPU was not tried.
        return Bf16(False, "on macOS it was not tried")
    backend = _torch_backend()
    if backend is not None and not wants_cpu(environ):
        if backend != "cuda":
            raise ConfigError(
                f"train.mixed_precision: auto does not know the devices of a torch for {backend}; write bf16 or no"
            )
        if (capability := _cuda_capability()) is not None:
            name = f"the GPU's compute capability is {capability[0]}.{capability[1]}"
            return Bf16(capability[0] >= LEAST_CAPABILITY, f"{name}; bf16 needs {LEAST_CAPABILITY}.0")
    return _processor_support(environ)


def limiting_isa(environ: Mapping[str, str]) -> str | None:
    """The setting that keeps oneDNN from an x86's products in bf16, as `VARIABLE=value`, or None."""
    variable = next((name for name in ISA_VARIABLES if environ.get(name)), None)
    if variable is None or environ[variable].lower() not in ISAS_WITHOUT_BF16:
        return None
    return f"{variable}={environ[variable]}"


def _processor_support(environ: Mapping[str, str]) -> Bf16:
    flags = _processor_flags()
    flag = next((flag for flag in BF16_FLAGS if flag in flags), None)
    if flag is None:
        return Bf16(False, "the processor has no instructions for it" if flags else f"{CPUINFO} cannot be read")
    limit = limiting_isa(environ)
    if limit is not None and flag != ARM_FLAG:
        return Bf16(False, f"{limit} leaves the processor's {flag} unused")
    return Bf16(True, f"the processor has {flag}")


def _processor_flags() -> frozenset[str]:
    """Flags of the first processor; the others have the same. Empty where the system does not say."""
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _torch_backend() -> str | None:
    """What torch was built for beside the CPU: `cuda`, `hip`, `xpu` or nothing; read from its files."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^(cuda|hip|xpu)\b[^=\n]*=\s*['\"]", text, re.MULTILINE)
    return found[1] if found else None


def _cuda_capability() -> tuple[int, int] | None:
    """Compute capability of the first GPU that the CUDA driver shows this process, None if it shows none. The driver
    heeds CUDA_VISIBLE_DEVICES."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number)) or not number.value:
        return None
    device, capability = ctypes.c_int(), []
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MAJOR + 1):
        if driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device):
            return None
        capability.append(number.value)
    return capability[0], capability[1]
