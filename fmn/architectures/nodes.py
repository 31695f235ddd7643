"""Kinds of mask nodes, and what people call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fmn.recipe import PAPER_NODES, Nodes, all_nodes


@dataclass(frozen=True)
class NodeKind:
    """A kind of mask node.

    Attributes:
        name: in a mask Fisher's file, whose tensors are called ``layer.{l}.{name}``.
        title: what several are called.
        unit: what one is called.
        nodes: the nodes that one chooses to have it; those of other packages are none of these.
    """

    name: str
    title: str
    unit: str
    nodes: Nodes | None = None

    @property
    def heading(self) -> str:
        """The title as the start of a sentence; a name stays as it is."""
        return self.title if self.title == self.name else self.title[:1].upper() + self.title[1:]


_CHANNELS: Nodes = "residual-channels"
_VALUES: Nodes = "value-heads"
_COLUMNS: Nodes = "output-columns"
_GROUPS: Nodes = "kv-groups"
NODES: Mapping[str, NodeKind] = {
    kind.name: kind
    for kind in (
        NodeKind("attention", "attention heads", "head", "attention"),
        NodeKind("feed_forward", "feed-forward neurons", "neuron", "feed-forward"),
        NodeKind("key_value", "key-value groups", "group", "attention"),
        NodeKind("cross_attention", "cross-attention heads", "head", "attention"),
        NodeKind("attention_channels", "attention's channels", "channel", _CHANNELS),
        NodeKind("cross_attention_channels", "cross-attention's channels", "channel", _CHANNELS),
        NodeKind("feed_forward_channels", "feed-forward channels", "channel", _CHANNELS),
        NodeKind("attention_values", "value heads", "head", _VALUES),
        NodeKind("cross_attention_values", "cross-attention value heads", "head", _VALUES),
        NodeKind("attention_columns", "attention's output columns", "column", _COLUMNS),
        NodeKind("cross_attention_columns", "cross-attention's output columns", "column", _COLUMNS),
        NodeKind("attention_groups", "groups' keys and values", "group", _GROUPS),
        NodeKind("cross_attention_groups", "cross-attention's keys and values", "group", _GROUPS),
        NodeKind("layer", "whole layers", "layer", "layers"),
    )
}
"""The kinds that families of this package have, by name, in the order in which they are shown."""


def node_kind(name: str) -> NodeKind:
    """Return a kind of mask node by its name; an unknown one is called by that name."""
    return NODES.get(name) or NodeKind(name, name, "node")


def is_beyond_paper(tensor: str) -> bool:
    """Tell whether a mask Fisher's tensor is of nodes beyond the paper's."""
    return node_kind(tensor.rpartition(".")[2]).nodes not in (None, *PAPER_NODES)


def nodes_of(tensors: Iterable[str]) -> tuple[Nodes, ...]:
    """Return the kinds of nodes that a mask Fisher has tensors of, by name; the paper's always."""
    chosen = {node_kind(name.rpartition(".")[2]).nodes for name in tensors}
    return all_nodes(nodes for nodes in chosen if nodes)
