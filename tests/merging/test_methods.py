"""Every merge method on whole models: the engine, the checks, the parent."""

import copy
import os
import re
from contextlib import nullcontext
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

import fmn
from fmn.checkpoint import open_checkpoint
from fmn.errors import FmnError, MergeError, ParamsError
from fmn.merging import (
    Merged,
    check_parameters,
    engine,
    get_rule,
    make_plan,
    misuse,
    rule_names,
)
from fmn.merging.check import doubts
from fmn.recipe import ModelEntry
from fmn.statistics import Gram
from tests.families import examples, pad, tiny
from tests.merging.conftest import source

WITH_PARENT = (
    "task-arithmetic",
    "ties",
    "dare-linear",
    "dare-ties",
    "model-stock",
    "tsv-m",
    "iso-c",
    "regmean-free",
    "della",
    "breadcrumbs",
    "consensus-ta",
)
METHODS = (*WITH_PARENT, "slerp", "regmean")
WEIGHT = "bert.encoder.layer.1.output.dense.weight"


def parent(seed=0, **settings):
    return tiny("bert", seed=seed, dtype=torch.float32, **settings)


def fine_tunes(count=3, size=0.02):
    """Models that went different ways from one parent."""
    models = {}
    for number in range(count):
        model = copy.deepcopy(parent())
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.data += torch.randn(parameter.shape, generator=generator) * size
        models[f"t{number}"] = model
    return models


def needs(method, models):
    return {
        "parent": parent() if method in WITH_PARENT else None,
        "fishers": {t: fmn.gram_matrices(m, [pad(examples(m))]) for t, m in models.items()}
        if method == "regmean"
        else None,
    }


def merge(method, models, **more):
    return fmn.merge(models, method=method, **{**needs(method, models), **more}).backbone


def count(method):
    return get_rule(method).models or 3


def test_these_are_all_methods():
    assert set(rule_names()) == {*METHODS, "average", "fisher", "mask-fisher", "layerwise"}
    for name in METHODS:
        assert "https://" in get_rule(name).paper
        assert get_rule(name).parent == (name in WITH_PARENT)


@pytest.mark.parametrize("method", METHODS)
def test_the_merge_is_the_rule_on_every_whole_parameter(method):
    models = fine_tunes(count(method))
    backbone = merge(method, models)
    more = needs(method, models)
    sources = [source(model, task) for task, model in models.items()]
    order = sorted(range(len(sources)), key=lambda number: sources[number].digest)
    rule = get_rule(method)
    for name in backbone:
        short = name.removeprefix("bert.")
        statistics = {}
        if method == "regmean":
            grams = [None] * len(order)
            if short in more["fishers"]["t0"].inputs:
                matrix, axis = more["fishers"]["t0"].inputs[short]
                grams = [
                    Gram(more["fishers"][f"t{number}"].matrices[matrix].numpy(), axis)
                    for number in order
                ]
            statistics = {"gram": tuple(grams)}
        part = fmn.Part(
            name=short,
            tensors=tuple(sources[number].tensors[name] for number in order),
            weights=(1.0,) * len(order),
            parent=more["parent"].get_parameter(name).detach().numpy() if rule.parent else None,
            statistics=statistics,
            models=tuple(sources[number].digest for number in order),
            parameters=rule.settings({}),
            inputs=1
            if ".layer." in name and rule.parent and sources[0].tensors[name].ndim == 2
            else None,
        )
        np.testing.assert_allclose(
            backbone[name], rule.combine(part), rtol=1e-6, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("method", METHODS)
def test_neither_order_nor_threads_nor_pieces_change_bytes(method, monkeypatch):
    models = fine_tunes(count(method))
    more = needs(method, models)
    backbones = []
    for threads, order in zip((1, 2, 7, 1, 3, 5), list(permutations(models))[:6] * 3, strict=False):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        backbones.append(merge(method, {task: models[task] for task in order}, **more))
    if not get_rule(method).whole:
        monkeypatch.setattr(engine, "PIECE", 40)
        backbones.append(merge(method, models, **more))
    for name, tensor in backbones[0].items():
        assert {other[name].tobytes() for other in backbones} == {tensor.tobytes()}, name


@pytest.mark.parametrize("method", METHODS)
def test_models_that_are_their_parent_give_the_parent_bit_by_bit(method):
    models = {f"t{number}": parent() for number in range(count(method))}
    warning = "t0: its backbone is its parent's, parent: a task vector of 0"
    with pytest.warns(UserWarning, match=warning) if method in WITH_PARENT else nullcontext():
        merged = merge(method, models)
    for name, tensor in merged.items():
        assert tensor.tobytes() == parent().get_parameter(name).detach().numpy().tobytes(), name


@pytest.mark.parametrize("method", WITH_PARENT)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_one_model_that_is_the_parent_is_named_and_nothing_is_divided_by_0(method):
    models = fine_tunes(2) | {"t2": parent()}
    with pytest.warns(UserWarning, match=r"^t2: its backbone is its parent's, parent: a task vec"):
        merged = merge(method, models)
    assert all(np.isfinite(tensor).all() for tensor in merged.values())


@pytest.mark.parametrize("method", WITH_PARENT)
def test_without_a_parent_a_method_that_needs_one_says_so(method):
    with pytest.raises(MergeError, match=f"^method {method} needs the parent of the models; name"):
        fmn.merge(fine_tunes(2), method=method)


@pytest.mark.parametrize("method", METHODS)
def test_nan_in_a_model_is_an_error_that_names_it(method):
    models = fine_tunes(count(method))
    more = needs(method, models)
    models["t1"].get_parameter(WEIGHT).data[1, 2] = float("nan")
    with pytest.raises(FmnError, match=rf"^t1: {WEIGHT.removeprefix('bert.')} holds NaN"):
        merge(method, models, **more)


@pytest.mark.parametrize("method", WITH_PARENT)
def test_nan_in_the_parent_is_an_error_that_names_it(method):
    broken = parent()
    broken.get_parameter(WEIGHT).data[1, 2] = float("nan")
    with pytest.raises(
        FmnError, match=r"^the parent: encoder\.layer\.1\.output\.dense\.weight holds NaN"
    ):
        merge(method, fine_tunes(), parent=broken)


def test_nan_in_a_gram_matrix_is_found_on_the_way():
    models = fine_tunes()
    more = needs("regmean", models)
    more["fishers"]["t1"].matrices["encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    with pytest.raises(
        FmnError,
        match=r"^t1: its Gram matrix for encoder\.layer\.1\.output\.dense\.weight is broken",
    ):
        merge("regmean", models, **more)


def test_weights_are_absolute_on_task_vectors_and_shares_elsewhere():
    models = fine_tunes(2)
    once, twice = (merge("task-arithmetic", models, weights={"t0": w, "t1": w}) for w in (1.0, 2.0))
    origin = parent().get_parameter(WEIGHT).detach().numpy()
    np.testing.assert_allclose(
        twice[WEIGHT] - origin, 2 * (once[WEIGHT] - origin), rtol=1e-3, atol=1e-6
    )
    for method in ("slerp", "regmean"):
        once, twice = (merge(method, models, weights={"t0": w, "t1": 2 * w}) for w in (1.0, 2.0))
        np.testing.assert_allclose(twice[WEIGHT], once[WEIGHT], rtol=1e-6)


def test_a_parameter_that_the_parent_lacks_takes_the_mean():
    models = fine_tunes(2)
    bare = source(parent(), "parent")
    bare = replace(
        bare,
        tensors={name: tensor for name, tensor in bare.tensors.items() if "pooler" not in name},
    )
    sources = [source(model, task) for task, model in models.items()]
    backbone = Merged(
        make_plan(sources, get_rule("task-arithmetic"), {}, "same", bare), {}
    ).backbone
    name = "bert.pooler.dense.weight"
    np.testing.assert_allclose(
        backbone[name], sum(s.tensors[name] for s in sources) / 2, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ties", {"density": 0}, "density: 0 is impossible; expected a number above 0 to 1"),
        (
            "dare-ties",
            {"density": 1.5},
            "density: 1.5 is impossible; expected a number above 0 to 1",
        ),
        ("ties", {"density": float("nan")}, "density: nan is impossible"),
        ("dare-linear", {"seed": -1}, "seed: -1 is impossible; expected a whole number from 0"),
        (
            "task-arithmetic",
            {"scale": 0},
            "scale: 0 is impossible; expected a number above 0",
        ),
        ("task-arithmetic", {"scale": -1}, "scale: -1 is impossible"),
        ("task-arithmetic", {"scale": float("inf")}, "scale: inf is impossible"),
        ("regmean", {"alpha": 1.1}, "alpha: 1.1 is impossible; expected a number from 0 to 1"),
        (
            "ties",
            {"alpha": 0.5},
            "ties has no parameter alpha; leave it out, or use one of regmean",
        ),
        (
            "average",
            {"density": 0.5},
            "average has no parameter density; leave it out, or use one of breadcrumbs, "
            "dare-linear, dare-ties, della, ties",
        ),
        (
            "average",
            {"association": "value"},
            "average has no parameter association; leave it out, or use one of mask-fisher",
        ),
        (
            "slerp",
            {},
            "method slerp merges 2 models, here are 3; leave out some, or take another method",
        ),
        (
            "ties",
            {"parent": None},
            "method ties needs the parent of the models; name it with 'parent: ",
        ),
        (
            "model-stock",
            {"weights": {"t0": 2.0}},
            "method model-stock knows no weights, here are .*2.*; give all models the same",
        ),
        (
            "task-arithmetic",
            {"weights": {"t0": -1.0}},
            "t0: weight -1.0; expected a finite number, 0 or more",
        ),
        (
            "ties",
            {"parent": tiny("distilbert")},
            "parent parent: a distilbert model; t. is a bert model; name the model that all",
        ),
        (
            "ties",
            {"parent": tiny("bert", num_hidden_layers=3)},
            "parent parent: 3 layers; t. has 2 layers; name the model",
        ),
        (
            "dare-ties",
            {"parent": tiny("bert", vocab_size=51)},
            r"parent parent: embeddings.word_embeddings.weight has shape \[51",
        ),
    ],
)
def test_what_cannot_be_merged_is_said_in_a_line_before_a_tensor_is_read(
    method, options, message, monkeypatch
):
    monkeypatch.setattr("fmn.merging.memory.merge_into", lambda *a: pytest.fail("tensors are read"))
    models = fine_tunes()
    arguments = {"parent": parent()} | options
    with pytest.raises((MergeError, ParamsError), match=message) as error:
        fmn.merge(models, method=method, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_models_whose_layers_differ(method):
    models = fine_tunes(count(method) - 1) | {"t9": tiny("bert", num_hidden_layers=3)}
    with pytest.raises(MergeError, match="t9: 3 layers; t0 has 2 layers"):
        fmn.merge(models, method=method, **needs(method, models))


@pytest.mark.parametrize("method", ["tsv-m", "iso-c", "regmean-free", "della"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "modernbert"])
def test_matrices_that_are_turned_or_fused(family, method):
    """Each is one linear map, whichever way round; embeddings are none."""
    models = {f"t{number}": tiny(family, seed=number, dtype=torch.float32) for number in (1, 2)}
    origin = tiny(family, seed=0, dtype=torch.float32)
    backbone = fmn.merge(models, method=method, parent=origin).backbone
    order = sorted(models, key=lambda task: source(models[task], task).digest)
    kinds, modules = {torch.nn.Linear: 1, Conv1D: 0}, dict(origin.named_modules())
    rule, seen = get_rule(method), set()
    for name, tensor in backbone.items():
        axis = kinds.get(type(modules[name.rpartition(".")[0]]))
        axis = axis if tensor.ndim == 2 and re.search(r"\.\d+\.", name) else None
        seen.add(axis)
        part = fmn.Part(
            name=name.removeprefix(f"{origin.base_model_prefix}."),
            tensors=tuple(models[task].get_parameter(name).detach().numpy() for task in order),
            weights=(1.0, 1.0),
            parent=origin.get_parameter(name).detach().numpy(),
            models=tuple(source(models[task], task).digest for task in order),
            parameters=rule.settings({}),
            inputs=axis,
        )
        np.testing.assert_allclose(tensor, rule.combine(part), rtol=1e-5, atol=1e-6, err_msg=name)
    assert seen == {None, 0 if family == "gpt2" else 1}


def test_a_model_of_weight_0_does_not_count():
    assert not list(misuse(get_rule("slerp"), [1, 0, 1], has_parent=False))
    assert not list(misuse(get_rule("model-stock"), [2, 0, 2], has_parent=True))
    models = fine_tunes()
    weights = {"t0": 1.0, "t1": 1.0, "t2": 0.0}
    assert fmn.merge(models, method="slerp", weights=weights).keys() == models.keys()


def test_one_of_several_methods_is_enough_for_a_parameter():
    rules = [get_rule("average"), get_rule("ties")]
    check_parameters(rules, {"density": 0.5})
    with pytest.raises(ParamsError, match="average, ties has no parameter seed"):
        check_parameters(rules, {"seed": 3})


def test_gram_matrices_of_another_model_are_refused():
    models = fine_tunes(2)
    grams = needs("regmean", models)["fishers"]
    other = tiny("bert", hidden_size=24, intermediate_size=24)
    for wrong, message in (
        (
            fmn.gram_matrices(other, examples(other)),
            "t1: its Gram matrix for .* is one of shape .*; is it of this model",
        ),
        (replace(grams["t1"], model="f" * 64), "t1: Gram matrices of another model"),
        (
            replace(grams["t1"], inputs=dict(list(grams["t1"].inputs.items())[:3])),
            "Gram matrices cannot be compared with .*: for other parameters",
        ),
        (
            None,
            "t1: method regmean needs its Gram matrices; compute it with 'fmn fisher --kind gram' "
            "or "
            "fmn.gram_matrices",
        ),
        (
            fmn.mask_fisher(models["t1"], examples(models["t1"])),
            "t1: method regmean needs a Gram matrices .gram., this is a mask-fisher",
        ),
    ):
        with pytest.raises(MergeError, match=message):
            fmn.merge(
                models,
                method="regmean",
                fishers={"t0": grams["t0"]} | ({"t1": wrong} if wrong else {}),
            )


def test_a_model_that_is_not_the_parent_is_doubted_with_figures():
    models = fine_tunes()
    with pytest.warns(
        UserWarning,
        match=(
            r"parent parent: the models differ from it by 0\.\d+ .* and from each other by "
            r"0\.\d+, "
        ),
    ):
        fmn.merge(models, method="ties", parent=parent(seed=9))


def test_a_doubt_does_nothing_to_a_terminal(tmp_path):
    parent(seed=9).save_pretrained(tmp_path / "a\x1b[2Jb")
    with pytest.warns(UserWarning, match=r"parent .*a\\u001b\[2Jb: the models differ from it"):
        fmn.merge(fine_tunes(), method="ties", parent=tmp_path / "a\x1b[2Jb")


@pytest.mark.filterwarnings("error")
def test_a_parent_is_not_doubted_nor_a_sibling_nor_what_one_model_says_nothing_of():
    models = fine_tunes()
    fmn.merge(models, method="ties", parent=parent())
    fmn.merge({task: models[task] for task in ("t0", "t1")}, method="ties", parent=models["t2"])
    fmn.merge({"t0": models["t0"]}, method="ties", parent=parent(seed=9))
    fmn.merge({"t0": models["t0"], "t1": models["t0"]}, method="ties", parent=parent(seed=9))


@pytest.mark.filterwarnings("error")
def test_one_value_makes_a_fine_tune():
    models = fine_tunes(2) | {"t2": parent()}
    with pytest.raises(UserWarning, match="t2: its backbone is its parent's, parent: a task vec"):
        fmn.merge(models, method="ties", parent=parent())
    models["t2"].get_parameter("bert.embeddings.word_embeddings.weight").data[1, 2] += 1
    fmn.merge(models, method="ties", parent=parent())


def test_the_parent_of_the_real_zoo(zoo):
    from itertools import combinations

    from fmn.steps.member import as_source
    from fmn.store import Memo

    def opened(task):
        return as_source(
            ModelEntry(model=str(zoo / task), task=task), open_checkpoint(zoo / task), Memo()
        )

    names = ("sst2", "rte", "mnli", "mrpc", "qqp", "qnli")
    sources = {name: opened(name) for name in (*names, "parent")}
    random = np.random.default_rng(0)
    fresh = {
        name: random.normal(size=tensor.shape).astype("f4") * tensor.std()
        for name, tensor in sources["parent"].tensors.items()
    }
    another = replace(sources["parent"], tensors=fresh)
    for pair in combinations(names, 2):
        models = [sources[name] for name in pair]
        assert not list(doubts(models, sources["parent"]))
        assert not list(doubts(models, next(sources[name] for name in names if name not in pair)))
        assert len(list(doubts(models, another))) == 1
