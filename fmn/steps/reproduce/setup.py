"""In what a reproduction differs from the paper: models, data, settings, machine, library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fmn.steps.reproduce.paper import read_paper
from fmn.steps.reproduce.protocol import Reproduction
from fmn.steps.statistic import StatisticStep
from fmn.steps.step import split_digest
from fmn.store import Made


def describe(opened: Reproduction, made: Sequence[Made]) -> tuple[tuple[str, str, str], ...]:
    """Return what differs, as (what, of the paper, here).

    Args:
        opened: the protocol on a zoo.
        made: where and with what its Fishers were computed.
    """
    paper, steps = read_paper(), opened.graph.zoo.measures
    lines = [
        ("models", f"fine-tunes of {', '.join(paper.models)}", _models(opened)),
        (
            "tasks",
            ", ".join(paper.tasks),
            ", ".join(sorted({step.task.name for step in steps.values()})),
        ),
        ("rows to train on", "GLUE's", _training_rows(opened)),
        ("rows to measure on", "GLUE's validation rows", _measured_rows(opened)),
        ("full Fisher", "how it was taken is not known", _full_fisher(opened)),
        (
            "hardware",
            "the authors' GPU, not known which",
            _named(each.device for each in made),
        ),
        ("library", "the published code; versions not known", _named(map(_versions, made))),
    ]
    return tuple(line for line in lines if line[2])


def _models(opened: Reproduction) -> str:
    checkpoints = [step.checkpoint for step in opened.graph.zoo.measures.values()]
    sizes = [sum(tensor.size for tensor in each.tensors.values()) for each in checkpoints]
    families = _named(each.model_type for each in checkpoints)
    return f"{len(checkpoints)} of {families}, {_span(sizes)} parameters"


def _training_rows(opened: Reproduction) -> str:
    """Say how many rows Fishers are drawn from; nothing where no Fisher is asked for."""
    if not any(column.fishers for column in opened.columns):
        return ""
    steps = opened.graph.zoo.measures.values()
    rows = [split_digest(step.data, step.task, step.task.train, step.memo)[1] for step in steps]
    return f"{_span(rows)} a task"


def _measured_rows(opened: Reproduction) -> str:
    """Say how many rows scores are of; nothing where nothing is merged."""
    if not opened.sizes:
        return ""
    steps = opened.graph.zoo.measures.values()
    counts = []
    for step in steps:
        limit = step.settings.limit
        rows = [split_digest(step.data, step.task, s, step.memo)[1] for s in step.splits().values()]
        counts.append(sum(min(limit or each, each) for each in rows))
    limited = opened.graph.zoo.params.evaluate.limit
    first = f", the first {limited:,} of each split" if limited else ""
    return f"{_span(counts)} a task{first}"


def _full_fisher(opened: Reproduction) -> str:
    columns = [column for column in opened.columns if column.method == "fisher"]
    steps = [step for column in columns for step in column.fishers.values()]
    labels = _named(step.labels_used for step in steps if isinstance(step, StatisticStep))
    return f"{labels} labels, all examples of a batch at once" if labels else ""


def _versions(made: Made) -> str:
    packages = [name for name in ("fmn", "torch", "transformers") if name in made.versions]
    return ", ".join(f"{name} {made.versions[name]}" for name in packages)


def _named(words: Iterable[str]) -> str:
    """Return different words in the alphabet's order; none twice."""
    return "; ".join(sorted({word for word in words if word}))


def _span(numbers: Sequence[int]) -> str:
    lowest, highest = min(numbers), max(numbers)
    return f"{lowest:,}" if lowest == highest else f"{lowest:,} to {highest:,}"
