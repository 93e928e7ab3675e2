from __future__ import annotations

import math
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tokens.artifacts import write_split, write_streams

from pipeline.corpus.document_shards import read_texts
from pipeline.evaluation import baselines
from pipeline.evaluation.baselines import compressed_size, unigram, xz
from pipeline.tokens.packed_split import PackedSplit

RANDOM = random.Random(5)
WORDS = ["".join(RANDOM.choices("abcdefghij", k=RANDOM.randint(2, 9))) for _ in range(400)]


def texts(seed: int, number: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=60)) for _ in range(number)]


def test_unigram_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "IDS_AT_ONCE", 2)
    write_streams(tmp_path, {"train": [[5, 5, 5, 1], [6, 1]], "test": [[5, 7, 1]]}, block_size=4, vocab_size=10)
    train, test = (PackedSplit.open(tmp_path / "pack", tmp_path / "encode", split) for split in ("train", "test"))
    # 6 training tokens and one more for each of 10: 5 was seen thrice, 7 never, the end of document twice.
    bits = -math.log2(4 / 16) - math.log2(1 / 16) - math.log2(3 / 16)
    assert np.sum(unigram(train, test).bits) == pytest.approx(bits, rel=1e-12)
    assert np.sum(unigram(train, test, 1).bits) == pytest.approx(bits + 1, rel=1e-12)


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
    results = xz(tmp_path / "train", tmp_path / "test", 2)
    train_file, test_file = ("".join(text + "\n" for text in part).encode() for part in (train, test))
    alone, primed = (results[name].bits / 8 for name in ("xz", "xz_primed"))
    assert alone == pytest.approx(compressed_size([test_file]))
    assert primed == pytest.approx(compressed_size([train_file + test_file]) - compressed_size([train_file]))
    assert primed < alone
    assert results == xz(tmp_path / "train", tmp_path / "test", 1)


def test_the_prime_is_the_end_of_the_training_text(tmp_path: Path) -> None:
    for shard in range(3):
        write_split(tmp_path / str(shard), [f"{shard}a", f"{shard}é"])
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / str(shard) / "shard-00000.parquet").rename(tmp_path / f"train/shard-0000{shard}.parquet")
    whole = "".join(text + "\n" for text in read_texts(tmp_path / "train")).encode()
    assert len(whole) == 21
    for limit in (3, 7, 8, 20, 21, 100):
        assert baselines._last_bytes(tmp_path / "train", limit) == whole[-limit:]
    for shard in (0, 1):  # which are not opened where the last one is enough
        (tmp_path / f"train/shard-0000{shard}.parquet").write_bytes(b"")
    assert baselines._last_bytes(tmp_path / "train", 7) == whole[-7:]
