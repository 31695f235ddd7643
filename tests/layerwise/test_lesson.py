"""How far layers go to what was fitted to them."""

import copy

import pytest
import torch

from fmn.errors import MergeError
from fmn.fisher import read_head
from fmn.fisher.session import describe
from fmn.layerwise import Lesson, Pupil, count, fit_layers, teach
from tests.families import examples, pad, tiny
from tests.layerwise.test_fit import moved

AUTO = {"ridge": "auto"}


def pupils(*pairs, **more):
    return [
        Pupil(str(number), own, merged, [pad(examples(own)[:2], extra=2), pad(examples(own)[2:])])
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


def error(pupil, batches):
    own, merged = (
        read_head(model, batches).outputs.double() for model in (pupil.own, pupil.merged)
    )
    return float(((merged - own) ** 2).mean() / ((own - own.mean(0)) ** 2).mean())


def test_layers_go_as_far_as_examples_say_that_they_were_not_fitted_to():
    own = tiny("bert", "SequenceClassification")
    start = moved(own)
    (pupil,) = pupils((own, copy.deepcopy(start)))
    done = []
    taught = teach([pupil], AUTO, progress=done.append)
    trial = Pupil("trial", own, copy.deepcopy(start), parts(pupil.batches, 0))
    fitted = fit_layers([trial], Lesson())
    assert set(taught.errors) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert taught.errors[1.0] == pytest.approx(error(trial, parts(pupil.batches, 1)), rel=1e-6)
    trial.merged.load_state_dict(start.state_dict())
    assert taught.errors[0.0] == pytest.approx(error(trial, parts(pupil.batches, 1)), rel=1e-6)
    assert taught.share == min(taught.errors, key=taught.errors.__getitem__) > 0
    assert len(done) == 2 * count(own)
    whole = Pupil("whole", own, copy.deepcopy(start), pupil.batches)
    fitted, origin = fit_layers([whole], Lesson()).tensors, describe(start).parameters
    for name, tensor in taught.tensors.items():
        expected = torch.lerp(origin[name].data, fitted[name], taught.share)
        torch.testing.assert_close(tensor, expected)
        torch.testing.assert_close(describe(pupil.merged).parameters[name].data, expected)


def test_a_start_that_is_best_stays():
    own = tiny("bert", "SequenceClassification")
    merged = copy.deepcopy(own)
    taught = teach(pupils((own, merged)), AUTO)
    assert (taught.share, taught.tensors) == (0.0, {})
    assert all(torch.equal(own.state_dict()[n], v) for n, v in merged.state_dict().items())


def test_heads_and_poolers_stay_with_their_models():
    owns = [tiny("bert", "SequenceClassification", seed=seed) for seed in (0, 1)]
    bodies = [moved(own) for own in owns]
    before = [body.bert.pooler.dense.weight.clone() for body in bodies]
    taught = teach(pupils(*zip(owns, bodies, strict=True)), AUTO)
    assert not any("pooler" in name for name in taught.tensors)
    for body, weight in zip(bodies, before, strict=True):
        assert torch.equal(body.bert.pooler.dense.weight, weight)


def test_too_few_examples_are_said():
    own = tiny("bert", "SequenceClassification")
    few = Pupil("mine", own, moved(own), [pad(examples(own)[:3])])
    with pytest.raises(MergeError, match="mine: layers are fitted to 4 examples at least, and"):
        teach([few], AUTO)
