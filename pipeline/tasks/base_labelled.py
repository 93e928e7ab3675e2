"""Base of tasks in which each document has one label."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline import atomic
from pipeline.evaluation.evaluate_config import EvaluateConfig
from pipeline.tasks.base_task import Task, TaskContext
from pipeline.tokens.packing import PackConfig

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pipeline.config import Config
    from pipeline.evaluation.losses import Batch
    from pipeline.evaluation.trained_model import TrainedModel
    from pipeline.modeling.heads import Head
    from pipeline.tokens.labelled_split import LabelledDocuments, LabelledSplit


class Labelled(Task):
    """A row is a document that has a label: cut after `block_size` tokens, and padded on its right to the longest of
    its batch. Labels are (B,)."""

    auto_class: ClassVar = "AutoModelForSequenceClassification"
    label_dtype: ClassVar[str]
    """Of the labels of a batch, as numpy and torch call it."""

    outputs: ClassVar[tuple[str, int]]
    """transformers' `problem_type`, and how many outputs the head has while the classes are not known."""

    def check(self, config: Config) -> None:
        super().check(config)
        if config.evaluate.stride is not None or config.evaluate.samples.prompts:
            raise ValueError(f"evaluate.stride and samples are for language models, not for {self.type}; remove them")
        if config.train is not None and config.train.max_tokens is not None:
            raise ValueError(
                f"train.max_tokens counts tokens of a language model; for {self.type} give num_train_epochs"
            )
        if config.ingest is not None and not any(getattr(s, "label_field", None) for s in config.ingest.sources):
            raise ValueError(
                f"model.task {self.type} needs labels, and no source has any; name their field or column by "
                "ingest.sources.0.label_field"
            )

    def head(self, pack_folder: Path | None = None) -> Head:
        """An output for each class of the training split; as many as `outputs` says where there are none."""
        from pipeline.modeling.heads import head_over_labels
        from pipeline.tokens.labelled_split import CLASSES

        classes = None if pack_folder is None else json.loads((pack_folder / CLASSES).read_bytes())["classes"]
        return head_over_labels(*self.outputs, classes)

    def classes_of(self, labels: Sequence[str | None]) -> list[str] | None:
        """The classes among the labels of the training split; None where labels are numbers."""
        return None

    @abstractmethod
    def choose(self, labels: Sequence[str | None], classes: Sequence[str] | None, split: str) -> LabelledDocuments:
        """The documents of a split that become rows, with their targets."""

    @abstractmethod
    def describe(self, found: LabelledDocuments, classes: Sequence[str] | None) -> dict[str, Any]:
        """Figures of the targets of a split."""

    def doubts(self, labels: Iterable[str | None], train: Mapping[str, Any]) -> list[str]:
        """Warnings about the labels of all splits, or about the figures of the training split."""
        return []

    def pack(self, context: TaskContext) -> dict[str, Any]:
        """Write also `<split>/sequences.npy` and `targets.npy`, and `labels/classes.json`."""

        from pipeline.corpus.array_files import save_array
        from pipeline.tokens import labelled_split

        config, encode, output = context.config, context.inputs["encode"], context.output
        assert isinstance(config, PackConfig)
        encoded = json.loads((encode / "encode.json").read_bytes())
        labels = {split: labelled_split.read_stream_labels(encode, split) for split in encoded["splits"]}
        classes = self.classes_of(labels["train"])
        (output / labelled_split.CLASSES).parent.mkdir()
        atomic.write_json(output / labelled_split.CLASSES, {"task": self.type, "classes": classes})
        splits: dict[str, Any] = {}
        dropped: Counter[str] = Counter()
        for split in encoded["splits"]:
            found = self.choose(labels[split], classes, split)
            packed = labelled_split.pack_documents(encoded, encode, split, config.block_size, self.strategy, found)
            (output / split).mkdir()
            atomic.write_json(output / split / "pack.json", packed)
            save_array(output / split / labelled_split.SEQUENCES, found.sequences)
            save_array(output / split / labelled_split.TARGETS, found.targets)
            names = ("windows", "tokens", "target_tokens", "truncated", "dropped")
            splits[split] = {name: packed[name] for name in names} | self.describe(found, classes)
            dropped.update(found.dropped)
            for reason, count in found.dropped.items():
                context.progress.say(f"{split}: {count:,} documents left out: {reason}")
            if packed["truncated"]:
                context.progress.say(
                    f"{split}: {packed['truncated']:,} of {packed['windows']:,} documents are cut after "
                    f"{config.block_size} tokens; raise pack.block_size to keep them whole"
                )
        warnings = self.doubts(chain.from_iterable(labels.values()), splits["train"])
        told = {"warnings": warnings} if warnings else {}
        return {"block_size": config.block_size, "classes": classes, "splits": splits, "dropped": dict(dropped), **told}

    def first_windows(self, folder: Path, sources: Sequence[Mapping[str, Any]]) -> list[int]:
        import numpy as np

        from pipeline.tokens.labelled_split import SEQUENCES

        documents = np.load(folder / SEQUENCES)
        return np.searchsorted(documents, [source["first_document"] for source in sources]).tolist()

    def open_split(self, pack_folder: Path, encode: Path, split: str) -> LabelledSplit:
        from pipeline.tokens.labelled_split import LabelledSplit

        return LabelledSplit.open(pack_folder, encode, split, self.label_dtype)

    def example_batch(self, ids: torch.Tensor) -> Batch:
        import torch

        labels = ids[:, 0].to(getattr(torch, self.label_dtype))
        return {"input_ids": ids, "attention_mask": ids.new_ones(ids.shape), "labels": labels}

    @abstractmethod
    def is_target(self, labels: torch.Tensor) -> torch.Tensor:
        """Which labels are targets, (B,) bool."""

    def token_weights(self, batch: Batch) -> torch.Tensor:
        """The same weight for all tokens of a row."""
        import torch

        tokens = batch["attention_mask"].to(torch.float32)
        return tokens / tokens.sum(1, keepdim=True) * self.is_target(batch["labels"])[:, None]

    @abstractmethod
    def predictions(self, logits: NDArray[np.float64]) -> NDArray[Any]:
        """The predicted label of each row, (B,), from its logits (B, C)."""

    @abstractmethod
    def losses(self, logits: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
        """The cross-entropy or squared error of each row, (B,)."""

    @abstractmethod
    def baseline(self, train: LabelledSplit, names: Mapping[int, str]) -> tuple[str, float, str]:
        """The best constant prediction: its name, value and description."""

    def reliability(self, logits: NDArray[np.float64], targets: NDArray[Any]) -> dict[str, Any]:
        """`calibration` of an evaluation, where predictions have probabilities."""
        return {}

    def columns(self, logits: NDArray[np.float64], targets: NDArray[Any], names: Mapping[int, str]) -> dict[str, Any]:
        """Columns of `predictions.parquet`: `label`, `prediction` and others. `names` are those of the model's
        outputs."""
        return {"label": targets, "prediction": self.predictions(logits)}

    def predict(self, context: TaskContext, trained: TrainedModel) -> tuple[NDArray[np.float64], Mapping[int, str]]:
        """The logits of every row (rows, C), and the names of the model's outputs."""
        from pipeline.evaluation.predictions import predict

        config, inputs = context.config, context.inputs
        assert isinstance(config, EvaluateConfig)
        test = self.open_split(inputs["pack"], inputs["encode"], "test")
        model, batch_size = trained.model, config.per_device_eval_batch_size
        with context.progress.bar("scoring", total=len(test), unit="docs") as bar:
            logits = predict(model, test, batch_size, trained.device, bar.update, trained.processes)
        return logits, model.config.id2label

    def evaluate(self, context: TaskContext, predicted: Any, before: Any) -> dict[str, Any]:
        """Scores and a baseline. Writes `predictions.parquet`, a row for each test document."""
        import numpy as np

        from pipeline.corpus.document_shards import read_documents
        from pipeline.evaluation.predictions import score_rows, write_predictions
        from pipeline.evaluation.worst_documents import worst_documents

        config, inputs = context.config, context.inputs
        assert isinstance(config, EvaluateConfig)
        logits, names = predicted
        test = self.open_split(inputs["pack"], inputs["encode"], "test")
        every = [(document.id, document.source) for document in read_documents(inputs["curate"] / "test")]
        ids, sources = zip(*(every[index] for index in test.documents), strict=True)
        losses = self.losses(logits, test.targets)
        train = self.open_split(inputs["pack"], inputs["encode"], "train")
        metrics = self.chosen_metrics(config)
        found = score_rows(
            self.predictions(logits),
            losses,
            test.targets,
            sources,
            metrics,
            self.baseline(train, names) if config.baselines else None,
        )
        told = self.columns(logits, test.targets, names)
        write_predictions(context.output, {"id": list(ids), "source": list(sources), **told})
        packed = json.loads((inputs["pack"] / "test/pack.json").read_bytes())
        others = self.figures_of_others(metrics)
        of_every = np.full(len(every), -np.inf)  # documents without a label are not among them
        of_every[test.documents] = losses
        return {
            "task": self.type,
            **found,
            **self.reliability(logits, test.targets),
            "worst_documents": [
                one
                for one in worst_documents(read_documents(inputs["curate"] / "test"), of_every, "loss")
                if one["loss"] > -np.inf
            ],
            "samples": [],
            "left_out": packed["dropped"],
            **others,
        }
