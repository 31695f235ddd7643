"""Whatever a store holds, its readers leave it out or read it, and raise nothing.

Contents are made from those of a real store by changing values within them; digests and keys are
made to fit again, as somebody would who may write to the store.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from fmn.catalog import Catalog, Entry, Query, differences, model_card
from fmn.console.output import visible
from fmn.errors import FmnError, StoreError
from fmn.params import read_params
from fmn.report import read_report
from fmn.steps.describe import how_to_derive, in_short
from fmn.steps.rederive import merge_step
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.leaderboard import zoo_report
from fmn.steps.zoo.plan import plan_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import Memo, Store, garbage, open_store, record_key, verify
from fmn.store.names import OWN, own, parse_address, relative
from fmn.store.records import parse_record
from fmn.store.runs import parse_run
from fmn.store.tombstones import parse_tombstone
from tests.compatibility.test_67dc34b import ARCHIVE
from tests.soak import fuzz

FOUND = [Phase.generate]
"""Of hypothesis: what fails is shown as it came; to make it smaller would take long."""

NASTY = ["", ".", "..", "/", "\\", "C:", "a", "~", "\x00", "\x1b[2J", "\ud800", *OWN]
PATHS = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=6).map("/".join)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["../../out", "/etc/out", "a" * 64, "0" * 32, "\x1b]0;x\x07", "x" * 20_000])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def changed(draw: Callable[[Any], Any], value: Any) -> Any:
    """Return it with one value within it replaced, taken away, or put in."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 4)) == 0:
        return draw(VALUES)
    copy = value.copy()
    keys = list(copy) if isinstance(copy, dict) else list(range(len(copy)))
    key = draw(st.sampled_from(keys))
    how = draw(st.integers(0, 9))
    if how == 0:
        del copy[key]
    elif how == 1 and isinstance(copy, dict):
        copy[draw(st.text(max_size=5) | st.just("../x"))] = copy.pop(key)
    else:
        copy[key] = changed(draw, copy[key])
    return copy


def text(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def written(plain: Any) -> tuple[str, bytes]:
    """Return a record's path and bytes, with a key and a digest that fit."""
    if not isinstance(plain, dict):
        return f"records/v2/merge/00/{'0' * 64}.json", text(plain)
    try:
        plain["key"] = record_key(plain["kind"], plain["inputs"])
        path = f"records/v2/{plain['kind']}/{plain['key'][:2]}/{plain['key']}.json"
        relative(path)
    except (KeyError, TypeError, ValueError):
        path = f"records/v2/merge/00/{'0' * 64}.json"
    body = text(plain).removeprefix(b"{\n")
    return path, b'{\n "digest": "%s",\n' % sha256(body).hexdigest().encode() + body


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.soak
@fuzz(400, phases=FOUND)
@given(PATHS)
def test_a_name_that_is_taken_leads_nowhere_but_under_its_directory(name: str) -> None:
    try:
        relative(name)
    except ValueError:
        return
    assert Path("/root/of/it", name).resolve().is_relative_to("/root/of/it")
    assert name.encode() and visible(name) == name
    try:
        path = own(name)
    except StoreError:
        return
    assert path.parts[0] in OWN and len(path.parts) > 1


@pytest.mark.soak
@fuzz(400, phases=FOUND)
@given(
    PATHS | st.from_regex(r"records/v\d/[a-z.]{1,4}/[0-9a-f]{2}/[0-9a-f]{64}\.json", fullmatch=True)
)
def test_an_address_is_where_it_was_read(path: str) -> None:
    where = parse_address(path)
    assert where is None or where[1].path(where[0]) == path


@pytest.mark.soak
@fuzz(200, phases=FOUND)
@given(st.binary(max_size=200) | VALUES.map(text))
def test_no_bytes_make_a_parser_raise(content: bytes) -> None:
    key = "ab" * 32
    parse_record(f"records/v1/merge/ab/{key}.json", content)
    parse_record(f"records/v2/merge/ab/{key}.json", content)
    parse_tombstone(f"tombstones/v1/merge/ab/{key}.json", content)
    parse_run("runs/v1/20260101T000000Z-0.json", content)


@pytest.mark.parametrize("depth", [900, 100_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_what_is_nested_deep_is_damaged(depth: int, opening: bytes) -> None:
    test_no_bytes_make_a_parser_raise.hypothesis.inner_test(opening * depth)  # type: ignore[attr-defined]


def read_all(store: Store, graph: Graph, known: Mapping[str, Entry]) -> None:
    """Read a store in every way in which people do."""
    catalog = Catalog(store)
    entries = catalog.find(Query())
    new = [entry for entry in entries if entry != known.get(entry.id)]
    for entry in new:
        json.dumps(entry.as_json())
        model_card(entry, catalog.statistics(entry))
        with suppress(FmnError):  # it is not the merge of these models
            merge_step(catalog, entry, Memo())
    differences(entries)
    read_report(catalog).model_dump_json()
    for record in store.all().values():
        how_to_derive(record)
        if record:
            in_short(record)
    plan_zoo(graph, store)
    zoo_report(graph, store)
    verify(store, read=False)
    garbage(store, [])


class Zoo:
    """The graph of a zoo, of few words where a test fails."""

    def __init__(self, graph: Graph, entries: Mapping[str, Entry]) -> None:
        self.graph, self.entries = graph, entries

    def __repr__(self) -> str:
        return "a zoo"


@pytest.fixture(scope="module")
def zoo(whole: Path) -> Iterator[Zoo]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(whole)
        graph = Graph(open_zoo(read_params(Path("all.yaml")), Memo()))
        yield Zoo(graph, Catalog("store").entries)


@pytest.mark.soak
@fuzz(30, phases=FOUND)
@given(st.data())
def test_no_content_of_a_store_makes_a_reader_raise(
    whole: Path, zoo: Zoo, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = open_store(folder / "store", cache=folder / "cache", warn=lambda line: None)
    shutil.copytree(whole / "store", folder / "store", copy_function=shutil.copy)
    paths = [
        path.relative_to(whole / "store")
        for part in ("records", "tags", "tombstones", "runs")
        for path in sorted((whole / "store" / part).rglob("*.json"))
    ]
    by_folder: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parts[:3], []).append(path)
    for _ in range(data.draw(st.integers(2, 8))):
        path = data.draw(st.sampled_from(by_folder[data.draw(st.sampled_from(sorted(by_folder)))]))
        plain = changed(data.draw, json.loads((whole / "store" / path).read_text()))
        try:
            name, content = (
                written(plain) if path.parts[0] == "records" else (str(path), text(plain))
            )
        except UnicodeEncodeError:
            continue
        file = folder / "store" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    read_all(store, zoo.graph, zoo.entries)
    shutil.rmtree(folder)


def test_a_warning_by_default_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "tags" / "v1"
    folder.mkdir(parents=True)
    (folder / "a\x1b[2J.json").write_text("{")
    store = open_store(tmp_path / "store", cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match=r"cannot be read: .*a\\u001b\[2J"):
        store.tell_damaged("tag", list(store.files.list("tags")))
