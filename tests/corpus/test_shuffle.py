"""Records of many tasks come together by key, whatever their number, in parts of bounded size."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import shuffle
from pipeline.corpus.shuffle import (
    ShuffleWriter,
    buckets_of_hashes,
    buckets_of_numbers,
    part_ranges,
    read_numbers,
    read_part,
)

PAIR = np.dtype([("value", "<u8"), ("document", "<u4")])


def written(folder: Path, tasks: list[list[tuple[int, int]]], chunk: int = 3) -> list[Path]:
    """Pairs of each task, given to a writer a few at a time."""
    paths = []
    for number, pairs in enumerate(tasks):
        paths.append(folder / f"{number}.pairs")
        with ShuffleWriter(paths[-1], PAIR) as writer:
            for start in range(0, len(pairs), chunk):
                records = np.array(pairs[start : start + chunk], PAIR)
                writer.write(records, buckets_of_hashes(records["value"]))
    return paths


def random_pairs(count: int, different: int, seed: int) -> list[tuple[int, int]]:
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 2**64, different, dtype=np.uint64)[draw.integers(0, different, count)]
    return [(int(value), number) for number, value in enumerate(values)]


@pytest.mark.parametrize("run_bytes", [8_000_000, 100])
@pytest.mark.parametrize("num_parts", [1, 3, 50])
def test_each_record_is_in_one_part_and_equal_values_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_bytes: int, num_parts: int
) -> None:
    monkeypatch.setattr(shuffle, "RUN_BYTES", run_bytes)
    tasks = [random_pairs(200, 40, seed) for seed in (1, 1, 2)] + [[]]
    paths = written(tmp_path, tasks)
    parts = [read_part(paths, PAIR, buckets) for buckets in part_ranges(paths, PAIR, num_parts)]
    assert len(parts) >= min(num_parts, 3)
    assert sorted(pair for part in parts for pair in part.tolist()) == sorted(pair for task in tasks for pair in task)
    for value in {pair[0] for task in tasks for pair in task}:
        assert sum(value in part["value"] for part in parts) == 1
    # Of equal values the order is that of tasks, and within a task that of writing.
    value = tasks[0][0][0]
    expected = [number for task in tasks for other, number in task if other == value]
    assert [n for part in parts for v, n in part.tolist() if v == value] == expected


def test_parts_are_as_large_as_memory_allows_and_one_value_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "PART_BYTES", 1200)  # 100 records
    skewed = [(2**63, number) for number in range(1000)]
    paths = written(tmp_path, [random_pairs(1000, 1000, 3), skewed], chunk=400)
    sizes = [len(read_part(paths, PAIR, buckets)) for buckets in part_ranges(paths, PAIR)]
    assert sum(sizes) == 2000
    assert 1000 <= max(sizes) < 1200
    assert sorted(sizes)[-2] < 130


def test_nothing_written_has_no_parts(tmp_path: Path) -> None:
    assert part_ranges(written(tmp_path, [[], []]), PAIR) == []
    assert part_ranges([], PAIR, 4) == []
    assert len(read_part(written(tmp_path, [[]]), PAIR, range(0, 4096))) == 0


@pytest.mark.parametrize("total", [1, 7, 5000, 100_000])
def test_numbers_come_back_in_their_order(tmp_path: Path, total: int) -> None:
    draw = np.random.default_rng(4)
    paths = []
    everything = []
    for task in range(3):
        records = np.zeros(300, PAIR)
        records["document"] = draw.integers(0, total, 300)
        records["value"] = np.arange(300) + 1000 * task
        paths.append(tmp_path / str(task))
        with ShuffleWriter(paths[-1], PAIR) as writer:
            writer.write(records, buckets_of_numbers(records["document"], total))
        everything += records.tolist()
    for numbers in (range(0, total), range(0, total // 2), range(total // 2, total), range(0, 0)):
        wanted = sorted((n, v) for v, n in everything if n in numbers)
        assert [(n, v) for v, n in read_numbers(paths, PAIR, "document", numbers, total).tolist()] == wanted


def test_a_number_of_32_bits_has_a_bucket() -> None:
    total = 2**32
    numbers = np.array([0, total // 2, total - 1], dtype=np.uint32)
    assert buckets_of_numbers(numbers, total).tolist() == [0, 2048, 4095]
