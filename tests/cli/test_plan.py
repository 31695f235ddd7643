import json

import pytest

from tests.cli.conftest import fmn, succeeded
from tests.steps.world import LABELS

PARTS = ["fisher", "evaluate models", "merge", "evaluate merges"]


@pytest.fixture
def params(world, tmp_path):
    return world.params(
        tmp_path / "params.yaml", merge={"methods": ["average", "mask-fisher"], "sizes": [2]}
    )


def planned(params):
    return json.loads(succeeded(fmn("plan", params, "--json")).stdout)


def table(text):
    """Read the rows of the printed tables, the first of a row's cells first."""
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in text.splitlines()
        if line.strip()
    ]


def test_before_and_after_a_run(params, world, tmp_path, monkeypatch):
    monkeypatch.setattr("fmn.models.load_model", lambda path: pytest.fail("a plan loads no model"))
    plan = planned(params)
    assert {
        name: (part["cached"], part["to_compute"]) for name, part in plan["steps"].items()
    } == dict(zip(PARTS, [(0, 3), (0, 3), (0, 6), (0, 6)], strict=True))
    assert plan["steps"]["merge"]["reasons"] == {"not computed before": 6}
    assert (plan["cached_bytes"], plan["new_bytes"] > 0, plan["broken"]) == (0, True, {})
    assert not (tmp_path / "store").exists()
    monkeypatch.undo()
    ran = succeeded(fmn("run", params))
    assert (
        ran.stdout.splitlines()[-1]
        == "computed 3 Fishers, 6 merges, 9 evaluations, took nothing from the store"
    )
    assert all(
        part["to_compute"] == 0 and part["reasons"] == {}
        for part in planned(params)["steps"].values()
    )
    again = succeeded(fmn("run", params))
    assert (
        again.stdout.splitlines()[-1]
        == "computed nothing, took 3 Fishers, 6 merges, 9 evaluations from the store"
    )
    done = succeeded(fmn("plan", params))
    assert ["merge", "6", "0"] in table(done.stdout)
    assert "because" not in done.stdout


def test_the_table_says_why(params, world, tmp_path):
    succeeded(fmn("run", params))
    settings = {
        "merge": {"methods": ["average", "mask-fisher"], "sizes": [2], "weights": {"rte": 0.5}}
    }
    rows = table(succeeded(fmn("plan", world.params(params, **settings))).stdout)
    assert ["step", "in the store", "to compute"] in rows
    assert ["fisher", "3", "0"] in rows
    assert ["merge", "2", "4"] in rows
    assert ["step", "because", "steps"] in rows
    assert ["merge", "the weight of rte: 1.0 → 0.5", "4"] in rows
    assert rows[-1][0].startswith("Fishers in the store: 0.0 MB; to be stored: 0.0 MB")


def test_many_reasons_are_cut_short(world, tmp_path):
    def params_of(weight):
        entries = [
            {"model": str(world.model(t)), "task": t, "name": f"{t}-{n}"}
            for n in range(4)
            for t in LABELS
        ]
        weights = {entry["name"]: weight for entry in entries}
        merge = {
            "methods": ["average"],
            "weights": weights,
            "combinations": [[entry["name"] for entry in entries]],
        }
        return world.params(tmp_path / "params.yaml", models=entries, merge=merge)

    succeeded(fmn("run", params_of(1)))
    out = succeeded(fmn("plan", params_of(2))).stdout
    assert out.count("the weight of ") == 2 * 8
    assert out.count("and 4 other reasons") == 2


def test_a_model_that_cannot_take_part_is_named(params, world, tmp_path):
    entries = [{"model": str(world.model(task)), "task": task} for task in LABELS]
    entries[1]["model"] = str(tmp_path / "nowhere")
    world.params(params, models=entries)
    result = succeeded(fmn("plan", params))
    assert f"rte cannot take part: no directory {tmp_path / 'nowhere'}" in result.stdout
    assert planned(params)["steps"]["merge"]["to_compute"] == 2  # one pair by two methods


def test_refusals(refuse, world, tmp_path):
    refuse(r"cannot read .*none\.yaml: No such file", "plan", tmp_path / "none.yaml")
    refuse(
        "unknown key 'stor'; did you mean 'store'",
        "plan",
        world.params(tmp_path / "p.yaml", stor="x"),
    )
    refuse(
        "unknown merge method 'avrage'",
        "plan",
        world.params(tmp_path / "p.yaml", merge={"methods": ["avrage"]}),
    )
    (tmp_path / "file").write_text("")
    refuse(
        r"store .*file is a file; expected a directory",
        "plan",
        world.params(tmp_path / "p.yaml", store=f"{tmp_path}/file"),
    )
    refuse(
        r"store .*file is a file; expected a directory",
        "run",
        world.params(tmp_path / "p.yaml", store=f"{tmp_path}/file"),
    )
    refuse(
        "store 'gs://b/x': expected a directory or s3://",
        "plan",
        world.params(tmp_path / "p.yaml", store="gs://b/x"),
    )
