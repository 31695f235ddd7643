"""The DAG of a run: Fishers feed merges, merges feed evaluations.

Small combinations travel in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from prefect import allow_failure
from prefect.futures import PrefectFuture, as_completed

from fmn.flows.runners import Runner
from fmn.flows.tasks import named
from fmn.params import Params
from fmn.steps.plan import ZooPlan
from fmn.steps.run import Tally
from fmn.steps.zoo import Reference, Zoo

TASKS = 50
"""Of each kind at most, unless the params say how many combinations go into one: a task costs
Prefect some 15 ms.
"""


@dataclass(frozen=True)
class Submitted:
    """A task that was submitted.

    Attributes:
        future: of its state.
        title: what it is called.
        steps: how many it does.
    """

    future: PrefectFuture[Any]
    title: str
    steps: int


class Dag:
    """Tasks in the order in which they were submitted."""

    def __init__(self, runner: Runner, zoo: Zoo, run: str) -> None:
        self._runner, self._zoo, self._run = runner, zoo, run
        self._params = zoo.params.model_dump_json()
        self.submitted: list[Submitted] = []

    def add(
        self,
        name: str,
        references: Sequence[Reference],
        is_hit: bool,
        after: Sequence[PrefectFuture[Any]],
    ) -> PrefectFuture[Any]:
        """Submit one task, to run when others are done, whether or not they failed."""
        first = self._zoo.step(references[0]).title
        title = first if len(references) == 1 else f"{first} and {len(references) - 1} more"
        future = self._runner.submit(
            named(name, self._zoo.params.runner, len(references)),
            [allow_failure(future) for future in after],
            computes=not is_hit,
            params=self._params,
            run=self._run,
            references=list(references),
            is_hit=is_hit,
            title=title,
        )
        self.submitted.append(Submitted(future, title, len(references)))
        return future

    def wait(self, advance: Callable[[int], None]) -> Tally:
        """Wait for all tasks; return what they came to."""
        tally = Tally()
        of = {id(task.future): task for task in self.submitted}
        for future in as_completed([task.future for task in self.submitted]):
            task = of[id(future)]
            tally.add(_tally(future, task.title))
            advance(task.steps)
        return tally


def submit_all(dag: Dag, zoo: Zoo, plan: ZooPlan) -> None:
    """Submit every task of a plan."""
    fisher_of: dict[tuple[str, str], PrefectFuture[Any]] = {}
    for is_hit, references in ((True, plan.fishers.hits), (False, plan.fishers.misses)):
        for reference in references:
            fisher_of[reference[1], reference[2]] = dag.add("fisher", [reference], is_hit, [])
    for is_hit, references in ((True, plan.individuals.hits), (False, plan.individuals.misses)):
        for reference in references:
            dag.add("evaluate", [reference], is_hit, [])
    for batch, merged, measured in batches(zoo, plan):
        statistic = zoo.merge(batch[0][1:-1], batch[0][-1]).rule.statistic
        names = dict.fromkeys(name for reference in batch for name in reference[1:-1])
        after = [
            fisher_of[name, statistic]
            for name in names
            if statistic and (name, statistic) in fisher_of
        ]
        merge = dag.add("merge", batch, merged, after)
        dag.add(
            "evaluate", [("evaluate", *reference[1:]) for reference in batch], measured, [merge]
        )


def batches(zoo: Zoo, plan: ZooPlan) -> Iterator[tuple[list[Reference], bool, bool]]:
    """Iterate over batches of merges of one method, with what the store has of each.

    For each merge it is told whether it is in the store, and whether its scores are.
    """
    merged, measured = set(plan.merges.hits), {reference[1:] for reference in plan.evaluations.hits}
    groups: dict[tuple[str, bool, bool], list[Reference]] = {}
    for names, method in zoo.merges():
        reference = ("merge", *names, method)
        groups.setdefault((method, reference in merged, reference[1:] in measured), []).append(
            reference
        )
    size = batch_size(zoo.params, sum(map(len, groups.values())))
    for (_, is_merged, is_measured), group in groups.items():
        for start in range(0, len(group), size):
            yield group[start : start + size], is_merged, is_measured


def batch_size(params: Params, merges: int) -> int:
    """Return how many merges one task does."""
    return ceil(merges / TASKS) or 1 if params.runner.batch == "auto" else params.runner.batch


def _tally(future: PrefectFuture[Any], title: str) -> Tally:
    said = future.result(raise_on_failure=False)
    if isinstance(said, dict):
        return Tally.from_json(said)
    tally = Tally()  # a time limit, a worker that was lost too often, a store that failed
    tally.fail(title, " ".join(str(said).split()) or type(said).__name__)
    return tally
