"""A statistic of one model on the training data of one task, as a step with a key."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmn import checkpoint, evaluation
from fmn.checkpoint import Checkpoint
from fmn.errors import CheckpointError, FisherError
from fmn.evaluation import DataSource, Encoded, Task
from fmn.keys import canonical_json
from fmn.recipe import FisherSettings
from fmn.statistics import Measurement, Statistic
from fmn.steps.context import Context
from fmn.steps.kind import OpenedZoo, Reference, StepKind, Steps
from fmn.steps.step import NeedsError, Step, check_head, identity, split_digest
from fmn.store import Draft, Gone, Memo, Store

if TYPE_CHECKING:
    from fmn.fisher import Estimate, HeadStates

ALGORITHM = 1
"""Of every statistic; it rises when a change moves more than the last bits of one."""

UNSAID = {"replacement": False, "dtype": "same"}
"""Settings that a statistic's record has only where they are otherwise."""


class KeyedStatistic(Step):
    """A statistic by the key in the store.

    How it is had where the store lacks it is for :meth:`draft` to say.
    """

    kind = "fisher"

    def load(self, store: Store, context: Context) -> Measurement:
        """Return it from the store; one whose file is corrupt is had again.

        Raises:
            NeedsError: it is not there.
        """
        record = store.get(self.kind, self.key)
        if record is None:
            raise NeedsError(f"needs the {self.title}, which is not in the store")
        try:
            return Measurement(*checkpoint.read(store.path(record.outputs["fisher"])))
        except Gone:
            record = store.repair(record, lambda folder: self.draft(store, context, folder))
            return Measurement(*checkpoint.read(store.path(record.outputs["fisher"])))

    def write(self, out: Path, store: Store, context: Context) -> int:
        """Write it from the store to a file; return how many examples it is over."""
        measurement = self.load(store, context)
        with checkpoint.new_file(out) as staging:
            checkpoint.write(staging, measurement.tensors, dict(measurement.metadata))
        return int(measurement.metadata["examples"])


@dataclass(frozen=True)
class StatisticStep(KeyedStatistic):
    """What a statistic of a model is computed from.

    Attributes:
        checkpoint: the model.
        task: whose training data is used.
        data: hub id, directory, or sentences that serve in its place.
        statistic: which one.
        settings: how it is computed.
        memo: digests of files.
        labels: the recipe's map from the model's label names to the task's.
        name: what the model is called.
    """

    checkpoint: Checkpoint
    task: Task
    data: DataSource
    statistic: Statistic
    settings: FisherSettings
    memo: Memo
    labels: Mapping[str | int | bool, str] | None = None
    name: str = ""

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Model, training examples, and how it is taken.

        The batch size only where it changes the result.

        Raises:
            DataError: the data or the labels do not fit.
        """
        # before the data is read: a model of another task shows here first
        order = self.label_order()
        data, rows = split_digest(self.data, self.task, self.task.train, self.memo)
        settings = self.settings
        taken: dict[str, Any] = {
            "samples": min(settings.samples, rows),
            "seed": settings.seed,
            "max_length": settings.max_length,
        }
        if settings.replacement:
            taken["replacement"] = True
        taken |= self.statistic.taken(settings, is_language=self.task.is_language)
        if settings.dtype != "same":
            taken["dtype"] = settings.dtype
        return {
            "of": self.statistic.name,
            "algorithm": ALGORITHM,
            "model": identity(self.checkpoint, self.memo),
            "task": self.task.content | {"order": order},
            "data": data,
            "settings": taken,
        }

    @property
    def labels_used(self) -> str:
        """The labels that the loss is taken of; empty where there is none."""
        return self.statistic.labels_of(self.settings, is_language=self.task.is_language)

    @property
    def title(self) -> str:
        """Such as ``mask Fisher of sst2``."""
        return f"{self.statistic.title} of {self.name or self.checkpoint.name}"

    def provenance(self) -> dict[str, Any]:
        """Say what the model and the data are called."""
        return {
            "model": self.checkpoint.name,
            "name": self.name,
            "task": self.task.name,
            "data": str(self.data),
            **({} if isinstance(self.data, str) else {"is_text": True}),
        }

    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Compute it."""
        file = folder / "fisher.safetensors"
        self.compute(context).save(file)
        return Draft(files={"fisher": file}, device=context.torch_device())

    def save(self, out: Path, context: Context, store: Store | None) -> tuple[int, bool]:
        """Write the Fisher's file.

        Return how many examples it is over, and whether it was in the store.
        """
        if store is None:
            result = self.compute(context)
            result.save(out)
            return result.examples, False
        outcome = self.run(store, context)
        return self.write(out, store, context), outcome.cached

    def prepare(self, context: Context) -> Encoded:
        """Load and encode the examples: what can go wrong before the model runs does so here.

        Raises:
            ArchitectureError, CheckpointError, DataError: the family, the tokenizer, the data or
                its labels do not fit.
            FisherError: settings that contradict each other, or the kind of Fisher.
        """
        from fmn import architectures

        self.statistic.check(self.settings, context.memory, is_language=self.task.is_language)
        architectures.get(self.checkpoint.model_type)
        check_head(self.checkpoint, self.task)
        self.label_order()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            encoded = context.encode(
                self.checkpoint,
                self.data,
                self.task,
                self.task.train,
                max_length=self.settings.max_length,
                limit=self.settings.samples,
                seed=self.settings.seed,
                replacement=self.settings.replacement,
            )
        for warning in caught:
            context.report.warn(str(warning.message))
        return encoded

    def compute(self, context: Context) -> Estimate:
        """Compute it.

        Raises:
            FmnError: see :meth:`prepare` and the statistic's estimator.
        """
        encoded = self.prepare(context)
        compute = self.statistic.compute()
        options = self.statistic.options(
            self.settings, context.memory, is_language=self.task.is_language
        )
        model = context.model(self.checkpoint, self.settings.dtype, spread=True)
        title = f"{self.statistic.title} of {self.checkpoint.name}"
        with self._tracked(context, model, encoded, title) as (batches, advance):
            estimate: Estimate = compute(model, batches, progress=advance, **options)
        weights = identity(self.checkpoint, self.memo)["weights"]
        return dataclasses.replace(estimate, model=weights, data=self._data(encoded))

    def read_head(self, context: Context, model: Any) -> HeadStates:
        """Return the head's states of the same examples, in the same order, of a merge.

        Raises:
            FmnError: see :meth:`prepare` and :func:`fmn.fisher.read_head`.
        """
        from fmn.fisher import read_head

        encoded = self.prepare(context)
        title = f"head of {self.name or self.checkpoint.name} on the merge"
        with self._tracked(context, model, encoded, title) as (batches, advance):
            return read_head(model, batches, progress=advance)

    @contextmanager
    def _tracked(
        self, context: Context, model: Any, encoded: Encoded, title: str
    ) -> Iterator[tuple[Iterator[Any], Callable[[int], None]]]:
        """Yield the examples as the model takes them, and what is told how many are done."""
        with (
            self.examples(context, model) as batches,
            context.report.track(title, len(encoded)) as advance,
        ):
            try:
                yield batches, advance
            except FisherError as error:
                raise FisherError(f"{self.checkpoint.name}: {error}") from error

    @contextmanager
    def examples(self, context: Context, model: Any) -> Iterator[Iterator[Any]]:
        """Yield batches of the examples as the model takes them, which gets their padding token.

        Raises:
            FmnError: see :meth:`prepare`.
        """
        with evaluation.padded(model, self.prepare(context)) as examples:
            batches = examples.batches(
                self.settings.batch_size,
                order=self.statistic.order(self.settings),
                label_order=self.label_order(),
            )
            yield (batch for _, batch in batches)

    def label_order(self) -> tuple[int, ...]:
        """Return the label of the data that each output of the model means."""
        return evaluation.label_order(self.task, id2label(self.checkpoint), self.labels)

    def _data(self, encoded: Encoded) -> str:
        described: dict[str, Any] = {
            "task": self.task.name,
            "split": self.task.train,
            "seed": self.settings.seed,
            "max_length": self.settings.max_length,
            "digest": encoded.digest(),
        }
        if self.settings.replacement:
            described["replacement"] = True
        if evaluation.split_file(self.data, self.task, self.task.train) is None:
            # a hub id; a path would say nothing elsewhere, and make equal Fishers differ
            described["source"] = str(self.data)
        return canonical_json(described).decode()


def id2label(checkpoint: Checkpoint) -> dict[Any, str]:
    """Return the model's label names.

    LABEL_0 and LABEL_1 where the configuration leaves them out, as transformers does.

    Raises:
        CheckpointError: the configuration's names are not by number.
    """
    names = checkpoint.config.get("id2label") or {}
    if not isinstance(names, dict) or not all(str(number).isdecimal() for number in names):
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: id2label is {names!r}; expected a name for each "
            "output's number"
        )
    return names or {
        number: f"LABEL_{number}" for number in range(int(checkpoint.config.get("num_labels", 2)))
    }


def _references(zoo: OpenedZoo) -> Iterator[Reference]:
    for statistic in zoo.statistics:
        for name, member in zoo.members.items():
            if isinstance(member.statistics.get(statistic), KeyedStatistic):
                yield Reference("fisher", (name,), statistic)


def _step(graph: Steps, reference: Reference) -> Step:
    step = graph.zoo.members[reference.models[0]].statistics[reference.variant]
    assert isinstance(step, KeyedStatistic)
    return step


STATISTIC = StepKind(
    name="fisher",
    record="fisher",
    heading="fisher",
    noun="Fisher",
    references=_references,
    step=_step,
    aspects=("fishers",),
    looked_for=True,
)
"""One a model and statistic, but for those that were given as files."""
