"""The parts of a network with what stands between them, row by row: so that the numbers follow from each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.telemetry.anatomy import Anatomy, Passed, Station

ADDED = "what is added"
ALIKE = 1e-3
"""Relative difference up to which two sizes count as one."""


@dataclass(frozen=True)
class PartRow:
    """A row of the table: a part, or what goes from one to the next where that is not what the part gave."""

    name: str
    kind: str
    rms: float | None
    gradient_norm: float | None
    station: Station | None = None
    """None of what stands between."""


@dataclass(frozen=True)
class Multiplier:
    """A number by which all are multiplied between two parts, forward and back alike."""

    before: str
    after: str
    factor: float


def rows_of(anatomy: Anatomy) -> list[PartRow]:
    """In the order of the forward pass. Of a record without figures of what stands between: the parts alone."""
    blocks = {one.name: one for one in anatomy.stations if one.kind == "block"}
    rows: list[PartRow] = []
    begun, before = set(), None
    for one in anatomy.stations:
        block = blocks.get(one.name, blocks.get(one.name.rpartition(".")[0]))
        if block and block.name not in begun:
            begun.add(block.name)
            if block.given and before and not _alike(before, block.given):
                rows.append(PartRow(f"into {block.name}", "what goes in", *_sizes(block.given)))
        rows.append(PartRow(one.name, one.kind, one.rms, one.gradient_norm, one))
        if one.normed:
            rows.append(PartRow(f"{one.name}, normed", ADDED, *_sizes(one.normed)))
        if one.kind in ("embedding", "block"):
            before = one
    if (outputs := _outputs(anatomy)) and anatomy.stations and not _alike(anatomy.stations[-1], outputs):
        rows.append(PartRow("outputs", "what the loss gets", *_sizes(outputs)))
    return rows


def multipliers_of(anatomy: Anatomy) -> list[Multiplier]:
    """The multipliers between the embedding and the first block, and between the head and the loss."""
    stations, outputs = anatomy.stations, _outputs(anatomy)
    embeddings = [one for one in stations if one.kind == "embedding"]
    first = next((one for one in stations if one.kind == "block"), None)
    ends: list[tuple[Station, str, Passed]] = []
    if len(embeddings) == 1 and first and first.given:
        ends.append((embeddings[0], first.name, first.given))
    if stations and outputs:
        ends.append((stations[-1], "the loss", outputs))
    return [Multiplier(one.name, after, factor) for one, after, passed in ends if (factor := _factor(one, passed))]


def _outputs(anatomy: Anatomy) -> Passed | None:
    loss = anatomy.loss
    return None if loss.outputs_rms is None else Passed(loss.outputs_rms, loss.gradient_norm)


def _sizes(passed: Passed) -> tuple[float, float | None]:
    return passed.rms, passed.gradient_norm


def _alike(station: Station, passed: Passed) -> bool:
    pairs = [(station.rms, passed.rms), (station.gradient_norm, passed.gradient_norm)]
    return all(a is None or b is None or math.isclose(a, b, rel_tol=ALIKE) for a, b in pairs)


def _factor(station: Station, passed: Passed) -> float | None:
    """By how much the numbers grow, where the gradient grows by as much on its way back."""
    if not (station.rms and passed.rms and station.gradient_norm and passed.gradient_norm):
        return None
    factor, back = passed.rms / station.rms, station.gradient_norm / passed.gradient_norm
    return factor if math.isclose(factor, back, rel_tol=ALIKE) and not math.isclose(factor, 1, rel_tol=ALIKE) else None
