"""RegMean against least squares."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from fmn.merging.regmean import in_one_thread
from tests.merging.parts import merged


def regression(outputs=4, inputs=6, positions=30, count=3, seed=0):
    random = np.random.default_rng(seed)
    mix = random.normal(size=(count, inputs, inputs))
    xs = [random.normal(size=(positions, inputs)) @ mix[number] for number in range(count)]
    return xs, [random.normal(size=(outputs, inputs)) for _ in range(count)]


def least_squares(xs, weights, lambdas):
    """Minimise Σ λ ‖X W*ᵀ - X Wᵀ‖²; of many minima the smallest."""
    a = np.concatenate([np.sqrt(scale) * x for x, scale in zip(xs, lambdas, strict=True)])
    b = np.concatenate(
        [np.sqrt(scale) * x @ w.T for x, w, scale in zip(xs, weights, lambdas, strict=True)]
    )
    return np.linalg.lstsq(a, b, rcond=None)[0].T


def grams(xs):
    return tuple(x.T @ x for x in xs)


@pytest.mark.parametrize("lambdas", [(1, 1, 1), (0.2, 3, 1)])
def test_minimises_what_outputs_differ_by(lambdas):
    xs, weights = regression()
    result = merged("regmean", weights, weights=lambdas, grams=grams(xs), parameters={"alpha": 1.0})
    np.testing.assert_allclose(result, least_squares(xs, weights, lambdas), rtol=1e-9)


def test_a_weight_that_lies_the_other_way_round():
    xs, weights = regression()
    plain = merged("regmean", weights, grams=grams(xs))
    turned = merged("regmean", [weight.T for weight in weights], grams=grams(xs), inputs=0)
    np.testing.assert_allclose(turned, plain.T, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_alpha_is_the_formula(alpha):
    xs, weights = regression()
    reduced = [alpha * gram + (1 - alpha) * np.diag(np.diag(gram)) for gram in grams(xs)]
    expected = sum(w @ g for w, g in zip(weights, reduced, strict=True)) @ np.linalg.inv(
        sum(reduced)
    )
    np.testing.assert_allclose(
        merged("regmean", weights, grams=grams(xs), parameters={"alpha": alpha}),
        expected,
        rtol=1e-9,
    )


def test_models_that_are_equal_stay_bit_by_bit():
    xs, weights = regression()
    model = weights[0].astype(np.float32)
    assert merged("regmean", [model] * 3, grams=grams(xs)).tobytes() == model.tobytes()


def test_without_gram_matrices_it_is_the_mean():
    _, weights = regression()
    np.testing.assert_allclose(
        merged("regmean", weights, weights=(1, 2, 1)),
        (weights[0] + 2 * weights[1] + weights[2]) / 4,
    )


def test_an_input_that_never_comes_keeps_the_mean():
    xs, weights = regression()
    for x in xs:
        x[:, 2] = 0
    result = merged("regmean", weights, grams=grams(xs), parameters={"alpha": 1.0})
    rest = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(result[:, 2], np.mean(weights, axis=0)[:, 2], rtol=1e-12)
    expected = least_squares([x[:, rest] for x in xs], [w[:, rest] for w in weights], (1, 1, 1))
    np.testing.assert_allclose(result[:, rest], expected, rtol=1e-8)
    nothing = merged("regmean", weights, grams=[np.zeros((6, 6))] * 3)
    np.testing.assert_allclose(nothing, np.mean(weights, axis=0), rtol=1e-12)


def test_fewer_positions_than_inputs_give_the_minimum_that_is_nearest_to_the_mean():
    xs, weights = regression(positions=1, count=2)
    result = merged(
        "regmean",
        weights,
        grams=[g.astype(np.float32) for g in grams(xs)],
        parameters={"alpha": 1.0},
    )
    mean = np.mean(weights, axis=0)
    units = np.sqrt(sum(np.diag(gram) for gram in grams(xs)))
    changes = [(weight - mean) * units for weight in weights]
    expected = mean + least_squares([x / units for x in xs], changes, (1, 1)) / units
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    for x, weight in zip(xs, weights, strict=True):
        np.testing.assert_allclose(x @ result.T, x @ weight.T, rtol=1e-5)


def test_nan_is_not_hidden():
    xs, weights = regression()
    weights[1][0, 0] = np.nan
    assert np.isnan(merged("regmean", weights, grams=grams(xs))).any()


def test_blas_has_one_thread_whoever_asks():
    def threads():
        return {
            library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
        }

    before = threads()
    with ThreadPoolExecutor(8) as pool:
        assert all(
            counts == {1} for counts in pool.map(lambda _: in_one_thread(threads), range(50))
        )
    assert threads() == before
