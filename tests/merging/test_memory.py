import copy
from typing import get_args

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import fmn
from fmn.checkpoint import as_array, open_checkpoint
from fmn.errors import FmnError, MergeError, ParamsError
from fmn.recipe import Association
from tests.families import examples, pad, tiny
from tests.merging.conftest import merged_arrays, random_fisher, source
from tests.statistics.test_importance import BEYOND
from tests.statistics.test_importance import expected as importance_of

CHECKED = [
    "encoder.layer.1.attention.self.query.weight",
    "encoder.layer.1.intermediate.dense.bias",
    "encoder.layer.1.output.dense.weight",
    "encoder.layer.1.attention.self.value.weight",
    "encoder.layer.1.attention.output.dense.weight",
    "encoder.layer.1.output.LayerNorm.bias",
]


@pytest.mark.parametrize("association", get_args(Association))
@pytest.mark.parametrize("count", [1, 2, 6])
def test_mask_fisher_merging_is_the_formula_in_float64(count, association):
    fishers = [random_fisher(2, 4, 24, seed, more=BEYOND) for seed in range(count)]
    weights = [1.0 + seed for seed in range(count)]
    sources = [source(tiny("bert", seed=i), f"t{i}", weights[i], fishers[i]) for i in range(count)]
    merged = merged_arrays(sources, "mask-fisher", association=association)
    for name in CHECKED:
        tensors = [s.tensors[f"bert.{name}"] for s in sources]
        f = [
            w * importance_of(fisher, association, name, tensors[0].shape)
            for w, fisher in zip(weights, fishers, strict=True)
        ]
        expected = sum(f_i * t for f_i, t in zip(f, tensors, strict=True)) / sum(f)
        np.testing.assert_allclose(merged[f"bert.{name}"], expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(5)), st.sampled_from(["average", "mask-fisher"]))
def test_any_order_gives_the_same_bytes(order, method):
    sources = [
        source(tiny("bert", seed=i, dtype=torch.float32), f"t{i}", 1.0, random_fisher(2, 4, 24, i))
        for i in range(5)
    ]
    one, two = merged_arrays(sources, method), merged_arrays([sources[i] for i in order], method)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_full_fisher_merging_is_the_formula(tmp_path):
    models = {"a": tiny("bert", seed=0), "b": tiny("bert", seed=1)}
    fishers = {
        task: fmn.diagonal_fisher(model, [pad(examples(model))]) for task, model in models.items()
    }
    merged = fmn.merge(models, method="fisher", fishers=fishers)
    name = "encoder.layer.0.attention.self.value.weight"
    f = [as_array(fishers[task].parameters[name]).astype(np.float64) for task in "ab"]
    t = [as_array(models[task].get_parameter(f"bert.{name}")) for task in "ab"]
    np.testing.assert_allclose(
        merged.backbone[f"bert.{name}"], (f[0] * t[0] + f[1] * t[1]) / (f[0] + f[1]), rtol=1e-10
    )


def test_models_in_memory_and_on_disk_give_the_same(tmp_path):
    models = {
        f"t{i}": tiny("bert", seed=i, num_labels=i + 2, dtype=torch.float32) for i in range(3)
    }
    before = copy.deepcopy({task: model.state_dict() for task, model in models.items()})
    for task, model in models.items():
        model.save_pretrained(tmp_path / task)
    fishers = {
        task: fmn.mask_fisher(model, [pad(examples(model))]) for task, model in models.items()
    }
    in_memory = fmn.merge(models, fishers=fishers, weights={"t0": 2.0})
    from_disk = fmn.merge(
        {task: tmp_path / task for task in models}, fishers=fishers, weights={"t0": 2.0}
    )
    assert list(in_memory) == ["t0", "t1", "t2"]
    for task, model in models.items():
        batch = pad(examples(model))
        batch.pop("labels")
        one, two = in_memory[task], from_disk[task]
        assert isinstance(one, transformers.BertForSequenceClassification)
        assert torch.equal(one(**batch).logits, two.eval()(**batch).logits)
        assert not torch.equal(one(**batch).logits, model(**batch).logits)
        assert torch.equal(one.classifier.weight, model.classifier.weight)
        assert all(
            torch.equal(tensor, before[task][name]) for name, tensor in model.state_dict().items()
        )


def test_dtype_in_memory():
    models = {task: tiny("bert", seed=i, dtype=torch.float32) for i, task in enumerate("ab")}
    assert {
        p.dtype for p in fmn.merge(models, method="average", dtype="bfloat16")["a"].parameters()
    } == {torch.bfloat16}


def test_a_fisher_that_was_saved_and_loaded(tmp_path):
    model = tiny("bert")
    fisher = fmn.mask_fisher(model, [pad(examples(model))])
    fisher.save(tmp_path / "f.safetensors")
    loaded = fmn.MaskFisher.load(tmp_path / "f.safetensors")
    assert loaded.metadata() == fisher.metadata()
    assert all(
        torch.equal(a, b) for (_, a), (_, b) in zip(fisher.tensors(), loaded.tensors(), strict=True)
    )
    diagonal = fmn.diagonal_fisher(model, [pad(examples(model))])
    diagonal.save(tmp_path / "d.safetensors")
    assert (
        fmn.DiagonalFisher.load(tmp_path / "d.safetensors").parameters.keys()
        == diagonal.parameters.keys()
    )
    with pytest.raises(FmnError, match="is not a mask-fisher of format 1"):
        fmn.MaskFisher.load(tmp_path / "d.safetensors")
    with pytest.raises(FmnError, match="exists already"):
        fisher.save(tmp_path / "f.safetensors")


def test_a_nan_in_a_diagonal_fisher_is_found_on_the_way():
    models = {task: tiny("bert", seed=i) for i, task in enumerate("ab")}
    fishers = {
        task: fmn.diagonal_fisher(model, [pad(examples(model))]) for task, model in models.items()
    }
    fishers["b"].parameters["encoder.layer.0.output.dense.weight"][1, 2] = float("nan")
    with pytest.raises(
        FmnError, match=r"b: its Fisher of encoder\.layer\.0\.output\.dense\.weight holds NaN"
    ):
        fmn.merge(models, method="fisher", fishers=fishers)


def test_bad_calls():
    models = {task: tiny("bert", seed=i) for i, task in enumerate("ab")}
    with pytest.raises(MergeError, match="method mask-fisher needs its mask Fisher"):
        fmn.merge(models)
    with pytest.raises(ParamsError, match="unknown task 'c'"):
        fmn.merge(models, weights={"c": 1.0})
    with pytest.raises(ParamsError, match="unknown merge method 'mean'"):
        fmn.merge(models, method="mean")


def test_tied_heads_follow_the_merged_embeddings(tmp_path):
    models = {
        task: tiny("bert", "MaskedLM", seed=i, dtype=torch.float32) for i, task in enumerate("ab")
    }
    merged = fmn.merge(models, method="average")["a"]
    assert merged.cls.predictions.decoder.weight is merged.bert.embeddings.word_embeddings.weight
    models["a"].save_pretrained(tmp_path / "a")
    assert "cls.predictions.decoder.weight" not in open_checkpoint(tmp_path / "a").tensors
