import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fmn.errors import ParamsError
from fmn.merging import Part, get_rule, rule_names, weighted_mean

finite = st.floats(-1e3, 1e3, width=64)


@st.composite
def cases(draw):
    """M models of one small tensor, with Fishers per element, per row or per tensor, some of them
    zero."""
    count, shape = draw(st.integers(1, 6)), draw(st.sampled_from([(4,), (3, 5), (1, 2)]))
    tensors = [draw(hnp.arrays(np.float64, shape, elements=finite)) for _ in range(count)]
    fisher_shape = draw(st.sampled_from([shape, (shape[0], *[1] * (len(shape) - 1)), ()]))
    positive = st.one_of(st.just(0.0), st.floats(1e-12, 1e6))
    fishers = [draw(hnp.arrays(np.float64, fisher_shape, elements=positive)) for _ in range(count)]
    weights = [draw(st.floats(0.01, 10)) for _ in range(count)]
    return tensors, fishers, weights


@settings(max_examples=200, deadline=None)
@given(cases())
def test_is_the_formula(case):
    tensors, fishers, weights = case
    numerator = sum(w * f * t for w, f, t in zip(weights, fishers, tensors, strict=True))
    denominator = sum(w * f for w, f in zip(weights, fishers, strict=True)) * np.ones_like(
        tensors[0]
    )
    mean = sum(w * t for w, t in zip(weights, tensors, strict=True)) / sum(weights)
    with np.errstate(all="ignore"):
        expected = np.where(denominator > 0, numerator / denominator, mean)
    scale = max(1.0, *(float(np.abs(t).max()) for t in tensors))
    np.testing.assert_allclose(
        weighted_mean(tensors, fishers, weights), expected, rtol=1e-9, atol=1e-12 * scale
    )


@settings(max_examples=50, deadline=None)
@given(cases())
def test_equal_fishers_and_weights_give_the_average(case):
    tensors, fishers, _ = case
    merged = weighted_mean(tensors, [fishers[0]] * len(tensors), [0.3] * len(tensors))
    np.testing.assert_allclose(merged, np.mean(tensors, axis=0), rtol=1e-12, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_what_is_equal_in_all_models_stays_bit_by_bit(case):
    tensors, fishers, weights = case
    assert np.array_equal(weighted_mean([tensors[0]] * len(tensors), fishers, weights), tensors[0])


@settings(max_examples=50, deadline=None)
@given(cases())
def test_the_result_lies_between_the_models(case):
    tensors, fishers, weights = case
    merged = weighted_mean(tensors, fishers, weights)
    slack = 1e-9 * max(1.0, *(float(np.abs(t).max()) for t in tensors))
    assert (merged >= np.min(tensors, axis=0) - slack).all()
    assert (merged <= np.max(tensors, axis=0) + slack).all()


@pytest.mark.parametrize(
    ("dtype", "wide"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_accumulates_in_float32_or_wider(dtype, wide):
    tensors = [np.full(3, value, dtype) for value in (1.0, 2.0)]
    merged = weighted_mean(tensors, [np.ones(())] * 2, [1, 1])
    assert merged.dtype == wide
    np.testing.assert_allclose(merged, 1.5)


def test_tiny_fishers_do_not_vanish():
    tensors = [np.zeros(2, np.float32), np.ones(2, np.float32)]
    merged = weighted_mean(tensors, [np.full(2, 1e-40), np.full(2, 3e-40)], [1, 1])
    np.testing.assert_allclose(merged, 0.75, rtol=1e-6)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(
        ParamsError, match="unknown merge method 'mask-fischer'; did you mean 'mask-fisher'"
    ):
        get_rule("mask-fischer")
    assert {"average", "fisher", "mask-fisher"} < set(rule_names())


@settings(max_examples=50, deadline=None)
@given(cases(), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.3, 1.0, 1.7]))
def test_tempered_and_away_from_the_parent(case, temper, distance):
    tensors, fishers, weights = case
    parent = np.full_like(tensors[0], 0.25)
    rule = get_rule("mask-fisher")
    part = Part(
        "layer.weight",
        tuple(tensors),
        tuple(weights),
        {"mask-fisher": tuple(fishers)},
        parent,
        parameters=rule.settings({"temper": temper, "distance": distance}),
    )
    mean = weighted_mean(tensors, [fisher**temper for fisher in fishers], weights)
    largest = max(1.0, *(float(np.abs(tensor).max()) for tensor in tensors))
    np.testing.assert_allclose(
        rule.combine(part), parent + distance * (mean - parent), atol=1e-12 * largest
    )


@pytest.mark.parametrize("method", ["fisher", "mask-fisher"])
def test_a_parent_is_needed_to_go_from_and_keys_have_no_default_that_came_later(method):
    rule = get_rule(method)
    plain, farther = rule.given({}), rule.given({"distance": 1.3, "temper": None})
    assert (plain.parent, farther.parent) == (False, True)
    assert plain.statistics == farther.statistics == rule.statistics
    assert not {"distance", "temper"} & rule.said(rule.settings({})).keys()
    said = rule.said(rule.settings({"distance": 1.3, "temper": 0.5}))
    assert (said["distance"], said["temper"]) == (1.3, 0.5)
    with pytest.raises(ParamsError, match="distance: 0 is impossible"):
        rule.given({"distance": 0})
