"""What a change of settings does on held-out text: pairs of runs with the same seed, compared document by document."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadDataError, ConfigError
from pipeline.evaluation.intervals import CONFIDENCE, Interval
from pipeline.evaluation.scored_documents import ScoredDocuments
from pipeline.evaluation.scores import BYTES, bits_of

FEWEST_SHARED = 100
"""With fewer documents nothing is said."""

LEAKED_SHARE = 0.01
"""Where more of an arm's test documents overlap with its training documents, that is told."""

ARMS = ("base", "changed")


@dataclass(frozen=True)
class Arm:
    """A run of a pair."""

    name: str
    tests: Path
    """Folder of its test documents."""
    evaluation: Path | None
    """Folder of its evaluation, once it is there."""

    @property
    def leaked(self) -> float:
        """The part of its test documents that overlaps with training documents, as curate has measured it."""
        found = json.loads((self.tests.parent / "leakage.json").read_text())
        return float(found.get("test", {}).get("share", 0.0))


def shared_documents(folders: Sequence[Path]) -> tuple[list[str], int]:
    """The ids of the test documents that stand in all these folders with the same text, and how many others the first
    has.

    Raises ConfigError when there are fewer than FEWEST_SHARED.
    """
    first, *others = (_texts_of(folder) for folder in dict.fromkeys(folders))
    shared = sorted(id for id, text in first.items() if all(other.get(id) == text for other in others))
    if len(shared) < FEWEST_SHARED:
        raise ConfigError(
            f"ablate: {len(shared)} test documents are the same in all runs, of {len(first)} in the first; at least "
            f"{FEWEST_SHARED} are needed: raise curate.test_fraction, or change a setting that leaves them as they are"
        )
    return shared, len(first) - len(shared)


def _texts_of(folder: Path) -> dict[str, bytes]:
    from pipeline.corpus.document_shards import read_documents

    return {one.id: hashlib.blake2b(one.text.encode(), digest_size=16).digest() for one in read_documents(folder)}


def compare_arms(changes: Sequence[str], pairs: Mapping[int, Sequence[Arm]]) -> dict[str, Any]:
    """All that `descent ablate` says, as JSON values. `pairs` has for each seed the runs of ARMS.

    `change` is bits per byte of the changed runs less those of the others, over the documents that all share.
    """
    shared, left_out = shared_documents([arm.tests for pair in pairs.values() for arm in pair])
    rows = {seed: [_rows_of(arm, shared) for arm in pair] for seed, pair in pairs.items()}
    sizes = next(iter(rows.values()))[0][:, BYTES]
    differences = np.array([bits_of(changed) - bits_of(base) for base, changed in rows.values()])
    change, interval = change_of(differences, sizes)
    runs = [
        {
            "seed": seed,
            **{name: _figures(*one) for name, one in zip(ARMS, zip(pair, rows[seed], strict=True), strict=True)},
        }
        for seed, pair in pairs.items()
    ]
    return {
        "changes": list(changes),
        "metric": "bits_per_byte",
        "documents": len(shared),
        "left_out": left_out,
        "runs": runs,
        "change": change,
        "interval": interval,
        "verdict": verdict_on(change, interval),
        "leaked": {name: max(pair[number].leaked for pair in pairs.values()) for number, name in enumerate(ARMS)},
    }


def _rows_of(arm: Arm, shared: Sequence[str]) -> NDArray[np.float64]:
    """The `Totals` of the documents, in their order."""
    scored = ScoredDocuments.read(arm.evaluation) if arm.evaluation is not None else None
    totals = scored.totals if scored is not None else None
    if scored is None or totals is None:
        raise BadDataError(f"ablate: the evaluation of {arm.name} has no losses of single documents")
    place = {id: number for number, id in enumerate(scored.columns["id"].tolist())}
    return totals[[place[id] for id in shared]]


def _figures(arm: Arm, rows: NDArray[np.float64]) -> dict[str, Any]:
    return {"run": arm.name, "bits_per_byte": float(bits_of(rows).sum() / rows[:, BYTES].sum())}


def change_of(differences: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[float, Interval | None]:
    """The mean change in bits per byte, from differences in bits (seeds, documents) and the bytes of each document; and
    its 95 % interval, None of a single seed.

    The change would be another with other seeds and with other documents. The variances of both are added, less what
    is in each of them, and the interval is that of Student's t with the degrees of freedom of Satterthwaite 1946: a
    bootstrap over three seeds would cover far less than it says.
    """
    num_seeds, num_documents = differences.shape
    per_seed = differences.sum(1) / sizes.sum()
    change = float(per_seed.mean())
    if num_seeds < 2:
        return change, None
    of_seeds = float(per_seed.var(ddof=1)) / num_seeds
    by_document = differences.mean(0) - change * sizes
    scale = num_documents / (num_documents - 1) / sizes.sum() ** 2
    of_documents = float((by_document**2).sum()) * scale
    both = differences - per_seed[:, None] * sizes - by_document
    of_both = float((both**2).sum()) * scale / (num_seeds - 1) / num_seeds  # is in each of the other two
    variance = of_documents + max(0.0, of_seeds - of_both)
    if variance == 0:
        return change, (change, change)
    parts = (of_seeds, num_seeds - 1), (of_documents, num_documents - 1)
    freedom = variance**2 / sum(part**2 / own for part, own in parts) if of_seeds > of_both else num_documents - 1
    half = _quantile_of_t(freedom) * math.sqrt(variance)
    return change, (change - half, change + half)


def _quantile_of_t(freedom: float) -> float:
    """How many standard errors of Student's t lie on either side of the mean within CONFIDENCE.

    With x = sqrt(freedom) tan(angle) its density is a power of cos(angle).
    """
    freedom = min(freedom, 1e6)
    angles = np.linspace(0, math.pi / 2, 400_001)[:-1]
    density = np.cos(angles) ** (freedom - 1)
    covered = np.cumsum(density) - density / 2 - density[0] / 2
    return math.sqrt(freedom) * math.tan(
        float(np.interp(CONFIDENCE, covered / (density.sum() - density[0] / 2), angles))
    )


def verdict_on(change: float, interval: Interval | None) -> str:
    """What a change is worth, in words."""
    if interval is None:
        return "no measurable benefit: one seed does not tell what chance does; give --seeds 3"
    if interval[0] <= 0 <= interval[1]:
        return "no measurable benefit: the change may be chance"
    return "better: fewer bits per byte" if change < 0 else "worse: more bits per byte"


def format_ablation(found: Mapping[str, Any]) -> str:
    """The same as a table and a sentence."""
    lines = [f"{'seed':<12}{'base':>10}{'changed':>10}{'change':>10}   bits per byte"]
    for run in found["runs"]:
        base, changed = (run[arm]["bits_per_byte"] for arm in ARMS)
        lines.append(f"{run['seed']:<12}{base:>10.4f}{changed:>10.4f}{changed - base:>+10.4f}")
    interval = found["interval"]
    between = f"   ({interval[0]:+.4f} to {interval[1]:+.4f})" if interval else ""
    lines.append(f"{'mean':<32}{found['change']:>+10.4f}{between}")
    others = f"; {found['left_out']:,} are not in all runs" if found["left_out"] else ""
    lines += [
        "",
        f"{' '.join(found['changes'])}: {found['verdict']}",
        f"on {found['documents']:,} test documents{others}",
    ]
    leaked = found["leaked"]
    if max(leaked.values()) > LEAKED_SHARE:
        shares = " and ".join(f"{share:.1%} ({name})" for name, share in leaked.items())
        lines.append(
            f"{shares} of the test documents overlap with training documents: the figures flatter what has more"
        )
    return "\n".join(lines)
