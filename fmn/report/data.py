"""What the report page shows, as frozen plain data; who has a catalog fills it in."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from fmn.architectures import node_kind
from fmn.evaluation import interval
from fmn.report.fishers import Array, Arrays, NodeTable, node_tables
from fmn.report.rules import WAYS, scale
from fmn.schema import Frozen

Key = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
"""A digest in hex."""

Ends = tuple[float, float]
"""Of an interval: low and high."""

FLOAT32 = "<f4"
"""What base64 holds: little-endian, so that the page reads it as it is."""


class Apart(Frozen):
    """By how much one score is higher than another on the same examples.

    Attributes:
        value: of the scores themselves.
        interval: of the difference, on the same resamples.
        inside: it may be 0.
    """

    value: float
    interval: Ends
    inside: bool


class Model(Frozen):
    """A fine-tuned model.

    Attributes:
        key: digest of all that it is: weights, configuration, tokenizer; no two models of a report
            have the same.
        name: what it is called in merges.
        task: its task.
        model: where it is: a path or a hub id.
        revision: of a hub id.
        weights: digest of its weights.
        metrics: its own scores, by metric; empty where it was not measured.
        intervals: of those, by metric, as far as they are known.
        chance: the best score of a constant prediction, by metric, as far as that is known.
        at_chance: whether its headline is no better than that; None if it is not known.
        examples: rows that it was measured on.
    """

    key: Key
    name: str
    task: str
    model: str
    revision: str | None = None
    weights: str
    metrics: dict[str, float] = Field(default_factory=dict)
    intervals: dict[str, Ends] = Field(default_factory=dict)
    chance: dict[str, float] = Field(default_factory=dict)
    at_chance: bool | None = None
    examples: int = 0


class Member(Frozen):
    """A model in a merge.

    Attributes:
        model: which of the report's models.
        name: what it is called in this merge.
        task: its task.
        weight: λ.
        fisher: key of its mask Fisher, or of another statistic where the method needs no mask
            Fisher; None where it needs none at all.
        statistic: what people call that; empty where nobody knows.
        metric: the one that the task is quoted by.
        score: of the merge on this task; None where it was not measured.
        metrics: all of the merge's metrics on this task.
        intervals: of those, by metric, as far as they are known.
        chance: the best score of a constant prediction, of the headline; None if it is not known.
        examples: rows that were measured.
        individual: what the model itself scored, measured in the same way.
        own_interval: of that; None if it is not known.
        apart: score - individual, paired; None if it is not known.
        normalized: score / individual.
    """

    model: int = Field(ge=0)
    name: str
    task: str
    weight: float
    fisher: str | None = None
    statistic: str = ""
    metric: str = ""
    score: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    intervals: dict[str, Ends] = Field(default_factory=dict)
    chance: float | None = None
    examples: int = 0
    individual: float | None = None
    own_interval: Ends | None = None
    apart: Apart | None = None
    normalized: float | None = None


class Merge(Frozen):
    """A merge.

    Attributes:
        key: its ID.
        method: the merge rule.
        parameters: association, normalize, dtype, …
        members: its models.
        by_nodes: the method weights parameters by the mask nodes that govern them.
        mean: of the normalised scores; 1 is as good as the models themselves, None where a score is
            missing.
        worst: of the normalised scores, the lowest.
        interval: of the mean; None if it is not known.
        from_best: its mean less that of the best merge of the same models, measured alike; None of
            that itself, or where one of both is not known.
        is_best: it is that best merge.
        choice: the mean on the rows by which merges are chosen; None where scores are of the same.
        at_chance: models that are no better than chance themselves.
        mean_above_chance: the mean without those; None if there are none, or none is left.
        resampled: the mean on each resample, float32, for charts; empty if it is not known.
        measured: digest of what was measured; resamples of one are paired.
        by: who made it.
        at: when, ISO 8601.
        seconds: what ``merge`` and ``evaluate`` took.
        device: that it was made on.
        versions: of the programs that made it.
        tags: names that people gave it.
        kept: the store keeps its weights.
        note: anything a reader should know, in a sentence.
    """

    key: Key
    method: str
    parameters: dict[str, str] = Field(default_factory=dict)
    members: tuple[Member, ...]
    by_nodes: bool = False
    mean: float | None = None
    worst: float | None = None
    interval: Ends | None = None
    from_best: Apart | None = None
    is_best: bool = False
    choice: float | None = None
    at_chance: tuple[str, ...] = ()
    mean_above_chance: float | None = None
    resampled: bytes = Field(default=b"", exclude=True, repr=False)
    measured: str = Field(default="", exclude=True)
    by: str = ""
    at: str
    seconds: dict[str, float] = Field(default_factory=dict)
    device: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    kept: bool = False
    note: str = ""

    def minus(self, other: Merge) -> Apart | None:
        """Return its mean less that of another; None where they are not paired."""
        if not (self.resampled and other.resampled and self.measured == other.measured):
            return None
        if self.mean is None or other.mean is None:
            return None
        return apart(self.mean - other.mean, self.drawn() - other.drawn())

    def drawn(self) -> Array:
        """Return the mean on each resample, [B]."""
        return np.frombuffer(self.resampled, FLOAT32)


def apart(value: float, drawn: Array) -> Apart:
    """Return a difference with its interval, by what it is on each resample, [B]."""
    low, high = interval(drawn)
    return Apart(value=value, interval=(low, high), inside=low <= 0 <= high)


class NodeMap(Frozen):
    """A mask Fisher's values of one kind of node.

    Attributes:
        layers: the layers that have it, in order.
        nodes: how many, in a layer.
        values: base64 of float32 [layers, nodes].
    """

    layers: tuple[int, ...] = Field(min_length=1)
    nodes: int = Field(gt=0)
    values: str

    @classmethod
    def of(cls, table: NodeTable) -> Self:
        """Make one from a table."""
        values = base64.b64encode(table.values.astype(FLOAT32).tobytes()).decode()
        return cls(layers=table.layers, nodes=table.values.shape[1], values=values)

    def array(self) -> Array:
        """Return the values, [layers, nodes]."""
        return np.frombuffer(base64.b64decode(self.values), FLOAT32).reshape(-1, self.nodes)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        values, expected = len(base64.b64decode(self.values)) // 4, len(self.layers) * self.nodes
        if values != expected:
            raise ValueError(
                f"{len(self.layers)} layers of {self.nodes} nodes hold {values} values, not "
                f"{expected}"
            )
        return self


class FisherMap(Frozen):
    """A mask Fisher of a model: a value per mask node.

    Attributes:
        key: of its record.
        model: which of the report's models.
        kind: of Fisher.
        task: whose examples it was computed on.
        settings: that it was computed with.
        by: who made it.
        at: when, ISO 8601.
        seconds: that it took.
        nodes: the values of each kind of node, by its name.
        scales: what its values are divided by, for each way to ``normalize``.
    """

    key: str
    model: int = Field(ge=0)
    kind: str = "mask-fisher"
    task: str
    settings: dict[str, Any] = Field(default_factory=dict)
    by: str = ""
    at: str = ""
    seconds: float = 0.0
    nodes: dict[str, NodeMap] = Field(min_length=1)
    scales: dict[str, float]

    @classmethod
    def of(cls, arrays: Arrays, **described: Any) -> Self:
        """Make one from a Fisher's arrays.

        Args:
            arrays: the tensors ``layer.{l}.{kind}``.
            described: every attribute that is not read off the arrays: key, model, task, settings,
                by, at, seconds.

        Raises:
            FisherError: there is no such tensor, or one cannot be a Fisher's.
        """
        return cls(
            nodes={name: NodeMap.of(table) for name, table in node_tables(arrays).items()},
            scales={how: scale(arrays, how) for how in WAYS},
            **described,
        )

    def tables(self) -> dict[str, NodeTable]:
        """Return the values of each kind of node, by its name."""
        return {
            name: NodeTable(node_kind(name), nodes.layers, nodes.array())
            for name, nodes in self.nodes.items()
        }


class Run(Frozen):
    """A run of a zoo.

    Attributes:
        at: when, ISO 8601.
        wall: seconds from start to end.
        computed: how many results, by kind: fisher, merge, evaluate, publish.
        cached: how many came from the store, by kind.
        skipped: how many could not be had, because what they need failed, by kind.
        failed: what failed: ``step`` and ``error`` of each.
        seconds: of computing, by kind.
    """

    at: str
    wall: float
    computed: dict[str, int] = Field(default_factory=dict)
    cached: dict[str, int] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)
    failed: tuple[dict[str, str], ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)


class Report(Frozen):
    """All that the page shows.

    Attributes:
        store: whose merges these are.
        at: when it was read, ISO 8601.
        version: of fmn.
        models: in the order in which charts show them.
        merges: in any order.
        fishers: the mask Fishers of the models.
        runs: in any order; the page shows the last ones.
        parent: the pretrained model that all are fine-tunes of.
    """

    store: str
    at: str
    version: str
    models: tuple[Model, ...] = ()
    merges: tuple[Merge, ...] = ()
    fishers: tuple[FisherMap, ...] = ()
    runs: tuple[Run, ...] = ()
    parent: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what in (self.models, self.merges, self.fishers):
            keys = [each.key for each in what]
            if len(set(keys)) < len(keys):
                raise ValueError(f"two {type(what[0]).__name__}s have the same key")
        used = [member.model for merge in self.merges for member in merge.members] + [
            fisher.model for fisher in self.fishers
        ]
        if used and max(used) >= len(self.models):
            raise ValueError(f"there is no model {max(used)}; the report has {len(self.models)}")
        return self
