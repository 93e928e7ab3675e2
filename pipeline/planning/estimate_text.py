"""An estimate as text for people, in 80 columns."""

from __future__ import annotations

from typing import Any

from pipeline.machine import rate_in_words
from pipeline.planning.allocations import KINDS
from pipeline.planning.devices import GIB
from pipeline.reporting.formats import plural

MIB = 2**20
CLOSE = 0.01


def format_estimate(estimate: dict[str, Any]) -> str:
    """Parameters, FLOPs, memory and time, each as a small table, and what to change where nothing fits."""
    return "\n\n".join(
        "\n".join(lines)
        for lines in (_parameters(estimate), _flops(estimate), _memory(estimate), _time(estimate), _advice(estimate))
        if lines
    )


def _parameters(estimate: dict[str, Any]) -> list[str]:
    parameters = estimate["parameters"]
    bound = "at most " if estimate["vocab_size_is_bound"] else ""
    labels = {"total": "parameters", "active": "active a token", "trainable": "trainable"}
    parts = parameters["parts"].items()
    return [
        f"{estimate['architecture']} with {bound}{estimate['vocab_size']:,} tokens",
        *(f"  {parameters[name]:>19,}  {label}" for name, label in labels.items()),
        "of which",
        *(f"  {count:>19,}  {count / parameters['total']:>6.1%}  {name}" for name, count in parts),
    ]


def _flops(estimate: dict[str, Any]) -> list[str]:
    flops = estimate["flops_per_token"]
    apart = flops["forward_counted"] / flops["forward"] - 1
    lines = [
        f"FLOPs a token, in sequences of {estimate['block_size']:,} tokens",
        f"  {flops['forward']:>19.4g}  forward; torch's counter finds {flops['forward_counted']:.4g} ({apart:+.2%})",
        f"  {flops['forward_and_backward']:>19.4g}  forward and backward",
    ]
    if abs(apart) > CLOSE:
        lines.append("  the formula leaves out attention beyond a sliding window, and scans over states")
    return lines


def _memory(estimate: dict[str, Any]) -> list[str]:
    hardware, schemes, batch = estimate["hardware"], estimate["memory"], estimate["device_batch_size"]
    device = hardware["device"]
    titles = [_title(scheme, figures["num_devices"]) for scheme, figures in schemes.items()]
    unit, name = (GIB, "GiB") if max(figures["total_bytes"] for figures in schemes.values()) >= GIB else (MIB, "MiB")
    lines = [
        f"memory of a device in {name}, {plural(batch, 'sequence', str)} at once",
        " " * 13 + "".join(f"{title:>15}" for title in titles),
    ]
    for kind in KINDS:
        lines.append(f"  {kind:<11}" + "".join(_size(scheme["parts_bytes"][kind], unit) for scheme in schemes.values()))
    lines.append(f"  {'total':<11}" + "".join(_size(scheme["total_bytes"], unit) for scheme in schemes.values()))
    fits = ("fits" if scheme["fits"] else "does not fit" for scheme in schemes.values())
    lines.append(" " * 13 + "".join(f"{text:>15}" for text in fits))
    article = "the" if hardware["peak_is_measured"] else "an" if device[0] in "AHLRM" else "a"
    total, usable = hardware["memory_bytes"] / GIB, hardware["usable_memory_bytes"] / GIB
    lines.append(f"of {total:,.1f} GiB that {article} {device} has, tensors can take {usable:,.1f}")
    return lines


def _time(estimate: dict[str, Any]) -> list[str]:
    time, hardware = estimate["time"], estimate["hardware"]
    precision = "float32" if estimate["mixed_precision"] == "no" else estimate["mixed_precision"]
    share = hardware["utilization"]
    whose, each = f"{hardware['num_devices']} x {hardware['device']}", " each"
    if hardware["peak_is_measured"]:
        whose, each = "this CPU", ", measured now,"
    peak = f"{rate_in_words(hardware['peak_flops_per_second'])}{each} in {precision}"
    speed = f"{time['tokens_per_second']:,.0f} tokens/s"
    lines = [f"{whose} at {share:.0%} of {peak}: {speed}" if share else f"{whose} at all of {peak}: at most {speed}"]
    if time["days"] is not None:
        bound = " at most, if training does not stop early" if time["is_bound"] else ""
        bound = " at least: no training reaches all of it" if share is None else bound
        lines.append(f"{time['tokens']:,} tokens take {_duration(time['days'])}{bound}")
    else:
        lines.append("how long it takes depends on the length of the text: train.num_train_epochs")
    if share is None:
        lines.append("which share it reaches shows in training: try train.max_steps=20 and --until train")
    return lines


def _advice(estimate: dict[str, Any]) -> list[str]:
    if any(figures["fits"] for scheme, figures in estimate["memory"].items() if scheme != "lora"):
        return []
    lines = ["to make it fit:"]
    for advice in estimate["advice"]:
        settings = " ".join(f"train.{name}={_yaml(value)}" for name, value in advice["settings"].items())
        if advice["scheme"] == "lora":
            settings = "model.adapter, on a pretrained model"
        lines.append(f"  {_title(advice['scheme'], advice['num_devices'])}{': ' if settings else ''}{settings}")
    if len(lines) == 1:
        return [
            "one block with its activations is larger than such a device; shorten pack.block_size, or take a device",
            "with more memory",
        ]
    return lines


def _title(scheme: str, num_devices: int) -> str:
    names = {"one_device": "one device", "ddp": "DDP", "fsdp2": "FSDP2", "lora": "LoRA, rank 16"}
    return names[scheme] if scheme in ("one_device", "lora") else f"{names[scheme]} on {num_devices:,}"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _size(num_bytes: int, unit: int) -> str:
    return f"{num_bytes / unit:>15,.{2 if num_bytes < 100 * unit else 0}f}"


def _duration(days: float) -> str:
    for size, unit in ((1, "days"), (1 / 24, "hours"), (1 / 1440, "minutes")):
        if days >= size:
            return f"{days / size:,.1f} {unit}"
    return f"{days * 86_400:.2g} seconds"
