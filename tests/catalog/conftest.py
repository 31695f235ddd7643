"""A catalog of made-up merges: records as the steps write them, of models that are nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fmn.catalog import Catalog
from fmn.keys import digest
from fmn.store import Made, Record, Store, open_store, record_key
from tests.store.conftest import Place, bucket, directory, models_read_once, place  # noqa: F401  (fixtures)

TASKS = {"sst2": ("accuracy",), "rte": ("accuracy",), "mrpc": ("f1", "accuracy")}
OWN = {"sst2": 0.9, "rte": 0.6, "mrpc": 0.8}
VERSIONS = {
    "fmn": "0.1.0",
    "numpy": "2.4.6",
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5.23.0",
}


def made(
    moment: str = "2026-11-01T00:00:00+00:00", by: str = "ada@lab", seconds: float = 1.5
) -> Made:
    return Made(by=by, at=moment, seconds=seconds, device="cpu", versions=VERSIONS)


def identity(name: str) -> dict[str, str]:
    return {part: digest(part, name) for part in ("weights", "config", "tokenizer")}


def measure(name: str, limit: int | None = None) -> dict[str, Any]:
    task = {
        "columns": ["sentence"],
        "label": "label",
        "labels": ["no", "yes"],
        "metrics": list(TASKS[name]),
    }
    return {
        "algorithm": 1,
        "task": task,
        "order": [0, 1],
        "splits": {"": digest("split", name)},
        "limit": limit,
        "max_length": 128,
    }


def individual(name: str, score: float, limit: int | None = None) -> Record:
    inputs = {"model": identity(name), "name": name, "measure": measure(name, limit)}
    return Record(
        kind="evaluate",
        key=record_key("evaluate", inputs),
        inputs=inputs,
        names={"model": f"models/{name}", "task": name},
        value={"scores": {name: metrics(name, score)}, "examples": {name: 100}},
        made=made(),
    )


def metrics(name: str, score: float) -> dict[str, float]:
    """The headline and, where there is one, another metric, in alphabetical order as a record's
    file has them."""
    return dict(
        sorted({metric: score - number * 0.3 for number, metric in enumerate(TASKS[name])}.items())
    )


def merge(names: Sequence[str], method: str, made_: Made | None = None, **inputs: Any) -> Record:
    fishers = [digest("fisher", name) for name in names] if method == "mask-fisher" else []
    models = [
        [name, digest("model", identity(name)), 1.0, *([fisher] if fishers else [])]
        for name, fisher in zip(names, fishers or names, strict=True)
    ]
    content = {"algorithm": 1, "method": method, "models": models, "dtype": "same"}
    content |= {"normalize": "none", "association": "paper"} if fishers else {}
    content |= inputs
    described = {
        name: {
            "model": f"models/{name}",
            "revision": None,
            "task": name,
            "weights": identity(name)["weights"],
        }
        for name in names
    }
    return Record(
        kind="merge",
        key=record_key("merge", content),
        inputs=content,
        names={"models": described, "method": method},
        value={"backbone": digest("backbone", content), "bytes": 1000},
        made=made_ or made(),
    )


def evaluation(
    of: Record, scores: dict[str, float], limit: int | None = None, made_: Made | None = None
) -> Record:
    measures = {name: measure(name, limit) for name in scores}
    inputs = {
        "merge": of.key,
        "measures": {name: digest("measure", value) for name, value in measures.items()},
    }
    return Record(
        kind="evaluate",
        key=record_key("evaluate", inputs),
        inputs=inputs,
        names=of.names
        | {
            "measures": measures,
            "data": dict.fromkeys(scores, "data"),
            "splits": {name: {"": "validation"} for name in scores},
        },
        value={
            "scores": {name: metrics(name, score) for name, score in scores.items()},
            "examples": dict.fromkeys(scores, limit or 100),
        },
        made=made_ or made(seconds=20.0),
    )


def put(store: Store, records: Iterable[Record]) -> None:
    for record in records:
        store.files.write(record.path, record.to_bytes())


PAIR = merge(("rte", "sst2"), "mask-fisher", made(moment="2026-11-03T00:00:00+00:00", by="bob@gpu"))
PLAIN = merge(("rte", "sst2"), "average")
THREE = merge(("mrpc", "rte", "sst2"), "average", made(moment="2026-11-10T00:00:00+00:00"))
UNMEASURED = merge(("mrpc", "rte"), "average")

RECORDS = [
    *(individual(name, score) for name, score in OWN.items()),
    *(PAIR, PLAIN, THREE, UNMEASURED),
    evaluation(PAIR, {"rte": 0.6, "sst2": 0.72}),  # 1.0 and 0.8
    evaluation(PLAIN, {"rte": 0.54, "sst2": 0.81}),  # 0.9 and 0.9
    evaluation(THREE, {"mrpc": 0.4, "rte": 0.6, "sst2": 0.9}),  # 0.5, 1.0, 1.0
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store", cache=tmp_path / "cache")


@pytest.fixture
def team(place: Place) -> Place:  # noqa: F811
    """A store that several people open, in a directory and on a server."""
    put(place.open("filler"), RECORDS)
    return place


@pytest.fixture
def catalog(store: Store) -> Catalog:
    put(store, RECORDS)
    return Catalog(store)
