"""The main job: every model's Fisher once, every combination merged by every method, everything measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fmn import evaluation, merging
from fmn.merging import Fisher, Merged, Source
from fmn.merging.plan import check
from fmn.params import Params
from fmn.recipe import ModelEntry
from fmn.steps.bench import Bench
from fmn.steps.evaluate import EvaluateStep
from fmn.steps.fisher import FisherStep
from fmn.steps.merge import KINDS, as_fisher, open_sources


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
    sources = {source.task: source for source in open_sources(params.models)}
    for rule in rules:
        check([_with_given(source, rule.fisher) for source in sources.values()], rule, pending=sources)
    kinds = [kind for kind in dict.fromkeys(rule.fisher for rule in rules) if kind]
    measures = {entry.name: _measure(params, entry, sources[entry.name]) for entry in params.models}
    steps = {kind: _fisher_steps(params, sources, kind) for kind in kinds}
    clock = _Clock()
    every: list[EvaluateStep | FisherStep] = [*measures.values(), *(step for kind in kinds for step in steps[kind].values())]
    with clock.part("data"):  # whatever does not fit is said before the first model runs
        for step in every:
            step.prepare(bench)

    fishers: dict[str, dict[str, Fisher]] = {}
    for kind, of_model in steps.items():
        with clock.part(kind):
            computed = {task: as_fisher(fisher_step.run(bench)) for task, fisher_step in of_model.items()}
        given = {task: source.fisher for task, source in sources.items() if task not in computed and source.fisher}
        fishers[kind] = given | computed
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
                chosen = [replace(sources[entry.name], fisher=given.get(entry.name)) for entry in combination]
                with clock.part("merging"):
                    merged = Merged(merging.make_plan(chosen, rule, params.merge.parameters, params.merge.dtype), bodies)
                with clock.part("evaluation of merges"):
                    quiet = replace(bench, report=_NoBars(bench.report))
                    scores = {
                        entry.name: replace(measures[entry.name], individual=False)
                        .run(quiet, merged.put_into(bodies[entry.name]))
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


def _measure(params: Params, entry: ModelEntry, source: Source) -> EvaluateStep:
    assert source.checkpoint is not None
    return EvaluateStep(source.checkpoint, evaluation.get_task(entry.task), params.data, params.evaluate, entry.labels)


def _fisher_steps(params: Params, sources: Mapping[str, Source], kind: str) -> dict[str, FisherStep]:
    """Return a step for each model whose Fisher of that kind is not given."""
    steps = {}
    for entry in params.models:
        source = sources[entry.name]
        assert source.checkpoint is not None
        if not _with_given(source, kind).fisher:
            task = evaluation.get_task(entry.task)
            steps[entry.name] = FisherStep(source.checkpoint, task, params.data, KINDS[kind], params.fisher, entry.labels)
    return steps


def _with_given(source: Source, kind: str | None) -> Source:
    """Return a model with the Fisher that its entry gives, if it is of that kind."""
    given = source.fisher if source.fisher and source.fisher.metadata.get("kind") == kind else None
    return replace(source, fisher=given)
