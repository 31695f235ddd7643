"""A report with plausible numbers: six models, every combination of them, three methods."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from fmn.evaluation import interval
from fmn.report import FisherMap, Member, Merge, Model, Report, Run
from fmn.report.collect import with_the_best
from fmn.report.data import FLOAT32, Apart

TASKS = {
    "sst2": ("accuracy", 0.8693),
    "rte": ("accuracy", 0.5704),
    "mnli": ("accuracy", 0.6650),
    "mrpc": ("f1", 0.8113),
    "qqp": ("f1", 0.8350),
    "cola": ("matthews_correlation", 0.4120),
}
METHODS = {"average": -0.02, "fisher": -0.07, "mask-fisher": 0.0}
LAYERS, HEADS, NEURONS = 6, 12, 384
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror="alert(2)">',
    "</script><svg onload=alert(3)>",
    "'\"`${alert(4)}",
    "\u202egnp.gif \u2067abc",
    "🧪 é \u05d0\u05d1 <!-- <script>",
    "long-" + "x" * 400,
    "javascript:alert(5)",
)
"""Names that mean harm."""


def key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def make_report(
    names: Sequence[str] = tuple(TASKS),
    methods: Sequence[str] = tuple(METHODS),
    *,
    sizes: Sequence[int] | None = None,
    weights: Sequence[float] = (1.0,),
    layers: int = LAYERS,
    heads: int = HEADS,
    neurons: int = NEURONS,
    more: Mapping[str, tuple[Sequence[int], int]] | None = None,
    runs: int = 6,
    measured: bool = True,
) -> Report:
    """Make a report of every combination of some models by some methods; the same arguments give
    the same report.

    ``more`` are kinds of nodes besides attention and feed-forward: the layers that have them, and
    how many each has.
    """
    random = np.random.default_rng(0)
    models = [_model(name, index) for index, name in enumerate(names)]
    kinds = {"attention": (range(layers), heads), "feed_forward": (range(layers), neurons)}
    fishers = [
        _fisher(random, model, index, {**kinds, **(more or {})})
        for index, model in enumerate(models)
    ]
    merges = [
        _merge(random, models, fishers, chosen, method, weight, measured)
        for size in sizes or range(2, len(names) + 1)
        for chosen in combinations(range(len(names)), size)
        for method in methods
        for weight in weights
    ]
    merges[:1] = [
        merge.model_copy(update={"tags": ("nightly", "best-pair"), "kept": True})
        for merge in merges[:1]
    ]
    return Report(
        store="s3://team/zoo",
        at="2026-11-22T23:00:03+00:00",
        version="0.1.0",
        models=models,
        merges=merges,
        fishers=fishers,
        runs=[_run(random, number) for number in range(runs)],
        parent="google-bert/bert-base-uncased",
    )


def _task(index: int) -> tuple[str, str, float]:
    task = list(TASKS)[index % len(TASKS)]
    return task, *TASKS[task]


def _model(name: str, index: int) -> Model:
    task, metric, score = _task(index)
    metrics = {metric: score} | ({"accuracy": score - 0.05} if metric == "f1" else {})
    return Model(
        key=key("model", name, index),
        name=name,
        task=task,
        model=f"models/{name}",
        weights=key("weights", name, index),
        metrics=metrics,
        examples=1000,
    )


def _fisher(
    random: np.random.Generator,
    model: Model,
    index: int,
    kinds: Mapping[str, tuple[Sequence[int], int]],
) -> FisherMap:
    slope = random.normal()
    arrays = {}
    for kind, (layers, count) in kinds.items():
        depth = np.linspace(-1, 1, len(layers))[:, None] * slope
        values = np.exp(
            random.normal(size=(len(layers), count)) * 1.4
            + depth
            - (9 if kind == "attention" else 13)
        )
        values[random.integers(len(layers)), random.integers(count)] = 0
        arrays |= {
            f"layer.{layer}.{kind}": row.astype(np.float32)
            for layer, row in zip(layers, values, strict=True)
        }
    settings = {
        "samples": 128,
        "seed": 0,
        "labels": "true",
        "placement": "after-activation",
        "aggregation": "per-example",
    }
    details = {
        "by": "ada",
        "at": "2026-11-20T02:00:41+00:00",
        "seconds": 41.5,
        "settings": settings,
    }
    return FisherMap.of(
        arrays, key=key("fisher", model.key), model=index, task=model.task, **details
    )


def _merge(
    random: np.random.Generator,
    models: Sequence[Model],
    fishers: Sequence[FisherMap],
    chosen: Sequence[int],
    method: str,
    weight: float,
    measured: bool,
) -> Merge:
    members = [
        _member(
            random,
            models[index],
            fishers[index],
            index,
            method,
            weight if place == 0 else 1.0,
            len(chosen),
            measured,
        )
        for place, index in enumerate(chosen)
    ]
    normalized = [member.normalized for member in members if member.normalized is not None]
    return Merge(
        key=key("merge", chosen, method, weight),
        method=method,
        parameters={"association": "paper", "normalize": "none", "dtype": "same"},
        members=members,
        by_nodes=method == "mask-fisher",
        mean=sum(normalized) / len(normalized) if normalized else None,
        worst=min(normalized, default=None),
        by=("ada", "grace")[len(chosen) % 2],
        at=f"2026-11-{20 + len(chosen) % 3}T02:{len(chosen):02}:00+00:00",
        seconds={"merge": 1.7, "evaluate": 88.0},
        device="cuda:0",
        versions={"fmn": "0.1.0", "torch": "2.9.0", "transformers": "5.1.0"},
        note="Measured on 1,000 examples per task.",
    )


def _member(
    random: np.random.Generator,
    model: Model,
    fisher: FisherMap,
    index: int,
    method: str,
    weight: float,
    size: int,
    measured: bool,
) -> Member:
    _, metric, individual = _task(index)
    normalized = 1.005 - 0.032 * (size - 1) + METHODS.get(method, 0.0) + random.normal() * 0.045
    score = normalized * individual if measured else None
    return Member(
        model=index,
        name=model.name,
        task=model.task,
        weight=weight,
        fisher=fisher.key if method == "mask-fisher" else None,
        statistic="mask Fisher" if method == "mask-fisher" else "",
        metric=metric,
        score=score,
        metrics={metric: score} if measured else {},
        examples=1000 if measured else 0,
        individual=individual,
        normalized=normalized if measured else None,
    )


def surely(data: Report, *, parted: bool = False) -> Report:
    """Return a report whose scores have intervals, made of resamples that share most of their noise
    within a set of models.

    ``parted``: merges are chosen by other rows, on which any may be the best.
    """
    random = np.random.default_rng(1)
    merges = list(with_the_best([_sure(random, merge, parted) for merge in data.merges]))
    models = [
        model.model_copy(
            update={
                "intervals": {name: _around(value) for name, value in model.metrics.items()},
                "chance": dict.fromkeys(model.metrics, 0.5),
                "at_chance": model.name == "cola",
            }
        )
        for model in data.models
    ]
    return data.model_copy(update={"merges": tuple(merges), "models": tuple(models)})


def _around(value: float) -> tuple[float, float]:
    return value - 0.021, value + 0.019


def _sure(random: np.random.Generator, merge: Merge, parted: bool) -> Merge:
    assert merge.mean is not None
    of_set = np.random.default_rng([member.model for member in merge.members])
    noise = 0.02 * of_set.normal(size=1000) + 0.008 * random.normal(size=1000)
    drawn = (merge.mean + noise).astype(FLOAT32)
    own = {member.name for member in merge.members} & {"cola"}
    return merge.model_copy(
        update={
            "members": tuple(_sure_member(member) for member in merge.members),
            "interval": interval(drawn),
            "resampled": drawn.tobytes(),
            "measured": "alike",
            "choice": merge.mean + 0.05 * random.normal() if parted else None,
            "at_chance": tuple(own),
            "mean_above_chance": merge.mean if own else None,
        }
    )


def _sure_member(member: Member) -> Member:
    assert member.score is not None and member.individual is not None
    value = member.score - member.individual
    low, high = value - 0.02, value + 0.02
    return member.model_copy(
        update={
            "intervals": {name: _around(score) for name, score in member.metrics.items()},
            "chance": 0.5,
            "own_interval": _around(member.individual),
            "apart": Apart(value=value, interval=(low, high), inside=low <= 0 <= high),
        }
    )


def _run(random: np.random.Generator, number: int) -> Run:
    first = number == 0
    computed = (
        {"fisher": 6, "merge": 120, "evaluate": 126}
        if first
        else {"fisher": int(number % 2), "merge": 17, "evaluate": 17}
    )
    cached = {} if first else {"fisher": 6, "merge": 154, "evaluate": 160}
    failed = (
        ({"step": "merge sst2 + rte by fisher", "error": "the disk is full"},)
        if number == 3
        else ()
    )
    each = {"fisher": 40, "merge": 2, "evaluate": 9}
    seconds = {
        kind: float(count * each[kind] * random.uniform(0.8, 1.2))
        for kind, count in computed.items()
    }
    return Run(
        at=f"2026-11-{10 + number}T02:00:00+00:00",
        wall=sum(seconds.values()) / 2,
        computed=computed,
        cached=cached,
        skipped={"evaluate": len(failed)},
        failed=failed,
        seconds=seconds,
    )


def hostile_report() -> Report:
    data = make_report(
        HOSTILE, ("mask-fisher", HOSTILE[0]), sizes=(2, 3), layers=2, heads=3, neurons=5, runs=4
    )
    assert {model.name for model in data.models} == set(HOSTILE)
    bad = dict(zip(("by", "device", "note"), HOSTILE[1:], strict=False))
    merges = [
        merge.model_copy(
            update={
                **bad,
                "tags": HOSTILE,
                "versions": {name: name for name in HOSTILE},
                "parameters": {**merge.parameters, HOSTILE[2]: HOSTILE[1]},
                "members": tuple(
                    member.model_copy(update={"task": member.name, "metric": member.name})
                    for member in merge.members
                ),
            }
        )
        for merge in data.merges
    ]
    models = [
        model.model_copy(
            update={"task": model.name, "metrics": {model.name: 0.5}, "revision": model.name}
        )
        for model in data.models
    ]
    fishers = [
        fisher.model_copy(update={"settings": {name: name for name in HOSTILE}, "by": HOSTILE[1]})
        for fisher in data.fishers
    ]
    runs = [
        run.model_copy(update={"failed": tuple({"step": name, "error": name} for name in HOSTILE)})
        for run in data.runs
    ]
    frame = {"store": HOSTILE[2], "parent": HOSTILE[1], "version": HOSTILE[0]}
    return Report.model_validate(
        {
            **dict(data),
            "merges": merges,
            "models": models,
            "fishers": fishers,
            "runs": runs,
            **frame,
        }
    )
