"""A run that is killed, again and again, and then left alone."""

import random
import time

import pytest

from tests.flows.conftest import until
from tests.soak import SOAK

KILLS = 3 * SOAK
MERGES = {"methods": ["average", "fisher", "mask-fisher"], "keep": "all"}


def forget(project, moments, most):
    """Remove some records where there are many: a run that finds everything has no work to be
    killed in."""
    paths = sorted(project.store.glob("records/v2/*/*/*.json"))
    for path in moments.sample(paths, max(0, len(paths) - most)):
        path.unlink()


@pytest.mark.slow
@pytest.mark.soak
def test_after_some_kills_the_store_is_that_of_an_undisturbed_run_byte_for_byte(make_project):
    undisturbed = make_project(merge=MERGES)
    expected = undisturbed.run()
    assert expected.counts("computed") == {"fisher": 6, "merge": 12, "evaluate": 15, "publish": 12}

    killed, moments, longest = (
        make_project(merge=MERGES),
        random.Random(0),
        expected.summary["seconds"]["wall"] / 3,
    )
    total, found = undisturbed.count(), []
    for _ in range(4 * KILLS):
        forget(killed, moments, total // 2)
        there, run = killed.count(), killed.start()
        wanted = there + moments.choice([0, 1, 2, 4])
        until(
            lambda n=wanted, r=run: killed.count() >= n or not r.is_alive,
            f"{wanted} records",
            every=0.002,
        )
        time.sleep(moments.uniform(0, longest))
        run.kill()
        code = run.end().code
        assert code in (0, -9)
        if code == 0:  # it was done before: this machine is fast today
            longest *= 0.8
            continue
        found.append(killed.count() - there)
        if len(found) == KILLS:
            break
    assert len(found) == KILLS
    assert sum(count > 0 for count in found) >= KILLS // 2  # work was under way

    last = killed.run()
    assert last.code == 0, last
    assert last.summary["computed"].keys() == last.summary["cached"].keys()
    assert killed.results().keys() == undisturbed.results().keys()
    assert killed.results() == undisturbed.results()
