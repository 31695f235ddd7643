"""Layers of a merge, fitted to what its models say of a sample of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from fmn.checkpoint import Tensors, as_array
from fmn.errors import ParamsError
from fmn.merging import Merged, Plan, Rule
from fmn.steps.context import Context
from fmn.steps.statistic import StatisticStep

ALGORITHM = 1
"""Of fitting layers; it rises when a change moves more than the last bits of one."""

SAME = 1e-5
"""By how much tensors may differ, relative to their norms, that another machine fitted."""

PROJECTIONS = 16
"""Numbers of a sketch: differences are seen to within a third or so."""


def no_calibration(method: str, name: str) -> str:
    """Say that a model cannot be learnt from."""
    return (
        f"model {name}: method {method} fits layers to models that classify, and this one writes "
        "text; take another method"
    )


def fit_layers(plan: Plan, steps: Mapping[str, StatisticStep], context: Context) -> Plan:
    """Merge in memory, and return the plan with the layers fitted to what the models say.

    Args:
        plan: of a rule with a ``calibration``.
        steps: by task, the step that says which examples are its model's.
        context: where.

    Raises:
        FmnError: examples that do not fit; NaN in a model; see :func:`fmn.layerwise.calibrate`.
    """
    from fmn.layerwise import Expert, count

    start, experts = Merged(plan, {}), []
    with ExitStack() as stack:
        for source in plan.weighted:
            assert source.checkpoint is not None
            step = steps[source.task]
            own = context.model(source.checkpoint)
            merged = start.put_into(context.body(source.checkpoint))
            stack.enter_context(step.examples(context, merged))
            batches = list(stack.enter_context(step.examples(context, own)))
            experts.append(Expert(source.name, own, merged, batches, source.weight))
        title = f"fitting the layers of {len(experts)} models' merge"
        with context.report.track(title, 2 * count(experts[0].own)) as advance:
            calibrated = _calibration(plan.rule)(experts, plan.settings, progress=advance)
    if not calibrated.tensors:
        context.report.warn(
            f"method {plan.rule.name}: nothing that was fitted to half of the examples betters the "
            "other half, so that the layers stay as they were; give more, by 'refit: {samples: …}'"
        )
    tensors = {
        name: as_array(tensor.cpu()).astype(plan.specs[plan.names[name]].dtype)
        for name, tensor in calibrated.tensors.items()
    }
    return replace(plan, fitted=tensors)


def _calibration(rule: Rule) -> Any:
    module, _, function = rule.calibration.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ParamsError(
            f"method {rule.name}: what fits its layers, {rule.calibration}, cannot be imported: "
            f"{error}"
        ) from error


def sketch(tensors: Tensors) -> list[float]:
    """Return random projections of tensors, each relative to its norm: how alike others are.

    Signs are drawn by the order of the names alone.
    """
    total = np.zeros(PROJECTIONS)
    for number, name in enumerate(sorted(tensors)):
        flat = tensors[name].astype(np.float64).ravel()
        norm = np.linalg.norm(flat)
        signs = np.random.default_rng(number)
        for which in range(PROJECTIONS if norm else 0):
            bits = np.frombuffer(signs.bytes(-(-flat.size // 8)), np.uint8)
            plus = np.unpackbits(bits, count=flat.size).view(bool)
            total[which] += (2 * flat[plus].sum() - flat.sum()) / norm
    return [float(each) for each in total]


def difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Return about the root of the sum of the tensors' squared relative differences."""
    return float(np.sqrt(np.mean(np.subtract(one, other) ** 2)))
