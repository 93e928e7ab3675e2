"""Near-duplicates go, and what is alike shares a split."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from harness import tells

from pipeline.corpus import document_shards, shuffle
from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.docstrings import library_files, read_python_docs
from pipeline.corpus.document_shards import read_documents, write_shards
from pipeline.corpus.documents import Document, SplitName
from pipeline.engine.stage import StageContext
from pipeline.errors import BadDataError
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress
from pipeline.stages.curate import STAGE

Found = dict[str, str]
"""The split of each document that stays, by its origin."""


class Corpus:
    """Documents in shards of their own, to be curated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_shards = 0

    def add(self, texts: Sequence[str], source: str = "s", groups: Sequence[str | None] = (), **options: Any) -> None:
        """A shard of documents; the origin of each is its source and its number."""
        documents = [
            Document(f"{source}-{n}", text, source, f"{source}-{n}", group=groups[n] if groups else None)
            for n, text in enumerate(texts)
        ]
        (self.folder / "parts").mkdir(parents=True, exist_ok=True)
        write_shards(self.folder / "parts" / str(self.num_shards), documents, **options)
        self.num_shards += 1

    def curate(self, *, workers: int = 1, order: Sequence[int] = (), **settings: Any) -> dict[str, Any]:
        """Curate the shards, in the order of their numbers or another. Gives the summary, with the split of each
        document that stays as `found`."""
        name = f"{len(list(self.folder.iterdir()))}"
        paths = [
            path for n in order or range(self.num_shards) for path in sorted((self.folder / "parts" / str(n)).iterdir())
        ]
        given = self.folder / name / "in"
        given.mkdir(parents=True)
        for number, path in enumerate(paths):
            (given / document_shards.shard_name(number)).hardlink_to(path)
        self.output = self.folder / name / "out"
        self.output.mkdir()
        config = CurateConfig.model_validate(
            {"filters": [], "validation_fraction": 0.2, "test_fraction": 0.2} | settings
        )
        with LocalSession(workers) as session:
            context = StageContext(config, 0, {"normalize": given}, self.output, None, workers, Progress("x"), session)
            summary = STAGE.run(context)
        summary["found"] = {
            document.origin: split for split in summary["splits"] for document in read_documents(self.output / split)
        }
        return summary

    def digests(self) -> dict[str, str]:
        """The digest of each file of the last result."""
        paths = sorted(path for path in self.output.rglob("*") if path.is_file())
        return {str(path.relative_to(self.output)): blake2b(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def word_pairs(text: str) -> set[tuple[str, str]]:
    return set(pairwise(re.findall(r"\w+", text.casefold())))


def similarity(some: str, other: str) -> float:
    """The exact Jaccard similarity of the pairs of words of two texts."""
    mine, theirs = word_pairs(some), word_pairs(other)
    return len(mine & theirs) / len(mine | theirs)


def random_text(draw: random.Random, num_words: int) -> list[str]:
    return [f"w{draw.randrange(10**9)}" for _ in range(num_words)]


def planted(at: float, count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of texts that are `at` similar, or the least possible above (below where `at` is negative)."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(count):
        words = random_text(draw, draw.randint(60, 140))
        size = len(words) - 1
        shared = 2 * size * abs(at) / (1 + abs(at))
        kept = (int(shared) if at < 0 else -int(-shared // 1)) + 1
        pairs.append((" ".join(words), " ".join([*words[:kept], *random_text(draw, len(words) - kept)])))
    return pairs


@pytest.mark.parametrize("same_split_at", [0.3, None])
@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_planted_duplicates_are_found_and_others_stay(
    corpus: Corpus, threshold: float, same_split_at: float | None
) -> None:
    count = 400
    alike, unlike = planted(threshold + 0.1, count, 1), planted(-(threshold - 0.1), count, 2)
    assert all(threshold + 0.1 <= similarity(*pair) < threshold + 0.13 for pair in alike[:100])
    assert all(threshold - 0.13 < similarity(*pair) <= threshold - 0.1 for pair in unlike[:100])
    # A pair's second text comes some thousand documents after the first.
    corpus.add([pair[0] for pair in alike + unlike], "first")
    corpus.add([pair[1] for pair in alike + unlike], "second")
    found = corpus.curate(near_duplicates={"drop_at": threshold, "same_split_at": same_split_at})["found"]
    assert all(f"first-{n}" in found for n in range(2 * count))
    recall = sum(f"second-{n}" not in found for n in range(count)) / count
    precision = sum(f"second-{n}" in found for n in range(count, 2 * count)) / count
    assert recall >= 0.95
    assert precision >= 0.99


@cache
def paragraphs() -> list[str]:
    """Different paragraphs of the Python documentation of 40 words or more."""
    texts = (text for _, text in read_python_docs(library_files()))
    found = (part for text in texts for part in text.split("\n\n") if len(re.findall(r"\w+", part)) >= 40)
    return list({tuple(re.findall(r"\w+", part)[:12]): part for part in found}.values())


def changed(draw: random.Random, text: str, words: Sequence[str]) -> str:
    """A tenth of the words of a text replaced by others."""
    return re.sub(r"\S+", lambda word: draw.choice(words) if draw.random() < 0.1 else word[0], text)


@pytest.mark.slow
def test_copies_of_a_paragraph_with_a_tenth_of_its_words_changed_share_a_split(corpus: Corpus) -> None:
    draw = random.Random(7)
    base = draw.sample(paragraphs(), 300)
    words = [word for text in paragraphs() for word in text.split()]
    copies = [(n, changed(draw, text, words)) for n, text in enumerate(base) for _ in range(20)]
    draw.shuffle(copies)
    for start in range(0, len(copies), 2000):
        corpus.add([text for _, text in copies[start : start + 2000]], f"s{start}")
    place = {f"s{n - n % 2000}-{n % 2000}": paragraph for n, (paragraph, _) in enumerate(copies)}

    def apart(found: Found) -> int:
        """Copies that are not in the split where most of their paragraph are."""
        splits: dict[int, Counter[str]] = defaultdict(Counter)
        for origin, split in found.items():
            splits[place[origin]][split] += 1
        return sum(count.total() - max(count.values()) for count in splits.values())

    curated = corpus.curate(near_duplicates={"drop_at": None})
    assert len(curated["found"]) >= 5980  # some have no word changed
    assert apart(curated["found"]) <= 60
    # Paragraphs that are not alike stay apart: there are about as many clusters as paragraphs.
    assert curated["near_duplicates"]["clusters"] > 280
    assert curated["near_duplicates"]["largest_cluster"] <= 60
    alone = corpus.curate(near_duplicates=None)
    assert apart(alone["found"]) > 1500


def versions(number: int, count: int, seed: int = 0) -> list[str]:
    """Texts of 40 words of which two were changed."""
    draw = random.Random(f"{number} {seed}")
    words = random_text(random.Random(f"family {number}"), 40)
    texts = []
    for _ in range(count):
        own = list(words)
        for place in draw.sample(range(40), 2):
            own[place] = f"x{draw.randrange(10**9)}"
        texts.append(" ".join(own))
    return texts


def mixed_corpus(corpus: Corpus, seed: int = 0) -> None:
    """Four shards of several sources: texts alone, repeats, and near-duplicates that lie in all of them."""
    families = [versions(n, 8, seed) for n in range(60)]
    for shard in range(4):
        alone = [" ".join(random_text(random.Random(f"{shard} {n}"), 30)) for n in range(100)]
        corpus.add([*alone, *(text for family in families for text in family[2 * shard : 2 * shard + 2])], f"s{shard}")
    corpus.add([families[3][1].upper(), families[4][0], "", "word", "word"], "repeats")


def family_of(origin: str) -> int | None:
    source, number = origin[1:].split("-") if origin.startswith("s") else ("", "0")
    return (int(number) - 100) // 2 if source and int(number) >= 100 else None


def test_clusters_reach_over_shards_and_none_is_in_two_splits(corpus: Corpus) -> None:
    mixed_corpus(corpus)
    curated = corpus.curate(near_duplicates={"drop_at": None})
    splits = defaultdict(set)
    for origin, split in curated["found"].items():
        splits[family_of(origin)].add(split)
    del splits[None]
    assert len(splits) == 60
    assert all(len(own) == 1 for own in splits.values())
    assert Counter(split for own in splits.values() for split in own).keys() == {"train", "validation", "test"}
    assert curated["near_duplicates"] == {
        "dropped": 0, "clusters": 60, "documents_in_clusters": 480, "largest_cluster": 8, "recall": 0.9915
    }  # fmt: skip
    assert curated["dropped"] == {"no visible characters": 1, "repeats an earlier document": 3}

    # Each document that goes is like one that stays; here that is the family's first.
    fewer = corpus.curate(near_duplicates={"drop_at": 0.45})
    left = Counter(family_of(origin) for origin in fewer["found"])
    del left[None]
    assert set(left.values()) == {1}
    assert fewer["near_duplicates"]["dropped"] == 60 * 7
    assert fewer["dropped"]["near-duplicate of an earlier document"] == 60 * 7
    assert any(tells(warning, "424 of 885 documents (48%)", "420 near-duplicate of") for warning in fewer["warnings"])


def test_files_are_the_same_for_any_number_of_workers_and_of_parts(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed_corpus(corpus)
    monkeypatch.setattr("pipeline.executors.base_session.WORKER_BYTES", 1)
    found = []
    for workers in (1, 3):
        corpus.curate(workers=workers)
        found.append(corpus.digests())
    assert found[0] == found[1]
    monkeypatch.setattr(shuffle, "PART_BYTES", 20_000)
    monkeypatch.setattr(shuffle, "RUN_BYTES", 3_000)
    corpus.curate()
    assert corpus.digests() == found[0]


def test_the_split_of_a_text_does_not_depend_on_the_order_of_sources(corpus: Corpus) -> None:
    mixed_corpus(corpus)
    there = corpus.curate(near_duplicates={"drop_at": None})["found"]
    back = corpus.curate(near_duplicates={"drop_at": None}, order=[4, 2, 3, 1, 0])["found"]
    differing = {origin for origin in there.keys() & back.keys() if there[origin] != back[origin]}
    assert differing == set()
    # A text without others like it goes where it would go without clusters.
    alone = corpus.curate(near_duplicates=None)["found"]
    assert all(alone[origin] == split for origin, split in there.items() if family_of(origin) is None)


def test_documents_of_a_group_share_a_split(corpus: Corpus) -> None:
    draw = random.Random(5)
    texts = [" ".join(random_text(draw, 20)) for _ in range(400)]
    names = [None if n % 4 == 0 else f"patient {n % 37}" for n in range(400)]
    corpus.add(texts[:250], "a", names[:250])
    corpus.add(texts[250:], "b", names[250:])
    for near in ({}, None):
        found = corpus.curate(near_duplicates=near)["found"]
        splits = defaultdict(set)
        for origin, split in found.items():
            splits[names[int(origin[2:]) + (250 if origin[0] == "b" else 0)]].add(split)
        assert splits.pop(None) == {"train", "validation", "test"}
        assert len(splits) == 37
        assert all(len(own) == 1 for own in splits.values())


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_a_source_with_a_split_decides_for_its_clusters(corpus: Corpus, split: SplitName) -> None:
    families = [versions(n, 4) for n in range(30)]
    alone = [" ".join(random_text(random.Random(n), 30)) for n in range(100)]
    corpus.add([*alone, *(text for family in families for text in family[:3])], "web")
    corpus.add([family[3] for family in families[:20]], "own", to_split=split)
    curated = corpus.curate(near_duplicates={"drop_at": None, "same_split_at": 0.5})
    found = curated["found"]
    assert {found[f"own-{n}"] for n in range(20)} == {split}
    relatives = [f"web-{100 + 3 * n + k}" for n in range(20) for k in range(3)]
    if split == "train":
        assert {found[origin] for origin in relatives} == {"train"}
        assert curated["dropped"] == {}
    else:
        assert not found.keys() & set(relatives)
        assert sum(curated["dropped"].values()) == 60
        assert set(curated["dropped"]) <= {f"in a cluster of the {split} source", f"in the {split} source"}


def test_a_held_out_split_is_not_one_template(corpus: Corpus) -> None:
    """Each text is most of the corpus for some seed of the family: none may fill the test split."""
    for seed in range(12):
        folder = Corpus(corpus.folder / str(seed))
        alone = [" ".join(random_text(random.Random(n), 30)) for n in range(200)]
        folder.add([*alone, *versions(1000 + seed, 30)])
        curated = folder.curate(near_duplicates={"drop_at": None})
        assert {curated["found"][f"s-{n}"] for n in range(200, 230)} == {"train"}
        assert any(tells(one, "30 of 230 documents", "one cluster") for one in curated["warnings"])


def test_clusters_that_leave_a_split_empty_are_named(corpus: Corpus) -> None:
    corpus.add(versions(1, 50))
    with pytest.raises(BadDataError) as error:
        corpus.curate(near_duplicates={"drop_at": None})
    assert tells(str(error.value), "no document fell into validation", "raise curate.near_duplicates.same_split_at")


def test_texts_without_words_are_like_nothing(corpus: Corpus) -> None:
    draw = random.Random(1)
    signs = ["".join(draw.choice("!?;:+*=<>") for _ in range(40)) for _ in range(200)]
    corpus.add(signs)
    curated = corpus.curate()
    assert curated["documents_out"] == 200
    assert curated["near_duplicates"]["clusters"] == 0


def test_where_repeats_stay_near_duplicates_do_and_share_their_split(corpus: Corpus) -> None:
    families = [versions(n, 5) for n in range(40)]
    corpus.add([text for family in families for text in [*family, family[2]]])
    curated = corpus.curate(deduplicate="none")
    assert curated["dropped"] == {}
    found = curated["found"]
    assert all(len({found[f"s-{6 * n + k}"] for k in range(6)}) == 1 for n in range(40))
    assert curated["near_duplicates"]["documents_in_clusters"] == 240
    assert corpus.curate(deduplicate="none", near_duplicates={"same_split_at": None})["documents_out"] == 240


@pytest.mark.slow
def test_near_duplicates_are_those_that_datasketch_finds(corpus: Corpus) -> None:
    """Documents clearly above or below the threshold, by exact similarity to those that stay, are judged alike."""
    datasketch = pytest.importorskip("datasketch")
    draw = random.Random(3)
    words = [word for text in paragraphs() for word in text.split()]
    texts = [changed(draw, text, words) for text in draw.sample(paragraphs(), 60) for _ in range(10)]
    texts += [changed(draw, changed(draw, text, words), words) for text in texts[::3]]
    draw.shuffle(texts)
    corpus.add(texts)
    ours = {int(origin[2:]) for origin in corpus.curate(near_duplicates={"drop_at": 0.6})["found"]}
    index, signatures, theirs = datasketch.MinHashLSH(threshold=0.6, num_perm=216), {}, set()
    for number, text in enumerate(texts):
        signature = datasketch.MinHash(num_perm=216, seed=1)
        signature.update_batch([" ".join(pair).encode() for pair in word_pairs(text)])
        if all(signature.jaccard(signatures[other]) < 0.6 for other in index.query(signature)):
            signatures[number] = signature
            index.insert(number, signature)
            theirs.add(number)

    pairs = list(map(word_pairs, texts))

    def closest(number: int, stay: set[int]) -> float:
        """The exact similarity to the one most alike of those before it that stay."""
        earlier = (len(pairs[number] & pairs[n]) / len(pairs[number] | pairs[n]) for n in stay if n < number)
        return max(earlier, default=0)

    assert 150 < len(theirs) < len(texts) - 150
    for stay, most in ((ours, 0.005), (theirs, 0.03)):  # their index of bands misses some
        found = {number: closest(number, stay) for number in range(len(texts))}
        clear = {number: alike for number, alike in found.items() if not 0.5 < alike < 0.7}
        wrong = sum((number in stay) == (alike >= 0.7) for number, alike in clear.items())
        assert wrong <= most * len(clear)
