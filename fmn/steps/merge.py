"""A merge as a step: its weights are derived again, by anyone, from its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmn import checkpoint, merging
from fmn.checkpoint import weights_digest
from fmn.errors import MergeError
from fmn.merging import Merged, Plan, Rule, Source
from fmn.recipe import Recipe
from fmn.steps.context import Context
from fmn.steps.kind import OpenedZoo, Reference, StepKind, Steps, of_every_merge, the_merge
from fmn.steps.member import Member
from fmn.steps.recipe import resolved
from fmn.steps.statistic import KeyedStatistic
from fmn.steps.step import NeedsError, Step
from fmn.store import Address, Draft, Record, Store

ALGORITHM = 1
"""Of merging; it rises when a change moves the last bits of a merge."""


@dataclass(frozen=True)
class MergeStep(Step):
    """One merge of a zoo.

    Attributes:
        recipe: it, said in full.
        members: its models.
        parent: of the models, where it is known.
        label: what the method is called among others of the zoo, if not by its name.
    """

    kind = "merge"

    recipe: Recipe
    members: tuple[Member, ...]
    parent: Source | None = None
    label: str = ""

    @property
    def rule(self) -> Rule:
        """The merge rule."""
        return merging.get_rule(self.recipe.method)

    @property
    def inputs(self) -> dict[str, Any]:
        """Models, their λ and statistics in the order of names, and the rule's parameters."""
        rule = self.rule
        models = [
            [
                member.entry.name,
                member.identity,
                member.entry.weight,
                *map(member.statistic_key, rule.statistics),
            ]
            for member in sorted(self.members, key=lambda member: member.entry.name)
        ]
        inputs = {
            "algorithm": ALGORITHM,
            "method": self.recipe.method,
            "models": models,
            "dtype": self.recipe.dtype,
        }
        if rule.parent and self.parent:
            inputs["parent"] = self.parent.digest
        return inputs | rule.settings(self.recipe.parameters)

    @property
    def title(self) -> str:
        """Such as ``sst2 + rte by average``."""
        names = " + ".join(member.entry.name for member in self.members)
        return f"{names} by {self.label or self.recipe.method}"

    def provenance(self) -> dict[str, Any]:
        """Say what the models are called, and their weights' digests."""
        models = {
            m.entry.name: {
                "model": m.entry.model,
                "revision": m.entry.revision,
                "task": m.entry.task,
                "weights": m.source.digest,
                "labels": m.entry.labels,
                "hub": not Path(m.entry.model).expanduser().is_dir(),
            }
            for m in self.members
        }
        names = {"models": models, "method": self.recipe.method}
        if self.rule.parent and self.recipe.parent and self.parent:
            names["parent"] = self.recipe.parent.model_copy(
                update={"digest": self.parent.digest}
            ).model_dump()
        return names

    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Merge in memory, and keep only the digest of the weights.

        The weights themselves can be derived again.
        """
        return self._draft(Merged(self.plan(store, context), {}), store)

    def _draft(self, merged: Merged, store: Store) -> Draft:
        size = sum(tensor.nbytes for tensor in merged.backbone.values())
        keys = [
            member.statistic_key(name)
            for member in self.members
            for name in self.rule.statistics
            if isinstance(member.statistics[name], KeyedStatistic)
        ]
        return Draft(
            value={"backbone": weights_digest(merged.backbone), "bytes": size},
            read=contents(store.find("fisher", keys).values()),
        )

    def plan(self, store: Store, context: Context) -> Plan:
        """Plan the merge with the statistics that are in the store.

        Raises:
            NeedsError: one is not there.
            MergeError: the models do not fit together.
        """
        return merging.make_plan(
            [each.measured(self.rule.statistics, store, context) for each in self.members],
            self.rule,
            self.recipe.parameters,
            self.recipe.dtype,
            self.parent,
        )

    def derive(self, store: Store, context: Context, *, mend: bool = False) -> Merged:
        """Merge again, and check that the weights are those of the record.

        Args:
            store: that has the record.
            context: where.
            mend: replace a record that says other weights than come out twice.

        Raises:
            NeedsError: there is no record, or a statistic is not there.
            MergeError: other weights came out.
        """
        record = self._record(store, context)
        merged = Merged(self.plan(store, context), {})
        self._check(weights_digest(merged.backbone), record, store, context, mend)
        return merged

    def fill(self, folder: Path, store: Store, context: Context, *, mend: bool = False) -> None:
        """Merge again into an empty directory, and check the weights that were written.

        The directory is written as :func:`merging.write_merged` does.

        Raises:
            NeedsError, MergeError: see :meth:`derive`.
        """
        record, plan = self._record(store, context), self.plan(store, context)
        with context.report.track(f"merging {self.title}", plan.elements) as advance:
            merging.fill_merged(plan, folder, resolved(self.recipe, plan), progress=advance)
        self._check(written_digest(folder), record, store, context, mend)

    def recorded(self, store: Store, context: Context) -> str:
        """Return the digest of the merged weights that the record says.

        A damaged record is made again.

        Raises:
            NeedsError: there is no record.
        """
        return str(self._record(store, context).value["backbone"])

    def _record(self, store: Store, context: Context) -> Record:
        record = store.get(self.kind, self.key)
        if record is None and any(map(store.files.stamp, Address(self.kind, self.key).paths)):
            record = self.run(store, context).record
        if record is None:
            raise NeedsError(f"needs the merge {self.title}, which is not in the store")
        return record

    def _check(
        self, derived: str, record: Record, store: Store, context: Context, mend: bool
    ) -> None:
        """Refuse weights that are not those of the record, or mend the record."""
        expected = str(record.value["backbone"])
        if derived == expected:
            return
        differ = (
            f"{self.title}: derived again, its weights are {derived[:12]}, but its record says "
            f"{expected[:12]}"
        )
        if mend:
            again = self._draft(Merged(self.plan(store, context), {}), store)
            if again.value["backbone"] == derived:
                store.replace(record, again)
                context.report.warn(f"{differ}; the record {self.key[:12]} was replaced")
                return
        raise MergeError(
            [
                f"{differ}; a Fisher or the program changed since: 'fmn catalog verify --mend "
                f"{self.key[:12]}' replaces the record, and the next run measures it again"
            ]
        )

    def content(self, store: Store) -> dict[str, dict[str, str]]:
        """Return what a result that is made of the merge keeps of it."""
        return contents(store.find(self.kind, [self.key]).values())


def written_digest(folder: Path) -> str:
    """Return the digest of the merged weights in a directory that a merge wrote."""
    parts = [checkpoint.read(file)[0] for file in sorted((folder / "backbone").iterdir())]
    return weights_digest({name: tensor for part in parts for name, tensor in part.items()})


def contents(records: Iterable[Record]) -> dict[str, dict[str, str]]:
    """Return what was read of a store, as a result keeps it: content by kind and key."""
    read: dict[str, dict[str, str]] = {}
    for record in records:
        read.setdefault(record.kind, {})[record.key] = record.content
    return read


@dataclass(frozen=True)
class PublishStep(Step):
    """A merge as a directory of models that load, kept in the store.

    Attributes:
        merge: the merge.
    """

    kind = "publish"

    merge: MergeStep

    @property
    def inputs(self) -> dict[str, Any]:
        """The merge."""
        return {"merge": self.merge.key}

    @property
    def title(self) -> str:
        """Such as ``model of sst2 + rte by average``."""
        return f"model of {self.merge.title}"

    def provenance(self) -> dict[str, Any]:
        """Say what the models are called."""
        return self.merge.provenance()

    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Write the merge's directory."""
        out = folder / "model"
        out.mkdir()
        self.merge.fill(out, store, context, mend=True)
        return Draft(files={"model": out}, read=self.merge.content(store))


def _statistics(zoo: OpenedZoo, merge: Reference) -> tuple[Reference, ...]:
    return tuple(
        Reference("fisher", (name,), statistic)
        for name in merge.models
        for statistic in zoo.variants[merge.variant].rule.statistics
        if isinstance(zoo.members[name].statistics[statistic], KeyedStatistic)
    )


def _kept(zoo: OpenedZoo) -> Iterator[Reference]:
    return of_every_merge("publish")(zoo) if zoo.params.merge.keep != "none" else iter(())


def _kept_step(graph: Steps, reference: Reference) -> PublishStep:
    return PublishStep(graph.merge(reference))


MERGE = StepKind(
    name="merge",
    record="merge",
    heading="merge",
    noun="merge",
    references=of_every_merge("merge"),
    step=lambda graph, reference: graph.zoo.merge(reference.models, reference.variant),
    needs=_statistics,
    aspects=("weight", "fishers", "dtype"),
    of_merges=True,
)
"""One a set of models and variant of a method."""

KEPT_MERGE = StepKind(
    name="publish",
    record="publish",
    heading="kept models",
    noun="model",
    references=_kept,
    step=_kept_step,
    needs=the_merge,
    of_merges=True,
    late=True,
)
"""One a merge that the store may keep; which of them, the scores say."""
