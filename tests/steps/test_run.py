"""Steps done one after the other: what fails leaves the others alone, and the tally says what came
of each."""

import json

import pytest

from fmn.errors import FisherError
from fmn.steps.step import NeedsError
from fmn.steps.zoo.leaderboard import zoo_report
from fmn.steps.zoo.run import Tally, cached, run_steps, run_zoo
from fmn.steps.zoo.zoo import open_zoo
from tests.steps.conftest import reference
from tests.steps.world import save


@pytest.fixture
def broken(lab):
    """A zoo with a model that opens, but has no finite Fisher."""
    model = lab.world.load("rte")
    model.bert.encoder.layer[0].intermediate.dense.weight.data[0, 0] = float("nan")
    save(model, lab.world.model("rte"))
    return lab


def everything(graph):
    """Return the steps of every kind but the evaluations of the models themselves."""
    return [graph.step(each) for kind in ("fisher", "merge", "evaluate") for each in graph.of(kind)]


def test_a_model_that_fails_takes_only_its_own_combinations_along(broken):
    broken.say("merge", methods=["mask-fisher"])
    graph, done = broken.open(), []
    tally = run_steps(everything(graph), broken.store, broken.context(), progress=done.append)
    (failure,) = tally.failed
    assert failure["step"] == "mask Fisher of rte"
    assert "not finite" in failure["error"]
    assert tally.computed == {"fisher": 2, "merge": 1, "evaluate": 1}
    assert tally.skipped == {"merge": 3, "evaluate": 3}
    assert sum(done) == len(everything(graph)) == 11
    assert set(tally.seconds) == {"fisher", "merge", "evaluate"}
    assert all(seconds > 0 for seconds in tally.seconds.values())
    assert not tally.is_hit


def test_strict_raises_the_first_failure(broken):
    graph = broken.open()
    with pytest.raises(FisherError, match="rte: the mask Fisher is not finite"):
        run_steps(everything(graph), broken.store, broken.context(), strict=True)
    with pytest.raises(NeedsError, match="needs the mask Fisher of rte"):
        run_steps(
            [graph.step(reference("merge", "sst2", "rte", "mask-fisher"))],
            broken.store,
            broken.context(),
            strict=True,
        )
    with pytest.raises(FisherError):
        run_zoo(graph, broken.store, broken.context())


def test_what_was_finished_before_a_failure_is_not_computed_again(broken):
    for _ in range(2):
        with pytest.raises(FisherError):
            broken.run()
    assert len(broken.store.keys("fisher")) == 1  # sst2's, before rte's failed
    broken.described["models"] = [
        entry for entry in broken.described["models"] if entry["task"] != "rte"
    ]
    assert broken.computed() == {"fisher": 1, "merge": 2, "evaluate": 4}


def test_any_error_of_a_metric_is_a_failure_of_that_step_alone(ran, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("no rows\nat all")

    monkeypatch.setattr("fmn.evaluation.evaluate", broken)
    ran.say("evaluate", limit=20)
    graph = ran.open()
    step = graph.step(reference("individual", "rte"))
    steps = [step, graph.step(reference("fisher", "rte", "mask-fisher"))]
    tally = run_steps(steps, ran.store, ran.context())
    (failure,) = tally.failed
    assert failure["step"] == "evaluation of rte"
    assert failure["error"].startswith("ZeroDivisionError: no rows at all (broken, line ")
    assert tally.cached == {"fisher": 1}
    with pytest.raises(ZeroDivisionError):
        run_steps([step], ran.store, ran.context(), strict=True)


def test_a_second_run_finds_everything_and_leaves_no_trace(ran):
    runs = ran.store.runs()
    tally = ran.run()
    assert tally.is_hit
    assert tally.cached == {"fisher": 3, "merge": 8, "evaluate": 11}
    assert (
        tally.in_words()
        == "computed nothing, took 3 Fishers, 8 merges, 11 evaluations from the store"
    )
    assert ran.store.runs() == runs
    graph = ran.open()
    assert cached(graph, list(graph.of("fisher"))).cached == {"fisher": 3}


@pytest.mark.parametrize(
    "reference", [reference("individual", "rte"), reference("evaluate", "sst2", "rte", "average")]
)
def test_a_damaged_record_of_scores_is_made_again(reference, ran):
    step = ran.open().step(reference)
    path = ran.store.get("evaluate", step.key).path
    (ran.folder / "store" / path).write_text("{")
    tally = ran.run()
    assert tally.computed == {"evaluate": 1}
    assert tally.computed["evaluate"] + tally.cached["evaluate"] >= 11
    report = zoo_report(ran.open(), ran.store)
    assert (len(report.individual), len(report.rows)) == (3, 8)
    assert ran.computed() == {}


def test_a_damaged_record_of_a_merge_is_made_again_when_it_is_needed(ran):
    step = ran.open().step(reference("merge", "sst2", "rte", "average"))
    path = ran.folder / "store" / ran.store.get("merge", step.key).path
    whole = json.loads(path.read_text())
    path.write_text("{")
    ran.say("evaluate", limit=20)
    assert ran.computed() == {"merge": 1, "evaluate": 11}
    assert json.loads(path.read_text())["value"] == whole["value"]


def test_a_run_is_logged_with_what_it_did_and_of_what(ran):
    (run,) = ran.store.runs()
    assert run.computed == {"fisher": 3, "merge": 8, "evaluate": 11}
    assert run.described == json.loads(json.dumps(ran.open().zoo.described()))
    assert run.wall > 0


def full_tally():
    tally = Tally()
    tally.computed.update(fisher=1, merge=2)
    tally.cached.update(evaluate=3)
    tally.skipped.update(evaluate=1)
    tally.fail("mask Fisher of x", "why")
    tally.spend("fisher", 1.5)
    tally.spend("fisher", 1.0)
    return tally


def test_a_tally_travels_as_json():
    tally = full_tally()
    content = json.loads(json.dumps(tally.as_json()))
    assert content == {
        "computed": {"fisher": 1, "merge": 2, "evaluate": 0},
        "cached": {"fisher": 0, "merge": 0, "evaluate": 3},
        "skipped": {"fisher": 0, "merge": 0, "evaluate": 1},
        "failed": [{"step": "mask Fisher of x", "error": "why"}],
        "seconds": {"fisher": 2.5},
    }
    again = Tally.from_json(content)
    assert again.as_json() == content
    again.add(tally)
    assert (again.computed["merge"], again.cached["evaluate"], len(again.failed)) == (4, 6, 2)
    assert again.seconds == {"fisher": 5.0}


@pytest.mark.parametrize("which", ["computed", "cached", "skipped"])
def test_models_that_are_kept_travel_too(which):
    tally = Tally()
    getattr(tally, which).update(publish=2)
    assert getattr(Tally.from_json(tally.as_json()), which)["publish"] == 2


def test_a_tally_in_words():
    assert full_tally().in_words() == (
        "computed 1 Fisher, 2 merges, took 3 evaluations from the store, left out 1 evaluation "
        "that need what failed, 1 failed"
    )
    assert Tally().in_words() == "computed nothing, took nothing from the store"
    assert (Tally().is_hit, full_tally().is_hit) == (True, False)


@pytest.mark.parametrize("change", [{}, {"skipped": 1}, {"computed": 1}, {"failed": [{}]}])
def test_a_tally_that_travelled_knows_whether_there_was_nothing_to_do(change):
    """Its counts are zeros by then, which are not nothing."""
    summary = Tally().as_json()
    for name, more in change.items():
        summary[name] = more if name == "failed" else {**summary[name], "merge": more}
    total = Tally()
    total.add(Tally.from_json(summary))
    assert total.is_hit == (not change)


def test_two_models_of_one_task(lab):
    lab.entry("rte").update(model=str(lab.world.model("sst2")), task="sst2", name="twin")
    lab.entry("sst2")["name"] = "first"
    lab.say("merge", sizes=[2], methods=["average"])
    zoo = open_zoo(lab.params, lab.context().memo)
    assert list(zoo.members) == ["first", "twin", "mnli"]
    assert lab.computed() == {"merge": 3, "evaluate": 6}


def test_a_parent_that_is_not_theirs_is_named(lab):
    from fmn.errors import ParamsError
    from tests.families import tiny

    save(tiny("bert", num_labels=2), lab.folder / "stranger")
    lab.described["parent"] = str(lab.folder / "stranger")
    with pytest.raises(
        ParamsError, match=r"parent: .*; name the model that all are fine-tunes of, or none"
    ):
        lab.open()
    lab.described["parent"] = str(lab.world.model("mnli"))
    lab.entry("sst2")["name"] = "parent"  # a model may be called so
    assert list(lab.open().zoo.members) == ["parent", "rte", "mnli"]
