"""What the report page shows, read from a catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

from fmn import __version__
from fmn.catalog import (
    MOST,
    Catalog,
    Difference,
    Entry,
    MergedModel,
    Paired,
    against_own,
    read_paired,
)
from fmn.errors import FisherError
from fmn.evaluation import interval
from fmn.keys import digest
from fmn.report.data import FLOAT32, Apart, FisherMap, Member, Merge, Model, Report, Run
from fmn.report.fishers import MASK
from fmn.report.rules import weights_by_nodes
from fmn.report.shares import recorded_fisher
from fmn.statistics import title_of
from fmn.store import Record, RunLog
from fmn.store.records import now


def read_report(catalog: Catalog, parent: str | None = None) -> Report:
    """Read all that a report shows: the catalog's merges and the last runs.

    Each merge comes with its models and their mask Fishers.

    Args:
        catalog: the merges.
        parent: the pretrained model, which no record names.

    Raises:
        StoreError: the store failed.
    """
    entries = sorted(
        catalog.entries.values(),
        key=lambda entry: (len(entry.parts), list(entry.parts), entry.method, entry.id),
    )
    models = _models(entries)
    keys = {key for entry in entries for part in entry.parts.values() for key in part.statistics}
    records = catalog.store.find("fisher", sorted(key for key in keys if " " not in key))
    number = {model.key: index for index, model in enumerate(models)}
    paired = _paired(catalog, entries)
    merges = [_merge(entry, number, records, each) for entry, each in paired]
    return Report(
        store=catalog.store.url,
        at=now(),
        version=__version__,
        models=tuple(models),
        merges=tuple(with_the_best(merges)),
        fishers=tuple(_fishers(catalog, entries, number, records)),
        runs=tuple(_run(run) for run in catalog.store.runs()),
        parent=parent,
    )


def _paired(catalog: Catalog, entries: list[Entry]) -> list[tuple[Entry, Paired]]:
    """Return merges with what they and their models are on each resample.

    Nothing of that where there are more merges than a page should wait for.
    """
    if len(entries) > MOST:
        return [(entry, Paired({}, {})) for entry in entries]
    known: dict[str, Any] = {}
    return [(entry, read_paired(catalog.store, entry, known)) for entry in entries]


def with_the_best(merges: Sequence[Merge]) -> Iterator[Merge]:
    """Give merges, each with how far it is from the best of the same models."""
    best: dict[tuple[frozenset[int], str], Merge] = {}
    for merge in merges:
        group = _group(merge)
        if merge.mean is not None and _choice(merge) > _choice(best.get(group)):
            best[group] = merge
    for merge in merges:
        first = best.get(_group(merge))
        apart = None if first in (None, merge) else merge.minus(first)
        yield merge.model_copy(update={"from_best": apart, "is_best": merge is first})


def _group(merge: Merge) -> tuple[frozenset[int], str]:
    return frozenset(member.model for member in merge.members), merge.measured


def _choice(merge: Merge | None) -> float:
    """Return the score by which a merge is chosen; of none the lowest there is."""
    if merge is None or merge.mean is None:
        return -inf
    return merge.mean if merge.choice is None else merge.choice


def _models(entries: list[Entry]) -> list[Model]:
    """Return every model of a merge once, with the scores that most examples were measured for."""
    models: dict[str, Model] = {}
    for entry in entries:
        for part in entry.parts.values():
            score = entry.scores.get(part.name)
            measured = bool(score and score.individual)
            if part.identity in models and not (
                measured and score and score.examples > models[part.identity].examples
            ):
                continue
            models[part.identity] = Model(
                key=part.identity,
                name=part.name,
                task=part.task_name,
                model=part.model,
                revision=part.revision,
                weights=part.weights,
                metrics=dict(score.individual) if score else {},
                intervals=dict(score.own_intervals) if score else {},
                chance=dict(score.chance) if score else {},
                at_chance=None if score is None else _negated(score.own_beats_chance),
                examples=score.examples if score and measured else 0,
            )
    return sorted(models.values(), key=lambda model: (model.name, model.key))


def _negated(known: bool | None) -> bool | None:
    return None if known is None else not known


def _merge(
    entry: Entry, number: Mapping[str, int], records: Mapping[str, Record], paired: Paired
) -> Merge:
    made = entry.record.made
    drawn = paired.mean(list(entry.scores))
    at_chance = entry.at_chance() or []
    return Merge(
        key=entry.id,
        method=entry.method,
        parameters={
            **{name: str(value) for name, value in entry.parameters.items()},
            "heads": entry.heads,
        },
        members=tuple(_members(entry, number, records, against_own(entry, paired))),
        by_nodes=weights_by_nodes(entry.method),
        mean=entry.mean(),
        worst=entry.worst(),
        interval=None if drawn is None else interval(drawn),
        choice=entry.mean(choice=True) if entry.is_chosen_elsewhere else None,
        at_chance=tuple(at_chance),
        mean_above_chance=entry.mean_above_chance() if at_chance else None,
        resampled=b"" if drawn is None else drawn.astype(FLOAT32).tobytes(),
        measured=_measured(entry),
        by=made.by,
        at=made.at,
        seconds=entry.seconds,
        device=entry.evaluations[0].record.made.device if entry.evaluations else made.device,
        versions=made.versions,
        tags=entry.tags,
        kept=entry.kept is not None,
        note=f"Measured on {entry.evaluations[0].examples:,} examples."
        if entry.evaluations
        else "",
    )


def _measured(entry: Entry) -> str:
    """Return a digest of what was measured of a merge."""
    if not entry.evaluations:
        return ""
    return digest("measures", entry.evaluations[0].record.inputs["measures"])


def _apart(difference: Difference | None) -> Apart | None:
    return None if difference is None else Apart.model_validate(difference.as_json())


def _members(
    entry: Entry,
    number: Mapping[str, int],
    records: Mapping[str, Record],
    apart: Mapping[str, Difference],
) -> list[Member]:
    members = []
    for part in entry.parts.values():
        known: dict[str, Any] = {
            "model": number[part.identity],
            "name": part.name,
            "task": part.task_name,
            "weight": part.weight,
        }
        if score := entry.scores.get(part.name):
            known |= {
                "metric": score.headline,
                "score": score.value,
                "metrics": dict(score.metrics),
                "intervals": dict(score.intervals),
                "chance": score.chance.get(score.headline),
                "own_interval": score.own_intervals.get(score.headline),
                "apart": _apart(apart.get(part.name)),
                "examples": score.examples,
                "individual": score.individual.get(score.headline),
                "normalized": score.normalized,
            }
        members.append(Member(**_statistic(part, records), **known))
    return members


def _statistic(part: MergedModel, records: Mapping[str, Record]) -> dict[str, str]:
    """Return the statistic that a page shows of a model: the mask Fisher, else the first."""
    of = {key: records[key].inputs["of"] if key in records else "" for key in part.statistics}
    shown = sorted(of, key=lambda key: of[key] != MASK)[:1]
    return {"fisher": shown[0], "statistic": title_of(of[shown[0]])} if shown else {}


def _fishers(
    catalog: Catalog,
    entries: list[Entry],
    number: Mapping[str, int],
    records: Mapping[str, Record],
) -> list[FisherMap]:
    """Return the mask Fishers of the merges.

    One whose file is damaged is left out, for the next run repairs it.
    """
    of = {
        key: number[part.identity]
        for entry in entries
        for part in entry.parts.values()
        for key in part.statistics
    }
    maps = []
    for key, record in sorted(records.items(), key=lambda one: (one[1].names["name"], one[0])):
        if record.inputs["of"] == MASK:
            try:
                maps.append(_map(catalog, record, of[key]))
            except FisherError as error:
                catalog.store.warn(str(error))
    return maps


def _map(catalog: Catalog, record: Record, model: int) -> FisherMap:
    return FisherMap.of(
        recorded_fisher(catalog.store, record)[0],
        key=record.key,
        model=model,
        task=record.names["task"],
        settings=record.inputs["settings"],
        by=record.made.by,
        at=record.made.at,
        seconds=record.made.seconds,
    )


def _run(run: RunLog) -> Run:
    return Run(**run.model_dump(exclude={"described"}))
