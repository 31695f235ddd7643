"""A head's first map, fitted in closed form, against explicit normal equations and folds."""

import numpy as np
import pytest

from fmn.errors import MergeError
from fmn.merging.heads import RIDGES, refit

RANDOM = np.random.default_rng(0)


def problem(examples=12, inputs=5, outputs=3, *, drift=0.3, bias=True):
    """States of a merged backbone, what the model said of its own, and its map."""
    own = RANDOM.normal(size=(outputs, inputs))
    b = RANDOM.normal(size=outputs) if bias else None
    before = RANDOM.normal(size=(examples, inputs)) + 1
    turn = np.eye(inputs) + drift * RANDOM.normal(size=(inputs, inputs))
    outputs_before = before @ own.T + (0 if b is None else b)
    return before @ turn, outputs_before + 0.01 * RANDOM.normal(size=outputs_before.shape), own, b


def explicit(x, y, own, bias, r):
    """The normal equations, with a column of ones that no ridge pulls at."""
    ones = np.ones((len(x), 0 if bias is None else 1))
    wide = np.hstack([x, ones])
    pull = np.diag([r] * x.shape[1] + [0.0] * ones.shape[1])
    left = y - x @ own.T - (0 if bias is None else bias)
    change = np.linalg.solve(wide.T @ wide + pull, wide.T @ left)
    weight = own + change[: x.shape[1]].T
    return weight, None if bias is None else bias + change[-1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("examples", [12, 4])
def test_the_map_is_that_of_the_normal_equations_and_its_error_that_of_examples_left_out(
    bias, examples
):
    x, y, own, b = problem(examples, bias=bias)
    scale = np.mean(np.diag(x.T @ x))
    for ridge in (0.01, 0.3):
        fitted = refit(x, y, own, b, ridges=(ridge,))
        r = ridge * scale
        weight, moved = explicit(x, y, own, b, r)
        errors = []
        for row in range(len(x)):
            others = np.arange(len(x)) != row
            w, c = explicit(x[others], y[others], own, b, r)
            errors.append(x[row] @ w.T + (0 if c is None else c) - y[row])
        assert fitted.ridge == ridge
        np.testing.assert_allclose(fitted.weight, weight, rtol=1e-8)
        assert (fitted.bias is None) == (b is None)
        if b is not None:
            np.testing.assert_allclose(fitted.bias, moved, rtol=1e-7)
        assert fitted.error == pytest.approx(np.mean(np.square(errors)), rel=1e-8)
        own_left = y - x @ own.T - (0 if b is None else b)
        assert fitted.own_error == pytest.approx(np.mean(own_left**2))


def test_the_ridge_is_the_one_that_leaves_the_least():
    x, y, own, b = problem(20)
    each = {ridge: refit(x, y, own, b, ridges=(ridge,)).error for ridge in RIDGES}
    fitted = refit(x, y, own, b)
    assert fitted.ridge == min(each, key=each.get)
    assert fitted.error == min(each.values()) < fitted.own_error


def test_the_own_map_stays_where_nothing_does_better():
    x, _, own, b = problem(6)
    noise = RANDOM.normal(size=(6, 3))
    fitted = refit(x, x @ own.T + b + noise - noise.mean(0), own, b)
    assert fitted.ridge is None
    assert fitted.error == fitted.own_error
    assert np.array_equal(fitted.weight, own)
    assert np.array_equal(fitted.bias, b)
    alone = refit(x[:2], RANDOM.normal(size=(2, 3)), own, b)
    assert alone.ridge is None, "two examples are too few to leave one out"


def test_inputs_of_low_rank_and_repeated_examples_are_fitted():
    x, y, own, b = problem(12)
    flat = np.repeat(x[:3], 4, axis=0) * [1, 0, 1, 0, 1]
    fitted = refit(flat, y, own, b)
    assert np.isfinite(fitted.weight).all()
    assert np.isfinite(fitted.error)


def test_a_map_with_the_states_of_another_model_is_refused():
    x, y, own, b = problem()
    with pytest.raises(MergeError, match="do not fit a head of shape"):
        refit(x[:, :4], y, own, b)
    with pytest.raises(MergeError, match="NaN"):
        refit(x * np.nan, y, own, b)
