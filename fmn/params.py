"""The one description of a zoo: its models, its data, and what is to be merged and measured."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fmn.recipe import Dtype, FisherSettings, ModelEntry, Parameters
from fmn.schema import Frozen, parse, read_yaml


class MergeSettings(Frozen):
    """Which merges are made.

    Attributes:
        methods: merge rules.
        sizes: how many models at a time; ``all`` is every number from two up.
        parameters: of the methods.
        dtype: of the merges.
    """

    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("average", "mask-fisher")
    sizes: tuple[Annotated[int, Field(ge=1)], ...] | Literal["all"] = "all"
    parameters: Parameters = Parameters()
    dtype: Dtype = "same"


class EvaluateSettings(Frozen):
    """How models are measured.

    Attributes:
        split: of each task.
        limit: rows per split, the first in file order; null takes all.
        max_length: tokens per example.
        batch_size: examples per forward pass; changes nothing but speed.
    """

    split: str = "validation"
    limit: Annotated[int, Field(ge=1)] | None = None
    max_length: Annotated[int, Field(ge=4)] = 128
    batch_size: Annotated[int, Field(ge=1)] = 32


class Params(Frozen):
    """A zoo and what is done with it.

    Attributes:
        data: hub id or directory of the tasks' data.
        models: fine-tunes of one parent, one a task.
        fisher: how Fishers are computed.
        merge: which merges are made.
        evaluate: how models are measured.
    """

    data: str = "nyu-mll/glue"
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=2)]
    fisher: FisherSettings = FisherSettings()
    merge: MergeSettings = MergeSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @field_validator("models")
    @classmethod
    def _one_model_a_task(cls, models: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
        tasks = [model.name for model in models]
        if twice := {task for task in tasks if tasks.count(task) > 1}:
            raise ValueError(f"two models for task {min(twice)}; a zoo has one model a task")
        return models

    @field_validator("merge")
    @classmethod
    def _enough_models(cls, merge: MergeSettings, info: ValidationInfo) -> MergeSettings:
        count = len(info.data.get("models", ()))
        if merge.sizes != "all" and count and max(merge.sizes, default=0) > count:
            raise ValueError(f"sizes: merges of {max(merge.sizes)} models, but there are {count}")
        return merge

    def combinations(self) -> Iterator[tuple[ModelEntry, ...]]:
        """Iterate over the sets of models to merge, small ones first."""
        sizes = range(2, len(self.models) + 1) if self.merge.sizes == "all" else sorted(set(self.merge.sizes))
        for size in sizes:
            yield from combinations(self.models, size)


def read_params(path: Path) -> Params:
    """Read a params file.

    Raises:
        ParamsError: not there, not YAML, or not the description of a zoo.
    """
    return parse(Params, read_yaml(path), str(path))
