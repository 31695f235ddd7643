"""Writers that are killed, and writers that race."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from fmn.store import Record, open_store, verify
from tests.soak import SOAK
from tests.store import workers
from tests.store.conftest import Place

KILLS = {"directory": 12 * SOAK, "server": 6 * SOAK}
WRITERS = 2
KEYS = 30
RACERS = 16


def started(place: Place, tmp: Path) -> tuple[BaseProcess, Connection]:
    hears, sender = multiprocessing.Pipe(duplex=False)
    tmp.mkdir(parents=True)
    process = workers.start(
        workers.write_until_killed, place.url, place.environment, tmp, KEYS, sender
    )
    sender.close()
    return process, hears


def kill(process: BaseProcess, hears: Connection, delay: float) -> bool:
    """Kill a writer, so long after its first result began; tell whether it was still at work."""
    with hears:
        hears.recv_bytes()
    process.join(delay)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.soak
def test_after_any_kills_every_record_is_whole_and_the_next_writer_finishes(
    place: Place, tmp_path: Path
) -> None:
    chance, kills, store, longest = random.Random(7), 0, place.open(), 0.2
    wanted = KILLS["server" if place.server else "directory"]
    for number in range(4 * wanted):
        writers = [
            started(place, tmp_path / "killed" / f"{number}-{writer}") for writer in range(WRITERS)
        ]
        killed = sum(kill(*writer, delay=chance.uniform(0, longest)) for writer in writers)
        kills += killed
        if killed < WRITERS:  # one was done before: this machine is faster
            longest *= 0.9
        shutil.rmtree(tmp_path / "killed")
        if len(store.keys("trial")) > KEYS // 2:  # or the last writers would find nothing to do
            for record in store.all().values():
                assert record
                if chance.random() < 0.8:
                    store.drop(record.address)
        if number % 5 == 4:
            assert verify(store) == []
        if kills >= wanted:
            break
    assert kills >= wanted
    assert verify(store) == []
    workers.fill(store, KEYS)
    assert (store.keys("trial"), verify(store)) == (
        {workers.key(number) for number in range(KEYS)},
        [],
    )
    assert place.warnings == []
    for number in range(KEYS):
        record = store.get("trial", workers.key(number))
        assert record and store.path(record.outputs["out"]).read_bytes() == workers.content(number)


def test_what_a_killed_process_left_of_a_download_goes_with_the_next(
    bucket: Place, tmp_path: Path
) -> None:
    workers.fill(bucket.open(), 1)
    process = workers.start(
        workers.die_in_a_download, bucket.url, bucket.environment, tmp_path / "killed"
    )
    process.join()
    assert process.exitcode == -signal.SIGKILL
    store = open_store(bucket.url, cache=tmp_path / "killed" / "cache")
    assert [path.stat().st_size for path in store.objects.arriving.rglob("*/*")] == [1000]
    record = store.get("trial", workers.key(0))
    assert record and store.path(record.outputs["out"]).read_bytes() == workers.content(0)
    assert list(store.objects.arriving.iterdir()) == []


@pytest.mark.soak(again=1)
def test_racing_writers_end_with_one_record_and_its_object_is_whole(
    place: Place, tmp_path: Path
) -> None:
    """All of them look, and find nothing, before the first of them has a result, which no two of
    them have alike."""
    ready = workers.context().Barrier(RACERS)
    racers = []
    for number in range(RACERS):
        hears, sender = multiprocessing.Pipe(duplex=False)
        (tmp_path / str(number)).mkdir()
        racers.append(
            (
                workers.start(
                    workers.race,
                    place.url,
                    place.environment,
                    tmp_path / str(number),
                    number,
                    ready,
                    sender,
                ),
                hears,
            )
        )
        sender.close()
    results = [hears.recv() for _, hears in racers]
    for process, hears in racers:
        process.join()
        hears.close()
    winner = Record.model_validate(results[0][2])
    assert [(number, cached) for number, cached, _, _ in results] == [
        (number, False) for number in range(RACERS)
    ]
    assert {Record.model_validate(record).to_bytes() for _, _, record, _ in results} == {
        winner.to_bytes()
    }
    assert {text for *_, text in results} == {f"written by {winner.value['by']}"}
    store = place.open()
    assert (store.get("trial", workers.key(0)), verify(store)) == (winner, [])
    assert len(store.objects.all()) == RACERS  # the losers' objects wait for the collector
