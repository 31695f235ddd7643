"""A model card: what a merge is, for people and for the hub, as the README.md of its directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fmn.catalog.entry import Entry, MergedModel, together
from fmn.catalog.score import ELSEWHERE
from fmn.store import Record

HEADS = {
    "merged": "each task keeps its own head.",
    "own": "each task keeps its own head, and what feeds nothing else.",
    "refit": "each task's head was refitted to it in closed form, without labels.",
}

Statistics = Mapping[str, Mapping[str, Record]]
"""Records by name of the model and of the statistic."""


def model_card(entry: Entry, statistics: Statistics, refit: Mapping[str, Any] | None = None) -> str:
    """Return the README.md of a merge's directory: the hub's metadata, recipe, scores, lineage.

    Args:
        entry: the merge.
        statistics: the records of what was computed of its models; see
            :meth:`fmn.catalog.Catalog.statistics`.
        refit: on what its heads were refitted; see :meth:`fmn.catalog.Catalog.refit`.
    """
    described = _recipe(entry, statistics) | ({"refit": dict(refit)} if refit else {})
    recipe = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{_metadata(entry)}---",
        f"# {entry.title}",
        _about(entry),
        "## Use",
        _use(entry),
        "## Scores",
        "\n".join(_scores(entry)),
        "## Models",
        "\n".join(_models(entry)),
        "## Recipe",
        f"```yaml\n{recipe}```",
        "## Lineage",
        "\n".join(_lineage(entry, statistics)),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(entry: Entry) -> str:
    """Return the YAML that the hub reads; it names no paths of somebody's machine."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-classification",
            task_name=entry.parts[name].task_name,
            dataset_type=_dataset(entry, name) or entry.parts[name].task_name,
            dataset_name=entry.parts[name].task_name,
            dataset_config=entry.parts[name].task_name,
            dataset_split=entry.evaluations[0].record.names.get("splits", {}).get(name, {}).get(""),
            metric_type="matthews_correlation" if metric == "matthews" else metric,
            metric_name=metric,
            metric_value=value,
        )
        for name, score in entry.scores.items()
        for metric, value in score.metrics.items()
    ]
    fields: dict[str, Any] = {"tags": ["merge", "fmn", entry.method, *entry.tasks]}
    if models := sorted({part.model for part in entry.parts.values() if part.is_hub}):
        fields |= {"base_model": models, "base_model_relation": "merge"}
    if results:
        fields |= {
            "pipeline_tag": "text-classification",
            "model_name": entry.title,
            "eval_results": results,
        }
    if datasets := sorted({data for name in entry.scores if (data := _dataset(entry, name))}):
        fields["datasets"] = datasets
    return ModelCardData(library_name="transformers", **fields).to_yaml() + "\n"


def _dataset(entry: Entry, name: str) -> str | None:
    names = entry.evaluations[0].record.names
    return names["data"][name] if name in names.get("hub", ()) else None


def _about(entry: Entry) -> str:
    parameters = ", ".join(f"{name}: {value}" for name, value in entry.parameters.items())
    return (
        f"{len(entry.parts)} models of one pretrained parent, merged without training by "
        f"**{entry.method}**{_summary(entry.method)}. One backbone is shared; {HEADS[entry.heads]} "
        f"({parameters})"
    )


def _summary(method: str) -> str:
    """Say what a method does; nothing of one that no package here brings."""
    from fmn.merging import get_rule, rule_names  # who only lists merges does not pay for it

    if method not in rule_names():
        return ""
    rule = get_rule(method)
    return f": {rule.summary} ({rule.reference})" if rule.paper else f": {rule.summary}"


def _use(entry: Entry) -> str:
    name = next(iter(entry.parts))
    return (
        "Each task is a directory that transformers loads:\n\n```python\n"
        "from transformers import AutoModelForSequenceClassification\n\n"
        f'model = AutoModelForSequenceClassification.from_pretrained("DIRECTORY/{name}")\n'
        f'# from the hub: from_pretrained("ORG/NAME", subfolder="{name}")\n```'
    )


def _scores(entry: Entry) -> Iterator[str]:
    if not entry.scores:
        yield "It has not been measured."
        return
    yield (
        "| task | metric | merged | interval | chance | the model alone | merged / alone, % | "
        "examples |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for name, score in entry.scores.items():
        for metric, value in score.metrics.items():
            own, chance = score.individual.get(metric), score.chance.get(metric)
            ends = score.intervals.get(metric)
            cells = (
                f"{100 * value:.2f}",
                f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}" if ends else "no interval",
                "" if chance is None else f"{100 * chance:.2f}",
                *((f"{100 * own:.2f}", f"{100 * value / own:.1f}") if own else ("", "")),
                f"{score.examples:,}",
            )
            yield f"| {name} | {metric} | {' | '.join(cells)} |"
    if entry.is_chosen_elsewhere:
        yield f"\n{ELSEWHERE[:1].upper()}{ELSEWHERE[1:]}."
    if (mean := entry.mean()) is not None:
        yield f"\nMean normalised score: {100 * mean:.2f} %."
    if left_out := entry.at_chance():
        better = entry.mean_above_chance()
        rest = "" if better is None else f"; without, the mean is {100 * better:.2f} %"
        yield f"\nNo better than chance alone: {', '.join(left_out)}{rest}."


def _models(entry: Entry) -> Iterator[str]:
    yield "| name | task | model | λ | sha256 of its weights |"
    yield "|---|---|---|---:|---|"
    for part in entry.parts.values():
        yield (
            f"| {part.name} | `{part.task_name}` | {_code(_place(part))} | {part.weight:g} | "
            f"`{part.weights}` |"
        )


def _recipe(entry: Entry, statistics: Statistics) -> dict[str, Any]:
    """Return the recipe as ``fmn merge`` reads it."""
    records = list(next(iter(statistics.values()), {}).values())
    settings = together(record.inputs["settings"] for record in records)
    models = [
        {
            "model": part.model,
            "task": part.task,
            "name": part.name,
            "weight": part.weight,
            "digest": part.weights,
        }
        | ({"revision": part.revision} if part.revision else {})
        | ({"labels": part.labels} if part.labels else {})
        for part in entry.parts.values()
    ]
    parameters = {name: value for name, value in entry.parameters.items() if name != "dtype"}
    recipe: dict[str, Any] = {"method": entry.method, "models": models}
    if entry.parent:
        recipe["parent"] = {name: value for name, value in entry.parent.items() if value}
    if parameters:
        recipe["parameters"] = parameters
    if records:
        recipe["data"] = records[0].names["data"]
    if settings:
        recipe["fisher"] = settings
    return recipe | {"dtype": entry.parameters["dtype"], "heads": entry.heads}


def _lineage(entry: Entry, statistics: Statistics) -> Iterator[str]:
    made = entry.record.made
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    yield (
        f"- merge `{entry.id}`: {made.seconds:.1f} s, by {_code(made.by)} at {made.at}, with "
        f"{versions}"
    )
    if entry.parent:
        yield (
            f"- parent {_code(entry.parent['model'])}, sha256 of its weights "
            f"`{entry.parent['digest']}`"
        )
    yield f"- merged backbone, sha256 `{entry.record.value['backbone']}`"
    for name, fit in entry.record.value.get("heads", {}).items():
        ridge = "its own stays" if fit["ridge"] is None else f"ridge {fit['ridge']:g}"
        yield (
            f"- head of {name}, {_code(fit['map'])}: {ridge}; mean squared error "
            f"{fit['error']:.4g}, of its own {fit['own_error']:.4g}"
        )
    for name, record in ((name, r) for name, each in statistics.items() for r in each.values()):
        settings = ", ".join(f"{key} {value}" for key, value in record.inputs["settings"].items())
        who = (
            f"{record.made.seconds:.1f} s on {record.made.device}, by {_code(record.made.by)} at "
            f"{record.made.at}"
        )
        yield (
            f"- {record.inputs['of']} of {name} `{record.key}`: {settings}; data "
            f"`{record.inputs['data']}`; {who}"
        )
    for evaluation in entry.evaluations:
        record = evaluation.record
        who = (
            f"{record.made.seconds:.1f} s on {record.made.device}, by {_code(record.made.by)} at "
            f"{record.made.at}"
        )
        yield f"- evaluation `{record.key}`: {evaluation.examples:,} examples; {who}"


def _place(part: MergedModel) -> str:
    return f"{part.model}@{part.revision}" if part.revision else part.model


def _code(text: str) -> str:
    """Return text as code in a table, whatever is in it."""
    fence = "``" if "`" in text else "`"
    return fence + text.replace("|", r"\|") + fence
