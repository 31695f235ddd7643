"""DELLA, breadcrumbs and consensus against their papers' formulas, value by value."""

import numpy as np
import pytest

from fmn.merging import get_rule
from fmn.merging.sparse import _is_between, _probability
from fmn.merging.task_vectors import uniform
from tests.merging.parts import fine_tunes, merged, part_of
from tests.merging.test_task_vectors import elected

RULES = ("della", "breadcrumbs", "consensus-ta")
LAMBDAS = (1.0, 0.5, 2.0)


def kept_by_rank(row, density, epsilon):
    """The probability of each value of a row: the paper's p_i = p_min + ε r_i / n, from 1."""
    order = sorted(range(len(row)), key=lambda place: -abs(row[place]))
    lowest = (1 - density) - epsilon / 2
    dropped = {place: lowest + epsilon * rank / len(row) for rank, place in enumerate(order)}
    return np.array([1 - dropped[place] for place in range(len(row))])


@pytest.mark.parametrize("inputs", [None, 0, 1])
def test_della(inputs):
    parent, models = fine_tunes(3, (6, 40))
    parameters = {"density": 0.4, "epsilon": 0.2, "scale": 0.8, "seed": 5}
    part = part_of("della", models, parent, LAMBDAS, parameters=parameters, inputs=inputs)
    vectors = []
    for model, digest in zip(models, part.models, strict=True):
        vector = model - parent
        lines = vector.T if inputs == 0 else vector
        kept = np.array([kept_by_rank(line, 0.4, 0.2) for line in lines])
        kept = kept.T if inputs == 0 else kept
        vectors.append(np.where(uniform(part, digest, vector.shape) < kept, vector / kept, 0))
    expected = parent + 0.8 * elected(vectors, LAMBDAS)
    np.testing.assert_allclose(get_rule("della").combine(part), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(40,), (3, 40), (2, 3, 40), ()])
def test_della_drops_small_values_more_often_and_as_many_as_asked(shape):
    random = np.random.default_rng(0)
    vector = np.asarray(random.normal(size=shape))
    parameters = {"density": 0.5, "epsilon": 0.3}
    kept = _probability(part_of("della", [vector], vector, parameters=parameters), vector)
    assert kept.shape == shape
    if shape:
        assert kept.mean() == pytest.approx(0.5, abs=0.3 / 40)
        for row, values in zip(kept.reshape(-1, 40), vector.reshape(-1, 40), strict=True):
            assert (np.diff(row[np.argsort(np.abs(values))]) > 0).all()


def test_della_without_epsilon_in_the_mean_is_what_it_is_without_dropping():
    parent, (model,) = fine_tunes(1, (8,))
    for epsilon in (0.0, 0.5):
        results = [
            merged(
                "della",
                [model],
                parent,
                parameters={"density": 0.6, "epsilon": epsilon, "seed": seed},
            )
            for seed in range(3000)
        ]
        np.testing.assert_allclose(
            np.mean(results, axis=0), model, atol=6 * np.abs(model - parent).max() / 3000**0.5
        )


def test_dellas_probabilities_are_cut_where_epsilon_is_too_large():
    parent, models = fine_tunes(2, (5, 9))
    for density in (0.05, 1.0):
        parameters = {"density": density, "epsilon": 1.0}
        part = part_of("della", models, parent, parameters=parameters)
        kept = _probability(part, models[0] - parent)
        assert kept.min() >= 0 and kept.max() <= 1
        assert np.isfinite(get_rule("della").combine(part)).all()


def test_dellas_masks_depend_on_seed_model_and_name_alone():
    parent, models = fine_tunes(2, (20, 30), dtype="float32")
    part = part_of("della", models, parent)
    first = get_rule("della").combine(part)
    assert get_rule("della").combine(part).tobytes() == first.tobytes()
    for other in ({"name": "other"}, {"parameters": {"seed": 1}}):
        assert not np.array_equal(merged("della", models, parent, **other), first)


@pytest.mark.parametrize(("outliers", "density"), [(0.01, 0.9), (0.1, 0.2), (0.0, 1.0), (0.5, 0.9)])
@pytest.mark.parametrize("shape", [(7, 11), (200,)])
def test_breadcrumbs(outliers, density, shape):
    parent, models = fine_tunes(3, shape)
    parameters = {"density": density, "outliers": outliers, "scale": 0.7}
    expected = parent.copy()
    for model, weight in zip(models, LAMBDAS, strict=True):
        vector = (model - parent).ravel()
        order = sorted(range(vector.size), key=lambda place: -abs(vector[place]))
        first = int(outliers * vector.size)
        for place in order[first : first + int(density * vector.size)]:
            expected.ravel()[place] += 0.7 * weight * vector[place]
    result = merged("breadcrumbs", models, parent, LAMBDAS, parameters=parameters)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_breadcrumbs_keep_values_that_are_equal_to_the_last_one():
    values = np.array([5.0, 3, -3, 3, 1, 0])
    assert _is_between(values, 1 / 6, 2 / 6).tolist() == [False, True, True, True, False, False]
    assert not _is_between(values, 1.0, 0.5).any()


@pytest.mark.parametrize(("threshold", "agreement"), [(0.4, 2), (0.4, 1), (0.2, 3), (0.9, 2)])
def test_consensus(threshold, agreement):
    parent, models = fine_tunes(3)
    parameters = {"threshold": threshold, "agreement": agreement, "scale": 0.5}
    expected = parent.copy()
    for place in np.ndindex(parent.shape):
        values = [w * (m[place] - parent[place]) for w, m in zip(LAMBDAS, models, strict=True)]
        total = sum(values)
        needing = [abs(value) >= threshold * abs(total - value) for value in values]
        if sum(needing) >= agreement:
            expected[place] += 0.5 * total
    result = merged("consensus-ta", models, parent, LAMBDAS, parameters=parameters)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    assert 0 < (result != parent).mean() <= 1


def test_consensus_of_fewer_models_than_must_agree_is_that_of_all():
    parent, (model,) = fine_tunes(1)
    alone = merged("consensus-ta", [model], parent, parameters={"scale": 1.0, "agreement": 5})
    np.testing.assert_allclose(alone, model, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("error")
def test_models_that_are_their_parent_give_the_parent_bit_by_bit(rule):
    parent, models = fine_tunes(dtype="float32")
    parent[0, :3] = -0.0, 0.0, 1e-42
    with np.errstate(divide="raise", invalid="raise"):
        assert merged(rule, [parent, parent], parent).tobytes() == parent.tobytes()
        assert np.isfinite(merged(rule, [*models, parent], parent)).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(rule, value):
    parent, models = fine_tunes()
    models[1][3, 3] = value
    for seed in range(5):  # whatever is dropped
        with np.errstate(all="ignore"):
            result = merged(rule, models, parent, parameters={"seed": seed})
        assert not np.isfinite(result[3, 3])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_result_is_float32_or_wider(rule, dtype):
    parent, models = fine_tunes(dtype=dtype)
    assert merged(rule, models, parent).dtype == ("float64" if dtype == "float64" else "float32")
