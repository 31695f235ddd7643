"""Second moments of what goes into linear layers: how much a column of a weight is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fmn.errors import FisherError
from fmn.statistics.statistic import Array, At, Backbone, Measurement, PerParameter, Statistic
from fmn.statistics.weights import is_sound


class SecondMomentsStatistic(Statistic):
    """The diagonals of the Gram matrices; tensors are named after the weights, [inputs]."""

    name = "second-moments"
    title = "second moments of inputs"
    paper = "Sun et al. 2023, https://arxiv.org/abs/2306.11695"
    memory = ("device_map",)
    estimator = "fmn.fisher:second_moments"

    def layout(self, backbone: Backbone) -> Mapping[str, tuple[int, ...]]:
        """Return a vector for each linear map of the layers that the description names.

        Linear layers that it does not name come on top.
        """
        return {
            name: (backbone.shapes[name][axis],)
            for layer in backbone.layers
            for name, axis in layer.inputs().items()
            if len(backbone.shapes.get(name, ())) == 2
        }

    def offences(self, measurement: Measurement, backbone: Backbone) -> Iterator[str]:
        """Check that every linear map has its vector."""
        for name, shape in self.layout(backbone).items():
            tensor = measurement.tensors.get(name)
            if tensor is None or tensor.shape != shape:
                had = "none" if tensor is None else f"of shape {list(tensor.shape)}"
                yield (
                    f"its {self.title} for {name} are {had}, expected {list(shape)}; is it of this "
                    "model?"
                )
                return

    def per_parameter(
        self,
        measurements: Sequence[Measurement],
        backbone: Backbone,
        parameters: Mapping[str, Any],
    ) -> Sequence[PerParameter]:
        """Return a vector that can be multiplied with a linear map's matrix; None of all else."""
        axes = {name: axis for layer in backbone.layers for name, axis in layer.inputs().items()}

        def reader(measurement: Measurement) -> PerParameter:
            def moments(name: str, shape: tuple[int, ...], at: At) -> Array | None:
                values = measurement.tensors.get(name)
                if values is None or name not in axes:
                    return None
                if not is_sound(values):
                    raise FisherError(
                        f"its {self.title} for {name} are broken (NaN, infinite or negative); "
                        "compute them again"
                    )
                return np.expand_dims(values, 1 - axes[name])

            return moments

        return [reader(measurement) for measurement in measurements]
