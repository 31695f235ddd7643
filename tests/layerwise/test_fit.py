"""Layers fitted to what models say, in every family, by the families' own code."""

import copy

import pytest
import torch

from fmn.errors import FisherError, MergeError
from fmn.fisher.session import describe
from fmn.layerwise import Expert, Regression, count, fit_layers
from tests.families import FAMILIES, examples, head_of, pad, padded, tiny

UNDER_DETERMINED = ("t5", "bart")
"""The tiny decoders have fewer positions than channels; of mT5's nothing can be learnt."""
OTHER_MODULES = ("deberta-v2",)
"""Relative positions go through maps that are not the examples'."""


def moved(model, size=0.1, seed=1):
    """A copy whose layers' matrices are others."""
    model = copy.deepcopy(model)
    subject, generator = describe(model), torch.Generator().manual_seed(seed)
    for name, parameter in subject.parameters.items():
        if name.startswith(tuple(each.prefix for each in subject.layers)) and parameter.ndim == 2:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data = parameter.data + size * noise
    return model


def expert(own, merged, **more):
    each = examples(own)
    return Expert("a", own, merged, [pad(each[:2], extra=2), pad(each[2:])], **more)


def said(model):
    inputs = pad(examples(model))
    if head_of(model) != "ConditionalGeneration":
        inputs.pop("labels")
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", FAMILIES)
def test_a_single_model_is_learnt_again(name):
    own = padded(name)
    merged = moved(own)
    before = (said(merged) - said(own)).abs().max()
    regression = Regression(ridge=1e-12, norms=False)
    fitted = fit_layers([expert(own, merged)], regression)
    assert len(fitted.ridges) == count(own, regression)
    after = (said(merged) - said(own)).abs().max()
    nearly = (*OTHER_MODULES, *UNDER_DETERMINED, "gpt_neox")
    assert name == "mt5" or after < (0.5 * before if name in nearly else 1e-6)
    parameters = describe(merged).parameters
    for tensor, value in fitted.tensors.items():
        assert torch.equal(parameters[tensor], value)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_right_already_stays(name):
    own = padded(name)
    fitted = fit_layers([expert(own, copy.deepcopy(own))], Regression())
    assert fitted.tensors == {}
    assert set(fitted.ridges.values()) == {None}
    assert len(fitted.ridges) == count(own)


@pytest.mark.parametrize("name", ["bert", "llama", "gemma", "gpt2"])
def test_norms_are_learnt_again(name):
    own = padded(name)
    merged = copy.deepcopy(own)
    subject = describe(merged)
    for parameter, value in subject.parameters.items():
        if parameter.startswith(subject.layers[-1].prefix) and value.ndim == 1:
            value.data = value.data + 0.2
    names = fit_layers([expert(own, merged)], Regression(ridge=0.0)).tensors
    assert (said(merged) - said(own)).abs().max() < 1e-6
    assert [each for each in names if "norm" in each.lower() or "ln_" in each]


def test_batches_and_padding_change_nothing():
    own = tiny("bert")
    each = examples(own)
    results = []
    for batches in ([pad(each, extra=3)], [pad([one]) for one in each]):
        merged = moved(own)
        regression = Regression(ridge=0.1)
        results.append(fit_layers([Expert("a", own, merged, batches)], regression).tensors)
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], rtol=1e-6, atol=1e-8)


def by_hand(models, merged, weights, ridge, teacher, name):
    """The first map of the layers, by explicit rows: its inputs are the merge's embeddings."""
    total, right = 0, 0
    start = merged.get_submodule(name)
    for model, weight in zip(models, weights, strict=True):
        rows = {}
        for which, each in (("own", model), ("merged", merged)):
            rows[which] = []
            hook = each.get_submodule(name).register_forward_pre_hook(
                lambda module, inputs, kept=rows[which]: kept.append(inputs[0][0])
            )
            for one in examples(model):
                with torch.no_grad():
                    each(**{key: value for key, value in one.items() if key != "labels"})
            hook.remove()
        x, own = (torch.cat(rows[which]) for which in ("merged", "own"))
        with torch.no_grad():
            y = model.get_submodule(name)(teacher * own + (1 - teacher) * x) - start(x)
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        total = total + weight / len(x) * x.T @ x
        right = right + weight / len(x) * x.T @ y
    pull = ridge * total.diagonal()[:-1].mean() * torch.eye(len(total), dtype=total.dtype)
    pull[-1, -1] = 0
    step = torch.linalg.solve(total + pull, right)
    return start.weight + step[:-1].T, start.bias + step[-1]


@pytest.mark.parametrize("teacher", [0.0, 0.25, 1.0])
def test_several_models_share_a_map_by_their_weights(teacher):
    models = [tiny("bert", seed=seed) for seed in (0, 1)]
    merged = moved(models[0])
    name, weights = "bert.encoder.layer.0.attention.self.query", (1.0, 3.0)
    expected = by_hand(models, merged, weights, 0.1, teacher, name)
    copies = [copy.deepcopy(merged) for _ in models]
    experts = [
        Expert(str(number), model, body, [pad(examples(model), extra=1)], weight)
        for number, (model, body, weight) in enumerate(zip(models, copies, weights, strict=True))
    ]
    tensors = fit_layers(experts, Regression(teacher=teacher, ridge=0.1)).tensors
    for kind, value in zip(("weight", "bias"), expected, strict=True):
        got = tensors[f"{name.removeprefix('bert.')}.{kind}"]
        torch.testing.assert_close(got, value.detach(), rtol=1e-6, atol=1e-8)
        for body in copies:
            assert body.get_submodule(name).get_parameter(kind).data_ptr() == got.data_ptr()


@pytest.mark.parametrize("name", ["bert", "distilbert", "vit"])
def test_a_stream_that_drifted_is_set_right_where_something_is_added_to_it(name):
    own = padded(name)
    merged = copy.deepcopy(own)
    layer = describe(merged).modules[describe(merged).layers[0].prefix.removesuffix(".")]
    drift = torch.linspace(-1, 1, 16, dtype=torch.float64)
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] + drift, *inputs[1:]))
    drifted = (said(merged) - said(own)).abs().max()
    left = {}
    for streams in (True, False):
        body = copy.deepcopy(merged)
        fit_layers([expert(own, body)], Regression(ridge=1e-9, streams=streams, norms=False))
        left[streams] = (said(body) - said(own)).abs().max()
    # the bias of what is added takes back a drift that is the same everywhere
    assert left[True] < 1e-5 < 0.05 * drifted < left[False]


def test_models_come_back_as_they_were():
    own = tiny("bert").train()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    fit_layers([expert(own, moved(own))], Regression())
    assert own.training
    assert all(parameter.requires_grad for parameter in own.parameters())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert not any(module._forward_hooks for module in own.modules())


def test_bad_calls_are_one_clear_line():
    own = tiny("bert")
    few = Expert("mine", own, moved(own), [pad(examples(own)[:1])])
    with pytest.raises(MergeError, match="mine: layers are fitted to two examples at least"):
        fit_layers([few], Regression())
    broken = moved(own)
    broken.bert.embeddings.word_embeddings.weight.data[:] = float("nan")
    with pytest.raises(
        MergeError, match=r"^a: what goes into encoder\.layer\.0\.attention\.self\.query of"
    ):
        fit_layers([expert(own, broken)], Regression())
    # hooks and modes are gone after a failure, too
    assert not any(module._forward_hooks for module in own.modules())
    with pytest.raises(FisherError, match="which the attention mask"):
        other = tiny("bert")
        other.bert.embeddings.register_forward_hook(lambda m, i, out: out[:, :-1])
        fit_layers([expert(own, other)], Regression())


def test_more_than_fits_into_memory_is_refused_before_it_is_tried(monkeypatch):
    own = tiny("bert")
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4}
    monkeypatch.setattr("os.sysconf", lambda name: pages[name])
    message = r"of \d+ positions take about 0.0 GB, and the cpu has 0.0; fit layers to fewer"
    with pytest.raises(MergeError, match=message):
        fit_layers([expert(own, moved(own))], Regression())
