"""Zoos of tiny models, of the tests' small world: for what is measured beside steps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


def make_world(work: Path) -> Any:
    """Make three fine-tunes of a tiny BERT, with their data, in ``work/world``."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    from tests.steps.world import build_world

    return build_world(work / "world")


def make_models(work: Path, count: int) -> None:
    """Make so many models of one task in ``work/zoo``, and the world with their data."""
    world = make_world(work)
    import torch

    from tests.steps.world import LABELS, save

    model = world.load("sst2")
    for number in range(count):
        torch.manual_seed(number)
        for parameter in model.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)
        save(model, work / "zoo" / f"m{number}", LABELS["sst2"])


def describe(work: Path, count: int, methods: Sequence[str], **merge: Any) -> Path:
    """Write the params of a zoo of so many of the models, with a store of its own."""
    content = {
        "store": str(work / f"store-{count}"),
        "data": str(work / "world" / "data"),
        "models": [
            {"model": str(work / "zoo" / f"m{n}"), "task": "sst2", "name": f"m{n}"}
            for n in range(count)
        ],
        "fisher": {"samples": 8},
        "merge": {"methods": list(methods), "heads": "merged", **merge},
        "evaluate": {"limit": 2},
    }
    params = work / f"{count}.yaml"
    params.write_text(yaml.safe_dump(content))
    return params
