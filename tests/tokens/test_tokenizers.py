from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokens.artifacts import PROSE
from transformers import AutoConfig, AutoTokenizer

from pipeline.tokens import tokenizer_figures
from pipeline.tokens.tokenizer_figures import TextSample, measure_tokenizer
from pipeline.tokens.tokenizer_folder import load_tokenizer, rust_threads, save_tokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe
from pipeline.tokens.tokenizers.characters import Characters

SECTIONS = {
    "gpt4": ByteLevelBpe(vocab_size=400),
    "gpt2": ByteLevelBpe(vocab_size=400, split_pattern="gpt2"),
    "digits": ByteLevelBpe(vocab_size=400, split_digits=True),
    "characters": Characters(vocab_size=400),
}
AWKWARD = [
    "",
    " ",
    "  two  spaces , before ' marks .",
    "line\r\nend\n\n\n\ttab\x00\x07",
    "<|endoftext|> and <pad> as text",
    "e\u0301 is not \u00e9",
    "\ufeffmark\u200bzero width\u2028line",
    "🙂👩‍👩‍👧 日本語 Ελληνικά",
    "1234567890 3.14",
]


@cache
def trained(name: str) -> Tokenizer:
    tokenizer = SECTIONS[name].train(PROSE)
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.mark.parametrize("name", SECTIONS)
@given(text=st.one_of(st.sampled_from(AWKWARD), st.text(st.characters(exclude_categories=["Cs"]))))
def test_every_text_comes_back(name: str, text: str) -> None:
    tokenizer = trained(name)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert not {0, 1} & set(ids)


def test_the_folder_is_an_ordinary_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    save_tokenizer(SECTIONS["gpt4"].train(PROSE), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<pad>", 0)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|endoftext|>", 1)
    assert len(tokenizer) == trained("gpt4").get_vocab_size()
    for text in (*AWKWARD[:4], *AWKWARD[5:]):
        assert tokenizer.encode(text) == trained("gpt4").encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("a<|endoftext|>")[-1] == 1
    literal = load_tokenizer(tmp_path).encode("a<|endoftext|>")
    assert 1 not in literal.ids
    assert len(literal.ids) > 2


def test_characters_are_tokens_and_rare_ones_are_bytes(tmp_path: Path) -> None:
    texts = ["hello, wörld", "ö!", "日本 日 日本語"]
    section = Characters(vocab_size=258 + 4)
    save_tokenizer(section.train(texts), tmp_path)
    for tokenizer in (section.train(texts), AutoTokenizer.from_pretrained(tmp_path)):
        # Those that occur thrice, and of ö and 本, which occur twice, the one of the lower code point.
        assert tokenizer.decode(range(258, 262)) == " lö日"
        ids = {text: tokenizer.encode(text) for text in ("hel", "ö日", "本")}
        ids = {text: getattr(found, "ids", found) for text, found in ids.items()}
        assert ids == {
            "hel": [2 + ord("h"), 2 + ord("e"), 259],
            "ö日": [260, 261],
            "本": [2 + 0xE6, 2 + 0x9C, 2 + 0xAC],
        }
        assert tokenizer.decode([*ids["hel"], *ids["本"]]) == "hel本"
    assert Characters(min_frequency=1).train(texts).get_vocab_size() == 258 + 14
    assert section.train([]).get_vocab_size() == 258


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral", "qwen3"])
def test_beside_a_model_it_is_the_same_tokenizer(tmp_path: Path, architecture: str) -> None:
    save_tokenizer(trained("gpt4"), tmp_path)
    AutoConfig.for_model(architecture).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*PROSE[:5], *AWKWARD[5:]):
        assert tokenizer.encode(text) == trained("gpt4").encode(text).ids


def test_threads_leave_no_trace(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from tokens.artifacts import PROSE\n"
        "from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe\n"
        "from pipeline.tokens.tokenizer_folder import *\n"
        "with rust_threads(int(sys.argv[1])): tokenizer = ByteLevelBpe(vocab_size=500).train(PROSE)\n"
        "save_tokenizer(tokenizer, pathlib.Path(sys.argv[2]))"
    )
    root = Path(__file__).parents[2]
    for threads in ("1", "3"):
        environment = {**os.environ, "PYTHONPATH": f"{root}:{root}/tests", "TOKENIZERS_PARALLELISM": "false"}
        subprocess.run([sys.executable, "-c", program, threads, tmp_path / threads], check=True, env=environment)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert "tokenizer.json" in names
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_a_small_corpus_gives_a_smaller_vocabulary() -> None:
    assert ByteLevelBpe(vocab_size=1000).train(["ab ab", "xyz"]).get_vocab_size() == 259
    once = ByteLevelBpe(vocab_size=1000, min_frequency=1)
    assert once.train(["ab ab", "xyz"]).get_vocab_size() > 259
    assert ByteLevelBpe().train([]).get_vocab_size() == 258


def longest_number(tokenizer: Tokenizer) -> int:
    texts = [tokenizer.decode([token]) for token in range(2, tokenizer.get_vocab_size())]
    return max(len(text.strip()) for text in texts if text.strip().isdecimal())


def test_digits_stay_together_as_configured() -> None:
    numbers = ["1234567890 1234567890 1234567890"] * 3
    for name, length in {"gpt4": 3, "gpt2": 10, "digits": 1, "characters": 1}.items():
        assert longest_number(SECTIONS[name].train(numbers)) == length, name


def test_thread_settings_of_the_user_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    with rust_threads(3):
        assert (os.environ["TOKENIZERS_PARALLELISM"], os.environ["RAYON_NUM_THREADS"]) == ("true", "3")
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert "RAYON_NUM_THREADS" not in os.environ


def test_a_sample_is_bounded_and_evenly_spaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_figures, "SAMPLE_BYTES", 1000)
    sample = TextSample()
    texts = [f"{number:05d}" for number in range(10_000)]
    assert list(sample.watch(texts)) == texts
    numbers = [int(text) for text in sample.texts]
    assert 100 <= len(numbers) <= 200
    assert {after - before for before, after in pairwise(numbers)} == {64}


def test_figures_of_a_tokenizer() -> None:
    tokenizer: Any = ByteLevelBpe(vocab_size=1000).train(["aa aa aa"])
    assert tokenizer.encode("aa aa aa").tokens == ["aa", "Ġaa", "Ġaa"]
    figures = measure_tokenizer(tokenizer, ["aa aa", "zé"])
    assert figures.bytes_per_token == (5 + 3) / (2 + 3)
    assert figures.fertility == 5 / 3
    assert figures.vocabulary_used == 5 / (figures.vocab_size - 2)
