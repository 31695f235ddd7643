"""From a model's Fisher to the importance of each of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from types import EllipsisType
from typing import Any

import numpy as np

from fmn.architectures import Block, Layer, Slices
from fmn.recipe import Association, Normalize

Array = np.ndarray[Any, np.dtype[Any]]

At = slice | EllipsisType
"""Which rows of a parameter: some, or ``...`` for all."""

Importance = Callable[[str, tuple[int, ...], At], Array]
"""From a parameter's backbone-relative name, its shape and rows of it to an array that is
broadcastable to those rows.
"""

ONE = np.ones(())


def no_importance(name: str, shape: tuple[int, ...], at: At) -> Array:
    """Every parameter counts the same (plain averaging)."""
    return ONE


def normalized(tensors: Mapping[str, Array], how: Normalize) -> Array:
    """Return what a Fisher's values are divided by: 1, their mean, or their global norm.

    1 where that is 0.
    """
    if how == "none":
        return ONE
    if how == "mean":
        scale = sum(tensor.sum(dtype=np.float64) for tensor in tensors.values()) / sum(
            tensor.size for tensor in tensors.values()
        )
    else:  # one tensor at a time: a diagonal Fisher is as large as the model
        scale = np.sqrt(
            sum(np.square(tensor, dtype=np.float64).sum() for tensor in tensors.values())
        )
    return np.asarray(scale) if scale > 0 else ONE


def diagonal_importance(
    tensors: Mapping[str, Array], normalize: Normalize, lacking: Collection[str] = ()
) -> Importance:
    """Return each parameter's own Fisher, as the full diagonal has it.

    1 for those that some model's Fisher lacks.
    """
    scale = normalized(tensors, normalize)

    def importance(name: str, shape: tuple[int, ...], at: At) -> Array:
        if name in lacking:
            return ONE
        return tensors[name][at] if scale is ONE else tensors[name][at] / scale

    return importance


def mask_importance(
    layers: Sequence[Layer],
    tensors: Mapping[str, Array],
    association: Association,
    normalize: Normalize,
) -> Importance:
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
        the importance: a vector along the governed axis, or one number for a parameter without
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
            return mean(
                layer,
                next(
                    (block for block in layer.blocks if name.startswith(block.prefixes)),
                    layer.blocks[-1],
                ),
            )
    return sum(sum(mean(layer, block) for block in layer.blocks) for layer in layers) / len(layers)
