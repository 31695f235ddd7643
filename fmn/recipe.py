"""A recipe: which models to merge, how, and what to measure them on where a Fisher is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_serializer, field_validator, model_validator

from fmn.errors import ParamsError
from fmn.schema import Address, Frozen, parse, read_yaml
from fmn.visible import one_line

Nodes = Literal[
    "attention",
    "feed-forward",
    "residual-channels",
    "value-heads",
    "output-columns",
    "layers",
    "kv-groups",
]
"""Kinds of mask nodes that a Fisher can be taken of. Besides the paper's: a node per ``residual-
channels``, on what a block adds to the residual stream; ``value-heads``, on what a value head hands
on; ``output-columns``, on what goes into each column of attention's output projection; ``layers``,
on all that a layer adds; ``kv-groups``, on the keys and values of a group of heads.
"""
PAPER_NODES: tuple[Nodes, ...] = ("attention", "feed-forward")
"""One per attention head and one per neuron: what every mask Fisher has."""
Association = Literal[
    "paper",
    "value",
    "output",
    "layer-mean",
    "residual-channels",
    "value-heads",
    "output-columns",
    "layers",
    "kv-groups",
    "combined",
]
Normalize = Literal["none", "mean", "l2"]
Dtype = Literal["same", "float32", "bfloat16", "float16"]
Heads = Literal["merged", "own", "refit"]
"""What becomes of a task's head. ``merged``: all that the models share is merged, a pooler too.
``own``: what feeds nothing but the head stays with its task. ``refit``: the head's first linear map
is fitted, so that it says of the merge what it said of its model.
"""
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}(?<!\.)")
RESERVED = re.compile(
    r"recipe\.yaml|backbone|(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE
)
"""What lies beside the models of a merge, and what Windows has for its devices."""


def all_nodes(nodes: Iterable[Nodes]) -> tuple[Nodes, ...]:
    """Return these kinds of nodes and the paper's, each once, in the order of :data:`Nodes`."""
    chosen = {*PAPER_NODES, *nodes}
    return tuple(kind for kind in get_args(Nodes) if kind in chosen)


class FisherSettings(Frozen):
    """How a Fisher is computed.

    Attributes:
        samples: training examples to take.
        seed: of the choice of examples (and of sampled labels); in YAML, null takes the first in
            file order.
        replacement: an example may be drawn more than once, as the published code draws them; needs
            a seed.
        max_length: tokens per example.
        batch_size: examples per forward pass; changes nothing but speed, unless the aggregation is
            ``per-batch``.
        labels: that the loss is taken of; where nothing is said, ``true`` for a mask Fisher and
            ``expected`` for a diagonal one.
        placement: of the feed-forward mask node.
        aggregation: of the mask nodes' gradients.
        dtype: that the model computes in; ``same`` is its checkpoint's. Sums are float32 or wider
            in any case.
        nodes: kinds of mask nodes; ``attention`` and ``feed-forward``, the paper's, are always
            among them.
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
    nodes: tuple[Nodes, ...] = PAPER_NODES

    @field_validator("nodes")
    @classmethod
    def _in_order(cls, nodes: tuple[Nodes, ...]) -> tuple[Nodes, ...]:
        return all_nodes(nodes)

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


class RefitSettings(Frozen):
    """On what heads are refitted.

    Attributes:
        samples: examples per model.
        seed: of the choice of examples; in YAML, null takes the first in file order.
        max_length: tokens per example.
        batch_size: examples per forward pass; changes nothing but speed.
        text: any sentences in place of the tasks' training inputs: a file with one a line, a
            Parquet file, a hub dataset, or a list of them. Tasks of two texts get pairs.
    """

    samples: Annotated[int, Field(ge=1)] = 512
    seed: Annotated[int, Field(ge=0)] | None = 0
    max_length: Annotated[int, Field(ge=4)] = 128
    batch_size: Annotated[int, Field(ge=1)] = 32
    text: Address | Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    def as_fisher(self) -> FisherSettings:
        """Return them as those of a statistic."""
        return FisherSettings(**self.model_dump(exclude={"text"}))


class ModelEntry(Frozen):
    """One model of a recipe.

    Attributes:
        model: a directory or a hub id.
        task: its task, by name or as a ``.yaml`` file; it can be left out where nothing needs data.
        weight: λ, relative to the other models'.
        fisher: a file that ``fmn fisher`` wrote; null computes it.
        revision: of a hub id.
        labels: from the model's label names to the task's, where they do not match by name.
        digest: of the weights; where it is given, other weights are refused.
        name: what the model is called in results, and its directory in a merge; unless it is given
            the task's name, or else the last part of the model's.
    """

    model: Address
    task: str | None = None
    weight: float = 1.0
    fisher: Path | None = None
    revision: str | None = None
    labels: dict[str | int | bool, str] | None = None
    digest: str | None = None
    name: str = ""

    @field_validator("task")
    @classmethod
    def _task_can_name_a_directory(cls, task: str | None) -> str | None:
        if task is not None and not SAFE_NAME.fullmatch(task_name(task)):
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
                f"'{one_line(name)}' cannot name a directory; expected letters, digits, '_', '.', "
                "'-', at most 100; give the model a 'name'"
            )
        if RESERVED.fullmatch(name):
            raise ValueError(
                f"'{name}' cannot name a directory: merges have a file of that name, or Windows "
                "has a device; give the model another 'name'"
            )
        return name

    @model_validator(mode="before")
    @classmethod
    def _called_after_its_task(cls, entry: Any) -> Any:
        if not isinstance(entry, dict) or entry.get("name"):
            return entry
        if isinstance(task := entry.get("task"), str):
            return {**entry, "name": task_name(task)}
        if task is None and isinstance(model := entry.get("model"), str):
            return {**entry, "name": PurePath(model).name}
        return entry

    @property
    def needed_task(self) -> str:
        """The task, where something needs data.

        Raises:
            ParamsError: nobody said which.
        """
        if self.task is None:
            raise ParamsError(
                f"model {self.name}: which task is it for? Its data are needed; add 'task: NAME'"
            )
        return self.task

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

    model: Address
    revision: str | None = None
    digest: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name_alone(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value


Parameters = dict[str, Any]
"""What is said to a merge method, by name; the method says what there is: see
:class:`fmn.merging.Parameter`.
"""


MERGE_INPUTS = ("algorithm", "method", "models", "dtype", "parent", "heads", "layers")
"""What the record of a merge says of its inputs besides parameters of its method."""


class Recipe(Frozen):
    """One merge.

    Attributes:
        method: the name of a merge rule.
        models: at least one.
        parent: of the models, where the method needs it.
        parameters: of the method.
        data: hub id or directory of the tasks' data; used only where a statistic is to be computed.
        fisher: how it is computed then.
        dtype: of the result; ``same`` keeps the models'.
        heads: what becomes of them: ``merged``, ``own`` or ``refit``.
        refit: on what they are refitted.
    """

    method: str
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    parent: Parent | None = None
    parameters: Parameters = Field(default_factory=dict)
    data: Address = "nyu-mll/glue"
    fisher: FisherSettings = FisherSettings()
    dtype: Dtype = "same"
    heads: Heads = "own"
    refit: RefitSettings = RefitSettings()


RESOLVED = "# resolved by fmn 0.1.0\n"
"""The first line of a resolved recipe: what it was when 0.1.0 wrote the first, and not the version
of the day, for the same merge is to be the same directory.
"""


def task_name(task: str) -> str:
    """Return a task's name; that of a task file is the file's, without the suffix."""
    return PurePath(task).stem if task.endswith((".yaml", ".yml")) else task


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; relative paths in it are taken from the current directory, as in a shell.

    Raises:
        ParamsError: not there, not YAML, or not a recipe.
    """
    content = read_yaml(path)
    if isinstance(content, dict) and path.read_text(encoding="utf-8").startswith(RESOLVED):
        # those of before heads could be said, and those that say nothing of them
        content.setdefault("heads", "merged")
    return parse(Recipe, content, str(path))
