"""Measuring a model or a merge that lies in a directory, or on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fmn import evaluation
from fmn.checkpoint import open_checkpoint
from fmn.errors import DataError, ParamsError
from fmn.params import EvaluateSettings
from fmn.recipe import ModelEntry, read_recipe, task_name
from fmn.steps.context import Context
from fmn.steps.evaluate import EvaluateStep, Labels
from fmn.steps.scores import TaskScores


def evaluate_path(
    path: str,
    tasks: Sequence[str],
    data: str,
    settings: EvaluateSettings,
    context: Context,
    *,
    revision: str | None = None,
    labels: Labels | None = None,
) -> list[TaskScores]:
    """Measure a model, or a merge's tasks.

    Args:
        path: a model's directory or hub id, or a directory that a merge wrote.
        tasks: names or files; none means every task of a merge.
        data: hub id or directory.
        settings: how.
        context: where.
        revision: of a hub id.
        labels: from the model's label names to the task's, for one task; without it, a merge brings
            its recipe's own.

    Raises:
        ParamsError: no task, or no such task in the merge.
        FmnError: as :meth:`EvaluateStep.compute`.
    """
    steps = []
    entries = merged_entries(Path(path))
    if not entries and not tasks:
        raise ParamsError(
            f"{path} is one model: say which task it is measured on, --task sst2 for instance"
        )
    for named in tasks or entries:
        name = task_name(named)
        task = evaluation.get_task(entries[named].needed_task if named in entries else named)
        if entries and name not in entries:
            raise ParamsError(
                f"no task '{name}' in the merge {path}; there are: {', '.join(entries)}"
            )
        where = Path(path) / name if entries else path
        own = entries[name].labels if entries and labels is None else labels
        steps.append(
            EvaluateStep(
                open_checkpoint(where, revision),
                task,
                data,
                settings,
                context.memo,
                own,
                individual=not entries,
                name=name,
            )
        )
    for step in steps:  # whatever does not fit is said before the first model runs
        step.prepare(context)
    renamed = {n for n, entry in entries.items() if n != task_name(entry.needed_task)}
    return [
        replace(step.compute(context), name=step.name if step.name in renamed else "")
        for step in steps
    ]


def merged_entries(path: Path) -> dict[str, ModelEntry]:
    """Return the tasks of a directory that a merge wrote, by name; empty for anything else."""
    file = path / "recipe.yaml"
    if not file.is_file():
        return {}
    entries = {entry.name: entry for entry in read_recipe(file).models}
    gone = [task for task in entries if not (path / task).is_dir()]
    if gone:
        raise DataError(
            f"{path} lacks the directory of task {gone[0]} that its recipe.yaml names; merge again"
        )
    return dict(sorted(entries.items()))
