"""SLERP and model stock against their formulas."""

import numpy as np
import pytest

from fmn.merging.angles import PARALLEL, _cosine, _dot
from tests.merging.parts import fine_tunes, merged


def test_slerp_keeps_length_and_turns_at_an_even_pace():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 5, 6))
    one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
    angle = np.arccos((one * other).sum())
    for t in (0.1, 0.5, 0.75):
        result = merged("slerp", [one, other], weights=(1 - t, t))
        assert np.linalg.norm(result) == pytest.approx(1, abs=1e-12)
        assert np.arccos((one * result).sum()) == pytest.approx(t * angle, abs=1e-12)


def test_slerp_is_the_formula_for_any_lengths():
    random = np.random.default_rng(1)
    one, other = random.normal(size=40), random.normal(size=40) * 7
    angle = np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    expected = (np.sin(0.75 * angle) * one + np.sin(0.25 * angle) * other) / np.sin(angle)
    np.testing.assert_allclose(merged("slerp", [one, other], weights=(3, 1)), expected, rtol=1e-12)


def at_angle(cosine):
    return np.array([1.0, 0.0]), np.array([cosine, np.sqrt(1 - cosine**2)])


@pytest.mark.parametrize(
    ("cosine", "is_line"),
    [(PARALLEL + 1e-5, True), (PARALLEL - 1e-5, False), (-PARALLEL - 1e-5, True)],
)
def test_slerp_of_nearly_parallel_models_is_the_mean(cosine, is_line):
    one, other = at_angle(cosine)
    line = 0.75 * one + 0.25 * other
    result = merged("slerp", [one, other], weights=(3, 1))
    assert np.allclose(result, line, rtol=0, atol=1e-14) == is_line
    np.testing.assert_allclose(result, line, atol=1.3e-4)


@pytest.mark.parametrize("other", [np.zeros(4), np.full(4, np.nan)])
def test_slerp_without_an_angle_is_the_mean(other):
    np.testing.assert_array_equal(
        merged("slerp", [np.arange(4.0), other]), (np.arange(4.0) + other) / 2
    )


def test_slerp_of_equal_models_is_the_model_bit_by_bit():
    model = fine_tunes(1, dtype="float32")[1][0]
    assert merged("slerp", [model, model], weights=(0.3, 0.6)).tobytes() == model.tobytes()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_model_stock_is_the_formula(count):
    parent, _ = fine_tunes()
    common, random = np.random.default_rng(2).normal(size=parent.shape), np.random.default_rng(3)
    models = [
        parent + common + random.normal(size=parent.shape) * (1 + number) for number in range(count)
    ]
    vectors = [(model - parent).ravel() for model in models]
    pairs = [(a, b) for number, a in enumerate(vectors) for b in vectors[:number]]
    cosine = np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])
    t = count * cosine / (1 + (count - 1) * cosine)
    assert 0 < t < 1
    np.testing.assert_allclose(
        merged("model-stock", models, parent),
        t * np.mean(models, axis=0) + (1 - t) * parent,
        rtol=1e-12,
    )


def test_model_stock_is_the_foot_of_the_perpendicular():
    """Fine-tunes on a sphere around a centre, as the paper has them: the result is the nearest
    point to the centre."""
    parent, centre = np.zeros(5), np.array([3.0, 0, 0, 0, 0])
    models = [centre + 2 * np.eye(5)[axis] for axis in (1, 2, 3)]
    result = merged("model-stock", models, parent)
    mean = np.mean(models, axis=0)
    assert (centre - result) @ (mean - parent) == pytest.approx(0, abs=1e-12)


def test_model_stock_of_one_model_is_it_and_of_the_parent_the_parent():
    parent, models = fine_tunes(2)
    np.testing.assert_allclose(merged("model-stock", models[:1], parent), models[0], rtol=1e-14)
    parent = parent.astype("float32")
    assert merged("model-stock", [parent, parent], parent).tobytes() == parent.tobytes()


def test_model_stock_of_opposite_ways_stays_at_the_parent():
    parent = np.ones(3)
    result = merged("model-stock", [np.array([2.0, 1, 1]), np.array([0.5, 1, 1])], parent)
    np.testing.assert_array_equal(result, parent)


def test_products_are_wide_and_of_any_shape():
    tensor = np.full((3, 2**18), 1e-3, np.float16)
    assert _dot(tensor, tensor) == pytest.approx(
        3 * 2**18 * float(np.float16(1e-3)) ** 2, rel=1e-12
    )
    assert _cosine(np.array(2.0), np.array(-3.0)) == -1
    assert np.isnan(_cosine(np.zeros(2), np.ones(2)))
