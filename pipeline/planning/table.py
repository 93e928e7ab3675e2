"""An estimate as text for people."""

from __future__ import annotations

from typing import Any

from pipeline.planning.allocations import KINDS

GIB = 2**30


def format_estimate(estimate: dict[str, Any]) -> str:
    """Parameters, FLOPs, memory and time, each as a small table."""
    parameters, flops, hardware = estimate["parameters"], estimate["flops_per_token"], estimate["hardware"]
    lines = [
        f"{estimate['architecture']}: {parameters['total']:,} parameters, {parameters['active']:,} active a token, "
        f"{parameters['trainable']:,} trainable"
    ]
    for name, count in parameters["parts"].items():
        lines.append(f"  {name:<16} {count:>20,}  {count / parameters['total']:>6.1%}")
    apart = abs(flops["forward_counted"] / flops["forward"] - 1)
    lines += [
        "",
        f"FLOPs a token: {flops['forward']:.4g} forward (torch's counter: {apart:.2%} apart), "
        f"{flops['forward_and_backward']:.4g} with backward; sequences of {estimate['block_size']:,} tokens",
        "",
        f"GiB a device, {_counted(estimate['device_batch_size'], 'sequence')} at once".ljust(36)
        + "".join(f"{kind:>12}" for kind in KINDS)
        + f"{'total':>12}",
    ]
    for name, scheme in estimate["memory"].items():
        figures = "".join(f"{_gib(scheme['parts'][kind]):>12}" for kind in KINDS)
        fits = "fits" if scheme["fits"] else "does not fit"
        lines.append(f"  {name:<34}{figures}{_gib(scheme['total']):>12}  {fits}")
    time = estimate["time"]
    speed = f"{time['tokens_per_second']:,.0f} tokens/s"
    if time["days"] is not None:
        speed += f"; {time['tokens']:,} tokens take {_duration(time['days'])}"
    lines += [
        "",
        f"{hardware['num_devices']} x {hardware['device']} of {_gib(hardware['memory_bytes'])} GiB "
        f"at {hardware['utilization']:.0%} of their peak: {speed}",
        *(f"to make it fit: {advice}" for advice in estimate["advice"]),
    ]
    return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.2f}" if num_bytes < 100 * GIB else f"{num_bytes / GIB:,.0f}"


def _duration(days: float) -> str:
    if days >= 1:
        return f"{days:,.1f} days"
    return f"{days * 24:.1f} hours" if days * 24 >= 1 else f"{days * 1440:.1f} minutes"
