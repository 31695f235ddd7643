"""The main job: every model's Fisher once, every combination merged by every method, everything measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fmn import evaluation, merging
from fmn.checkpoint import open_checkpoint
from fmn.errors import FmnError, MergeError
from fmn.merging import Fisher, Merged, Source
from fmn.merging.plan import check
from fmn.params import Params
from fmn.recipe import ModelEntry
from fmn.steps.bench import Bench
from fmn.steps.evaluate import EvaluateStep
from fmn.steps.fisher import FisherStep
from fmn.steps.merge import KINDS, as_fisher, as_source


@dataclass(frozen=True)
class Row:
    """One merge, measured.

    Attributes:
        method: the merge rule.
        scores: from each merged task to the merge's headline score on it.
    """

    method: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class ZooReport:
    """What a run of a zoo found.

    Attributes:
        individual: from each task to its own model's headline score.
        rows: every merge.
        seconds: wall time by part.
    """

    individual: Mapping[str, float]
    rows: Sequence[Row]
    seconds: Mapping[str, float]

    def normalized(self, row: Row) -> dict[str, float]:
        """Return merged / individual score by task; 1 is as good as the task's own model."""
        return {task: score / self.individual[task] if self.individual[task] else 0.0 for task, score in row.scores.items()}

    def mean(self, row: Row) -> float:
        """Return the mean normalised score of a merge."""
        scores = self.normalized(row)
        return sum(scores.values()) / len(scores)

    def mean_of(self, method: str, size: int | None = None) -> float:
        """Return the mean over a method's merges (of so many models) of their mean normalised score."""
        means = [self.mean(row) for row in self.rows if row.method == method and size in (None, len(row.scores))]
        return sum(means) / len(means)

    def sizes(self) -> list[int]:
        """Return how many models the merges have."""
        return sorted({len(row.scores) for row in self.rows})

    def methods(self) -> list[str]:
        """Return the methods in the order in which they were run."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def as_json(self) -> dict[str, Any]:
        """Return plain data for a file."""
        rows = [asdict(row) | {"normalized": self.normalized(row), "normalized_mean": self.mean(row)} for row in self.rows]
        means = {method: self.mean_of(method) for method in self.methods()}
        return {"individual": self.individual, "merges": rows, "mean_normalized": means, "seconds": self.seconds}


@dataclass
class _Clock:
    """Wall time by part."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run_zoo(params: Params, bench: Bench) -> ZooReport:
    """Compute, merge and measure everything that ``params`` describes.

    Raises:
        MergeError: models that do not fit together; every offence is listed, before anything is computed.
        FmnError: a model, data or method that is not there, or does not fit.
    """
    rules = [merging.get_rule(method) for method in params.merge.methods]
    sources = _open(params)
    for rule in rules:
        check([*sources.values()], rule, pending=sources)
    measures = {entry.task: _measure(params, entry, sources[entry.task]) for entry in params.models}
    for step in measures.values():
        step.label_order()
        step.splits()
    steps = {kind: _fisher_steps(params, sources, kind) for kind in dict.fromkeys(r.fisher for r in rules) if kind}
    for of_model in steps.values():
        for fisher_step in of_model.values():
            fisher_step.prepare(bench)

    clock = _Clock()
    fishers: dict[str, dict[str, Fisher]] = {}
    for kind, of_model in steps.items():
        with clock.part(kind):
            fishers[kind] = {task: as_fisher(fisher_step.run(bench)) for task, fisher_step in of_model.items()}
    with clock.part("individual evaluation"):
        individual = {task: step.run(bench).headline for task, step in measures.items()}
    rows = _merge_and_measure(params, bench, sources, fishers, measures, clock)
    return ZooReport(individual, rows, clock.seconds)


def _merge_and_measure(
    params: Params,
    bench: Bench,
    sources: Mapping[str, Source],
    fishers: Mapping[str, Mapping[str, Fisher]],
    measures: Mapping[str, EvaluateStep],
    clock: _Clock,
) -> list[Row]:
    combinations = list(params.combinations())
    bodies = {task: copy.deepcopy(bench.model(step.checkpoint)) for task, step in measures.items()}
    rows = []
    with bench.report.track("merging and measuring", len(combinations) * len(params.merge.methods)) as advance:
        for combination in combinations:
            for method in params.merge.methods:
                rule = merging.get_rule(method)
                given = fishers[rule.fisher] if rule.fisher else {}
                chosen = [replace(sources[entry.task], fisher=given.get(entry.task)) for entry in combination]
                with clock.part("merging"):
                    merged = Merged(merging.make_plan(chosen, rule, params.merge.parameters, params.merge.dtype), bodies)
                with clock.part("evaluation of merges"):
                    quiet = replace(bench, report=_NoBars(bench.report))
                    scores = {
                        entry.task: replace(measures[entry.task], individual=False)
                        .run(quiet, merged.put_into(bodies[entry.task]))
                        .headline
                        for entry in combination
                    }
                rows.append(Row(method, scores))
                advance(1)
    return rows


@dataclass
class _NoBars:
    """Passes warnings on and shows no bars: there is one over all merges."""

    report: Any

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Any]:
        yield lambda done: None

    def warn(self, line: str) -> None:
        self.report.warn(line)


def _open(params: Params) -> dict[str, Source]:
    sources, offences = {}, []
    for entry in params.models:
        try:
            sources[entry.task] = as_source(entry, open_checkpoint(entry.model, entry.revision))
        except FmnError as error:
            offences.append(str(error))
    if offences:
        raise MergeError(offences)
    return sources


def _measure(params: Params, entry: ModelEntry, source: Source) -> EvaluateStep:
    assert source.checkpoint is not None
    return EvaluateStep(source.checkpoint, evaluation.get_task(entry.task), params.data, params.evaluate, entry.labels)


def _fisher_steps(params: Params, sources: Mapping[str, Source], kind: str) -> dict[str, FisherStep]:
    steps = {}
    for entry in params.models:
        opened = sources[entry.task].checkpoint
        assert opened is not None
        task = evaluation.get_task(entry.task)
        steps[entry.task] = FisherStep(opened, task, params.data, KINDS[kind], params.fisher, entry.labels)
    return steps
