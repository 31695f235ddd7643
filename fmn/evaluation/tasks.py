"""Tasks as data: where the texts and labels are, what the labels are called, what is measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from fmn.registry import Registry, check_name, one_or_several
from fmn.schema import Frozen, parse, read_yaml

# Split names become file names, too; the hub allows capitals in them.
SplitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


def normalize(name: str) -> str:
    """Return a label's name without case, spaces, ``-`` and ``_``."""
    return re.sub(r"[\s_-]+", "", name).casefold()


class Task(Frozen):
    """A classification or regression task over texts, or one whose text a model is to write.

    Attributes:
        name: Its name; also the directory of its data, and the configuration on the hub.
        columns: The one or two columns that hold text; of a language task the prompt's, if it has
            one.
        labels: Label names in the order of the DATA's numbers; empty for a regression with one
            target.
        completion: Of a language task, the column of the text that follows the prompt: its tokens
            are what the loss and the metrics are about. Empty for all other tasks.
        metrics: Names of metrics; the first is the headline.
        train: The training split.
        validation: The validation splits; the first gives the headline.
        label: The column of labels.
    """

    name: str
    columns: Annotated[tuple[str, ...], Field(max_length=2)]
    labels: tuple[str, ...]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    train: SplitName = "train"
    validation: Annotated[tuple[SplitName, ...], Field(min_length=1)] = ("validation",)
    label: str = "label"
    completion: str = ""

    @model_validator(mode="before")
    @classmethod
    def _text_has_no_labels(cls, values: Any) -> Any:
        return (
            {"columns": (), "labels": (), **values}
            if isinstance(values, dict) and values.get("completion")
            else values
        )

    @model_validator(mode="after")
    def _what_goes_together(self) -> Task:
        if self.completion and (
            self.labels or len(self.columns) > 1 or self.completion in self.columns
        ):
            raise ValueError(
                "a task with a completion has no labels and at most one column, the prompt's"
            )
        if not self.completion and not self.columns:
            raise ValueError("columns: expected at least 1 that holds text")
        return self

    @field_validator("name")
    @classmethod
    def _name_fits_a_path(cls, name: str) -> str:
        return check_name("task", name)

    @field_validator("labels")
    @classmethod
    def _labels_can_be_told_apart(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(labels) == 1:
            raise ValueError(
                "one label leaves nothing to predict; give two or more, or none for a regression"
            )
        if len({normalize(label) for label in labels}) < len(labels):
            raise ValueError(
                f"labels must differ by more than case, spaces, '-' and '_': {', '.join(labels)}"
            )
        return labels

    @field_validator("metrics", "columns", "validation")
    @classmethod
    def _no_repetition(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"named twice: {', '.join(names)}")
        return names

    @property
    def is_regression(self) -> bool:
        """Whether the target is one real number."""
        return not self.labels and not self.completion

    @property
    def is_language(self) -> bool:
        """Whether the target is text."""
        return bool(self.completion)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the data that it needs."""
        return (*self.columns, self.completion or self.label)

    @property
    def content(self) -> dict[str, Any]:
        """What it is, whatever it is called: the columns, and what their labels mean."""
        content = {"columns": self.columns, "label": self.label, "labels": self.labels}
        return content | ({"completion": self.completion} if self.completion else {})

    @property
    def headline(self) -> str:
        """The metric by which the task is quoted."""
        return self.metrics[0]


def register_task(task: Task) -> None:
    """Add a task under its name.

    Raises:
        ParamsError: The name is taken.
    """
    _TASKS.register(task.name, task)


def get_task(name: str) -> Task:
    """Return a registered task, or read one from a file if the name ends in ``.yaml`` or ``.yml``.

    Raises:
        ParamsError: No such task or file, or the file does not describe a task.
    """
    if name.endswith((".yaml", ".yml")):
        # every field is text: the labels [no, yes] must not become [False, True]
        return parse(Task, read_yaml(Path(name).expanduser(), text_only=True), name)
    return _TASKS.get(name)


def task_names() -> tuple[str, ...]:
    """Return the names of all registered tasks, sorted."""
    return _TASKS.names()


_TASKS: Registry[Task] = Registry(
    "task",
    "fmn.tasks",
    one_or_several(Task, lambda task: task.name),
    "name a .yaml file to use a task of your own, or register one in Python",
)

_ENTAILMENT = ("entailment", "not_entailment")

# Columns, label numbers and metrics of nyu-mll/glue (Wang et al. 2018,
# https://arxiv.org/abs/1804.07461).
for _task in (
    Task(
        name="cola",
        columns=("sentence",),
        labels=("unacceptable", "acceptable"),
        metrics=("matthews",),
    ),
    Task(
        name="sst2", columns=("sentence",), labels=("negative", "positive"), metrics=("accuracy",)
    ),
    Task(
        name="mrpc",
        columns=("sentence1", "sentence2"),
        labels=("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
    ),
    Task(
        name="qqp",
        columns=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
    ),
    Task(
        name="stsb", columns=("sentence1", "sentence2"), labels=(), metrics=("pearson", "spearman")
    ),
    Task(
        name="mnli",
        columns=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        validation=("validation_matched", "validation_mismatched"),
    ),
    Task(name="qnli", columns=("question", "sentence"), labels=_ENTAILMENT, metrics=("accuracy",)),
    Task(name="rte", columns=("sentence1", "sentence2"), labels=_ENTAILMENT, metrics=("accuracy",)),
    Task(
        name="wnli",
        columns=("sentence1", "sentence2"),
        labels=_ENTAILMENT[::-1],
        metrics=("accuracy",),
    ),
):
    register_task(_task)
