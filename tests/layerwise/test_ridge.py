"""Ridge regression from sums, against one that has the rows."""

import numpy as np
import pytest

from fmn.layerwise.ridge import RIDGES, Affine, Sums, fit, fit_affine


def rows(free, seed=0, count=40, inputs=6, outputs=3, noise=0.3):
    generator = np.random.default_rng(seed)
    x = generator.normal(1.0, 1.0, (count, inputs)) @ generator.normal(size=(inputs, inputs))
    if free:
        x = np.hstack([x, np.ones((count, 1))])
    truth = generator.normal(size=(x.shape[1], outputs))
    start = truth + generator.normal(size=truth.shape) * 0.5
    return x, x @ truth + generator.normal(size=(count, outputs)) * noise, start


def sums(x, y):
    return [Sums(x[half::2].T @ x[half::2], x[half::2].T @ y[half::2]) for half in (0, 1)]


def solved(x, y, start, ridge, free):
    """W by the normal equations: the bias, the last row, is not penalised."""
    pulled = len(start) - free
    pull = ridge * np.mean(np.diag(x.T @ x)[:pulled]) * np.eye(len(start))
    pull[pulled:] = 0
    return start + np.linalg.solve(x.T @ x + pull, x.T @ (y - x @ start))


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("ridge", [1e-3, 0.5, 30.0])
def test_a_given_ridge_solves_the_normal_equations(free, ridge):
    x, y, start = rows(free)
    weight, taken = fit(sums(x, y), start, ridge, free=free)
    assert taken == ridge
    np.testing.assert_allclose(weight, solved(x, y, start, ridge, free), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("noise", [0.01, 3.0])
def test_the_ridge_is_the_one_with_the_least_error_on_the_other_half(free, noise):
    x, y, start = rows(free, noise=noise)

    def error(ridge):
        total = 0.0
        for half in (0, 1):
            weight = solved(x[half::2], y[half::2], start, ridge, free)
            total += np.sum((x[1 - half :: 2] @ weight - y[1 - half :: 2]) ** 2)
        return total

    _, taken = fit(sums(x, y), start, None, free=free)
    assert taken == min(RIDGES, key=error)


@pytest.mark.parametrize("free", [True, False])
def test_a_start_that_nothing_betters_stays(free):
    x, _, start = rows(free)
    noise = np.random.default_rng(1).normal(size=(len(x), start.shape[1]))
    noise[1::2] = -noise[::2]
    x[1::2] = x[::2]  # what helps one half harms the other
    weight, taken = fit(sums(x, x @ start + noise), start, None, free=free)
    assert taken is None
    assert weight is start


def test_inputs_that_are_all_0_teach_nothing():
    x, y, start = rows(free=True)
    x[:, :-1] = 0
    weight, _ = fit(sums(x, y), start, 0.0, free=True)
    np.testing.assert_array_equal(weight[:-1], start[:-1])
    np.testing.assert_allclose(weight[-1], y.mean(0))


@pytest.mark.parametrize("shifted", [True, False])
def test_scales_and_shifts_are_ridge_regressions_of_a_channel(shifted):
    generator = np.random.default_rng(0)
    x, y = generator.normal(0.5, 1.0, (2, 50, 4))
    halves = [Affine.of(x[half::2], y[half::2]) for half in (0, 1)]
    (scale, shift), taken = fit_affine(halves, np.ones(4), 0.2, shifted=shifted)
    assert taken == 0.2
    pull = 0.2 * (x * x).sum(0).mean()
    for channel in range(4):
        wide = np.stack([x[:, channel], np.ones(50)], 1)[:, : 1 + shifted]
        expected = np.linalg.solve(
            wide.T @ wide + np.diag([pull, 0.0][: 1 + shifted]), wide.T @ y[:, channel]
        )
        np.testing.assert_allclose([scale[channel], shift[channel]][: 1 + shifted], expected)
    assert shifted or not shift.any()
    nothing = [Affine.of(x[half::2], 0 * x[half::2]) for half in (0, 1)]
    assert fit_affine(nothing, np.ones(4), None, shifted=shifted)[1] is None
