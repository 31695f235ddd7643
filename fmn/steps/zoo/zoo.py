"""A zoo, opened and checked: its models, how each is measured, and the merges of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeGuard

from fmn import evaluation, merging
from fmn.checkpoint import readable
from fmn.checkpoint.tokenizer import tokenizer_offence
from fmn.errors import DataError, FisherError, FmnError, MergeError, ParamsError
from fmn.evaluation import Text
from fmn.keys import digest
from fmn.merging import Rule, Source, Variant, variants
from fmn.merging.check import check, doubts, parent_offences
from fmn.params import Params
from fmn.recipe import ModelEntry, Parent, Recipe
from fmn.statistics import HEAD_STATES, Measurement, get_statistic
from fmn.steps.evaluate import EvaluateMergeStep, EvaluateStep
from fmn.steps.heads import states_step
from fmn.steps.layers import no_calibration
from fmn.steps.member import Member, open_parent, open_source
from fmn.steps.merge import MergeStep
from fmn.steps.sidecar import beside
from fmn.steps.statistic import KeyedStatistic, StatisticStep
from fmn.steps.step import identity
from fmn.store import Memo

Combination = tuple[str, ...]


@dataclass(frozen=True)
class Zoo:
    """What a params file describes, opened.

    Attributes:
        params: the description.
        variants: by label, the methods with their parameters, in the order in which they are run.
        members: by name, the models that can be merged.
        measures: by name, how each of them is measured.
        broken: by name, why a model cannot take part.
        parent: of the models, if the description names it.
        doubts: what a person should read, one line each.
    """

    params: Params
    variants: Mapping[str, Variant]
    members: Mapping[str, Member]
    measures: Mapping[str, EvaluateStep]
    broken: Mapping[str, FmnError]
    parent: Source | None = None
    doubts: tuple[str, ...] = ()

    @cached_property
    def statistics(self) -> tuple[str, ...]:
        """The names of the statistics that the methods need."""
        return _statistics(self.variants.values())

    def combinations(self) -> Iterator[Combination]:
        """Iterate over the sets of models that are to be merged, without those of broken models."""
        return (names for names in self.params.combinations() if self.members.keys() >= set(names))

    def merge(self, names: Combination, label: str) -> MergeStep:
        """Return the step of one merge."""
        variant = self.variants[label]
        members = tuple(self.members[name] for name in names)
        recipe = Recipe.model_construct(
            method=variant.rule.name,
            models=tuple(member.entry for member in members),
            parent=self.params.parent,
            parameters=dict(variant.parameters),
            data=self.params.data,
            fisher=self.params.fisher,
            dtype=self.params.merge.dtype,
            heads=variant.heads,
            refit=self.params.refit,
        )
        return MergeStep(recipe, members, self.parent, label)

    def evaluation(self, merge: MergeStep) -> EvaluateMergeStep:
        """Return the step that measures a merge."""
        names = [member.entry.name for member in merge.members]
        return EvaluateMergeStep(merge, {name: self.measures[name] for name in names})

    def described(self) -> dict[str, Any]:
        """Return what results depend on, in a form in which two runs can be compared."""
        described: dict[str, Any] = {
            "models": {
                name: self._described(name, member) for name, member in self.members.items()
            },
            "merge": {"dtype": self.params.merge.dtype},
            "methods": {
                label: {"method": variant.rule.name, **variant.parameters, **_heads(variant)}
                for label, variant in self.variants.items()
            },
        }
        return described | ({"parent": self.parent.digest} if self.parent else {})

    def _described(self, name: str, member: Member) -> dict[str, Any]:
        assert member.source.checkpoint is not None
        inputs = {
            statistic: each.inputs if isinstance(each, KeyedStatistic) else {"given": each.digest}
            for statistic, each in member.statistics.items()
        }
        return {
            "model": identity(member.source.checkpoint, self.measures[name].memo),
            "weight": member.entry.weight,
            "fishers": {
                statistic: {key: value for key, value in each.items() if key != "model"}
                for statistic, each in inputs.items()
            },
            "measure": self.measures[name].measure,
        }


def open_zoo(params: Params, memo: Memo, *, strict: bool = True) -> Zoo:
    """Open and check everything that a zoo needs: models, data, labels, statistics given as files.

    Args:
        params: the description.
        memo: digests of files.
        strict: a model that cannot take part is an error; otherwise it is among the broken, unless
            fewer than two are left.

    Raises:
        ParamsError: an unknown method, a parameter that no method has, a parent that does not fit.
        FmnError: a model, data or label that does not fit; MergeError with every offence if there
            are several.
    """
    merge = params.merge
    methods = [(each.method, each.parameters) for each in merge.methods]
    chosen = variants(methods, merge.parameters, merge.heads)
    params.check_count(len(chosen))
    rules = list(dict.fromkeys(variant.rule for variant in chosen))
    _check_merges(params, rules)
    sources: dict[str, Source] = {}
    members: dict[str, Member] = {}
    measures: dict[str, EvaluateStep] = {}
    broken: dict[str, FmnError] = {}
    entries = params.entries()
    for name, entry in entries.items():
        try:
            with readable(entry.model):
                sources[name] = open_source(entry, memo)
        except FmnError as error:
            broken[name] = error
    if unlike := _offence(list(sources.values()), rules):
        if strict and not broken:
            raise unlike
        _drop_unlike(sources, rules, broken)
    _check_readings(params, rules, sources)
    parent = _parent(params.parent, list(sources.values()), memo) if params.parent else None
    calibration = next((variant.rule.name for variant in chosen if variant.rule.calibration), "")
    reads = HEAD_STATES in _statistics(chosen)
    text = evaluation.read_text(params.refit.text) if reads and params.refit.text else None
    for name, source in sources.items():
        try:
            with readable(entries[name].model):
                member = _member(
                    params, entries[name], source, _statistics(chosen), text, calibration, memo
                )
                measure = _measure(params, entries[name], source, memo)
                # keys need the labels and the data, so whatever does not fit is said here, before
                # the first model runs
                _ = measure.inputs, [s.key for s in member.statistics.values() if _is_keyed(s)]
            members[name], measures[name] = member, measure
        except FmnError as error:
            broken[name] = error
    if broken and (strict or len(members) < 2):
        reasons = list(broken.values())
        raise reasons[0] if len(reasons) == 1 else MergeError([str(error) for error in reasons])
    lines = tuple(doubts(list(sources.values()), parent)) if sources else ()
    by_label = {variant.label: variant for variant in chosen}
    return Zoo(params, by_label, members, measures, broken, parent, lines)


def _is_keyed(statistic: KeyedStatistic | Measurement) -> TypeGuard[KeyedStatistic]:
    return isinstance(statistic, KeyedStatistic)


def _check_merges(params: Params, rules: Sequence[Rule]) -> None:
    """Refuse merges that a method cannot make.

    Raises:
        ParamsError: the first of them.
    """
    weights = {name: entry.weight for name, entry in params.entries().items()}
    special = [rule for rule in rules if rule.parent or rule.models or not rule.weighted]
    for names in params.combinations() if special else ():
        for rule in special:
            for offence in merging.misuse(
                rule, [weights[name] for name in names], has_parent=params.parent is not None
            ):
                raise ParamsError(f"{' + '.join(names)}: {offence}")


def _check_readings(params: Params, rules: Sequence[Rule], sources: Mapping[str, Source]) -> None:
    """Refuse methods that read of a statistic what it is not computed with.

    Raises:
        ParamsError: the first of them.
    """
    for rule, name in ((each, name) for each in rules for name in each.statistics):
        is_computed = any(name not in source.statistics for source in sources.values())
        if is_computed and (lack := get_statistic(name).lacks(params.fisher, dict(rule.reading))):
            raise ParamsError(f"method {rule.name}: {lack}")


def _statistics(chosen: Iterable[Variant]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for variant in chosen for name in variant.statistics))


def _heads(variant: Variant) -> dict[str, str]:
    """Return what a description says of heads; where they are merged, nothing, as ever."""
    return {} if variant.heads == "merged" else {"heads": variant.heads}


def _drop_unlike(
    sources: dict[str, Source], rules: Sequence[Rule], broken: dict[str, FmnError]
) -> None:
    """Move models that do not fit most others from the sources to the broken."""
    offences = {
        (one, other): _offence([sources[name] for name in dict.fromkeys((one, other))], rules)
        for one in sources
        for other in sources
    }
    reference = max(
        sources,
        key=lambda one: sum(offences[one, other] is None for other in sources),
        default="",
    )
    for name in list(sources):
        if offence := offences[reference, name]:
            broken[name] = offence
            sources.pop(name)


def _offence(sources: Sequence[Source], rules: Sequence[Rule]) -> FmnError | None:
    """Return why these models cannot be merged, if they cannot."""
    pending = {source.task for source in sources}
    try:
        for rule in rules if sources else ():
            check(sources, rule, pending=pending)
    except FmnError as error:
        return error
    return None


def _parent(parent: Parent, sources: Sequence[Source], memo: Memo) -> Source:
    opened = open_parent(parent, memo)
    offences = parent_offences(opened, sources[0]) if sources else []
    if sources and not offences and opened.checkpoint and sources[0].checkpoint:
        offences = [
            offence
            for offence in [tokenizer_offence(sources[0].checkpoint, opened.checkpoint)]
            if offence
        ]
    if offences:
        raise ParamsError(
            f"parent: {offences[-1]}; name the model that all are fine-tunes of, or none"
        )
    return opened


def _member(
    params: Params,
    entry: ModelEntry,
    source: Source,
    names: Sequence[str],
    text: Text | None,
    calibration: str,
    memo: Memo,
) -> Member:
    assert source.checkpoint is not None
    task = evaluation.get_task(entry.needed_task)
    statistics: dict[str, KeyedStatistic | Measurement] = {}
    for name in names:
        step: StatisticStep | None
        if name == HEAD_STATES:
            step = states_step(entry, source.checkpoint, params.refit, params.data, text, memo)
            if step is None and calibration:
                raise ParamsError(no_calibration(calibration, name=entry.name))
        else:
            step = StatisticStep(
                source.checkpoint,
                task,
                params.data,
                get_statistic(name),
                params.fisher,
                memo,
                entry.labels,
                entry.name,
            )
        if step:
            statistics[name] = source.statistics.get(name) or _or_sidecar(step)
    own = digest("model", identity(source.checkpoint, memo))
    return Member(entry, replace(source, statistics={}), own, statistics)


def _or_sidecar(step: StatisticStep) -> KeyedStatistic:
    """Return the statistic beside the model, or its step.

    The one beside the model is taken if it is the very one, or if it fits and there are no data to
    compute one.

    Raises:
        FisherError: there are no data, and what lies beside the model is not its statistic.
    """
    sidecar, stale = None, None
    try:
        sidecar = beside(step.checkpoint, step.statistic, step.task.name, step.memo)
    except FisherError as error:
        stale = error
    try:
        key = step.key
    except DataError:
        if stale:
            raise stale from None
        fits = sidecar and sidecar.fits(step, type(step.settings).model_fields)
        return sidecar if sidecar and fits else step
    return sidecar if sidecar and sidecar.key == key else step


def _measure(params: Params, entry: ModelEntry, source: Source, memo: Memo) -> EvaluateStep:
    assert source.checkpoint is not None
    return EvaluateStep(
        source.checkpoint,
        evaluation.get_task(entry.needed_task),
        params.data,
        params.evaluate,
        memo,
        entry.labels,
        name=entry.name,
    )
