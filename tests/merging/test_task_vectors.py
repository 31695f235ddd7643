"""Task arithmetic, TIES and DARE against their formulas, written out value by value."""

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import numpy as np
import pytest
import torch
from peft.utils import merge_utils as peft

from fmn.merging import get_rule
from fmn.merging.task_vectors import _mask
from tests.merging.parts import fine_tunes, merged, part_of

ON_TASK_VECTORS = ("task-arithmetic", "ties", "dare-linear", "dare-ties")
LAMBDAS = (1.0, 0.5, 2.0)


def trimmed(vector, density):
    """Keep the largest values; there are no ties among these."""
    kept = int(density * vector.size)
    threshold = np.sort(np.abs(vector).ravel())[::-1][kept - 1] if kept else np.inf
    return np.where(np.abs(vector) >= threshold, vector, 0)


def elected(vectors, weights):
    """Walk over the values: the sign of the sum wins, and those that have it are averaged."""
    result = np.zeros(vectors[0].size)
    for place, values in enumerate(zip(*(vector.ravel() for vector in vectors), strict=True)):
        sign = 1 if sum(values) >= 0 else -1
        agreeing = [
            weight * value
            for weight, value in zip(weights, values, strict=True)
            if value * sign > 0
        ]
        result[place] = sum(agreeing) / len(agreeing) if agreeing else 0
    return result.reshape(vectors[0].shape)


def test_task_arithmetic():
    parent, models = fine_tunes()
    expected = parent + 0.7 * sum(
        weight * (model - parent) for weight, model in zip(LAMBDAS, models, strict=True)
    )
    np.testing.assert_allclose(
        merged("task-arithmetic", models, parent, LAMBDAS, parameters={"scale": 0.7}),
        expected,
        rtol=1e-12,
    )


@pytest.mark.parametrize("density", [0.2, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(7, 11), (40,), (2, 3, 5)])
def test_ties(density, shape):
    parent, models = fine_tunes(3, shape)
    vectors = [trimmed(model - parent, density) for model in models]
    expected = parent + 0.8 * elected(vectors, LAMBDAS)
    result = merged("ties", models, parent, LAMBDAS, parameters={"density": density, "scale": 0.8})
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("rule", ["dare-linear", "dare-ties"])
def test_dare(rule):
    parent, models = fine_tunes(3, (30, 40))
    part = part_of(
        rule, models, parent, LAMBDAS, parameters={"density": 0.3, "scale": 0.8, "seed": 5}
    )
    result = get_rule(rule).combine(part)
    masks = [_mask(part, model, parent.shape).numpy() for model in part.models]
    assert all(abs(mask.mean() - 0.3) < 0.05 for mask in masks)
    assert not np.array_equal(masks[0], masks[1])
    vectors = [mask * (model - parent) / 0.3 for mask, model in zip(masks, models, strict=True)]
    linear = sum(weight * vector for weight, vector in zip(LAMBDAS, vectors, strict=True))
    expected = parent + 0.8 * (linear if rule == "dare-linear" else elected(vectors, LAMBDAS))
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("rule", "whole"),
    [
        ("task-arithmetic", peft.task_arithmetic),
        ("ties", peft.ties),
        ("dare-linear", peft.dare_linear),
        ("dare-ties", peft.dare_ties),
    ],
)
def test_is_what_peft_does(rule, whole, monkeypatch):
    parent, models = fine_tunes(3, (30, 40), dtype="float32")
    part = part_of(rule, models, parent, LAMBDAS, parameters={"scale": 1.0})
    masks = iter(
        [_mask(part, model, parent.shape).float() for model in part.models]
        if "dare" in rule
        else []
    )
    monkeypatch.setattr(torch, "bernoulli", lambda probabilities: next(masks))
    vectors = [torch.from_numpy(model - parent) for model in models]
    options = {} if rule == "task-arithmetic" else {"density": part.parameters["density"]}
    expected = parent + whole(vectors, torch.tensor(LAMBDAS), **options).numpy()
    np.testing.assert_array_equal(get_rule(rule).combine(part), expected)


@pytest.mark.parametrize("rule", ["dare-linear", "dare-ties"])
def test_dare_in_the_mean_is_what_it_is_without_dropping(rule):
    parent, (model,) = fine_tunes(1, (8,))
    results = [
        merged(rule, [model], parent, parameters={"density": 0.5, "scale": 1.0, "seed": seed})
        for seed in range(3000)
    ]
    np.testing.assert_allclose(
        np.mean(results, axis=0), model, atol=5 * np.abs(model - parent).max() / 3000**0.5
    )


@pytest.mark.parametrize("rule", ON_TASK_VECTORS)
def test_models_that_are_their_parent_give_the_parent_bit_by_bit(rule):
    parent, _ = fine_tunes(dtype="float32")
    parent[0, :3] = -0.0, 0.0, 1e-42
    assert merged(rule, [parent, parent], parent).tobytes() == parent.tobytes()


@pytest.mark.parametrize("rule", ON_TASK_VECTORS)
def test_nan_is_not_hidden(rule):
    parent, models = fine_tunes()
    models[1][3, 3] = np.nan
    assert np.isnan(merged(rule, models, parent)[3, 3])


@pytest.mark.parametrize("rule", ON_TASK_VECTORS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_result_is_float32_or_wider(rule, dtype):
    parent, models = fine_tunes(dtype=dtype)
    assert merged(rule, models, parent).dtype == ("float64" if dtype == "float64" else "float32")


def test_one_model_in_full_is_itself():
    parent, (model,) = fine_tunes(1)
    for rule in ON_TASK_VECTORS:
        parameters = {"scale": 1.0} | ({} if rule == "task-arithmetic" else {"density": 1.0})
        np.testing.assert_allclose(
            merged(rule, [model], parent, parameters=parameters), model, rtol=1e-12
        )


@pytest.mark.parametrize("rule", ["dare-linear", "dare-ties"])
def test_masks_depend_on_seed_model_and_name_alone(rule):
    parent, models = fine_tunes(1, (50, 60), dtype="float32")
    part = part_of(rule, models, parent)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    alone = get_rule(rule).combine(part)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    with ThreadPoolExecutor(8) as pool:
        assert {result.tobytes() for result in pool.map(get_rule(rule).combine, [part] * 32)} == {
            alone.tobytes()
        }
    for other in ({"name": "other"}, {"parameters": {"seed": 1}}):
        assert not np.array_equal(
            get_rule(rule).combine(part_of(rule, models, parent, **other)), alone
        )
    twins = part_of(rule, [*models, *models], parent)
    assert not torch.equal(
        _mask(twins, twins.models[0], parent.shape), _mask(twins, twins.models[1], parent.shape)
    )


def test_the_order_of_two_models_changes_nothing():
    parent, models = fine_tunes(2, dtype="float32")
    for rule in ("task-arithmetic", "ties"):
        assert len({merged(rule, order, parent).tobytes() for order in permutations(models)}) == 1


@pytest.mark.parametrize("count", [2, 5, 9])
def test_torch_threads_do_not_change_bytes(count):
    parent, models = fine_tunes(count, (601, 503), dtype="float32")
    threads, contents = torch.get_num_threads(), {}
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            for rule in ON_TASK_VECTORS:
                contents.setdefault(rule, set()).add(merged(rule, models, parent).tobytes())
    finally:
        torch.set_num_threads(threads)
    assert {rule: len(results) for rule, results in contents.items()} == dict.fromkeys(
        ON_TASK_VECTORS, 1
    )
