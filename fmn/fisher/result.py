"""Fishers and Gram matrices as data: what was computed, from what, and its file."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from fmn import checkpoint
from fmn.errors import FisherError

Labels = Literal["true", "expected", "sampled"]
Placement = Literal["after-activation", "before-activation"]
Aggregation = Literal["per-example", "per-batch"]

FORMAT_VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Statistic(ABC):
    """What is computed of a model from examples, and what each says of itself.

    See the subclasses.
    """

    kind: ClassVar[str]

    examples: int
    labels: Labels | None = None
    model_type: str
    model: str = ""
    data: str = ""

    def metadata(self) -> dict[str, str]:
        """Return what the file says it is: its fields but tensors, its kind and format version."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {name: str(value) for name, value in values.items() if isinstance(value, str | int)}
        return {"kind": self.kind, "format_version": FORMAT_VERSION} | plain

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the tensors by the names they have in the file."""

    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write a safetensors file, atomically.

        Raises:
            OutputError: it exists already (unless ``replace``), or cannot be written.
        """
        arrays = {name: checkpoint.as_array(tensor) for name, tensor in self.tensors()}
        with checkpoint.new_file(Path(path), replace=replace) as staging:
            checkpoint.write(staging, arrays, self.metadata())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that :meth:`save` wrote.

        Raises:
            CheckpointError: no such file, or a truncated one.
            FisherError: a file of another kind or format.
        """
        arrays, metadata = checkpoint.read(Path(path))
        kind, version = metadata.get("kind"), metadata.get("format_version")
        if kind != cls.kind or version != FORMAT_VERSION:
            raise FisherError(
                f"{path} is not a {cls.kind} of format {FORMAT_VERSION} (it says kind {kind!r}, "
                f"format {version!r}); compute it with 'fmn fisher'"
            )
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        described = {
            each.name: metadata[each.name] for each in fields(cls) if each.name in metadata
        }
        return cls._build(tensors, {**described, "examples": int(metadata["examples"])})

    @classmethod
    @abstractmethod
    def _build(cls, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> Self:
        """Make it from the tensors of a file and what its metadata say."""


@dataclass(frozen=True, kw_only=True)
class MaskFisher(Statistic):
    """Fisher information of a model's mask nodes.

    See section 3 of Fisher Mask Nodes for Language Model Merging.

    Attributes:
        attention: per layer, [heads], float32: of the node on each head's slice of the context.
        feed_forward: per layer, [neurons], float32: of the node on each feed-forward neuron.
        cross_attention: of an encoder-decoder, by the number of each layer that has a cross
            attention, [heads], float32.
        key_value: per layer, [groups], float32: of a node that scales all heads that share a key
            and value head; empty where every head has its own.
        examples: how many examples it is the mean over.
        labels: ``true``, ``expected`` or ``sampled``.
        placement: of the feed-forward node: ``after-activation`` or ``before-activation``.
        aggregation: ``per-example`` or ``per-batch``.
        model_type: the family.
        model: digest of the model's weights, empty if the Fisher was made from a model in memory.
        data: what the examples were, empty if unknown.
    """

    kind: ClassVar[str] = "mask-fisher"

    attention: list[Tensor]
    feed_forward: list[Tensor]
    key_value: list[Tensor] = field(default_factory=list)
    cross_attention: dict[int, Tensor] = field(default_factory=dict)
    labels: Labels = field()
    placement: Placement = "after-activation"
    aggregation: Aggregation = "per-example"

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the names of the layers' blocks, attention and feed-forward.

        They are ``layer.{l}.attention``, ``….feed_forward`` and, if any, ``….key_value`` and
        ``….cross_attention``.
        """
        for part in ("attention", "feed_forward", "key_value"):
            for layer, tensor in enumerate(getattr(self, part)):
                yield f"layer.{layer}.{part}", tensor
        for layer, tensor in self.cross_attention.items():
            yield f"layer.{layer}.cross_attention", tensor

    @classmethod
    def _build(cls, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> Self:
        def layers(part: str) -> list[int]:
            return sorted(int(name.split(".")[1]) for name in tensors if name.endswith(f".{part}"))

        named: dict[str, Any] = {
            part: [tensors[f"layer.{layer}.{part}"] for layer in range(len(layers(part)))]
            for part in ("attention", "feed_forward", "key_value")
        }
        named["cross_attention"] = {
            layer: tensors[f"layer.{layer}.cross_attention"] for layer in layers("cross_attention")
        }
        return cls(**named, **described)


@dataclass(frozen=True, kw_only=True)
class DiagonalFisher(Statistic):
    """The full diagonal Fisher of a model's backbone (Matena and Raffel 2022, equation 4).

    Attributes:
        parameters: backbone-relative parameter name to a float32 tensor of the parameter's shape.
        examples: how many examples it is the mean over.
        labels: ``true``, ``expected`` or ``sampled``.
        model_type: the family.
        model: digest of the model's weights, empty if the Fisher was made from a model in memory.
        data: what the examples were, empty if unknown.
    """

    kind: ClassVar[str] = "diagonal-fisher"

    parameters: dict[str, Tensor]
    labels: Labels = field()

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the parameters."""
        yield from self.parameters.items()

    @classmethod
    def _build(cls, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> Self:
        return cls(parameters=dict(tensors), **described)


@dataclass(frozen=True, kw_only=True)
class GramMatrices(Statistic):
    """Gram matrices of what goes into the linear layers of a model (Jin et al.

    2023, https://arxiv.org/abs/2212.09849).

    Attributes:
        matrices: name to G, the mean over examples of Σ x xᵀ over their positions, float32 [inputs,
            inputs]. A name is that of the first weight that is multiplied with x; the weights of
            query, key and value share one.
        inputs: from a weight's backbone-relative name to its matrix's name and the axis of the
            weight that the inputs lie along: 1 for a Linear, 0 for a Conv1D.
        examples: how many examples it is the mean over.
        model_type: the family.
        model: digest of the model's weights, empty if it was made from a model in memory.
        data: what the examples were, empty if unknown.
    """

    kind: ClassVar[str] = "gram"

    matrices: dict[str, Tensor]
    inputs: dict[str, tuple[str, int]]

    def metadata(self) -> dict[str, str]:
        """Return what the file says it is; ``inputs`` is JSON there."""
        return super().metadata() | {"inputs": json.dumps(self.inputs, sort_keys=True)}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the matrices."""
        yield from self.matrices.items()

    @classmethod
    def _build(cls, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> Self:
        inputs = {
            name: (matrix, axis) for name, (matrix, axis) in json.loads(described["inputs"]).items()
        }
        return cls(matrices=dict(tensors), **{**described, "inputs": inputs})
