"""Merges of the real zoo without data against an independent implementation, matrix by matrix."""

import numpy as np
import pytest

import fmn
from fmn.checkpoint import as_array, open_checkpoint, read
from fmn.evaluation import get_task
from fmn.merging.heads import candidates, refit
from fmn.recipe import FisherSettings
from fmn.statistics import get_statistic
from fmn.steps.context import Context
from fmn.steps.statistic import StatisticStep
from fmn.store import Memo

TASKS = ("sst2", "rte", "mnli", "mrpc", "qqp", "qnli")
TOLERANCE = 1e-4
"""Of the norm of the change from the parent."""


@pytest.mark.parametrize("method", ["tsv-m", "regmean-free"])
def test_all_six_models(method, shared, zoo):
    golden, _ = read(shared / "golden" / "closed_form.safetensors")
    expected = {
        name.partition(":")[2]: rows for name, rows in golden.items() if name.startswith(method)
    }
    assert len(expected) == 3
    models = {task: zoo / task for task in TASKS}
    backbone = fmn.merge(models, method=method, parent=zoo / "parent").backbone
    origin, _ = read(zoo / "parent" / "model.safetensors")
    for name, rows in expected.items():
        merged, before = (
            next(tensor for full, tensor in tensors.items() if full.endswith(name))[: len(rows)]
            for tensors in (backbone, origin)
        )
        change = np.linalg.norm(rows - before)
        assert np.linalg.norm(merged - rows) < TOLERANCE * change, name


@pytest.mark.parametrize("task", ["rte", "qqp"])
def test_a_head_refitted_to_the_average(shared, zoo, task):
    """On the first 128 training rows, with a tenth of the mean diagonal of XᵀX as the ridge."""
    golden, _ = read(shared / "golden" / "closed_form.safetensors")
    models = {name: str(zoo / name) for name in TASKS}
    merged = fmn.merge(models, method="average", heads="own")
    step = StatisticStep(
        open_checkpoint(models[task]),
        get_task(task),
        str(shared / "glue"),
        get_statistic("head-states"),
        FisherSettings(samples=128, seed=None),
        Memo(),
    )
    context = Context(device="cpu")
    own = step.compute(context).measurement()
    seen = step.read_head(context, merged[task])
    tensors = step.checkpoint.tensors
    assert seen.map == "bert.pooler.dense"
    weight, bias = (tensors[f"{seen.map}.{kind}"] for kind in ("weight", "bias"))
    states = as_array(seen.inputs)
    kept, fit = candidates(states, own.tensors["outputs"], weight, bias, ridges=(0.1,))
    # rte's own pooler leaves less than a refit with so small a ridge
    own_error, error = {"rte": (0.194, 0.252), "qqp": (0.093, 0.045)}[task]
    assert kept.error == pytest.approx(own_error, abs=6e-4)
    assert fit.error == pytest.approx(error, abs=6e-4)
    for name, got in (("weight", fit.weight), ("bias", fit.bias)):
        expected = golden[f"refit:{task}.pooler.{name}"]
        near = TOLERANCE * np.abs(expected).max()
        np.testing.assert_allclose(got[: len(expected)], expected, rtol=0, atol=near)
    assert refit(states, own.tensors["outputs"], weight, bias).error < kept.error
