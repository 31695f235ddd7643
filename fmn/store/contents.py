"""What the records of each kind hold, as far as anybody reads it.

A record that holds something else counts as damaged, so whoever reads one finds what it needs.
Kinds that are not here stay as they are: another version may have written them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from fmn.store.names import PlainName, Sha256, TaskName
from fmn.store.objects import Output

if TYPE_CHECKING:
    from fmn.store.records import Record

Number = Annotated[float, Field(strict=False)]
Text = Annotated[str, Field(max_length=10_000)]
Merged = Annotated[list[PlainName | Number | Text], Field(min_length=3)]
"""A model of a merge: name, identity, λ, then the keys of its statistics."""


class Identity(TypedDict):
    """What a model is."""

    weights: Sha256
    config: Sha256
    tokenizer: Sha256


class Settings(TypedDict):
    """Of a statistic."""

    samples: int


class StatisticInputs(TypedDict):
    """What a statistic depends on."""

    of: Text
    model: Identity
    task: dict[str, Any]
    settings: Settings


class StatisticNames(TypedDict):
    """What the inputs of a statistic were called."""

    model: Text
    name: Text
    task: Text
    data: Text


class StatisticOutputs(TypedDict):
    """The file of a statistic."""

    fisher: Output


class Statistic(TypedDict):
    """A record of the kind ``fisher``."""

    inputs: StatisticInputs
    names: StatisticNames
    outputs: StatisticOutputs


class NamedModel(TypedDict):
    """What a model of a merge was called."""

    model: Text
    revision: Text | None
    task: TaskName
    weights: Sha256
    labels: NotRequired[dict[str, Text] | None]
    hub: NotRequired[bool]


class NamedParent(TypedDict):
    """What the parent of a merge's models was called."""

    model: Text
    revision: Text | None
    digest: Sha256


class RefittedHeads(TypedDict):
    """The keys of the states that heads were refitted on, by model."""

    refit: dict[PlainName, PlainName]


class FittedLayers(TypedDict):
    """The keys of the states whose examples layers were fitted to, by model."""

    fitted: dict[PlainName, PlainName]


class MergeInputs(TypedDict):
    """What a merge depends on, beside the parameters of its rule."""

    method: Text
    dtype: Text
    models: Annotated[list[Merged], Field(min_length=1)]
    heads: NotRequired[Literal["own"] | RefittedHeads]
    layers: NotRequired[FittedLayers]


class MergeNames(TypedDict):
    """What the inputs of a merge were called."""

    models: dict[PlainName, NamedModel]
    method: Text
    parent: NotRequired[NamedParent]


class MergeValue(TypedDict):
    """The digest of merged weights."""

    backbone: Sha256


class Merge(TypedDict):
    """A record of the kind ``merge``."""

    inputs: MergeInputs
    names: MergeNames
    value: MergeValue


class MeasuredTask(TypedDict):
    """A task as it was measured; the first metric is the one that it is quoted by."""

    metrics: Annotated[list[Text], Field(min_length=1)]
    labels: NotRequired[list[Text] | None]


class Measure(TypedDict):
    """What was measured."""

    task: MeasuredTask
    order: list[int]
    limit: int | None
    max_length: int
    select: NotRequired[Number]


Ends = Annotated[list[Number], Field(min_length=2, max_length=2)]
"""Of an interval: low and high."""


OfModels = Annotated[
    dict[Text, Annotated[dict[Text, Number], Field(min_length=1)]], Field(min_length=1)
]
"""Metrics by name of the model."""


class Selection(TypedDict):
    """What came out on the rows by which merges are chosen."""

    scores: OfModels
    examples: dict[Text, int]


class Scores(TypedDict):
    """What came out; records of earlier versions have no intervals and no chance."""

    scores: OfModels
    examples: dict[Text, int]
    selection: NotRequired[Selection]
    intervals: NotRequired[dict[Text, dict[Text, Ends]]]
    chance: NotRequired[dict[Text, dict[Text, Number]]]


class OwnInputs(TypedDict):
    """What a measurement of a model depends on."""

    model: Identity
    measure: Measure


class OwnEvaluation(TypedDict):
    """A record of the kind ``evaluate``, of a model itself."""

    inputs: OwnInputs
    value: Scores


class MergedInputs(TypedDict):
    """What a measurement of a merge depends on."""

    merge: Sha256
    measures: dict[Text, Sha256]


class MergedNames(TypedDict):
    """What the inputs of a measurement of a merge were called."""

    models: dict[PlainName, NamedModel]
    method: Text
    measures: dict[Text, Measure]
    splits: dict[Text, dict[Text, Text]]
    data: dict[Text, Text]
    hub: NotRequired[list[Text]]


class MergedEvaluation(TypedDict):
    """A record of the kind ``evaluate``, of a merge."""

    inputs: MergedInputs
    names: MergedNames
    value: Scores


class KeptInputs(TypedDict):
    """What a kept model depends on."""

    merge: Sha256


class KeptOutputs(TypedDict):
    """The directory of a kept model."""

    model: Output


class Kept(TypedDict):
    """A record of the kind ``publish``."""

    inputs: KeptInputs
    names: MergeNames
    outputs: KeptOutputs


def _of(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[kind, Field(strict=True)])


KINDS = ("fisher", "merge", "evaluate", "publish")
"""Those that are known here."""

_KINDS = {"fisher": _of(Statistic), "merge": _of(Merge), "publish": _of(Kept)}
_OWN, _MERGED = _of(OwnEvaluation), _of(MergedEvaluation)


def is_sound(record: Record) -> bool:
    """Tell whether a record holds what readers of its kind need."""
    adapter = _KINDS.get(record.kind)
    if record.kind == "evaluate":
        adapter = _MERGED if "merge" in record.inputs else _OWN
    if adapter is None:
        return True
    try:
        adapter.validate_python(vars(record))
    except ValidationError:
        return False
    if record.kind == "merge":
        return _merges(record.inputs, record.names)
    return record.kind != "evaluate" or _measures(record)


def _merges(inputs: dict[str, Any], names: dict[str, Any]) -> bool:
    """Tell whether each model of a merge is one that has a name, an identity and a λ."""
    return all(
        isinstance(name, str)
        and isinstance(identity, str)
        and isinstance(weight, int | float)
        and all(isinstance(key, str) for key in keys)
        and name in names["models"]
        for name, identity, weight, *keys in inputs["models"]
    )


def _measures(record: Record) -> bool:
    """Tell whether all that was measured has a score, rows and, of a merge, names."""
    scores, examples = record.value["scores"], record.value["examples"]
    if scores.keys() != examples.keys():
        return False
    if selection := record.value.get("selection"):
        metrics = {name: each.keys() for name, each in selection["scores"].items()}
        if metrics != {name: each.keys() for name, each in scores.items()}:
            return False
        if selection["examples"].keys() != scores.keys():
            return False
    if "merge" not in record.inputs:
        return len(scores) == 1
    names = record.names
    return all(
        scores.keys() == of.keys()
        for of in (record.inputs["measures"], names["measures"], names["splits"], names["data"])
    ) and all(
        measure["task"]["metrics"][0] in scores[name] for name, measure in names["measures"].items()
    )
