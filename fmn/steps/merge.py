"""A merge as a step: its weights are derived again, by anyone, from its record."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from fmn import checkpoint, merging
from fmn.checkpoint import Tensors, weights_digest
from fmn.errors import MergeError
from fmn.merging import Merged, Plan, Rule, Source, merged_backbone
from fmn.recipe import Recipe
from fmn.scratch import scratch
from fmn.statistics import HEAD_STATES
from fmn.steps.context import Context
from fmn.steps.heads import ALGORITHM as REFIT
from fmn.steps.heads import Refitted, read_heads, refit_heads
from fmn.steps.kind import OpenedZoo, Reference, StepKind, Steps, of_every_merge, the_merge
from fmn.steps.layers import ALGORITHM as LAYERS
from fmn.steps.layers import SAME, difference, fit_layers, sketch
from fmn.steps.member import Member
from fmn.steps.recipe import resolved
from fmn.steps.statistic import KeyedStatistic, StatisticStep
from fmn.steps.step import NeedsError, Step
from fmn.store import Address, Draft, Gone, Record, Store

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
        """The merge rule, with what it needs for the recipe's parameters."""
        return merging.get_rule(self.recipe.method).given(self.recipe.parameters)

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
        if self.recipe.heads != "merged":
            inputs["heads"] = self._refit_inputs if self._refits else "own"
        if rule.calibration:
            inputs["layers"] = {"fitted": self._states, "algorithm": LAYERS}
        return inputs | rule.said(rule.settings(self.recipe.parameters))

    @property
    def _refits(self) -> bool:
        """Whether there is a head that can be refitted: a model that writes text has none."""
        return self.recipe.heads == "refit" and bool(self._with_states)

    @property
    def _with_states(self) -> list[Member]:
        return [member for member in self.members if HEAD_STATES in member.statistics]

    @property
    def _states(self) -> dict[str, str]:
        """The keys of the head states, by model: they say which examples there are."""
        return {each.entry.name: each.statistic_key(HEAD_STATES) for each in self._with_states}

    @property
    def _refit_inputs(self) -> dict[str, Any]:
        return {"refit": self._states, "algorithm": REFIT}

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
        """Merge in memory, and keep the digest of the backbone and the heads that were refitted.

        The backbone itself can be derived again.
        """
        plan = self._fitted(self.plan(store, context), store, context)
        merged = _merged(plan, context)
        size = sum(tensor.nbytes for tensor in merged.backbone.values())
        value: dict[str, Any] = {"backbone": weights_digest(merged.backbone), "bytes": size}
        read = contents(store.find("fisher", self._keys()).values())
        device = ""
        if plan.rule.calibration:
            device = context.torch_device()
            value["layers"] = {"arithmetic": device, "sketch": sketch(merged.backbone)}
        if not self._refits:
            return Draft(value=value, read=read, device=device)
        heads, file = self._refit(merged, store, context), folder / "heads.safetensors"
        heads.write(file)
        value["heads"] = heads.described()
        return Draft(value=value, read=read, files={"heads": file}, device=context.torch_device())

    def _keys(self) -> list[str]:
        """Return the keys of the statistics that the store has, or will have, of the models."""
        names = dict.fromkeys((*self.rule.statistics, *([HEAD_STATES] * self._refits)))
        return [
            member.statistic_key(name)
            for member in self.members
            for name in names
            if isinstance(member.statistics.get(name), KeyedStatistic)
        ]

    def _refit(self, merged: Merged, store: Store, context: Context) -> Refitted:
        models = [
            (member.source, step, step.load(store, context))
            for member, step in zip(self._with_states, self._examples().values(), strict=True)
        ]
        return refit_heads(merged, models, context)

    def _fitted(self, plan: Plan, store: Store, context: Context) -> Plan:
        """Return the plan with the layers fitted, if the rule fits them."""
        if not plan.rule.calibration:
            return plan
        backbone = context.backbone(
            plan.backbone_key,
            lambda: merged_backbone(fit_layers(plan, self._examples(), context)),
        )
        return replace(plan, fitted={short: backbone[full] for short, full in plan.names.items()})

    def _examples(self) -> dict[str, StatisticStep]:
        """Return, by model, the step that says which examples heads and layers are fitted to."""
        steps: dict[str, StatisticStep] = {}
        for member in self._with_states:
            step = member.statistics[HEAD_STATES]
            if not isinstance(step, StatisticStep):
                raise NeedsError(
                    f"needs the examples that heads or layers of {self.title} were fitted to; run "
                    "the zoo again"
                )
            steps[member.entry.name] = step
        return steps

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
            self.recipe.heads,
        )

    def _plan_with_heads(self, record: Record, store: Store, context: Context) -> Plan:
        """Plan the merge with the heads that the store has of it; corrupt ones are fitted again."""
        plan = self._fitted(self.plan(store, context), store, context)
        if not self._refits:
            return plan
        try:
            file = store.path(record.outputs["heads"])
        except Gone:
            record = store.repair(record, lambda folder: self.draft(store, context, folder))
            file = store.path(record.outputs["heads"])
        return replace(plan, refitted=read_heads(file))

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
        merged = _merged(self._plan_with_heads(record, store, context), context)
        self._check(merged.backbone, record, store, context, mend)
        return merged

    def fill(self, folder: Path, store: Store, context: Context, *, mend: bool = False) -> None:
        """Merge again into an empty directory, and check the weights that were written.

        The directory is written as :func:`merging.write_merged` does.

        Raises:
            NeedsError, MergeError: see :meth:`derive`.
        """
        record = self._record(store, context)
        plan = self._plan_with_heads(record, store, context)
        with context.report.track(f"merging {self.title}", plan.elements) as advance:
            merging.fill_merged(plan, folder, resolved(self.recipe, plan), progress=advance)
        self._check(written(folder), record, store, context, mend)

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
        self, tensors: Tensors, record: Record, store: Store, context: Context, mend: bool
    ) -> None:
        """Refuse weights that are not those of the record, or mend the record.

        Layers that were fitted elsewhere may differ by what other processors add up otherwise.
        """
        expected, derived = str(record.value["backbone"]), weights_digest(tensors)
        if derived == expected:
            return
        if (apart := _apart(tensors, record)) <= SAME:
            context.report.warn(
                f"{self.title}: derived on {context.torch_device()}, recorded on "
                f"{record.value['layers']['arithmetic']}; the weights differ by {apart:.0e} of "
                "themselves"
            )
            return
        differ = (
            f"{self.title}: derived again, its weights are {derived[:12]}, but its record says "
            f"{expected[:12]}"
        )
        if mend and self._mended(derived, record, store, context):
            context.report.warn(f"{differ}; the record {self.key[:12]} was replaced")
            return
        raise MergeError(
            [
                f"{differ}; a Fisher or the program changed since: 'fmn catalog verify --mend "
                f"{self.key[:12]}' replaces the record, and the next run measures it again"
            ]
        )

    def _mended(self, derived: str, record: Record, store: Store, context: Context) -> bool:
        """Replace a record if the merge comes out again as it was derived; tell whether it did."""
        anew = replace(context, _backbones=OrderedDict())  # and not what was derived just now
        with scratch() as folder:
            again = self.draft(store, anew, folder)
        if again.value["backbone"] != derived:
            return False
        if again.files:
            store.drop(record.address)
            self.run(store, context)
        else:
            store.replace(record, again)
        return True

    def content(self, store: Store) -> dict[str, dict[str, str]]:
        """Return what a result that is made of the merge keeps of it."""
        return contents(store.find(self.kind, [self.key]).values())


def _merged(plan: Plan, context: Context) -> Merged:
    """Merge in memory, or take what was merged for other heads or an evaluation."""
    return Merged(plan, {}, context.backbone(plan.backbone_key, lambda: merged_backbone(plan)))


def is_of(tensors: Tensors, record: Record) -> bool:
    """Tell whether weights are a merge's, by its record, or as near as layers fitted elsewhere."""
    return weights_digest(tensors) == record.value["backbone"] or _apart(tensors, record) <= SAME


def _apart(tensors: Tensors, record: Record) -> float:
    """Return how far weights are from a merge's, of which the record has a sketch."""
    layers = record.value.get("layers")
    return difference(layers["sketch"], sketch(tensors)) if layers else inf


def written(folder: Path) -> Tensors:
    """Return the merged weights in a directory that a merge wrote."""
    parts = [checkpoint.read(file)[0] for file in sorted((folder / "backbone").iterdir())]
    return {name: tensor for part in parts for name, tensor in part.items()}


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
        for statistic in zoo.variants[merge.variant].statistics
        if isinstance(zoo.members[name].statistics.get(statistic), KeyedStatistic)
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
