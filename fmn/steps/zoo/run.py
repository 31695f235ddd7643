"""A run of a zoo: its graph, done by an executor, and what came of each step and what it cost."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fmn.errors import FmnError, OutputError, StoreError
from fmn.steps.context import Context, NoBars
from fmn.steps.kind import Reference
from fmn.steps.step import NeedsError, Step
from fmn.steps.zoo.graph import KINDS, NOUNS, RECORDS, Graph
from fmn.steps.zoo.leaderboard import drop_surpassed, to_keep, unread, zoo_report
from fmn.steps.zoo.plan import ZooPlan, plan_zoo
from fmn.steps.zoo.zoo import Zoo
from fmn.store import ClaimedError, Store

PASSING = (StoreError, OutputError)
"""Failures of input and output, which may pass; others come again however often they are tried."""

USUAL = {kind.record for kind in KINDS if not kind.late}
"""Kinds of records that a summary counts even where there are none."""


@dataclass
class Tally:
    """What some steps came to.

    Attributes:
        computed: steps by kind.
        cached: steps by kind whose result was in the store.
        skipped: steps by kind whose input is not there, because the step that makes it failed.
        failed: the steps that failed, and why.
        seconds: of computing, by kind.
    """

    computed: Counter[str] = field(default_factory=Counter)
    cached: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    failed: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add up."""
        for name in ("computed", "cached", "skipped"):
            getattr(self, name).update(getattr(other, name))
        for kind, seconds in other.seconds.items():
            self.spend(kind, seconds)
        self.failed += other.failed

    def spend(self, kind: str, seconds: float) -> None:
        """Note what computing cost."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def fail(self, step: str, error: str) -> None:
        """Note a failure."""
        self.failed.append({"step": step, "error": error})

    @property
    def is_hit(self) -> bool:
        """Whether there was nothing to do."""
        # a Counter of zeros, which a tally that travelled has, is true
        return not (self.computed.total() or self.skipped.total() or self.failed)

    def as_json(self) -> dict[str, Any]:
        """Return the summary, of the same names whatever happened.

        Only the models that are kept are added, where there were any.
        """
        counters = (self.computed, self.cached, self.skipped)
        kinds = [kind for kind in RECORDS if kind in USUAL or any(each[kind] for each in counters)]
        return {
            "computed": {kind: self.computed[kind] for kind in kinds},
            "cached": {kind: self.cached[kind] for kind in kinds},
            "skipped": {kind: self.skipped[kind] for kind in kinds},
            "failed": self.failed,
            "seconds": {kind: round(seconds, 3) for kind, seconds in self.seconds.items()},
        }

    def in_words(self) -> str:
        """Say it in a line."""
        parts = [
            f"computed {_counted(self.computed)}",
            f"took {_counted(self.cached)} from the store",
        ]
        if self.skipped.total():
            parts.append(f"left out {_counted(self.skipped)} that need what failed")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)

    @classmethod
    def from_json(cls, summary: dict[str, Any]) -> Tally:
        """Read what :meth:`as_json` gave."""
        counters = {name: Counter(summary[name]) for name in ("computed", "cached", "skipped")}
        return cls(failed=summary["failed"], seconds=summary["seconds"], **counters)


def _counted(counts: Counter[str]) -> str:
    some = [kind for kind in RECORDS if counts[kind]]
    parts = [f"{counts[kind]} {NOUNS[kind]}{'s' * (counts[kind] != 1)}" for kind in some]
    return ", ".join(parts) or "nothing"


def run_steps(
    steps: Iterable[Step],
    store: Store,
    context: Context,
    *,
    strict: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Do steps, each through the store; one that fails leaves the others alone.

    What another process computes just now is put off, and waited for only when all else is done.

    Args:
        steps: to do, one after the other.
        store: where results are.
        context: where to compute.
        strict: raise the first failure.
        progress: called with 1 for each step that is done.

    Raises:
        StoreError, OutputError: input or output failed; whoever called may try again, and what was
            done is a hit then.
    """
    tally, pending, is_late = Tally(), list(steps), False
    while pending:
        claimed = []
        for step in pending:
            try:
                outcome = step.run(store, context, wait=is_late and step is pending[0])
                (tally.cached if outcome.cached else tally.computed)[step.kind] += 1
                if not outcome.cached:
                    tally.spend(step.kind, outcome.record.made.seconds)
            except ClaimedError:
                claimed.append(step)
                continue
            except PASSING:
                raise
            except NeedsError:
                if strict:
                    raise
                tally.skipped[step.kind] += 1
            except FmnError as error:
                if strict:
                    raise
                tally.fail(step.title, str(error))
            # steps run models and metrics of others: they can raise anything
            except Exception as error:
                if strict:
                    raise
                where = traceback.extract_tb(error.__traceback__)[-1]
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                tally.fail(step.title, f"{reason} ({where.name}, line {where.lineno})")
            progress(1)
        pending, is_late = claimed, True
    return tally


def cached(graph: Graph, references: Sequence[Reference]) -> Tally:
    """Return the tally of steps that the plan found in the store."""
    return Tally(cached=Counter(graph.kinds[reference.kind].record for reference in references))


class Executor(Protocol):
    """Does the steps of a graph somewhere, in an order in which each comes after what it needs."""

    def prepare(self, plan: ZooPlan) -> None:
        """Get ready for what a plan is to compute; what cannot work is raised here."""

    def execute(self, plan: ZooPlan) -> Tally:
        """Do every step of a plan."""

    def follow(self, references: Sequence[Reference]) -> Tally:
        """Do some steps more, now that those of the plan are done."""


@dataclass
class InProcess:
    """Does steps one after the other in this process, and raises the first failure.

    Attributes:
        graph: of the zoo.
        store: where results are.
        context: where to compute.
    """

    graph: Graph
    store: Store
    context: Context

    def prepare(self, plan: ZooPlan) -> None:
        """Load and encode what the missing measurements and evaluations read."""
        if not plan.is_done:
            self.context.torch_device()
        for steps in plan.steps.values():
            for reference in steps.misses:
                if not self.graph.kinds[reference.kind].of_merges:
                    self.graph.step(reference).prepare(self.context)

    def execute(self, plan: ZooPlan) -> Tally:
        """Do every step, with a bar for each kind."""
        tally = Tally()
        for kind in KINDS:
            steps = plan.steps.get(kind.name)
            if steps is None:
                continue
            hits = self.follow(steps.hits) if kind.looked_for else cached(self.graph, steps.hits)
            tally.add(hits)
            if steps.misses:
                tally.add(self._with_a_bar(kind.heading, steps.misses))
        return tally

    def follow(self, references: Sequence[Reference]) -> Tally:
        """Do some steps."""
        steps = map(self.graph.step, references)
        return run_steps(steps, self.store, self.context, strict=True)

    def _with_a_bar(self, what: str, references: Sequence[Reference]) -> Tally:
        steps = map(self.graph.step, references)
        quiet = replace(self.context, report=NoBars(self.context.report))
        with self.context.report.track(what, len(references)) as advance:
            return run_steps(steps, self.store, quiet, strict=True, progress=advance)


def run_zoo(graph: Graph, store: Store, context: Context) -> Tally:
    """Do everything that a zoo's graph asks for in this process; raise the first failure.

    Raises:
        StoreError: the store failed, or cannot be written to.
        FmnError: a step failed.
    """
    for line in graph.zoo.doubts:
        context.report.warn(line)
    return run_graph(graph, plan_zoo(graph, store), store, InProcess(graph, store, context))


def run_graph(graph: Graph, plan: ZooPlan, store: Store, executor: Executor) -> Tally:
    """Do a plan, read the scores, keep the models that are worth it, and log the run.

    Args:
        graph: of the zoo.
        plan: of the graph.
        store: where results are.
        executor: does the steps.

    Raises:
        StoreError: the store failed, or cannot be written to.
        FmnError: a step failed, and the executor raises failures.
    """
    start, tally = time.perf_counter(), Tally()
    for name, reason in plan.broken.items():
        tally.fail(f"model {name}", reason)
    executor.prepare(plan)
    if not plan.is_done:
        store.check_writable()
    tally.add(executor.execute(plan))
    report, hits = zoo_report(graph, store), plan.hits
    # what the plan found, and the report did not, is there and damaged
    if lost := [reference for reference in unread(graph, report, store) if reference in hits]:
        tally.cached["evaluate"] -= len(lost)
        tally.add(executor.follow(lost))
        report = zoo_report(graph, store)
    keep = to_keep(graph, report)
    tally.add(executor.follow(keep))
    drop_surpassed(graph, keep, store)
    log_run(graph.zoo, store, tally, time.perf_counter() - start)
    return tally


def log_run(zoo: Zoo, store: Store, tally: Tally, seconds: float) -> None:
    """Keep what a run did, and of what, for the next plan to compare with.

    A run that found everything changes nothing.
    """
    if not tally.is_hit:
        store.log_run({**tally.as_json(), "wall": round(seconds, 3), "described": zoo.described()})
        try:
            store.mirror.pack()
        # a pack saves others time, and is nothing that a run could fail for
        except StoreError as error:
            store.warn(f"the records were not packed: {error}")
