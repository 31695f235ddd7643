"""Gram matrices of what goes into linear layers, with which RegMean solves its regressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fmn.errors import FisherError
from fmn.reading import read_json
from fmn.statistics.statistic import Array, At, Backbone, Measurement, PerParameter, Statistic


class Gram(NamedTuple):
    """What a rule gets of Gram matrices for a parameter.

    Attributes:
        matrix: Σ x xᵀ, [inputs, inputs].
        axis: of the parameter that the inputs lie along: 1 for a Linear, 0 for a Conv1D.
    """

    matrix: Array
    axis: int


class GramStatistic(Statistic):
    """A matrix per tensor that linear layers read, named after the first weight that reads it.

    The metadata ``inputs`` say, as JSON, from each weight's backbone-relative name to its matrix's
    name and the axis of the weight that the inputs lie along.
    """

    name = "gram"
    option = "gram"
    title = "Gram matrices"
    paper = "Jin et al. 2023, https://arxiv.org/abs/2212.09849"
    memory = ("device_map",)
    estimator = "fmn.fisher:gram_matrices"
    how = "'fmn fisher --kind gram' or fmn.gram_matrices"

    def layout(self, backbone: Backbone) -> Mapping[str, tuple[int, ...]]:
        """Return a matrix for what each block reads, and for what its output projection reads.

        Linear layers that the family's description does not name come on top.
        """
        hidden = int(backbone.setting(backbone.architecture.hidden))
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in backbone.layers:
            for block in layer.blocks:
                inside = layer.sizes.nodes(block.unit) * layer.sizes.channels(block.unit)
                first = block.first(backbone.tensors).parameter
                shapes |= {first: (hidden, hidden), block.output[0].parameter: (inside, inside)}
        return shapes

    def offences(self, measurement: Measurement, backbone: Backbone) -> Iterator[str]:
        """Check that every matrix fits the weight that it is for."""
        where = _where(measurement)
        if not where:
            yield (
                "its file does not say for which parameters the Gram matrices are; make it with "
                f"{self.how}"
            )
        for name, (matrix, axis) in where.items():
            shape, tensor = backbone.shapes.get(name), measurement.tensors.get(matrix)
            fits = (
                shape is not None
                and tensor is not None
                and axis in (0, 1)
                and len(shape) == 2
                and tensor.shape == (shape[axis],) * 2
            )
            if not fits:
                had = "none" if tensor is None else f"one of shape {list(tensor.shape)}"
                yield (
                    f"its Gram matrix for {name} of shape {list(shape or ())} along axis {axis} is "
                    f"{had}; is it of this model?"
                )
                return

    def unlike(self, one: Mapping[str, str], other: Mapping[str, str]) -> str:
        """Say whether they are for the same parameters."""
        return "" if one.get("inputs") == other.get("inputs") else "for other parameters"

    def per_parameter(
        self,
        measurements: Sequence[Measurement],
        backbone: Backbone,
        parameters: Mapping[str, Any],
    ) -> Sequence[PerParameter]:
        """Return the :class:`Gram` of a weight of a linear layer, None of any other parameter."""

        def reader(measurement: Measurement) -> PerParameter:
            where = _where(measurement)

            def gram(name: str, shape: tuple[int, ...], at: At) -> Gram | None:
                if name not in where:
                    return None
                matrix, axis = where[name]
                values = measurement.tensors[matrix]
                if not np.isfinite(values).all() or (values.diagonal() < 0).any():
                    raise FisherError(
                        f"its Gram matrix for {name} is broken (NaN or infinite); compute it again"
                    )
                return Gram(values, axis)

            return gram

        return [reader(measurement) for measurement in measurements]


def _where(measurement: Measurement) -> dict[str, tuple[str, int]]:
    """Read where a file has each parameter's matrix; nothing where it says nothing sensible."""
    try:
        pairs = read_json(measurement.metadata.get("inputs", ""), "inputs").items()
        return {str(name): (str(matrix), int(axis)) for name, (matrix, axis) in pairs}
    except (ValueError, TypeError, AttributeError):
        return {}
