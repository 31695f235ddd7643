"""The Fisher of one model on the training data of one task."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fmn import evaluation
from fmn.checkpoint import Checkpoint
from fmn.errors import CheckpointError, FisherError
from fmn.evaluation import Encoded, Task
from fmn.keys import canonical_json
from fmn.recipe import FisherSettings
from fmn.steps.bench import Bench

if TYPE_CHECKING:
    from fmn.fisher import DiagonalFisher, MaskFisher

Kind = Literal["mask", "diagonal"]


@dataclass(frozen=True)
class FisherStep:
    """What a Fisher is computed from.

    Attributes:
        checkpoint: the model.
        task: whose training data is used.
        data: hub id or directory.
        kind: of mask nodes or the full diagonal.
        settings: how it is computed.
        labels: the recipe's map from the model's label names to the task's.
    """

    checkpoint: Checkpoint
    task: Task
    data: str
    kind: Kind
    settings: FisherSettings
    labels: Mapping[str | int | bool, str] | None = None

    def prepare(self, bench: Bench) -> Encoded:
        """Load and encode the examples: everything that can go wrong before the model runs goes wrong here.

        Raises:
            ArchitectureError, CheckpointError, DataError: the family, the tokenizer, the data or its labels do not fit.
        """
        from fmn import architectures

        architectures.get(self.checkpoint.model_type)
        self.label_order()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            encoded = bench.encode(
                self.checkpoint,
                self.data,
                self.task,
                self.task.train,
                max_length=self.settings.max_length,
                limit=self.settings.samples,
                seed=self.settings.seed,
            )
        for warning in caught:
            bench.report.warn(str(warning.message))
        return encoded

    def run(self, bench: Bench) -> MaskFisher | DiagonalFisher:
        """Compute the Fisher.

        Raises:
            FmnError: see :meth:`prepare` and :func:`fmn.fisher.mask_fisher`.
        """
        from fmn.fisher import diagonal_fisher, mask_fisher

        encoded = self.prepare(bench)
        model = bench.model(self.checkpoint)
        # per-batch aggregation depends on which examples share a batch: the published numbers took them in file order
        order = "file" if self.settings.aggregation == "per-batch" and self.kind == "mask" else "length"
        batches = (batch for _, batch in encoded.batches(self.settings.batch_size, order=order, label_order=self.label_order()))
        options: dict[str, Any] = {"seed": self.settings.seed or 0}
        if self.settings.labels:
            options["labels"] = self.settings.labels
        if self.kind == "mask":
            options |= {"placement": self.settings.placement, "aggregation": self.settings.aggregation}
        compute: Callable[..., MaskFisher | DiagonalFisher] = mask_fisher if self.kind == "mask" else diagonal_fisher
        with bench.report.track(f"{self.kind} Fisher of {self.checkpoint.name}", len(encoded)) as advance:
            try:
                fisher = compute(model, batches, progress=advance, **options)
            except FisherError as error:
                raise FisherError(f"{self.checkpoint.name}: {error}") from error
        return dataclasses.replace(fisher, model=self.checkpoint.digest(), data=self._data(encoded))

    def label_order(self) -> tuple[int, ...]:
        """Return the label of the data that each output of the model means."""
        return evaluation.label_order(self.task, id2label(self.checkpoint), self.labels)

    def _data(self, encoded: Encoded) -> str:
        said = {
            "source": self.data,
            "task": self.task.name,
            "split": self.task.train,
            "seed": self.settings.seed,
            "max_length": self.settings.max_length,
            "digest": encoded.digest(),
        }
        return canonical_json(said).decode()


def id2label(checkpoint: Checkpoint) -> dict[Any, str]:
    """Return the model's label names; LABEL_0 and LABEL_1 where the configuration leaves them out, as transformers does.

    Raises:
        CheckpointError: the configuration's names are not by number.
    """
    found = checkpoint.config.get("id2label") or {}
    if not isinstance(found, dict) or not all(str(number).isdecimal() for number in found):
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: id2label is {found!r}; expected a name for each output's number"
        )
    return found or {number: f"LABEL_{number}" for number in range(int(checkpoint.config.get("num_labels", 2)))}
