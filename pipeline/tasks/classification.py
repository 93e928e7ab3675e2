"""Predict the label of a document, one of those in the training split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import BadDataError
from pipeline.evaluation.metrics import Figure
from pipeline.evaluation.metrics.accuracy import Accuracy
from pipeline.evaluation.metrics.f1_macro import MacroF1
from pipeline.tasks.base_labelled import Labelled
from pipeline.tasks.task_words import DOCUMENTS, TaskWords

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedConfig

    from pipeline.tokens.labelled_split import LabelledDocuments, LabelledSplit
    from pipeline.training.train_config import TrainConfig

MAX_LISTED = 8
"""Labels of a kind that a warning names one by one."""

UNSEEN = "label not in the training split"

ACCURACY, F1 = Accuracy(), MacroF1()


def _more_right(own: float, other: float) -> str:
    points = 100 * (own - other)
    return f"the model gets {abs(points):.1f} {'more' if points >= 0 else 'fewer'} of 100 documents right"


class Classification(Labelled, type="classification"):
    """Predict the class of a document. A label of a batch is the number of a class, int64; -100 is no target."""

    predicts: ClassVar = "classes"
    metrics: ClassVar = (ACCURACY, F1)
    label_dtype: ClassVar = "int64"
    outputs: ClassVar = ("single_label_classification", 2)
    words: ClassVar = TaskWords(
        noun="classifier",
        target="labelled document",
        window="document",
        loss="loss (nats per document)",
        figures=(ACCURACY.figure, F1.figure, Figure("loss", "loss (nats/document)"), DOCUMENTS),
        main=ACCURACY.figure,
        verdict=_more_right,
        hub_tag="text-classification",
        hub_task=("text-classification", "Text classification"),
        limitation="It gives every text one of its classes, also one that belongs to none of them.",
    )

    def classes_of(self, labels: Iterable[str | None]) -> list[str]:
        """The labels, each once and sorted: class number i is the i-th. Raises BadDataError when there is but one,
        since then there is nothing to tell apart."""
        classes = sorted({label for label in labels if label is not None})
        if len(classes) < 2:
            raise BadDataError(
                f"pack: all labels of the training split are {classes[0]!r}; a classification needs two classes or more"
            )
        return classes

    def choose(self, labels: Sequence[str | None], classes: Sequence[str] | None, split: str) -> LabelledDocuments:
        """The documents whose label is a class. A label that no training document has cannot be learned: such
        documents are left out and counted."""
        import numpy as np

        from pipeline.tokens.labelled_split import LabelledDocuments, count_dropped

        numbers = {label: number for number, label in enumerate(classes or ())}
        kept = [index for index, label in enumerate(labels) if label in numbers]
        targets = np.array([numbers[label] for index in kept if (label := labels[index]) is not None], dtype=np.int64)
        unseen = sum(label is not None for label in labels) - len(kept)
        return LabelledDocuments(np.array(kept, dtype=np.int64), targets, count_dropped(labels, {UNSEEN: unseen}))

    def describe(self, found: LabelledDocuments, classes: Sequence[str] | None) -> dict[str, Any]:
        """Documents of each class."""
        counts = Counter(found.targets.tolist())
        return {"classes": {label: counts[number] for number, label in enumerate(classes or ())}}

    def doubts(self, labels: Iterable[str | None], train: Mapping[str, Any]) -> list[str]:
        """Different labels that may have been meant as one, or as none."""
        from pipeline.corpus.label_forms import alike_labels, like_none

        names = {label for label in labels if label is not None}
        warnings = []
        if groups := alike_labels(names):
            shown = "; ".join(_listed(group, " and ") for group in groups[:MAX_LISTED])
            more = f" (and {len(groups) - MAX_LISTED} more)" if len(groups) > MAX_LISTED else ""
            warnings.append(
                f"classes that differ in nothing but case, white space or the way to write a number: {shown}{more}; "
                "each is a class of its own: spell them alike in the sources where they are one"
            )
        if found := like_none(names):
            warnings.append(
                f"classes that look like missing labels: {_listed(found, ', ')}; leave them empty in the sources where "
                "they are none"
            )
        return warnings

    def start_loss(self, logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, float | None]:
        import torch
        from torch.nn import functional

        classes = torch.arange(len(ids), device=logits.device) % logits.shape[-1]
        return functional.cross_entropy(logits, classes), math.log(logits.shape[-1])

    def guess_loss(self, model_config: PreTrainedConfig) -> float | None:
        return math.log(model_config.num_labels)

    def frequency_loss(self, train: LabelledSplit, validation: LabelledSplit, config: TrainConfig) -> float | None:
        """With add-one smoothing, in nats a document."""
        import numpy as np

        held_out = validation.targets.astype(np.int64)
        counts = np.bincount(train.targets.astype(np.int64), minlength=int(held_out.max()) + 1) + 1
        return float(np.mean(np.log(counts.sum()) - np.log(counts)[held_out]))

    def is_target(self, labels: torch.Tensor) -> torch.Tensor:
        from pipeline.tokens.packed_split import IGNORED_LABEL

        return labels != IGNORED_LABEL

    def validation_means(self, sums: torch.Tensor) -> dict[str, float]:
        """The loss in nats a document, its standard error, and the part of the documents that are told rightly."""
        from pipeline.evaluation.losses import TokenSums

        found = TokenSums.from_tensor(sums)
        return {"loss": found.loss, "loss_error": found.loss_error, "accuracy": found.correct / found.tokens}

    def predictions(self, logits: NDArray[np.float64]) -> NDArray[np.int64]:
        """The number of the likeliest class."""
        return logits.argmax(-1)

    def losses(self, logits: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
        """The cross-entropy in nats."""
        import numpy as np

        return _log_normalizer(logits) - logits[np.arange(len(logits)), targets]

    def baseline(self, train: LabelledSplit, names: Mapping[int, str]) -> tuple[str, float, str]:
        """The most frequent class of the training split."""
        import numpy as np

        counts = np.bincount(train.targets.astype(np.int64))
        largest = int(counts.argmax())
        share = counts[largest] / len(train)
        what = f"always {names[largest]!r}, the label of {share:.1%} of the training documents"
        return "majority_class", largest, what

    def reliability(self, logits: NDArray[np.float64], targets: NDArray[Any]) -> dict[str, Any]:
        from pipeline.evaluation.token_records import calibration_of

        return {"calibration": calibration_of(_confidence(logits), self.predictions(logits) == targets)}

    def columns(self, logits: NDArray[np.float64], targets: NDArray[Any], names: Mapping[int, str]) -> dict[str, Any]:
        """Names of classes, and the probability that the model gives its prediction."""
        told = [[names[number] for number in numbers.tolist()] for numbers in (targets, self.predictions(logits))]
        return {"label": told[0], "prediction": told[1], "probability": _confidence(logits)}


def _confidence(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of the likeliest class."""
    import numpy as np

    probabilities: NDArray[np.float64] = np.exp(logits.max(-1) - _log_normalizer(logits))
    return probabilities


def _log_normalizer(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    total: NDArray[np.float64] = np.logaddexp.reduce(logits, axis=-1)
    return total


def _listed(names: Sequence[str], joint: str) -> str:
    return joint.join(repr(name[:60]) for name in names[:MAX_LISTED])
