"""A real llama.cpp that has loaded a GGUF file: run as a program, it serves the file until its input ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 300


class LlamaCpp:
    """What its server answers."""

    def __init__(self, address: str) -> None:
        self._address = address

    def _ask(self, what: str, **values: Any) -> dict[str, Any]:
        body = json.dumps(values).encode()
        request = urllib.request.Request(f"{self._address}/{what}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.loads(answer.read())

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text as a prompt, a special token's name in it spelled out."""
        return self._ask("tokenize", content=text, add_special=True, parse_special=False)["tokens"]

    def detokenize(self, ids: Sequence[int]) -> str:
        return self._ask("detokenize", tokens=list(ids))["content"]

    def continue_greedily(self, ids: Sequence[int], count: int, size: int) -> tuple[list[int], list[list[float]]]:
        """At most `count` likeliest tokens, each with the log-probabilities of all `size` tokens in its place."""
        answer = self._ask(
            "completion", prompt=list(ids), n_predict=count, n_probs=size, temperature=0, cache_prompt=False,
            return_tokens=True,
        )  # fmt: skip
        rows = []
        for step in answer["completion_probabilities"]:
            found = {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]}
            rows.append([found[index] for index in range(size)])
        return answer["tokens"], rows


@contextmanager
def serving(path: Path) -> Iterator[LlamaCpp]:
    """llama.cpp with this file, in a process of its own."""
    command = [sys.executable, str(Path(__file__)), str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            address = process.stdout.readline().strip()
            assert address, process.stderr.read()[-2000:]
            yield LlamaCpp(address)
        finally:
            process.kill()


def _serve(path: str) -> None:
    import xllamacpp

    told = os.dup(1)
    os.dup2(2, 1)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = 256, 1, 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = parameters.fit_params = False
    parameters.verbosity = -1
    # As precise as it goes: attention in float32, keys and values kept in float32.
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(parameters)
    os.write(told, f"{server.listening_address}\n".encode())
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
