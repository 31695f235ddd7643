"""The full diagonal Fisher: a value per parameter of the backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fmn.errors import FisherError
from fmn.params import MemorySettings
from fmn.recipe import FisherSettings
from fmn.statistics.statistic import Array, At, Backbone, Measurement, PerParameter, Statistic
from fmn.statistics.weights import ONE, is_sound, normalized


class DiagonalFisherStatistic(Statistic):
    """The diagonal of a backbone's Fisher information; tensors are those of the parameters."""

    name = "diagonal-fisher"
    option = "diagonal"
    title = "diagonal Fisher"
    paper = "Matena and Raffel 2022, https://arxiv.org/abs/2111.09832"
    settings = ("labels",)
    labels = "expected"
    language_labels = "sampled"
    estimator = "fmn.fisher:diagonal_fisher"
    how = "'fmn fisher --kind diagonal' or fmn.diagonal_fisher"

    def check(
        self, settings: FisherSettings, memory: MemorySettings, *, is_language: bool = False
    ) -> None:
        """Refuse what would save memory: a diagonal Fisher is as large as the model anyhow.

        Raises:
            FisherError: that was asked for.
        """
        if memory.checkpointing or memory.device_map:
            raise FisherError(
                "checkpointing and device maps are for mask Fishers; leave them out, or take a "
                "mask Fisher"
            )

    def layout(self, backbone: Backbone) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every parameter of the backbone."""
        return backbone.shapes

    def offences(self, measurement: Measurement, backbone: Backbone) -> Iterator[str]:
        """Check shapes; parts that no class of model has any more may be without a Fisher."""
        optional = backbone.architecture.optional
        expected = {
            name: tensor
            for name, tensor in backbone.tensors.items()
            if name in measurement.tensors or not name.startswith(optional)
        }
        reduced = Backbone(backbone.architecture, backbone.layers, expected, backbone.setting)
        return super().offences(measurement, reduced)

    def per_parameter(
        self,
        measurements: Sequence[Measurement],
        backbone: Backbone,
        parameters: Mapping[str, Any],
    ) -> Sequence[PerParameter]:
        """Return each parameter's own Fisher; 1 for those that some model's Fisher lacks."""
        normalize = parameters.get("normalize", "none")
        everywhere = set.intersection(*(set(each.tensors) for each in measurements))

        def reader(tensors: Mapping[str, Array], scale: Array) -> PerParameter:
            def importance(name: str, shape: tuple[int, ...], at: At) -> Array:
                if name not in everywhere:
                    return ONE
                values = tensors[name][at] if scale is ONE else tensors[name][at] / scale
                if not is_sound(values):  # seen here, piece by piece: the file is large
                    raise FisherError(
                        f"its Fisher of {name} holds NaN, infinite or negative values; compute it "
                        "again"
                    )
                return values

            return importance

        return [reader(each.tensors, normalized(each.tensors, normalize)) for each in measurements]
