"""Merging models that are in memory, or on disk, into models in memory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmn import architectures
from fmn.checkpoint import (
    Checkpoint,
    Tensors,
    as_array,
    as_tensor,
    open_checkpoint,
    setting_of,
)
from fmn.errors import LONGEST, ArchitectureError, ParamsError, unknown
from fmn.merging.check import doubts
from fmn.merging.engine import merge_into
from fmn.merging.plan import Plan, make_plan
from fmn.merging.rules import check_parameters, get_rule
from fmn.merging.source import Source
from fmn.recipe import Dtype, Heads
from fmn.statistics import Measurement
from fmn.visible import one_line

if TYPE_CHECKING:
    from fmn.fisher import Estimate


class Merged(Mapping[str, Any]):
    """A merge in memory: from a task to a transformers model, made when it is asked for.

    Attributes:
        backbone: the merged tensors by full name, numpy arrays.
    """

    def __init__(
        self, plan: Plan, models: Mapping[str, Any], backbone: Tensors | None = None
    ) -> None:
        """Merge now, unless the plan's ``backbone`` is there.

        ``models`` are the ones that were merged, by task.
        """
        self._plan, self._models = plan, models
        self.backbone = merged_backbone(plan) if backbone is None else backbone

    def __getitem__(self, task: str) -> Any:
        """Return the task's model: its own head on a copy of the merged backbone."""
        from fmn.models import load_model

        model = self._models[task]
        return self.put_into(
            load_model(model.path) if isinstance(model, Checkpoint) else copy.deepcopy(model), task
        )

    def put_into(self, model: Any, task: str = "") -> Any:
        """Overwrite a model's backbone with the merged one, in place.

        Its task head stays, but for what was refitted of the ``task``'s.

        Return the model.

        Parameters get the dtype in which the merge's directory would be loaded; buffers, such as
        rotary frequencies, keep theirs.
        """
        import torch

        architecture = self._plan.architecture
        parameters = architecture.parameters(model)
        full = {short: name for name, short in architecture.backbone(parameters).items()}
        # in float16; transformers 4 in bfloat16, too
        wide = set(getattr(model, "_keep_in_fp32_modules", None) or ())
        in_wide = {name for name in parameters if wide & set(name.split("."))}
        if self._plan.dtype != np.float16:
            in_wide = {
                name for name in in_wide if parameters[name].dtype == torch.float32 != model.dtype
            }
        short_of = {name: short for short, name in self._plan.names.items()}
        for name, tensor in self.backbone.items():
            short = short_of[name]
            if short not in full and short.startswith(architecture.optional):
                continue  # an old file's pooler, which the model has no more
            target = parameters[full[short]]
            target.data = as_tensor(tensor).to(target.device)
        for name, tensor in self._plan.refitted.get(task, {}).items():
            target = parameters[name]
            target.data = as_tensor(tensor).to(target.device)
        dtype = getattr(torch, self._plan.dtype.name)
        for name, parameter in parameters.items():
            parameter.data = parameter.data.to(torch.float32 if name in in_wide else dtype)
        return model

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tasks."""
        return iter(self._models)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._models)


def merged_backbone(plan: Plan) -> Tensors:
    """Merge in memory; return the tensors by full name."""
    backbone = {name: np.empty(spec.shape, spec.dtype) for name, spec in plan.specs.items()}
    flat = {name: tensor.reshape(-1) for name, tensor in backbone.items()}

    def put(name: str, piece: np.ndarray[Any, Any], offset: int) -> None:
        flat[name][offset : offset + piece.size] = piece.reshape(-1)

    merge_into(plan, put)
    return backbone


def merge(
    models: Mapping[str, Any],
    *,
    method: str = "mask-fisher",
    fishers: Mapping[str, Estimate | Sequence[Estimate]] | None = None,
    weights: Mapping[str, float] | None = None,
    parent: Any = None,
    dtype: Dtype = "same",
    heads: Heads = "own",
    **parameters: Any,
) -> Merged:
    """Merge fine-tunes of one parent in memory, by default θ* = Σ λ_i F_i θ_i / Σ λ_i F_i.

    Args:
        models: from a task to its model: a transformers model, a directory or a hub id.
        method: the name of a merge rule: one of :func:`fmn.merging.rule_names`.
        fishers: from a task to its model's Fisher, or whatever statistics the method needs: one, or
            several where it needs several.
        weights: λ by task; 1 where it is not given.
        parent: of the models, where the method needs it: a transformers model, a directory or a
            hub id.
        dtype: of the result.
        heads: ``own`` leaves what feeds nothing but a task's head (BERT's pooler) to it, ``merged``
            merges all that the models share; a recipe or a zoo can ``refit`` heads.
        **parameters: of the method, such as ``association`` and ``normalize``; see
            :attr:`fmn.merging.Rule.parameters`.

    Returns:
        a mapping from a task to its merged model; the given models stay as they are.

    Raises:
        MergeError: the models or statistics do not fit together; every offence is listed.
        CheckpointError: a model that cannot be opened.
        ParamsError: an unknown method, an impossible parameter or one that the method does not
            have, or a statistic or weight for a task that has no model.
    """
    if heads not in ("own", "merged"):
        raise ParamsError(
            f"heads: {heads!r} is impossible here; expected own or merged: a recipe with 'heads: "
            "refit' has the data that it takes"
        )
    fishers, weights = fishers or {}, weights or {}
    for task in (*fishers, *weights):
        if task not in models:
            raise ParamsError(unknown("task", task, models))
    rule = get_rule(method)
    check_parameters([rule], parameters)
    rule = rule.given(parameters)
    if rule.calibration:
        raise ParamsError(
            f"method {method} needs examples of each model; a recipe or a zoo has the data that it "
            "takes"
        )
    opened = {task: _opened(model) for task, model in models.items()}
    sources = [
        _source(task, model, weights.get(task, 1.0), _measurements(fishers.get(task)))
        for task, model in opened.items()
    ]
    origin = None if parent is None else _source("parent", _opened(parent), 1.0, {})
    plan = make_plan(sources, rule, parameters, dtype, origin, heads)
    for line in doubts(plan.sources, origin) if rule.parent else ():
        warnings.warn(one_line(line, LONGEST), stacklevel=2)
    return Merged(plan, opened)


def _measurements(estimates: Estimate | Sequence[Estimate] | None) -> dict[str, Measurement]:
    if estimates is None:
        return {}
    several = estimates if isinstance(estimates, Sequence) else [estimates]
    return {each.kind: each.measurement() for each in several}


def _opened(model: Any) -> Any:
    return open_checkpoint(model) if isinstance(model, str | Path) else model


def _source(task: str, model: Any, weight: float, statistics: Mapping[str, Measurement]) -> Source:
    if isinstance(model, Checkpoint):
        return Source(
            model.name,
            task,
            model.model_type,
            model.setting,
            model.tensors,
            weight,
            statistics,
            model,
        )
    config = model.config
    try:
        parameters = architectures.get(config.model_type).parameters(model)
    except ArchitectureError:  # the plan says so, in the list of all that is wrong
        parameters = dict(model.named_parameters())
    tensors = {name: as_array(parameter) for name, parameter in sorted(parameters.items())}
    setting = partial(setting_of, config)
    return Source(task, task, config.model_type, setting, tensors, weight, statistics)
