"""What every statistic does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fmn.checkpoint import as_array, read, setting_of
from fmn.fisher.session import describe
from fmn.params import MemorySettings
from fmn.recipe import FisherSettings
from fmn.statistics import Backbone, Measurement, Statistic


class StatisticSuite:
    """What a statistic promises, on a small model.

    Attributes:
        statistic: the statistic.
        settings: that it is computed with.
    """

    statistic: Statistic
    settings = FisherSettings()

    def model(self) -> Any:
        """Return a small BERT with random weights; another family does as well."""
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24}
        config = BertConfig(vocab_size=50, num_hidden_layers=2, num_labels=3, **sizes)
        return BertForSequenceClassification(config).eval()

    def examples(self) -> dict[str, Tensor]:
        """Return a batch of examples as the model takes them, with ``labels``."""
        generator = torch.Generator().manual_seed(0)
        return {
            "input_ids": torch.randint(50, (4, 7), generator=generator),
            "attention_mask": torch.ones(4, 7, dtype=torch.long),
            "labels": torch.randint(3, (4,), generator=generator),
        }

    def compute(self, batches: list[dict[str, Tensor]]) -> Any:
        """Compute it as ``fmn fisher`` does."""
        options = self.statistic.options(self.settings, MemorySettings())
        return self.statistic.compute()(
            self.model(), iter(batches), progress=lambda done: None, **options
        )

    @pytest.fixture
    def backbone(self) -> Backbone:
        """The model's backbone, as a merge has it."""
        model = self.model()
        subject = describe(model)
        tensors = {name: as_array(each) for name, each in subject.parameters.items()}
        config = model.config
        return Backbone(
            subject.architecture, subject.layers, tensors, lambda name: setting_of(config, name)
        )

    @pytest.fixture
    def measurement(self) -> Measurement:
        """It, computed of the model."""
        computed: Measurement = self.compute([self.examples()]).measurement()
        return computed

    def test_it_is_what_it_says(self, measurement: Measurement, backbone: Backbone) -> None:
        """The file names its kind, fits the model, and has no NaN."""
        assert measurement.kind == self.statistic.name
        assert measurement.metadata["examples"] == "4"
        assert list(self.statistic.offences(measurement, backbone)) == []
        assert all(np.isfinite(tensor).all() for tensor in measurement.tensors.values())
        size = sum(tensor.nbytes for tensor in measurement.tensors.values())
        assert size == pytest.approx(self.statistic.nbytes(backbone, 4), rel=0.5)

    def test_batches_change_nothing(self, measurement: Measurement) -> None:
        """Each example counts by itself, whatever it shares a batch with."""
        examples = self.examples()
        split = [{name: t[at] for name, t in examples.items()} for at in (slice(1), slice(1, 4))]
        for name, tensor in self.compute(split).measurement().tensors.items():
            np.testing.assert_allclose(tensor, measurement.tensors[name], rtol=1e-4, atol=1e-10)

    def test_a_file_is_read_as_it_was_written(
        self, measurement: Measurement, tmp_path: Path
    ) -> None:
        """It is a safetensors file with what it says of itself."""
        self.compute([self.examples()]).save(tmp_path / "statistic.safetensors")
        tensors, metadata = read(tmp_path / "statistic.safetensors")
        assert Measurement(tensors, metadata).digest == measurement.digest
        assert metadata.items() >= measurement.metadata.items()

    def test_a_file_that_lacks_a_tensor_is_refused(
        self, measurement: Measurement, backbone: Backbone
    ) -> None:
        """Before a merge reads any."""
        name = min(measurement.tensors)
        rest = {each: tensor for each, tensor in measurement.tensors.items() if each != name}
        (offence, *_) = self.statistic.offences(Measurement(rest, measurement.metadata), backbone)
        assert "\n" not in offence

    def test_its_settings_can_be_written_into_a_key(self) -> None:
        """Everything that changes its values is in it, and is plain."""
        taken = self.statistic.taken(self.settings)
        assert json.loads(json.dumps(taken)) == taken
        assert set(self.statistic.settings) <= set(FisherSettings.model_fields)
        assert self.statistic.unlike({}, {}) == ""

    def test_a_rule_gets_something_for_every_parameter(
        self, measurement: Measurement, backbone: Backbone
    ) -> None:
        """Of a whole parameter and of some of its rows; an array is broadcastable to them."""
        (reader,) = self.statistic.per_parameter([measurement], backbone, {})
        for name, shape in backbone.shapes.items():
            for at in (..., slice(0, 1)):
                value = reader(name, shape, at)
                if isinstance(value, np.ndarray):
                    rows = np.empty(shape)[at].shape
                    assert np.broadcast_shapes(value.shape, rows) == rows, name
