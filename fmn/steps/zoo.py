"""A zoo, opened and checked: every step that its description asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fmn import evaluation, merging
from fmn.checkpoint.tokenizer import tokenizer_offence
from fmn.errors import DataError, FisherError, FmnError, MergeError, ParamsError
from fmn.keys import digest
from fmn.merging import Fisher, Source
from fmn.merging.plan import check, doubts, parent_offences
from fmn.params import Params
from fmn.recipe import ModelEntry, Parent, Recipe
from fmn.steps.evaluate import EvaluateMergeStep, EvaluateStep
from fmn.steps.fisher import FisherStep, KeyedFisher
from fmn.steps.merge import KINDS, Member, MergeStep, PublishStep, open_parent, open_source
from fmn.steps.sidecar import beside
from fmn.steps.step import Step, identity
from fmn.store import Memo

Combination = tuple[str, ...]
Reference = tuple[str, ...]
"""A step by words that travel: its role, then a model's name and a kind of Fisher, or the names of
the models and a method.
"""


@dataclass(frozen=True)
class Zoo:
    """What a params file describes, opened.

    Attributes:
        params: the description.
        members: by name, the models that can be merged.
        measures: by name, how each of them is measured.
        broken: by name, why a model cannot take part.
        parent: of the models, if the description names it.
        doubts: what a person should read, one line each.
    """

    params: Params
    members: Mapping[str, Member]
    measures: Mapping[str, EvaluateStep]
    broken: Mapping[str, FmnError]
    parent: Source | None = None
    doubts: tuple[str, ...] = ()

    @cached_property
    def fisher_kinds(self) -> tuple[str, ...]:
        """The kinds of Fisher (or Gram matrices) that the methods need."""
        return _statistics([merging.get_rule(method) for method in self.params.merge.methods])

    def step(self, reference: Reference) -> Step:
        """Return a step by its reference."""
        role, *rest = reference
        if role == "fisher":
            found = self.members[rest[0]].fishers[rest[1]]
            assert isinstance(found, KeyedFisher)
            return found
        if role == "individual":
            return self.measures[rest[0]]
        *names, method = rest
        merge = self.merge(tuple(names), method)
        if role == "merge":
            return merge
        return PublishStep(merge) if role == "publish" else self.evaluation(merge)

    def fishers(self) -> list[Reference]:
        """Return the Fishers that are to be computed."""
        return [
            ("fisher", name, kind)
            for kind in self.fisher_kinds
            for name, member in self.members.items()
            if isinstance(member.fishers[kind], KeyedFisher)
        ]

    def individuals(self) -> list[Reference]:
        """Return the evaluations of the models themselves."""
        return [("individual", name) for name in self.members]

    def combinations(self) -> Iterator[Combination]:
        """Iterate over the sets of models that are to be merged, without those of broken models."""
        return (names for names in self.params.combinations() if self.members.keys() >= set(names))

    def merges(self) -> Iterator[tuple[Combination, str]]:
        """Iterate over all merges: models and method."""
        return (
            (names, method) for names in self.combinations() for method in self.params.merge.methods
        )

    def merge(self, names: Combination, method: str) -> MergeStep:
        """Return the step of one merge."""
        members = tuple(self.members[name] for name in names)
        settings = self.params.merge
        recipe = Recipe.model_construct(
            method=method,
            models=tuple(member.entry for member in members),
            parent=self.params.parent,
            parameters=settings.parameters,
            data=self.params.data,
            fisher=self.params.fisher,
            dtype=settings.dtype,
        )
        return MergeStep(recipe, members, self.parent)

    def evaluation(self, merge: MergeStep) -> EvaluateMergeStep:
        """Return the step that measures a merge."""
        return EvaluateMergeStep(
            merge, {member.entry.name: self.measures[member.entry.name] for member in merge.members}
        )

    def described(self) -> dict[str, Any]:
        """Return what results depend on, in a form in which two runs can be compared."""
        settings, described = self.params.merge, {}
        for name, member in self.members.items():
            assert member.source.checkpoint is not None
            fishers = {
                k: f.inputs if isinstance(f, KeyedFisher) else {"given": f.digest}
                for k, f in member.fishers.items()
            }
            described[name] = {
                "model": identity(member.source.checkpoint, self.measures[name].memo),
                "weight": member.entry.weight,
                "fishers": {
                    kind: {k: v for k, v in inputs.items() if k != "model"}
                    for kind, inputs in fishers.items()
                },
                "measure": self.measures[name].measure,
            }
        merge = {"dtype": settings.dtype, **settings.parameters.model_dump(exclude_none=True)}
        said = {"models": described, "merge": merge, "methods": list(settings.methods)}
        return said | ({"parent": self.parent.digest} if self.parent else {})


def open_zoo(params: Params, memo: Memo, *, strict: bool = True) -> Zoo:
    """Open and check everything that a zoo needs: models, data, labels, Fishers that are given.

    Args:
        params: the description.
        memo: digests of files.
        strict: a model that cannot take part is an error; otherwise it is among the broken, unless
            fewer than two are left.

    Raises:
        ParamsError: an unknown method, a parameter that no method is told, a parent that does not
            fit.
        FmnError: a model, data or label that does not fit; MergeError with every offence if there
            are several.
    """
    rules = [merging.get_rule(method) for method in params.merge.methods]
    merging.check_parameters(rules, params.merge.parameters)
    _check_merges(params, rules)
    kinds = _statistics(rules)
    sources: dict[str, Source] = {}
    members: dict[str, Member] = {}
    measures: dict[str, EvaluateStep] = {}
    broken: dict[str, FmnError] = {}
    entries = params.entries()
    for name, entry in entries.items():
        try:
            sources[name] = open_source(entry, memo)
        except FmnError as error:
            broken[name] = error
    if unlike := _offence(list(sources.values()), rules):
        if strict and not broken:
            raise unlike
        _drop_unlike(params, sources, broken)
    parent = _parent(params.parent, list(sources.values()), memo) if params.parent else None
    for name, source in sources.items():
        try:
            member, measure = (
                _member(params, entries[name], source, kinds, memo),
                _measure(params, entries[name], source, memo),
            )
            # keys need the labels and the data, so whatever does not fit is said here, before the
            # first model runs
            _ = (
                measure.inputs,
                [step.key for step in member.fishers.values() if isinstance(step, KeyedFisher)],
            )
            members[name], measures[name] = member, measure
        except FmnError as error:
            broken[name] = error
    if broken and (strict or len(members) < 2):
        raise (
            next(iter(broken.values()))
            if len(broken) == 1
            else MergeError([str(error) for error in broken.values()])
        )
    return Zoo(
        params,
        members,
        measures,
        broken,
        parent,
        tuple(doubts(list(sources.values()), parent)) if sources else (),
    )


def _check_merges(params: Params, rules: Sequence[merging.Rule]) -> None:
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


def _statistics(rules: Sequence[merging.Rule]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule.statistic for rule in rules if rule.statistic))


def _drop_unlike(params: Params, sources: dict[str, Source], broken: dict[str, FmnError]) -> None:
    """Move models that do not fit most others from the sources to the broken."""
    rules = [merging.get_rule(method) for method in params.merge.methods]
    offences = {
        (one, other): _offence([sources[name] for name in dict.fromkeys((one, other))], rules)
        for one in sources
        for other in sources
    }
    reference = max(
        sources, key=lambda one: sum(offences[one, other] is None for other in sources), default=""
    )
    for name in list(sources):
        if offence := offences[reference, name]:
            broken[name] = offence
            sources.pop(name)


def _offence(sources: Sequence[Source], rules: Sequence[merging.Rule]) -> MergeError | None:
    """Return why these models cannot be merged, if they cannot."""
    try:
        for rule in rules if sources else ():
            check(
                [_with_given(source, rule.statistic) for source in sources],
                rule,
                pending={source.task for source in sources},
            )
    except MergeError as error:
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
    params: Params, entry: ModelEntry, source: Source, kinds: Sequence[str], memo: Memo
) -> Member:
    assert source.checkpoint is not None
    task = evaluation.get_task(entry.task)
    fishers: dict[str, KeyedFisher | Fisher] = {}
    for kind in kinds:
        given = _with_given(source, kind).fisher
        fishers[kind] = given or _or_published(
            FisherStep(
                source.checkpoint,
                task,
                params.data,
                KINDS[kind],
                params.fisher,
                memo,
                entry.labels,
                entry.name,
            )
        )
    plain = replace(source, fisher=None)
    return Member(entry, plain, digest("model", identity(source.checkpoint, memo)), fishers)


def _or_published(step: FisherStep) -> KeyedFisher:
    """Return the Fisher beside the model, if it may stand for the step's.

    It may if it is the very one, or if it fits and there are no data to compute one.

    Raises:
        FisherError: there are no data, and what lies beside the model is not its Fisher.
    """
    found, stale = None, None
    try:
        found = beside(step.checkpoint, step.of, step.task.name, step.memo)
    except FisherError as error:
        stale = error
    try:
        key = step.key
    except DataError:
        if stale:
            raise stale from None
        return found if found and found.fits(step, type(step.settings).model_fields) else step
    return found if found and found.key == key else step


def _measure(params: Params, entry: ModelEntry, source: Source, memo: Memo) -> EvaluateStep:
    assert source.checkpoint is not None
    task = evaluation.get_task(entry.task)
    return EvaluateStep(
        source.checkpoint, task, params.data, params.evaluate, memo, entry.labels, name=entry.name
    )


def _with_given(source: Source, kind: str | None) -> Source:
    """Return a model with the Fisher that its entry gives, if it is of that kind."""
    given = source.fisher if source.fisher and source.fisher.metadata.get("kind") == kind else None
    return replace(source, fisher=given)
