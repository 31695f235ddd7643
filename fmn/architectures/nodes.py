"""Kinds of mask nodes, and what people call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NodeKind:
    """A kind of mask node.

    Attributes:
        name: in a mask Fisher's file, whose tensors are called ``layer.{l}.{name}``.
        title: what several are called.
        unit: what one is called.
    """

    name: str
    title: str
    unit: str

    @property
    def heading(self) -> str:
        """The title as the start of a sentence; a name stays as it is."""
        return self.title if self.title == self.name else self.title[:1].upper() + self.title[1:]


NODES: Mapping[str, NodeKind] = {
    kind.name: kind
    for kind in (
        NodeKind("attention", "attention heads", "head"),
        NodeKind("feed_forward", "feed-forward neurons", "neuron"),
        NodeKind("key_value", "key-value groups", "group"),
        NodeKind("cross_attention", "cross-attention heads", "head"),
    )
}
"""The kinds that families of this package have, by name, in the order in which they are shown."""


def node_kind(name: str) -> NodeKind:
    """Return a kind of mask node by its name; an unknown one is called by that name."""
    return NODES.get(name) or NodeKind(name, name, "node")
