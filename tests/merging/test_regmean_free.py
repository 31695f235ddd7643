"""RegMean without data against its normal equations, and WUDI's objective."""

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import minimize

from fmn.merging.regmean_free import BLOCK
from tests.merging.parts import fine_tunes, merged

LAMBDAS = (1.0, 0.5, 2.0)


def by_equations(models, parent, weights, reduction=0.9, ridge=1e-3):
    """Write the Gram matrices out, entry by entry, and invert."""
    mean = sum(w * m for w, m in zip(weights, models, strict=True)) / sum(weights)
    change, total = 0, 0
    for model, weight in zip(models, weights, strict=True):
        vector = model - parent
        gram = np.array(
            [
                [
                    (1 if i == j else reduction) * vector[:, i] @ vector[:, j]
                    for j in range(vector.shape[1])
                ]
                for i in range(vector.shape[1])
            ]
        ) / np.sum(vector**2)
        change, total = change + weight * (model - mean) @ gram, total + weight * gram
    size = len(total)
    return mean + change @ np.linalg.inv(total + ridge * np.trace(total) / size * np.eye(size))


@pytest.mark.parametrize("shape", [(6, 6), (4, 15), (15, 4)])
@pytest.mark.parametrize("settings", [{}, {"reduction": 1.0}, {"reduction": 0.0, "ridge": 0.1}])
def test_is_the_formula(shape, settings):
    parent, models = fine_tunes(3, shape)
    result = merged("regmean-free", models, parent, LAMBDAS, parameters=settings, inputs=1)
    expected = by_equations(models, parent, LAMBDAS, **settings)
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)
    turned = merged(
        "regmean-free", [m.T for m in models], parent.T, LAMBDAS, parameters=settings, inputs=0
    )
    np.testing.assert_allclose(turned.T, result, rtol=1e-9, atol=1e-12)


def objective(change, vectors):
    """WUDI's: how much of what differs from each task vector lies in the span of its rows."""
    return sum(
        np.sum(((change - vector) @ vector.T) ** 2) / np.sum(vector**2) for vector in vectors
    )


def test_without_reduction_and_ridge_it_minimises_what_wudi_does():
    parent, models = fine_tunes(3, (4, 5))
    vectors = [model - parent for model in models]
    settings = {"reduction": 1.0, "ridge": 0.0}
    change = merged("regmean-free", models, parent, parameters=settings, inputs=1) - parent
    minimum = minimize(
        lambda flat: objective(flat.reshape(4, 5), vectors), np.zeros(20), method="BFGS", tol=1e-14
    )
    np.testing.assert_allclose(objective(change, vectors), minimum.fun, rtol=1e-9)
    np.testing.assert_allclose(change, minimum.x.reshape(4, 5), atol=1e-5)


def test_of_many_minima_the_one_nearest_to_the_mean():
    parent, models = fine_tunes(2, (2, 9))
    settings = {"reduction": 1.0, "ridge": 0.0}
    result = merged("regmean-free", models, parent, parameters=settings, inputs=1)
    rows = np.concatenate([model - parent for model in models])
    outside = np.eye(9) - np.linalg.pinv(rows) @ rows
    np.testing.assert_allclose((result - np.mean(models, axis=0)) @ outside, 0, atol=1e-12)
    np.testing.assert_allclose(
        objective(result - parent, [model - parent for model in models]), 0, atol=1e-20
    )


def test_only_shares_of_weights_matter():
    parent, models = fine_tunes(3)
    once, twice = (
        merged("regmean-free", models, parent, [f * w for w in LAMBDAS], inputs=1) for f in (1, 2)
    )
    np.testing.assert_allclose(once, twice, rtol=1e-12)


def test_models_that_are_equal_stay_bit_by_bit():
    parent, (model,) = fine_tunes(1, dtype="float32")
    assert merged("regmean-free", [model] * 3, parent, inputs=1).tobytes() == model.tobytes()


@pytest.mark.filterwarnings("error")
def test_a_model_that_is_its_parent_asks_for_nothing():
    parent, models = fine_tunes(2, dtype="float32")
    with np.errstate(all="raise"):
        nothing = merged("regmean-free", [parent, parent], parent, inputs=1)
        one = merged("regmean-free", [models[0], parent], parent, inputs=1)
    assert nothing.tobytes() == parent.tobytes()
    exact = merged(
        "regmean-free",
        [models[0], parent],
        parent,
        parameters={"ridge": 0.0, "reduction": 0.9},
        inputs=1,
    )
    np.testing.assert_allclose(exact, models[0], rtol=1e-4)  # the only one that asks
    assert np.isfinite(one).all()


def test_an_input_that_no_model_has_changed_keeps_the_mean():
    parent, models = fine_tunes(3)
    for model in models:
        model[:, 2] = parent[:, 2]
    for ridge in (0.0, 1e-3):
        result = merged("regmean-free", models, parent, parameters={"ridge": ridge}, inputs=1)
        np.testing.assert_allclose(result[:, 2], parent[:, 2], rtol=1e-12)


def test_what_is_no_matrix_of_a_linear_map_takes_the_mean():
    parent, models = fine_tunes(3)
    expected = np.average(models, axis=0, weights=LAMBDAS)
    np.testing.assert_allclose(merged("regmean-free", models, parent, LAMBDAS), expected)


@pytest.mark.parametrize("inputs", [0, 1])
def test_nan_is_not_hidden(inputs):
    parent, models = fine_tunes()
    models[1][3, 3] = np.nan
    assert np.isnan(merged("regmean-free", models, parent, inputs=inputs)[3, 3])


def test_numbers_of_processors_do_not_change_bytes(monkeypatch):
    parent, models = fine_tunes(3, (40, 2 * BLOCK + 50), dtype="float32")
    contents = set()
    for count in (1, 2, 5):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        contents.add(merged("regmean-free", models, parent, inputs=1).tobytes())
    assert len(contents) == 1


def test_more_rows_and_columns_than_are_worked_on_at_once(monkeypatch):
    parent, models = fine_tunes(3, (25, 31))
    whole = merged("regmean-free", models, parent, inputs=1)
    monkeypatch.setattr("fmn.merging.regmean_free.BLOCK", 7)
    np.testing.assert_allclose(merged("regmean-free", models, parent, inputs=1), whole, rtol=1e-9)


def test_another_order_is_the_same_merge_up_to_rounding():
    parent, models = fine_tunes(3, (8, 12))
    first, *others = (
        merged("regmean-free", order, parent, inputs=1) for order in permutations(models)
    )
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-9)
