"""What there is to say about a family of transformers, as frozen data.

Names of modules and parameters are relative to the backbone; ``{layer}`` stands for a layer's number. Sizes are named by
the attribute of the configuration that holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from fmn.errors import ArchitectureError

Unit = Literal["head", "group", "neuron"]
"""A kind of node: an attention head, a group of heads that share one key and value head, a feed-forward neuron."""

Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Sizes:
    """A model's numbers of layers and of nodes per layer, and the channels of one head."""

    layers: int
    heads: int
    groups: int
    head_channels: int
    neurons: int

    def nodes(self, unit: Unit) -> int:
        """Return how many nodes of that kind a layer has."""
        return {"head": self.heads, "group": self.groups, "neuron": self.neurons}[unit]

    def channels(self, unit: Unit) -> int:
        """Return how many rows (or columns) belong to one node of that kind."""
        return 1 if unit == "neuron" else self.head_channels


@dataclass(frozen=True)
class Slices:
    """Which rows or columns of one parameter the nodes of a layer govern.

    Attributes:
        parameter: name, with ``{layer}``.
        unit: the kind of node that each slice belongs to.
        axis: the axis that the nodes lie along: 0, the rows of a Linear; 1 for output projections and for Conv1D.
        stack: for a fused parameter, the units of all blocks along the axis in order: ``("head", "group", "group")``.
        index: which block of the stack this is.
        interleaved: the blocks alternate within each node (GPT-NeoX) instead of lying one after the other.
    """

    parameter: str
    unit: Unit
    axis: int = 0
    stack: tuple[Unit, ...] = ()
    index: int = 0
    interleaved: bool = False

    def length(self, sizes: Sizes) -> int:
        """Return the length of the axis that this description implies."""
        return sum(sizes.nodes(unit) * sizes.channels(unit) for unit in self.stack or (self.unit,))

    def rows(self, sizes: Sizes) -> Rows:
        """Return the indices along the axis, shape [nodes, channels]: row n holds those that node n governs."""
        nodes, channels = sizes.nodes(self.unit), sizes.channels(self.unit)
        if self.interleaved:
            blocks = np.arange(nodes * len(self.stack) * channels).reshape(nodes, len(self.stack), channels)
            return blocks[:, self.index]
        start = sum(sizes.nodes(unit) * sizes.channels(unit) for unit in self.stack[: self.index])
        return start + np.arange(nodes * channels).reshape(nodes, channels)


@dataclass(frozen=True)
class Attention:
    """A layer's attention block.

    Attributes:
        context: the module whose input is the concatenated context [batch, positions, heads · channels].
        query_key: slices of the query and key parameters.
        value: slices of the value parameters.
        output: columns of the output projection.
        block: prefixes (with ``{layer}``) of every parameter of the block.
        heads: configuration attribute with the number of heads.
        groups: the same for key-value groups; None where each head has its own.
        head_channels: the same for the channels of a head; None where it is hidden size / heads.
    """

    context: str
    query_key: tuple[Slices, ...]
    value: tuple[Slices, ...]
    output: tuple[Slices, ...]
    block: tuple[str, ...]
    heads: str = "num_attention_heads"
    groups: str | None = None
    head_channels: str | None = None


@dataclass(frozen=True)
class FeedForward:
    """A layer's feed-forward block.

    Attributes:
        activation: the module (second linear layer) whose input is the activation [batch, positions, neurons].
        first: slices of the first linear layer; where it is gated, the gate's first, then the up-projection's. The module
            of the first of them computes W x + b, on which a node before the activation sits.
        output: columns of the second linear layer.
        neurons: configuration attribute with the number of neurons; where its value is null, four times the hidden size.
    """

    activation: str
    first: tuple[Slices, ...]
    output: tuple[Slices, ...]
    neurons: str = "intermediate_size"


@dataclass(frozen=True)
class Architecture:
    """A family of transformers.

    Attributes:
        model_type: ``config.model_type``.
        prefix: what a task model's parameter names put before the backbone's: ``bert`` for ``bert.encoder.…``.
        layer: prefix of a layer's parameters, ``encoder.layer.{layer}``.
        attention: the attention block.
        feed_forward: the feed-forward block; its parameters are those of the layer that are not the attention block's.
        layers: configuration attribute with the number of layers.
        hidden: configuration attribute with the hidden size.
        optional: prefixes of backbone parameters that only some task models have (a pooler).
        ignored: backbone tensors in checkpoints that are no parameters (buffers of positions).
    """

    model_type: str
    prefix: str
    layer: str
    attention: Attention
    feed_forward: FeedForward
    layers: str = "num_hidden_layers"
    hidden: str = "hidden_size"
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def sizes(self, setting: Callable[[str], Any]) -> Sizes:
        """Return the model's sizes; ``setting`` looks a name up in its configuration.

        Raises:
            ArchitectureError: a size is missing, heads do not divide the hidden size, or groups do not divide the heads.
        """

        def size(name: str | None, default: int | None = None) -> int:
            value = setting(name) if name else None
            value = default if value is None else value
            if not isinstance(value, int) or value < 1:
                raise ArchitectureError(f"the configuration of a {self.model_type} model needs {name} >= 1, got {value!r}")
            return value

        attention = self.attention
        heads, hidden = size(attention.heads), size(self.hidden)
        if hidden % heads and (attention.head_channels is None or setting(attention.head_channels) is None):
            raise ArchitectureError(f"{heads} heads do not divide the hidden size {hidden} of this {self.model_type} model")
        groups, channels = size(attention.groups, heads), size(attention.head_channels, hidden // heads)
        if heads % groups:
            raise ArchitectureError(f"{groups} key-value groups do not divide the {heads} heads of this {self.model_type} model")
        neurons = size(self.feed_forward.neurons, 4 * hidden)  # GPT-2 writes null for four times
        return Sizes(size(self.layers), heads, groups, channels, neurons)

    def slices(self, layer: int) -> Iterator[Slices]:
        """Iterate over every slice that any association can use, of one layer."""
        attention, feed_forward = self.attention, self.feed_forward
        for slices in attention.query_key + attention.value + attention.output + feed_forward.first + feed_forward.output:
            yield at_layer(slices, layer)

    def pre_activation(self, layer: int) -> str:
        """Return the module that computes W x + b before the activation."""
        return self.feed_forward.first[0].parameter.format(layer=layer).rpartition(".")[0]

    def backbone(self, names: Iterator[str] | list[str]) -> dict[str, str]:
        """Split off the backbone: full name to backbone-relative name, for each of ``names`` that belongs to it.

        A checkpoint of the bare backbone (the parent) has no prefix; then every name belongs.
        """
        names = list(names)
        prefix = f"{self.prefix}."
        if not any(name.startswith(prefix) for name in names):
            prefix = ""
        relative = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        return {name: short for name, short in relative.items() if short not in self.ignored}

    def check_shapes(self, sizes: Sizes, shapes: dict[str, tuple[int, ...]]) -> None:
        """Check that every parameter named here exists and that the nodes' slices divide it.

        Args:
            sizes: of the model.
            shapes: backbone-relative parameter names to shapes.

        Raises:
            ArchitectureError: the model is not what the family's description says.
        """
        for layer in range(sizes.layers):
            for slices in self.slices(layer):
                shape = shapes.get(slices.parameter)
                if shape is None:
                    raise ArchitectureError(f"{self._claim()} a parameter {slices.parameter}, which this model does not have")
                if len(shape) <= slices.axis or shape[slices.axis] != slices.length(sizes):
                    raise ArchitectureError(
                        f"{self._claim()} {slices.length(sizes)} along axis {slices.axis} of {slices.parameter}, "
                        f"whose shape is {list(shape)}; does config.json belong to these weights?"
                    )

    def check_modules(self, sizes: Sizes, names: set[str]) -> None:
        """Check that every module on which a node sits exists in the model.

        Raises:
            ArchitectureError: a module is missing.
        """
        for layer in range(sizes.layers):
            sites = (self.attention.context, self.feed_forward.activation, self.pre_activation(layer))
            for module in (site.format(layer=layer) for site in sites):
                if module not in names:
                    raise ArchitectureError(f"{self._claim()} a module {module}, which this model does not have")

    def _claim(self) -> str:
        return f"the description of '{self.model_type}' expects"


def at_layer(slices: Slices, layer: int) -> Slices:
    """Put a layer's number into the parameter's name."""
    return replace(slices, parameter=slices.parameter.format(layer=layer))


def linear(module: str, unit: Unit, **where: Any) -> tuple[Slices, Slices]:
    """Describe a linear layer whose OUTPUT the nodes lie along: the slices of its weight and of its bias."""
    return Slices(f"{module}.weight", unit, **where), Slices(f"{module}.bias", unit, **{**where, "axis": 0})


__all__ = ["Architecture", "Attention", "FeedForward", "Rows", "Sizes", "Slices", "Unit", "at_layer", "linear"]
