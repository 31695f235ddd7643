"""What a run would do, before it does anything: what is in the store, what is missing, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any

from fmn import architectures
from fmn.keys import canonical_json
from fmn.statistics import get_statistic
from fmn.steps.kind import Reference, StepKind
from fmn.steps.zoo.graph import KINDS, RECORDS, Graph
from fmn.steps.zoo.zoo import Combination, Zoo
from fmn.store import Store

LABELS = {
    "weights": "weights",
    "config": "configuration",
    "tokenizer": "tokenizer",
}


@dataclass(frozen=True)
class PlannedSteps:
    """The steps of one kind.

    Attributes:
        hits: whose results are in the store.
        misses: that would be computed.
        reasons: why, with the number of steps; a step may have several.
    """

    hits: list[Reference] = field(default_factory=list)
    misses: list[Reference] = field(default_factory=list)
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ZooPlan:
    """What a run would do.

    Attributes:
        steps: by name of their kind, in the order in which they are done; without those that are
            decided when all others are done.
        cached_bytes: of the statistics that are in the store.
        new_bytes: of the statistics, and the models that are kept, that would be stored.
        broken: by name, why a model cannot take part.
    """

    steps: Mapping[str, PlannedSteps]
    cached_bytes: int
    new_bytes: int
    broken: Mapping[str, str]

    def parts(self) -> dict[str, PlannedSteps]:
        """Return the steps by what people call their kind."""
        return {kind.heading: self.steps[kind.name] for kind in KINDS if kind.name in self.steps}

    @property
    def hits(self) -> set[Reference]:
        """The steps whose results are in the store."""
        return {reference for steps in self.steps.values() for reference in steps.hits}

    @property
    def total(self) -> int:
        """How many steps there are."""
        return sum(len(steps.hits) + len(steps.misses) for steps in self.steps.values())

    @property
    def is_done(self) -> bool:
        """Whether everything is in the store."""
        return not any(steps.misses for steps in self.steps.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        parts = {
            name: {
                "cached": len(steps.hits),
                "to_compute": len(steps.misses),
                "reasons": dict(steps.reasons),
            }
            for name, steps in self.parts().items()
        }
        return {
            "steps": parts,
            "cached_bytes": self.cached_bytes,
            "new_bytes": self.new_bytes,
            "broken": dict(self.broken),
        }


def plan_zoo(graph: Graph, store: Store) -> ZooPlan:
    """Look every record up: a listing per kind, and no request per step.

    Raises:
        StoreError: the store failed.
    """
    zoo = graph.zoo
    known = store.current(_keys(graph))
    sort = _Sorter(graph, known, _changes(zoo, store))
    steps = {kind.name: sort(kind) for kind in KINDS if not kind.late}
    cached_bytes, each = _statistic_bytes(graph, store, steps["fisher"])
    new_bytes = sum(each[reference.variant] for reference in steps["fisher"].misses)
    return ZooPlan(
        steps=steps,
        cached_bytes=cached_bytes,
        new_bytes=new_bytes + _kept_bytes(graph, known["publish"]),
        broken={name: str(error) for name, error in zoo.broken.items()},
    )


def _keys(graph: Graph) -> dict[str, list[str]]:
    """Return the keys of a graph's steps by kind of record, each after what it is made of."""
    keys: dict[str, list[str]] = {}
    for kind in KINDS:
        steps = map(graph.step, graph.of(kind.name))
        keys.setdefault(kind.record, []).extend(step.key for step in steps)
    return {record: keys[record] for record in RECORDS}


@dataclass(frozen=True)
class Difference:
    """Something that differs from the run before.

    Attributes:
        name: of the model that it is about; None if it is about all merges.
        aspect: of the model: ``model``, ``weight``, ``fishers``, ``measure``, or ``new``; of merges
            ``dtype``, ``parent``, ``method`` with a variant's label, or a rule's name with that of
            a parameter.
        text: for people.
    """

    name: str | None
    aspect: str
    text: str


class _Sorter:
    """Sorts steps into hits and misses, with reasons."""

    def __init__(
        self, graph: Graph, known: Mapping[str, set[str]], changes: Sequence[Difference] | None
    ) -> None:
        self._graph, self._known = graph, known
        self._first_time = changes is None
        self._changes: dict[str | None, list[Difference]] = {}
        for change in changes or ():
            self._changes.setdefault(change.name, []).append(change)

    def __call__(self, kind: StepKind) -> PlannedSteps:
        hits, misses, reasons = [], [], Counter[str]()
        for reference in self._graph.of(kind.name):
            if self._graph.step(reference).key in self._known[kind.record]:
                hits.append(reference)
            else:
                misses.append(reference)
                reasons.update(self._why(kind, reference) or ["not computed before"])
        return PlannedSteps(hits, misses, dict(reasons.most_common()))

    def _why(self, kind: StepKind, reference: Reference) -> list[str]:
        if self._first_time:
            return []
        names: list[str | None] = list(reference.models)
        aspects = {"new", "model", *kind.aspects}
        if kind.of_merges:
            names.append(None)
            variant = self._graph.zoo.variants[reference.variant]
            aspects |= {
                f"method {variant.label}",
                *(f"{variant.rule.name} {n}" for n in variant.parameters),
            }
            aspects |= {"parent"} if variant.rule.parent else set()
            aspects -= set() if variant.statistics else {"fishers"}
        changes = (
            change.text
            for name in names
            for change in self._changes.get(name, ())
            if change.aspect in aspects
        )
        return list(dict.fromkeys(changes))


def _changes(zoo: Zoo, store: Store) -> list[Difference] | None:
    """Return what differs from the most similar of the last runs; None if there was none."""
    now, differences = zoo.described(), []
    for run in store.runs():
        # another version of fmn may have described it in another way
        with suppress(KeyError, TypeError, AttributeError, ValueError):
            differences.append(list(_differences(run.described or {}, now)))
    return min(differences, key=len, default=None)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name, model in now["models"].items():
        old = before["models"].get(name)
        if old is None:
            yield Difference(name, "new", f"{name} is new")
            continue
        for aspect in ("model", "weight", "fishers", "measure"):
            for path, was, got in _leaves(old[aspect], model[aspect], (aspect,)):
                # the tokenizer is the model's, which is said to have changed already
                if path != ("measure", "tokenizer"):
                    yield Difference(name, aspect, _text(name, path, was, got))
    was, got = before["merge"]["dtype"], now["merge"]["dtype"]
    if was != got:
        yield Difference(None, "dtype", f"merge dtype: {was} → {got}")
    if before.get("parent") != now.get("parent"):
        yield Difference(None, "parent", "the parent changed")
    yield from _method_differences(_methods_of(before), now["methods"])


def _methods_of(described: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the methods of a run by label; early runs tell names, and one set of parameters."""
    methods: Any = described["methods"]
    if isinstance(methods, Mapping):
        return methods
    return {name: {**described["merge"], "method": name} for name in methods}


def _method_differences(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> Iterator[Difference]:
    """Compare methods by label; of one that there is only one variant of, its parameters."""
    for label, method in now.items():
        rule = method["method"]
        old = [one for one in before.values() if one["method"] == rule]
        if sum(one["method"] == rule for one in now.values()) == len(old) == 1:
            for name in sorted(method.keys() & old[0].keys() - {"method"}):
                if method[name] != old[0][name]:
                    text = f"merge {name}: {old[0][name]} → {method[name]}"
                    yield Difference(None, f"{rule} {name}", text)
        elif label not in before:
            yield Difference(None, f"method {label}", f"method {label} is new")


def _leaves(
    was: Any, got: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(was, Mapping) and isinstance(got, Mapping):
        for key in sorted(was.keys() | got.keys()):
            # a Fisher of a kind that was not needed before is no change of it
            if key in was and key in got:
                yield from _leaves(was[key], got[key], (*path, key))
            elif len(path) > 1 or path[0] != "fishers":
                yield (*path, key), was.get(key), got.get(key)
    elif canonical_json(was) != canonical_json(got):
        yield path, was, got


def _text(name: str, path: tuple[str, ...], was: Any, got: Any) -> str:
    aspect, last = path[0], path[-1]
    if aspect == "model":
        return f"the {LABELS.get(last, last)} of {name} changed"
    if last == "data" or "splits" in path:
        return f"the {'training' if last == 'data' else 'validation'} data of {name} changed"
    if aspect == "weight":
        return f"the weight of {name}: {was} → {got}"
    about = "fisher" if aspect == "fishers" else "evaluate"
    if isinstance(was, str | int | float | None) and isinstance(got, str | int | float | None):
        return f"{about} {last}: {was} → {got}"
    return f"the {last} of {name}'s task changed"


def _statistic_bytes(graph: Graph, store: Store, steps: PlannedSteps) -> tuple[int, dict[str, int]]:
    """Return the bytes of the statistics that are there, and what one of each takes."""
    keys = {graph.step(reference).key: reference.variant for reference in steps.hits}
    records = store.find("fisher", keys)
    sizes = {keys[key]: record.outputs["fisher"].size for key, record in records.items()}
    each = {
        name: sizes.get(name) or statistic_bytes(graph.zoo, name) for name in graph.zoo.statistics
    }
    return sum(record.outputs["fisher"].size for record in records.values()), each


def statistic_bytes(zoo: Zoo, name: str) -> int:
    """Return about how many bytes a statistic of one of the models takes."""
    source = next(iter(zoo.members.values())).source
    architecture = architectures.get(source.model_type)
    backbone = source.backbone(architecture, architecture.layers(source.setting))
    return get_statistic(name).nbytes(backbone)


def _kept_bytes(graph: Graph, there: set[str]) -> int:
    """Return what the models that are yet to be kept take.

    That is a backbone each (their heads are small, and stored once).
    """
    keep = graph.zoo.params.merge.keep
    missing: dict[Combination, list[bool]] = {}
    for reference in graph.of("publish"):
        is_there = graph.step(reference).key in there
        missing.setdefault(reference.models, []).append(not is_there)
    count = sum(sum(each) if keep == "all" else all(each) for each in missing.values())
    return count * _backbone_bytes(graph.zoo) if count else 0


def _backbone_bytes(zoo: Zoo) -> int:
    source = next(iter(zoo.members.values())).source
    names = architectures.get(source.model_type).backbone(source.tensors)
    return 4 * sum(prod(source.tensors[name].shape) for name in names)
