"""What the catalog says of the records of a store."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from fmn.catalog import Catalog, Query, differences, in_order, model_card
from fmn.catalog.entry import join
from fmn.errors import CatalogError, FmnError, ParamsError
from fmn.store import Draft, Record, Store, collect, garbage
from tests.catalog.conftest import (
    OWN,
    PAIR,
    PLAIN,
    THREE,
    UNMEASURED,
    evaluation,
    individual,
    made,
    merge,
    put,
)
from tests.store.conftest import Place
from tests.store.s3 import NO_CONDITIONS


def ids(entries) -> list[str]:
    return [entry.id for entry in entries]


def refused(kind: type[FmnError], call, *arguments, **named) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_scores_stand_beside_those_of_the_models(catalog: Catalog) -> None:
    entry = catalog[PAIR.key]
    assert {name: score.normalized for name, score in entry.scores.items()} == {
        "rte": 1.0,
        "sst2": pytest.approx(0.8),
    }
    assert (entry.mean(), entry.worst()) == (pytest.approx(0.9), pytest.approx(0.8))
    assert entry.scores["sst2"].individual == {"accuracy": OWN["sst2"]}
    assert (entry.mean(["rte"]), entry.worst(["rte"])) == (1.0, 1.0)


def test_the_headline_is_the_tasks_own_first_metric_and_not_the_alphabets(catalog: Catalog) -> None:
    score = catalog[THREE.key].scores["mrpc"]
    assert list(score.metrics) == ["accuracy", "f1"]
    assert (score.headline, score.value, score.normalized) == ("f1", 0.4, pytest.approx(0.5))


def test_a_score_is_compared_only_with_one_measured_alike(store: Store) -> None:
    put(
        store,
        [
            PLAIN,
            evaluation(PLAIN, {"rte": 0.5, "sst2": 0.5}, limit=20),
            individual("rte", 0.6),
            individual("sst2", 0.9, 20),
        ],
    )
    entry = Catalog(store)[PLAIN.key]
    assert entry.scores["rte"].normalized is None
    assert entry.scores["sst2"].normalized == pytest.approx(0.5 / 0.9)
    assert (entry.mean(), entry.worst()) == (None, None)


def test_a_model_that_scores_nothing_itself_leaves_nothing_to_normalise_by(store: Store) -> None:
    put(
        store,
        [
            PLAIN,
            evaluation(PLAIN, {"rte": 0.3, "sst2": 0.9}),
            individual("rte", 0.0),
            individual("sst2", 0.9),
        ],
    )
    entry = Catalog(store)[PLAIN.key]
    assert {name: score.normalized for name, score in entry.scores.items()} == {
        "rte": 0.0,
        "sst2": 1.0,
    }  # as the leaderboard has it
    assert entry.mean() == 0.5


def test_the_evaluation_with_the_most_examples_counts(store: Store) -> None:
    late = made(moment="2026-11-20T00:00:00+00:00")
    put(
        store,
        [
            PLAIN,
            evaluation(PLAIN, {"rte": 0.5}),
            evaluation(PLAIN, {"rte": 0.9}, limit=20, made_=late),
        ],
    )
    entry = Catalog(store)[PLAIN.key]
    assert [e.examples for e in entry.evaluations] == [100, 20]
    assert entry.scores["rte"].value == 0.5


def test_what_is_best(catalog: Catalog) -> None:
    assert catalog.best(["rte", "sst2"]).id == THREE.key  # 1.0 on both, whatever it is on mrpc
    assert catalog.best(["rte", "sst2"], by="worst").id == THREE.key
    assert catalog.best(["mrpc"]).id == THREE.key
    assert "unknown task 'wnli'" in refused(ParamsError, catalog.best, ["mrpc", "wnli"])


def test_only_what_was_measured_can_be_best(store: Store) -> None:
    put(store, [UNMEASURED])
    assert "no merge that was measured has all of mrpc, rte" in refused(
        CatalogError, Catalog(store).best, ["mrpc", "rte"]
    )


def test_orders(catalog: Catalog) -> None:
    def order(by: str) -> list[str]:
        return ids(catalog.find(by=by))

    assert set(order("mean")[:2]) == {PAIR.key, PLAIN.key}
    assert order("mean")[2:] == [THREE.key, UNMEASURED.key]
    assert order("worst") == [PLAIN.key, PAIR.key, THREE.key, UNMEASURED.key]
    assert order("at")[:2] == [THREE.key, PAIR.key]
    assert order("sst2")[:3] == [THREE.key, PLAIN.key, PAIR.key]
    assert order("size")[0] == THREE.key
    assert "did you mean 'worst'" in refused(ParamsError, order, "worts")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(tasks=["rte"]), [PAIR, PLAIN, THREE, UNMEASURED]),
        (Query(tasks=["rte", "sst2"]), [PAIR, PLAIN, THREE]),
        (Query(models=["models/mrpc"]), [THREE, UNMEASURED]),
        (Query(models=["mrpc", "sst2"]), [THREE]),
        (Query(methods=["mask-fisher"]), [PAIR]),
        (Query(methods=["mask-fisher", "average"], sizes=[2]), [PAIR, PLAIN, UNMEASURED]),
        (Query(by="bob"), [PAIR]),
        (Query(since="2026-11-03"), [PAIR, THREE]),
        (Query(since="2026-11-03T00:00:01"), [THREE]),
        (Query(since="36h"), [THREE]),
        (Query(since="1w"), [THREE]),
        (Query(tags=["prod"]), [PLAIN]),
        (Query(), [PAIR, PLAIN, THREE, UNMEASURED]),
    ],
)
def test_filters(catalog: Catalog, query: Query, expected: list[Record]) -> None:
    catalog.tag("prod", catalog[PLAIN.key])
    now = datetime(2026, 11, 11, tzinfo=UTC)
    assert set(ids(query.select(catalog.entries.values(), now))) == {
        record.key for record in expected
    }


def test_a_model_is_found_by_the_digest_of_its_weights(catalog: Catalog) -> None:
    weights = catalog[THREE.key].parts["mrpc"].weights
    assert set(ids(catalog.find(Query(models=[weights[:8]])))) == {THREE.key, UNMEASURED.key}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(tasks=["sts2"]), "unknown task 'sts2'; did you mean 'sst2'"),
        (Query(methods=["averge"]), "did you mean 'average'"),
        (Query(models=["nobody"]), "unknown model 'nobody'"),
        (Query(tags=["prod"]), "unknown tag 'prod'"),
        (Query(since="yesterday"), "'yesterday' is not a time; expected a date such as"),
    ],
)
def test_what_is_nowhere_in_the_catalog_is_refused(
    catalog: Catalog, query: Query, message: str
) -> None:
    assert message in refused(ParamsError, catalog.find, query)


def test_ids_are_short_prefixes(catalog: Catalog) -> None:
    for record in (PAIR, PLAIN, THREE):
        assert catalog[record.key[:8].upper()].id == record.key
        assert catalog.short(catalog[record.key]) == record.key[:8]
    assert "at least four digits" in refused(CatalogError, catalog.__getitem__, PAIR.key[:3])
    assert f"no merge 'ffff{'0' * 60}'" in refused(
        CatalogError, catalog.__getitem__, "ffff" + "0" * 60
    )


def catalog_of(store: Store, keys: list[str]) -> Catalog:
    """Return a catalog whose merges have keys that no hash would give soon."""
    catalog = Catalog(store)
    catalog.__dict__["entries"] = join(PAIR.model_copy(update={"key": key}) for key in keys)
    return catalog


def test_an_ambiguous_id_is_refused_with_the_candidates(store: Store) -> None:
    catalog = catalog_of(store, ["abcd" + digit * 60 for digit in "0123456"])
    message = refused(CatalogError, catalog.__getitem__, "abcd")
    assert message.startswith("'abcd' is ambiguous: abcd0000 (rte + sst2 by mask-fisher); abcd1111")
    assert "and 2 more" in message


def test_ids_are_as_long_as_it_takes_to_tell_them_apart(store: Store) -> None:
    keys = ["abcd" * 3 + digit * 52 for digit in "01"]
    catalog = catalog_of(store, keys)
    assert [catalog.short(entry) for entry in catalog.entries.values()] == [
        "abcdabcdabcd0",
        "abcdabcdabcd1",
    ]
    assert catalog["abcdabcdabcd1"].id == keys[1]


def test_a_damaged_record_is_left_out(catalog: Catalog, store: Store) -> None:
    store.files.write(PAIR.path, b"{}")
    assert set(catalog.entries) == {PLAIN.key, THREE.key, UNMEASURED.key}


@pytest.mark.parametrize(
    "change",
    [{"task": "../../x"}, {"task": "a b"}, {"weights": "../x"}, {"model": None}, {"labels": [1]}],
)
def test_a_record_that_holds_what_a_merge_does_not_is_left_out(
    store: Store, change: dict[str, Any]
) -> None:
    models = {name: {**model, **change} for name, model in PLAIN.names["models"].items()}
    hostile = PLAIN.model_copy(update={"names": {**PLAIN.names, "models": models}})
    put(store, [hostile, PAIR])
    with pytest.warns(UserWarning, match=f"left out 1 record of the kind merge .*{PLAIN.key}"):
        assert set(Catalog(store).entries) == {PAIR.key}


def test_differences(catalog: Catalog) -> None:
    values = differences([catalog[PAIR.key], catalog[PLAIN.key]])
    assert values["method"] == ["mask-fisher", "average"]
    assert values["association"] == ["paper", ""]
    assert "models" not in values  # what they share is not said
    assert differences([catalog[PAIR.key]] * 2) == {}
    heavy = merge(
        ("rte", "sst2"), "average", models=[["rte", "a" * 64, 2.0], ["sst2", "b" * 64, 1.0]]
    )
    put(catalog.store, [heavy, evaluation(heavy, {"rte": 0.5, "sst2": 0.5})])
    catalog.refresh()
    assert differences([catalog[PLAIN.key], catalog[heavy.key]]) == {"λ of rte": ["1", "2"]}


def test_a_tag_moves_and_goes(catalog: Catalog) -> None:
    assert catalog.tag("prod", catalog[PAIR.key]) is None
    assert catalog["prod"].id == PAIR.key
    assert catalog["prod"].tags == ("prod",)
    before = catalog.tag("prod", catalog[PLAIN.key])
    assert before and before.id == PAIR.key
    assert (catalog["prod"].id, catalog[PAIR.key].tags) == (PLAIN.key, ())
    assert catalog.untag("prod").id == PLAIN.key
    assert "no merge has the tag 'prod'" in refused(CatalogError, catalog.untag, "prod")
    assert "no merge 'prod'" in refused(CatalogError, catalog.__getitem__, "prod")
    assert catalog.tag("prod", catalog[PAIR.key]) is None


@pytest.mark.parametrize("name", ["", "../prod", "a b", "abcd", "12345678", ".hidden"])
def test_names_that_cannot_be_tags(catalog: Catalog, name: str) -> None:
    assert "cannot be a tag" in refused(CatalogError, catalog.tag, name, catalog[PAIR.key])


def test_a_tag_that_nobody_has_is_named_with_the_nearest(catalog: Catalog) -> None:
    catalog.tag("production", catalog[PAIR.key])
    assert "did you mean 'production'" in refused(CatalogError, catalog.__getitem__, "prodution")


def race(catalogs: list[Catalog], wanted: list[str]) -> list[str]:
    """Let several people tag at the very same time: each has looked before the first writes."""
    barrier, outcomes = threading.Barrier(len(catalogs)), [""] * len(catalogs)

    def tag(number: int) -> None:
        catalog = catalogs[number]
        create = catalog.store.files.create
        catalog.store.files.create = lambda *a: (barrier.wait(30), create(*a))[1]
        try:
            catalog.tag("prod", catalog[wanted[number]])
        except CatalogError as error:
            outcomes[number] = str(error)

    threads = [threading.Thread(target=tag, args=(number,)) for number in range(len(catalogs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_of_people_who_tag_at_once_one_wins_and_the_others_are_told(team: Place) -> None:
    wanted = [PAIR.key, PLAIN.key, THREE.key]
    people = [Catalog(team.open(f"person {number}")) for number in range(3)]
    outcomes = race(people, wanted)
    assert sorted(map(bool, outcomes)) == [False, True, True]
    winner = wanted[outcomes.index("")]
    assert Catalog(team.open("another"))["prod"].id == winner
    for message in filter(None, outcomes):
        assert f"gave it to {winner[:12]} at the same time" in message


def test_a_removed_merge_is_hidden_and_comes_back(catalog: Catalog, store: Store) -> None:
    catalog.remove(catalog[PLAIN.key], "a mistake")
    assert PLAIN.key not in catalog.entries
    assert PLAIN.key not in Catalog(store.url).entries  # for everyone
    assert store.get("merge", PLAIN.key) == PLAIN  # a record is never edited
    assert [stone.reason for stone in store.tombstones().values()] == ["a mistake"]
    assert catalog.restore(PLAIN.key[:6]).id == PLAIN.key
    assert PLAIN.key in catalog.entries
    assert "no removed merges" in refused(CatalogError, catalog.restore, PLAIN.key)


def test_what_has_a_tag_is_not_removed(catalog: Catalog) -> None:
    catalog.tag("prod", catalog[PLAIN.key])
    assert "untag prod" in refused(CatalogError, catalog.remove, catalog["prod"])
    assert PLAIN.key in catalog.entries


def test_gc_takes_a_removed_merge_with_all_that_was_derived_from_it(
    catalog: Catalog, store: Store
) -> None:
    before = set(store.all())
    catalog.remove(catalog[PLAIN.key])
    assert garbage(store, []).records == ()  # within a day it can be shown again
    waste = garbage(store, [], grace=-60)
    collect(store, waste)
    assert [
        record
        for record in store.all().values()
        if record and PLAIN.key in (record.key, record.inputs.get("merge"))
    ] == []
    assert len(before) - len(store.all()) == 2  # the merge and its evaluation
    assert store.tombstones() == {}
    assert set(Catalog(store).entries) == {PAIR.key, THREE.key, UNMEASURED.key}


def test_others_results_tags_and_removals_are_seen_at_once(team: Place) -> None:
    ann, ben = Catalog(team.open("ann")), Catalog(team.open("ben"))
    assert len(ann.entries) == len(ben.entries) == 4
    outcome = team.open("ann").get_or_compute(
        "merge", PLAIN.inputs | {"scale": 1.0}, lambda folder: Draft(PLAIN.value), PLAIN.names
    )
    ann.refresh()
    ann.tag("prod", ann[outcome.record.key])
    ann.remove(ann[THREE.key])
    ben.refresh()
    assert ben["prod"].id == outcome.record.key
    assert set(ben.entries) == {PAIR.key, PLAIN.key, UNMEASURED.key, outcome.record.key}


def test_the_card_has_what_the_hub_reads(catalog: Catalog) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard(model_card(catalog[PAIR.key], {}))
    data = card.data.to_dict()
    assert data["library_name"] == "transformers"
    assert {"merge", "mask-fisher", "rte", "sst2"} <= set(data["tags"])
    assert "base_model" not in data  # these models are paths of somebody's machine
    results = {(r.dataset_name, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert results == {("rte", "accuracy"): 0.6, ("sst2", "accuracy"): 0.72}
    assert "| sst2 | accuracy | 72.00 | no interval |  | 90.00 | 80.0 | 100 |" in card.text
    assert PAIR.key in card.text
    (recipe,) = re.findall(r"```yaml\n(.*?)```", card.text, re.DOTALL)
    assert yaml.safe_load(recipe)["method"] == "mask-fisher"


def test_hub_ids_are_base_models(store: Store) -> None:
    names = {
        "models": {
            n: {**PLAIN.names["models"][n], "model": f"org/{n}", "hub": True}
            for n in ("rte", "sst2")
        },
        "method": "average",
    }
    put(store, [PLAIN.model_copy(update={"names": names})])
    from huggingface_hub import ModelCard

    data = ModelCard(model_card(Catalog(store)[PLAIN.key], {})).data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (["org/rte", "org/sst2"], "merge")
    assert "model-index" not in data  # it was not measured


def test_orders_take_entries_from_anywhere(catalog: Catalog) -> None:
    assert ids(in_order(catalog.entries.values(), "mean", ["mrpc"]))[0] == THREE.key


def test_a_server_that_cannot_order_moves_of_a_tag_says_so_at_each_move(bucket: Place) -> None:
    assert bucket.server
    put(bucket.open(), [PAIR, PLAIN])
    bucket.server.control(NO_CONDITIONS)
    catalog = Catalog(bucket.open_again())
    for number, record in enumerate((PAIR, PLAIN), 1):
        catalog.tag("prod", catalog[record.key])
        assert catalog["prod"].id == record.key
        assert len(bucket.warnings) == number
        assert "cannot order two moves of" in bucket.warnings[-1]
