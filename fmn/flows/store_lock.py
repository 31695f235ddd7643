"""Two deployments' runs of one zoo do not overlap: each waits for its turn at the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256

from prefect import get_client, runtime
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

LEASE = 60.0
"""Seconds after which the turn of a run that was killed is another's; the shortest that Prefect
gives.
"""


@contextmanager
def store_lock(store: str) -> Iterator[None]:
    """Wait until no deployment's run works for a store; keep others waiting in the context.

    A run that somebody started by hand waits for nobody: an overlap wastes time, but the store
    takes no harm.
    """
    if not runtime.deployment.id:
        yield
        return
    name = f"merge-zoo-{sha256(store.encode()).hexdigest()[:12]}"
    # another run may make the limit at the same time
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(name, 1)
    with concurrency(name, lease_duration=LEASE, raise_on_lease_renewal_failure=False):
        yield
