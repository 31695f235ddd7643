"""A bit that flips, in any record and any object of a zoo's store: named, and mended by a run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fmn.steps.zoo.leaderboard import zoo_report
from fmn.store import verify


@pytest.fixture
def kept(ran):
    """A zoo whose store keeps models, too, and is whole."""
    return keeping(ran)


@pytest.fixture
def pair(lab):
    """The same of two models: their results are of every kind."""
    lab.described["models"] = lab.described["models"][:2]
    return keeping(lab)


def keeping(lab):
    lab.say("merge", keep="best")
    lab.run()
    assert verify(lab.store) == []
    return lab


def flip(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    bit = chance.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.chmod(0o644)
    file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.soak(again=1)
def test_every_flipped_record_and_object_is_named_and_mended(pair):
    chance, graph, store = random.Random(), pair.open(), pair.store
    scores = zoo_report(graph, store).as_json()["merges"]
    files = sorted(
        path
        for part in ("records/v2", "files/md5")
        for path in (pair.folder / "store" / part).rglob("*")
        if path.is_file() and path.stat().st_size
    )
    kinds = {path.parts[-3] for path in files if path.suffix == ".json"}
    assert kinds >= {"fisher", "merge", "evaluate", "publish"}
    for file in files:
        flip(file, chance)
        assert verify(store), file
        tally = pair.run()
        assert tally.computed.total() >= 1, file
        assert verify(store) == [], file
        assert zoo_report(graph, store).as_json()["merges"] == scores, file
    for file in files:  # and all of them at once
        flip(file, chance)
    assert len(verify(store)) >= len(store.all())
    pair.run()
    assert verify(store) == []
    assert zoo_report(graph, store).as_json()["merges"] == scores


def test_a_flipped_score_is_never_shown(kept, capsys):
    """It is left out until it is computed again, and the line says so."""
    store = kept.store
    for path in sorted((kept.folder / "store" / "records/v2/evaluate").rglob("*.json")):
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"accuracy": ', b'"accuracy": 1', 1))
    assert zoo_report(kept.open(), store).rows == []
    assert any("records of the kind evaluate that cannot be read" in line for line in kept.warnings)
    assert kept.run().computed["evaluate"] == 11
