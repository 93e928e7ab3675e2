"""What comparing digests costs: `.venv/bin/python scripts/benchmark_damage.py [MEGABYTES]`.

A training of the demo's model begins on a token stream of that size (300), and a run has nothing to do, with the
comparison and without it, in turns. Processor seconds of whole commands, which work beside them changes little.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

CONFIG = "configs/demo.yaml"
PAIRS, WARM_PAIRS = 9, 40
"""A run that has nothing to do takes a moment, which differs by as much as a tenth."""

SHORT = ("train.max_steps=1", "train.warmup_steps=1", "train.eval_batches=1")


def lengthen_streams(num_bytes: int) -> None:
    """Have the encode stage repeat its training stream up to a size."""
    import numpy as np

    from pipeline import atomic
    from pipeline.engine.stage import StageContext
    from pipeline.stages import encode
    from pipeline.tokens import token_streams

    original = encode.STAGE.run

    def run(context: StageContext) -> Any:
        summary = original(context)
        folder, description = context.output / "train", atomic.read_json(context.output / "encode.json")
        assert description is not None
        ids = np.fromfile(folder / token_streams.STREAM, dtype=description["dtype"])
        ends = np.fromfile(folder / token_streams.INDEX, dtype="<u8").astype(np.int64)
        lengths = np.diff(ends, prepend=0)
        os.rename(folder, context.output / "short")
        with token_streams.StreamWriter(folder, ids.dtype, "tokenizer") as writer:
            while writer.num_tokens * ids.itemsize < num_bytes:
                writer.write(ids, lengths)
        atomic.remove(context.output / "short")
        counts = {"tokens": writer.num_tokens, "documents": writer.num_documents}
        description["splits"]["train"] |= {**counts, "digest": writer.digest}
        atomic.write_json(context.output / "encode.json", description)
        return summary

    object.__setattr__(encode.STAGE, "run", run)


def set_comparisons(compares: bool) -> None:
    """Have nothing compared that is read, or, with the same imports, all."""
    from pipeline import integrity
    from pipeline.engine import runner
    from pipeline.tokens.token_streams import TokenStream

    def nothing(*given: object) -> None:
        pass

    if not compares:
        runner.check_inputs = nothing
        integrity._check = nothing
        TokenStream._check = nothing  # type: ignore[method-assign]


def work(what: str, arguments: Sequence[str]) -> None:
    """A command of the measured kind, in a process of its own."""
    from pipeline.main import main

    if what.isdigit():
        lengthen_streams(int(what))
    else:
        set_comparisons(what == "with")
    main(["run", CONFIG, *arguments])


def cost(what: str, *arguments: str) -> float:
    """Processor seconds of `work`."""
    null = os.open(os.devnull, os.O_WRONLY)
    command = [sys.executable, __file__, "--work", what, *arguments]
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    )
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, f"{arguments} failed"
    return usage.ru_utime + usage.ru_stime


def compare(name: str, pairs: int, *arguments: str) -> None:
    """Print the medians of a command with comparisons and without, and their ratio."""
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(pairs + 1):
        for what in sorted(seconds, reverse=bool(number % 2)):
            seconds[what].append(cost(what, *arguments))
    compared, plain = (statistics.median(seconds[what][1:]) for what in ("with", "without"))
    print(
        f"{name:<34} {compared:7.3f} s compared {plain:7.3f} s not: {100 * (compared / plain - 1):+5.1f} %", flush=True
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3:])
        sys.exit()
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as folder:
        workspace = f"run.workspace={folder}"
        cost(str(megabytes * 1_000_000), workspace, *SHORT)
        compare(
            f"training begins on {megabytes} MB of tokens",
            PAIRS,
            workspace,
            *SHORT,
            "--only",
            "train",
            "--force",
            "train",
        )
        compare("nothing to do", WARM_PAIRS, workspace, *SHORT)
