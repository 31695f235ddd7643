"""One layer of one model: its blocks, by the names they have there, and its numbers of nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from fmn.architectures.slices import Sizes, Slices, Unit


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

    def slices(self) -> tuple[Slices, ...]:
        """Return every slice that any association can use."""
        return self.governed + self.value + self.output

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
        """Iterate over every slice that any association can use."""
        for block in self.blocks:
            yield from block.slices()

    def nodes(self) -> dict[str, int]:
        """Return the names of a mask Fisher's tensors for this layer, with their node counts."""
        counts = {self.tensor(block.part): self.sizes.nodes(block.unit) for block in self.blocks}
        return counts | {self.tensor("key_value"): self.sizes.groups} if self.is_grouped else counts

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

    def values_of(self, block: Block, slices: Slices) -> str:
        """Return the name of the Fisher tensor of the nodes that govern these slices of a block."""
        return self.tensor(
            "key_value" if slices.unit == "group" and self.is_grouped else block.part
        )


__all__ = ["Block", "Layer", "Sizes"]
