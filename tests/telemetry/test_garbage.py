"""Documents that are no text are found, wherever they are; tables, code and other languages are no garbage."""

from __future__ import annotations

import base64
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from telemetry.text_streams import EOS, GARBAGE, NOISE, RUSSIAN, documents, hex_dump, tokenizer, write_texts

import pipeline
from pipeline.telemetry import garbage
from pipeline.telemetry.data_facts import measure_data
from pipeline.telemetry.facts import DataFacts, GarbageFacts, HealthFacts
from pipeline.telemetry.garbage import find_garbage
from pipeline.telemetry.panel import replay
from pipeline.telemetry.token_bytes import token_bytes
from pipeline.tokens.tokenizers.characters import Characters


def look(folder: Path, texts: list[str], kind: str = "bytes") -> GarbageFacts:
    encoder = tokenizer(kind)
    encoder.save(str(folder / "tokenizer.json"))
    found = measure_data(write_texts(folder, "train", texts, encoder, 64), folder / "tokenizer.json").garbage
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["bytes", "characters"])
@pytest.mark.parametrize(("name", "share"), zip(GARBAGE, [0.0, 0.5, 1.0, 0.0, 0.5, 1.0, 0.3], strict=True))
def test_garbage_is_named_wherever_it_is(tmp_path, name, share, kind):
    texts, (text, sign) = list(documents()), GARBAGE[name]
    place = round(share * len(texts))
    found = look(tmp_path, [*texts[:place], text, *texts[place:]], kind)
    assert (found.documents, found.garbage, found.odd) == (len(texts) + 1, 1, 0)
    [one] = found.garbage_examples
    assert (one.document, one.sign) == (place + 1, sign)
    assert one.text
    assert one.ratio > 1.4


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_prose_with_tables_and_code_is_no_garbage(tmp_path, kind):
    folder = Path(pipeline.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("telemetry/**/*.py"))]
    table = "\n".join(
        f"{i},2024-0{i % 9 + 1}-11,{i * 7919 % 1000:.2f},{'north' if i % 3 else 'south'}" for i in range(80)
    )
    found = look(tmp_path, [*documents(), *sources, table], kind)
    assert (found.garbage, found.odd) == (0, 0), found


def test_paragraphs_about_numbers_are_no_garbage(tmp_path):
    paragraphs = [part for text in documents() for part in text.split("\n\n")]
    found = look(tmp_path, paragraphs)
    assert (found.garbage, found.odd) == (0, 0), found


def test_a_vocabulary_of_single_bytes_is_looked_at(tmp_path):
    """Characters of plain ASCII: no token holds a pair of bytes."""
    texts = [text.encode("ascii", "ignore").decode() for text in documents()]
    texts[5] = GARBAGE["digits"][0]
    encoder = Characters().train(texts)
    encoder.save(str(tmp_path / "tokenizer.json"))
    split = write_texts(tmp_path, "train", texts, encoder, 64)
    assert max(map(len, token_bytes(tmp_path / "tokenizer.json"))) == 1
    found = find_garbage(split, tmp_path / "tokenizer.json")
    assert found is not None
    assert [one.document for one in found.garbage_examples] == [6]


def test_another_language_is_odd_and_no_garbage(tmp_path):
    found = look(tmp_path, [*documents(), RUSSIAN])
    assert (found.garbage, found.odd) == (0, 1)
    assert (found.odd_examples[0].document, found.odd_examples[0].sign) == (len(documents()) + 1, "")
    assert found.odd_examples[0].text.startswith(RUSSIAN[:20])


def test_a_dump_within_prose_is_told_and_the_document_is_no_garbage(tmp_path):
    texts = list(documents())
    texts[7] = texts[7] + hex_dump(NOISE[:500]) + texts[8]
    found = look(tmp_path, texts)
    assert (found.garbage, found.odd) == (0, 1)
    assert (found.odd_examples[0].document, found.odd_examples[0].sign) == (8, "hexadecimal digits")


def test_paragraphs_with_an_attachment_are_garbage_where_it_is_most_of_them(tmp_path):
    """Lines of 76 letters, as mail has them, below prose."""
    paragraphs = [part for text in documents() for part in text.split("\n\n") if 150 < len(part) < 400]
    letters = base64.encodebytes(NOISE[:570]).decode()
    places = range(len(paragraphs) - 60, len(paragraphs), 5)
    for place in places:
        paragraphs[place] += "\n" + letters
    assert look(tmp_path, paragraphs).garbage == len(places)


def test_a_tenth_of_garbage_is_counted(tmp_path):
    texts = list(documents())
    count = len(texts) // 10
    noise = np.random.default_rng(1).integers(0, 256, (count, 700), dtype=np.uint8)
    found = look(tmp_path, [*texts, *(one.tobytes().decode("latin-1") for one in noise)])
    assert found.garbage == count
    assert len(found.garbage_examples) == garbage.NAMED


def test_too_few_documents_are_not_compared(tmp_path):
    encoder = tokenizer()
    encoder.save(str(tmp_path / "tokenizer.json"))
    split = write_texts(tmp_path, "train", documents()[:2], encoder, 64)
    assert find_garbage(split, tmp_path / "tokenizer.json") is None


def test_a_stream_that_is_read_in_parts_is_judged_as_whole(tmp_path, monkeypatch):
    texts = list(documents())
    texts.insert(20, NOISE.decode("latin-1"))
    encoder = tokenizer()
    encoder.save(str(tmp_path / "tokenizer.json"))
    split = write_texts(tmp_path, "train", texts, encoder, 64)
    whole = find_garbage(split, tmp_path / "tokenizer.json")
    monkeypatch.setattr(garbage, "TOKENS_AT_ONCE", 4097)
    parts = find_garbage(split, tmp_path / "tokenizer.json")
    assert whole is not None
    assert parts is not None
    assert (
        (parts.documents, parts.garbage, parts.odd) == (whole.documents, whole.garbage, whole.odd) == (len(texts), 1, 0)
    )
    assert parts.garbage_examples[0].document == 21
    monkeypatch.setattr(garbage, "PRICED_TOKENS", split.num_tokens // 2)
    monkeypatch.setattr(garbage, "COUNTED_TOKENS", split.num_tokens // 2)
    sample = find_garbage(split, tmp_path / "tokenizer.json")
    assert sample is not None
    assert len(texts) / 4 < sample.documents < len(texts)


def test_a_price_is_that_of_a_loop_over_the_other_half_of_the_documents(tmp_path):
    texts = [text[:300] for text in documents()[:20]]
    encoder = tokenizer()
    encoder.save(str(tmp_path / "tokenizer.json"))
    split = write_texts(tmp_path, "train", texts, encoder, 64)
    tokens = token_bytes(tmp_path / "tokenizer.json")
    pieces = garbage._priced(
        split, split.document_ends.astype("int64"), garbage._Vocabulary.of(tokens, split.vocab_size)
    )
    # An end is a byte of zero, and each half of the documents is one text.
    halves = [b"".join(text.encode() + b"\0" for text in texts[half::2]) for half in (0, 1)]
    pairs = Counter(pairwise(halves[1]))
    firsts, seconds = Counter(halves[1][:-1]), Counter(halves[1][1:])
    total = len(halves[1]) - 1

    def bits(first: int, second: int) -> float:
        single = (seconds[second] + 1) / (total + 256)
        return -math.log2((pairs[first, second] + single) / (firsts[first] + 1))

    assert pieces.documents.tolist() == list(range(20))
    for document in (2, 18):
        text = b"\0" + texts[document].encode() + b"\0"
        expected = sum(bits(*pair) for pair in pairwise(text)) / (len(text) - 2)
        assert pieces.prices[document] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_tokens_have_the_bytes_of_their_text(tmp_path, kind):
    encoder = tokenizer(kind)
    encoder.save(str(tmp_path / "tokenizer.json"))
    tokens = token_bytes(tmp_path / "tokenizer.json")
    text = documents()[3]
    assert b"".join(tokens[index] for index in encoder.encode(text).ids).decode() == text
    assert tokens[EOS] == b""
    assert len(tokens) == encoder.get_vocab_size()


def test_bytes_of_sentencepiece_tokens(tmp_path):
    from tokenizers import Tokenizer, decoders, models

    vocab = {"<unk>": 0, "\u2581the": 1, "<0xE2>": 2, "é": 3}
    encoder = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    encoder.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    encoder.add_special_tokens(["<unk>"])
    encoder.save(str(tmp_path / "tokenizer.json"))
    assert token_bytes(tmp_path / "tokenizer.json") == [b"", b" the", b"\xe2", "é".encode()]


def test_words_hold_number_and_letters(tmp_path):
    found = look(tmp_path, [*documents(), NOISE.decode("utf-8", "replace")])
    facts = HealthFacts("tokens", 40, 0, 1e-3, 1.0, is_pretrained=False, stops_early=False)
    panel = replay(replace(facts, data=DataFacts(garbage=found)), [{"step": 1, "train/loss": 3.0}])
    [verdict] = [one for one in panel.verdicts() if not one.is_healthy]
    last = len(documents()) + 1
    assert (verdict.what, verdict.verdict) == ("garbage_documents", "warning")
    assert f"1 of {last:,} training documents" in verdict.evidence.words
    assert f"document {last:,} (characters that no text has" in verdict.evidence.words
    assert verdict.evidence.where == f"document {last:,}"
