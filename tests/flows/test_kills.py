"""A run that is killed, again and again, and then left alone."""

import random
import time

from tests.flows.conftest import until

KILLS = 10
MERGES = {"methods": ["average", "fisher", "mask-fisher"], "keep": "all"}


def test_after_ten_kills_the_store_is_that_of_an_undisturbed_run_byte_for_byte(make_project):
    undisturbed = make_project(merge=MERGES)
    expected = undisturbed.run()
    assert expected.counts("computed") == {"fisher": 6, "merge": 12, "evaluate": 15, "publish": 12}

    killed, moments = make_project(merge=MERGES), random.Random(0)
    found = []
    for _ in range(KILLS):
        there, run = killed.count(), killed.start()
        wanted = there + moments.choice([0, 1, 2, 4])
        until(lambda n=wanted, r=run: killed.count() >= n or not r.is_alive, f"{wanted} records", every=0.002)
        time.sleep(moments.uniform(0, 0.3) if wanted > there else moments.uniform(0, 3))
        run.kill()
        assert run.end().code == -9
        found.append(killed.count() - there)
    assert sum(count > 0 for count in found) > KILLS // 2  # work was under way
    assert sum(found) < expected.summary["computed"]["merge"] * 4  # and never done

    last = killed.run()
    assert last.code == 0, last
    assert last.summary["computed"].keys() == last.summary["cached"].keys()
    assert killed.results().keys() == undisturbed.results().keys()
    assert killed.results() == undisturbed.results()
