"""Files of Gram matrices that do not fit a model."""

import numpy as np
import pytest

from fmn import architectures
from fmn.statistics import Backbone, Measurement, get_statistic

SHAPES = {"a.weight": (4, 6), "b.weight": (6, 4)}


def offences(inputs):
    backbone = Backbone(
        architectures.get("bert"),
        (),
        {name: np.zeros(shape) for name, shape in SHAPES.items()},
        {}.get,
    )
    matrix = {"a.weight": np.zeros((6, 6), np.float32)}
    gram = get_statistic("gram")
    return list(gram.offences(Measurement(matrix, {"inputs": inputs}), backbone))


def test_a_matrix_of_either_axis_fits():
    assert offences('{"a.weight": ["a.weight", 1], "b.weight": ["a.weight", 0]}') == []


@pytest.mark.parametrize("inputs", ["{}", "", "[1]", '{"a": 1}'])
def test_a_file_that_does_not_say_for_which_parameters_it_is(inputs):
    (offence,) = offences(inputs)
    assert "does not say for which parameters" in offence


@pytest.mark.parametrize(
    "inputs",
    [
        '{"b.weight": ["a.weight", 1]}',
        '{"c.weight": ["a.weight", 1]}',
        '{"a.weight": ["b.weight", 1]}',
    ],
)
def test_a_matrix_that_does_not_fit_its_weight(inputs):
    (offence,) = offences(inputs)
    assert "is it of this model?" in offence
