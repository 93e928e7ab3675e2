from __future__ import annotations

import json
import shutil
from pathlib import Path

from tokens.artifacts import run_stage, write_streams

from pipeline.atomic import digest_file
from pipeline.stages.pack import STAGE
from pipeline.tokens.packed_split import PackedSplit
from pipeline.tokens.packing import PackConfig


def pack(folder: Path, ids: list[int], block_size: int) -> Path:
    write_streams(folder, {"train": [ids], "test": [[9, 1]]}, block_size=99, vocab_size=50)
    shutil.rmtree(folder / "pack")
    run_stage(STAGE, PackConfig(block_size=block_size), {"encode": folder / "encode"}, folder / "pack")
    return folder / "pack"


def test_it_describes_windows_that_the_reader_finds(tmp_path: Path) -> None:
    train = json.loads((pack(tmp_path, [5, 6, 7, 8, 1], 3) / "train/pack.json").read_text())
    assert (train["block_size"], train["strategy"], train["dtype"]) == (3, "contiguous", "uint16")
    assert (train["windows"], train["tokens"], train["target_tokens"]) == (2, 5, 4)
    split = PackedSplit.open(tmp_path / "pack", tmp_path / "encode", "train")
    assert len(split) == 2
    assert split.window(1).tolist() == [8, 1]


def test_other_tokens_of_the_same_number_change_the_artifact(tmp_path: Path) -> None:
    digests = {
        digest_file(pack(tmp_path / name, ids, block_size) / "train/pack.json")
        for name, ids, block_size in (("a", [5, 6, 7, 1], 3), ("b", [5, 6, 8, 1], 3), ("c", [5, 6, 7, 1], 2))
    }
    assert len(digests) == 3
