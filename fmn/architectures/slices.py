"""Which rows or columns of a parameter belong to which node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Unit = Literal["head", "group", "neuron", "channel", "column"]
"""A kind of node: an attention head, a group of heads that share one key and value head, a feed-
forward neuron, a channel of the residual stream, a column of attention's output projection.
"""

Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Sizes:
    """A layer's numbers of nodes, the channels of one head, and those of the residual stream."""

    heads: int
    groups: int
    head_channels: int
    neurons: int
    hidden: int

    def nodes(self, unit: Unit) -> int:
        """Return how many nodes of that kind the layer has."""
        return {
            "head": self.heads,
            "group": self.groups,
            "neuron": self.neurons,
            "channel": self.hidden,
            "column": self.heads * self.head_channels,
        }[unit]

    def channels(self, unit: Unit) -> int:
        """Return how many rows (or columns) belong to one node of that kind."""
        return self.head_channels if unit in ("head", "group") else 1


@dataclass(frozen=True)
class Slices:
    """Which rows or columns of one parameter the nodes of a layer govern.

    Attributes:
        parameter: its name.
        unit: the kind of node that each slice belongs to.
        axis: the axis that the nodes lie along: 0, the rows of a Linear; 1 for output projections
            and for Conv1D.
        stack: for a fused parameter, the units of all blocks along the axis in order: ``("head",
            "group", "group")``.
        index: which block of the stack this is.
        interleaved: the blocks alternate within each node (GPT-NeoX) instead of lying one after the
            other.
        optional: only some configurations have this parameter; of a block's governed parameters at
            least one must be there.
    """

    parameter: str
    unit: Unit
    axis: int = 0
    stack: tuple[Unit, ...] = ()
    index: int = 0
    interleaved: bool = False
    optional: bool = False

    def length(self, sizes: Sizes) -> int:
        """Return the length of the axis that this description implies."""
        return sum(sizes.nodes(unit) * sizes.channels(unit) for unit in self.stack or (self.unit,))

    def rows(self, sizes: Sizes) -> Rows:
        """Return the indices along the axis, shape [nodes, channels].

        Row n holds the indices that node n governs.
        """
        nodes, channels = sizes.nodes(self.unit), sizes.channels(self.unit)
        if self.interleaved:
            blocks = np.arange(nodes * len(self.stack) * channels).reshape(
                nodes, len(self.stack), channels
            )
            return blocks[:, self.index]
        start = sum(sizes.nodes(unit) * sizes.channels(unit) for unit in self.stack[: self.index])
        return start + np.arange(nodes * channels).reshape(nodes, channels)

    def within(self, prefix: str) -> Slices:
        """Put a layer's prefix before the parameter's name."""
        return replace(self, parameter=prefix + self.parameter)


def linear(
    module: str, unit: Unit, *, bias: bool | None = True, **where: Any
) -> tuple[Slices, ...]:
    """Describe a linear layer whose OUTPUT the nodes lie along: slices of its weight and bias.

    Args:
        module: its name.
        unit: the kind of node.
        bias: whether it has one; None: only in some configurations.
        where: what else there is to say of the slices, see :class:`Slices`.
    """
    weight = Slices(f"{module}.weight", unit, **where)
    if bias is False:
        return (weight,)
    return weight, Slices(
        f"{module}.bias", unit, **{**where, "axis": 0, "optional": bias is None or weight.optional}
    )


def fused(
    module: str, units: tuple[Unit, ...], *, bias: bool | None = True, **where: Any
) -> tuple[tuple[Slices, ...], ...]:
    """Describe a linear layer that is several in one: the slices of each of them, in their order.

    Args:
        module: its name.
        units: the kind of node of each.
        bias: as in :func:`linear`.
        where: what else there is to say of the slices, see :class:`Slices`.
    """
    return tuple(
        linear(module, unit, bias=bias, stack=units, index=index, **where)
        for index, unit in enumerate(units)
    )
