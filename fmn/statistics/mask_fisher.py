"""The mask Fisher: a value per attention head and feed-forward neuron of every layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from fmn.architectures import Block, Layer, Slices
from fmn.errors import FisherError
from fmn.params import MemorySettings
from fmn.recipe import Association, FisherSettings
from fmn.statistics.statistic import Array, At, Backbone, Measurement, PerParameter, Statistic
from fmn.statistics.weights import is_sound, normalized


class MaskFisherStatistic(Statistic):
    """Fisher information of mask nodes; tensors are ``layer.{l}.{kind of node}``, [nodes]."""

    name = "mask-fisher"
    option = "mask"
    title = "mask Fisher"
    paper = "Thennal D K et al. 2024, https://arxiv.org/abs/2403.09891"
    settings = ("labels", "placement", "aggregation")
    labels = "true"
    memory = ("checkpointing", "device_map")
    estimator = "fmn.fisher:mask_fisher"
    how = "'fmn fisher' or fmn.mask_fisher"

    def taken(self, settings: FisherSettings, *, is_language: bool = False) -> dict[str, Any]:
        """Return its settings; the batch size is one where each batch is squared as a whole."""
        own = super().taken(settings, is_language=is_language)
        per_batch = settings.aggregation == "per-batch"
        return own | ({"batch_size": settings.batch_size} if per_batch else {})

    def order(self, settings: FisherSettings) -> Literal["length", "file"]:
        """Return the order of examples.

        Aggregation per batch depends on which examples share one: the published numbers took them
        in file order.
        """
        return "file" if settings.aggregation == "per-batch" else "length"

    def check(
        self, settings: FisherSettings, memory: MemorySettings, *, is_language: bool = False
    ) -> None:
        """Refuse to square one gradient per batch over labels that are expected.

        Raises:
            FisherError: that was asked for.
        """
        super().check(settings, memory, is_language=is_language)
        labels = self.labels_of(settings, is_language=is_language)
        if settings.aggregation == "per-batch" and labels == "expected":
            raise FisherError(
                "aggregation per-batch squares one gradient per batch; use it with labels true or "
                "sampled"
            )

    def layout(self, backbone: Backbone) -> Mapping[str, tuple[int, ...]]:
        """Return the number of nodes of every kind in every layer."""
        return {
            name: (count,) for layer in backbone.layers for name, count in layer.nodes().items()
        }

    def offences(self, measurement: Measurement, backbone: Backbone) -> Iterator[str]:
        """Check shapes and, since they are small, values."""
        wrong = list(super().offences(measurement, backbone))
        yield from wrong
        tensors = () if wrong else measurement.tensors.items()
        if broken := [name for name, tensor in tensors if not is_sound(tensor)]:
            yield (
                f"its {self.title}'s {broken[0]} holds NaN, infinite or negative values; compute "
                "it again"
            )

    def per_parameter(
        self,
        measurements: Sequence[Measurement],
        backbone: Backbone,
        parameters: Mapping[str, Any],
    ) -> Sequence[PerParameter]:
        """Return the Fisher of the node that governs each parameter."""
        association = parameters.get("association", "paper")
        normalize = parameters.get("normalize", "none")
        return [
            governing(backbone.layers, each.tensors, association, normalize)
            for each in measurements
        ]


def governing(
    layers: Sequence[Layer],
    tensors: Mapping[str, Array],
    association: Association = "paper",
    normalize: Literal["none", "mean", "l2"] = "none",
) -> PerParameter:
    """Return the Fisher of the node that governs each parameter (DESIGN: governed parameters).

    Args:
        layers: the model's.
        tensors: of each layer those that :meth:`fmn.architectures.Layer.nodes` names.
        association: ``paper``: rows of query and key take their head's Fisher, rows of the first
            feed-forward layer their neuron's, all else 1; ``value``: rows of value too; ``output``:
            as ``paper``, and the matching columns of both output projections; ``layer-mean``: as
            ``paper``, with parameters that have no node taking the mean over the nodes of their
            block, embeddings and pooler the mean over layers of (mean head + mean neuron).
        normalize: divides all of them.

    Returns:
        by parameter, a vector along the governed axis, or one number for a parameter without
        nodes.
    """
    scale = normalized(tensors, normalize)
    nodes = {name: np.asarray(tensor, np.float64) / scale for name, tensor in tensors.items()}
    governed: dict[str, list[tuple[Layer, Slices, Array]]] = {}
    for layer in layers:
        for block in layer.blocks:
            for slices in _associated(block, association):
                values = nodes[layer.values_of(block, slices)]
                governed.setdefault(slices.parameter, []).append((layer, slices, values))

    @cache  # asked for piece by piece
    def along_axis(name: str, shape: tuple[int, ...]) -> Array:
        rest = _layer_mean(layers, nodes, name) if association == "layer-mean" else 1.0
        if name not in governed:
            return np.asarray(rest)
        axis = governed[name][0][1].axis
        along = np.full(shape[axis], rest)
        for layer, slices, values in governed[name]:
            along[slices.rows(layer.sizes)] = values[:, None]
        return along.reshape([-1 if dimension == axis else 1 for dimension in range(len(shape))])

    def importance(name: str, shape: tuple[int, ...], at: At) -> Array:
        whole = along_axis(name, shape)
        return whole[at] if whole.ndim and whole.shape[0] == shape[0] else whole

    return importance


def _associated(block: Block, association: Association) -> tuple[Slices, ...]:
    if association == "value":
        return block.governed + block.value
    return block.governed + block.output if association == "output" else block.governed


def _layer_mean(layers: Sequence[Layer], nodes: Mapping[str, Array], name: str) -> float:
    def mean(layer: Layer, block: Block) -> float:
        return float(nodes[layer.tensor(block.part)].mean())

    for layer in layers:
        if name.startswith(layer.prefix):
            governing_block = next(
                (block for block in layer.blocks if name.startswith(block.prefixes)),
                layer.blocks[-1],
            )
            return mean(layer, governing_block)
    return sum(sum(mean(layer, block) for block in layer.blocks) for layer in layers) / len(layers)
