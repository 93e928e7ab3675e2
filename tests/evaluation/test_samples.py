from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.tiny import tiny_model
from tokens.artifacts import PROSE
from tokens.designs import Design
from transformers import AutoTokenizer

from pipeline.evaluation.evaluate_config import SamplesConfig
from pipeline.evaluation.samples import continuation, first_tokens, openings, write_samples
from pipeline.tokens.tokenizer_folder import load_tokenizer
from pipeline.tokens.tokenizers.byte_level_bpe import ByteLevelBpe


@pytest.fixture(scope="module")
def tokenizer():
    return ByteLevelBpe(vocab_size=300).train(PROSE)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer.get_vocab_size())


def write(model, tokenizer, prompts: list[str], seed: int = 1, **values) -> list[dict[str, Any]]:
    section = SamplesConfig(**({"max_new_tokens": 12} | values))
    device = torch.device("cpu")
    return list(write_samples(model, tokenizer, prompts, section, seed, eos_token_id=1, pad_token_id=0, device=device))


def test_the_same_seed_writes_the_same_text(model, tokenizer) -> None:
    first = write(model, tokenizer, ["The model", "A text"])
    assert first == write(model, tokenizer, ["The model", "A text"])
    assert [sample["prompt"] for sample in first] == ["The model", "A text"]
    assert first != write(model, tokenizer, ["The model", "A text"], seed=9)


def test_prompts_leave_each_other_alone(model, tokenizer) -> None:
    short = write(model, tokenizer, ["The model", "A text"], max_new_tokens=40)
    # The long prompt leaves room for fewer new tokens, so it draws fewer random numbers.
    long = write(model, tokenizer, [PROSE[0] * 9, "A text"], max_new_tokens=40)
    assert short[1] == long[1]


def test_random_states_and_training_flags_stay(tokenizer) -> None:
    model = tiny_model(tokenizer.get_vocab_size()).train()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    write(model, tokenizer, ["The"])
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_no_temperature_takes_the_likeliest(model, tokenizer) -> None:
    greedy = write(model, tokenizer, ["The model"], temperature=0, max_new_tokens=1)
    assert greedy == write(model, tokenizer, ["The model"], seed=99, temperature=0, max_new_tokens=1)
    (of_one,) = write(model, tokenizer, ["The model"], top_k=1, max_new_tokens=1)
    assert of_one["text"] == greedy[0]["text"]
    ids = torch.tensor([[1, *tokenizer.encode("The model").ids]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -1]
    logits[0] = -torch.inf
    assert greedy[0]["text"] == tokenizer.decode([int(logits.argmax())])


@pytest.mark.parametrize("name", ["none", "bos", "bos and eos", "cls and sep", "two before"])
def test_a_prompt_begins_like_a_document(tmp_path: Path, name: str) -> None:
    Design(template=name).write(tmp_path)
    tokenizer, prompt, given = AutoTokenizer.from_pretrained(tmp_path), "The model reads", []
    model = tiny_model(len(tokenizer))
    model.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    write(model, load_tokenizer(tmp_path), [prompt])
    alone = tokenizer(prompt, add_special_tokens=False).input_ids
    for_a_user = tokenizer(prompt).input_ids
    wanted = for_a_user[: for_a_user.index(alone[0]) + len(alone)]
    assert given[0] == ([1, *alone] if name == "none" else wanted)


def test_a_continuation_keeps_the_space_that_decoders_take_away(tmp_path: Path) -> None:
    for kind in ("BPE with byte fallback", "Unigram", "byte-level BPE"):
        Design(kind, puts_space_first=True).write(tmp_path / kind)
        tokenizer = load_tokenizer(tmp_path / kind)
        ids = tokenizer.encode("The pipeline reads raw text").ids
        for cut in range(1, len(ids)):
            assert tokenizer.decode(ids[:cut]) + continuation(tokenizer, ids[:cut], ids[cut:]) == tokenizer.decode(ids)


def test_a_sample_may_be_without_top_k(model, tokenizer) -> None:
    assert write(model, tokenizer, ["The"], top_k=None) != write(model, tokenizer, ["The"], top_k=1)


def test_long_prompts_leave_room(tokenizer) -> None:
    model = tiny_model(tokenizer.get_vocab_size(), max_position_embeddings=16)
    lengths = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    write(model, tokenizer, [PROSE[0] * 3], max_new_tokens=100)
    assert lengths[0] == 8
    assert sum(lengths) <= 16


def test_openings_are_first_words_of_texts_all_over() -> None:
    texts = [f"{number} is a number of a text with several words" for number in range(10)]
    assert list(openings(texts, 10, 3)) == [
        (f"{number} is a number of a text with", " several words") for number in (0, 3, 6)
    ]
    assert list(openings(["short\n one"], 1, 3)) == [("short\n one", "")]
    assert list(openings(["x" * 999, " "], 2, 2)) == [("x" * 80, "x" * 919), ("", " ")]
    assert list(openings(texts, 10, 0)) == []


def test_a_sample_is_written_again_by_the_settings_beside_it(model, tokenizer) -> None:
    prompts = ["The model", "A text", PROSE[0] * 3]
    for sample in write(model, tokenizer, prompts, seed=7, temperature=1.3, top_k=20, max_new_tokens=9):
        assert sample["settings"].keys() == {"max_new_tokens", "temperature", "top_k", "seed"}
        assert write(model, tokenizer, [sample["prompt"]], **sample["settings"]) == [sample]
    (greedy,) = write(model, tokenizer, prompts[:1], temperature=0)
    assert greedy["settings"]["seed"] is None


def test_the_first_tokens_of_a_text_are_cut_from_it_unchanged(tokenizer) -> None:
    text = " Größe: 日本\n and more"
    pieces = [first_tokens(tokenizer, text, number) for number in range(200)]
    assert pieces[0] == ""
    assert pieces[-1] == text
    assert all(text.startswith(piece) and len(piece) >= len(before) for before, piece in pairwise(pieces))
    plain = "and more of the same"
    for number in range(6):
        cut = tokenizer.encode(first_tokens(tokenizer, plain, number), add_special_tokens=False).ids
        assert cut == tokenizer.encode(plain, add_special_tokens=False).ids[:number]
