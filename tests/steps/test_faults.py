"""A zoo on a server of which a fifth of all requests fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fmn.steps.zoo.run import run_zoo
from fmn.store import Patience, Store, open_store, verify
from tests.steps.conftest import Lab
from tests.store.s3 import Bucket, Fault, S3Server

PATIENCE = Patience(attempts=12, first=0.02, longest=0.5)
"""That one request in 250 million fails for good, and not one in 80,000."""

KINDS = [
    Fault(status=503, code="SlowDown"),
    Fault(status=500),
    Fault(status=502, code=""),
    Fault(drop=True),
    Fault(late=True),
]
SHARE = 0.2
ALL = {"fisher": 3, "merge": 8, "evaluate": 11}


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    bucket = s3_server.bucket()
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    yield bucket
    bucket.remove()


def results(store: Store) -> dict[str, object]:
    return {
        path: record and (record.inputs, record.value, record.outputs)
        for path, record in store.all().items()
    }


@pytest.mark.slow
@pytest.mark.soak(again=1)
def test_a_run_ends_with_the_results_of_a_run_without_faults_and_no_warning(
    lab: Lab, finished: Lab, bucket: Bucket
) -> None:
    each = SHARE / len(KINDS)
    bucket.control(
        # each is asked about what those before it left
        *(replace(kind, chance=each / (1 - each * number)) for number, kind in enumerate(KINDS))
    )

    def opened(machine: str) -> Store:
        cache = lab.folder / machine
        url = f"{bucket.address}/store"
        return open_store(url, cache=cache, patience=PATIENCE, warn=lab.warnings.append)

    assert run_zoo(lab.open(), opened("one"), lab.context()).computed == ALL
    assert abs(bucket.failures() / bucket.requests().total() - SHARE) < 0.1
    assert run_zoo(lab.open(), opened("another"), lab.context()).cached == ALL
    bucket.control()
    store = opened("third")
    assert results(store) == results(finished.store)
    assert store.objects.all().keys() == finished.store.objects.all().keys()
    assert (verify(store), lab.warnings) == ([], [])
