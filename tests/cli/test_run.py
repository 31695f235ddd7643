import json
import re

import pytest

from fmn.catalog import ELSEWHERE
from tests.cli.conftest import fmn, succeeded
from tests.steps.world import LABELS

METHODS = ["average", "mask-fisher"]


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    params = world.params(folder / "params.yaml", merge={"methods": METHODS})
    result = succeeded(fmn("run", params, "--out", folder / "results" / "zoo.json"))
    return result, json.loads((folder / "results" / "zoo.json").read_text())


def test_the_json(ran):
    _, report = ran
    assert set(report) == {"individual", "merges", "mean_normalized", "seconds"}
    assert set(report["individual"]) == set(LABELS)
    assert len(report["merges"]) == (3 + 1) * len(METHODS)
    for merge in report["merges"]:
        normalized = {
            task: score / report["individual"][task] for task, score in merge["scores"].items()
        }
        assert merge["normalized"] == normalized
        assert merge["normalized_mean"] == pytest.approx(sum(normalized.values()) / len(normalized))
    for method in METHODS:
        means = [
            merge["normalized_mean"] for merge in report["merges"] if merge["method"] == method
        ]
        assert report["mean_normalized"][method] == pytest.approx(sum(means) / len(means))
    assert all(seconds > 0 for seconds in report["seconds"].values())


def test_a_pair_done_by_hand_scores_the_same(ran, world, tmp_path):
    _, report = ran
    for method in METHODS:
        (merge,) = (
            m
            for m in report["merges"]
            if m["method"] == method and set(m["scores"]) == {"sst2", "rte"}
        )
        succeeded(
            fmn(
                "merge",
                world.recipe(tmp_path / "recipe.yaml", method=method),
                "--out",
                tmp_path / method,
            )
        )
        by_hand = succeeded(
            fmn("evaluate", tmp_path / method, "--data", world.data, "--limit", 30, "--json")
        ).stdout
        assert {task: scores["accuracy"] for task, scores in json.loads(by_hand).items()} == merge[
            "scores"
        ]


def test_nothing_is_cut_off_where_there_is_no_terminal(ran):
    result, report = ran
    assert result.stderr == ""
    assert "\x1b" not in result.output
    assert "…" not in result.stdout
    for merge in report["merges"]:
        assert " + ".join(merge["scores"]) in result.stdout
        for task, score in merge["scores"].items():
            assert f"{100 * score:.2f} ({100 * merge['normalized'][task]:.0f})" in result.stdout
    for part in report["seconds"]:
        assert part in result.stdout


def tables(markdown):
    """Read every table of a Markdown text: rows of cells, the heading first."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", markdown, flags=re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in blocks
    ]


def test_markdown(world, tmp_path):
    params = world.params(tmp_path / "params.yaml", merge={"methods": METHODS, "sizes": [2, 3]})
    merges, means, seconds = tables(succeeded(fmn("run", params, "--markdown")).stdout)
    for table in (merges, means, seconds):
        assert len({len(row) for row in table}) == 1
        assert [set("".join(row)) <= set("-:") for row in table] == [False, True] + [False] * (
            len(table) - 2
        )
        assert all(table[0])
    assert merges[0] == ["models", "method", *LABELS, "mean", "interval", "from the best"]
    for row in merges[3:]:
        low, high = map(float, row[-2].strip("[]").split(", "))
        assert low <= float(row[-3]) <= high
    standing = [row[-1] for row in merges[3:]]
    for pair in zip(standing[::2], standing[1::2], strict=True):
        assert "best" in pair
        assert all(re.fullmatch(r"best|-?\+?\d+\.\d\d(, inside the interval)?", s) for s in pair)
    assert merges[2][:2] == ["each alone", ""]
    pairs = ["sst2 + rte", "sst2 + mnli", "rte + mnli", "sst2 + rte + mnli"]
    assert [row[:2] for row in merges[3:]] == [
        [pair, method] for pair in pairs for method in METHODS
    ]
    headings = ["2 models", "3 models", "all merges", "interval", "from the best"]
    assert means[0] == ["method", *headings]
    for row in means[2:]:
        low, high = map(float, row[-2].strip("[]").split(", "))
        assert low <= float(row[-3]) <= high
    assert [row[-1] for row in means[2:]].count("best") == 1
    assert seconds[0] == ["part", "of computing"]


def test_where_other_rows_choose_every_place_that_shows_a_best_says_so(world, tmp_path):
    params = world.params(
        tmp_path / "params.yaml",
        merge={"methods": METHODS, "sizes": [2]},
        evaluate={"limit": 30, "select": 0.4},
    )
    store = ("--store", tmp_path / "store")
    assert ELSEWHERE in succeeded(fmn("run", params)).stdout
    assert ELSEWHERE in succeeded(fmn("catalog", "ls", *store)).stdout
    best = ("catalog", "best", "--tasks", "sst2,rte", *store)
    assert ELSEWHERE in succeeded(fmn(*best)).stdout
    found = json.loads(succeeded(fmn(*best, "--json")).stdout)
    every = json.loads(
        succeeded(fmn("catalog", "ls", "--tasks", "sst2,rte", *store, "--json")).stdout
    )
    assert found["selection"]["mean"] == max(each["selection"]["mean"] for each in every)
    assert found["selection"]["examples"] == 24
    assert {score["examples"] for score in found["scores"].values()} == {18}
    verified = succeeded(fmn("catalog", "verify", found["id"], "--metrics", *store)).stdout
    assert "the same scores, of rte, sst2" in verified
    succeeded(fmn("catalog", "get", found["id"], tmp_path / "taken", *store))
    assert ELSEWHERE[1:] in (tmp_path / "taken" / "README.md").read_text()
    succeeded(fmn("report", *store, "--out", tmp_path / "report"))
    assert ELSEWHERE in (tmp_path / "report" / "index.html").read_text()
