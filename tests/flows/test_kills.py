"""Runs that are killed, again and again, and then left alone."""

import random
import signal
import time
from contextlib import suppress
from itertools import cycle

import psutil
import pytest

from fmn.scratch import PREFIX
from fmn.store import open_store, verify
from tests.flows import patches
from tests.flows.conftest import kill, until
from tests.soak import SOAK

KILLS = {"run": max(10, 2 * SOAK), "threads": max(7, 2 * SOAK), "dask": max(3, SOAK)}
"""Of ``fmn run``, of the flow with threads, and of the flow with its own cluster."""

MERGES = {"methods": ["average", "fisher", "mask-fisher"], "keep": "all"}
RUNNERS = {
    "threads": {"kind": "threads"},
    "dask": {"kind": "dask", "devices": ["cpu:0", "cpu:1"], "workers": 2},
}
VICTIMS = {
    "run": ["run", "group"],
    "threads": ["run", "group"],
    "dask": ["run", "worker", "group"],
}
"""What is killed in turn: a run's process alone, its process group, or one of its workers."""


def forget(project, chance, most):
    """Remove some records where there are many: a run that finds everything has no work to be
    killed in."""
    paths = sorted(project.store.glob("records/v2/*/*/[!.]*.json"))
    for path in chance.sample(paths, max(0, len(paths) - most)):
        path.unlink()


def is_worker(process):
    with suppress(psutil.Error):
        return "spawn_main" in " ".join(process.cmdline())
    return False


class Series:
    """Runs of one project that are killed.

    Attributes:
        project: of all of them.
        temporary: where its processes have their temporary files.
    """

    def __init__(self, make_project, kind):
        runner = {"runner": RUNNERS[kind]} if kind in RUNNERS else {}
        self.project, self._is_flow = make_project(merge=MERGES, **runner), kind in RUNNERS
        self.temporary = self.project.folder / "temporary"
        self.temporary.mkdir()

    def start(self, patch=None):
        return self.project.start(patch=patch, flow=self._is_flow, TMPDIR=str(self.temporary))

    def until_it_works(self, run, records, victim):
        """Wait for so many records, and for a worker that is to be killed."""
        until(
            lambda: (
                not run.is_alive
                or (self.project.count() >= records and (victim != "worker" or self.workers()))
            ),
            f"{records} records",
            every=0.01,
        )

    def kill(self, run, victim, chance):
        """Kill; tell whether there was a worker to be killed."""
        if victim != "worker":
            run.kill(group=victim == "group")
        elif workers := self.workers():
            kill(chance.choice(workers).pid)
            return True
        return False

    def processes(self):
        """Return what a run has started as programs of their own: servers and workers."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process):
        with suppress(psutil.Error):  # gone, a zombie, or another user's
            is_ours = process.environ().get("TMPDIR") == str(self.temporary)
            return is_ours and process.status() != psutil.STATUS_ZOMBIE
        return False

    def workers(self):
        """Return those of them that are workers of a cluster."""
        return [each for each in self.processes() if is_worker(each)]

    def left(self):
        """Return the folders of dead processes."""
        places = (self.temporary, self.project.store / "arriving")
        return [folder for place in places for folder in place.glob(f"{PREFIX}*")]


@pytest.fixture(scope="module")
def undisturbed(make_project):
    """A project that was run without a kill, and the seconds that took."""
    project = make_project(merge=MERGES)
    ran = project.run()
    assert ran.counts("computed") == {"fisher": 6, "merge": 12, "evaluate": 15, "publish": 12}
    return project, ran.summary["seconds"]["wall"]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("kind", KILLS)
def test_after_some_kills_the_store_is_that_of_an_undisturbed_run_byte_for_byte(
    make_project, undisturbed, kind
):
    expected, seconds = undisturbed
    series, chance = Series(make_project, kind), random.Random(kind)
    project, total, longest, progress = series.project, expected.count(), seconds / 3, []
    victims, started = cycle(VICTIMS[kind]), 0
    for attempt in range(4 * KILLS[kind]):
        forget(project, chance, total // 2)
        there, victim, with_server = project.count(), next(victims), attempt % 4 == 0
        run = series.start(patches.own_server if with_server and kind != "run" else None)
        series.until_it_works(run, there + chance.choice([0, 1, 2, 4]), victim)
        time.sleep(chance.uniform(0, longest))
        started += len(series.processes())
        is_worker = series.kill(run, victim, chance)
        ran = run.end()
        until(lambda: not series.processes(), "the end of all that the run started")
        assert verify(open_store(project.store)) == []
        # of a worker the others, and the next in its place, do the work
        assert ran.code == 0 or (ran.code, victim != "worker") == (-signal.SIGKILL, True), ran
        if ran.code == 0 and not is_worker:  # it was done before: this machine is fast today
            longest *= 0.8
            continue
        progress.append(project.count() - there)
        if len(progress) == KILLS[kind]:
            break
    assert len(progress) == KILLS[kind]
    assert sum(count > 0 for count in progress) >= KILLS[kind] // 2  # work was under way
    assert started or kind == "run"

    forget(project, chance, total - 1)
    last = project.run(flow=False, TMPDIR=str(series.temporary))
    assert (last.code, last.err) == (0, "")  # nobody was waited for
    assert project.results() == expected.results()
    assert series.left() == []
