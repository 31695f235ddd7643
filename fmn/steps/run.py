"""Doing the steps of a zoo, one after the other: what came of each, and what it cost.

They are done in whatever process this is.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fmn.errors import FmnError, OutputError, StoreError
from fmn.steps.context import Context
from fmn.steps.evaluate import EvaluateStep, NoBars
from fmn.steps.fisher import FisherStep
from fmn.steps.leaderboard import ZooReport, drop_surpassed, to_keep, zoo_report
from fmn.steps.plan import make_plan
from fmn.steps.step import NeedsError, Step
from fmn.steps.zoo import Reference, Zoo
from fmn.store import Store

PASSING = (StoreError, OutputError)
"""Failures of input and output, which may pass; anything else comes again however often it is
tried.
"""

KINDS = ("fisher", "merge", "evaluate", "publish")


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
        return not (self.computed or self.skipped or self.failed)

    def as_json(self) -> dict[str, Any]:
        """Return the summary, of the same names whatever happened.

        Only the models that are kept are added, where there were any.
        """
        kept = self.computed["publish"] or self.cached["publish"] or self.skipped["publish"]
        kinds = [kind for kind in KINDS if kind != "publish" or kept]
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
    def from_json(cls, said: dict[str, Any]) -> Tally:
        """Read what :meth:`as_json` gave."""
        counters = {name: Counter(said[name]) for name in ("computed", "cached", "skipped")}
        return cls(failed=said["failed"], seconds=said["seconds"], **counters)


NOUNS = {"fisher": "Fisher", "merge": "merge", "evaluate": "evaluation", "publish": "model"}


def _counted(counts: Counter[str]) -> str:
    said = [
        f"{counts[kind]} {NOUNS[kind]}{'s' * (counts[kind] != 1)}" for kind in KINDS if counts[kind]
    ]
    return ", ".join(said) or "nothing"


def run_steps(
    zoo: Zoo,
    references: Iterable[Reference],
    store: Store,
    context: Context,
    *,
    strict: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Do steps, each through the store; one that fails leaves the others alone.

    Args:
        zoo: whose steps they are.
        references: the steps.
        store: where results are.
        context: where to compute.
        strict: raise the first failure.
        progress: called with 1 for each step that is done.

    Raises:
        StoreError, OutputError: input or output failed; whoever called may try again, and what was
            done is a hit then.
    """
    tally = Tally()
    for reference in references:
        step = zoo.step(reference)
        try:
            outcome = step.run(store, context)
            (tally.cached if outcome.cached else tally.computed)[step.kind] += 1
            if not outcome.cached:
                tally.spend(step.kind, outcome.record.made.seconds)
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
        except (
            Exception
        ) as error:  # a step runs models and metrics of others, which can raise anything
            if strict:
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            tally.fail(
                step.title,
                f"{type(error).__name__}: {' '.join(str(error).split())} ({where.name}, line "
                f"{where.lineno})",
            )
        progress(1)
    return tally


def cached(references: Sequence[Reference]) -> Tally:
    """Return the tally of steps that the plan found in the store."""
    return Tally(
        cached=Counter("evaluate" if role == "individual" else role for role, *_ in references)
    )


def run_zoo(zoo: Zoo, store: Store, context: Context) -> Tally:
    """Do everything that a zoo's description asks for in this process, and raise the first failure.

    Raises:
        StoreError: the store failed, or cannot be written to.
        FmnError: a step failed.
    """
    plan = make_plan(zoo, store)
    for line in zoo.doubts:
        context.report.warn(line)
    tally, start = Tally(), time.perf_counter()
    if not plan.is_done:
        context.torch_device()
        for reference in (*plan.fishers.misses, *plan.individuals.misses):
            prepare(zoo.step(reference), context)
        store.check_writable()
    tally.add(
        run_steps(zoo, plan.fishers.hits, store, context, strict=True)
    )  # their files are looked for, and repaired
    for what, part in plan.parts().items():
        if part is not plan.fishers:
            tally.add(cached(part.hits))
        if part.misses:
            with context.report.track(what, len(part.misses)) as advance:
                tally.add(
                    run_steps(
                        zoo,
                        part.misses,
                        store,
                        replace(context, report=NoBars(context.report)),
                        strict=True,
                        progress=advance,
                    )
                )
    report = zoo_report(zoo, store)
    if lost := unread(zoo, report):
        tally.cached["evaluate"] -= len(lost)
        tally.add(run_steps(zoo, lost, store, context, strict=True))
        report = zoo_report(zoo, store)
    keep = to_keep(zoo, report)
    tally.add(run_steps(zoo, keep, store, context, strict=True))
    drop_surpassed(zoo, keep, store)
    log_run(zoo, store, tally, time.perf_counter() - start)
    return tally


def unread(zoo: Zoo, report: ZooReport) -> list[Reference]:
    """Return the evaluations whose scores a report lacks.

    Where all were done, their records are damaged.
    """
    there = {(tuple(row.scores), row.method) for row in report.rows}
    individuals: list[Reference] = [
        ("individual", name) for name in zoo.members if name not in report.individual
    ]
    return [
        *individuals,
        *(
            ("evaluate", *names, method)
            for names, method in zoo.merges()
            if (names, method) not in there
        ),
    ]


def prepare(step: Step, context: Context) -> None:
    """Load and encode what a step reads, so that misfits are told before the first model runs."""
    if isinstance(step, FisherStep | EvaluateStep):
        step.prepare(context)


def log_run(zoo: Zoo, store: Store, tally: Tally, seconds: float) -> None:
    """Keep what a run did, and of what, for the next plan to compare with.

    A run that found everything changes nothing.
    """
    if not tally.is_hit:
        store.log_run({**tally.as_json(), "wall": round(seconds, 3), "described": zoo.described()})
        try:
            store.mirror.pack()
        except (
            StoreError
        ) as error:  # it saves others time, and is nothing that a run could fail for
            store.warn(f"the records were not packed: {error}")
