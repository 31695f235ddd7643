"""Estimates as data: what was computed of a model, from what, and its file."""

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
from fmn.reading import read_json
from fmn.statistics import Measurement

Labels = Literal["true", "expected", "sampled"]
Placement = Literal["after-activation", "before-activation"]
Aggregation = Literal["per-example", "per-batch"]

FORMAT_VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Estimate(ABC):
    """A statistic that was computed in this process; it goes into a merge, or into a file.

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

    def measurement(self) -> Measurement:
        """Return it as a merge takes it."""
        arrays = {name: checkpoint.as_array(tensor) for name, tensor in self.tensors()}
        return Measurement(arrays, self.metadata())

    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write a safetensors file, atomically.

        Raises:
            OutputError: it exists already (unless ``replace``), or cannot be written.
        """
        measured = self.measurement()
        with checkpoint.new_file(Path(path), replace=replace) as staging:
            checkpoint.write(staging, measured.tensors, dict(measured.metadata))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that :meth:`save` wrote.

        Raises:
            CheckpointError: no such file, or a truncated one.
            FisherError: a file of another kind or format.
        """
        arrays, metadata = checkpoint.read(Path(path))
        kind, version = metadata.get("kind"), metadata.get("format_version")
        expected = getattr(cls, "kind", kind or "statistic")
        if kind != expected or version != FORMAT_VERSION:
            raise FisherError(
                f"{path} is not a {expected} of format {FORMAT_VERSION} (it says kind {kind!r}, "
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
class MaskFisher(Estimate):
    """Fisher information of a model's mask nodes.

    See section 3 of Fisher Mask Nodes for Language Model Merging.

    Attributes:
        nodes: from (layer, kind of node) to the values of that layer's nodes, float32 [nodes]:
            ``attention`` and ``cross_attention`` have one per head, on its slice of the context;
            ``feed_forward`` one per neuron; ``key_value``, where heads share keys and values, one
            per group, which scales all heads of the group. A layer has the kinds that its
            family's description gives it. Beyond the paper's there may be, by what they were
            chosen by, ``…_channels``, ``…_values`` and ``…_columns``, after the block that they
            are in, and ``layer``, which is one node.
        examples: how many examples it is the mean over.
        labels: ``true``, ``expected`` or ``sampled``.
        placement: of the feed-forward node: ``after-activation`` or ``before-activation``.
        aggregation: ``per-example`` or ``per-batch``.
        model_type: the family.
        model: digest of the model's weights, empty if the Fisher was made from a model in memory.
        data: what the examples were, empty if unknown.
    """

    kind: ClassVar[str] = "mask-fisher"

    nodes: dict[tuple[int, str], Tensor]
    labels: Labels = field()
    placement: Placement = "after-activation"
    aggregation: Aggregation = "per-example"

    def of(self, kind: str) -> dict[int, Tensor]:
        """Return the values of one kind of node, by layer; empty where the model has none."""
        return {layer: values for (layer, each), values in self.nodes.items() if each == kind}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over ``layer.{l}.{kind of node}``, in alphabetical order."""
        named = {f"layer.{layer}.{kind}": values for (layer, kind), values in self.nodes.items()}
        yield from sorted(named.items(), key=lambda item: item[0])

    @classmethod
    def _build(cls, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> Self:
        nodes: dict[tuple[int, str], Tensor] = {}
        for name, values in tensors.items():
            _, layer, kind = name.split(".")
            nodes[int(layer), kind] = values
        return cls(nodes=nodes, **described)


@dataclass(frozen=True, kw_only=True)
class DiagonalFisher(Estimate):
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
class GramMatrices(Estimate):
    """Gram matrices of what goes into the linear layers of a model.

    See Jin et al. 2023, https://arxiv.org/abs/2212.09849.

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
        pairs = read_json(described["inputs"], "inputs").items()
        inputs = {name: (matrix, axis) for name, (matrix, axis) in pairs}
        return cls(matrices=dict(tensors), **{**described, "inputs": inputs})


@dataclass(frozen=True, kw_only=True)
class PlainEstimate(Estimate):
    """A statistic that needs no class of its own: tensors by name.

    What the estimator of another package returns, unless it has more to say.

    Attributes:
        kind: the name of the statistic.
        values: from the name that a tensor has in the file to the tensor.
        examples: how many examples it is computed from.
        model_type: the family.
        model: digest of the model's weights, empty if it was made from a model in memory.
        data: what the examples were, empty if unknown.
    """

    kind: str  # type: ignore[misc]  # of the class elsewhere, here of each one

    values: dict[str, Tensor]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the tensors, in the alphabetical order of their names."""
        yield from sorted(self.values.items(), key=lambda item: item[0])

    @classmethod
    def _build(cls, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> Self:
        return cls(values=dict(tensors), **described)
