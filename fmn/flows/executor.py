"""The executor of a graph in Prefect: a task per step, or per batch of small combinations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from prefect import allow_failure
from prefect.futures import PrefectFuture, as_completed

from fmn.flows.runners import Runner
from fmn.flows.tasks import leaderboard, named
from fmn.params import Params
from fmn.steps.kind import Reference
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.plan import ZooPlan
from fmn.steps.zoo.run import Tally

TASKS = 50
"""Of each kind at most, unless the params say how many combinations go into one.

A task costs Prefect some 15 ms.
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


class InPrefect:
    """Does the steps of a graph in tasks of a flow; a step that fails leaves the others alone."""

    def __init__(
        self, graph: Graph, runner: Runner, run: str, advance: Callable[[int], None]
    ) -> None:
        """Take what tasks are submitted to.

        Args:
            graph: of the zoo.
            runner: runs the tasks.
            run: name of the run.
            advance: is called with the number of steps of each task that is done.
        """
        self.graph, self._runner, self._run, self._advance = graph, runner, run, advance
        self._params = graph.zoo.params.model_dump_json()
        self.board: PrefectFuture[Any] | None = None

    def prepare(self, plan: ZooPlan) -> None:
        """Leave it to the tasks, of which each fails alone."""

    def execute(self, plan: ZooPlan) -> Tally:
        """Submit a task for every step of a plan, and the leaderboard behind them; wait for all."""
        futures: dict[Reference, PrefectFuture[Any]] = {}
        submitted: list[Submitted] = []
        hits = plan.hits
        for batch in batches(self.graph, plan, hits):
            needed = {need: None for reference in batch for need in self.graph.needs(reference)}
            after = {id(futures[need]): futures[need] for need in needed if need in futures}
            task = self._submit(batch, batch[0] in hits, list(after.values()))
            futures |= dict.fromkeys(batch, task.future)
            submitted.append(task)
        self.board = self._runner.submit(
            leaderboard,
            [allow_failure(task.future) for task in submitted],
            computes=False,
            params=self._params,
            run=self._run,
        )
        tally = self._wait(submitted, self._advance)
        self.board.wait()
        return tally

    def follow(self, references: Sequence[Reference]) -> Tally:
        """Submit a task for each of some steps, behind the leaderboard; wait for them."""
        after = [self.board] if self.board else []
        submitted = [self._submit([reference], False, after) for reference in references]
        return self._wait(submitted, lambda steps: None)

    def _submit(
        self, batch: Sequence[Reference], is_hit: bool, after: Sequence[PrefectFuture[Any]]
    ) -> Submitted:
        """Submit one task, to run when others are done, whether or not they failed."""
        first = self.graph.step(batch[0]).title
        title = first if len(batch) == 1 else f"{first} and {len(batch) - 1} more"
        kind = self.graph.kinds[batch[0].kind]
        future = self._runner.submit(
            named(kind.record, self.graph.zoo.params.runner, len(batch)),
            [allow_failure(future) for future in after],
            computes=not is_hit,
            params=self._params,
            run=self._run,
            references=list(batch),
            is_hit=is_hit and not kind.looked_for,
            title=title,
        )
        return Submitted(future, title, len(batch))

    def _wait(self, submitted: Sequence[Submitted], advance: Callable[[int], None]) -> Tally:
        """Wait for tasks; return what they came to."""
        tally = Tally()
        of = {id(task.future): task for task in submitted}
        for future in as_completed([task.future for task in submitted]):
            task = of[id(future)]
            tally.add(_tally(future, task.title))
            advance(task.steps)
        return tally


def batches(graph: Graph, plan: ZooPlan, hits: Collection[Reference]) -> Iterator[list[Reference]]:
    """Iterate over what one task does, each batch after those that it needs.

    Steps about single models have a task each. Merges of one variant that are in the store, or
    not, to the same extent share tasks, and so do the steps about them.
    """
    for name in plan.steps:
        if not graph.kinds[name].of_merges:
            yield from ([reference] for reference in graph.of(name))
    of_merges = [name for name in plan.steps if graph.kinds[name].of_merges]
    groups: dict[tuple[Any, ...], list[Reference]] = {}
    for merge in graph.of("merge"):
        stored = [merge._replace(kind=name) in hits for name in of_merges]
        groups.setdefault((merge.variant, *stored), []).append(merge)
    size = batch_size(graph.zoo.params, sum(map(len, groups.values())))
    for group in groups.values():
        for start in range(0, len(group), size):
            for name in of_merges:
                yield [merge._replace(kind=name) for merge in group[start : start + size]]


def batch_size(params: Params, merges: int) -> int:
    """Return how many merges one task does."""
    return ceil(merges / TASKS) or 1 if params.runner.batch == "auto" else params.runner.batch


def _tally(future: PrefectFuture[Any], title: str) -> Tally:
    result = future.result(raise_on_failure=False)
    if isinstance(result, dict):
        return Tally.from_json(result)
    tally = Tally()  # a time limit, a worker that was lost too often, a store that failed
    tally.fail(title, " ".join(str(result).split()) or type(result).__name__)
    return tally
