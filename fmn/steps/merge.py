"""A merge: of a recipe into a directory, or as a step whose record suffices to derive it.

Anyone can derive its weights again from that record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fmn import checkpoint, evaluation, merging
from fmn.checkpoint import Checkpoint, open_checkpoint, weights_digest
from fmn.errors import CheckpointError, FisherError, FmnError, MergeError
from fmn.merging import Fisher, Merged, Plan, Rule, Source
from fmn.merging.plan import check, doubts
from fmn.recipe import ModelEntry, Parent, Recipe
from fmn.steps.context import Context
from fmn.steps.fisher import STATISTICS, FisherStep, KeyedFisher, Kind
from fmn.steps.sidecar import PublishedFisher, fitting
from fmn.steps.step import NeedsError, Step
from fmn.store import Draft, Memo, Store
from fmn.store.records import record_path

if TYPE_CHECKING:
    from fmn.fisher import Statistic

KINDS: dict[str, Kind] = {statistic: kind for kind, statistic in STATISTICS.items()}

ALGORITHM = 1
"""Of merging; it rises when a change moves the last bits of a merge."""


@dataclass(frozen=True)
class Member:
    """A model that can be merged.

    Attributes:
        entry: what its user wrote, with its λ.
        source: the opened model.
        identity: digest of all that it is.
        fishers: by kind, a Fisher that was given, or one that the store has or will have.
    """

    entry: ModelEntry
    source: Source
    identity: str
    fishers: Mapping[str, KeyedFisher | Fisher]

    def fisher_key(self, kind: str) -> str:
        """Return what a Fisher of this model is known by: its step's key, or a given digest.

        The digest is that of a Fisher that was given.
        """
        found = self.fishers[kind]
        return found.key if isinstance(found, KeyedFisher) else f"given {found.digest}"


@dataclass(frozen=True)
class MergeStep(Step):
    """One merge of a zoo.

    Attributes:
        recipe: it, said in full.
        members: its models.
        parent: of the models, where it is known.
    """

    kind = "merge"

    recipe: Recipe
    members: tuple[Member, ...]
    parent: Source | None = None

    @property
    def rule(self) -> Rule:
        """The merge rule."""
        return merging.get_rule(self.recipe.method)

    @property
    def inputs(self) -> dict[str, Any]:
        """Models, their λ and Fishers in the order of names, and what the method is told.

        Nothing that it does not use.
        """
        needed = self.rule.statistic
        models = [
            [m.entry.name, m.identity, m.entry.weight, *([m.fisher_key(needed)] if needed else [])]
            for m in sorted(self.members, key=lambda m: m.entry.name)
        ]
        inputs = {
            "algorithm": ALGORITHM,
            "method": self.recipe.method,
            "models": models,
            "dtype": self.recipe.dtype,
        }
        if self.rule.parent and self.parent:
            inputs["parent"] = self.parent.digest
        return inputs | self.rule.settings(self.recipe.parameters)

    @property
    def title(self) -> str:
        """Such as ``sst2 + rte by average``."""
        return f"{' + '.join(member.entry.name for member in self.members)} by {self.recipe.method}"

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
        merged = Merged(self.plan(store, context), {})
        size = sum(tensor.nbytes for tensor in merged.backbone.values())
        return Draft(value={"backbone": weights_digest(merged.backbone), "bytes": size})

    def plan(self, store: Store, context: Context) -> Plan:
        """Plan the merge with the Fishers that are in the store.

        Raises:
            NeedsError: one is not there.
            MergeError: the models do not fit together.
        """
        return merging.make_plan(
            [self._source(member, store, context) for member in self.members],
            self.rule,
            self.recipe.parameters,
            self.recipe.dtype,
            self.parent,
        )

    def derive(self, store: Store, context: Context) -> Merged:
        """Merge again, and check that the weights are those of the record.

        Raises:
            NeedsError: there is no record, or a Fisher is not there.
            MergeError: other weights came out.
        """
        expected = self.recorded(store, context)
        merged = Merged(self.plan(store, context), {})
        self.check_weights(weights_digest(merged.backbone), expected)
        return merged

    def fill(self, folder: Path, store: Store, context: Context) -> None:
        """Merge again into an empty directory, and check the weights that were written.

        The directory is written as :func:`merging.write_merged` does.

        Raises:
            NeedsError, MergeError: see :meth:`derive`.
        """
        expected, plan = self.recorded(store, context), self.plan(store, context)
        with context.report.track(f"merging {self.title}", plan.elements) as advance:
            merging.fill_merged(plan, folder, resolved(self.recipe, plan), progress=advance)
        written = [checkpoint.read(file)[0] for file in sorted((folder / "backbone").iterdir())]
        self.check_weights(
            weights_digest({name: t for part in written for name, t in part.items()}), expected
        )

    def recorded(self, store: Store, context: Context) -> str:
        """Return the digest of the merged weights that the record says.

        A damaged record is made again.

        Raises:
            NeedsError: there is no record.
        """
        record = store.get(self.kind, self.key)
        if record is None and store.files.stamp(record_path(self.kind, self.key)):
            record = self.run(store, context).record
        if record is None:
            raise NeedsError(f"needs the merge {self.title}, which is not in the store")
        return str(record.value["backbone"])

    def check_weights(self, found: str, expected: str) -> None:
        """Refuse weights that are not those of the record."""
        if found != expected:
            raise MergeError(
                [
                    f"{self.title}: derived again, its weights are {found[:12]}, but its record "
                    f"says {expected[:12]}; a Fisher or the program changed since: remove the "
                    f"record {self.key[:12]} and run again"
                ]
            )

    def _source(self, member: Member, store: Store, context: Context) -> Source:
        needed = self.rule.statistic
        if not needed:
            return member.source
        found = member.fishers[needed]
        return replace(
            member.source,
            fisher=found.load(store, context) if isinstance(found, KeyedFisher) else found,
        )


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
        self.merge.fill(out, store, context)
        return Draft(files={"model": out})


def merge_recipe(recipe: Recipe, out: Path, context: Context, store: Store | None = None) -> None:
    """Compute the missing Fishers, merge, and write the merge's directory.

    It holds the backbone and one directory per task.

    Args:
        recipe: the merge.
        out: does not exist yet.
        context: where.
        store: Fishers are taken from it, and kept in it; without one they are computed, and
            forgotten.

    Raises:
        MergeError: models, Fishers or weights that do not fit together; every offence is listed.
        FmnError: an output that cannot be written, a model or data that is not there, NaN in a
            model.
    """
    checkpoint.check_new(out)
    recipe, plan = plan_recipe(recipe, context, store)
    with context.report.track(
        f"merging {len(recipe.models)} models by {recipe.method}", plan.elements
    ) as advance:
        merging.write_merged(plan, out, resolved(recipe, plan), progress=advance)


def plan_recipe(
    recipe: Recipe, context: Context, store: Store | None = None
) -> tuple[Recipe, Plan]:
    """Open and check everything, get or compute the Fishers that are missing, and plan the merge.

    Returns:
        the recipe, with the files of Fishers that were found beside their models, and the plan.
    """
    rule = merging.get_rule(recipe.method)
    merging.check_parameters([rule], recipe.parameters)
    if wrong := list(
        merging.misuse(
            rule, [entry.weight for entry in recipe.models], has_parent=recipe.parent is not None
        )
    ):
        raise MergeError(wrong)
    sources = open_sources(recipe.models, context.memo)
    parent = open_parent(recipe.parent, context.memo) if recipe.parent and rule.parent else None
    if recipe.parent and not rule.parent:
        context.report.warn(
            f"method {rule.name} looks at no parent; {recipe.parent.model} is left aside"
        )
    missing = {
        source.task
        for source in sources
        if rule.statistic and source.weight > 0 and not source.fisher
    }
    check(sources, rule, pending=missing, parent=parent)
    for line in doubts(sources, parent):
        context.report.warn(line)
    steps: dict[str, FisherStep | PublishedFisher] = {}
    for entry, source in zip(recipe.models, sources, strict=True):
        if source.task in missing:
            steps[source.task] = _or_published(
                step_of(recipe, entry, source, rule, context.memo), recipe, context
            )
    for each in steps.values():
        if isinstance(each, FisherStep):
            each.prepare(context)
    sources = [
        replace(s, fisher=_had(steps[s.task], context, store)) if s.task in steps else s
        for s in sources
    ]
    files = {name: step.file for name, step in steps.items() if isinstance(step, PublishedFisher)}
    entries = (
        entry.model_copy(update={"fisher": files.get(entry.name, entry.fisher)})
        for entry in recipe.models
    )
    said = recipe.model_copy(update={"models": tuple(entries)})
    return said, merging.make_plan(sources, rule, recipe.parameters, recipe.dtype, parent)


def _or_published(
    step: FisherStep, recipe: Recipe, context: Context
) -> FisherStep | PublishedFisher:
    """Return the Fisher beside the model, if it is as the recipe says, as far as it says anything.

    Otherwise the step.
    """
    try:
        return fitting(step, recipe.fisher.model_fields_set) or step
    except FisherError as error:
        context.report.warn(f"{error}; computing the Fisher")
        return step


def _had(step: FisherStep | PublishedFisher, context: Context, store: Store | None) -> Fisher:
    if store is None:
        return as_fisher(step.compute(context)) if isinstance(step, FisherStep) else step.fisher()
    step.run(store, context)
    return step.load(store, context)


def step_of(
    recipe: Recipe, entry: ModelEntry, source: Source, rule: Rule, memo: Memo
) -> FisherStep:
    """Return the step that computes the Fisher that a rule needs of a model."""
    assert rule.statistic is not None and source.checkpoint is not None
    task = evaluation.get_task(entry.task)
    return FisherStep(
        source.checkpoint,
        task,
        recipe.data,
        KINDS[rule.statistic],
        recipe.fisher,
        memo,
        entry.labels,
        entry.name,
    )


def as_source(
    entry: ModelEntry, opened: Checkpoint, memo: Memo, fisher: Fisher | None = None
) -> Source:
    """Return an opened model as a merge takes it."""
    known = memo.digest("weights", opened.weight_files, opened.digest)
    return Source(
        entry.model,
        entry.name,
        opened.model_type,
        opened.setting,
        opened.tensors,
        entry.weight,
        fisher,
        opened,
        known,
    )


def as_fisher(fisher: Statistic) -> Fisher:
    """Return a computed Fisher as a merge takes it."""
    return Fisher(
        {name: checkpoint.as_array(tensor) for name, tensor in fisher.tensors()}, fisher.metadata()
    )


RESOLVED = "# resolved by fmn 0.1.0\n"
"""First line of a resolved recipe: the version of fmn that first wrote this format.

It does not follow the version of the day. A kept merge is a directory of this file and the weights
that a digest covers, and one that is derived again has to have the same bytes, whoever does it.
"""


def resolved(recipe: Recipe, plan: Plan) -> str:
    """Return the recipe as YAML with everything said.

    It has the models in canonical order, every default and the digests of the weights.
    """
    entries = {entry.name: entry for entry in recipe.models}
    models = [
        entries[source.task].model_copy(update={"digest": source.digest}) for source in plan.sources
    ]
    content = recipe.model_copy(update={"models": tuple(models)}).model_dump(warnings=False)
    told = recipe.parameters.model_dump(exclude_none=True) | dict(plan.settings)
    content["parameters"] = {name: told[name] for name in content["parameters"] if name in told}
    if plan.rule.parent and recipe.parent and plan.origin:
        content["parent"]["digest"] = plan.origin.digest
    for name in ("parent", "data", "fisher"):
        if (
            content[name] is None
        ):  # most recipes have no parent; and models' Fishers may be of several data and settings
            del content[name]
    return RESOLVED + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def open_source(entry: ModelEntry, memo: Memo) -> Source:
    """Open a model, and its Fisher if one is given.

    Raises:
        CheckpointError: what cannot be opened, or has other weights than the entry says.
    """
    opened = open_checkpoint(entry.model, entry.revision)
    given = Fisher(*checkpoint.read(entry.fisher)) if entry.fisher else None
    source = as_source(entry, opened, memo, given)
    if entry.digest and entry.digest != source.digest:
        digests = f"{entry.digest[:12]}, these are {source.digest[:12]}"
        raise CheckpointError(
            f"{entry.model}: the recipe was resolved with other weights ({digests})"
        )
    return source


def open_parent(parent: Parent, memo: Memo) -> Source:
    """Open the parent of models.

    Raises:
        CheckpointError: it cannot be opened, or has other weights than its entry says.
    """
    try:
        return open_source(
            ModelEntry(
                model=parent.model, task="parent", revision=parent.revision, digest=parent.digest
            ),
            memo,
        )
    except CheckpointError as error:
        raise CheckpointError(f"parent: {error}") from error


def open_sources(entries: Sequence[ModelEntry], memo: Memo) -> list[Source]:
    """Open every model and given Fisher.

    Raises:
        MergeError: what cannot be opened; every offence is listed.
    """
    sources: list[Source] = []
    offences: list[str] = []
    for entry in entries:
        try:
            sources.append(open_source(entry, memo))
        except FmnError as error:
            offences.append(str(error))
    if offences:
        raise MergeError(offences)
    return sources
