"""A Fisher's file as tables, one for each kind of node, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmn import checkpoint
from fmn.architectures import NODES, NodeKind, node_kind
from fmn.errors import FisherError
from fmn.reading import read_json
from fmn.report.text import printable

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]

MASK, DIAGONAL = "mask-fisher", "diagonal-fisher"
NAMES = {MASK: "mask Fisher", DIAGONAL: "diagonal Fisher"}

NODE_TENSOR = re.compile(r"layer\.(?P<layer>\d+)\.(?P<kind>\w+)")
MOST_CELLS = 64
"""Nodes of a layer that are drawn one by one."""


def read_fisher(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read a file that ``fmn fisher`` wrote: its arrays, and what it says of itself.

    Raises:
        CheckpointError: no such file, or no safetensors file.
        FisherError: no Fisher's.
    """
    arrays, metadata = checkpoint.read(path)
    if metadata.get("kind") not in NAMES:
        raise FisherError(
            f"{path} is not a Fisher: its kind is {metadata.get('kind')!r}, expected {MASK} or "
            f"{DIAGONAL}; make it with 'fmn fisher'"
        )
    return arrays, metadata


@dataclass(frozen=True)
class NodeTable:
    """A mask Fisher's values of one kind of node.

    Attributes:
        kind: of node.
        layers: the layers that have it, in order.
        values: [layers, nodes], float64.
    """

    kind: NodeKind
    layers: tuple[int, ...]
    values: Array

    @property
    def size(self) -> str:
        """Such as ``2 layers of 12 attention heads``."""
        layers, nodes = self.values.shape
        return f"{layers} layers of {nodes} {self.kind.title}"


def is_map(nodes: int) -> bool:
    """Return whether so many nodes of a layer are drawn one by one, rather than as a curve."""
    return nodes <= MOST_CELLS


def node_tables(arrays: Arrays) -> dict[str, NodeTable]:
    """Return the tensors ``layer.{l}.{kind}`` as a table for each kind of node there is, by name.

    Kinds that :data:`fmn.architectures.NODES` knows come first, in its order. Other tensors are
    left out.

    Raises:
        FisherError: there is none; or one is of another size than those of the other layers, or
            holds NaN, infinity or a negative value.
    """
    layers: dict[str, list[int]] = {}
    for match in filter(None, map(NODE_TENSOR.fullmatch, arrays)):
        layers.setdefault(match["kind"], []).append(int(match["layer"]))
    if not layers:
        raise FisherError(
            "no mask Fisher: it has no tensor layer.0.attention; make one with 'fmn fisher'"
        )
    order = [*(name for name in NODES if name in layers), *sorted(set(layers) - set(NODES))]
    return {name: _table(arrays, node_kind(name), sorted(layers[name])) for name in order}


def _table(arrays: Arrays, kind: NodeKind, layers: Sequence[int]) -> NodeTable:
    names = [f"layer.{layer}.{kind.name}" for layer in layers]
    for name in names:
        shape, expected = arrays[name].shape, arrays[names[0]].shape
        if shape != expected or len(shape) != 1 or not shape[0]:
            raise FisherError(
                f"this mask Fisher's {name} has shape {shape}; expected one axis, as long as that "
                f"of {names[0]}: layers with different numbers of {kind.title} cannot be drawn as "
                "one map"
            )
        check_values(name, arrays[name])
    values = np.stack([arrays[name].astype(np.float64) for name in names])
    return NodeTable(kind, tuple(layers), values)


def check_values(name: str, values: Array) -> None:
    """Check that values can be a Fisher's.

    Raises:
        FisherError: NaN, infinity or a negative value is among them.
    """
    if not (np.isfinite(values) & (values >= 0)).all():
        raise FisherError(
            f"this Fisher's {name} holds NaN, infinite or negative values; compute it again with "
            "'fmn fisher'"
        )


def described(metadata: Mapping[str, str]) -> str:
    """Return what a Fisher says of itself: ``mask Fisher · 128 examples · labels: true · …``.

    It is one line.
    """
    parts = [NAMES.get(metadata.get("kind", ""), "Fisher")]
    parts += [f"{metadata['examples']} examples"] if "examples" in metadata else []
    parts += [f"labels: {metadata['labels']}"] if "labels" in metadata else []
    parts += [metadata[name] for name in ("placement", "aggregation") if name in metadata]
    parts += [_data(metadata["data"])] if metadata.get("data") else []
    parts += (
        [f"{metadata['model_type']} model {metadata.get('model', '')[:12]}".rstrip()]
        if "model_type" in metadata
        else []
    )
    return printable(" · ".join(parts))


def _data(text: str) -> str:
    """Return what the examples were: what fmn wrote, else what the user wrote.

    What fmn writes is like ``sst2/train, seed 0, 128 tokens``.
    """
    try:
        examples = read_json(text, "data")
        seed = "in file order" if examples["seed"] is None else f"seed {examples['seed']}"
        return f"{examples['task']}/{examples['split']}, {seed}, {examples['max_length']} tokens"
    except (ValueError, TypeError, KeyError):
        return text
