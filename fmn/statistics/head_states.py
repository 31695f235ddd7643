"""What each model's head says before its non-linearity: what a refitted head is to say again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fmn.statistics.statistic import Backbone, Measurement, PerParameter, Statistic

HEAD_STATES = "head-states"


class HeadStatesStatistic(Statistic):
    """A row for each training example, of the first linear map outside of what models share.

    Heads are refitted with it; it weighs no parameters, so no merge rule can use it.
    """

    name = HEAD_STATES
    title = "head states"
    paper = "for ridge regression with PRESS, Allen 1974, https://doi.org/10.1080/00401706.1974.10489157"
    estimator = "fmn.fisher:head_states"

    def layout(self, backbone: Backbone) -> Mapping[str, tuple[int, ...]]:
        """Return a matrix, with as many channels as the backbone has, for one example."""
        return {"outputs": (1, int(backbone.setting(backbone.architecture.hidden)))}

    def nbytes(self, backbone: Backbone, examples: int = 1) -> int:
        """Return about how many bytes so many rows take, in float32."""
        return examples * super().nbytes(backbone)

    def offences(self, measurement: Measurement, backbone: Backbone) -> Iterator[str]:
        """Check that there is a row an example."""
        outputs = measurement.tensors.get("outputs")
        rows = measurement.metadata.get("examples")
        if outputs is None or outputs.ndim != 2 or str(len(outputs)) != rows:
            had = "none" if outputs is None else f"of shape {list(outputs.shape)}"
            yield f"its {self.title} are {had}, expected {rows} rows; compute them again"

    def per_parameter(
        self,
        measurements: Sequence[Measurement],
        backbone: Backbone,
        parameters: Mapping[str, Any],
    ) -> Sequence[PerParameter]:
        """Return None of any parameter: it is about examples."""
        return [lambda name, shape, at: None for _ in measurements]
