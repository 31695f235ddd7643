import base64
from itertools import combinations

import numpy as np
import pytest

from fmn.report.charts import BOARDS
from fmn.report.charts.chart import MOST_POINTS
from fmn.report.charts.labels import method_labels
from tests.report.sample import HEADS, LAYERS, METHODS, NEURONS, make_report, surely


def charts(data):
    """All charts of a report, by their board."""
    return {board.name: board.draw(data) for board in BOARDS}


DATA = make_report()
FOUND = charts(DATA)


def rows(name):
    (chart,) = FOUND[name]
    return chart.rows


def of_kind(name, kind):
    return {chart.of["fisher"]: chart for chart in FOUND[name] if chart.of["kind"] == kind}


def means(method, size=None):
    chosen = [
        merge
        for merge in DATA.merges
        if merge.method == method and size in (None, len(merge.members))
    ]
    return {tuple(member.name for member in merge.members): 100 * merge.mean for merge in chosen}


def test_pairs_are_there_both_ways_round_and_nothing_else():
    assert {chart.title for chart in FOUND["pairs"]} == set(METHODS)
    for chart in FOUND["pairs"]:
        expected = means(chart.title, 2)
        cells = {(row["row"], row["column"]): row["mean"] for row in chart.rows}
        assert cells == expected | {
            (second, first): mean for (first, second), mean in expected.items()
        }


def test_sizes_have_the_spread_over_combinations():
    for row in rows("sizes"):
        values = list(means(row["method"], row["size"]).values())
        q1, q3 = np.quantile(values, [0.25, 0.75])
        expected = {
            "mean": np.mean(values),
            "low": min(values),
            "high": max(values),
            "q1": q1,
            "q3": q3,
            "combinations": len(values),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert len(rows("sizes")) == 3 * 5


def test_methods_are_compared_on_the_same_combinations_the_better_one_first():
    comparisons = {}
    for row in rows("methods"):
        comparisons.setdefault(row["comparison"], {})[row["models"]] = row["difference"]
    assert len(comparisons) == 3
    for comparison, differences in comparisons.items():
        first, second = comparison.split(" − ")
        one, other = means(first), means(second)
        assert differences == pytest.approx(
            {" + ".join(names): one[names] - other[names] for names in one}
        )
        assert sum(differences.values()) > 0
        (wins,) = {row["wins"] for row in rows("methods") if row["comparison"] == comparison}
        assert wins == f"better in {sum(value > 0 for value in differences.values())} of 57"


SURE = surely(DATA)


def ends(drawn):
    low, high = (f"{100 * end:.2f}" for end in np.percentile(drawn, [2.5, 97.5]))
    return f"{low} to {high}".replace("-", "\N{MINUS SIGN}")


def test_differences_of_methods_have_paired_intervals_and_so_has_their_mean():
    (chart,) = charts(SURE)["methods"]
    sets = {
        (merge.method, " + ".join(member.name for member in merge.members)): merge
        for merge in SURE.merges
    }
    apart = {}
    for row in chart.rows:
        first, second = row["comparison"].split(" \N{MINUS SIGN} ")
        drawn = sets[first, row["models"]].drawn() - sets[second, row["models"]].drawn()
        assert row["interval"] == ends(drawn)
        low, high = np.percentile(drawn, [2.5, 97.5])
        assert row["sure"] == ("inside the interval" if low <= 0 <= high else "outside")
        apart.setdefault(row["comparison"], []).append(drawn)
    assert {row["sure"] for row in chart.rows} == {"inside the interval", "outside"}
    for comparison, drawn in apart.items():
        (mean,) = {row["mean"] for row in chart.rows if row["comparison"] == comparison}
        assert mean.startswith("mean +")
        assert mean.endswith(f", {ends(np.mean(drawn, axis=0))}")


def test_without_resamples_or_measured_otherwise_there_is_no_interval():
    (chart,) = charts(DATA)["methods"]
    assert {row["sure"] for row in chart.rows} == {"not known"}
    assert all(row["mean"].endswith("no interval") for row in chart.rows)
    unlike = [
        merge.model_copy(update={"measured": "otherwise"}) if merge.method == "average" else merge
        for merge in SURE.merges
    ]
    (chart,) = charts(SURE.model_copy(update={"merges": tuple(unlike)}))["methods"]
    for row in chart.rows:
        assert (row["sure"] == "not known") == ("average" in row["comparison"])


def test_means_over_sizes_and_pairs_have_intervals():
    (chart,) = charts(SURE)["sizes"]
    for row in chart.rows:
        drawn = [
            merge.drawn()
            for merge in SURE.merges
            if merge.method == row["method"] and len(merge.members) == row["size"]
        ]
        assert row["interval"] == ends(np.mean(drawn, axis=0))
    for chart in charts(SURE)["pairs"]:
        for row in chart.rows:
            (merge,) = (
                merge
                for merge in SURE.merges
                if merge.method == chart.label
                and [member.name for member in merge.members]
                in ([row["row"], row["column"]], [row["column"], row["row"]])
            )
            assert row["interval"] == ends(merge.drawn())
            assert (row["best"] == "best") == merge.is_best


def test_of_several_settings_the_one_that_was_chosen_counts():
    data = surely(make_report(("sst2", "rte"), ("average",), weights=(1.0, 2.0)), parted=True)
    first, second = (
        merge.model_copy(update={"parameters": {}, "members": data.merges[0].members, **more})
        for merge, more in zip(
            data.merges, ({"mean": 0.9, "choice": 0.7}, {"mean": 0.8, "choice": 0.9}), strict=True
        )
    )
    (chart,) = charts(data.model_copy(update={"merges": (first, second)}))["sizes"]
    assert [row["mean"] for row in chart.rows] == [80.0]


def test_of_many_combinations_an_even_part_is_drawn_and_all_are_counted():
    data = make_report(
        [f"t{i}" for i in range(12)],
        sizes=(4,),
        methods=("average", "fisher"),
        layers=1,
        heads=1,
        neurons=1,
    )
    (chart,) = charts(data)["methods"]
    assert len(chart.rows) == MOST_POINTS
    assert chart.rows[0]["wins"].endswith(f"of {len(list(combinations(range(12), 4)))}")


def test_maps_and_curves_are_the_fishers_values():
    maps, curves = of_kind("maps", "attention"), of_kind("curves", "feed_forward")
    for fisher in DATA.fishers:
        values = {name: nodes.array() for name, nodes in fisher.nodes.items()}
        cells = {(row["layer"], row["node"]): row["value"] for row in maps[fisher.key].rows}
        assert len(cells) == LAYERS * HEADS
        np.testing.assert_allclose(
            [cells[place] for place in np.ndindex(LAYERS, HEADS)],
            values["attention"].ravel(),
            rtol=1e-3,
        )
        for layer in range(LAYERS):
            points = [row for row in curves[fisher.key].rows if row["layer"] == layer]
            assert 190 < len(points) <= MOST_POINTS < NEURONS
            falling = -np.sort(-values["feed_forward"][layer])
            ranks = [round(row["fraction"] * NEURONS - 0.5) for row in points]
            np.testing.assert_allclose([row["value"] for row in points], falling[ranks], rtol=1e-3)
            assert ranks[0] == 0 and falling[ranks[-1]] == falling[falling > 0][-1]
    zeros = sum((fisher.nodes["attention"].array() == 0).sum() for fisher in DATA.fishers)
    assert zeros == sum(row["text"] == "0" for chart in maps.values() for row in chart.rows) > 0


def test_kinds_of_which_a_layer_has_few_nodes_are_maps_and_others_curves():
    more = {"made_up": ((1, 3), 64), "plenty": ((0, 2), 65)}
    boards = charts(make_report(("sst2",), (), sizes=(), heads=65, neurons=64, more=more))
    assert [chart.of["kind"] for chart in boards["maps"]] == ["feed_forward", "made_up"]
    assert [chart.of["kind"] for chart in boards["curves"]] == ["attention", "plenty"]
    assert [chart.label for chart in boards["maps"]] == [
        "sst2: feed-forward neurons",
        "sst2: made_up",
    ]
    assert {row["layer"] for row in boards["maps"][1].rows} == {1, 3}
    assert {row["layer"] for row in boards["curves"][1].rows} == {0, 2}


def test_a_kind_whose_values_are_all_zero_is_a_map_of_hollow_cells_and_no_curve():
    data = make_report(("sst2",), (), sizes=(), heads=3, neurons=70)
    (fisher,) = data.fishers
    zeros = {
        name: nodes.model_copy(
            update={"values": base64.b64encode(bytes(nodes.array().nbytes)).decode()}
        )
        for name, nodes in fisher.nodes.items()
    }
    boards = charts(
        data.model_copy(update={"fishers": (fisher.model_copy(update={"nodes": zeros}),)})
    )
    assert {row["text"] for row in boards["maps"][0].rows} == {"0"}
    assert boards["curves"] == []


def test_runs_are_counted_the_latest_first():
    latest = max(DATA.runs, key=lambda run: run.at)
    counted = [row for row in rows("counts") if row["run"] == rows("counts")[0]["run"]]
    assert counted[0]["run"] == latest.at[:16].replace("T", " ")
    for outcome in ("computed", "cached"):
        counts = {row["kind"]: row["results"] for row in counted if row["outcome"] == outcome}
        assert counts == {kind: count for kind, count in getattr(latest, outcome).items() if count}
    assert sum(row["results"] for row in rows("counts") if row["outcome"] == "failed") == 1
    seconds = sum(run.seconds["merge"] for run in DATA.runs)
    assert sum(
        row["seconds"] for row in rows("seconds") if row["kind"] == "merge"
    ) == pytest.approx(seconds, abs=0.01)


def test_a_kind_of_step_that_nothing_here_names_has_its_seconds_drawn():
    run = DATA.runs[0].model_copy(update={"seconds": {"merge": 1.0, "distil": 2.0}})
    (chart,) = charts(DATA.model_copy(update={"runs": (run,)}))["seconds"]
    assert {row["kind"]: row["seconds"] for row in chart.rows} == {"merge": 1.0, "distil": 2.0}
    assert chart.spec["encoding"]["color"]["scale"]["domain"] == ["merge", "distil"]


def test_what_was_run_with_several_settings_is_told_apart_and_its_best_counts():
    data = make_report(("sst2", "rte"), ("average", "mask-fisher"), weights=(1.0, 2.0, 3.0))
    labels = method_labels(data)
    assert set(labels.values()) == {
        f"{method}, λ {how}" for method in ("average", "mask-fisher") for how in ("equal", "own")
    }
    own = [merge.mean for merge in data.merges if labels[merge.key] == "mask-fisher, λ own"]
    chart = next(chart for chart in charts(data)["pairs"] if chart.title == "mask-fisher, λ own")
    assert {row["mean"] for row in chart.rows} == {100 * max(own)}


def test_what_has_no_data_has_no_chart():
    boards = charts(make_report((), (), sizes=(), runs=0))
    assert not any(boards.values())
    only = charts(make_report(("sst2", "rte"), ("average",), runs=0))
    assert only["sizes"] and not only["methods"]


def test_boards_have_names_and_places_of_their_own():
    assert len({board.name for board in BOARDS}) == len(BOARDS)
    assert {board.section for board in BOARDS} == {"comparison", "fishers", "runs"}
    assert all(board.title or board.heading or board.section == "fishers" for board in BOARDS)
