"""A merge as a directory: the backbone once, and a directory per task for transformers to load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fmn.checkpoint import (
    DTYPE_NAMES,
    FLOATS,
    SafetensorsWriter,
    TensorSpec,
    check_new,
    new_directory,
    write,
)
from fmn.errors import CheckpointError
from fmn.merging.engine import merge_into
from fmn.merging.plan import Plan
from fmn.merging.source import Source

SHARD_BYTES = 2 * 10**9
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def write_merged(
    plan: Plan,
    dest: Path,
    recipe: str,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Merge into a new directory.

    ``backbone/`` holds the merged tensors in shards; each task's directory holds links to them, the
    task head, an index over both, the configuration, the tokenizer, and what says how the model
    generates and is shown images; ``recipe.yaml`` is the resolved recipe.

    Args:
        plan: the merge.
        dest: does not exist yet.
        recipe: text of the resolved recipe.
        shard_bytes: largest size of a shard (but a shard holds at least one tensor).
        progress: called with the number of elements of each finished piece.

    Raises:
        OutputError: ``dest`` exists, cannot be made, or the disk is full.
        FmnError: NaN or infinity in a model.
    """
    need = sum(spec.nbytes for spec in plan.specs.values())
    need += sum(tensor.nbytes for source in plan.sources for tensor in plan.head(source).values())
    check_new(dest, need)
    with new_directory(dest) as staging:
        fill_merged(plan, staging, recipe, shard_bytes=shard_bytes, progress=progress)


def fill_merged(
    plan: Plan,
    folder: Path,
    recipe: str,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Merge into an empty directory that somebody else looks after; see :func:`write_merged`."""
    (folder / "backbone").mkdir()
    shards = list(_shards(plan.specs, shard_bytes))
    files = [
        f"backbone-{number:05d}-of-{len(shards):05d}.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    with ExitStack() as stack:
        writers: dict[str, SafetensorsWriter] = {}
        for file, names in zip(files, shards, strict=True):
            specs = {name: plan.specs[name] for name in names}
            writer = stack.enter_context(SafetensorsWriter(folder / "backbone" / file, specs))
            writers |= dict.fromkeys(names, writer)
        merge_into(
            plan, lambda name, piece, offset: writers[name].write(name, piece, offset), progress
        )
    where = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    for source in plan.sources:
        _write_task(plan, source, folder / source.task, where)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")


def load_merged(directory: str | Path, task: str) -> Any:
    """Load one task's model from a directory that a merge wrote.

    Returns:
        a transformers model of the class that the task was fine-tuned with.

    Raises:
        CheckpointError: no such directory, or no such task in it; the message names those that are
            there.
    """
    folder = Path(directory) / task
    if not (folder / "config.json").is_file():
        there = sorted(file.parent.name for file in Path(directory).glob("*/config.json"))
        raise CheckpointError(
            f"no task '{task}' in {directory}; there are: {', '.join(there) or 'none'}"
        )
    from fmn.models import load_model

    return load_model(folder)


def _shards(specs: Mapping[str, TensorSpec], limit: int) -> Iterator[list[str]]:
    shard: list[str] = []
    size = 0
    for name, spec in specs.items():
        if shard and size + spec.nbytes > limit:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += spec.nbytes
    yield shard


def _write_task(plan: Plan, source: Source, folder: Path, where: Mapping[str, str]) -> None:
    folder.mkdir()
    for file in sorted(set(where.values())):
        (folder / file).symlink_to(Path("..") / "backbone" / file)
    dtype = plan.dtype
    head = {name: tensor.astype(dtype, copy=False) for name, tensor in plan.head(source).items()}
    if head:
        write(folder / "head.safetensors", head)
    index = {
        "metadata": {
            "total_size": sum(spec.nbytes for spec in plan.specs.values())
            + sum(t.nbytes for t in head.values())
        },
        "weight_map": dict(sorted((dict(where) | dict.fromkeys(head, "head.safetensors")).items())),
    }
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(index, indent=2) + "\n", encoding="utf-8"
    )
    assert source.checkpoint is not None, "only models that are on disk are merged into a directory"
    config = _config(dict(source.checkpoint.config), dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file_ in (*source.checkpoint.tokenizer_files(), *source.checkpoint.other_files()):
        shutil.copyfile(file_, folder / file_.name)


def _config(config: dict[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Say the new dtype under the name that the configuration had for it.

    That name is ``torch_dtype`` before transformers 5.
    """
    key = "dtype" if "dtype" in config else "torch_dtype"
    return config | {key: TORCH_NAMES[DTYPE_NAMES[dtype]]} if dtype in FLOATS else config
