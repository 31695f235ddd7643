"""Listing ten thousand records by ``fmn catalog ls``, in a directory and on S3 over HTTP.

The command is timed as a whole process, cold and warm.

The records are as a run of a zoo of 12 models writes them: a merge and its evaluation for each
combination and method, and the models' own evaluations. Cold is a machine that never saw the store,
warm is the same machine again; both are measured before and after a run packed the records. The
server is moto's, in a process of its own on this machine; its own time (some 2 ms a request, 140 ms
a page of a listing) is part of what is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

from _common import median, table
from pipeline import s3_server

from fmn.keys import digest
from fmn.store import Made, Record, open_store, record_key

METHODS = ("average", "fisher", "mask-fisher")
NAMES = tuple(f"task{number:02}" for number in range(12))
VERSIONS = {
    "fmn": "0.1.0",
    "numpy": "2.4.6",
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5.23.0",
}
PROMISE = {"cold": 30.0, "warm": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        server, environment = s3_server(work)
        try:
            places = {"a directory": str(work / "store"), "S3 over HTTP": "s3://team/catalog"}
            os.environ.update(environment)
            rows = [row for name, url in places.items() for row in measure(name, url, work, args)]
        finally:
            server.terminate()
    print(
        table(
            f"fmn catalog ls of {args.records:,} records, seconds",
            ("store", "", "median", "all", "promise"),
            rows,
        )
    )


def measure(
    name: str, url: str, work: Path, args: argparse.Namespace
) -> Iterator[tuple[object, ...]]:
    """Fill a store, and list it."""
    store = open_store(url, cache=work / "filling")
    bodies = {record.path: record.to_bytes() for record in records(args.records)}
    if url.startswith("s3://"):
        store.files.filesystem().pipe(
            {f"{store.files.root}/{path}": body for path, body in bodies.items()}
        )
    else:
        for path, body in bodies.items():
            store.files.write(path, body)
    store.mirror.changed()  # as every writer does
    merges = sum("/merge/" in path for path in bodies)
    for packed in (False, True) if url.startswith("s3://") else (False,):
        if packed:
            store.mirror.pack()  # as every run does at its end
        seconds: dict[str, list[float]] = {"cold": [], "warm": []}
        for repeat in range(args.repeats):
            cache = work / "caches" / f"{name}-{packed}-{repeat}"
            for state in seconds:
                seconds[state].append(listing(url, cache, merges))
        for state, took in seconds.items():
            place = f"{name}, packed" if packed else name
            yield (
                place,
                state,
                median(took),
                ", ".join(f"{one:.2f}" for one in took),
                f"under {PROMISE[state]:g}",
            )


def listing(url: str, cache: Path, merges: int) -> float:
    """Time one listing; it must have found everything."""
    command = [sys.executable, "-m", "fmn", "catalog", "ls", "--store", url, "--limit", "20"]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        env={**os.environ, "FMN_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - start
    if f"20 of {merges:,} merges" not in done.stdout:
        sys.exit(f"not all {merges:,} merges were found: {done.stdout.splitlines()[-1]}")
    return took


def records(count: int) -> Iterator[Record]:
    """Make so many records."""
    made = Made(
        by="ada@lab", at="2026-11-01T00:00:00+00:00", seconds=1.0, device="cpu", versions=VERSIONS
    )
    models = {
        name: {part: digest(part, name) for part in ("weights", "config", "tokenizer")}
        for name in NAMES
    }
    measures = {name: measure_of(name) for name in NAMES}
    number = 0
    for name in NAMES:
        inputs = {"model": models[name], "name": name, "measure": measures[name]}
        names = {
            "model": f"models/{name}",
            "task": name,
            "data": "data",
            "splits": {"": "validation"},
        }
        yield record("evaluate", inputs, names, scored([name], 0.9), made)
        number += 1
    for size, method in product(range(2, len(NAMES) + 1), METHODS):
        for chosen in combinations(NAMES, size):
            fisher = [] if method == "average" else [digest("fisher", method)]
            parts = [[name, digest("model", models[name]), 1.0, *fisher] for name in chosen]
            inputs = {
                "algorithm": 1,
                "method": method,
                "models": parts,
                "dtype": "same",
                "normalize": "none",
            }
            described = {
                n: {
                    "model": f"models/{n}",
                    "revision": None,
                    "task": n,
                    "weights": models[n]["weights"],
                }
                for n in chosen
            }
            names = {"models": described, "method": method}
            merge = record(
                "merge", inputs, names, {"backbone": digest("backbone", inputs), "bytes": 1}, made
            )
            of = {name: digest("measure", measures[name]) for name in chosen}
            measured = names | {
                "measures": {name: measures[name] for name in chosen},
                "data": dict.fromkeys(chosen, "data"),
                "splits": {name: {"": "validation"} for name in chosen},
            }
            score = 0.5 + int(merge.key[:4], 16) / 2**18
            yield merge
            yield record(
                "evaluate",
                {"merge": merge.key, "measures": of},
                measured,
                scored(chosen, score),
                made,
            )
            number += 2
            if number >= count:
                return


def record(kind: str, inputs: dict, names: dict, value: dict, made: Made) -> Record:
    key = record_key(kind, inputs)
    return Record(kind=kind, key=key, inputs=inputs, names=names, value=value, made=made)


def measure_of(name: str) -> dict:
    task = {
        "columns": ["sentence"],
        "label": "label",
        "labels": ["no", "yes"],
        "metrics": ["accuracy"],
    }
    splits = {"": digest("split", name)}
    return {
        "algorithm": 1,
        "task": task,
        "order": [0, 1],
        "splits": splits,
        "limit": None,
        "max_length": 128,
    }


def scored(names: list[str] | tuple[str, ...], score: float) -> dict:
    return {
        "scores": {name: {"accuracy": score} for name in names},
        "examples": dict.fromkeys(names, 1000),
    }


if __name__ == "__main__":
    main()
