"""What the report page shows, as frozen plain data; who has a catalog fills it in."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from fmn.report.nodes import Array, mask_nodes
from fmn.schema import Frozen
from fmn.statistics import normalized

Key = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
"""A digest in hex."""

FLOAT32 = "<f4"
"""What base64 holds: little-endian, so that the page reads it as it is."""


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
        examples: rows that it was measured on.
    """

    key: Key
    name: str
    task: str
    model: str
    revision: str | None = None
    weights: str
    metrics: dict[str, float] = Field(default_factory=dict)
    examples: int = 0


class Part(Frozen):
    """A model in a merge.

    Attributes:
        model: which of the report's models.
        name: what it is called in this merge.
        task: its task.
        weight: λ.
        fisher: key of its Fisher; None where the method needs none.
        metric: the one that the task is quoted by.
        score: of the merge on this task; None where it was not measured.
        metrics: all of the merge's metrics on this task.
        examples: rows that were measured.
        individual: what the model itself scored, measured in the same way.
        normalized: score / individual.
    """

    model: int = Field(ge=0)
    name: str
    task: str
    weight: float
    fisher: str | None = None
    metric: str = ""
    score: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    examples: int = 0
    individual: float | None = None
    normalized: float | None = None


class Merge(Frozen):
    """A merge.

    Attributes:
        key: its ID.
        method: the merge rule.
        parameters: association, normalize, dtype, …
        parts: its models.
        mean: of the normalised scores; 1 is as good as the models themselves, None where a score is
            missing.
        worst: of the normalised scores, the lowest.
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
    parts: tuple[Part, ...]
    mean: float | None = None
    worst: float | None = None
    by: str = ""
    at: str
    seconds: dict[str, float] = Field(default_factory=dict)
    device: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    kept: bool = False
    note: str = ""


class FisherMap(Frozen):
    """A mask Fisher of a model: a value per attention head and feed-forward neuron.

    Attributes:
        key: of its record.
        model: which of the report's models.
        kind: of Fisher.
        task: whose examples it was computed on.
        settings: that it was computed with.
        by: who made it.
        at: when, ISO 8601.
        seconds: that it took.
        layers: how many.
        heads: in a layer.
        neurons: in a layer.
        attention: base64 of float32 [layers, heads].
        feed_forward: base64 of float32 [layers, neurons].
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
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    neurons: int = Field(gt=0)
    attention: str
    feed_forward: str
    scales: dict[str, float]

    @classmethod
    def of(cls, arrays: Mapping[str, Array], **said: Any) -> Self:
        """Make one from a Fisher's arrays.

        Args:
            arrays: ``layer.{l}.attention`` [heads] and ``layer.{l}.feed_forward`` [neurons].
            said: every attribute that is not read off the arrays: key, model, task, settings, by,
                at, seconds.

        Raises:
            FisherError: tensors are missing, or hold NaN, infinity or a negative value.
        """
        nodes = mask_nodes(arrays)
        layers, heads = nodes.attention.shape
        return cls(
            layers=layers,
            heads=heads,
            neurons=nodes.feed_forward.shape[1],
            attention=_encoded(nodes.attention),
            feed_forward=_encoded(nodes.feed_forward),
            scales={how: float(normalized(arrays, how)) for how in ("none", "mean", "l2")},
            **said,
        )

    def values(self) -> tuple[Array, Array]:
        """Return the values of heads, [layers, heads], and of neurons, [layers, neurons]."""
        return _decoded(self.attention, self.layers), _decoded(self.feed_forward, self.layers)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        shapes = [array.shape[1] for array in self.values()]
        if shapes != [self.heads, self.neurons]:
            raise ValueError(
                f"{self.layers} layers hold {shapes} values, not {[self.heads, self.neurons]}"
            )
        return self


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
        used = [part.model for merge in self.merges for part in merge.parts] + [
            fisher.model for fisher in self.fishers
        ]
        if used and max(used) >= len(self.models):
            raise ValueError(f"there is no model {max(used)}; the report has {len(self.models)}")
        return self


def _encoded(values: Array) -> str:
    return base64.b64encode(values.astype(FLOAT32).tobytes()).decode()


def _decoded(text: str, layers: int) -> Array:
    return np.frombuffer(base64.b64decode(text), FLOAT32).reshape(layers, -1)
