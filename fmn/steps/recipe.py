"""A merge by a recipe, into a directory: opens, checks, measures what is missing, merges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from fmn import checkpoint, evaluation, merging
from fmn.errors import FisherError, MergeError
from fmn.merging import Merged, Plan, Rule, Source
from fmn.merging.check import check, doubts
from fmn.recipe import PAPER_NODES, RESOLVED, ModelEntry, Recipe
from fmn.statistics import HEAD_STATES, Measurement, get_statistic
from fmn.steps.context import Context
from fmn.steps.heads import Tensors, refit_heads, states_step
from fmn.steps.layers import fit_layers, no_calibration
from fmn.steps.member import open_parent, open_sources
from fmn.steps.sidecar import Sidecar, fitting
from fmn.steps.statistic import StatisticStep
from fmn.store import Memo, Store

ALWAYS_SAID = {"association": "paper", "normalize": "none"}
"""Parameters that a resolved recipe names even if its method has none, for the same reason."""

Missing = dict[tuple[str, str], StatisticStep | Sidecar]
"""By the name of a model and of a statistic, how it is had."""


def merge_recipe(recipe: Recipe, out: Path, context: Context, store: Store | None = None) -> None:
    """Compute the missing statistics, merge, and write the merge's directory.

    It holds the backbone and one directory per task.

    Args:
        recipe: the merge.
        out: does not exist yet.
        context: where.
        store: statistics are taken from it, and kept in it; without one they are computed, and
            forgotten.

    Raises:
        MergeError: models, statistics or weights that do not fit together; every offence is listed.
        FmnError: an output that cannot be written, a model or data that is not there, NaN in a
            model.
    """
    checkpoint.check_new(out)
    recipe, plan = plan_recipe(recipe, context, store)
    title = f"merging {len(recipe.models)} models by {recipe.method}"
    with context.report.track(title, plan.elements) as advance:
        merging.write_merged(plan, out, resolved(recipe, plan), progress=advance)


def plan_recipe(
    recipe: Recipe, context: Context, store: Store | None = None
) -> tuple[Recipe, Plan]:
    """Open and check everything, get or compute the missing statistics, and plan the merge.

    Returns:
        the recipe, with the files of statistics that were found beside their models, and the plan.
    """
    rule = merging.get_rule(recipe.method)
    merging.check_parameters([rule], recipe.parameters)
    rule = rule.given(recipe.parameters)
    weights = [entry.weight for entry in recipe.models]
    if wrong := list(merging.misuse(rule, weights, has_parent=recipe.parent is not None)):
        raise MergeError(wrong)
    sources = open_sources(recipe.models, context.memo)
    parent = open_parent(recipe.parent, context.memo) if recipe.parent and rule.parent else None
    if recipe.parent and not rule.parent:
        context.report.warn(
            f"method {rule.name} looks at no parent; {recipe.parent.model} is left aside"
        )
    lacking = {source.task: list(_lacking(source, rule)) for source in sources}
    pending = {task for task, names in lacking.items() if names}
    check(sources, rule, pending=pending, parent=parent)
    for line in doubts(sources, parent):
        context.report.warn(line)
    reads = recipe.heads == "refit" or rule.calibration
    states = _states(recipe, sources, context.memo) if reads else {}
    if rule.calibration and (mute := [s.task for s in sources if s.task not in states]):
        raise MergeError([no_calibration(rule.name, name) for name in mute])
    steps: Missing = {}
    for entry, source in zip(recipe.models, sources, strict=True):
        for name in lacking[source.task]:
            if name == HEAD_STATES:
                steps[entry.name, name] = states[entry.name]
                continue
            step = step_of(recipe, entry, source, name, context.memo)
            steps[entry.name, name] = _or_sidecar(step, recipe, context)
    if short := list(_short(steps, rule)):
        raise MergeError(short)
    for each in (*steps.values(), *states.values()):
        if isinstance(each, StatisticStep):
            each.prepare(context)
    sources = [_measured(source, steps, context, store) for source in sources]
    plan = merging.make_plan(sources, rule, recipe.parameters, recipe.dtype, parent, recipe.heads)
    if rule.calibration:
        plan = fit_layers(plan, states, context)
    if recipe.heads == "refit" and states:
        plan = replace(plan, refitted=_refitted(plan, states, context, store))
    return _with_files(recipe, rule, steps), plan


def _refitted(
    plan: Plan, states: Mapping[str, StatisticStep], context: Context, store: Store | None
) -> Mapping[str, Tensors]:
    """Merge in memory, and fit each head to that."""
    models = [
        (
            source,
            states[source.task],
            source.statistics.get(HEAD_STATES) or _had(states[source.task], context, store),
        )
        for source in plan.sources
        if source.task in states
    ]
    return refit_heads(Merged(plan, {}), models, context).tensors


def _states(recipe: Recipe, sources: Sequence[Source], memo: Memo) -> dict[str, StatisticStep]:
    """Return the steps of the head states, by task; what writes text has no head to refit."""
    text = evaluation.read_text(recipe.refit.text) if recipe.refit.text else None
    steps: dict[str, StatisticStep] = {}
    for entry, source in zip(recipe.models, sources, strict=True):
        assert source.checkpoint is not None
        step = states_step(entry, source.checkpoint, recipe.refit, recipe.data, text, memo)
        if step:
            steps[source.task] = step
    return steps


def _lacking(source: Source, rule: Rule) -> Iterator[str]:
    """Iterate over the statistics to compute; one that was given for another is no lack."""
    is_of_use = not source.statistics or not source.statistics.keys().isdisjoint(rule.statistics)
    for name in rule.statistics if source.weight > 0 and is_of_use else ():
        if name not in source.statistics:
            yield name


def _or_sidecar(step: StatisticStep, recipe: Recipe, context: Context) -> StatisticStep | Sidecar:
    """Return the statistic beside the model, if it is as the recipe says; otherwise the step.

    It is compared as far as the recipe says anything.
    """
    try:
        return fitting(step, recipe.fisher.model_fields_set) or step
    except FisherError as error:
        context.report.warn(f"{error}; computing the {step.statistic.title}")
        return step


def _short(steps: Missing, rule: Rule) -> Iterator[str]:
    """Iterate over what the rule reads that these statistics will not have."""
    for (model, name), step in steps.items():
        has = step.settings if isinstance(step, StatisticStep) else step.measurement()
        if lack := get_statistic(name).lacks(has, dict(rule.reading)):
            yield f"{model}: {lack}"


def _measured(source: Source, steps: Missing, context: Context, store: Store | None) -> Source:
    had = {
        name: _had(step, context, store)
        for (model, name), step in steps.items()
        if model == source.task
    }
    return replace(source, statistics={**source.statistics, **had}) if had else source


def _had(step: StatisticStep | Sidecar, context: Context, store: Store | None) -> Measurement:
    if store is not None:
        step.run(store, context)
        return step.load(store, context)
    if isinstance(step, StatisticStep):
        return step.compute(context).measurement()
    return step.measurement()


def _with_files(recipe: Recipe, rule: Rule, steps: Missing) -> Recipe:
    """Name the files that were found beside models, where the method needs one statistic."""
    if len(rule.statistics) != 1:
        return recipe
    files = {model: step.file for (model, _), step in steps.items() if isinstance(step, Sidecar)}
    entries = [
        entry.model_copy(update={"fisher": files.get(entry.name, entry.fisher)})
        for entry in recipe.models
    ]
    return recipe.model_copy(update={"models": tuple(entries)})


def step_of(
    recipe: Recipe, entry: ModelEntry, source: Source, statistic: str, memo: Memo
) -> StatisticStep:
    """Return the step that computes a statistic of a model.

    Raises:
        ParamsError: the model has no task, whose data it needs.
    """
    assert source.checkpoint is not None
    return StatisticStep(
        source.checkpoint,
        evaluation.get_task(entry.needed_task),
        recipe.data,
        get_statistic(statistic),
        recipe.fisher,
        memo,
        entry.labels,
        entry.name,
    )


def resolved(recipe: Recipe, plan: Plan) -> str:
    """Return the recipe as YAML with everything said.

    It has the models in canonical order, every default and the digests of the weights.
    """
    content = recipe.model_dump(warnings=False)
    content["models"] = list(_resolved_models(recipe, plan.sources))
    content["parameters"] = ALWAYS_SAID | plan.rule.said(plan.settings)
    if plan.rule.parent and recipe.parent and plan.origin:
        content["parent"]["digest"] = plan.origin.digest
    if content["fisher"] and recipe.fisher.nodes == PAPER_NODES:
        del content["fisher"]["nodes"]  # as before there were others
    for name in ("parent", "data", "fisher"):
        # most recipes have no parent; and models' Fishers may be of several data and settings
        if content[name] is None:
            del content[name]
    if content.get("heads", "merged") == "merged":
        # what recipes that say nothing of heads mean where they are resolved
        content.pop("heads", None)
    if content.get("heads") != "refit" and not plan.rule.calibration:
        content.pop("refit", None)
    return RESOLVED + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _resolved_models(recipe: Recipe, sources: Sequence[Source]) -> Iterator[dict[str, object]]:
    entries = {entry.name: entry for entry in recipe.models}
    for source in sources:
        entry = entries[source.task].model_copy(update={"digest": source.digest}).model_dump()
        if entry["task"] is None:
            del entry["task"]
        yield entry
