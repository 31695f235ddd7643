"""How far layers go to what was fitted to them."""

import copy

import pytest
import torch

from fmn.errors import MergeError
from fmn.fisher import read_head
from fmn.fisher.session import describe
from fmn.layerwise import Expert, Regression, calibrate, count, fit_layers
from tests.families import examples, pad, tiny
from tests.layerwise.test_fit import moved

AUTO = {"ridge": "auto"}


def experts(*pairs, **more):
    return [
        Expert(str(number), own, merged, [pad(examples(own)[:2], extra=2), pad(examples(own)[2:])])
        for number, (own, merged) in enumerate(pairs)
    ]


def parts(batches, half):
    """The examples of a half, one a batch, by hand."""
    every = [
        {name: value[row : row + 1] for name, value in batch.items()}
        for batch in batches
        for row in range(len(batch["input_ids"]))
    ]
    return every[half::2]


def error(expert, batches):
    own, merged = (
        read_head(model, batches).outputs.double() for model in (expert.own, expert.merged)
    )
    return float(((merged - own) ** 2).mean() / ((own - own.mean(0)) ** 2).mean())


def test_layers_go_as_far_as_examples_say_that_they_were_not_fitted_to():
    own = tiny("bert", "SequenceClassification")
    start = moved(own)
    (expert,) = experts((own, copy.deepcopy(start)))
    done = []
    calibrated = calibrate([expert], AUTO, progress=done.append)
    trial = Expert("trial", own, copy.deepcopy(start), parts(expert.batches, 0))
    fitted = fit_layers([trial], Regression())
    assert set(calibrated.errors) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert calibrated.errors[1.0] == pytest.approx(error(trial, parts(expert.batches, 1)), rel=1e-6)
    trial.merged.load_state_dict(start.state_dict())
    assert calibrated.errors[0.0] == pytest.approx(error(trial, parts(expert.batches, 1)), rel=1e-6)
    assert calibrated.share == min(calibrated.errors, key=calibrated.errors.__getitem__) > 0
    assert len(done) == 2 * count(own)
    whole = Expert("whole", own, copy.deepcopy(start), expert.batches)
    fitted, origin = fit_layers([whole], Regression()).tensors, describe(start).parameters
    for name, tensor in calibrated.tensors.items():
        expected = torch.lerp(origin[name].data, fitted[name], calibrated.share)
        torch.testing.assert_close(tensor, expected)
        torch.testing.assert_close(describe(expert.merged).parameters[name].data, expected)


def test_a_start_that_is_best_stays():
    own = tiny("bert", "SequenceClassification")
    merged = copy.deepcopy(own)
    calibrated = calibrate(experts((own, merged)), AUTO)
    assert (calibrated.share, calibrated.tensors) == (0.0, {})
    assert all(torch.equal(own.state_dict()[n], v) for n, v in merged.state_dict().items())


def test_heads_and_poolers_stay_with_their_models():
    owns = [tiny("bert", "SequenceClassification", seed=seed) for seed in (0, 1)]
    bodies = [moved(own) for own in owns]
    before = [body.bert.pooler.dense.weight.clone() for body in bodies]
    calibrated = calibrate(experts(*zip(owns, bodies, strict=True)), AUTO)
    assert not any("pooler" in name for name in calibrated.tensors)
    for body, weight in zip(bodies, before, strict=True):
        assert torch.equal(body.bert.pooler.dense.weight, weight)


def test_too_few_examples_are_said():
    own = tiny("bert", "SequenceClassification")
    few = Expert("mine", own, moved(own), [pad(examples(own)[:3])])
    with pytest.raises(MergeError, match="mine: layers are fitted to 4 examples at least, and"):
        calibrate([few], AUTO)
