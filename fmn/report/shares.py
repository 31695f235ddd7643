"""Who wins which mask node of a merge: every model's coefficient at every head and neuron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fmn.architectures import NodeKind
from fmn.catalog import Catalog, Entry
from fmn.errors import FisherError, ParamsError
from fmn.merging import get_rule
from fmn.recipe import ModelEntry, Normalize, Recipe, read_recipe
from fmn.report.fishers import Array, Arrays, NodeTable, node_tables, read_fisher
from fmn.report.rules import scale, weights_by_nodes
from fmn.store import Gone, Record, Store


@dataclass(frozen=True)
class NodeShares:
    """The coefficients s_i of a merge θ* = Σ_i s_i θ_i at the rows that nodes of a kind govern.

    They sum to 1 over the models.

    Attributes:
        kind: of node.
        layers: the layers that have it, in order.
        values: [layers, nodes, models], float64.
    """

    kind: NodeKind
    layers: tuple[int, ...]
    values: Array

    def mean(self) -> Array:
        """Return each model's mean share in each layer, [layers, models]; a layer's sum to 1."""
        return np.asarray(self.values.mean(axis=1))

    def winners(self) -> Array:
        """Return the number of the model with the greatest share of each node, [layers, nodes].

        The first of several.
        """
        return np.asarray(self.values.argmax(axis=2))

    def tied(self) -> Array:
        """Return at which nodes several models have the greatest share, [layers, nodes], bool."""
        return np.asarray(self._greatest().sum(axis=2) > 1)

    def won(self) -> Array:
        """Return the fraction of nodes that each model wins in each layer, [layers, models].

        Who tie split the node.
        """
        greatest = self._greatest()
        return np.asarray((greatest / greatest.sum(axis=2, keepdims=True)).mean(axis=1))

    def _greatest(self) -> Array:
        return np.asarray(self.values == self.values.max(axis=2, keepdims=True))


Shares = Mapping[str, NodeShares]
"""By the name of the kind of node."""


def node_shares(
    fishers: Sequence[Arrays],
    weights: Sequence[float],
    normalize: Normalize,
    temper: float = 1.0,
) -> Shares:
    """Return s_i = λ_i F_i / Σ_j λ_j F_j at every node, or λ_i / Σ_j λ_j where that is 0/0.

    The same as :func:`fmn.merging.weighted_mean` has for the parameters that a node governs.

    Args:
        fishers: of each model, the tensors ``layer.{l}.{kind}``.
        weights: λ of each model.
        normalize: what each Fisher is divided by: its ``mean``, its ``l2`` norm, or nothing
            (``none``).
        temper: the power that what is left is taken to.

    Raises:
        FisherError: Fishers of different shapes, or one that holds NaN, infinity or a negative
            value.
        ParamsError: a weight that is no finite number, 0 or more; or all of them are 0.
    """
    if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ParamsError(
            f"weights {list(weights)}; expected finite numbers, 0 or more, and at least one above 0"
        )
    fisher_tables = [node_tables(arrays) for arrays in fishers]
    first, *others = fisher_tables
    for tables in others:
        if _shapes(tables) != _shapes(first):
            raise FisherError(
                f"Fishers of different shapes: {_sizes(first)}; and {_sizes(tables)}; expected "
                "fine-tunes of one parent"
            )
    scales = [scale(arrays, normalize) for arrays in fishers]
    return {
        name: NodeShares(
            table.kind,
            table.layers,
            _shares(
                [
                    (tables[name].values / divisor) ** temper
                    for tables, divisor in zip(fisher_tables, scales, strict=True)
                ],
                weights,
            ),
        )
        for name, table in first.items()
    }


def _shapes(tables: Mapping[str, NodeTable]) -> dict[str, object]:
    return {name: (table.layers, table.values.shape) for name, table in tables.items()}


def _sizes(tables: Mapping[str, NodeTable]) -> str:
    return ", ".join(table.size for table in tables.values())


def _shares(importances: Sequence[Array], weights: Sequence[float]) -> Array:
    precisions = np.stack(importances, axis=-1) * np.asarray(weights, np.float64)
    total = precisions.sum(axis=-1, keepdims=True)
    shares = np.broadcast_to(
        np.asarray(weights, np.float64) / sum(weights), precisions.shape
    ).copy()
    np.divide(precisions, total, out=shares, where=total > 0)
    return shares


def merge_shares(directory: Path) -> tuple[tuple[str, ...], Shares]:
    """Return a merge's model names and shares, from the Fishers in its ``recipe.yaml``.

    Raises:
        ParamsError: no directory that ``fmn merge`` wrote, or a method without mask nodes.
        FisherError: a Fisher that the recipe does not name, or one of other weights; the message
            says what to do.
        CheckpointError: a file that is not there.
    """
    file = directory / "recipe.yaml"
    if not file.is_file():
        raise ParamsError(
            f"{directory} has no recipe.yaml; expected a directory that 'fmn merge' wrote, or a "
            "Fisher's file"
        )
    recipe = read_recipe(file)
    _check_weighting(str(directory), recipe.method)
    fishers = [_fisher(entry, recipe, file) for entry in recipe.models]
    weights = [entry.weight for entry in recipe.models]
    names = tuple(entry.name for entry in recipe.models)
    parameters = get_rule(recipe.method).settings(recipe.parameters)
    return names, _node_shares(fishers, weights, parameters)


def entry_shares(catalog: Catalog, entry: Entry) -> tuple[tuple[str, ...], Shares]:
    """Return a recorded merge's model names and shares, from the Fishers in the store.

    Raises:
        ParamsError: a method without mask nodes.
        FisherError: a Fisher is not in the store.
    """
    _check_weighting(catalog.short(entry), entry.method)
    records = catalog.fishers(entry)
    if missing := [name for name in entry.parts if name not in records]:
        raise FisherError(
            f"the Fisher of {missing[0]} that {catalog.short(entry)} was merged with is not in "
            f"{catalog.store.url}"
        )
    fishers = [recorded_fisher(catalog.store, records[name])[0] for name in entry.parts]
    weights = [part.weight for part in entry.parts.values()]
    return tuple(entry.parts), _node_shares(fishers, weights, entry.parameters)


def _node_shares(
    fishers: Sequence[Arrays], weights: Sequence[float], parameters: Mapping[str, Any]
) -> Shares:
    normalize, temper = parameters.get("normalize", "none"), parameters.get("temper", 1.0)
    return node_shares(fishers, weights, normalize, temper)


def _check_weighting(merge: str, method: str) -> None:
    if not weights_by_nodes(method):
        raise ParamsError(
            f"{merge} was merged by {method}, which weights no mask nodes; expected mask-fisher"
        )


def recorded_fisher(store: Store, record: Record) -> tuple[dict[str, Array], dict[str, str]]:
    """Read a Fisher of a store.

    Raises:
        FisherError: its file is missing or damaged.
    """
    try:
        return read_fisher(store.path(record.outputs["fisher"]))
    except Gone as error:
        raise FisherError(
            f"{store.url}: the file of Fisher {record.key[:12]} is damaged ({error}); see 'fmn "
            "store verify'"
        ) from error


def _fisher(entry: ModelEntry, recipe: Recipe, file: Path) -> Mapping[str, Array]:
    if entry.fisher is None:
        raise FisherError(
            f"{file} names no Fisher of {entry.name}: it was computed on the way; compute it with "
            f"'fmn fisher {entry.model} "
            f"--task {entry.task} --data {recipe.data} --out FILE', and say 'fisher: FILE' there"
        )
    arrays, metadata = read_fisher(entry.fisher)
    belongs = metadata.get("model")
    if belongs and entry.digest and belongs != entry.digest:
        raise FisherError(
            f"{entry.fisher} belongs to other weights ({belongs[:12]}) than those that were merged "
            f"({entry.digest[:12]}); compute the Fisher of {entry.name} again with 'fmn fisher'"
        )
    return arrays
