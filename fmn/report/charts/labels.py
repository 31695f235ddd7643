"""What charts call models and methods, and the merges that they count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from fmn.report import theme
from fmn.report.data import Apart, Ends, Merge, Report

Scored = Mapping[str, Mapping[tuple[int, ...], Merge]]
"""From the label of a method to its best merge of each set of models; methods with the most merges
first.
"""


def model_labels(data: Report) -> list[str]:
    """Return what charts call each model: its name, and digits of its key if names coincide."""
    names = Counter(model.name for model in data.models)
    return [
        model.name if names[model.name] == 1 else f"{model.name} ({model.key[:6]})"
        for model in data.models
    ]


def method_labels(data: Report) -> dict[str, str]:
    """Return what charts call each merge's method, by key.

    This is its name, with the parameters in which merges by it differ.
    """
    values: dict[str, dict[str, set[str]]] = {}
    for merge in data.merges:
        for name, value in _settings(merge).items():
            values.setdefault(merge.method, {}).setdefault(name, set()).add(value)
    differing = {
        method: [name for name, several in settings.items() if len(several) > 1]
        for method, settings in values.items()
    }
    return {merge.key: _label(merge, differing[merge.method]) for merge in data.merges}


def _settings(merge: Merge) -> dict[str, str]:
    equal = len({member.weight for member in merge.members}) <= 1
    return {**merge.parameters, "λ": "equal" if equal else "own"}


def _label(merge: Merge, differing: Iterable[str]) -> str:
    settings = _settings(merge)
    values = (f"{name} {settings.get(name, 'unset')}" for name in differing)
    return ", ".join([merge.method, *values])


def scored(data: Report) -> Scored:
    """Return the merges that have a score."""
    labels = method_labels(data)
    merges: dict[str, dict[tuple[int, ...], Merge]] = {}
    for merge in sorted(data.merges, key=lambda merge: merge.key):
        if merge.mean is None:
            continue
        models = tuple(sorted(member.model for member in merge.members))
        best = merges.setdefault(labels[merge.key], {})
        if models not in best or _choice(merge) > _choice(best[models]):
            best[models] = merge
    return dict(sorted(merges.items(), key=lambda item: (-len(item[1]), item[0])))


def method_slots(data: Report) -> dict[str, int]:
    """Return the label of every method with its slot of the palette.

    Those with the most scored merges come first.
    """
    labels = method_labels(data)
    methods = {labels[merge.key]: merge.method for merge in data.merges}
    order = [*scored(data), *sorted(methods)]
    return theme.slots({label: methods[label] for label in dict.fromkeys(order)})


def _choice(merge: Merge) -> float:
    """Return the score by which a measured merge is chosen."""
    return (merge.mean or 0.0) if merge.choice is None else merge.choice


def ends(interval: Ends | None) -> str:
    """Return an interval in %."""
    return " to ".join(map(_signed, interval)) if interval else "no interval"


def apart_text(apart: Apart | None) -> str:
    """Return a difference in points, its interval, and whether it may be none."""
    if apart is None:
        return "no interval"
    inside = ", inside the interval" if apart.inside else ""
    return f"{'+' if apart.value > 0 else ''}{_signed(apart.value)}, {ends(apart.interval)}{inside}"


def standing(merge: Merge) -> str:
    """Return how a merge stands to the best of the same models."""
    return "best" if merge.is_best else apart_text(merge.from_best)


def _signed(value: float) -> str:
    return f"{100 * value:.2f}".replace("-", "−")


def percent(merge: Merge) -> float:
    """Return the mean normalised score of a merge that has one, in %."""
    assert merge.mean is not None
    return 100 * merge.mean
