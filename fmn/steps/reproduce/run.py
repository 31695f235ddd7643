"""Doing the protocol, step by step through the store.

What is there is taken, and whoever is interrupted goes on later.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fmn.errors import OutputError
from fmn.steps.context import Context, NoBars
from fmn.steps.kind import Reference
from fmn.steps.reproduce.protocol import Reproduction
from fmn.steps.statistic import StatisticStep
from fmn.steps.step import Step
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.leaderboard import unread, zoo_report
from fmn.steps.zoo.plan import statistic_bytes
from fmn.steps.zoo.run import Tally, run_steps
from fmn.store import Store
from fmn.store.files import Directory


@dataclass(frozen=True)
class Job:
    """A step, and the graph that it is of."""

    graph: Graph
    reference: Reference

    @property
    def step(self) -> Step:
        """The step."""
        return self.graph.step(self.reference)


@dataclass(frozen=True)
class Stage:
    """Jobs that are done together.

    Attributes:
        title: what they are.
        jobs: in the order in which they are done.
        timed: they are Fishers, whose seconds are compared.
    """

    title: str
    jobs: tuple[Job, ...]
    timed: bool = False


@dataclass(frozen=True)
class Planned:
    """What there is to do.

    Attributes:
        stages: with the steps that the store lacks; those that are worth most come first.
        hits: the steps whose results are in the store.
        new_bytes: of the Fishers that would be stored.
    """

    stages: tuple[Stage, ...]
    hits: tuple[Job, ...]
    new_bytes: int

    def in_words(self) -> str:
        """Say it in a line."""
        there = Counter(job.step.kind for job in self.hits)
        to_do = Counter(job.step.kind for stage in self.stages for job in stage.jobs)
        kinds = {"fisher": "Fishers", "merge": "merges", "evaluate": "evaluations"}
        parts = (
            f"{there[kind]:,} of {there[kind] + to_do[kind]:,} {noun}"
            for kind, noun in kinds.items()
        )
        missing = (
            f"; the rest is computed, with {self.new_bytes / 1e6:,.0f} MB of Fishers"
            if to_do.total()
            else ""
        )
        return f"in the store: {', '.join(parts)}{missing}"


def plan(opened: Reproduction, store: Store) -> Planned:
    """Look up what is in the store; a step that several columns share is one step.

    Raises:
        StoreError: the store failed.
    """
    stages = list(_stages(opened))
    keys: dict[str, set[str]] = {}
    for stage in stages:
        for job in stage.jobs:
            keys.setdefault(job.step.kind, set()).add(job.step.key)
    there = {kind: store.find(kind, sorted(wanted)).keys() for kind, wanted in keys.items()}
    seen: set[str] = set()
    hits: list[Job] = []
    to_do: list[Stage] = []
    for stage in stages:
        misses: list[Job] = []
        for job in stage.jobs:
            if job.step.key not in seen:
                seen.add(job.step.key)
                (hits if job.step.key in there[job.step.kind] else misses).append(job)
        if misses:
            to_do.append(replace(stage, jobs=tuple(misses)))
    new_bytes = sum(
        statistic_bytes(job.graph.zoo, job.reference.variant)
        for stage in to_do
        if stage.timed
        for job in stage.jobs
    )
    return Planned(tuple(to_do), tuple(hits), new_bytes)


def _stages(opened: Reproduction) -> Iterator[Stage]:
    """Iterate over everything: models, columns of the fewest examples, then the others.

    The models themselves come first, then the columns of the fewest examples with all sizes.
    """
    if opened.sizes:
        models = tuple(Job(opened.graph, each) for each in opened.graph.of("individual"))
        yield Stage("evaluation of the models", models)
    for samples in sorted({column.samples or 0 for column in opened.columns}):
        columns = [column for column in opened.columns if (column.samples or 0) == samples]
        for column in columns:
            if column.fishers:
                jobs = tuple(Job(column.graph, each) for each in column.graph.of("fisher"))
                yield Stage(f"{column.label}: Fishers", jobs, timed=True)
        for size in opened.sizes:
            for column in columns:
                jobs = tuple(Job(column.graph, each) for each in column.merges([size]))
                yield Stage(f"{column.label}: sets of {size}", jobs)


def run(
    opened: Reproduction,
    planned: Planned,
    store: Store,
    context: Context,
    tell: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Do what the store lacks, and raise the first failure; what was done before it is kept.

    Fishers are computed one after the other, and each with its examples tokenised and its model
    loaded before its clock starts.

    Args:
        opened: the protocol on a zoo.
        planned: what there is to do.
        store: where results are.
        context: where to compute.
        tell: is given a line when a stage is done.

    Raises:
        OutputError: there is no room for the Fishers.
        StoreError: the store failed, or cannot be written to.
        FmnError: a step failed.
    """
    tally = Tally()
    if planned.stages:
        _check_room(store, planned.new_bytes)
        context.torch_device()
        for stage in planned.stages:
            for job in stage.jobs:
                job.step.prepare(context)
        store.check_writable()
    for job in planned.hits:
        if job.graph.kinds[job.reference.kind].looked_for:
            tally.add(run_steps([job.step], store, context, strict=True))
        else:
            tally.cached[job.step.kind] += 1
    for stage in planned.stages:
        start = time.perf_counter()
        tally.add(_done(stage, store, context))
        tell(f"{stage.title}: {len(stage.jobs)} done in {time.perf_counter() - start:,.1f} s")
    for column in opened.columns if opened.sizes else ():
        if lost := unread(column.graph, zoo_report(column.graph, store)):
            steps = [column.graph.step(reference) for reference in lost]
            tally.add(run_steps(steps, store, context, strict=True))
    return tally


def _done(stage: Stage, store: Store, context: Context) -> Tally:
    tally = Tally()
    quiet = replace(context, report=NoBars(context.report))
    within = context if stage.timed else quiet
    first = stage.jobs[0].step
    # what a first time costs is nobody's share
    if stage.timed and isinstance(first, StatisticStep):
        replace(first, settings=first.settings.model_copy(update={"samples": 1})).compute(quiet)
    with context.report.track(stage.title, len(stage.jobs)) as advance:
        for job in stage.jobs:
            if isinstance(job.step, StatisticStep):
                job.step.prepare(within)
                within.model(job.step.checkpoint, job.step.settings.dtype, spread=True)
            tally.add(run_steps([job.step], store, within, strict=True, progress=advance))
    return tally


def _check_room(store: Store, need: int) -> None:
    """Check that a store in a directory has room for the Fishers, with a tenth to spare."""
    if not isinstance(store.files, Directory):
        return
    root = Path(store.files.root)
    parent = next(folder for folder in (root, *root.parents) if folder.exists())
    free, need = shutil.disk_usage(parent).free, need + need // 10
    if free < need:
        raise OutputError(
            f"the Fishers need {need / 1e6:,.0f} MB in {store.url}, but {parent} has "
            f"{free / 1e6:,.0f} MB free; make room, or ask for fewer samples or methods"
        )
