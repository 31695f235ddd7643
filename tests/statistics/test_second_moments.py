"""Files of second moments that do not fit a model, and what a rule gets of one that does."""

import numpy as np
import pytest

from fmn.errors import FisherError
from fmn.fisher import second_moments
from fmn.fisher.session import describe
from fmn.statistics import Backbone, Measurement, get_statistic
from tests.families import examples, pad, tiny

MOMENTS = get_statistic("second-moments")


@pytest.fixture(params=["bert", "gpt2"])
def measured(request):
    """A model's backbone and its measurement."""
    model = tiny(request.param)
    estimate = second_moments(model, [pad(examples(model))])
    subject = describe(model)
    tensors = {name: value.detach().numpy() for name, value in subject.parameters.items()}
    backbone = Backbone(
        subject.architecture,
        tuple(subject.layers),
        tensors,
        lambda name: getattr(model.config, name),
    )
    return backbone, estimate.measurement()


def changed(measurement, **tensors):
    return Measurement({**measurement.tensors, **tensors}, measurement.metadata)


def test_a_rule_gets_what_it_can_multiply_a_matrix_with(measured):
    backbone, measurement = measured
    assert list(MOMENTS.offences(measurement, backbone)) == []
    (read,) = MOMENTS.per_parameter([measurement], backbone, {})
    axes = {name: axis for layer in backbone.layers for name, axis in layer.inputs().items()}
    for name, (count,) in MOMENTS.layout(backbone).items():
        matrix = backbone.tensors[name]
        expected = [1, 1]
        expected[axes[name]] = count
        assert read(name, matrix.shape, ...).shape == tuple(expected)
    assert read("embeddings.LayerNorm.weight", (16,), ...) is None


def test_a_file_that_does_not_fit_names_the_weight(measured):
    backbone, measurement = measured
    name = next(iter(MOMENTS.layout(backbone)))
    (offence,) = MOMENTS.offences(changed(measurement, **{name: np.ones(3)}), backbone)
    assert f"for {name} are of shape [3], expected" in offence


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -1.0])
def test_broken_values_are_refused_when_they_are_asked_for(measured, broken):
    backbone, measurement = measured
    name, shape = next(iter(MOMENTS.layout(backbone).items()))
    spoilt = changed(measurement, **{name: np.full(shape, broken)})
    (read,) = MOMENTS.per_parameter([spoilt], backbone, {})
    with pytest.raises(FisherError, match="are broken"):
        read(name, backbone.shapes[name], ...)
