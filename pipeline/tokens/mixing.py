"""Mixtures of sources: how often training reads the windows of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import BadDataError
from pipeline.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterable


class MixtureConfig(Section):
    """Shares of the sources in what training reads. No document is copied or left out: windows are drawn in the order
    of training."""

    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """The share of each source, by its name, relative to the others: of the tokens that training reads, or of the
    documents where each has one label. Every source of the training split is named."""

    max_repeats: float = Field(default=4.0, gt=0)
    """How often an epoch reads a window at most, on average over its source. An epoch has as many windows as the
    training split, or fewer where a source would be read more often."""

    def check_sources(self, sources: Iterable[Any]) -> None:
        """Raises ValueError where the weights are not those of the sources that training may read."""
        to_split = {source.name: source.split for source in sources}
        for name in self.weights:
            if name not in to_split:
                raise ValueError(f"pack.mixture.weights: no source is named {name!r}{did_you_mean(name, to_split)}")
            if to_split[name] not in (None, "train"):
                raise ValueError(
                    f"pack.mixture.weights: all of {name} goes to the {to_split[name]} split, and none is trained on; "
                    "leave it out"
                )
        left_out = [name for name, split in to_split.items() if split in (None, "train") and name not in self.weights]
        if left_out:
            has = "has" if len(left_out) == 1 else "have"
            raise ValueError(
                f"pack.mixture.weights: {', '.join(left_out)} {has} no weight, which every source of training needs; "
                f"give each one (pack.mixture.weights.{left_out[0]}=1), or take it out of the list ingest.sources"
            )


@dataclass(frozen=True)
class MixedSource:
    """A source's windows of the training split, which lie beside each other, and how many an epoch draws of them."""

    name: str
    first_window: int
    windows: int
    target_tokens: int
    draws: int

    @property
    def repeats(self) -> float:
        """How often an epoch reads each of its windows, on average."""
        return self.draws / self.windows


@dataclass(frozen=True)
class Epoch:
    """What training reads until it begins anew: windows and, on average, their targets. Without a mixture each window
    of the split once."""

    windows: int
    target_tokens: int
    sources: tuple[MixedSource, ...] = ()
    """Of a mixture."""

    max_repeats: float | None = None
    """Of a mixture."""

    @classmethod
    def of(cls, split: Any, mixture: Mapping[str, Any] | None = None) -> Epoch:
        """An epoch of a split, with the mixture that its pack.json has, or None."""
        if mixture is None:
            return cls(len(split), split.target_tokens)
        sources = [MixedSource(**source) for source in mixture["sources"]]
        targets = sum(one.draws * one.target_tokens // one.windows for one in sources)
        return cls(sum(one.draws for one in sources), targets, tuple(sources), mixture["max_repeats"])

    def reads(self, num_windows: int) -> dict[str, float]:
        """How often a training of so many windows reads each source of the mixture."""
        return {one.name: num_windows / self.windows * one.repeats for one in self.sources}

    def read_too_often(self, num_windows: int) -> str:
        """A warning where a training of so many windows reads a source more often than `max_repeats`; else ""."""
        name, times = max(self.reads(num_windows).items(), key=lambda one: one[1], default=("", 0.0))
        if self.max_repeats is None or times <= self.max_repeats:
            return ""
        return (
            f"the training reads {name} {times:.3g} times, more than pack.mixture.max_repeats {self.max_repeats:g}: it "
            f"is longer than an epoch of the mixture; give a lower weight to {name}, or more text"
        )


def draws_of(config: MixtureConfig, windows: Mapping[str, int]) -> dict[str, int]:
    """How many windows an epoch draws of each source, which have so many. Raises BadDataError where it is none."""
    weights = {name: Fraction(str(config.weights[name])) for name in windows}
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    most = Fraction(str(config.max_repeats))
    length = min(Fraction(sum(windows.values())), *(most * windows[name] / share for name, share in shares.items()))
    draws = {name: floor(share * length) for name, share in shares.items()}
    for name, number in draws.items():
        if number == 0:
            raise BadDataError(
                f"pack: {name} is {float(shares[name]):.2g} of the mixture, which is less than one of the "
                f"{floor(length):,} windows of an epoch; raise pack.mixture.weights.{name}, give more text, or lower "
                "pack.block_size"
            )
    return draws


def mix_sources(
    config: MixtureConfig, found: Sequence[Mapping[str, Any]], bounds: Sequence[int], split: Any
) -> dict[str, Any]:
    """The mixture of sources for a split's pack.json. encode.json describes the sources so; their windows begin at
    `bounds`.

    Raises BadDataError for a source that has no window.
    """
    names = [source["name"] for source in found]
    assert len(set(names)) == len(names), "the documents of a source do not lie beside each other"
    windows = {name: range(*ends) for name, ends in zip(names, pairwise([*bounds, len(split)]), strict=True)}
    for name in config.weights:
        if not windows.get(name):
            raise BadDataError(
                f"pack: the training split has no window of {name}, which pack.mixture names; give it more text, lower "
                "pack.block_size, or leave it out of ingest.sources and of the mixture"
            )
    draws = draws_of(config, {name: len(own) for name, own in windows.items()})
    sources = [
        MixedSource(name, own.start, len(own), split.num_targets(own), draws[name]) for name, own in windows.items()
    ]
    return {"max_repeats": config.max_repeats, "sources": [asdict(source) for source in sources]}


def read_mixture(pack_folder: Path) -> dict[str, Any] | None:
    """The mixture of the training split; None where there is none."""
    found: dict[str, Any] | None = json.loads((pack_folder / "train/pack.json").read_bytes()).get("mixture")
    return found
