from __future__ import annotations

import math
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tokens.artifacts import write_split, write_streams

from pipeline.corpus.document_shards import read_texts
from pipeline.evaluation.baselines import base_baseline, xz_compression
from pipeline.evaluation.baselines.base_baseline import Texts
from pipeline.evaluation.baselines.bigram import bigram
from pipeline.evaluation.baselines.unigram import unigram
from pipeline.evaluation.baselines.xz_compression import compressed_size, xz
from pipeline.tokens.packed_split import PackedSplit

RANDOM = random.Random(5)
WORDS = ["".join(RANDOM.choices("abcdefghij", k=RANDOM.randint(2, 9))) for _ in range(400)]


def texts(seed: int, number: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=60)) for _ in range(number)]


def texts_of(root: Path, train: list[list[int]], test: list[list[int]], bits: int = 0, **settings: object) -> Texts:
    write_streams(root, {"train": train, "test": test}, block_size=4, vocab_size=10)
    splits = (PackedSplit.open(root / "pack", root / "encode", split) for split in ("train", "test"))
    return Texts(*(replace(split, **settings) for split in splits), root / "train", root / "test", bits)


def test_unigram_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_baseline, "IDS_AT_ONCE", 2)
    # 6 training tokens and one more for each of 10: 5 was seen thrice, 7 never, the end of document twice.
    bits = [-math.log2(4 / 16) - math.log2(1 / 16) - math.log2(3 / 16), -math.log2(3 / 16)]
    for charge in (0, 1):
        texts = texts_of(tmp_path / str(charge), [[5, 5, 5, 1], [6, 1]], [[5, 7, 1], [1]], charge)
        assert unigram(texts)["unigram"].bits == pytest.approx([one + charge for one in bits], rel=1e-12)


@pytest.mark.parametrize("prefix", [(), (2,)])
def test_bigram_is_its_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: tuple[int, ...]) -> None:
    """Against dictionaries of pairs; the stream is read in parts, and tokens before every text are context alone."""
    monkeypatch.setattr(base_baseline, "IDS_AT_ONCE", 3)
    draw = random.Random(4)
    train, test = (
        [[*prefix, *draw.choices([5, 6, 7, 8], k=draw.randint(0, 5)), 1] for _ in range(number)] for number in (9, 6)
    )
    test[2][-1:] = [9, 5, 1]  # 9 was never seen
    found = bigram(texts_of(tmp_path, train, test, prefix_token_ids=prefix))["bigram"].bits

    def tokens(documents: list[list[int]]) -> Iterator[tuple[int, int | None, int]]:
        before = None
        for number, document in enumerate(documents):
            for position, token in enumerate(document):
                if position >= len(prefix):
                    yield number, before, token
                before = token

    pairs: dict[int | None, list[int]] = {}
    for _, before, token in tokens(train):
        pairs.setdefault(before, []).append(token)
    every = [token for _, _, token in tokens(train)]
    expected = [0.0] * len(test)
    for number, before, token in tokens(test):
        alone = (every.count(token) + 1) / (len(every) + 10)
        after = pairs.get(before, []) if before is not None else []
        kinds = len(set(after))
        chance = (after.count(token) + kinds * alone) / (len(after) + kinds) if after else alone
        expected[number] -= math.log2(chance)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.skipif(shutil.which("xz") is None, reason="needs the xz tool")
def test_sizes_are_the_tools(tmp_path: Path) -> None:
    for seed, number in ((1, 1), (2, 300)):
        data = "\n".join(texts(seed, number)).encode()
        # One block, as all versions wrote before 5.6; a thread's blocks carry a few bytes of sizes more.
        tool = subprocess.run(["xz", "-9", "-T1", "--stdout"], input=data, stdout=subprocess.PIPE, check=True)
        assert compressed_size([data[:1000], data[1000:]]) == len(tool.stdout)


def test_xz_alone_and_primed(tmp_path: Path) -> None:
    train, test = texts(1, 300), texts(2, 40)
    write_split(tmp_path / "train", train)
    write_split(tmp_path / "test", test)
    results = xz(folders := Texts(None, None, tmp_path / "train", tmp_path / "test", num_workers=2))
    train_file, test_file = ("".join(text + "\n" for text in part).encode() for part in (train, test))
    alone, primed = (results[name].bits / 8 for name in ("xz", "xz_primed"))
    assert alone == pytest.approx(compressed_size([test_file]))
    assert primed == pytest.approx(compressed_size([train_file + test_file]) - compressed_size([train_file]))
    assert primed < alone
    assert results == xz(replace(folders, num_workers=1))


def test_the_prime_is_the_end_of_the_training_text(tmp_path: Path) -> None:
    for shard in range(3):
        write_split(tmp_path / str(shard), [f"{shard}a", f"{shard}é"])
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / str(shard) / "shard-000000.parquet").rename(tmp_path / f"train/shard-00000{shard}.parquet")
    whole = "".join(text + "\n" for text in read_texts(tmp_path / "train")).encode()
    assert len(whole) == 21
    for limit in (3, 7, 8, 20, 21, 100):
        assert xz_compression._last_bytes(tmp_path / "train", limit) == whole[-limit:]
    for shard in (0, 1):  # which are not opened where the last one is enough
        (tmp_path / f"train/shard-00000{shard}.parquet").write_bytes(b"")
    assert xz_compression._last_bytes(tmp_path / "train", 7) == whole[-7:]
