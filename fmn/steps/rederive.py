"""Merges made again from their records, to take one home or to check what a record says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fmn import checkpoint, merging
from fmn.catalog import Catalog, Entry, Evaluation, MergedModel, model_card, together
from fmn.checkpoint import Checkpoint, open_checkpoint
from fmn.errors import CatalogError, CheckpointError, DataError, FmnError, MergeError
from fmn.evaluation import Task, read_text
from fmn.keys import canonical_json, digest
from fmn.merging import Rule, Source
from fmn.params import EvaluateSettings
from fmn.recipe import FisherSettings, ModelEntry, Parent, Recipe, RefitSettings, task_name
from fmn.schema import parse
from fmn.scratch import scratch
from fmn.statistics import HEAD_STATES, Measurement, get_statistic
from fmn.steps.context import Context
from fmn.steps.evaluate import EvaluateMergeStep, EvaluateStep
from fmn.steps.heads import states_step
from fmn.steps.member import Member, as_source, open_parent
from fmn.steps.merge import MergeStep, is_of, written
from fmn.steps.sidecar import RecordedStatistic, beside
from fmn.steps.statistic import UNSAID, KeyedStatistic, StatisticStep
from fmn.steps.step import identity
from fmn.store import Gone, Memo, Record

SAME = 1e-9
"""Scores that differ by less are equal; what a record holds went through JSON."""


@dataclass(frozen=True)
class ScoreChange:
    """A score that came out differently.

    Attributes:
        name: of the model.
        metric: of its task.
        recorded: value in the record.
        current: value now.
    """

    name: str
    metric: str
    recorded: float
    current: float


def get_merge(
    catalog: Catalog,
    name: str,
    out: str | Path,
    context: Context | None = None,
    models: Mapping[str, str] | None = None,
    data: str | None = None,
) -> Entry:
    """Write a merge of the catalog into a new directory, with a model card.

    Its weights are those of the record, byte for byte.

    Args:
        catalog: that has it.
        name: its ID, the first digits of it, or a tag.
        out: does not exist yet.
        context: where; None for one without progress bars.
        models: by name, where a model is now, if it is not where it was when it was merged.
        data: where the training data are now, to which layers were fitted.

    Raises:
        CatalogError: no such merge, or it cannot be derived here; the message says what it takes.
        MergeError: the same, of models and statistics that are not what they were.
        OutputError: ``out`` exists, or cannot be written.
    """
    out, context = Path(out), context or Context()
    checkpoint.check_new(out)
    entry = catalog[name]
    card = model_card(entry, catalog.statistics(entry), catalog.refit(entry))
    with checkpoint.new_directory(out) as staging:
        if not _checked_out(catalog, entry, staging):
            step = merge_step(catalog, entry, context.memo, models, data)
            step.fill(staging, catalog.store, context)
        (staging / "README.md").write_text(card, encoding="utf-8")
    return entry


def _checked_out(catalog: Catalog, entry: Entry, staging: Path) -> bool:
    """Take the directory that the store keeps of a merge, if it has one that is whole.

    It is whole if it has the weights that the merge's record says.
    """
    if entry.kept is None:
        return False
    try:
        catalog.store.objects.check_out(entry.kept.outputs["model"], staging)
        if is_of(written(staging), entry.record):
            return True
        what = "has other weights than its record says"
    except (Gone, OSError, CheckpointError):
        what = "is not whole"
    catalog.store.warn(
        f"the model that {catalog.store.url} keeps of {catalog.short(entry)} {what}; it is derived"
    )
    for path in sorted(staging.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    return False


def verify_merge(
    catalog: Catalog,
    entry: Entry,
    context: Context,
    models: Mapping[str, str] | None = None,
    *,
    mend: bool = False,
    data: str | None = None,
) -> str:
    """Derive a merge again and compare the digest of its weights with the record's; return it.

    Args:
        catalog: that has it.
        entry: the merge.
        context: where.
        models: by name, where a model is now.
        mend: replace a record that says other weights than come out twice, and remove what was made
            of those, so that the next run makes it again.
        data: where the training data are now, to which layers were fitted.

    Raises:
        MergeError: other weights came out, or models or statistics are not what they were.
        CatalogError: it cannot be derived here, or the model that the store keeps of it is another.
    """
    store = catalog.store
    step = merge_step(catalog, entry, context.memo, models, data)
    step.derive(store, context, mend=mend)
    derived = step.recorded(store, context)
    wrong = derived != entry.record.value["backbone"]
    made_of_it = [each.record for each in entry.evaluations if wrong]
    if entry.kept and (wrong or _keeps_other(catalog, entry, entry.kept)):
        if not mend:
            raise CatalogError(
                f"the model that {store.url} keeps of {catalog.short(entry)} has other weights "
                "than its record says; 'fmn catalog verify --mend' removes it"
            )
        made_of_it.append(entry.kept)
    for record in made_of_it:
        store.drop(record.address)
    if wrong or made_of_it:
        catalog.refresh()
    return derived


def _keeps_other(catalog: Catalog, entry: Entry, kept: Record) -> bool:
    """Tell whether a kept model is whole and has other weights than the merge's record says."""
    with scratch() as folder:
        try:
            catalog.store.objects.check_out(kept.outputs["model"], folder / "model")
            return not is_of(written(folder / "model"), entry.record)
        except (Gone, OSError, CheckpointError):
            return False


def verify_scores(
    catalog: Catalog,
    entry: Entry,
    context: Context,
    models: Mapping[str, str] | None = None,
    data: str | None = None,
) -> list[ScoreChange]:
    """Measure a merge again; return what came out differently.

    Args:
        catalog: that has it.
        entry: the merge.
        context: where.
        models: by name, where a model is now.
        data: where the data are now.

    Raises:
        CatalogError: it was never measured, or it cannot be derived here.
        DataError: the data are not those that it was measured on.
        MergeError: models or statistics are not what they were.
    """
    if not entry.evaluations:
        raise CatalogError(
            f"{catalog.short(entry)} was never measured; a run of a zoo that has it measures it"
        )
    evaluation = entry.evaluations[0]
    step = _evaluation(
        merge_step(catalog, entry, context.memo, models, data), evaluation, data, context.memo
    )
    with context.report.track(f"measuring {entry.title}", 1) as advance:
        scores = step.compute(catalog.store, context)
        advance(1)
    return [
        ScoreChange(name, metric, recorded, scores[name].metrics[metric])
        for name, score in evaluation.scores.items()
        for metric, recorded in score.metrics.items()
        if abs(recorded - scores[name].metrics[metric]) > SAME
    ]


def merge_step(
    catalog: Catalog,
    entry: Entry,
    memo: Memo,
    models: Mapping[str, str] | None = None,
    data: str | None = None,
) -> MergeStep:
    """Return the step of a recorded merge, with its models opened and checked.

    Raises:
        CatalogError: a model cannot be had, or the program is not what it was.
        MergeError: models, statistics or the parent are not what they were; every offence is said.
    """
    where = models or {}
    known = [*entry.parts, *(["parent"] if entry.parent else [])]
    if strange := [name for name in where if name not in known]:
        raise CatalogError(f"the merge has no model '{strange[0]}'; it has: {', '.join(known)}")
    statistics = catalog.statistics(entry)
    members: list[Member] = []
    offences: list[str] = []
    parent: Source | None = None
    for part in entry.parts.values():
        try:
            member = _member(part, entry, where.get(part.name), statistics, memo)
            members.append(_with_states(member, part, entry, catalog, data, memo))
        except FmnError as error:
            offences.append(str(error))
    said_parent = Parent.model_validate(entry.parent) if entry.parent else None
    if said_parent:
        try:
            said_parent, parent = _parent(said_parent, where.get("parent"), memo)
        except FmnError as error:
            offences.append(str(error))
    if offences:
        raise MergeError(offences)
    settings: dict[str, Any] = {
        "dtype": entry.parameters["dtype"],
        "parameters": {n: value for n, value in entry.parameters.items() if n != "dtype"},
        "heads": entry.heads,
        "refit": parse(RefitSettings, catalog.refit(entry), f"{catalog.short(entry)}: refit"),
    }
    if _rule(entry).statistics:
        settings |= _computed([record for each in statistics.values() for record in each.values()])
    entries = tuple(member.entry for member in members)
    recipe = Recipe.model_construct(
        method=entry.method, models=entries, parent=said_parent, **settings
    )
    step = MergeStep(recipe, tuple(members), parent)
    if step.key != entry.id:
        made = entry.record.made.versions["fmn"]
        raise CatalogError(
            f"fmn {made} made {catalog.short(entry)} in a way that this version has no more; use "
            f"fmn {made}"
        )
    return step


def _rule(entry: Entry) -> Rule:
    """Return the rule of a merge, with what it needed for its parameters."""
    return merging.get_rule(entry.method).given(entry.parameters)


def _computed(records: Sequence[Record]) -> dict[str, Any]:
    """Return the data and the settings by which a recipe computes these statistics.

    Null where they differ, or are not known.
    """
    data = {record.names["data"] for record in records if not record.names.get("is_text")}
    # of which examples head states are, the recipe says apart
    records = [record for record in records if record.inputs["of"] != HEAD_STATES]
    # a task that has fewer examples gives all
    samples = max((record.inputs["settings"]["samples"] for record in records), default=0)
    of_each: dict[str, dict[bytes, Mapping[str, Any]]] = {}
    for record in records:
        settings = {**UNSAID, **record.inputs["settings"], "samples": samples}
        of_each.setdefault(record.inputs["of"], {})[canonical_json(settings)] = settings
    alike = all(len(settings) == 1 for settings in of_each.values())
    joined = together(each for settings in of_each.values() for each in settings.values())
    fisher = FisherSettings.model_validate(joined) if alike and joined else None
    return {"data": data.pop() if len(data) == 1 else None, "fisher": fisher}


def _member(
    part: MergedModel,
    entry: Entry,
    path: str | None,
    records: Mapping[str, Mapping[str, Record]],
    memo: Memo,
) -> Member:
    wanted = ModelEntry(
        model=path or part.model,
        task=part.task,
        name=part.name,
        weight=part.weight,
        revision=None if path else part.revision,
        labels=part.labels,
    )
    elsewhere = f"say where it is: --model {part.name}=DIRECTORY"
    try:
        opened = open_checkpoint(wanted.model, wanted.revision)
    except CheckpointError as error:
        raise CatalogError(
            f"model {part.name} of the merge is not to be had: {error}; {elsewhere}"
        ) from error
    own = digest("model", identity(opened, memo))
    source = as_source(wanted, opened, memo)
    if own != part.identity:
        what = "configuration or tokenizer" if source.digest == part.weights else "weights"
        raise CatalogError(
            f"{wanted.model} has other {what} than model {part.name} of the merge had; {elsewhere}"
        )
    mine, names = records.get(part.name, {}), _rule(entry).statistics
    statistics = {
        name: _statistic(part, opened, name, key, mine.get(name), memo)
        for name, key in zip(names, part.statistics, strict=True)
    }
    return Member(wanted, source, own, statistics)


def _with_states(
    member: Member,
    part: MergedModel,
    entry: Entry,
    catalog: Catalog,
    data: str | None,
    memo: Memo,
) -> Member:
    """Add the head states that a merge was fitted to.

    Of a refitted head their key will do; to fit layers again takes their examples.
    """
    if not part.head_states:
        return member
    record = catalog.store.get("fisher", part.head_states)
    if record is None:
        raise CatalogError(
            f"the head states of {part.name} are not in {catalog.store.url}; run the zoo again"
        )
    states: KeyedStatistic = RecordedStatistic(record)
    if _rule(entry).calibration:
        states = _states_again(member, record, data, memo)
    return replace(member, statistics={**member.statistics, HEAD_STATES: states})


def _states_again(member: Member, record: Record, data: str | None, memo: Memo) -> StatisticStep:
    """Return the step of recorded head states, with the examples that they are of.

    Raises:
        CatalogError: there are other examples now.
        DataError: there are none.
    """
    where = data or record.names["data"]
    text = read_text(where) if record.names.get("is_text") else None
    settings = parse(RefitSettings, dict(record.inputs["settings"]), f"head states {record.key}")
    assert member.source.checkpoint is not None
    step = states_step(member.entry, member.source.checkpoint, settings, where, text, memo)
    if step is None or step.key != record.key:
        raise CatalogError(
            f"{where} has other examples of {member.entry.name} than the layers were fitted to; "
            "say where those are: --data DIRECTORY"
        )
    return step


def _parent(parent: Parent, path: str | None, memo: Memo) -> tuple[Parent, Source]:
    parent = parent.model_copy(update={"model": path, "revision": None}) if path else parent
    try:
        return parent, open_parent(parent, memo)
    except CheckpointError as error:
        raise CatalogError(
            f"{error}; say where the parent of the merge is: --model parent=DIRECTORY"
        ) from error


def _statistic(
    part: MergedModel, opened: Checkpoint, name: str, key: str, record: Record | None, memo: Memo
) -> KeyedStatistic | Measurement:
    if record:
        return RecordedStatistic(record)
    statistic = get_statistic(name)
    if sidecar := beside(opened, statistic, task_name(part.task), memo):
        if sidecar.key == key:
            return sidecar
        if f"given {sidecar.measurement().digest}" == key:
            return sidecar.measurement()
    from_file = key.startswith("given ")
    why = (
        "was given as a file, which the store does not have" if from_file else "is not in the store"
    )
    raise CatalogError(
        f"the {statistic.title} of {part.name} {why}; publish it beside {part.model} with 'fmn "
        "fisher push'"
    )


def _evaluation(
    merge: MergeStep, evaluation: Evaluation, data: str | None, memo: Memo
) -> EvaluateMergeStep:
    return EvaluateMergeStep(merge, dict(_measures(merge, evaluation.record, data, memo)))


def _measures(
    merge: MergeStep, record: Record, data: str | None, memo: Memo
) -> Iterator[tuple[str, EvaluateStep]]:
    for member in merge.members:
        name, opened = member.entry.name, member.source.checkpoint
        assert opened is not None
        measure, splits = record.names["measures"][name], record.names["splits"][name]
        split = splits[""] if list(splits) == [""] else "validation"
        step = EvaluateStep(
            opened,
            _task(member.entry.needed_task, measure, splits),
            data or record.names["data"][name],
            EvaluateSettings(
                split=split,
                limit=measure["limit"],
                max_length=measure["max_length"],
                select=measure.get("select"),
            ),
            memo,
            _labels(measure),
            individual=False,
            name=name,
        )
        if step.measure_key != record.inputs["measures"][name]:
            raise DataError(
                f"{step.data} does not have the {step.task.name} data that the merge was measured "
                "on; say where they are: --data DIRECTORY"
            )
        yield name, step


def _task(name: str, measure: Mapping[str, Any], splits: Mapping[str, str]) -> Task:
    return Task(name=task_name(name), validation=tuple(splits.values()), **measure["task"])


def _labels(measure: Mapping[str, Any]) -> dict[str | int | bool, str] | None:
    """Return what each output means as a recipe would say it."""
    labels = measure["task"]["labels"]
    return (
        {number: labels[label] for number, label in enumerate(measure["order"])} if labels else None
    )
