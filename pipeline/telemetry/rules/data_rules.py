"""Rules of the data: what it is made of, and how often it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts, OddDocument
from pipeline.telemetry.probe_figures import NEVER_UPDATED, NEVER_UPDATED_SHARE
from pipeline.telemetry.rules.base_rule import Reading, Rule, above
from pipeline.telemetry.window import Window

SMALLEST_GAIN = 0.05
FEWEST_SIGMAS = 3.0
UNLIKE = 1.1

FEWEST_UNUSED = 1024
"""Tokens of a vocabulary that are worth a word."""

RARE_GARBAGE = 1e-4
"""Share of the documents above which garbage is more than a note."""


class _DataRule(Rule):
    """A share among the facts of the data, with its limits by severity."""

    kind: ClassVar = "data"
    at_once: ClassVar = True
    limits: ClassVar[Mapping[str, float]]
    fact: ClassVar[str]
    words: ClassVar[str]

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        value = getattr(facts.data, self.fact)
        if value is None:
            return None
        return above(value, self.limits, None, self.words.format(value), figures={self.fact: value})


class EndTokens(_DataRule):
    what: ClassVar = "many_end_tokens"
    remedy: ClassVar = "join short documents, or drop them with curate.filters (min_chars)"
    source: ClassVar = "calibrated: 0.5 to 0.7 % in the shipped configurations"
    limits: ClassVar = {"warning": 0.1}
    fact: ClassVar = "end_share"
    words: ClassVar = "{:.1%} of the training tokens end a document"


class OneTokenDocuments(_DataRule):
    what: ClassVar = "one_token_documents"
    remedy: ClassVar = "drop short documents with curate.filters (min_chars)"
    source: ClassVar = "calibrated: none in the shipped configurations"
    limits: ClassVar = {"warning": 0.2}
    fact: ClassVar = "one_token_share"
    words: ClassVar = "{:.1%} of the training documents have one token or none"


class RepeatedWindows(_DataRule):
    what: ClassVar = "repeated_windows"
    remedy: ClassVar = "let curate drop duplicates, or leave repeated sources out"
    source: ClassVar = "Lee et al. 2022, on duplicates in training data; the share is calibrated"
    limits: ClassVar = {"warning": 0.05}
    fact: ClassVar = "repeated_share"
    words: ClassVar = "{:.1%} of the training windows repeat another token for token"


def is_other_text(facts: HealthFacts) -> bool:
    """Whether the frequencies of training tokens tell less of the validation split than an even guess."""
    frequencies, guess = facts.frequency_loss, facts.guess_loss
    return facts.predicts == "tokens" and frequencies is not None and guess is not None and frequencies > UNLIKE * guess


class OtherValidationText(Rule):
    """Frequencies of training tokens tell less of the validation split than an even guess: it is another language, or a
    text that the tokenizer does not know. What a model learns then only makes it worse there."""

    kind: ClassVar = "data"
    what: ClassVar = "other_validation_text"
    remedy: ClassVar = "compare the texts of ingest.sources: those of `split: validation` are unlike those of training"
    source: ClassVar = (
        "cross entropy of single symbols; calibrated: 0.6 to 0.9 of an even guess, 1.5 of another language"
    )
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        frequencies, guess = facts.frequency_loss, facts.guess_loss
        if facts.predicts != "tokens" or frequencies is None or not guess:
            return None
        words = f"guessing the validation tokens by their frequencies in training costs {frequencies:.4g}, "
        words += f"guessing evenly {guess:.4g}"
        figures = {"frequencies": frequencies, "guessing": guess}
        return above(frequencies, {"warning": UNLIKE * guess}, None, words, figures=figures, base=guess)


class NoOrder(Rule):
    """The byte before says nothing about the next: the text is noise, or has a code of its own."""

    kind: ClassVar = "data"
    what: ClassVar = "text_without_order"
    remedy: ClassVar = "look at the texts of ingest.sources: they may be encrypted, compressed or made up"
    source: ClassVar = "conditional entropy (Shannon 1951); calibrated: 0.2 in text, 0.00 in random letters; below 0.05"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        gain = facts.data.order_gain
        if gain is None:
            return None
        words = f"whoever knows the byte before needs {gain:.1%} fewer bits to guess the next one of the training text"
        share = SMALLEST_GAIN / gain if gain > 0 else 2.0
        return above(share, {"warning": 1.0}, None, words, figures={"order_gain": gain})


class GarbageDocuments(Rule):
    """Some documents are no text: random bytes, hexadecimal dumps, text read in a wrong encoding. Few of very many
    teach nothing, and are a note."""

    kind: ClassVar = "data"
    what: ClassVar = "garbage_documents"
    remedy: ClassVar = "look at these documents, and drop their like with curate.filters (min_alphabetic_ratio)"
    source: ClassVar = "calibrated: 1.6 times the median price a byte or more; none in text, tables and code"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        found = facts.data.garbage
        if found is None:
            return None
        words = f"{found.garbage:,} of {found.documents:,} training documents that are long enough to tell are no text"
        share = found.garbage / max(1, found.documents)
        limits = {"note": 0.0, "warning": RARE_GARBAGE}
        words += _examples(found.garbage_examples)
        return above(share, limits, None, words, _places(found.garbage_examples), {"documents": found.garbage})


class OddDocuments(Rule):
    """Some documents are unlike the others, or hold a stretch that is no text. Tables, code and other languages may be
    wanted, so this is a note."""

    kind: ClassVar = "data"
    what: ClassVar = "odd_documents"
    remedy: ClassVar = "look at these documents, and drop their like with curate.filters if they are not wanted"
    source: ClassVar = "calibrated: 3 times the median price a byte; healthy text reaches 2.4"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        found = facts.data.garbage
        if found is None:
            return None
        words = f"{found.odd:,} of {found.documents:,} training documents that are long enough to tell are unlike the "
        words += "others, or in part no text" + _examples(found.odd_examples)
        return above(found.odd, {"note": 0.0}, None, words, _places(found.odd_examples), {"documents": found.odd})


class LabelsWithoutText(Rule):
    """Which tokens a text holds says nothing about its label. Labels may depend on more than that, on the order of
    words, and a pretrained model may know it: for one it is a note."""

    kind: ClassVar = "data"
    what: ClassVar = "labels_without_text"
    remedy: ClassVar = "see whether labels in ingest.sources stand beside their own texts (label_field)"
    source: ClassVar = (
        "calibrated: 3 standard deviations above chance; shuffled labels have 1 or less, reviews 20 or more"
    )
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        found = facts.data.label_evidence
        if found is None:
            return None
        words = f"the tokens of training texts tell their labels {found:.1f} standard deviations better than chance"
        share = FEWEST_SIGMAS / found if found > 0 else 2.0
        limits = {"note" if facts.is_pretrained else "warning": 1.0}
        return above(share, limits, None, words, figures={"deviations": found})


class UnusedVocabulary(Rule):
    """Much of the vocabulary is never learned: its tokens never occur in the training text, or were not in the input of
    any step of a whole epoch. Small vocabularies, such as that of bytes, and those of pretrained models are no matter
    of it."""

    kind: ClassVar = "data"
    what: ClassVar = "unused_vocabulary"
    remedy: ClassVar = "a smaller tokenizer.vocab_size, or a larger tokenizer.min_frequency"
    source: ClassVar = "rows without a gradient keep their random values; calibrated: 16 % in a small text"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        found = {}
        unused, size = facts.data.unused_tokens, facts.data.vocabulary
        if unused is not None and size:
            words = f"{unused:,} of {size:,} tokens of the vocabulary never occur in the training text"
            found[words] = (unused, size)
        rows, share = window.record.get(NEVER_UPDATED), window.record.get(NEVER_UPDATED_SHARE)
        is_text_read = window.step * facts.epochs >= facts.max_steps
        if is_text_read and rows is None:
            return None  # judged where rows are counted
        if is_text_read and rows and share:
            size = round(rows / share)
            words = f"{rows:,.0f} of {size:,} rows of the token embedding had no gradient through the input up to step "
            found[words + f"{window.step:,}"] = (int(rows), size)
        if not found or facts.is_pretrained:
            return None
        shares = [count / whole if count >= FEWEST_UNUSED else 0.0 for count, whole in found.values()]
        limits = {"note": 1 / 3, "warning": 0.5}
        return above(max(shares), limits, None, "; ".join(found), figures={"share": max(shares)})


def _examples(examples: Sequence[OddDocument]) -> str:
    if not examples:
        return ""
    told = (f'document {one.document:,} ({one.sign or "unlike the others"}: "{one.text}")' for one in examples)
    return ": " + ", ".join(told)


def _places(examples: Sequence[OddDocument]) -> str:
    return ", ".join(f"document {one.document:,}" for one in examples)


class Epochs(Rule):
    """The data is read so often that reading it again teaches little. A pretrained model and a training that stops
    early are no matter of it."""

    kind: ClassVar = "data"
    what: ClassVar = "many_epochs"
    remedy: ClassVar = "get more data, lower train.max_steps, or set train.early_stopping_patience"
    source: ClassVar = (
        'Muennighoff et al. 2023, "Scaling Data-Constrained Language Models": 4 epochs are as good as new data'
    )
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        if facts.predicts != "tokens" or facts.is_pretrained or facts.stops_early:
            return None
        what, epochs = max(facts.reads.items(), key=lambda one: one[1], default=("its data", facts.epochs))
        words = f"the training reads {what} {epochs:.3g} times"
        return above(epochs, {"warning": 16.0, "critical": 40.0}, None, words, figures={"epochs": epochs})


RULES = (
    OtherValidationText(),
    EndTokens(),
    OneTokenDocuments(),
    RepeatedWindows(),
    NoOrder(),
    GarbageDocuments(),
    OddDocuments(),
    LabelsWithoutText(),
    UnusedVocabulary(),
    Epochs(),
)
