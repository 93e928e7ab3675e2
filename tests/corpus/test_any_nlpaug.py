"""What an augmenter of nlpaug changes is found word by word, and nothing else changes."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.corpus.augmentations.any_nlpaug import AnyNlpaug, edits_of_words
from pipeline.corpus.augmentations.base_augmentation import Draw
from pipeline.corpus.edits import apply_edits, check_edits
from pipeline.errors import ConfigError, MissingInputError

TEXT = "The old man, who was 73,  walked slowly\n\n    x = 1\n>>> man\n  The quick brown fox\tjumped over. Isn't it?\n"


def operation(augmenter: str, **arguments: Any) -> AnyNlpaug:
    settings = {"type": "nlpaug", "augmenter": augmenter, "arguments": arguments}
    made = AugmentConfig.model_validate({"operations": [settings]}).operations[0]
    assert isinstance(made, AnyNlpaug)
    return made


def altered(made: AnyNlpaug, text: str = TEXT, seed: int = 0) -> str:
    return apply_edits(text, made.edits(text, Draw(seed)))


@pytest.mark.parametrize("name", ["word.RandomWordAug", "word.SpellingAug", "word.SplitAug", "char.KeyboardAug"])
def test_lines_of_prose_change_from_their_seed_alone(name: str) -> None:
    made = operation(name)
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    after = [altered(made, seed=seed) for seed in range(5)]
    assert (random.random(), np.random.random()) == expected
    assert [altered(operation(name), seed=seed) for seed in range(5)] == after
    assert len(set(after)) > 1
    for one in after:
        assert "\n\n    x = 1\n>>> man\n  " in one
        assert one.endswith("\n")
    assert made.settings() == {"augmenter": name, "arguments": {}}


def test_arguments_are_those_of_the_class() -> None:
    made = operation("word.RandomWordAug", action="substitute", target_words=["xyzzy"], aug_p=1.0, aug_max=None)
    assert altered(made, "One two,  three\n    x = 1\n") == "Xyzzy xyzzy  xyzzy\n    x = 1\n"
    # Groups of words that may stand for each other.
    made = operation("word.ReservedAug", reserved_tokens=[["old", "aged"]], aug_p=1.0)
    assert altered(made, "An old man,  in an old  coat.") == "An aged man,  in an aged  coat."


def test_what_is_no_prose_in_a_line_is_not_given_to_it() -> None:
    made = operation("word.RandomWordAug", action="substitute", target_words=["xyzzy"], aug_p=1.0, aug_max=None)
    after = altered(made, "The <unk> said that in 1973 it was a=b or so, see https://a.b/c now.")
    assert after == "The <unk> xyzzy xyzzy xyzzy 1973 it was a=b xyzzy xyzzy xyzzy https://a.b/c now."


@given(st.text("ab \n", max_size=30), st.lists(st.sampled_from(["a", "b", "ab", "c"]), max_size=8))
def test_edits_lead_to_the_new_words(text: str, new: list[str]) -> None:
    places = [match.span() for match in re.finditer(r"\S+", text)]
    edits = list(edits_of_words(text, places, new))
    check_edits(text, edits)
    after = apply_edits(text, edits)
    assert after.split() == (new if places else [])
    if [text[start:stop] for start, stop in places] == new:
        assert edits == []


def test_what_it_cannot_be_made_with_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nlpaug.augmenter.word has no class 'NoAug'"):
        operation("word.NoAug").check()
    with pytest.raises(ConfigError, match=r"word.SplitAug cannot be made: TypeError: .*unexpected keyword"):
        operation("word.SplitAug", colour="red").check()
    with pytest.raises(MissingInputError, match="there is no file or folder bert-base-uncased"):
        operation("word.ContextualWordEmbsAug", model_path="bert-base-uncased").files_of_key()
    with pytest.raises(
        ConfigError, match=r"nlpaug: word.RandomWordAug with arguments \{'action': 'insert'\} .* NotImpl"
    ):
        operation("word.RandomWordAug", action="insert").check()
    with pytest.raises(ValueError, match="should match pattern"):
        operation("os.system")


@pytest.mark.parametrize("name", ["word.SynonymAug", "word.AntonymAug"])
def test_data_of_nltk_are_not_fetched_and_enter_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    monkeypatch.setattr("nltk.downloader.Downloader.download", lambda *args, **kwargs: pytest.fail("it is fetched"))
    with pytest.raises(ConfigError, match=r"nltk has no .*: python -m nltk.downloader wordnet omw-1.4"):
        operation(name).check()
    (tmp_path / "corpora/omw-1.4").mkdir(parents=True)
    files = [tmp_path / "corpora/wordnet.zip", tmp_path / "corpora/omw-1.4/citation.bib"]
    for file in files:
        file.write_bytes(b"x")
    assert set(files) <= set(operation(name).files_of_key()["data of nltk"])


def test_models_are_folders_and_computed_by_the_versions_of_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"would fetch bert-base-uncased; name a folder: arguments: \{model_path"):
        operation("word.ContextualWordEmbsAug").check()
    made = operation("word.ContextualWordEmbsAug", model_path=str(tmp_path))
    assert made.facts_of_key().keys() == {"torch", "transformers"}
    assert operation("word.RandomWordAug").facts_of_key() == {}


def test_models_compute_with_one_thread_in_any_process(tmp_path: Path) -> None:
    class Counted:
        def augment(self, line: str) -> str:
            return f"{torch.get_num_threads()} {torch.is_grad_enabled()}"

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        made = operation("word.ContextualWordEmbsAug", model_path=str(tmp_path))
        vars(made)["_made"] = Counted()
        assert altered(made, "two words") == "1 False"
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_file_of_words_is_the_one_that_is_named_in_one_order(tmp_path: Path) -> None:
    # nlpaug keeps what it has read first, and lists words in the order of a set, which differs between processes.
    assert altered(operation("word.SpellingAug", aug_p=1.0), "They receive it.") != "They receive it."
    (tmp_path / "words").write_text("receive recieve\nlong lonng logn lnog\n")
    made = operation("word.SpellingAug", dict_path=str(tmp_path / "words"), aug_p=1.0)
    assert made.files_of_key() == {(tmp_path / "words").as_posix(): [tmp_path / "words"]}
    assert altered(made, "They receive it.") == "They recieve it."
    assert made._made.model.dict["long"] == ["lnog", "logn", "lonng"]
