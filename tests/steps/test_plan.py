"""What a plan says is what a run then does."""

import weakref
from collections import Counter

import pytest

from fmn.checkpoint import open_checkpoint
from fmn.errors import CheckpointError, DataError, MergeError
from fmn.steps.zoo.plan import plan_zoo
from fmn.steps.zoo.zoo import Zoo
from fmn.store import open_store
from tests.steps.conftest import flip
from tests.steps.test_keys import another_model, change_a_row
from tests.steps.world import LABELS

KINDS = ("fisher", "evaluate models", "merge", "evaluate merges")


def to_compute(plan):
    return {name: len(part.misses) for name, part in plan.parts().items() if part.misses}


def reasons(plan):
    return {name: dict(part.reasons) for name, part in plan.parts().items() if part.reasons}


def test_everything_is_to_be_computed_the_first_time_and_nothing_the_second(ran):
    store = ran.folder / "store"
    store.rename(ran.folder / "later")
    first = ran.plan()
    assert to_compute(first) == dict(zip(KINDS, (3, 3, 8, 8), strict=True))
    assert reasons(first) == {
        name: {"not computed before": count} for name, count in to_compute(first).items()
    }
    assert (first.is_done, first.cached_bytes, first.broken) == (False, 0, {})
    (ran.folder / "later").rename(store)
    second = ran.plan()
    assert {name: len(part.hits) for name, part in second.parts().items()} == to_compute(first)
    assert (second.is_done, to_compute(second), reasons(second), second.new_bytes) == (
        True,
        {},
        {},
        0,
    )


def test_planning_computes_and_stores_nothing(lab, monkeypatch):
    for name in (
        "fmn.fisher.mask_fisher",
        "fmn.models.load_model",
        "fmn.merging.memory.merge_into",
    ):
        monkeypatch.setattr(name, lambda *a, **k: pytest.fail("expensive work started"))
    lab.plan()
    assert not (lab.folder / "store").exists()


def test_planning_holds_no_more_steps_than_a_graph_remembers(lab, monkeypatch):
    variants = {
        "association": ["paper", "value", "output", "layer-mean"],
        "normalize": ["none", "mean", "l2"],
    }
    lab.say("merge", methods=[{"method": "mask-fisher", "parameters": variants}])
    alive, most, make = Counter(), Counter(), Zoo.merge

    def counted(zoo, names, label):
        step = make(zoo, names, label)
        alive["merges"] += 1
        most["merges"] = max(most["merges"], alive["merges"])
        weakref.finalize(step, alive.subtract, ["merges"])
        return step

    monkeypatch.setattr(Zoo, "merge", counted)
    monkeypatch.setattr("fmn.steps.zoo.graph.REMEMBERED", 5)
    assert to_compute(lab.plan())["merge"] == 48
    assert most["merges"] <= 2 * 5  # themselves, and of their evaluations


CHANGES = {
    "a model": (
        another_model,
        {
            "fisher": {"another is new": 1},
            "evaluate models": {"another is new": 1},
            "merge": {"another is new": 14},
            "evaluate merges": {"another is new": 14},
        },
    ),
    "a weight": (
        lambda lab: lab.say("merge", weights={"rte": 0.5}),
        {
            "merge": {"the weight of rte: 1.0 → 0.5": 6},
            "evaluate merges": {"the weight of rte: 1.0 → 0.5": 6},
        },
    ),
    "a method": (
        lambda lab: lab.say("merge", methods=["average", "fisher"]),
        {
            "fisher": {"not computed before": 3},
            "merge": {"method fisher is new": 4},
            "evaluate merges": {"method fisher is new": 4},
        },
    ),
    "the scale": (
        lambda lab: lab.say("merge", parameters={"normalize": "l2"}),
        {
            "merge": {"merge normalize: none → l2": 4},
            "evaluate merges": {"merge normalize: none → l2": 4},
        },
    ),
    "samples": (
        lambda lab: lab.say("fisher", samples=8),
        {
            "fisher": {"fisher samples: 16 → 8": 3},
            "merge": {"fisher samples: 16 → 8": 4},
            "evaluate merges": {"fisher samples: 16 → 8": 4},
        },
    ),
    "the limit": (
        lambda lab: lab.say("evaluate", limit=20),
        {
            "evaluate models": {"evaluate limit: 30 → 20": 3},
            "evaluate merges": {"evaluate limit: 30 → 20": 8},
        },
    ),
    "weights of a model": (
        lambda lab: flip(lab.world.model("sst2") / "model.safetensors"),
        dict(
            zip(
                KINDS,
                ({"the weights of sst2 changed": count} for count in (1, 1, 6, 6)),
                strict=True,
            )
        ),
    ),
    "a tokenizer": (
        lambda lab: lab.edit(
            lab.world.model("rte") / "tokenizer_config.json",
            lambda settings: settings.update(model_max_length=39),
        ),
        dict(
            zip(
                KINDS,
                ({"the tokenizer of rte changed": count} for count in (1, 1, 6, 6)),
                strict=True,
            )
        ),
    ),
    "training data": (
        lambda lab: change_a_row(lab, "train"),
        {
            "fisher": {"the training data of sst2 changed": 1},
            "merge": {"the training data of sst2 changed": 3},
            "evaluate merges": {"the training data of sst2 changed": 3},
        },
    ),
    "validation data": (
        lambda lab: change_a_row(lab, "validation"),
        {
            "evaluate models": {"the validation data of sst2 changed": 1},
            "evaluate merges": {"the validation data of sst2 changed": 6},
        },
    ),
    "batch sizes and the runner": (
        lambda lab: lab.say("runner", devices=["cpu", "cpu"], batch=3),
        {},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_says_what_changed_and_the_run_computes_just_that(change, ran):
    make, expected = CHANGES[change]
    make(ran)
    plan = ran.plan()
    planned = to_compute(plan)
    assert reasons(plan) == expected
    assert planned == {name: sum(counts.values()) for name, counts in expected.items()}
    both = Counter({"fisher": planned.get("fisher", 0), "merge": planned.get("merge", 0)})
    both["evaluate"] = planned.get("evaluate models", 0) + planned.get("evaluate merges", 0)
    assert ran.computed() == dict(+both)


def test_several_changes_are_all_named(ran):
    ran.say("merge", weights={"rte": 2})
    ran.say("fisher", samples=8)
    whys = reasons(ran.plan())
    assert whys["fisher"] == {"fisher samples: 16 → 8": 3}
    assert whys["merge"] == {"the weight of rte: 1.0 → 2.0": 6, "fisher samples: 16 → 8": 4}


def test_compares_with_the_most_similar_of_the_last_runs(ran):
    ran.say("fisher", samples=8)
    ran.run()
    ran.say("fisher", samples=16, seed=3)
    assert reasons(ran.plan())["fisher"] == {"fisher seed: 0 → 3": 3}


def test_a_broken_model_is_named_and_the_rest_planned(ran):
    (ran.world.model("mnli") / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights in .*mnli"):
        ran.plan()
    plan = ran.plan(strict=False)
    assert list(plan.broken) == ["mnli"]
    assert "no weights in" in plan.broken["mnli"]
    assert (to_compute(plan), len(plan.steps["merge"].hits), len(plan.steps["fisher"].hits)) == (
        {},
        2,
        2,
    )
    assert plan.as_json()["broken"] == plan.broken


def test_a_model_that_does_not_fit_the_others_is_the_broken_one(ran):
    model = ran.world.model("sst2")
    ran.edit(
        model / "tokenizer.json", lambda settings: settings["model"]["vocab"].update(strange=30)
    )
    with pytest.raises(MergeError, match="tokenizer"):
        ran.plan()
    plan = ran.plan(strict=False)
    assert list(plan.broken) == ["sst2"]
    assert len(plan.steps["merge"].hits) == 2


def test_fewer_than_two_whole_models_are_no_zoo(ran):
    ran.described["data"] = str(ran.folder)
    with pytest.raises(MergeError, match="3 reasons") as error:
        ran.plan(strict=False)
    assert all(
        "sst2" in offence or "rte" in offence or "mnli" in offence
        for offence in error.value.offences
    )
    ran.described["models"] = ran.described["models"][:2]
    ran.described["data"] = ran.world.data
    ran.entry("rte")["task"] = "mnli"
    with pytest.raises(DataError, match="task mnli has the 3 labels"):
        ran.plan(strict=False)


def stored(lab, kind):
    records = lab.store.find(kind, lab.store.keys(kind))
    return {
        record.key: sum(output.size for output in record.outputs.values())
        for record in records.values()
    }


def test_bytes_are_those_of_the_files(ran):
    sizes = stored(ran, "fisher")
    assert ran.plan().cached_bytes == sum(sizes.values()) > 0
    another_model(ran)
    plan = ran.plan()
    ran.run()
    (new,) = (size for key, size in stored(ran, "fisher").items() if key not in sizes)
    assert plan.new_bytes == pytest.approx(new, abs=64)  # the names in its header may be longer


@pytest.mark.parametrize("method", ["mask-fisher", "fisher"])
def test_bytes_of_a_first_run_are_those_of_the_tensors(method, lab):
    lab.say("merge", methods=[method])
    planned = lab.plan().new_bytes
    graph, store = lab.open(), lab.store
    lab.run()
    steps = [graph.step(reference) for reference in graph.of("fisher")]
    assert planned == sum(
        tensor.nbytes
        for step in steps
        for tensor in step.load(store, lab.context()).tensors.values()
    )


@pytest.mark.parametrize(("keep", "models"), [("none", 0), ("best", 4), ("all", 8)])
def test_bytes_of_models_that_are_to_be_kept(keep, models, ran):
    ran.say("merge", keep=keep)
    backbone = [
        t.nbytes
        for name, t in open_checkpoint(ran.world.model("rte")).tensors.items()
        if name.startswith("bert.")
    ]
    assert ran.plan().new_bytes == models * sum(backbone)
    ran.run()
    assert ran.plan().new_bytes == 0


class Counting:
    """A store's files that count what is asked of them."""

    def __init__(self, files):
        self._files, self.requests = files, Counter()

    def __getattr__(self, name):
        attribute = getattr(self._files, name)
        if name not in ("read", "list", "stamp", "write", "create", "delete"):
            return attribute

        def counted(*arguments):
            self.requests[name] += len(list(arguments[0])) if name == "read" else 1
            return attribute(*arguments)

        return counted


@pytest.mark.slow
def test_more_than_twenty_thousand_sets_take_no_request_per_step(ran):
    tasks = list(LABELS)
    ran.described["models"] = [
        {"model": str(ran.world.model(tasks[n % 3])), "task": tasks[n % 3], "name": f"m{n}"}
        for n in range(15)
    ]
    ran.say("merge", methods=["mask-fisher"])
    store = open_store(ran.folder / "store")
    store.files = Counting(store.files)
    plan = plan_zoo(ran.open(), store)
    assert len(plan.steps["merge"].misses) == len(plan.steps["evaluate"].misses) == 2**15 - 16
    assert (len(plan.steps["fisher"].hits), plan.steps["fisher"].misses) == (
        15,
        [],
    )  # of three checkpoints, whatever they are called
    assert sum(store.files.requests.values()) < 20
    assert not {"write", "create", "delete"} & set(store.files.requests)
