"""The mask Fisher: a value per attention head and feed-forward neuron of every layer, or more."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from fmn.architectures import LAYER, Block, Layer, Slices, is_beyond_paper, nodes_of
from fmn.errors import FisherError
from fmn.params import MemorySettings
from fmn.recipe import PAPER_NODES, Association, FisherSettings, Nodes, Normalize
from fmn.statistics.statistic import Array, At, Backbone, Measurement, PerParameter, Statistic
from fmn.statistics.weights import is_sound, normalized

READS: Mapping[str, tuple[Nodes, ...]] = {
    "residual-channels": ("residual-channels",),
    "value-heads": ("value-heads",),
    "output-columns": ("output-columns",),
    "layers": ("layers",),
    "kv-groups": ("kv-groups",),
    "combined": ("residual-channels", "value-heads", "layers"),
}
"""The nodes beyond the paper's that an association reads. No two govern one parameter along
different axes.
"""


class MaskFisherStatistic(Statistic):
    """Fisher information of mask nodes; tensors are ``layer.{l}.{kind of node}``, [nodes]."""

    name = "mask-fisher"
    option = "mask"
    title = "mask Fisher"
    paper = "Thennal D K et al. 2024, https://arxiv.org/abs/2403.09891"
    settings = ("labels", "placement", "aggregation", "nodes")
    silent = MappingProxyType({"nodes": list(PAPER_NODES)})
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
        """Return the number of nodes of every kind of the paper's in every layer."""
        return _layout(backbone.layers, PAPER_NODES)

    def offences(self, measurement: Measurement, backbone: Backbone) -> Iterator[str]:
        """Check shapes and, since they are small, values.

        Of nodes beyond the paper's a file has all that the layers have of a kind, or none.
        """
        expected = _layout(backbone.layers, nodes_of(measurement.tensors))
        wrong = list(self.misfits(measurement, expected))
        yield from wrong
        tensors = () if wrong else measurement.tensors.items()
        if broken := [name for name, tensor in tensors if not is_sound(tensor)]:
            yield (
                f"its {self.title}'s {broken[0]} holds NaN, infinite or negative values; compute "
                "it again"
            )

    def lacks(self, has: FisherSettings | Measurement, reading: Mapping[str, Any]) -> str:
        """Say which nodes an association reads that there are not."""
        association = reading.get("association", "paper")
        nodes = has.nodes if isinstance(has, FisherSettings) else nodes_of(has.tensors)
        missing = [each for each in READS.get(association, ()) if each not in nodes]
        if not missing:
            return ""
        return (
            f"association {association} needs a {self.title} of nodes {', '.join(missing)}, this "
            f"one is of {', '.join(nodes)}; take it with 'fisher: {{nodes: "
            f"[{', '.join(missing)}]}}'"
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


def _layout(layers: Sequence[Layer], nodes: Collection[Nodes]) -> dict[str, tuple[int, ...]]:
    return {name: (count,) for layer in layers for name, count in layer.nodes(nodes).items()}


def scale_of(tensors: Mapping[str, Array], how: Normalize) -> Array:
    """Return what a mask Fisher's values are divided by: see :func:`normalized`.

    It is of the paper's nodes alone, so that which others a file has changes nothing.
    """
    paper = {name: tensor for name, tensor in tensors.items() if not is_beyond_paper(name)}
    return normalized(paper, how)


def governing(
    layers: Sequence[Layer],
    tensors: Mapping[str, Array],
    association: Association = "paper",
    normalize: Normalize = "none",
) -> PerParameter:
    """Return the Fisher of the node that governs each parameter (DESIGN: governed parameters).

    Args:
        layers: the model's.
        tensors: of each layer those that :meth:`fmn.architectures.Layer.nodes` names.
        association: ``paper``: rows of query and key take their head's Fisher, rows of the first
            feed-forward layer their neuron's, all else 1; ``value``: rows of value too; ``output``:
            as ``paper``, and the matching columns of both output projections; ``layer-mean``: as
            ``paper``, with parameters that have no node taking the mean over the nodes of their
            block, embeddings and pooler the mean over layers of (mean head + mean neuron). Others
            are as ``paper``, and the nodes that they are called after govern: ``value-heads`` rows
            of value, ``output-columns`` columns of attention's output projection,
            ``residual-channels`` rows and bias of both output projections, ``layers`` what is left
            of the layer, ``kv-groups`` rows of key and value; ``combined`` is ``value-heads``,
            ``residual-channels`` and ``layers`` at once.
        normalize: divides all of them, by one number of the paper's nodes.

    Returns:
        by parameter, a vector along the governed axis, or one number for a parameter without
        nodes.
    """
    scale = scale_of(tensors, normalize)
    nodes = {name: np.asarray(tensor, np.float64) / scale for name, tensor in tensors.items()}
    governed: dict[str, list[tuple[Layer, Slices, Array]]] = {}
    for layer in layers:
        for block in layer.blocks:
            for slices, tensor in _associated(layer, block, association):
                governed.setdefault(slices.parameter, []).append((layer, slices, nodes[tensor]))

    @cache  # asked for piece by piece
    def along_axis(name: str, shape: tuple[int, ...]) -> Array:
        rest = _of_the_rest(layers, nodes, name, association)
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


def _associated(
    layer: Layer, block: Block, association: Association
) -> Iterator[tuple[Slices, str]]:
    """Iterate over what nodes govern in a block, with the name of the nodes' tensor."""
    by_paper = block.governed
    by_paper += {"value": block.value, "output": block.output}.get(association, ())
    for slices in by_paper:
        yield slices, layer.values_of(block, slices)
    for nodes in READS.get(association, ()):
        for slices in block.governed_by(nodes):
            yield slices, layer.tensor(block.kind(nodes))


def _of_the_rest(
    layers: Sequence[Layer], nodes: Mapping[str, Array], name: str, association: Association
) -> float:
    """Return the Fisher of what of a parameter no node of a block governs."""
    if association == "layer-mean":
        return _layer_mean(layers, nodes, name)
    if "layers" in READS.get(association, ()):
        own = (layer for layer in layers if name.startswith(layer.prefix))
        return next((float(nodes[layer.tensor(LAYER)][0]) for layer in own), 1.0)
    return 1.0


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
