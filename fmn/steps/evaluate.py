"""Scores of a model, or of every task of a merge."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fmn import evaluation
from fmn.checkpoint import Checkpoint
from fmn.errors import DataError
from fmn.evaluation import Encoded, Predicted, Scores, Task
from fmn.keys import digest
from fmn.params import EvaluateSettings
from fmn.steps.context import Context, NoBars
from fmn.steps.kind import Reference, StepKind, of_every_merge, the_merge
from fmn.steps.merge import MergeStep
from fmn.steps.scores import TaskScores, as_draft, parted, predicted, task_scores
from fmn.steps.statistic import id2label
from fmn.steps.step import Step, check_head, identity, split_digest
from fmn.store import Draft, Memo, Store

EXPLAINED_ON = 256
"""Training examples on which a permutation of labels is looked for."""

Labels = Mapping[str | int | bool, str]


ALGORITHM = 1
"""Of measuring; it rises when a change makes other scores."""


@dataclass(frozen=True)
class EvaluateStep(Step):
    """What is measured: one model on one task.

    Attributes:
        checkpoint: the model.
        task: the task.
        data: hub id or directory.
        settings: split, limit, length, batch size.
        memo: digests of files.
        labels: the recipe's map from the model's label names to the task's.
        individual: a score far below chance is looked into: the labels may be permuted.
        name: what the model is called.
    """

    kind = "evaluate"

    checkpoint: Checkpoint
    task: Task
    data: str
    settings: EvaluateSettings
    memo: Memo
    labels: Labels | None = None
    individual: bool = True
    name: str = ""

    @cached_property
    def measure(self) -> dict[str, Any]:
        """What is measured, whatever the model: data, metrics, what the outputs mean.

        Raises:
            CheckpointError, DataError: the data or the labels do not fit.
        """
        task, limit = self.task, self.settings.limit
        # before the data is read: a model of another task shows here first
        order = self.label_order()
        splits = {
            suffix: split_digest(self.data, task, split, self.memo)
            for suffix, split in self.splits().items()
        }
        self._check_parts(count for _, count in splits.values())
        rows = max(count for _, count in splits.values())
        return {
            "algorithm": ALGORITHM,
            "task": task.content | {"metrics": task.metrics},
            "order": order,
            "splits": {suffix: content for suffix, (content, _) in splits.items()},
            "limit": None if limit is None or limit >= rows else limit,
            "max_length": self.settings.max_length,
            "tokenizer": identity(self.checkpoint, self.memo)["tokenizer"],
            **({} if self.settings.select is None else {"select": self.settings.select}),
        }

    @cached_property
    def measure_key(self) -> str:
        """Digest of what is measured."""
        return digest("measure", self.measure)

    @cached_property
    def undivided(self) -> EvaluateStep:
        """The same where no rows choose: what is predicted is the same, so nobody need do both."""
        return replace(self, settings=self.settings.model_copy(update={"select": None}))

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The model, and what is measured."""
        return {
            "model": identity(self.checkpoint, self.memo),
            "name": self.name,
            "measure": self.measure,
        }

    @property
    def title(self) -> str:
        """Such as ``evaluation of sst2``."""
        return f"evaluation of {self.name or self.checkpoint.name}"

    def provenance(self) -> dict[str, Any]:
        """Say what the model and the data are called."""
        return {
            "model": self.checkpoint.name,
            "task": self.task.name,
            "data": self.data,
            "splits": self.splits(),
        }

    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Measure, unless the store knows what the model predicts for all rows."""
        known = None
        if self.settings.select is not None:
            known = self.part(predicted(store, self.undivided.key, {}).get(self.name))
        return as_draft({self.name: known or self.compute(context)}, context, folder)

    def part(self, known: Predicted | None) -> TaskScores | None:
        """Return the scores of what was predicted for all rows, where some of them choose.

        None if that is not known of every split.
        """
        share, splits = self.settings.select, self.splits()
        if share is None or known is None or known.splits.keys() != splits.keys():
            return None
        return parted(self.task, {suffix: known.splits[suffix] for suffix in splits}, share)

    def label_order(self) -> tuple[int, ...]:
        """Return the label of the data that each output of the model means."""
        return evaluation.label_order(self.task, id2label(self.checkpoint), self.labels)

    def splits(self) -> dict[str, str]:
        """Return the splits to measure on, by the suffix of their metrics."""
        if self.settings.split == "validation":
            return evaluation.validation_splits(self.data, self.task)
        return {"": self.settings.split}

    def prepare(self, context: Context) -> dict[str, Encoded]:
        """Load and encode the splits: what can go wrong before the model runs does so here.

        Raises:
            CheckpointError, DataError: the model's kind, its tokenizer, the data or its labels do
                not fit.
        """
        check_head(self.checkpoint, self.task)
        self.label_order()
        return {
            suffix: self._encode(context, split, self.settings.limit)
            for suffix, split in self.splits().items()
        }

    def compute(self, context: Context, model: Any = None) -> TaskScores:
        """Measure the checkpoint's model, or ``model`` in its place.

        Raises:
            CheckpointError, DataError: the model, the data or its labels do not fit.
        """
        order, parts = self.label_order(), self.prepare(context)
        model = model if model is not None else context.model(self.checkpoint)
        scores: dict[str, Scores] = {}
        for suffix, encoded in parts.items():
            with context.report.track(
                f"{self.task.name} on {self.checkpoint.name}", len(encoded)
            ) as advance:
                got = evaluation.evaluate(
                    model,
                    encoded,
                    self.task,
                    label_order=order,
                    batch_size=self.settings.batch_size,
                    progress=advance,
                )
            scores[suffix] = got
        if self.individual:
            self._look_into(context, model, order, next(iter(scores.values())))
        return task_scores(self.task, scores, self.settings.select)

    def _check_parts(self, counts: Iterable[int]) -> None:
        """Refuse splits of which no row would choose.

        Raises:
            DataError: the first of them.
        """
        share, limit = self.settings.select, self.settings.limit
        if share is None:
            return
        needed = evaluation.fewest(share)
        for split, count in zip(self.splits().values(), counts, strict=True):
            rows = min(count, limit or count)
            if rows < needed:
                raise DataError(
                    f"{self.task.name}/{split} has {_counted(rows)} to be measured"
                    f"{f' (limit: {limit})' if rows < count else ''}, and select: {share:g} leaves "
                    f"some to choose by from {needed} on; "
                    f"{'raise the limit' if rows < count else 'add rows'}, or leave select out"
                )

    def _encode(
        self, context: Context, split: str, limit: int | None, seed: int | None = None
    ) -> Encoded:
        length = self.settings.max_length
        with warnings.catch_warnings():
            # a limit is no demand: a split may well have fewer rows
            warnings.simplefilter("ignore", UserWarning)
            return context.encode(
                self.checkpoint,
                self.data,
                self.task,
                split,
                max_length=length,
                limit=limit,
                seed=seed,
            )

    def _look_into(
        self, context: Context, model: Any, order: tuple[int, ...], scores: Scores
    ) -> None:
        if scores.accuracy is None or not evaluation.below_chance(
            scores.accuracy, scores.examples, len(self.task.labels)
        ):
            return
        try:
            sample = self._encode(context, self.task.train, EXPLAINED_ON, seed=0)
            why = evaluation.explain_below_chance(
                model, sample, self.task, order, batch_size=self.settings.batch_size
            )
        except DataError:  # no training data: the score is right all the same
            why = None
        context.report.warn(
            f"{self.checkpoint.name}: "
            + (why or f"{self.task.name}: accuracy {scores.accuracy:.1%} is far below chance")
        )


def _counted(rows: int) -> str:
    return f"{rows:,} row{'s' * (rows != 1)}"


@dataclass(frozen=True)
class EvaluateMergeStep(Step):
    """A merge, measured on each of its models' tasks.

    Attributes:
        merge: the merge; it need not be stored, for it is derived again.
        measures: by name, how each model itself is measured.
    """

    kind = "evaluate"

    merge: MergeStep
    measures: Mapping[str, EvaluateStep]

    @property
    def inputs(self) -> dict[str, Any]:
        """The merge, and what is measured of each task."""
        return {
            "merge": self.merge.key,
            "measures": {name: step.measure_key for name, step in self.measures.items()},
        }

    @property
    def title(self) -> str:
        """Such as ``evaluation of sst2 + rte by average``."""
        return f"evaluation of {self.merge.title}"

    def provenance(self) -> dict[str, Any]:
        """Say what the models and the data are called, and what was measured."""
        steps = self.measures.items()
        return self.merge.provenance() | {
            "measures": {name: step.measure for name, step in steps},
            "data": {name: step.data for name, step in steps},
            "splits": {name: step.splits() for name, step in steps},
            "hub": sorted(
                name
                for name, s in steps
                if evaluation.split_file(s.data, s.task, s.settings.split) is None
            ),
        }

    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Derive the merge and measure it, unless the store knows what it predicts for all rows."""
        scores = self._parted(store) or self.compute(store, context)
        return replace(as_draft(scores, context, folder), read=self.merge.content(store))

    def _parted(self, store: Store) -> dict[str, TaskScores] | None:
        """Return the scores of what the merge predicted before any rows chose, if it is known."""
        if any(step.settings.select is None for step in self.measures.values()):
            return None
        undivided = {name: step.undivided for name, step in self.measures.items()}
        known = predicted(store, replace(self, measures=undivided).key, self.merge.content(store))
        scores = {name: step.part(known.get(name)) for name, step in self.measures.items()}
        whole = {name: each for name, each in scores.items() if each is not None}
        return whole if len(whole) == len(scores) else None

    def compute(self, store: Store, context: Context) -> dict[str, TaskScores]:
        """Derive the merge and measure it on each task; return that by name of the model.

        Raises:
            FmnError: it cannot be derived, or as :meth:`EvaluateStep.compute`.
        """
        merged = self.merge.derive(store, context, mend=True)
        quiet = replace(context, report=NoBars(context.report))
        return {
            name: replace(step, individual=False).compute(
                quiet, merged.put_into(context.body(step.checkpoint), name)
            )
            for name, step in self.measures.items()
        }


INDIVIDUAL = StepKind(
    name="individual",
    record="evaluate",
    heading="evaluate models",
    noun="evaluation",
    references=lambda zoo: (Reference("individual", (name,)) for name in zoo.members),
    step=lambda graph, reference: graph.zoo.measures[reference.models[0]],
    aspects=("measure",),
)
"""One a model: what merges are held against."""

MEASURED_MERGE = StepKind(
    name="evaluate",
    record="evaluate",
    heading="evaluate merges",
    noun="evaluation",
    references=of_every_merge("evaluate"),
    step=lambda graph, reference: graph.zoo.evaluation(graph.merge(reference)),
    needs=the_merge,
    aspects=("weight", "fishers", "dtype", "measure"),
    of_merges=True,
)
"""One a merge."""
