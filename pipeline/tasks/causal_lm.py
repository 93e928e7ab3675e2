"""Predict the next token."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline import atomic
from pipeline.errors import DivergedError
from pipeline.evaluation.evaluate_config import EvaluateConfig
from pipeline.evaluation.metrics import Figure, TextMetric
from pipeline.evaluation.metrics.bits_per_byte import BitsPerByte
from pipeline.evaluation.metrics.perplexity import Perplexity, perplexity_of
from pipeline.evaluation.metrics.token_accuracy import TokenAccuracy
from pipeline.evaluation.metrics.top_5_accuracy import TopFiveAccuracy
from pipeline.tasks.base_task import Task, TaskContext
from pipeline.tasks.task_words import DOCUMENTS, TaskWords
from pipeline.tokens.packing import PackConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from pipeline.config import Config
    from pipeline.evaluation.document_losses import DocumentTotals
    from pipeline.evaluation.metrics.evaluate_module import EvaluateModule
    from pipeline.evaluation.token_records import TokenRecords
    from pipeline.evaluation.trained_model import TrainedModel
    from pipeline.tokens.packed_split import PackedSplit
    from pipeline.training.train_config import TrainConfig

NO_BITS = "no bits per byte are given, and none of xz, since text is lost (see encode)"
ONE_BIT_MORE = "bits per byte have one bit more for each document, to tell which begin with a space that is lost"

SAMPLED_TOKENS = 2**22
"""Of a stream of which token frequencies are counted."""

BITS, PERPLEXITY, TOKEN_ACCURACY, TOP_5 = BitsPerByte(), Perplexity(), TokenAccuracy(), TopFiveAccuracy()


def _fewer_bits(own: float, other: float) -> str:
    return f"the model needs {abs(1 - own / other):.1%} {'fewer' if own < other else 'more'} bits" if other else ""


class CausalLm(Task, type="causal_lm"):
    """Predict each token of the stream from those before it.

    Rows are windows of `block_size` targets, across documents: no padding, and every token but the first of the stream
    is a target exactly once. Labels are shifted already, (B, T); -100 is no target.
    """

    predicts: ClassVar = "tokens"
    metrics: ClassVar = (BITS, PERPLEXITY, TOKEN_ACCURACY, TOP_5)
    auto_class: ClassVar = "AutoModelForCausalLM"
    words: ClassVar = TaskWords(
        noun="language model",
        target="target token",
        window="window",
        loss="loss (nats per token)",
        figures=(
            BITS.figure,
            Figure("loss", "loss (nats/token)"),
            PERPLEXITY.figure,
            TOKEN_ACCURACY.figure,
            TOP_5.figure,
            Figure("tokens", "tokens", "count", ""),
            Figure("bytes", "text", "size", ""),
            DOCUMENTS,
        ),
        main=BITS.figure,
        verdict=_fewer_bits,
        hub_tag="causal-lm",
        hub_task=("text-generation", "Language modeling"),
        limitation="It continues text. It was not tuned to follow instructions or to be safe, and what it says is "
        "often false or without sense.",
        is_generative=True,
    )

    @property
    def strategy(self) -> str:
        return "contiguous" if self.type == "causal_lm" else self.type

    def check(self, config: Config) -> None:
        super().check(config)
        samples = config.evaluate.samples
        texts = [one.key for one in config.evaluate.metrics or () if not isinstance(one, TextMetric)]
        if texts and (samples.prompts or not samples.num_samples):
            raise ValueError(
                f"evaluate.metrics: {texts[0]} compares what the model writes with how test documents go on; leave "
                "evaluate.samples.prompts empty, and num_samples above 0"
            )

    def uses_seed(self, config: EvaluateConfig) -> bool:
        """The samples, unless each of their tokens is the likeliest."""
        samples = config.samples
        return samples.are_drawn and bool(samples.prompts or samples.num_samples)

    def pack(self, context: TaskContext) -> dict[str, Any]:
        from pipeline.tokens.packing import pack_contiguous

        config = context.config
        assert isinstance(config, PackConfig)
        encoded = json.loads((context.inputs["encode"] / "encode.json").read_bytes())
        splits = {}
        with context.progress.bar("packing", total=len(encoded["splits"]), unit="splits") as bar:
            for split in encoded["splits"]:
                packed = pack_contiguous(encoded, split, config.block_size, self.strategy)
                (context.output / split).mkdir()
                atomic.write_json(context.output / split / "pack.json", packed)
                splits[split] = {name: packed[name] for name in ("windows", "tokens", "target_tokens")}
                bar.update()
        return {"block_size": config.block_size, "splits": splits}

    def first_windows(self, folder: Path, sources: Sequence[Mapping[str, Any]]) -> list[int]:
        """A window is of the source of its first target."""
        from pipeline.tokens.packed_split import num_windows

        block_size = json.loads((folder / "pack.json").read_bytes())["block_size"]
        return [num_windows(source["first_token"], block_size) for source in sources]

    def open_split(self, pack_folder: Path, encode: Path, split: str) -> PackedSplit:
        from pipeline.tokens.packed_split import PackedSplit

        return PackedSplit.open(pack_folder, encode, split)

    def guess_loss(self, model_config: PreTrainedConfig) -> float | None:
        return math.log(model_config.get_text_config().vocab_size)

    def frequency_loss(self, train: PackedSplit, validation: PackedSplit, config: TrainConfig) -> float | None:
        """With add-one smoothing, in nats a token. All tokens are targets, as in training; of long streams a sample."""
        import numpy as np

        counts, found = (
            np.sum([np.bincount(ids, minlength=split.vocab_size) for ids in split.samples(SAMPLED_TOKENS)], axis=0)
            for split in (train, validation)
        )
        costs = np.log((counts + 1).sum()) - np.log(counts + 1)
        return float(found @ costs / found.sum())

    def validation_means(self, sums: torch.Tensor) -> dict[str, float]:
        """The loss in nats a token, its standard error, and perplexity where a float holds it."""
        from pipeline.evaluation.losses import TokenSums

        found = TokenSums.from_tensor(sums)
        perplexity = perplexity_of(found.loss)
        losses = {"loss": found.loss, "loss_error": found.loss_error}
        return losses if perplexity is None else {**losses, "perplexity": perplexity}

    def predict(self, context: TaskContext, trained: TrainedModel) -> tuple[DocumentTotals, dict[str, Any]]:
        """Sums of losses for each document of the test split; what else the evaluation has: where the loss comes from,
        and samples."""
        from pipeline.evaluation.baselines.base_baseline import count_ids
        from pipeline.evaluation.token_records import TokenRecords

        train = self.open_split(context.inputs["pack"], context.inputs["encode"], "train")
        records = TokenRecords(count_ids(train))
        totals = self._score(context, trained, "scoring", records)
        if not math.isfinite(totals.rows.sum()):
            raise DivergedError(
                "evaluate: the model's loss on the test split is not finite: training diverged; lower "
                "train.learning_rate"
            )
        return totals, {**records.as_json(), "samples": self._samples(context, trained)}

    def predict_before(self, context: TaskContext, load: Callable[[], TrainedModel]) -> DocumentTotals | None:
        """Sums of losses likewise, where there are weights that training began with, and baselines are wanted."""
        from pipeline.modeling.materialize import is_recipe

        config, inputs = context.config, context.inputs
        assert isinstance(config, EvaluateConfig)
        lost = self._loss_of_text(inputs["encode"])[1]
        if lost or not config.baselines or is_recipe(inputs["model"] / "model"):
            return None
        return self._score(context, load(), "scoring the model before training")

    def _score(
        self, context: TaskContext, trained: TrainedModel, words: str, records: TokenRecords | None = None
    ) -> DocumentTotals:
        from pipeline.corpus.document_shards import read_documents
        from pipeline.evaluation.document_losses import HeldOut, score_documents

        config, inputs = context.config, context.inputs
        assert isinstance(config, EvaluateConfig)
        test = self.open_split(inputs["pack"], inputs["encode"], "test")
        documents = read_documents(inputs["curate"] / "test")
        heldout = HeldOut.read((document.source, document.text) for document in documents)
        with context.progress.bar(words, total=test.target_tokens, unit="tokens") as bar:
            return score_documents(
                trained.model,
                test,
                heldout,
                config.per_device_eval_batch_size,
                trained.device,
                bits_a_document=self._loss_of_text(inputs["encode"])[2],
                stride=config.stride,
                records=records,
                on_tokens=bar.update,
                processes=trained.processes,
            )

    def _loss_of_text(self, encode: Path) -> tuple[dict[str, Any], str, int]:
        """The round trip of the test documents; what it loses, in words; and the bits that each document is charged: 1
        where only leading spaces are lost."""
        from pipeline.tokens.round_trip import is_recoverable, loss_in_words

        round_trip = json.loads((encode / "encode.json").read_bytes())["splits"]["test"]["round_trip"]
        lost = "" if is_recoverable(round_trip) else loss_in_words(round_trip, "test documents")
        return round_trip, lost, int(not lost and round_trip["lost_first_spaces"] > 0)

    def evaluate(self, context: TaskContext, predicted: Any, before: Any) -> dict[str, Any]:
        """Scores of the test split and of each source in it, baselines, and samples. Writes `documents.parquet`, a row
        for each test document.

        Where test documents do not decode to themselves, bits per byte and baselines are left out, and `withheld` says
        why. Where only leading spaces are lost, one bit a document is charged for them.
        """
        from pipeline.corpus.document_shards import read_documents
        from pipeline.evaluation.scored_documents import write_documents
        from pipeline.evaluation.scores import bits_of, loss_of, score
        from pipeline.evaluation.worst_documents import worst_documents

        config, inputs, progress = context.config, context.inputs, context.progress
        assert isinstance(config, EvaluateConfig)
        totals, others = predicted
        round_trip, lost, bits_a_document = self._loss_of_text(inputs["encode"])
        chosen = self.chosen_metrics(config)
        metrics = [metric for metric in chosen if isinstance(metric, TextMetric)]
        of_texts = [metric for metric in chosen if not isinstance(metric, TextMetric)]
        if lost:
            metrics = [PERPLEXITY, *(metric for metric in metrics if metric.key not in (BITS.key, PERPLEXITY.key))]
        metrics.sort(key=lambda metric: metric.key != PERPLEXITY.key)  # beside the loss
        with progress.bar("metrics", total=len(totals.heldout.sources) + 1, unit="sources") as bar:
            overall = score(totals.rows, metrics) | self._score_texts(context, others["samples"], of_texts)
            bar.update()
            sources = {}
            for name, rows in totals.of_sources():
                sources[name] = score(rows, metrics)
                bar.update()
        named = [(document.id, document.source) for document in read_documents(inputs["curate"] / "test")]
        write_documents(context.output, named, totals.rows)
        has_baselines = config.baselines and not lost
        figures = (loss_of(totals.rows), "loss") if lost else (bits_of(totals.rows) / totals.heldout.bytes_of, BITS.key)
        return {
            "task": self.type,
            "test": overall,
            "sources": sources,
            "baselines": self._baselines(context, totals, before, bits_a_document) if has_baselines else {},
            **others,
            "samples": self._with_copies(context, others["samples"]),
            "worst_documents": worst_documents(read_documents(inputs["curate"] / "test"), *figures),
            "round_trip": round_trip,
            **self.figures_of_others([*metrics, *of_texts]),
            "withheld": {BITS.key: lost} if lost else {},
            "warnings": [NO_BITS] if lost else [ONE_BIT_MORE] if bits_a_document else [],
        }

    def _baselines(
        self, context: TaskContext, totals: DocumentTotals, before: DocumentTotals | None, bits_a_document: int
    ) -> dict[str, Any]:
        from pipeline.evaluation.baselines import BASELINES, Coded, Texts
        from pipeline.evaluation.scores import bits_of, compare_bits

        inputs = context.inputs
        train, test = (self.open_split(inputs["pack"], inputs["encode"], split) for split in ("train", "test"))
        folders = inputs["curate"] / "train", inputs["curate"] / "test"
        texts = Texts(train, test, *folders, bits_a_document, context.num_workers)
        coded = {}
        if before is not None:
            what = "this model before its training: with its first weights, or those that it was fine-tuned from"
            coded["before_training"] = Coded(bits_of(before.rows), what)
        with context.progress.bar("baselines", total=len(BASELINES), unit="kinds") as bar:
            for baseline in BASELINES:
                coded |= baseline(texts)
                bar.update()
        return {name: {**compare_bits(totals.rows, one.bits), "what": one.what} for name, one in coded.items()}

    def _samples(self, context: TaskContext, trained: TrainedModel) -> list[dict[str, Any]]:
        from pipeline.corpus.document_shards import count_documents, read_texts
        from pipeline.evaluation.samples import openings, write_samples
        from pipeline.tokens.tokenizer_folder import load_tokenizer

        assert isinstance(context.config, EvaluateConfig)
        config, documents = context.config.samples, context.inputs["curate"] / "test"
        test = self.open_split(context.inputs["pack"], context.inputs["encode"], "test")
        number = config.num_samples
        found = () if config.prompts else openings(read_texts(documents), count_documents(documents), number)
        prompts = config.prompts or [opening for opening, _ in found]
        samples = []
        with context.progress.bar("samples", total=len(prompts), unit="texts") as bar:
            for sample in write_samples(
                trained.model,
                load_tokenizer(context.inputs["train"] / "model"),
                prompts,
                config,
                context.seed,
                eos_token_id=test.eos_token_id,
                pad_token_id=test.pad_token_id,
                device=trained.device,
                processes=trained.processes,
            ):
                samples.append(sample)
                bar.update()
        return samples

    def _score_texts(
        self, context: TaskContext, samples: Sequence[Mapping[str, Any]], metrics: Sequence[EvaluateModule]
    ) -> dict[str, float | None]:
        """Metrics of samples against the texts whose openings they continue, as far as a sample may reach."""
        from pipeline.corpus.document_shards import count_documents, read_texts
        from pipeline.evaluation.samples import first_tokens, openings
        from pipeline.tokens.tokenizer_folder import load_tokenizer

        if not metrics:
            return {}
        documents, tokenizer = context.inputs["curate"] / "test", load_tokenizer(context.inputs["train"] / "model")
        found = openings(read_texts(documents), count_documents(documents), len(samples))
        references = [
            first_tokens(tokenizer, rest, sample["settings"]["max_new_tokens"])
            for (_, rest), sample in zip(found, samples, strict=True)
        ]
        return {metric.key: metric.compute([one["text"] for one in samples], references) for metric in metrics}

    def _with_copies(self, context: TaskContext, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Samples, each with `copied`: the longest run of its tokens that stands in the training stream, None where
        that is a phrase of a few tokens."""
        from pipeline.evaluation.memorization import longest_copies
        from pipeline.tokens.tokenizer_folder import load_tokenizer

        if not samples:
            return []
        tokenizer = load_tokenizer(context.inputs["train"] / "model")
        train = self.open_split(context.inputs["pack"], context.inputs["encode"], "train")
        texts = [tokenizer.encode(sample["text"], add_special_tokens=False).ids for sample in samples]
        copies = []
        for ids, (start, length) in zip(texts, longest_copies(train.stream, texts), strict=True):
            copied = tokenizer.decode(ids[start : start + length])
            copies.append({"tokens": length, "of": len(ids), "text": copied} if length else None)
        return [{**sample, "copied": copy} for sample, copy in zip(samples, copies, strict=True)]

    def words_for(self, evaluation: Mapping[str, Any]) -> TaskWords:
        """Without bits per byte where the tokenizer loses text: they are not those of the text's bytes."""
        words = super().words_for(evaluation)
        if BITS.key not in (evaluation.get("withheld") or {}):
            return words
        return replace(words, figures=tuple(one for one in words.figures if one != BITS.figure), main=PERPLEXITY.figure)
