"""What there is to say about a family of transformers, as frozen data.

Names of modules and parameters are those of checkpoints, relative to the backbone; within a
:class:`Stack`, relative to a layer. Sizes are named by the attribute of the configuration that
holds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fmn.architectures.layer import Block, Layer, Sizes
from fmn.architectures.slices import Slices
from fmn.errors import ArchitectureError

Setting = Callable[[str], Any]
"""Looks a name up in a configuration; None where there is no such."""

ATTENTIONS = ("attention", "cross_attention")
"""The kinds of nodes of a layer's attention blocks, in order."""


@dataclass(frozen=True)
class Attention:
    """An attention block of a layer.

    Attributes:
        context: the module whose input is the concatenated context [batch, positions, heads ·
            channels].
        query_key: slices of the query parameters, then as many of the key's.
        value: slices of the value parameters.
        output: columns of the output projection.
        block: prefixes of every parameter of the block.
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
        activation: the module (second linear layer) whose input is the activation [batch,
            positions, neurons].
        first: slices of the first linear layer; where it is gated, the gate's first, then the
            up-projection's. The module of the first of them that a model has computes W x + b, on
            which a node before the activation sits.
        output: columns of the second linear layer.
        neurons: configuration attribute with the number of neurons; where its value is null, four
            times the hidden size.
    """

    activation: str
    first: tuple[Slices, ...]
    output: tuple[Slices, ...]
    neurons: str = "intermediate_size"


@dataclass(frozen=True)
class Stack:
    """Layers that are alike. An encoder-decoder has two stacks, everything else one.

    Attributes:
        path: what the names of a layer's parameters start with, before its number:
            ``encoder.layer``.
        attentions: self attention and, in a decoder behind an encoder, cross attention.
        feed_forward: the feed-forward block; its parameters are those of the layer that are in no
            attention block.
        layers: configuration attribute with the number of layers.
    """

    path: str
    attentions: tuple[Attention, ...]
    feed_forward: FeedForward
    layers: str = "num_hidden_layers"

    def layer(self, number: int, first: int, sizes: Sizes) -> Layer:
        """Return one layer; ``first`` is the whole model's number for the stack's first layer."""
        attentions = tuple(
            Block(
                name,
                attention.context,
                attention.query_key,
                attention.value,
                attention.output,
                attention.block,
            )
            for name, attention in zip(ATTENTIONS, self.attentions, strict=False)
        )
        second = self.feed_forward
        neurons = Block("feed_forward", second.activation, second.first, (), second.output, ())
        prefix = f"{self.path}.{number}."
        return Layer(
            first + number,
            prefix,
            sizes,
            tuple(block.within(prefix) for block in (*attentions, neurons)),
        )


@dataclass(frozen=True)
class Architecture:
    """A family of transformers.

    Attributes:
        model_type: ``config.model_type``.
        prefix: what a task model's parameter names put before the backbone's: ``bert`` for
            ``bert.encoder.…``.
        stacks: the layers; an encoder's come before a decoder's, and are numbered before them.
        hidden: configuration attribute with the hidden size.
        optional: prefixes of backbone parameters that only some task models have (a pooler), or
            only some examples run through (what sees images).
        readout: prefixes of backbone parameters that feed nothing but a task's head (BERT's
            pooler).
        ignored: patterns of backbone tensors in checkpoints that are no parameters (buffers of
            positions), or always copies of another.
        heads: what names of task heads start with; needed where some task models put no prefix
            before the backbone's names.
        tied: names of matrices that are copies of the word embeddings where the configuration says
            ``tie_word_embeddings``.
        embeddings: name of the word embeddings, and then names of copies that a checkpoint may hold
            instead.
        once: patterns of parameters whose module runs once for all examples of a batch (relative
            position embeddings).
        renamed: pairs of paths, in modules and in checkpoints, where transformers came to call
            modules otherwise than checkpoints do; ``{n}`` stands for a number, the first that fits
            counts.
    """

    model_type: str
    prefix: str
    stacks: tuple[Stack, ...]
    hidden: str = "hidden_size"
    optional: tuple[str, ...] = ()
    readout: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """Return a model's layers; ``setting`` looks a name up in its configuration.

        Raises:
            ArchitectureError: a size is missing, heads do not divide the hidden size, groups do not
                divide the heads, or the attentions of a layer are of different sizes, or heads
                share keys and values beside cross attention.
        """
        made: list[Layer] = []
        for stack in self.stacks:
            sizes = self._sizes(stack, setting)
            first = len(made)
            made += [
                stack.layer(number, first, sizes)
                for number in range(self._size(setting, stack.layers))
            ]
        if len({layer.is_grouped for layer in made}) > 1 or any(
            layer.is_grouped and len(layer.blocks) > 2 for layer in made
        ):
            raise ArchitectureError(
                f"this {self.model_type} model shares key and value heads beside cross attention"
            )
        return tuple(made)

    def found_layers(self, names: Collection[str]) -> tuple[Layer, ...]:
        """Return the layers that some backbone-relative name belongs to; of unknown sizes (0)."""
        made: list[Layer] = []
        for stack in self.stacks:
            first, number = len(made), 0
            while any(name.startswith(f"{stack.path}.{number}.") for name in names):
                made.append(stack.layer(number, first, Sizes(0, 0, 0, 0, 0)))
                number += 1
        return tuple(made)

    def _size(self, setting: Setting, name: str | None, default: int | None = None) -> int:
        value = setting(name) if name else None
        value = default if value is None else value
        if not isinstance(value, int) or value < 1:
            raise ArchitectureError(
                f"the configuration of a {self.model_type} model needs {name} >= 1, got {value!r}"
            )
        return value

    def _sizes(self, stack: Stack, setting: Setting) -> Sizes:
        hidden = self._size(setting, self.hidden)
        sizes: list[tuple[int, int, int]] = []
        for attention in stack.attentions:
            heads = self._size(setting, attention.heads)
            if hidden % heads and (
                attention.head_channels is None or setting(attention.head_channels) is None
            ):
                raise ArchitectureError(
                    f"{heads} heads do not divide the hidden size {hidden} of this "
                    f"{self.model_type} model"
                )
            groups = self._size(setting, attention.groups, heads)
            if heads % groups:
                raise ArchitectureError(
                    f"{groups} key-value groups do not divide the {heads} heads of this "
                    f"{self.model_type} model"
                )
            sizes.append(
                (heads, groups, self._size(setting, attention.head_channels, hidden // heads))
            )
        if len(set(sizes)) > 1:
            raise ArchitectureError(
                f"the attentions of one layer of this {self.model_type} model have different "
                f"sizes: {sizes}"
            )
        # GPT-2 writes null for four times the hidden size
        neurons = self._size(setting, stack.feed_forward.neurons, 4 * hidden)
        return Sizes(*sizes[0], neurons, hidden)

    def backbone(self, names: Iterable[str]) -> dict[str, str]:
        """Split off the backbone: map those full names that belong to it to backbone-relative ones.

        A checkpoint of the bare backbone (the parent) has no prefix; then every name belongs but a
        task head's.
        """
        names = list(names)
        prefix = self.prefix_of(names)
        own = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        if not prefix and self.heads:
            own = {name: short for name, short in own.items() if not name.startswith(self.heads)}
        if self.renamed:
            own = {name: self._in_checkpoints(short) for name, short in own.items()}
        full = {short: name for name, short in own.items()}
        if held := next((name for name in self.embeddings if name in full), None):
            own[full[held]] = self.embeddings[0]
        return {name: short for name, short in own.items() if not self._is_ignored(short)}

    def prefix_of(self, names: Iterable[str]) -> str:
        """Return what these full names put before the backbone's: ``bert.``, or nothing."""
        prefix = f"{self.prefix}."
        return prefix if any(name.startswith(prefix) for name in names) else ""

    def is_head(self, full: str) -> bool:
        """Tell whether a name that :meth:`backbone` leaves out is a task head's, not a buffer's."""
        return not self._is_ignored(full.removeprefix(f"{self.prefix}."))

    def is_tied(self, full: str) -> bool:
        """Tell whether this is a copy of the word embeddings where the configuration ties them."""
        return full.removeprefix(f"{self.prefix}.") in self.tied

    def parameters(self, model: Any) -> dict[str, Any]:
        """Return a model's parameters by full name, each once, tied ones by the original's name."""
        parameters: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))
        own: dict[int, str] = {}
        for name in sorted(
            parameters, key=lambda name: self.is_tied(name) or not self.is_head(name)
        ):
            own.setdefault(id(parameters[name]), name)
        return {name: parameters[name] for name in own.values()}

    def is_readout(self, short: str) -> bool:
        """Tell whether a parameter of the backbone feeds nothing but a task's head."""
        return short.startswith(self.readout) if self.readout else False

    def is_once(self, short: str) -> bool:
        """Tell whether the module of a parameter runs once for all examples of a batch."""
        return any(fnmatchcase(short, pattern) for pattern in self.once)

    def _is_ignored(self, short: str) -> bool:
        return any(fnmatchcase(short, pattern) for pattern in self.ignored)

    def _in_checkpoints(self, short: str) -> str:
        for module, checkpoint in self.renamed:
            pattern = re.escape(module).replace(r"\{n\}", r"(\d+)") + r"(?=\.|$)"
            changed, count = re.subn(f"^{pattern}", checkpoint.replace("{n}", r"\1"), short)
            if count:
                return changed
        return short

    def check_shapes(self, layers: Iterable[Layer], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that every parameter named here exists and that the nodes' slices divide it.

        Args:
            layers: of the model.
            shapes: backbone-relative parameter names to shapes.

        Raises:
            ArchitectureError: the model is not what the family's description says.
        """
        for layer in layers:
            for slices in layer.slices():
                shape = shapes.get(slices.parameter)
                if shape is None and slices.optional:
                    continue
                if shape is None:
                    fused = (
                        "; expected what is fused there in one matrix, as transformers saves it"
                        if slices.stack
                        else ""
                    )
                    raise ArchitectureError(
                        f"{self._claim()} a parameter {slices.parameter}, which this model does "
                        f"not have{fused}"
                    )
                if len(shape) <= slices.axis or shape[slices.axis] != slices.length(layer.sizes):
                    raise ArchitectureError(
                        f"{self._claim()} {slices.length(layer.sizes)} along axis {slices.axis} of "
                        f"{slices.parameter}, "
                        f"whose shape is {list(shape)}; does config.json belong to these weights?"
                    )
            for block in layer.blocks:
                if not any(slices.parameter in shapes for slices in block.governed):
                    parameters = " or ".join(slices.parameter for slices in block.governed)
                    raise ArchitectureError(
                        f"{self._claim()} a parameter {parameters}, which this model does not have"
                    )

    def check_modules(
        self, layers: Iterable[Layer], names: Collection[str], parameters: Collection[str]
    ) -> None:
        """Check that every module on which a node sits exists in the model.

        Raises:
            ArchitectureError: a module is missing.
        """
        for layer in layers:
            for block in layer.blocks:
                for module in (block.site, block.pre_activation(parameters)):
                    if module not in names:
                        raise ArchitectureError(
                            f"{self._claim()} a module {module}, which this model does not have"
                        )

    def _claim(self) -> str:
        return f"the description of '{self.model_type}' expects"
