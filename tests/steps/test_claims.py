"""Cold processes that run one zoo at once share its work."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fmn.params import read_params
from fmn.steps.kind import Reference
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.run import run_steps, run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store, verify
from fmn.store.claims import CLAIMS
from tests.forks import forking
from tests.soak import SOAK
from tests.steps.conftest import Lab
from tests.store.s3 import S3Server

RACERS = 6 if SOAK == 1 else 16


def race(
    lab: Lab, url: str, environment: Mapping[str, str], number: int, ready: Any, results: Any
) -> None:
    """Run the zoo as a process that knows nothing yet; send what it computed, and its warnings."""
    os.environ.update(environment)
    os.environ["FMN_CACHE"] = str(lab.folder / f"racer{number}")
    graph = Graph(open_zoo(read_params(lab.folder / "params.yaml"), lab.context().memo))
    store = open_store(url, cache=lab.folder / f"racer{number}", warn=lab.warnings.append)
    ready.wait(120)
    tally = run_zoo(graph, store, lab.context())
    results.send((dict(tally.computed), dict(tally.cached), lab.warnings))


@pytest.fixture(params=["directory", "server"])
def place(
    request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, str]]]:
    """An address of a store, and the environment that it needs."""
    if request.param == "directory":
        yield str(lab.folder / "store"), {}
        return
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.bucket()
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    yield f"{bucket.address}/store", bucket.environment
    bucket.remove()


@pytest.mark.slow
@pytest.mark.soak(again=1 / 4)
def test_cold_processes_compute_every_step_once(
    lab: Lab, place: tuple[str, dict[str, str]]
) -> None:
    url, environment = place
    lab.params  # noqa: B018  writes the file that all of them read
    modules = ["datasets", "s3fs", "transformers.models.bert.modeling_bert"]
    context = forking(*modules, "pytest", "tests.steps.test_claims")
    ready, racers = context.Barrier(RACERS), []
    for number in range(RACERS):
        hears, sender = multiprocessing.Pipe(duplex=False)
        process = context.Process(
            target=race, args=(lab, url, environment, number, ready, sender), daemon=True
        )
        process.start()
        sender.close()
        racers.append((process, hears))
    came = [hears.recv() for _, hears in racers]
    for process, hears in racers:
        process.join()
        hears.close()
    computed = sum((Counter(each) for each, _, _ in came), Counter[str]())
    assert computed == {"fisher": 3, "merge": 8, "evaluate": 11}
    for mine, cached, warnings in came:
        assert Counter(mine) + Counter(cached) == {"fisher": 3, "merge": 8, "evaluate": 11}
        assert all("waiting for" in line for line in warnings)
    store = open_store(url, cache=lab.folder / "after")
    assert (verify(store), [*store.files.list(CLAIMS)]) == ([], [])


def test_what_another_computes_is_put_off_until_the_rest_is_done(lab: Lab) -> None:
    graph, store, other = lab.open(), lab.store, lab.store
    steps = [graph.step(Reference("fisher", (name,), "mask-fisher")) for name in ("sst2", "rte")]
    done: list[int] = []

    def advance(count: int) -> None:
        done.append(count)
        if len(done) == 1:  # the second one: only now the other's result is there
            assert not other.get("fisher", steps[0].key)
            claim.__exit__(None, None, None)

    claim = other.claims.hold("fisher", steps[0].key, wait=False, tell=lab.warnings.append)
    assert claim.__enter__()
    tally = run_steps(steps, store, lab.context(), progress=advance)
    assert (tally.computed, done, lab.warnings) == ({"fisher": 2}, [1, 1], [])
    assert store.get("fisher", steps[0].key)
