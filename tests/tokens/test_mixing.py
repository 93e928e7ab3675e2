from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokens.artifacts import packed, write_split

from pipeline.corpus.document_shards import write_shards
from pipeline.corpus.documents import Document
from pipeline.errors import BadDataError
from pipeline.tasks import task_named
from pipeline.tokens.labelled_split import SEQUENCES
from pipeline.tokens.mixing import Epoch, MixedSource, MixtureConfig, draws_of, mix_sources
from pipeline.tokens.source_bounds import bounds_of_sources
from pipeline.tokens.token_streams import INDEX


def mixture(max_repeats: float = 4, **weights: float) -> MixtureConfig:
    return MixtureConfig(weights=weights, max_repeats=max_repeats)


@pytest.mark.parametrize(
    ("config", "windows", "draws"),
    [
        (mixture(books=0.3, web=0.7), {"books": 60, "web": 40}, {"books": 30, "web": 70}),
        (mixture(books=3, web=7), {"books": 60, "web": 40}, {"books": 30, "web": 70}),
        (mixture(books=60, web=40), {"books": 60, "web": 40}, {"books": 60, "web": 40}),  # each window once
        (mixture(books=0.5, web=0.5), {"books": 10, "web": 990}, {"books": 40, "web": 40}),  # four times, no more
        (mixture(1, books=0.5, web=0.5), {"books": 10, "web": 990}, {"books": 10, "web": 10}),
        (mixture(1.5, books=0.5, web=0.5), {"books": 10, "web": 990}, {"books": 15, "web": 15}),
        (mixture(books=0.1, web=0.2), {"books": 15, "web": 15}, {"books": 10, "web": 20}),  # no 0.30000000000000004
    ],
)
def test_draws(config: MixtureConfig, windows: dict[str, int], draws: dict[str, int]) -> None:
    assert draws_of(config, windows) == draws


SOURCES = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 20)), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(SOURCES, st.sampled_from([0.5, 1, 2.5, 4]))
def test_shares_are_those_asked_for_and_nothing_is_read_too_often(
    sources: list[tuple[int, int]], max_repeats: float
) -> None:
    windows = {f"s{n}": count for n, (count, _) in enumerate(sources)}
    weights = {f"s{n}": weight for n, (_, weight) in enumerate(sources)}
    try:
        draws = draws_of(mixture(max_repeats, **weights), windows)
    except BadDataError:
        return
    shares = {name: Fraction(weight, sum(weights.values())) for name, weight in weights.items()}
    longest = min(Fraction(max_repeats) * windows[name] / share for name, share in shares.items())
    length = min(longest, sum(windows.values()))
    for name, number in draws.items():
        assert number <= max_repeats * windows[name]
        assert 0 <= length * shares[name] - number < 1


def test_a_share_of_less_than_a_window_is_an_error() -> None:
    with pytest.raises(BadDataError, match=r"pack: a is 0\.001 of the mixture, .* raise pack\.mixture\.weights\.a,"):
        draws_of(mixture(a=1, b=999), {"a": 50, "b": 50})


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"bokks": 1, "web": 1}, r"no source is named 'bokks'; did you mean books\?"),
        (
            {"books": 1},
            r"web has no weight, which .*; give each one \(pack\.mixture\.weights\.web=1\), or take it out ",
        ),
        ({"books": 1, "web": 1, "exam": 1}, r"all of exam goes to the test split, and none is trained on"),
    ],
)
def test_names_are_those_of_the_sources_of_training(weights: dict[str, float], problem: str) -> None:
    sources = [SimpleNamespace(name=name, split=split) for name, split in
               (("books", None), ("web", "train"), ("exam", "test"))]  # fmt: skip
    mixture(books=1, web=2).check_sources(sources)
    with pytest.raises(ValueError, match=problem):
        mixture(**weights).check_sources(sources)


def test_all_sources_without_a_weight_are_named() -> None:
    sources = [SimpleNamespace(name=name, split=None) for name in ("books", "web", "code")]
    with pytest.raises(ValueError, match=r"books, code have no weight"):
        mixture(web=2).check_sources(sources)


def texts_of(*sources: str) -> list[Document]:
    return [Document(str(n), "t", source, str(n)) for n, source in enumerate(sources)]


def test_bounds_go_across_shards_and_their_copies(tmp_path: Path) -> None:
    """Documents of 3, 5, 2, 4 and 1 tokens, the last three of another source."""
    packed(tmp_path, [[9] * 3, [9] * 5, [9] * 2, [9] * 4, [9]], 4)
    for number, name in ((0, "shard-000000"), (1, "shard-000000b"), (2, "shard-000001"), (3, "shard-000002")):
        write_shards(tmp_path / "one", texts_of(*[["a"], ["a"], ["b", "b"], ["b"]][number]))
        (tmp_path / "train").mkdir(exist_ok=True)
        (shard,) = (tmp_path / "one").iterdir()
        shard.rename(tmp_path / "train" / f"{name}.parquet")
    assert bounds_of_sources(tmp_path / "train", tmp_path / "encode/test") == [
        {"name": "a", "documents": 2, "first_document": 0, "first_token": 0, "tokens": 8},
        {"name": "b", "documents": 3, "first_document": 2, "first_token": 8, "tokens": 7},
    ]


def test_a_split_without_documents_has_no_bounds(tmp_path: Path) -> None:
    write_split(tmp_path / "train", [])
    (tmp_path / INDEX).touch()
    assert bounds_of_sources(tmp_path / "train", tmp_path) == []


@pytest.mark.parametrize(("first", "windows"), [(8, (2, 2)), (9, (2, 2)), (10, (3, 1)), (12, (3, 1)), (15, (4, 0))])
def test_a_window_is_of_the_source_of_its_first_target(tmp_path: Path, first: int, windows: tuple[int, int]) -> None:
    """Targets 1 to 4, 5 to 8, 9 to 12 and 13 to 14 of 15 tokens."""
    split = packed(tmp_path, [[9] * 15], 4)
    found: list[dict[str, Any]] = [{"name": "a", "first_token": 0}, {"name": "b", "first_token": first}]
    bounds = task_named("causal_lm").first_windows(tmp_path / "pack/test", found)
    if 0 in windows:
        with pytest.raises(BadDataError, match=r"the training split has no window of b, which pack\.mixture names"):
            mix_sources(mixture(a=1, b=1), found, bounds, split)
        return
    sources = Epoch.of(split, mix_sources(mixture(a=1, b=1), found, bounds, split)).sources
    assert [(one.first_window, one.windows) for one in sources] == [(0, windows[0]), (windows[0], windows[1])]
    assert [one.target_tokens for one in sources] == [4 * windows[0], 14 - 4 * windows[0]]


def test_a_labelled_document_is_of_its_source(tmp_path: Path) -> None:
    np.save(tmp_path / SEQUENCES, [0, 1, 4, 5, 9])  # those between have no label
    found = [{"first_document": 0}, {"first_document": 4}, {"first_document": 6}, {"first_document": 7}]
    assert task_named("classification").first_windows(tmp_path, found) == [0, 2, 4, 4]


def test_an_epoch_counts_what_it_draws() -> None:
    sources = [MixedSource("a", 0, 4, 16, 6), MixedSource("b", 4, 3, 10, 1)]
    epoch = Epoch.of(None, {"max_repeats": 2, "sources": list(map(asdict, sources))})
    assert (epoch.windows, epoch.target_tokens) == (7, 6 * 4 + 3)
    assert epoch.reads(14) == {"a": 3.0, "b": pytest.approx(2 / 3)}
    assert epoch.read_too_often(9) == ""
    assert "reads a 2.14 times, more than pack.mixture.max_repeats 2" in epoch.read_too_often(10)


def test_without_a_mixture_an_epoch_is_the_split() -> None:
    class Split:
        target_tokens = 9

        def __len__(self) -> int:
            return 3

    epoch = Epoch.of(Split())
    assert (epoch.windows, epoch.target_tokens, epoch.reads(30), epoch.read_too_often(10**6)) == (3, 9, {}, "")
