"""Task singular vectors and isotropic merging against singular value decompositions."""

import os
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from scipy.linalg import polar

from fmn.merging import get_rule
from tests.merging.parts import fine_tunes, merged

RULES = ("tsv-m", "iso-c")
SHAPES = [(12, 12), (7, 30), (30, 7)]


def by_svd(models, parent, weights=None):
    """Put the triples into a list one by one, then orthogonalise by scipy's polar factor."""
    weights, columns = weights or [1] * len(models), []
    for model, weight in zip(models, weights, strict=True):
        u, s, vt = np.linalg.svd(weight * (model - parent))
        count = max(1, min(parent.shape) // len(models))
        columns += [(u[:, place], s[place], vt[place]) for place in range(count)]
    left, values, right = (np.array(each).T for each in zip(*columns, strict=True))
    return polar(left)[0] @ np.diag(values) @ polar(right)[0].T


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_task_singular_vectors(shape, count):
    parent, models = fine_tunes(count, shape)
    weights = [1.0, 0.5, 2.0, 1.5, 0.25][:count]
    result = merged("tsv-m", models, parent, weights, parameters={"scale": 0.7}, inputs=1)
    expected = parent + 0.7 * by_svd(models, parent, weights)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_isotropic_merging_has_equal_singular_values_and_the_vectors_of_the_sum(shape):
    parent, models = fine_tunes(3, shape)
    weights = (1.0, 0.5, 2.0)
    total = sum(w * (model - parent) for w, model in zip(weights, models, strict=True))
    change = merged("iso-c", models, parent, weights, parameters={"scale": 0.5}, inputs=1) - parent
    values = np.linalg.svd(total, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(change, compute_uv=False), 0.5 * values.mean())
    nearest, _ = polar(total)
    np.testing.assert_allclose(change, 0.5 * values.mean() * nearest, atol=1e-12)


def test_one_model_is_itself():
    parent, (model,) = fine_tunes(1)
    np.testing.assert_allclose(merged("tsv-m", [model], parent, inputs=1), model, atol=1e-12)


def test_models_that_share_no_direction_do_not_disturb_each_other():
    """Each one's whole task vector is in the merge, as the sum of them."""
    parent, _ = fine_tunes(1, (9, 12))
    random = np.random.default_rng(5)
    left, basis = (np.linalg.qr(random.normal(size=(size, size)))[0] for size in (9, 12))
    vectors = [
        left[:, 3 * n : 3 * n + 3] @ np.diag([3, 2, 1]) @ basis[:, 3 * n : 3 * n + 3].T
        for n in range(3)
    ]
    result = merged("tsv-m", [parent + vector for vector in vectors], parent, inputs=1)
    np.testing.assert_allclose(result, parent + sum(vectors), atol=1e-10)


def test_a_model_twice_counts_once():
    parent, (model, other) = fine_tunes(2, (8, 10))
    u, s, vt = np.linalg.svd(model - parent, full_matrices=False)
    kept = (u[:, :4] * s[:4]) @ vt[:4]
    result = merged("tsv-m", [model, model], parent, inputs=1)
    np.testing.assert_allclose(result, parent + kept, atol=1e-8)
    assert np.isfinite(merged("tsv-m", [model, model, other], parent, inputs=1)).all()


@pytest.mark.parametrize("rule", RULES)
def test_it_does_not_matter_which_way_round_a_matrix_is_stored(rule):
    parent, models = fine_tunes(3, (7, 30))
    turned = merged(rule, [model.T for model in models], parent.T, inputs=0)
    np.testing.assert_allclose(turned.T, merged(rule, models, parent, inputs=1), atol=1e-12)


def test_fewer_singular_values_than_models():
    """One triple of each; the factors have orthonormal rows then, not columns."""
    parent, models = fine_tunes(5, (3, 8))
    result = merged("tsv-m", models, parent, inputs=1)
    np.testing.assert_allclose(result, parent + by_svd(models, parent), atol=1e-10)
    parent, models = fine_tunes(3, (1, 8))
    row = merged("tsv-m", models, parent, inputs=1)
    np.testing.assert_allclose(row, parent + by_svd(models, parent), atol=1e-10)


def test_equal_singular_values():
    """Any basis of what they span gives the same product."""
    parent, _ = fine_tunes(1, (6, 9))
    random = np.random.default_rng(3)
    vectors = []
    for _ in range(2):
        u, v = (np.linalg.qr(random.normal(size=(size, 3)))[0] for size in (6, 9))
        vectors.append(0.3 * u @ v.T)
    result = merged("tsv-m", [parent + vector for vector in vectors], parent, inputs=1)
    left = np.concatenate([vector @ vector.T / 0.09 for vector in vectors], axis=1)
    assert np.linalg.matrix_rank(left) == 6
    np.testing.assert_allclose(
        np.linalg.svd(result - parent, compute_uv=False), np.full(6, 0.3), atol=1e-10
    )
    again = merged("tsv-m", [parent + vector for vector in vectors], parent, inputs=1)
    assert again.tobytes() == result.tobytes()
    identity = merged("iso-c", [parent + np.eye(6, 9)] * 2, parent, inputs=1)
    np.testing.assert_allclose(identity, parent + 2 * np.eye(6, 9), atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2])
def test_what_has_low_rank_gets_no_directions_that_it_does_not_have(rank):
    parent, _ = fine_tunes(1, (10, 14))
    random = np.random.default_rng(1)
    vectors = [random.normal(size=(10, rank)) @ random.normal(size=(rank, 14)) for _ in range(2)]
    models = [parent + vector for vector in vectors]
    for rule, expected in (("tsv-m", 2 * rank), ("iso-c", 2 * rank)):
        change = merged(rule, models, parent, inputs=1) - parent
        assert np.linalg.matrix_rank(change, tol=1e-9) == expected
    values = np.linalg.svd(sum(vectors), compute_uv=False)[: 2 * rank]
    flat = np.linalg.svd(merged("iso-c", models, parent, inputs=1) - parent, compute_uv=False)
    np.testing.assert_allclose(flat[: 2 * rank], values.mean(), rtol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("error")
def test_a_model_that_is_its_parent_adds_nothing(rule):
    parent, models = fine_tunes(2, (6, 10), dtype="float32")
    with np.errstate(all="raise"):
        three = merged(rule, [*models, parent], parent, inputs=1)
        nothing = merged(rule, [parent, parent], parent, inputs=1)
    assert nothing.tobytes() == parent.tobytes()
    assert np.isfinite(three).all()
    if rule == "iso-c":
        assert three.tobytes() == merged(rule, models, parent, inputs=1).tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_what_is_no_matrix_of_a_linear_map_moves_by_the_mean(rule):
    parent, models = fine_tunes(3, dtype="float32")
    np.testing.assert_allclose(
        merged(rule, models, parent), np.mean(models, axis=0, dtype="f8"), rtol=1e-6
    )
    assert merged(rule, [models[0]] * 3, parent).tobytes() == models[0].tobytes()
    weights = (1.0, 0.5, 2.0)
    expected = parent + 0.5 / 3 * sum(
        w * (model - parent.astype("f8")) for w, model in zip(weights, models, strict=True)
    )
    result = merged(rule, models, parent, weights, parameters={"scale": 0.5})
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_nan_is_not_hidden(rule):
    parent, models = fine_tunes()
    models[1][3, 3] = np.nan
    assert np.isnan(merged(rule, models, parent, inputs=1)[3, 3])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_result_is_float32_or_wider(rule, dtype):
    parent, models = fine_tunes(dtype=dtype)
    for inputs in (None, 1):
        result = merged(rule, models, parent, inputs=inputs)
        assert result.dtype == ("float64" if dtype == "float64" else "float32")


@pytest.mark.parametrize("rule", RULES)
def test_another_order_is_the_same_merge_up_to_rounding(rule):
    parent, models = fine_tunes(3, (8, 12))
    first, *others = (merged(rule, order, parent, inputs=1) for order in permutations(models))
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_numbers_of_processors_do_not_change_bytes(rule, monkeypatch):
    parent, models = fine_tunes(4, (130, 210), dtype="float32")
    contents = set()
    for count in (1, 2, 5):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        contents.add(merged(rule, models, parent, inputs=1).tobytes())
    assert len(contents) == 1


def statistics_of(shape, count=3):
    """Return mask Fishers of rows and second moments of columns, far apart in size."""
    random = np.random.default_rng(3)
    fishers = [np.exp(3 * random.normal(size=(shape[0], 1))) * 1e-6 for _ in range(count)]
    moments = [np.exp(2 * random.normal(size=(1, shape[1]))) * 1e2 for _ in range(count)]
    return {"mask-fisher": tuple(fishers), "second-moments": tuple(moments)}


@pytest.mark.parametrize("shape", SHAPES)
def test_in_a_metric_the_task_vectors_are_scaled_before_and_the_merge_is_scaled_back(shape):
    parent, models = fine_tunes(3, shape)
    statistics = statistics_of(shape)
    metric = np.ones(())
    for values, power in zip(statistics.values(), (0.25, 0.5), strict=True):
        metric = metric * np.mean([(v / v.mean() + 1e-4) ** power for v in values], axis=0)
    scaled = [parent + (model - parent) * metric for model in models]
    expected = parent + by_svd(scaled, parent) / metric
    result = merged("tsv-m", models, parent, inputs=1, statistics=statistics)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)
    assert np.abs(result - merged("tsv-m", models, parent, inputs=1)).max() > 1e-3

    turned = {name: tuple(each.T for each in values) for name, values in statistics.items()}
    other = merged("tsv-m", [m.T for m in models], parent.T, inputs=0, statistics=turned)
    np.testing.assert_allclose(other.T, result, atol=1e-10)


def test_a_metric_that_says_nothing_changes_nothing():
    parent, models = fine_tunes(3)
    plain = merged("tsv-m", models, parent, inputs=1)
    even = {"mask-fisher": (np.full((7, 1), 3.0),) * 3, "second-moments": (np.zeros((1, 11)),) * 3}
    result = merged("tsv-m", models, parent, inputs=1, statistics=even)
    np.testing.assert_allclose(result, plain, atol=1e-12)
    none = {"mask-fisher": (np.ones(()),) * 3, "second-moments": (None,) * 3}
    assert np.array_equal(merged("tsv-m", models, parent, inputs=1, statistics=none), plain)
    vectors = [model[0] for model in models]
    mean = merged("tsv-m", vectors, parent[0], statistics=even)
    np.testing.assert_allclose(mean, np.mean(vectors, axis=0), atol=1e-12)


def test_nodes_that_matter_to_nobody_and_inputs_that_are_zero_do_not_break_it():
    parent, models = fine_tunes(3)
    statistics = statistics_of((7, 11))
    for values in statistics.values():
        for each in values:
            each.reshape(-1)[:2] = 0
    assert np.isfinite(merged("tsv-m", models, parent, inputs=1, statistics=statistics)).all()


@pytest.mark.parametrize(
    ("metric", "statistics"),
    [
        ("none", ()),
        ("mask-fisher", ("mask-fisher",)),
        ("inputs", ("second-moments",)),
        ("both", ("mask-fisher", "second-moments")),
    ],
)
def test_a_metric_needs_its_statistics_and_none_needs_no_data(metric, statistics):
    rule = get_rule("tsv-m").given({"metric": metric})
    assert (rule.statistics, rule.parent) == (statistics, True)


TWICE = """
import sys
from tests.merging.parts import fine_tunes, merged

parent, models = fine_tunes(6, (384, 384), dtype="float32")
first, second = (merged(sys.argv[1], models, parent, inputs=1) for _ in range(2))
assert first.tobytes() == second.tobytes()
"""


@pytest.mark.parametrize("rule", [*RULES, "regmean-free"])
def test_the_first_merge_of_a_process_has_the_bytes_of_any_other(rule):
    """What is imported on the way brings a BLAS of its own, which is to have one thread, too."""
    environment = {**os.environ, "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-c", TWICE, rule], check=True, env=environment)
