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
from fmn.steps.context import Context
from fmn.steps.evaluate import NoBars
from fmn.steps.fisher import FisherStep
from fmn.steps.leaderboard import zoo_report
from fmn.steps.plan import estimated_bytes
from fmn.steps.reproduce.protocol import Column, Reproduction
from fmn.steps.run import Tally, prepare, run_steps, unread
from fmn.steps.step import Step
from fmn.steps.zoo import Reference, Zoo
from fmn.store import Store
from fmn.store.files import Directory


@dataclass(frozen=True)
class Job:
    """A step, and the zoo that it is of."""

    zoo: Zoo
    reference: Reference
    step: Step


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
    there = {kind: store.find(kind, sorted(found)).keys() for kind, found in keys.items()}
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
        estimated_bytes(job.zoo, job.reference[2])
        for stage in to_do
        if stage.timed
        for job in stage.jobs
    )
    return Planned(tuple(to_do), tuple(hits), new_bytes)


def _stages(opened: Reproduction) -> Iterator[Stage]:
    """Iterate over everything: models, columns of the fewest examples, then the others.

    The models themselves come first, then the columns of the fewest examples with all sizes.
    """
    zoo = opened.zoo
    if opened.sizes:
        yield Stage(
            "evaluation of the models",
            tuple(Job(zoo, each, zoo.step(each)) for each in zoo.individuals()),
        )
    for samples in sorted({column.samples or 0 for column in opened.columns}):
        columns = [column for column in opened.columns if (column.samples or 0) == samples]
        for column in columns:
            if column.fishers:
                jobs = tuple(
                    Job(column.zoo, each, column.zoo.step(each)) for each in column.zoo.fishers()
                )
                yield Stage(f"{column.label}: Fishers", jobs, timed=True)
        for size in opened.sizes:
            for column in columns:
                yield Stage(
                    f"{column.label}: sets of {size}", tuple(_jobs(column, column.merges([size])))
                )


def _jobs(column: Column, references: Iterator[Reference]) -> Iterator[Job]:
    return (Job(column.zoo, reference, column.zoo.step(reference)) for reference in references)


def run(
    opened: Reproduction,
    planned: Planned,
    store: Store,
    context: Context,
    said: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Do what the store lacks, and raise the first failure; what was done before it is kept.

    Fishers are computed one after the other, and each with its examples tokenised and its model
    loaded before its clock starts.

    Args:
        opened: the protocol on a zoo.
        planned: what there is to do.
        store: where results are.
        context: where to compute.
        said: is given a line when a stage is done.

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
                prepare(job.step, context)
        store.check_writable()
    for job in planned.hits:
        if job.step.kind == "fisher":  # their files are looked for, and repaired
            tally.add(run_steps(job.zoo, [job.reference], store, context, strict=True))
        else:
            tally.cached[job.step.kind] += 1
    for stage in planned.stages:
        start = time.perf_counter()
        tally.add(_done(stage, store, context))
        said(f"{stage.title}: {len(stage.jobs)} done in {time.perf_counter() - start:,.1f} s")
    for column in opened.columns if opened.sizes else ():
        if lost := unread(column.zoo, zoo_report(column.zoo, store)):
            tally.add(run_steps(column.zoo, lost, store, context, strict=True))
    return tally


def _done(stage: Stage, store: Store, context: Context) -> Tally:
    tally = Tally()
    quiet = replace(context, report=NoBars(context.report))
    at = context if stage.timed else quiet
    if stage.timed and isinstance(
        first := stage.jobs[0].step, FisherStep
    ):  # what a first time costs is nobody's share
        replace(first, settings=first.settings.model_copy(update={"samples": 1})).compute(quiet)
    with context.report.track(stage.title, len(stage.jobs)) as advance:
        for job in stage.jobs:
            if isinstance(job.step, FisherStep):
                job.step.prepare(at)
                at.model(job.step.checkpoint, job.step.settings.dtype, spread=True)
            tally.add(run_steps(job.zoo, [job.reference], store, at, strict=True, progress=advance))
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
