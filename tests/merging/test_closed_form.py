"""Merges of the real zoo without data against an independent implementation, matrix by matrix."""

import numpy as np
import pytest

import fmn
from fmn.checkpoint import read

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
