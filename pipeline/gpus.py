"""GPUs by name: memory, and peaks in dense tera-operations a second. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TERA = 1e12


@dataclass(frozen=True)
class Gpu:
    """Peaks are from the makers' data sheets, products in bf16 summed in fp32; where a sheet gives sparse figures, half
    of them. Memory is as nvidia-smi and rocm-smi report it: less than the name says where it corrects its errors."""

    fp32: float
    tf32: float | None = None
    fp16: float | None = None
    bf16: float | None = None
    memory_gib: float | None = None


GPUS = {
    "B200": Gpu(bf16=2250, fp16=2250, tf32=1125, fp32=75, memory_gib=179),
    "B100": Gpu(bf16=1750, fp16=1750, tf32=875, fp32=60),
    "GH200": Gpu(bf16=989, fp16=989, tf32=494, fp32=67),
    "H200 NVL": Gpu(bf16=835, fp16=835, tf32=417, fp32=60),
    "H200": Gpu(bf16=989, fp16=989, tf32=494, fp32=67, memory_gib=140.4),
    "H100 PCIe": Gpu(bf16=756, fp16=756, tf32=378, fp32=51),
    "H100 NVL": Gpu(bf16=835, fp16=835, tf32=417, fp32=60, memory_gib=93.6),
    "H100": Gpu(bf16=989, fp16=989, tf32=494, fp32=67, memory_gib=79.6),
    "A100 40GB": Gpu(bf16=312, fp16=312, tf32=156, fp32=19.5, memory_gib=40),
    "A100": Gpu(bf16=312, fp16=312, tf32=156, fp32=19.5, memory_gib=80),
    "A40": Gpu(bf16=150, fp16=150, tf32=75, fp32=37.4, memory_gib=45),
    "A10G": Gpu(bf16=70, fp16=70, tf32=35, fp32=35, memory_gib=22.5),
    "L40S": Gpu(bf16=362, fp16=362, tf32=183, fp32=91.6, memory_gib=45),
    "L40": Gpu(bf16=181, fp16=181, tf32=90.5, fp32=90.5, memory_gib=45),
    "L4": Gpu(bf16=121, fp16=121, tf32=60, fp32=30.3, memory_gib=22.5),
    "RTX 4090": Gpu(bf16=165, fp16=165, tf32=82.6, fp32=82.6, memory_gib=24),
    "RTX 3090": Gpu(bf16=71, fp16=71, tf32=35.6, fp32=35.6, memory_gib=24),
    "V100-PCIE": Gpu(fp16=112, fp32=14),
    "V100 16GB": Gpu(fp16=125, fp32=15.7, memory_gib=16),
    "V100": Gpu(fp16=125, fp32=15.7, memory_gib=32),
    "T4": Gpu(fp16=65, fp32=8.1, memory_gib=15),
    "MI325X": Gpu(bf16=1307, fp16=1307, tf32=654, fp32=163, memory_gib=256),
    "MI300X": Gpu(bf16=1307, fp16=1307, tf32=654, fp32=163, memory_gib=192),
}
"""The first name whose words are in a device's name counts."""


def known_peak(name: str, kind: str) -> float | None:
    """Operations a second of a GPU by its name, for `bf16`, `fp16`, `tf32` or `fp32`; None where it is not known."""
    found = (gpu for known, gpu in GPUS.items() if re.search(rf"\b{known}\b", name, re.IGNORECASE))
    tera = getattr(next(found, None), kind, None)
    return None if tera is None else tera * _TERA
