"""What a run would do, told in advance: what is stored, what would be computed, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmn import merging
from fmn.architectures import Layer
from fmn.keys import canonical_json
from fmn.steps.merge import PublishStep
from fmn.steps.step import Step
from fmn.steps.zoo import Combination, Reference, Zoo
from fmn.store import Store

LABELS = {
    "weights": "weights",
    "config": "configuration",
    "tokenizer": "tokenizer",
}


@dataclass(frozen=True)
class Part:
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
        fishers: one a model and kind of Fisher.
        individuals: evaluations of the models themselves.
        merges: one a set of models and method.
        evaluations: of the merges, in their order.
        cached_bytes: of the Fishers that are in the store.
        new_bytes: of the Fishers, and the models that are kept, that would be stored.
        broken: by name, why a model cannot take part.
    """

    fishers: Part
    individuals: Part
    merges: Part
    evaluations: Part
    cached_bytes: int
    new_bytes: int
    broken: Mapping[str, str]

    def parts(self) -> dict[str, Part]:
        """Return the parts by what they are called."""
        return {
            "fisher": self.fishers,
            "evaluate models": self.individuals,
            "merge": self.merges,
            "evaluate merges": self.evaluations,
        }

    @property
    def is_done(self) -> bool:
        """Whether everything is in the store."""
        return not any(part.misses for part in self.parts().values())

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        parts = {
            name: {
                "cached": len(part.hits),
                "to_compute": len(part.misses),
                "reasons": dict(part.reasons),
            }
            for name, part in self.parts().items()
        }
        return {
            "steps": parts,
            "cached_bytes": self.cached_bytes,
            "new_bytes": self.new_bytes,
            "broken": dict(self.broken),
        }


def make_plan(zoo: Zoo, store: Store) -> ZooPlan:
    """Look every key up: a listing per kind, and no request per step.

    Raises:
        StoreError: the store failed.
    """
    changes = _changes(zoo, store)
    merges = [
        (names, method, zoo.merge(names, method)) for names, method in zoo.merges()
    ]  # a key is made once for both uses
    known = {kind: store.keys(kind) for kind in ("fisher", "merge", "evaluate", "publish")}
    part = _Sorter(zoo, known, changes)
    fishers = part((reference, zoo.step(reference)) for reference in zoo.fishers())
    cached_bytes, each = _fisher_bytes(zoo, store, fishers)
    new_bytes = sum(each[reference[2]] for reference in fishers.misses) + _kept_bytes(
        zoo, known["publish"]
    )
    return ZooPlan(
        fishers=fishers,
        individuals=part((reference, zoo.step(reference)) for reference in zoo.individuals()),
        merges=part((("merge", *names, method), merge) for names, method, merge in merges),
        evaluations=part(
            (("evaluate", *names, method), zoo.evaluation(merge)) for names, method, merge in merges
        ),
        cached_bytes=cached_bytes,
        new_bytes=new_bytes,
        broken={name: str(error) for name, error in zoo.broken.items()},
    )


@dataclass(frozen=True)
class Change:
    """Something that differs from the run before.

    Attributes:
        name: of the model that it is about; None if it is about all merges.
        aspect: of the model: ``model``, ``weight``, ``fishers``, ``measure``, or ``new``; of all
            merges ``dtype``, ``parent``, or ``merge`` with a parameter's name, or ``method`` with
            its name.
        text: for people.
    """

    name: str | None
    aspect: str
    text: str


class _Sorter:
    """Sorts steps into hits and misses, with reasons."""

    def __init__(
        self, zoo: Zoo, known: Mapping[str, set[str]], changes: Sequence[Change] | None
    ) -> None:
        self._zoo, self._known = zoo, known
        self._first_time = changes is None
        self._changes: dict[str | None, list[Change]] = {}
        for change in changes or ():
            self._changes.setdefault(change.name, []).append(change)

    def __call__(self, steps: Iterable[tuple[Reference, Step]]) -> Part:
        hits, misses, reasons = [], [], Counter[str]()
        for reference, step in steps:
            if step.key in self._known[step.kind]:
                hits.append(reference)
            else:
                misses.append(reference)
                reasons.update(self._why(reference) or ["not computed before"])
        return Part(hits, misses, dict(reasons.most_common()))

    def _why(self, reference: Reference) -> list[str]:
        if self._first_time:
            return []
        role, *rest = reference
        is_merge = role in ("merge", "evaluate")
        names: list[str | None] = [*(rest[:-1] if is_merge else rest[:1])]
        aspects = {"new", "model", *ASPECTS[role]}
        if is_merge:
            names.append(None)
            rule = merging.get_rule(rest[-1])
            told = rule.settings(self._zoo.params.merge.parameters)
            aspects |= {f"method {rest[-1]}", *(f"merge {name}" for name in told)} | (
                {"parent"} if rule.parent else set()
            )
            if rule.statistic is None:
                aspects.remove("fishers")
        found = (
            change.text
            for name in names
            for change in self._changes.get(name, ())
            if change.aspect in aspects
        )
        return list(dict.fromkeys(found))


ASPECTS: Mapping[str, tuple[str, ...]] = {
    "fisher": ("fishers",),
    "individual": ("measure",),
    "merge": ("weight", "fishers", "dtype"),
    "evaluate": ("weight", "fishers", "dtype", "measure"),
}


def _changes(zoo: Zoo, store: Store) -> list[Change] | None:
    """Return what differs from the most similar of the last runs; None if there was none."""
    now = zoo.described()
    runs = [run["described"] for run in store.runs() if "described" in run]
    found = [list(_differences(before, now)) for before in runs]
    return min(found, key=len, default=None)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    for name, model in now["models"].items():
        old = before["models"].get(name)
        if old is None:
            yield Change(name, "new", f"{name} is new")
            continue
        for aspect in ("model", "weight", "fishers", "measure"):
            for path, was, got in _leaves(old[aspect], model[aspect], (aspect,)):
                if path != (
                    "measure",
                    "tokenizer",
                ):  # the model's, which is said to have changed already
                    yield Change(name, aspect, _text(name, path, was, got))
    for path, was, got in _leaves(before["merge"], now["merge"], ("merge",)):
        yield Change(
            None, "dtype" if path[-1] == "dtype" else f"merge {path[-1]}", _text("", path, was, got)
        )
    if before.get("parent") != now.get("parent"):
        yield Change(None, "parent", "the parent changed")
    for method in now["methods"]:
        if method not in before["methods"]:
            yield Change(None, f"method {method}", f"method {method} is new")


def _leaves(
    was: Any, got: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(was, Mapping) and isinstance(got, Mapping):
        for key in sorted(was.keys() | got.keys()):
            if (
                key in was and key in got
            ):  # a Fisher of a kind that was not needed before is no change of it
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
    if aspect == "merge":
        return f"merge {last}: {was} → {got}"
    about = "fisher" if aspect == "fishers" else "evaluate"
    if isinstance(was, str | int | float | None) and isinstance(got, str | int | float | None):
        return f"{about} {last}: {was} → {got}"
    return f"the {last} of {name}'s task changed"


def _fisher_bytes(zoo: Zoo, store: Store, part: Part) -> tuple[int, dict[str, int]]:
    """Return the bytes of the Fishers that are there, and what one of each kind takes."""
    keys = {zoo.step(reference).key: reference[2] for reference in part.hits}
    records = store.find("fisher", keys)
    sizes = {keys[key]: record.outputs["fisher"].size for key, record in records.items()}
    each = {kind: sizes.get(kind) or estimated_bytes(zoo, kind) for kind in zoo.fisher_kinds}
    return sum(record.outputs["fisher"].size for record in records.values()), each


def estimated_bytes(zoo: Zoo, kind: str) -> int:
    """Return about how many bytes a model's Fisher of that kind takes.

    Of any other kind, its backbone.
    """
    from fmn import architectures

    source = next(iter(zoo.members.values())).source
    architecture = architectures.get(source.model_type)
    if kind == "mask-fisher":
        return 4 * sum(sum(layer.nodes().values()) for layer in architecture.layers(source.setting))
    if kind == "gram":
        hidden = int(source.setting(architecture.hidden))
        return sum(_gram_bytes(hidden, layer) for layer in architecture.layers(source.setting))
    return 4 * sum(source.tensors[name].size for name in architecture.backbone(source.tensors))


def _gram_bytes(hidden: int, layer: Layer) -> int:
    """Of what each block reads, and what its output projection reads."""
    attentions, context = len(layer.blocks) - 1, layer.sizes.heads * layer.sizes.head_channels
    return 4 * (len(layer.blocks) * hidden**2 + attentions * context**2 + layer.sizes.neurons**2)


def _kept_bytes(zoo: Zoo, there: set[str]) -> int:
    """Return what the models yet to be kept take: a backbone each.

    Their heads are small, and stored once.
    """
    if zoo.params.merge.keep == "none":
        return 0
    wanted: Counter[Combination] = Counter()
    for names, method in zoo.merges():
        is_there = PublishStep(zoo.merge(names, method)).key in there
        wanted[names] += (not is_there) if zoo.params.merge.keep == "all" else -is_there
    missing = (
        wanted.total()
        if zoo.params.merge.keep == "all"
        else sum(count == 0 for count in wanted.values())
    )
    return missing * estimated_bytes(zoo, "backbone")
