"""One layer of one model: its blocks, by the names they have there, and its numbers of nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from fmn.architectures.slices import Sizes, Slices, Unit
from fmn.recipe import PAPER_NODES, Nodes

SUFFIXES: Mapping[Nodes, str] = {
    "residual-channels": "channels",
    "value-heads": "values",
    "output-columns": "columns",
    "kv-groups": "groups",
}
"""Of the kinds of nodes that a block can have besides the paper's, after the block's name."""
LAYER = "layer"
"""The kind of the one node of a layer."""


@dataclass(frozen=True)
class Block:
    """An attention or a feed-forward block.

    Attributes:
        part: the name of its nodes' kind: ``attention``, ``cross_attention`` or ``feed_forward``.
        site: the module whose input the nodes multiply.
        governed: what the nodes govern in the paper: rows of query and key, or of the first linear
            layer.
        value: rows of the value parameters.
        output: columns of the projection that takes the nodes' activation.
        prefixes: of every parameter of an attention block; none for the feed-forward block, which
            has the layer's others.
    """

    part: str
    site: str
    governed: tuple[Slices, ...]
    value: tuple[Slices, ...]
    output: tuple[Slices, ...]
    prefixes: tuple[str, ...]

    @property
    def unit(self) -> Unit:
        """The kind of node that the block's activation is made of."""
        return "neuron" if self.part == "feed_forward" else "head"

    @property
    def keys(self) -> tuple[Slices, ...]:
        """Rows of the key parameters; what comes before them in an attention block is query's."""
        return () if self.unit == "neuron" else self.governed[len(self.governed) // 2 :]

    def slices(self) -> tuple[Slices, ...]:
        """Return every slice that the paper's nodes can govern."""
        return self.governed + self.value + self.output

    def kind(self, nodes: Nodes) -> str:
        """Return the name that a kind of nodes beyond the paper's has in this block."""
        return f"{self.part}_{SUFFIXES[nodes]}"

    def governed_by(self, nodes: Nodes) -> tuple[Slices, ...]:
        """Return what a kind of nodes beyond the paper's governs in this block; nothing: no such.

        The columns of the second linear layer are the neurons', so that block has no
        ``output-columns``.
        """
        if nodes == "value-heads":
            return self.value
        if nodes == "kv-groups":
            return self.keys + self.value
        if nodes == "output-columns" and self.unit == "head":
            return tuple(replace(slices, unit="column") for slices in self.output)
        return self._rows_of_output() if nodes == "residual-channels" else ()

    def _rows_of_output(self) -> tuple[Slices, ...]:
        rows = (replace(slices, unit="channel", axis=1 - slices.axis) for slices in self.output)
        modules = (slices.parameter.rpartition(".")[0] for slices in self.output)
        biases = (Slices(f"{module}.bias", "channel", optional=True) for module in modules)
        return (*rows, *biases)

    def first(self, parameters: Collection[str]) -> Slices:
        """Return the first governed slices that a model with these parameters has."""
        present = (slices for slices in self.governed if slices.parameter in parameters)
        return next(present, self.governed[0])

    def pre_activation(self, parameters: Collection[str]) -> str:
        """Return the module that computes W x + b, before the activation."""
        return self.first(parameters).parameter.rpartition(".")[0]

    def within(self, prefix: str) -> Block:
        """Put a layer's prefix before all names."""

        def renamed(group: tuple[Slices, ...]) -> tuple[Slices, ...]:
            return tuple(slices.within(prefix) for slices in group)

        return Block(
            self.part,
            prefix + self.site,
            renamed(self.governed),
            renamed(self.value),
            renamed(self.output),
            tuple(prefix + name for name in self.prefixes),
        )


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        number: in the whole model; a decoder's layers come after the encoder's.
        prefix: of its parameters' names, ``encoder.layer.3.``.
        sizes: its numbers of nodes.
        blocks: self attention, cross attention if there is one, feed-forward.
    """

    number: int
    prefix: str
    sizes: Sizes
    blocks: tuple[Block, ...]

    @property
    def is_grouped(self) -> bool:
        """Whether heads share key and value heads."""
        return self.sizes.groups != self.sizes.heads

    def slices(self) -> Iterator[Slices]:
        """Iterate over every slice that the paper's nodes can govern."""
        for block in self.blocks:
            yield from block.slices()

    def nodes(self, chosen: Collection[Nodes] = PAPER_NODES) -> dict[str, int]:
        """Return the names of a mask Fisher's tensors for this layer, with their node counts.

        Args:
            chosen: kinds of nodes; the paper's are always there.
        """
        counts = {self.tensor(block.part): self.sizes.nodes(block.unit) for block in self.blocks}
        if self.is_grouped:
            counts[self.tensor("key_value")] = self.sizes.groups
        for nodes in chosen:
            for block in self.blocks:
                for slices in block.governed_by(nodes)[-1:]:
                    counts[self.tensor(block.kind(nodes))] = self.sizes.nodes(slices.unit)
        return counts | {self.tensor(LAYER): 1} if "layers" in chosen else counts

    def inputs(self) -> dict[str, int]:
        """Return, of each matrix of its linear maps, the axis that what goes in lies along.

        That is 1 for a Linear and 0 for a Conv1D. Biases are named as well, which have one axis.
        """
        axes: dict[str, int] = {}
        for block in self.blocks:
            axes |= {slices.parameter: 1 - slices.axis for slices in block.governed + block.value}
            axes |= {slices.parameter: slices.axis for slices in block.output}
        return axes

    def tensor(self, part: str) -> str:
        """Return the name of a mask Fisher's tensor."""
        return f"layer.{self.number}.{part}"

    def kind_of(self, block: Block, slices: Slices) -> str:
        """Return which of the paper's kinds of nodes governs these slices of a block."""
        return "key_value" if slices.unit == "group" and self.is_grouped else block.part

    def values_of(self, block: Block, slices: Slices) -> str:
        """Return the name of the Fisher tensor of the nodes that govern these slices of a block."""
        return self.tensor(self.kind_of(block, slices))


__all__ = ["Block", "Layer", "Sizes"]
