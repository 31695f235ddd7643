"""Heads of a merge, refitted on what its models said of a sample of examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmn import checkpoint
from fmn.checkpoint import Checkpoint, as_array
from fmn.errors import MergeError
from fmn.evaluation import Task, Text, get_task
from fmn.merging import Merged, Source
from fmn.merging.heads import Refit, refit
from fmn.recipe import ModelEntry, RefitSettings
from fmn.statistics import HEAD_STATES, Measurement, get_statistic
from fmn.steps.context import Context
from fmn.steps.statistic import StatisticStep, id2label
from fmn.store import Memo

ALGORITHM = 1
"""Of refitting; it rises when a change moves more than the last bits of a head."""

Tensors = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Refitted:
    """The heads of a merge.

    Attributes:
        tensors: by task, those that are not its model's own any more, float32, by full name.
        fits: by task, the module that was fitted, and how.
    """

    tensors: Mapping[str, Tensors]
    fits: Mapping[str, tuple[str, Refit]]

    def described(self) -> dict[str, dict[str, Any]]:
        """Return what a record says of each: the map, the ridge that was chosen, the errors.

        A ridge of null says that the model's own map stays, which leaves less.
        """
        return {
            task: {
                "map": name,
                "ridge": fit.ridge,
                "error": fit.error,
                "own_error": fit.own_error,
            }
            for task, (name, fit) in sorted(self.fits.items())
        }

    def write(self, file: Path) -> None:
        """Write the tensors, named ``task/name``."""
        flat = {
            f"{task}/{name}": tensor
            for task, tensors in sorted(self.tensors.items())
            for name, tensor in sorted(tensors.items())
        }
        checkpoint.write(file, flat)


def read_heads(file: Path) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Read what :meth:`Refitted.write` wrote: tensors by task and full name."""
    heads: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for name, tensor in checkpoint.read(file)[0].items():
        task, _, full = name.partition("/")
        heads.setdefault(task, {})[full] = tensor
    return heads


def states_step(
    entry: ModelEntry,
    opened: Checkpoint,
    settings: RefitSettings,
    data: str,
    text: Text | None,
    memo: Memo,
) -> StatisticStep | None:
    """Return the step of a model's head states; None of one that writes text.

    Args:
        entry: the model; without sentences it needs a task.
        opened: it, opened.
        settings: on what it is refitted.
        data: of its task.
        text: sentences in place of them.
        memo: digests of files.

    Raises:
        ParamsError: no task, whose data it needs.
    """
    task = _any_task(entry, opened) if text and not entry.task else get_task(entry.needed_task)
    if task.is_language:
        return None
    return StatisticStep(
        opened,
        task,
        text or data,
        get_statistic(HEAD_STATES),
        settings.as_fisher(),
        memo,
        entry.labels,
        entry.name,
    )


def _any_task(entry: ModelEntry, opened: Checkpoint) -> Task:
    """Return a task of single sentences, with the labels that the model has."""
    labels = tuple(id2label(opened).values())
    several = labels if len(labels) > 1 else ()
    return Task(name=entry.name, columns=("sentence",), labels=several, metrics=("accuracy",))


def refit_heads(
    merged: Merged,
    models: Iterable[tuple[Source, StatisticStep, Measurement]],
    context: Context,
) -> Refitted:
    """Fit the first linear map of each head to the merged backbone; one forward pass a task.

    Args:
        merged: the merge, with the models' own heads.
        models: each with the step of its head states, whose examples are read again, and those
            states.
        context: where.

    Raises:
        MergeError: states that do not fit the model, or NaN in what the merge says.
        FisherError: the merge says NaN.
    """
    tensors: dict[str, Tensors] = {}
    fits: dict[str, tuple[str, Refit]] = {}
    for source, step, states in models:
        assert source.checkpoint is not None
        model = merged.put_into(context.body(source.checkpoint))
        read = step.read_head(context, model)
        weight, bias = (source.tensors.get(f"{read.map}.{kind}") for kind in ("weight", "bias"))
        if weight is None:
            raise MergeError(
                [
                    f"{source.name}: its head cannot be refitted: its weights have no "
                    f"{read.map}.weight; say 'heads: own'"
                ]
            )
        try:
            fit = refit(as_array(read.inputs), states.tensors["outputs"], weight, bias)
        except MergeError as error:
            raise MergeError([f"{source.name}: {error}"]) from error
        fits[source.task] = read.map, fit
        if fit.ridge is not None:
            tensors[source.task] = {
                f"{read.map}.{kind}": tensor.astype(np.float32)
                for kind, tensor in (("weight", fit.weight), ("bias", fit.bias))
                if tensor is not None
            }
    return Refitted(tensors, fits)
