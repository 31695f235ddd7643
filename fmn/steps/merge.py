"""A recipe carried out: Fishers that are missing, the merge, the directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fmn import checkpoint, evaluation, merging
from fmn.checkpoint import Checkpoint, open_checkpoint
from fmn.errors import CheckpointError, FmnError, MergeError
from fmn.merging import Fisher, Plan, Rule, Source
from fmn.merging.plan import check
from fmn.recipe import ModelEntry, Recipe, task_name
from fmn.steps.bench import Bench
from fmn.steps.fisher import FisherStep, Kind

if TYPE_CHECKING:
    from fmn.fisher import DiagonalFisher, MaskFisher

KINDS: dict[str, Kind] = {"mask-fisher": "mask", "diagonal-fisher": "diagonal"}


def merge_recipe(recipe: Recipe, out: Path, bench: Bench) -> None:
    """Compute the Fishers that are missing, merge, and write a directory with the backbone and one directory per task.

    Raises:
        MergeError: models, Fishers or weights that do not fit together; every offence is listed.
        FmnError: an output that cannot be written, a model or data that is not there, NaN in a model.
    """
    checkpoint.check_new(out)
    plan = plan_recipe(recipe, bench)
    elements = sum(tensor.size for tensor in plan.backbones[0].values())
    with bench.report.track(f"merging {len(recipe.models)} models by {recipe.method}", elements) as advance:
        merging.write_merged(plan, out, resolved(recipe, plan), progress=advance)


def plan_recipe(recipe: Recipe, bench: Bench) -> Plan:
    """Open and check everything, compute the Fishers that are missing, and plan the merge."""
    rule = merging.get_rule(recipe.method)
    sources = open_sources(recipe.models)
    missing = {source.task for source in sources if rule.fisher and not source.fisher}
    check(sources, rule, pending=missing)
    steps = {
        source.task: step_of(recipe, entry, source, rule)
        for entry, source in zip(recipe.models, sources, strict=True)
        if source.task in missing
    }
    for step in steps.values():
        step.prepare(bench)
    sources = [replace(s, fisher=as_fisher(steps[s.task].run(bench))) if s.task in steps else s for s in sources]
    return merging.make_plan(sources, rule, recipe.parameters, recipe.dtype)


def step_of(recipe: Recipe, entry: ModelEntry, source: Source, rule: Rule) -> FisherStep:
    """Return the step that computes the Fisher that a rule needs of a model."""
    assert rule.fisher is not None and source.checkpoint is not None
    task = evaluation.get_task(entry.task)
    return FisherStep(source.checkpoint, task, recipe.data, KINDS[rule.fisher], recipe.fisher, entry.labels)


def as_source(entry: ModelEntry, opened: Checkpoint, fisher: Fisher | None = None) -> Source:
    """Return an opened model as a merge takes it."""
    return Source(
        entry.model, task_name(entry.task), opened.model_type, opened.setting, opened.tensors, entry.weight, fisher, opened
    )


def as_fisher(fisher: MaskFisher | DiagonalFisher) -> Fisher:
    """Return a computed Fisher as a merge takes it."""
    return Fisher({name: checkpoint.as_array(tensor) for name, tensor in fisher.tensors()}, fisher.metadata())


def resolved(recipe: Recipe, plan: Plan) -> str:
    """Return the recipe as YAML with everything said: models in canonical order, every default, the digests of the weights."""
    from fmn import __version__

    entries = {entry.name: entry for entry in recipe.models}
    models = [entries[source.task].model_copy(update={"digest": source.digest}) for source in plan.sources]
    content = recipe.model_copy(update={"models": tuple(models)}).model_dump()
    return f"# resolved by fmn {__version__}\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def open_sources(entries: Sequence[ModelEntry]) -> list[Source]:
    """Open every model and given Fisher.

    Raises:
        MergeError: what cannot be opened, or has other weights than the entry says; every offence is listed.
    """
    sources: list[Source] = []
    offences: list[str] = []
    for entry in entries:
        try:
            opened = open_checkpoint(entry.model, entry.revision)
            given = Fisher(*checkpoint.read(entry.fisher)) if entry.fisher else None
            source = as_source(entry, opened, given)
            if entry.digest and entry.digest != source.digest:
                digests = f"{entry.digest[:12]}, these are {source.digest[:12]}"
                raise CheckpointError(f"{entry.model}: the recipe was resolved with other weights ({digests})")
            sources.append(source)
        except FmnError as error:
            offences.append(str(error))
    if offences:
        raise MergeError(offences)
    return sources
