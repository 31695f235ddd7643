"""Tiny checkpoints on disk, and what a merge of them should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from fmn import architectures
from fmn.checkpoint import as_array, setting_of
from fmn.merging import Source, get_rule, make_plan
from fmn.statistics import Measurement
from tests.families import tiny

MakeZoo = Callable[..., list[Path]]


@pytest.fixture
def make_zoo(tmp_path: Path) -> MakeZoo:
    """Write ``count`` fine-tunes of a family to disk; task t{i}, with i + 2 classes."""

    def make(
        name: str = "bert",
        count: int = 3,
        *,
        head: str = "",
        first: int = 0,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> list[Path]:
        folders = []
        classes = (
            3 if name == "bart" else 2
        )  # its configuration does not say 2 where it is saved, and means 3 where it is read
        for number in range(first, first + count):
            model = tiny(name, head, seed=number, num_labels=number + classes, dtype=dtype)
            folder = tmp_path / "zoo" / f"t{number}"
            model.save_pretrained(folder, **options)
            folders.append(folder)
        return folders

    return make


def source(
    model: Any,
    task: str = "a",
    weight: float = 1.0,
    fisher: Measurement | None = None,
    name: str = "",
) -> Source:
    """Return a model in memory as a merge takes it."""
    config = model.config
    tensors = {
        n: as_array(p)
        for n, p in sorted(architectures.get(config.model_type).parameters(model).items())
    }
    return Source(
        name or task,
        task,
        config.model_type,
        lambda key: setting_of(config, key),
        tensors,
        weight,
        {fisher.kind: fisher} if fisher else {},
    )


def random_fisher(
    layers: int,
    heads: int,
    neurons: int,
    seed: int,
    model_type: str = "bert",
    groups: int | None = None,
    more: Mapping[str, int] = MappingProxyType({}),
) -> Measurement:
    """Return a mask Fisher of random values over several orders of magnitude."""
    random = np.random.default_rng(seed)
    parts = {"attention": heads, "feed_forward": neurons} | (
        {"key_value": groups} if groups else {}
    )
    parts |= more
    tensors = {
        f"layer.{layer}.{part}": np.exp(random.normal(size=size) * 3).astype(np.float32)
        for layer in range(layers)
        for part, size in parts.items()
    }
    return Measurement(tensors, {"kind": "mask-fisher", "model_type": model_type, "labels": "true"})


def merged_arrays(
    sources: Sequence[Source], method: str, dtype: Any = "same", **parameters: Any
) -> Mapping[str, np.ndarray]:
    """Merge in memory: full name to merged tensor."""
    from fmn.merging import Merged

    return Merged(make_plan(sources, get_rule(method), parameters, dtype), {}).backbone
