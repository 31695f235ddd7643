"""A recipe: which models to merge, how, and what to measure them on where a Fisher is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from fmn.schema import Frozen, parse, read_yaml

Association = Literal["paper", "value", "output", "layer-mean"]
Normalize = Literal["none", "mean", "l2"]
Dtype = Literal["same", "float32", "bfloat16", "float16"]
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class FisherSettings(Frozen):
    """How a Fisher is computed.

    Attributes:
        samples: training examples to take.
        seed: of the choice of examples (and of sampled labels); null takes the first in file order.
        replacement: an example may be drawn more than once, as the published code draws them; needs
            a seed.
        max_length: tokens per example.
        batch_size: examples per forward pass; changes nothing but speed, unless the aggregation is
            ``per-batch``.
        labels: ``true``, ``expected`` or ``sampled``; null is ``true`` for a mask Fisher and
            ``expected`` for a diagonal one.
        placement: of the feed-forward mask node.
        aggregation: of the mask nodes' gradients.
        dtype: that the model computes in; ``same`` is its checkpoint's. Sums are float32 or wider
            in any case.
    """

    samples: Annotated[int, Field(ge=1)] = 128
    seed: Annotated[int, Field(ge=0)] | None = 0
    replacement: bool = False
    max_length: Annotated[int, Field(ge=4)] = 128
    batch_size: Annotated[int, Field(ge=1)] = 32
    labels: Literal["true", "expected", "sampled"] | None = None
    placement: Literal["after-activation", "before-activation"] = "after-activation"
    aggregation: Literal["per-example", "per-batch"] = "per-example"
    dtype: Dtype = "same"

    @field_validator("labels", mode="before")
    @classmethod
    def _yaml_reads_true_as_a_truth_value(cls, value: object) -> object:
        return "true" if value is True else value

    @model_validator(mode="after")
    def _draws_need_a_seed(self) -> FisherSettings:
        if self.replacement and self.seed is None:
            raise ValueError(
                "replacement draws examples by a seed; give one, or take the first ones without "
                "replacement"
            )
        return self


class ModelEntry(Frozen):
    """One model of a recipe.

    Attributes:
        model: a directory or a hub id.
        task: its task, by name or as a ``.yaml`` file.
        weight: λ, relative to the other models'.
        fisher: a file that ``fmn fisher`` wrote; null computes it.
        revision: of a hub id.
        labels: from the model's label names to the task's, where they do not match by name.
        digest: of the weights; where it is given, other weights are refused.
        name: what the model is called in results, and its directory in a merge; the task's name
            unless it is given.
    """

    model: str
    task: str
    weight: float = 1.0
    fisher: Path | None = None
    revision: str | None = None
    labels: dict[str | int | bool, str] | None = None
    digest: str | None = None
    name: str = ""

    @field_validator("task")
    @classmethod
    def _task_can_name_a_directory(cls, task: str) -> str:
        if not SAFE_NAME.fullmatch(task_name(task)):
            raise ValueError(
                f"'{task}' names no task; expected letters, digits, '_', '.', '-', or a .yaml file "
                "so named"
            )
        return task

    @field_validator("name")
    @classmethod
    def _name_can_name_a_directory(cls, name: str) -> str:
        if not SAFE_NAME.fullmatch(name):
            raise ValueError(
                f"'{name}' cannot name a directory; expected letters, digits, '_', '.', '-'"
            )
        return name

    @model_validator(mode="before")
    @classmethod
    def _called_after_its_task(cls, given: Any) -> Any:
        if (
            isinstance(given, dict)
            and isinstance(task := given.get("task"), str)
            and not given.get("name")
        ):
            return {**given, "name": task_name(task)}
        return given

    @field_serializer("fisher")
    def _path_as_text(self, fisher: Path | None) -> str | None:
        return None if fisher is None else str(fisher)


class Parent(Frozen):
    """The pretrained model that models are fine-tunes of; its path or hub id alone will do.

    Attributes:
        model: a directory or a hub id.
        revision: of a hub id.
        digest: of the weights; where it is given, other weights are refused.
    """

    model: str
    revision: str | None = None
    digest: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name_alone(cls, given: Any) -> Any:
        return {"model": given} if isinstance(given, str) else given


class Parameters(Frozen):
    """What a merge method may be told; null takes what the method takes where nothing is said.

    Attributes:
        association: which parameters a mask node governs.
        normalize: how Fishers of different models are brought to one scale.
        scale: of the merged task vector; 1 goes as far from the parent as the method says.
        density: share of each task vector that is kept.
        seed: of which values are dropped at random.
        alpha: factor on the Gram matrices' entries off the diagonal.
    """

    association: Association = "paper"
    normalize: Normalize = "none"
    scale: float | None = None
    density: float | None = None
    seed: int | None = None
    alpha: float | None = None

    @field_validator("scale", "density", "seed", "alpha")
    @classmethod
    def _possible(cls, value: float | None, info: ValidationInfo) -> float | None:
        expected, is_possible = POSSIBLE[str(info.field_name)]
        if value is not None and not is_possible(value):
            raise ValueError(f"{value:g} is impossible; expected {expected}")
        return value


POSSIBLE: dict[str, tuple[str, Callable[[float], bool]]] = {
    "scale": ("a finite number above 0, such as 0.4", lambda value: 0 < value < inf),
    "density": ("a share above 0, at most 1 (1 keeps everything)", lambda value: 0 < value <= 1),
    "seed": ("0 or more", lambda value: value >= 0),
    "alpha": ("a number from 0 (only the diagonal counts) to 1", lambda value: 0 <= value <= 1),
}


class Recipe(Frozen):
    """One merge.

    Attributes:
        method: a merge rule: ``average``, ``fisher``, ``mask-fisher``, ``task-arithmetic``,
            ``ties``, ``dare-linear``, ``dare-ties``, ``slerp``, ``model-stock``, ``regmean``, or
            one added from outside.
        models: at least one.
        parent: of the models, where the method needs it.
        parameters: of the method.
        data: hub id or directory of the tasks' data; used only where a Fisher has to be computed.
        fisher: how it is computed then.
        dtype: of the result; ``same`` keeps the models'.
    """

    method: str
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    parent: Parent | None = None
    parameters: Parameters = Parameters()
    data: str = "nyu-mll/glue"
    fisher: FisherSettings = FisherSettings()
    dtype: Dtype = "same"


def task_name(task: str) -> str:
    """Return a task's name; that of a task file is the file's, without the suffix."""
    return PurePath(task).stem if task.endswith((".yaml", ".yml")) else task


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; relative paths in it are taken from the current directory, as in a shell.

    Raises:
        ParamsError: not there, not YAML, or not a recipe.
    """
    return parse(Recipe, read_yaml(path), str(path))
